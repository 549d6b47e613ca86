"""A resumed run has the same results as an uninterrupted run."""

import itertools
import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from lightning.pytorch import Callback, Trainer

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule
from prithvi_tg.callbacks import BestCheckpoint, LastCheckpoint
from prithvi_tg.checkpoints import read_checkpoint
from prithvi_tg.datamodules import LabelledScenesDataModule
from prithvi_tg.datamodules.labelled_scenes import BlockSplit
from prithvi_tg.datamodules.resuming import ResumableLoader, random_state, restore_random_state
from prithvi_tg.samplers import ShuffleSampler

pytestmark = pytest.mark.version_independent


class Stop(Callback):
    """Ends the run before a step, like a crash."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise RuntimeError("stopped")


class Noise(Callback):
    """Draws from the generators of NumPy and Python, as augmentations of other libraries do."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch["image"] += 0.01 * np.random.rand() + 0.01 * random.random()


def chips(root, workers):
    return Sen1Floods11DataModule(
        root, splits=root / "splits.csv", batch_size=1, crop_size=32, crops_per_chip=2, num_workers=workers
    )


def scenes(root, workers):
    return LabelledScenesDataModule(
        str(root / "scene.tif"), str(root / "scene_label.tif"), {0: "Land", 1: "Water"}, BlockSplit(32, buffer=0),
        mean=(0.1,) * 6, std=(0.05,) * 6, window=32, windows_per_epoch=12, batch_size=2, num_workers=workers,
        scale=1e-4, ignored_labels=[-1],
    )  # fmt: skip


def train(make_data, root, workers, folder, stop=None, ckpt_path=None):
    """Train two epochs; the trainer, the weights and the scores at the end."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, window=32, warmup_steps=1,
        drop_path=0.3, lr=1e-3,
    )  # fmt: skip
    # The first validation has the highest loss, so the best checkpoint is older than the later stops.
    best = BestCheckpoint("val_loss", "max")
    best.dirpath = str(folder / ("first" if stop else "second"))
    callbacks = [best, LastCheckpoint(minutes=0), Noise(), *([Stop(stop)] if stop else [])]
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", callbacks=callbacks, default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1, log_every_n_steps=1,
    )  # fmt: skip
    data = make_data(root, workers)
    if stop:
        with pytest.raises(RuntimeError, match="stopped"):
            trainer.fit(task, data)
        return None
    trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=True)
    scores = {key: float(value) for key, value in trainer.callback_metrics.items()}
    kept = read_checkpoint(folder / "second" / "best.ckpt")
    scores |= {"best epoch": kept.meta["epoch"], "best": float(best.best_model_score)}
    assert Path(best.best_model_path) == kept.path
    return trainer, {key: value.clone() for key, value in task.state_dict().items()}, scores


#: Where a run is stopped, by its steps in an epoch: within an epoch, between two, within the last.
STOPS = (lambda steps: 2, lambda steps: steps, lambda steps: steps + 3)


@pytest.mark.parametrize(
    ("make_data", "workers", "stops"),
    [(chips, 0, STOPS), (chips, 2, STOPS[:1]), (scenes, 2, STOPS[1:])],
    ids=["chips-0", "chips-2", "scenes-2"],
)
def test_a_resumed_run_equals_an_uninterrupted_run(make_data, workers, stops, flood_root, tmp_path):
    trainer, weights, scores = train(make_data, flood_root, workers, tmp_path / "whole")
    steps = trainer.num_training_batches
    assert steps >= 4
    assert scores["best epoch"] == 0
    for stop in [position(steps) for position in stops]:
        folder = tmp_path / f"stop{stop}"
        train(make_data, flood_root, workers, folder, stop)
        (last,) = folder.rglob("last.ckpt")
        _, again, scores_again = train(make_data, flood_root, workers, folder, ckpt_path=last)
        for key, value in weights.items():
            assert torch.equal(again[key], value), (stop, key)
        assert scores_again == scores, stop


def test_the_loader_resumes_with_the_remaining_batches():
    def loader():
        dataset = torch.arange(20)
        return ResumableLoader(dataset, batch_size=3, sampler=ShuffleSampler(dataset, seed=3), drop_last=True)

    whole = [batch.tolist() for batch in loader()]
    assert len(whole) == 6
    stopped = loader()
    list(itertools.islice(stopped, 4))
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert [batch.tolist() for batch in resumed] == whole[4:]
    assert len([*resumed]) == 6  # the next epoch is whole again


def test_states_of_random_generators_are_restored():
    state = random_state()
    first = torch.rand(1).item(), np.random.rand(), random.random()
    restore_random_state(state)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == first


def test_a_killed_run_leaves_a_readable_checkpoint_and_can_be_resumed_exactly(
    config, command, tmp_path, start
):
    def fit(folder, *more):
        return ("fit", "--config", config, "--trainer.max_epochs", 20, "--trainer.check_val_every_n_epoch", 20,
                "--trainer.log_every_n_steps", 1, "--trainer.default_root_dir", folder, *more)  # fmt: skip

    assert command(*fit(tmp_path / "whole"))[0] == 0
    killed = start(*fit(tmp_path / "killed"))
    last = tmp_path / "killed" / "version_0" / "checkpoints" / "last.ckpt"
    while not last.exists():
        assert killed.poll() is None, "ended before its first checkpoint"
        time.sleep(0.01)
    time.sleep(0.1)
    killed.kill()
    assert killed.poll() == -signal.SIGKILL
    assert read_checkpoint(last).meta["epoch"] < 19
    assert command(*fit(tmp_path / "killed", "--ckpt_path", last))[0] == 0
    curves = [pd.read_csv(tmp_path / name / "metrics.csv").set_index("step")["train_loss"].dropna()
              for name in ("whole/version_0", "killed/version_1")]  # fmt: skip
    pd.testing.assert_series_equal(*curves)
    records = [json.loads((tmp_path / name / "metrics.json").read_text())["run"]["training"]
               for name in ("whole/version_0", "killed/version_1")]  # fmt: skip
    assert [record["steps"] for record in records] == [curves[0].index[-1] + 1] * 2
    assert records[0]["resumed_from"] == []
    (part,) = records[1]["resumed_from"]
    assert part["folder"] == str(tmp_path / "killed/version_0")
    assert 0 < part["epoch"] < 20
    ends = [read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt").state_dict
            for name in ("whole/version_0", "killed/version_1")]  # fmt: skip
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_a_failed_checkpoint_does_not_replace_the_previous_one(flood_root, tmp_path, monkeypatch):
    train(chips, flood_root, 0, tmp_path, stop=3)
    (last,) = tmp_path.rglob("last.ckpt")
    before = last.read_bytes()
    import fsspec.implementations.local as local

    def full(self, data):
        self.f.write(data[: len(data) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(local.LocalFileOpener, "write", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        train(chips, flood_root, 0, tmp_path, ckpt_path=last)
    assert last.read_bytes() == before
