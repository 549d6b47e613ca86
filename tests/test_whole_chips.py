"""Whole chips, without crops and overlapping windows, in training, validation and test."""

import pytest
from conftest import TINY
from lightning.pytorch import Trainer

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule


@pytest.mark.parametrize("patch", [16, 14])
def test_the_model_gets_each_chip_once_and_whole(flood_root, tmp_path, patch):
    data = Sen1Floods11DataModule(
        flood_root,
        splits=flood_root / "splits.csv",
        batch_size=3,
        crop_size=None,
        test_split=["test", "bolivia"],
    )
    task = PrithviSegmentationTask(
        "nano", TINY | {"patch_size": patch}, decoder="linear", num_classes=2, window=64, warmup_steps=0
    )
    seen = []
    task.model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(task, data)
    trainer.test(task, data, verbose=False)
    side = -(-64 // patch) * patch  # whole patches
    assert seen == [(batch, 1, 6, side, side) for batch in (3, 1, 1, 1)]
