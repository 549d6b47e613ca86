"""Errors in training name their cause, and scores do not depend on the number of processes."""

import csv
import json

import numpy as np
import pytest
import rasterio
import torch
from conftest import TINY

from prithvi_tg import (
    PrithviClassificationTask,
    PrithviPixelwiseRegressionTask,
    PrithviPretrainingTask,
    PrithviSegmentationTask,
    Sen1Floods11DataModule,
)
from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.datasets.synthetic import write_sen1floods11
from prithvi_tg.errors import DataError
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ChipClassTarget, ClassTarget, ImageTarget, ValueTarget

pytestmark = pytest.mark.version_independent


def test_an_error_about_a_loss_that_is_not_finite_names_the_chips(tiny_task):
    batch = {
        "image": torch.randn(2, 1, 6, 32, 32),
        "mask": torch.zeros(2, 32, 32, dtype=torch.long),
        "name": ["one", "other"],
    }
    tiny_task.training_step(batch, 0)
    batch["image"][1, 0, 2, 3, 4] = float("nan")
    with pytest.raises(
        DataError, match="loss: nan at step 0 on one, other; the images contain values that are not"
    ):
        tiny_task.training_step(batch, 0)


def test_a_run_that_diverges_stops_with_one_line(config, command, tmp_path):
    code, out, err = command(
        "fit", "--config", config, "--model.init_args.lr", "1e30", "--trainer.max_epochs", "30",
        "--data.batch_size", "1",
    )  # fmt: skip
    assert code == 1, out + err
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert "Synthetic_" in line
    assert "the training has diverged: lower lr" in line


def test_two_processes_count_each_chip_once(config, command, start, trained, flood_root, tmp_path):
    splits = tmp_path / "splits.csv"
    with (flood_root / "splits.csv").open() as file:
        chips = [row["chip"] for row in csv.DictReader(file)]
    with splits.open("w", newline="") as file:  # five chips to test: not divisible by two
        rows = [(chip, split) for split in ("train", "val") for chip in chips[:1]]
        csv.writer(file).writerows([("chip", "split"), *rows, *((chip, "test") for chip in chips[1:])])
    words = ("test", "--config", config, "--ckpt_path", trained, "--data.splits", splits,
             "--trainer.default_root_dir")  # fmt: skip
    code, _, err = command(*words, tmp_path / "by1")
    assert code == 0, err
    two = ("--trainer.devices", 2, "--trainer.strategy", "ddp_fork")
    code, _, err = start(*words, tmp_path / "by2", *two).communicate()
    assert code == 0, err
    records = [
        json.loads((tmp_path / name / "version_0" / "metrics.json").read_text()) for name in ("by1", "by2")
    ]
    assert records[0]["confusion_matrix"]["counts"] == records[1]["confusion_matrix"]["counts"]


def test_two_processes_list_each_chip_once_and_draw_the_same_extremes(
    config, command, start, flood_root, tmp_path
):
    splits = tmp_path / "splits.csv"
    with (flood_root / "splits.csv").open() as file:
        chips = [row["chip"] for row in csv.DictReader(file)]
    with splits.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("chip", "split"), (chips[0], "train"), *((chip, "val") for chip in chips[1:])]
        )
    words = (
        "fit", "--config", config, "--data.splits", splits, "--data.batch_size", 1, "--data.crops_per_chip", 2,
        "--model.lr", 1e-9, "--trainer.default_root_dir",
    )  # fmt: skip
    code, _, err = command(*words, tmp_path / "by1")
    assert code == 0, err
    two = ("--trainer.devices", 2, "--trainer.strategy", "ddp_fork")
    code, _, err = start(*words, tmp_path / "by2", *two).communicate()
    assert code == 0, err
    tables, pictures = [], []
    for name in ("by1", "by2"):
        run = tmp_path / name / "version_0"
        with (run / "chips.csv").open() as file:
            tables.append([row["chip"] for row in csv.DictReader(file)])
        pictures.append(sorted(path.name for path in (run / "chips").iterdir()))
    assert tables[0] == tables[1] == sorted(chips[1:])
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 5


