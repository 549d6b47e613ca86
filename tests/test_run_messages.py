"""What a run prints: a line per epoch without a terminal, a bar with one, times and throughput."""

import re
import sys

import pytest
import rasterio
from rich.console import Console

from prithvi_tg.callbacks import WindowProgressBar
from prithvi_tg.callbacks.progress import duration, throughput
from prithvi_tg.errors import DataError
from prithvi_tg.mapping.scene_map import SceneMap, SceneResult
from prithvi_tg.reporting.tables import map_table


def test_each_epoch_is_one_line_without_a_terminal(config, command):
    words = ("fit", "--config", config, "--trainer.max_epochs", 2, "--trainer.enable_progress_bar", "true")
    code, out, err = command(*words)
    assert code == 0, err
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    number = r"\d+\.\d{4}"
    for epoch, line in enumerate(lines):
        pattern = rf"epoch {epoch}/1: train_loss {number}, val_loss {number}, val_mIoU {number}, \S+ samples/s, .* left"
        assert re.fullmatch(pattern, line), line
    assert len(lines) == 2
    assert lines[-1].endswith(" 0.0 s left")
    assert "it/s" not in out + err  # no progress bar
    assert "\r" not in out + err
    assert re.search(r"^Training: \d+ samples in .*, \S+ samples/s$", out, re.MULTILINE)


def test_an_epoch_without_validation_repeats_no_scores(config, command):
    words = ("--trainer.max_epochs", 3, "--trainer.check_val_every_n_epoch", 2)
    code, out, err = command("fit", "--config", config, *words)
    assert code == 0, err
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert ["val_loss" in line for line in lines] == [False, True, False]


def test_a_terminal_shows_a_bar_and_no_line_per_epoch(config, command, monkeypatch):
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    code, out, err = command("fit", "--config", config, "--trainer.enable_progress_bar", "true")
    assert code == 0, err
    assert "epoch 0/0: train_loss" not in out
    assert "it/s" in out


def test_test_and_predict_print_their_throughput(config, command, trained, flood_root, tmp_path):
    code, out, err = command("test", "--config", config, "--ckpt_path", trained)
    assert code == 0, err
    assert re.search(r"^Test: \d+ samples? in \d+\.\d s, \S+ samples/s$", out, re.MULTILINE)
    code, out, err = command(
        "predict", "--ckpt_path", trained, flood_root / "scene.tif", "--output", tmp_path
    )
    assert code == 0, err
    assert re.search(r"^Prediction: \d+ windows? in \d+\.\d s, \S+ windows/s$", out, re.MULTILINE)


def test_warnings_of_a_command_without_a_configuration_are_plain_lines(
    trained, flood_root, tmp_path, start, monkeypatch
):
    with rasterio.open(flood_root / "scene.tif") as source:
        values = source.read(window=((0, 64), (0, 64)))
        profile = {"driver": "GTiff", "dtype": values.dtype, "count": len(values), "height": 64, "width": 64}
        with rasterio.open(tmp_path / "plain.tif", "w", **profile) as out:
            out.write(values)
            out.descriptions = source.descriptions
    monkeypatch.chdir(tmp_path)
    words = ("embed", "plain.tif", "--ckpt_path", trained, "--output", "features.tif")
    code, _, err = start(*words).communicate()
    assert code == 0, err
    lines = [line for line in err.splitlines() if "weight tensors loaded" not in line]
    assert lines == ["prithvi-tg: warning: plain.tif: has no georeference, so its map will have none"]


def test_windows_of_an_earlier_run_do_not_count_for_the_throughput(
    command, trained, flood_root, tmp_path, monkeypatch
):
    def fail(scene_map):
        raise DataError("the disk is full")

    words = ("predict", "--ckpt_path", trained, flood_root / "scene.tif", "--output", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(SceneMap, "assemble", fail)
        code, out, err = command(*words)
        assert (code, "the disk is full" in out + err) == (1, True)
    code, out, err = command(*words)
    assert code == 0, err
    assert (tmp_path / "scene_pred.tif").exists()
    assert "Prediction:" not in out


def test_the_bar_of_predict_reaches_100_per_cent_if_windows_are_skipped(
    command, trained, flood_root, tmp_path, monkeypatch
):
    with rasterio.open(flood_root / "scene.tif") as source:
        values, profile = source.read(), source.profile
    values[:, :60] = 0  # nodata
    with rasterio.open(tmp_path / "scene.tif", "w", **profile) as file:
        file.write(values)
    shown = []
    on_predict_end = WindowProgressBar.on_predict_end

    def record(bar, trainer, task):
        on_predict_end(bar, trainer, task)
        shown.append((trainer.num_predict_batches[0], bar.progress.tasks[bar.predict_progress_bar_id]))

    monkeypatch.setattr(WindowProgressBar, "on_predict_end", record)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    words = ("--ckpt_path", trained, tmp_path / "scene.tif", "--output", tmp_path / "maps")
    code, _, err = command("predict", *words, "--batch_size", 1)
    assert code == 0, err
    ((most, bar),) = shown
    assert bar.percentage == 100
    assert 0 < bar.completed < most


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 sample in 2.0 s, 0.5 samples/s"), (8, "8 samples in 2.0 s, 4 samples/s")]
)
def test_a_single_sample_is_singular(count, words):
    assert throughput(count, "samples", 2.0) == words


@pytest.mark.parametrize(("seconds", "words"), [(8.26, "8.3 s"), (125, "2 min 5 s"), (12_030, "3 h 20 min")])
def test_durations_are_words(seconds, words):
    assert duration(seconds) == words


def test_the_table_of_maps_fits_into_80_columns(tmp_path):
    name = "HLS.S30.T10SDH.2020248T184921.v2.0_and_a_suffix"
    content = ("Natural vegetation and wetland 81.3 %, 12,345.6 km2", "Water 18.7 %, 2,345.6 km2")
    result = SceneResult(name, tmp_path, 10980, 10980, 9409, 123, 1720.5, content, 0.123)
    console = Console(width=80)
    with console.capture() as capture:
        small = SceneResult("small", tmp_path, 64, 64, 1, 0, 1.7, ("biomass: mean 3, SD 1 t/ha",), 0.0)
        console.print(map_table([result, small, SceneResult("failed", tmp_path, error="no data")]))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for words in ("scene", "size", "time", "nodata", "content"):
        assert words in text.splitlines()[2], text
    for words in (
        "10980 x 10980", "9409 windows", "123 skipped", "1720.5 s", "0.07 Mpx/s", "12.3 %", "failed",
        "1 window ", "0.002 Mpx/s",
    ):  # fmt: skip
        assert words in text
    assert text.count("skipped") == 1
