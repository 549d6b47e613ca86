"""Training that fails says where, and scores do not depend on the number of processes."""

import csv
import json
import subprocess
import sys

import pytest
import torch

from prithvi_tg import Sen1Floods11DataModule
from prithvi_tg.errors import DataError


def test_a_loss_that_is_not_finite_names_the_chips(tiny_task):
    batch = {
        "image": torch.randn(2, 1, 6, 32, 32),
        "mask": torch.zeros(2, 32, 32, dtype=torch.long),
        "name": ["one", "other"],
    }
    tiny_task.training_step(batch, 0)
    batch["image"][1, 0, 2, 3, 4] = float("nan")
    with pytest.raises(
        DataError, match="loss: nan at step 0 on one, other; their images hold values that are not"
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
    assert "the model has diverged: lower lr" in line


def test_two_processes_count_each_chip_once(config, command, flood_root, tmp_path):
    splits = tmp_path / "splits.csv"
    with (flood_root / "splits.csv").open() as file:
        chips = [row["chip"] for row in csv.DictReader(file)]
    with splits.open("w", newline="") as file:  # five chips to test: not divisible by two
        rows = [(chip, split) for split in ("train", "val") for chip in chips[:1]]
        csv.writer(file).writerows([("chip", "split"), *rows, *((chip, "test") for chip in chips[1:])])
    code, _, err = command("fit", "--config", config, "--data.splits", splits, "--data.batch_size", 1)
    assert code == 0, err
    best = tmp_path / "runs" / "version_0" / "checkpoints" / "best.ckpt"
    counts = []
    for devices in (1, 2):
        folder = tmp_path / f"by{devices}"
        done = subprocess.run(
            [sys.executable, "-m", "prithvi_tg", "test", "--config", config, "--ckpt_path", best,
             "--data.splits", splits, "--trainer.devices", str(devices), "--trainer.default_root_dir", folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        record = json.loads((folder / "version_0" / "metrics.json").read_text())
        counts.append(record["confusion_matrix"]["counts"])
    assert counts[0] == counts[1]


def test_batches_are_pinned_where_there_is_a_gpu(flood_root, monkeypatch):
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", batch_size=2, crop_size=32)
    data.setup("fit")
    assert not data.train_dataloader().pin_memory or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert data.train_dataloader().pin_memory
    assert data.val_dataloader().pin_memory
