"""Two processes train and map like one: equal weights, separate random numbers, and a common end."""

import json
import re
from pathlib import Path

import pytest
import rasterio
import several_processes
from forked import ForkedCommand

pytestmark = pytest.mark.version_independent

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def noted(flood_root, tmp_path_factory):
    """The results of the runs of several_processes.py, by name."""
    folder = tmp_path_factory.mktemp("processes")
    words = [str(flood_root), str(folder)]
    runs = ForkedCommand(words, folder / "output", main=several_processes.main)
    _, out, err = runs.communicate()

    def read(name):
        path = folder / f"{name}.json"
        assert path.exists(), out[-2000:] + err[-4000:]
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


@pytest.mark.parametrize(
    ("strategy", "task"), [("ddp", "Broken"), ("ddp", "BrokenFirst"), ("ddp_fork", "Broken")]
)
def test_an_error_in_one_process_ends_the_others_with_this_error(strategy, task, config, start):
    text = config.read_text().replace("PrithviSegmentationTask", f"several_processes.{task}")
    config.write_text(text + f"  strategy: {strategy}\n  devices: 2\n")
    more = ("--data.batch_size", 1, "--trainer.limit_val_batches", 0)
    # `communicate` fails after half of the time for which the other process is busy.
    code, _, err = start("fit", "--config", config, *more, path=(HERE,)).communicate()
    assert code not in (0, None), err
    assert "prithvi-tg: error: chip.tif: broken on purpose\n" in err
    assert "Traceback" not in err


def test_ddp_spawn_maps_and_an_error_of_its_process_is_that_of_the_command(
    trained, flood_root, tmp_path, start
):
    scene = flood_root / "scene.tif"
    (tmp_path / "broken.tif").write_bytes(scene.read_bytes()[:4000])
    code, _, err = start(
        "predict", "--ckpt_path", trained, "--output", tmp_path / "maps", scene, tmp_path / "broken.tif",
        "--trainer.accelerator", "cpu", "--trainer.devices", 1, "--trainer.strategy", "ddp_spawn",
    ).communicate()  # fmt: skip
    assert (tmp_path / "maps" / "scene_pred.tif").exists(), err
    assert code == 1
    assert re.search(r"prithvi-tg: error: 1 of 2 scenes failed: .*broken\.tif", err)


#: Two processes that get all they need pickled, as with ddp_spawn, but from a server that has imported it before.
PICKLED = (
    "--trainer.accelerator", "cpu", "--trainer.devices", 2,
    "--trainer.strategy", '{"class_path": "DDPStrategy", "init_args": {"start_method": "forkserver"}}',
)  # fmt: skip


def test_a_training_is_sent_to_started_processes(config, flood_root, tmp_path, command):
    names = sorted(line.split(",")[0] for line in (flood_root / "splits.csv").read_text().split()[1:])
    splits = tmp_path / "splits.csv"
    rows = [f"{name},{split}" for name, split in zip(names, ["train"] * 4 + ["val"] * 2, strict=True)]
    splits.write_text("\n".join(["chip,split", *rows]))
    code, _, err = command("fit", "--config", config, "--data.splits", splits, *PICKLED)
    assert code == 0, err
    (folder,) = (tmp_path / "runs").iterdir()
    record = json.loads((folder / "metrics.json").read_text())
    assert record["run"]["training"]["epochs"] == 1
    assert record["overall"]["mIoU"] > 0
    assert (folder / "checkpoints" / "best.ckpt").exists()


def test_an_exported_model_is_sent_to_started_processes(trained, flood_root, tmp_path, command):
    assert command("export", trained, tmp_path / "model.pt2")[0] == 0
    words = ("--model", tmp_path / "model.pt2", "--output", tmp_path / "maps", flood_root / "scene.tif")
    code, _, err = command("predict", *words, *PICKLED)
    assert code == 0, err
    assert (tmp_path / "maps" / "scene_pred.tif").exists()