def break_chip(root, kind):
    """Truncate the image or the label of the first training chip."""
    with (root / "splits.csv").open() as file:
        name = next(row["chip"] for row in csv.DictReader(file) if row["split"] == "train")
    path = next((root / "v1.1").rglob(f"{name}_{kind}.tif"))
    path.write_bytes(path.read_bytes()[:300])
    return name


@pytest.mark.parametrize(("kind", "workers"), [("S2Hand", 2), ("LabelHand", 0)])
def test_a_bad_chip_is_an_error_or_is_skipped_and_listed(config, command, tmp_path, kind, workers):
    root = write_sen1floods11(tmp_path / "data", chips=8, size=64, scene_size=(64, 64))
    name = break_chip(root, kind)
    words = ("fit", "--config", config, "--data.root", root, "--data.splits", root / "splits.csv",
             "--data.num_workers", workers, "--data.crops_per_chip", 2)  # fmt: skip
    code, _, err = command(*words)
    assert (code, f"{name}_{kind}.tif: not a readable raster" in err) == (1, True)
    assert err.count(f"{name}_{kind}.tif") == 1
    assert "--skip_bad skips them" in err
    code, out, err = command(*words, "--skip-bad")
    assert code == 0, err
    assert f"Skipped: train chip {name}" in out + err
    record = json.loads(sorted(tmp_path.rglob("metrics.json"))[-1].read_text())
    assert list(record["run"]["skipped_chips"]) == [name]


@pytest.mark.parametrize("kind", ["S2Hand", "LabelHand"])
def test_a_chip_without_image_or_label_is_an_error_or_is_skipped_and_listed(config, command, tmp_path, kind):
    root = write_sen1floods11(tmp_path / "data", chips=8, size=64, scene_size=(64, 64))
    name = break_chip(root, kind)
    path = next((root / "v1.1").rglob(f"{name}_{kind}.tif"))
    path.unlink()
    splits = root / "splits.csv"
    words = ("--config", config, "--data.root", root, "--data.splits", splits)
    what = (
        f"{path}: no such file; the {'image' if kind == 'S2Hand' else 'label file'} of chip {name} is missing"
    )
    for name_of_command in ("stats", "fit"):
        code, _, err = command(name_of_command, *words)
        assert code == 1
        assert (
            f"error: {what}; add it, remove the row of the chip from {splits}, or skip such chips with "
            in err
        )
        code, out, err = command(name_of_command, *words, "--skip_bad")
        assert code == 0, err
        assert (out + err).count(f"Skipped: train chip {name}: {what}\n") == 1
    record = json.loads(sorted(tmp_path.rglob("metrics.json"))[-1].read_text())
    assert list(record["run"]["skipped_chips"]) == [name]


def test_skipping_all_chips_is_an_error(config, command, tmp_path):
    root = write_sen1floods11(tmp_path / "data", chips=6, size=64, scene_size=(64, 64))
    for path in (root / "v1.1").rglob("*_S2Hand.tif"):
        path.write_bytes(b"no raster")
    code, _, err = command(
        "fit", "--config", config, "--data.root", root, "--data.splits", root / "splits.csv", "--skip_bad"
    )
    assert (code, "no chip of val can be read" in err) == (1, True)


def test_another_logger_does_not_move_the_csv_from_the_folder_of_the_run(config, command, tmp_path):
    logger = f"{{class_path: TensorBoardLogger, init_args: {{save_dir: {tmp_path}, name: mine}}}}"
    code, _, err = command("fit", "--config", config, "--trainer.logger", logger)
    assert code == 0, err
    assert (tmp_path / "runs" / "version_0" / "metrics.csv").exists()
    assert list((tmp_path / "mine").rglob("events*"))


def test_runs_without_a_logger_have_folders_of_their_own(config, command, tmp_path):
    for number in range(2):
        code, _, err = command("fit", "--config", config, "--trainer.logger", "false")
        assert code == 0, err
        files = {path.name for path in (tmp_path / f"runs/version_{number}").iterdir()}
        assert {"config.yaml", "metrics.json", "checkpoints"} <= files
    words = ("--trainer.logger", "false", "--name", "floods", "--model.monitor", "val_x")
    assert command("fit", "--config", config, *words)[0] == 2
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"version_0", "version_1"}


