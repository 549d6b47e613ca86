"""The folder of a run: its name, what it says of the command, and that a failed start leaves none."""

import shutil
import time

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from prithvi_tg.datasets import Sen1Floods11
from prithvi_tg.errors import DataError


def test_a_named_run_has_a_folder_that_tells_fit_from_test(config, command, tmp_path):
    code, out, err = command("fit", "--config", config, "--name", "floods")
    assert code == 0, err
    run = tmp_path / "runs/floods/fit_0"
    best = run / "checkpoints/best.ckpt"
    assert f"Written: {best}" in out
    assert {"config.yaml", "metrics.csv", "metrics.json"} <= {path.name for path in run.iterdir()}
    for number in range(2):
        code, _, err = command("test", "--config", run / "config.yaml", "--ckpt_path", best)
        assert code == 0, err
        assert (tmp_path / f"runs/floods/test_{number}/metrics.json").exists()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["floods"]


def test_a_run_without_a_name_is_numbered(trained_run):
    assert trained_run.name == "version_0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--name", "a/b"), "name: 'a/b' must be the name of a folder"),
        (("--name", ".."), "name: '..' must be the name of a folder"),
        (
            ("--name", "floods", "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs"),
            "name: the configuration has a CSVLogger",
        ),
    ],
)
def test_a_name_that_is_no_folder_is_an_error(config, command, words, message, tmp_path):
    code, _, err = command("fit", "--config", config, *words)
    assert (code, message in err) == (2, True), err
    assert not (tmp_path / "runs").exists()


def damaged(flood_root, tmp_path):
    """The data with training chips that are no rasters."""
    root = shutil.copytree(flood_root, tmp_path / "damaged")
    for row in (root / "splits.csv").read_text().splitlines():
        name, split = row.split(",")
        if split == "train":
            path = root / Sen1Floods11.folder / "S2Hand" / f"{name}_S2Hand.tif"
            path.write_bytes(b"II*\0 and then nothing")
    return "--data.root", root


def other_model(flood_root, tmp_path):
    return "--model.encoder_args", "{width: 64, depth: 2, num_heads: 2}"


def misspelt_score(flood_root, tmp_path):
    return "--model.monitor", "val_mIuO"


def absent_split(flood_root, tmp_path):
    (tmp_path / "splits.csv").write_text("chip,split\nSynthetic_0003,train\n")
    return "--data.splits", tmp_path / "splits.csv"


@pytest.mark.parametrize(
    ("name", "checkpoint", "fault", "code", "message"),
    [
        ("fit", None, damaged, 1, "not a readable raster"),
        ("fit", None, misspelt_score, 2, "monitor: 'val_mIuO' is not logged; did you mean val_mIoU?"),
        ("fit", "last.ckpt", other_model, 1, "different architecture: its encoder is nano"),
        ("fit", "best.ckpt", None, 1, "holds no optimiser state"),
        ("test", "best.ckpt", absent_split, 2, "has no split 'test'"),
        ("validate", "best.ckpt", absent_split, 2, "there is no validation set"),
    ],
)
def test_a_failed_start_leaves_no_folder(
    config, command, flood_root, trained_run, tmp_path, name, checkpoint, fault, code, message
):
    words = [name, "--config", config, *(() if fault is None else fault(flood_root, tmp_path))]
    if checkpoint:
        words += ["--ckpt_path", trained_run / "checkpoints" / checkpoint]
    found, _, err = command(*words)
    assert (found, message in err) == (code, True), err
    assert len([line for line in err.splitlines() if "error" in line]) == 1
    assert not (tmp_path / "runs").exists()


def test_a_null_in_a_configuration_does_not_replace_an_option(config, command, tmp_path, trained_run):
    saved = trained_run / "config.yaml"
    assert "ckpt_path: null" in saved.read_text()
    best = trained_run / "checkpoints/best.ckpt"
    runs = ("--trainer.default_root_dir", tmp_path / "runs")
    code, out, err = command("test", "--ckpt_path", best, *runs, "--config", saved)
    assert code == 0, err
    assert "test, per cent, best.ckpt" in out
    assert (tmp_path / "runs/version_0").exists()


def test_the_configuration_of_a_run_can_be_checked(command, trained_run):
    code, out, err = command("check", "--config", trained_run / "config.yaml")
    assert "unknown key" not in out + err
    assert code == 0, out


def test_a_slow_logger_does_not_hide_the_error_of_a_failed_start(config, command, tmp_path, monkeypatch):
    write = RecordWriter.write

    def slowly(self, data):
        time.sleep(0.3)
        write(self, data)

    def fail(*_, **__):
        raise DataError("a fault in a step")

    monkeypatch.setattr(RecordWriter, "write", slowly)
    monkeypatch.setattr("prithvi_tg.PrithviSegmentationTask.training_step", fail)
    code, _, err = command("fit", "--config", config)
    assert (code, "a fault in a step" in err) == (1, True), err
    assert not (tmp_path / "runs").exists()
