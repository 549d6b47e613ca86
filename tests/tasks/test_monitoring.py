"""Metrics can be monitored under their old names."""

import warnings

import pandas as pd
import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from prithvi_tg import Sen1Floods11DataModule
from prithvi_tg.tasks.monitoring import current_name


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("val_mDice", "val_mFscore"),
        ("val_mRecall", "val_mAcc"),
        ("train_mDice", "train_mFscore"),
        ("val_Dice_Water", "val_Fscore_Water"),
        ("test_Recall_Burn scar", "test_Acc_Burn scar"),
        ("val_Recall_m_Dice", "val_Acc_m_Dice"),
    ],
)
def test_old_names_of_metrics_are_converted_to_current_names(old, now):
    assert current_name(old) == now


@pytest.mark.parametrize(
    "name", ["val_mIoU", "val_loss", "val_Dice", "Recall", "val_IoU_Dice", "lr-AdamW", "val_Recalls_a"]
)
def test_other_names_of_metrics_are_unchanged(name):
    assert current_name(name) == name


def test_checkpoints_and_early_stopping_accept_old_names_and_logs_have_none(tiny_task, flood_root, tmp_path):
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", crop_size=32, batch_size=2)
    best = ModelCheckpoint(tmp_path / "best", monitor="val_Dice_Water", mode="max")
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[best, EarlyStopping("val_mRecall", mode="max")],
        logger=CSVLogger(tmp_path, name=""), enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(tiny_task, data)
    told = {str(one.message) for one in caught if "old name" in str(one.message)}
    assert told == {
        "monitor: val_Dice_Water is an old name of val_Fscore_Water and will be removed",
        "monitor: val_mRecall is an old name of val_mAcc and will be removed",
    }
    assert best.best_model_score == trainer.callback_metrics["val_Fscore_Water"]
    columns = set(pd.read_csv(tmp_path / "version_0/metrics.csv").columns)
    assert {"val_mFscore", "val_mAcc", "val_Fscore_Water"} <= columns
    assert not [name for name in columns if current_name(name) != name]
