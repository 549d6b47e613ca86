"""Two processes train and map like one: equal weights, separate random numbers, and a common end."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio

pytestmark = pytest.mark.version_independent

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def noted(flood_root, tmp_path_factory):
    """The results of the runs of several_processes.py, by name."""
    folder = tmp_path_factory.mktemp("processes")
    words = [sys.executable, HERE / "several_processes.py", flood_root, folder]
    ended = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=300)

    def read(name):
        path = folder / f"{name}.json"
        assert path.exists(), ended.stdout[-2000:] + ended.stderr[-4000:]
        return json.loads(path.read_text())

    read.folder = folder
    return read


@pytest.mark.parametrize("name", ["unfreeze_epoch", "callback", "callback_frozen", "gradual"])
def test_parameters_unfrozen_later_stay_equal_in_all_processes(name, noted):
    run = noted(name)
    assert run["differ"] == {"encoder": 0, "neck": 0, "decode_head": 0}
    assert run["changed"]["encoder"]
    first, last = run["averaged"][0], run["averaged"][-1]
    assert first < last  # while they are frozen, nothing of them is averaged
    assert run["averaged"] == sorted(run["averaged"])


def test_encoders_of_dates_and_places_train_without_metadata(noted):
    run = noted("no_metadata")
    assert run["differ"]["encoder"] == 0
    assert run["changed"]["encoder"]
    assert (
        run["scales"] == [pytest.approx(0.1)] * 2 or len(set(run["scales"])) == 1
    )  # no decay without a gradient


def test_each_process_draws_its_own_augmentation_and_dropout(noted):
    run = noted("unfreeze_epoch")
    assert run["same_start"]
    assert len(run["drawn"]) == run["steps"]
    for one, other in run["drawn"]:
        assert one != other


def test_two_processes_resume_exactly(noted):
    whole, resumed = noted("whole"), noted("resumed")
    assert resumed["weights"] == whole["weights"]
    assert whole["drawn"][-len(resumed["drawn"]) :] == resumed["drawn"]
    assert 0 < len(resumed["drawn"]) < len(whole["drawn"])


def test_an_epoch_shorter_than_the_accumulation_has_one_step(noted):
    assert noted("accumulated")["steps"] == 2


def test_more_processes_than_batches_or_validation_chips_are_refused_in_one_line(noted):
    no_step = noted("no_step")
    assert no_step.startswith("ConfigError('batch_size: 3 is ")
    assert "for each of 2 processes, 1" in no_step
    assert noted("no_validation").startswith(
        "ConfigError('devices: 2 processes share 1 samples for validation"
    )


def test_a_process_without_strips_waits_for_one_with_many_beyond_the_time_limit(noted):
    noted("whole")  # the runs have ended
    with rasterio.open(noted.folder / "maps" / "scene_pred.tif") as source:
        assert source.shape == (100, 90)


def run(*words, **environment):
    """Run the command; its exit code, standard output and error."""
    ended = subprocess.run(
        [sys.executable, "-m", "prithvi_tg", *map(str, words)], capture_output=True, text=True, timeout=300,
        env={**os.environ, **environment},
    )  # fmt: skip
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("strategy", "task"), [("ddp", "Broken"), ("ddp", "BrokenFirst"), ("ddp_spawn", "Broken")]
)
def test_an_error_in_one_process_ends_the_others_with_this_error(strategy, task, config, tmp_path):
    text = config.read_text().replace("PrithviSegmentationTask", f"several_processes.{task}")
    config.write_text(text + f"  strategy: {strategy}\n  devices: 2\n")
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    more = ("--data.batch_size", 1, "--trainer.limit_val_batches", 0)
    # `run` fails after half of the time for which the other process is busy.
    code, _, err = run("fit", "--config", config, *more, PYTHONPATH=os.pathsep.join(paths))
    assert code not in (0, None), err
    assert "prithvi-tg: error: chip.tif: broken on purpose\n" in err
    assert "Traceback" not in err


def test_ddp_spawn_trains_scores_and_maps(config, flood_root, tmp_path):
    two = ("--trainer.devices", 2, "--trainer.strategy", "ddp_spawn")
    names = sorted(line.split(",")[0] for line in (flood_root / "splits.csv").read_text().split()[1:])
    splits = tmp_path / "splits.csv"
    rows = [f"{name},{split}" for name, split in zip(names, ["train"] * 4 + ["val"] * 2, strict=True)]
    splits.write_text("\n".join(["chip,split", *rows]))
    code, _, err = run("fit", "--config", config, "--data.splits", splits, *two)
    assert code == 0, err
    (folder,) = (tmp_path / "runs").iterdir()
    record = json.loads((folder / "metrics.json").read_text())["run"]
    assert record["training"]["epochs"] == 1
    best = folder / "checkpoints" / "best.ckpt"
    (tmp_path / "broken.tif").write_bytes((flood_root / "scene.tif").read_bytes()[:4000])
    code, _, err = run(
        "predict", "--ckpt_path", best, "--output", tmp_path / "maps", flood_root / "scene.tif",
        tmp_path / "broken.tif", "--trainer.accelerator", "cpu", *two,
    )  # fmt: skip
    assert (tmp_path / "maps" / "scene_pred.tif").exists()
    assert code == 1
    assert re.search(r"prithvi-tg: error: 1 of 2 scenes failed: .*broken\.tif", err)
    assert run("export", best, tmp_path / "model.pt2")[0] == 0
    code, _, err = run(
        "predict", "--model", tmp_path / "model.pt2", "--output", tmp_path / "exported", flood_root / "scene.tif",
        "--trainer.accelerator", "cpu", *two,
    )  # fmt: skip
    assert code == 0, err
    assert (tmp_path / "exported" / "scene_pred.tif").exists()
