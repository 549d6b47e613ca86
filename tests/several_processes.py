"""Runs of two processes for test_processes.py, which reads what they write.

Usage: several_processes.py CHIPS FOLDER [RUN ...]
"""

import json
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from conftest import TINY
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import BackboneFinetuning
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessException

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule
from prithvi_tg.callbacks import LastCheckpoint, MapWriter
from prithvi_tg.errors import DataError, own_error
from prithvi_tg.mapping.planning import plan_maps
from prithvi_tg.mapping.products import OutputOptions
from prithvi_tg.mapping.provenance import weights_hash
from prithvi_tg.readers.formats import InputOptions


class Broken(PrithviSegmentationTask):
    """Breaks in one process, while the other is busy for minutes."""

    broken_rank = 1

    def training_step(self, batch, batch_idx):
        if self.global_rank == self.broken_rank:
            raise DataError("chip.tif: broken on purpose")
        time.sleep(600)


class BrokenFirst(Broken):
    broken_rank = 0


def make_task(kind=PrithviSegmentationTask, **arguments):
    defaults = {"encoder": "nano", "encoder_args": TINY, "head_channels": 8, "num_classes": 2, "window": 32,
                "warmup_steps": 0, "lr": 1e-2}  # fmt: skip
    return kind(**defaults | arguments)


def fit(root, task, callbacks=(), strategy="ddp_fork", ckpt_path=None, data=None, **arguments):
    options = {"max_epochs": 2, "limit_val_batches": 0, "enable_checkpointing": False} | arguments
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy=strategy, logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), **options,
    )  # fmt: skip
    data = data or {}
    data = {"batch_size": 1, "crop_size": 32, "crops_per_chip": 2} | data
    trainer.fit(task, Sen1Floods11DataModule(root, splits=root / "splits.csv", **data), ckpt_path=ckpt_path,
                weights_only=True if ckpt_path else None)  # fmt: skip


def of_both(values):
    """A tensor of each process."""
    both = [torch.empty_like(values) for _ in range(2)]
    torch.distributed.all_gather(both, values)
    return both


class Note(Callback):
    """Writes differences between processes, averaged parameters in each epoch, and random draws of each process."""

    def __init__(self, path):
        self.path, self.averaged, self.drawn, self.before = path, [], [], None

    def on_train_start(self, trainer, task):
        self.before = self.weights(task)
        self.same_start = all(torch.equal(*of_both(values)) for values in self.before.values())

    def weights(self, task):
        return {
            part: torch.cat([p.detach().flatten() for p in getattr(task.model, part).parameters()])
            for part in ("encoder", "neck", "decode_head")
        }

    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        drawn = of_both(torch.rand(3))  # as Kornia and dropout draw
        self.drawn.append([values.tolist() for values in drawn])

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        wrapped = trainer.strategy.model
        self.averaged.append(int(wrapped._get_ddp_logging_data()["num_parameter_tensors"]))

    def on_train_end(self, trainer, task):
        after = self.weights(task)
        differ = {
            part: float((both[0] - both[1]).abs().max()) for part in after for both in [of_both(after[part])]
        }
        changed = {part: not torch.equal(after[part], self.before[part]) for part in after}
        scales = [float(p) for name, p in task.named_parameters() if name.endswith("embed_enc.scale")]
        if trainer.is_global_zero:
            noted = {"differ": differ, "changed": changed, "averaged": self.averaged, "drawn": self.drawn,
                     "same_start": self.same_start, "steps": trainer.global_step, "scales": scales,
                     "weights": {part: values.tolist() for part, values in after.items()}}  # fmt: skip
            self.path.write_text(json.dumps(noted))


class Gradual(PrithviSegmentationTask):
    """Unfreezes a block in the middle of an epoch, in a hook that does not call that of the task."""

    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step == 2:
            self.model.encoder.blocks[-1].requires_grad_(True)


class Stop(Callback):
    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        if trainer.global_step == 3:
            raise DataError("stopped")


def unfreezing(root, folder):
    task = make_task(freeze_encoder=True, unfreeze_epoch=1)
    fit(root, task, [Note(folder / "unfreeze_epoch.json")])
    fit(root, make_task(), [BackboneFinetuning(1, backbone_initial_lr=1e-2), Note(folder / "callback.json")])
    task = make_task(freeze_encoder=True)
    fit(root, task, [BackboneFinetuning(1, backbone_initial_lr=1e-2), Note(folder / "callback_frozen.json")])
    task = make_task(Gradual, freeze_encoder=True, unfreeze_epoch=9)
    strategy = "ddp_fork_find_unused_parameters_true"
    fit(root, task, [Note(folder / "gradual.json")], strategy)


def places(root, folder):
    task = make_task(encoder="prithvi_eo_v2_tiny_tl", weight_decay=0.5)
    fit(root, task, [Note(folder / "no_metadata.json")])


def steps(root, folder):
    fit(root, make_task(), [Note(folder / "accumulated.json")], accumulate_grad_batches=100)


def resuming(root, folder):
    drop = {"encoder_args": TINY, "drop_path": 0.3}
    seed_everything(7, verbose=False)
    fit(root, make_task(**drop), [Note(folder / "whole.json")])
    seed_everything(7, verbose=False)
    last = LastCheckpoint(minutes=0)
    last.dirpath = str(folder)
    callbacks = [
        Stop(),
        Note(folder / "stopped.json"),
        last,
    ]  # Note draws random numbers, as in the other runs
    with pytest.raises(ProcessException, match="stopped"):
        fit(root, make_task(**drop), callbacks, enable_checkpointing=True, log_every_n_steps=1)
    seed_everything(7, verbose=False)
    fit(root, make_task(**drop), [Note(folder / "resumed.json")], ckpt_path=folder / "last.ckpt")


def too_many(root, folder):
    for name, data, options in (
        ("no_step", {"batch_size": 3, "crops_per_chip": 1}, {}),
        ("no_validation", {}, {"limit_val_batches": 1.0}),
    ):
        try:
            fit(root, make_task(), data=data, **options)
        except ProcessException as error:
            (folder / f"{name}.json").write_text(json.dumps(repr(own_error(error))))


class Slow(PrithviSegmentationTask):
    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        time.sleep(6)
        return super().predict_step(batch, batch_idx)


def shares(root, folder):
    data = Sen1Floods11DataModule(root, splits=root / "splits.csv")
    task = make_task(Slow, data_spec=data.spec.to_dict(), window=128)
    scenes, run = plan_maps(
        task,
        data.spec,
        [root / "scene.tif"],
        folder / "maps",
        weights_hash(task),
        InputOptions(),
        OutputOptions(),
    )
    strategy = DDPStrategy(start_method="fork", timeout=timedelta(seconds=3))
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy=strategy, logger=False, enable_progress_bar=False,
        callbacks=[MapWriter(run, folder / "maps")],
    )  # fmt: skip
    trainer.predict(task, scenes, return_predictions=False)


def main():
    """Run those that the arguments name, or all."""
    warnings.simplefilter("ignore")
    root, folder = Path(sys.argv[1]), Path(sys.argv[2])
    seed_everything(0, workers=True, verbose=False)
    for one in (unfreezing, places, steps, resuming, too_many, shares):
        if one.__name__ in sys.argv[3:] or not sys.argv[3:]:
            one(root, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
