"""Ctrl-C and SIGTERM: one line with what remains, an exit code of its own, and no traceback."""

import logging
import re
import signal
import time

import numpy as np
import pytest
import rasterio

from prithvi_tg import map_scene
from prithvi_tg.mapping import progress
from prithvi_tg.mapping.strip_store import StripWriter

pytestmark = pytest.mark.version_independent


@pytest.fixture(scope="session")
def long_scene(flood_root, tmp_path_factory):
    """The synthetic scene many times below itself: many strips."""
    path = tmp_path_factory.mktemp("scenes") / "long.tif"
    with rasterio.open(flood_root / "scene.tif") as source:
        values, profile = source.read(), source.profile
    repeated = np.tile(values[:, :, :64], (1, 4500 // values.shape[1], 1))
    profile.update(height=repeated.shape[1], width=repeated.shape[2], tiled=False, blockysize=16)
    profile.pop("blockxsize", None)
    with rasterio.open(path, "w", **profile) as file:
        file.write(repeated)
    return path


def interrupt(run, number, ready):
    """Send a signal to a command once `ready`; its exit code, standard output and standard error."""
    while not ready():
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    run.send_signal(number)
    return run.communicate()


def kept(line, name):
    """Numbers of kept and of all strips that a line names."""
    pattern = rf"Interrupted; (\d+) of (\d+) strips of {name} (?:is|are) kept; repeat the command to resume\."
    match = re.fullmatch(pattern, line)
    assert match, line
    return int(match[1]), int(match[2])


@pytest.mark.parametrize(("name", "number"), [("predict", signal.SIGINT), ("embed", signal.SIGTERM)])
def test_an_interrupted_map_is_resumed_by_the_same_command(
    name, number, trained, long_scene, tmp_path, command, start
):
    output = {"predict": tmp_path, "embed": tmp_path / "long_pred.tif"}[name]
    words = (name, "--ckpt_path", trained, long_scene, "--output", output, "--batch_size", 1)
    parts = tmp_path / ".long_pred.parts"
    code, out, err = interrupt(start(*words), number, lambda: len(list(parts.glob("strip_*.json"))) >= 2)
    assert code == 128 + number
    done, total = kept(err.strip().splitlines()[-1], "long")
    assert 2 <= done < total
    assert "Traceback" not in out + err
    assert "Detected" not in out + err
    code, out, err = command(*words[:-1], "8")
    assert code == 0, err
    assert f"long: resuming; {done} of {total} strips are complete" in out
    assert re.search(r"^long: complete, \d+ windows in [\d.]+ s over all runs$", out, re.MULTILINE)


def test_an_interrupted_fit_names_its_last_checkpoint(config, tmp_path, start):
    words = ("fit", "--config", config, "--trainer.max_epochs", 500, "--trainer.check_val_every_n_epoch", 500)
    last = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    code, out, err = interrupt(start(*words), signal.SIGINT, last.exists)
    assert code == 130
    line = f"Interrupted; to resume, repeat the command with --ckpt_path {last}"
    assert err.strip().splitlines()[-1] == line
    assert "Traceback" not in out + err


def test_a_command_interrupted_before_its_work_begins_has_no_traceback(tmp_path, command, monkeypatch):
    def stop(words):
        raise KeyboardInterrupt

    monkeypatch.setattr("prithvi_tg.commands.synthetic.run", stop)
    assert command("synthetic", tmp_path / "data") == (130, "", "Interrupted.\n")


def test_map_scene_raises_the_interrupt_with_a_note(trained, long_scene, tmp_path, monkeypatch):
    finish = StripWriter.finish

    def stop(self, *arguments):
        finish(self, *arguments)
        if self.strip.number == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(StripWriter, "finish", stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        map_scene(trained, long_scene, tmp_path / "map.tif")
    assert kept(caught.value.__notes__[0], "long")[0] == 2


@pytest.mark.parametrize("number", [0, 1])
def test_files_of_an_incomplete_strip_are_removed(number, trained, long_scene, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    add = StripWriter.add

    def stop(self, *arguments):
        add(self, *arguments)
        if self.strip.number == number:
            raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(StripWriter, "add", stop)
        with pytest.raises(KeyboardInterrupt) as caught:
            map_scene(trained, long_scene, tmp_path / "map.tif")
    left = {path.name for path in (tmp_path / ".map.parts").iterdir()}
    strips = {f"strip_{one:05d}{end}" for one in range(number) for end in ("_pred.tif", ".json")}
    assert left == {"run.json", *strips}
    assert f"{number} of " in caught.value.__notes__[0]
    assert f"long {'is' if number == 1 else 'are'} kept" in caught.value.__notes__[0]
    (tmp_path / ".map.parts" / "strip_00001_pred.4711").touch()  # of a killed process
    map_scene(trained, long_scene, tmp_path / "map.tif")
    assert (f"strips {'is' if number == 1 else 'are'} complete" in caplog.text) == bool(number)
    assert [path.name for path in tmp_path.glob(".*")] == []


# Progress without a terminal.


def test_predict_prints_start_progress_and_end_of_each_scene(
    trained, long_scene, flood_root, tmp_path, command, monkeypatch
):
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr(progress, "SHARE", 0.1)
    scenes = (long_scene, flood_root / "scene.tif")
    code, out, err = command("predict", "--ckpt_path", trained, *scenes, "--output", tmp_path)
    assert code == 0, err
    lines = out.splitlines()
    with rasterio.open(long_scene) as source:
        height, width = source.shape
    starts = [number for number, line in enumerate(lines) if ": mapping " in line]
    assert re.fullmatch(rf"long: mapping {width} x {height} pixels, \d+ strips", lines[starts[0]])
    number = r"\d+(\.\d+)?"
    rate = rf"{number}(e-\d+)? Mpx/s, {number} s left"
    shown = [
        re.fullmatch(
            rf"(long|scene): (\d+) of \d+ strips written, (\d+) % of the windows of 2 scenes done, {rate}",
            line,
        )
        for line in lines
        if " Mpx/s, " in line
    ]
    assert all(shown)
    assert 5 <= len(shown) <= 10
    shares = [int(match[3]) for match in shown]
    assert shares == sorted(shares)
    for name in ("long", "scene"):
        ends = [line for line in lines if line.startswith(f"{name}: complete, ")]
        assert [bool(re.search(r", \d+ windows in [\d.]+ s$", line)) for line in ends] == [True]


def test_a_progress_line_is_printed_at_most_every_half_minute(trained, long_scene, tmp_path, command):
    code, out, err = command("predict", "--ckpt_path", trained, long_scene, "--output", tmp_path)
    assert code == 0, err
    assert "Mpx/s, " not in out
    assert "long: mapping" in out


def test_embed_prints_bands_and_progress_as_predict_does(trained, flood_root, tmp_path, command):
    scene = flood_root / "scene.tif"
    code, out, err = command("predict", "--ckpt_path", trained, scene, "--output", tmp_path)
    assert code == 0, err
    bands, mapping = (line for line in out.splitlines() if line.startswith(("scene: BLUE", "scene: mapping")))
    assert mapping == "scene: mapping 90 x 100 pixels, 1 strip"
    code, out, err = command("embed", scene, "--ckpt_path", trained, "--output", tmp_path / "e.tif")
    assert code == 0, err
    assert bands in out.splitlines()
    assert re.search(r"^scene: embedding 90 x 100 pixels, \d+ x \d+ patches, 1 strip$", out, re.MULTILINE)


def test_map_scene_prints_nothing(trained, flood_root, tmp_path, capfd):
    capfd.readouterr()
    map_scene(trained, flood_root / "scene.tif", tmp_path / "map.tif")
    assert capfd.readouterr() == ("", "")