def test_batches_are_pinned_if_there_is_a_gpu(flood_root, monkeypatch):
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", batch_size=2, crop_size=32)
    data.setup("fit")
    assert not data.train_dataloader().pin_memory or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert data.train_dataloader().pin_memory
    assert data.val_dataloader().pin_memory


@pytest.mark.parametrize(("most", "warned"), [(10_000, False), (10, True)])
def test_images_in_another_unit_give_a_warning_when_training_starts(
    config, command, tmp_path, most, warned, recwarn
):
    root = write_sen1floods11(tmp_path / "data", chips=6, size=64, scene_size=(64, 64))
    for path in (root / "v1.1").rglob("*_S2Hand.tif"):
        with rasterio.open(path, "r+") as file:
            file.write(np.minimum(file.read(), most))
    code, _, err = command(
        "fit", "--config", config, "--data.root", root, "--data.splits", root / "splits.csv"
    )
    assert code == 0, err
    told = "; scale is 0.0001, but a scale of about 0.01 would match the statistics; run prithvi-tg check"
    assert any(told in str(one.message) for one in recwarn) == warned


TASKS = [
    (PrithviSegmentationTask, ClassTarget(("Land", "Water")), torch.zeros(2, 32, 32, dtype=torch.long)),
    (PrithviPixelwiseRegressionTask, ValueTarget(("height",)), torch.zeros(2, 32, 32)),
    (PrithviClassificationTask, ChipClassTarget(("Land", "Water")), torch.zeros(2, dtype=torch.long)),
    (PrithviPretrainingTask, ImageTarget(), None),
]


@pytest.mark.parametrize(("kind", "target", "labels"), TASKS, ids=[kind.__name__ for kind, _, _ in TASKS])
@pytest.mark.parametrize("has_valid", [True, False])
def test_pixels_without_data_do_not_count_for_the_unit_of_the_first_batch(
    kind, target, labels, has_valid, recwarn
):
    inputs = InputSpec(PRITHVI_BANDS, (1000.0,) * 6, (500.0,) * 6, scale=1e-4)
    task = kind(encoder="nano", encoder_args=TINY, data_spec=DataSpec(inputs, target).to_dict())
    valid = torch.zeros(2, 1, 6, 32, 32, dtype=torch.bool)
    valid[..., :3] = True  # less than a tenth
    image = torch.where(valid, inputs.normalize(torch.full(valid.shape, 0.1)), 0)
    batch = {"image": image, **({} if labels is None else {"mask": labels, "label": labels})}
    for data in (torch.zeros_like(valid), valid):  # a batch without data says nothing
        task.training_step(batch | {"image": image * data} | ({"valid": data} if has_valid else {}), 0)
    (told,) = [str(one.message) for one in recwarn if "of the first batch" in str(one.message)]
    assert "are about 0.0001 times as large as the means in the statistics" in told
    assert "scale is 0.0001, but a scale of about 1 would match the statistics" in told


@pytest.mark.parametrize(("moved", "warned"), [(0, False), (3, True)])
def test_labels_that_are_not_aligned_with_the_images_are_reported_when_training_starts(
    tmp_path, moved, warned, recwarn
):
    root = write_sen1floods11(tmp_path / "data", chips=6, size=64, scene_size=(64, 64))
    for path in (root / "v1.1").rglob("*_LabelHand.tif"):
        with rasterio.open(path, "r+") as file:
            file.transform = file.transform @ rasterio.Affine.translation(moved, 0)
    Sen1Floods11DataModule(root, splits=root / "splits.csv", batch_size=1).setup("fit")
    messages = [str(one.message) for one in recwarn if "are not aligned with those of" in str(one.message)]
    assert len(messages) == warned
    if warned:
        assert "the model would learn shifted labels" in messages[0]
