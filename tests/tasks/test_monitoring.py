"""Metrics can be monitored under their old names."""

import warnings

import pandas as pd
import pytest
from conftest import TINY
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from prithvi_tg import (
    PrithviClassificationTask,
    PrithviPixelwiseRegressionTask,
    PrithviPretrainingTask,
    PrithviSegmentationTask,
    Sen1Floods11DataModule,
)
from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.errors import ConfigError
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ChipClassTarget
from prithvi_tg.tasks.monitoring import current_name, unknown_monitors


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


def fit(task, flood_root, folder, *callbacks):
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", crop_size=32, batch_size=2)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", callbacks=list(callbacks), logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(task, data)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (
            ModelCheckpoint(monitor="val_IoU_water"),
            r"ModelCheckpoint.monitor: .* did you mean val_IoU_Water\?",
        ),
        (
            EarlyStopping("val_los"),
            r"EarlyStopping.monitor: 'val_los' is not logged; did you mean val_loss\?",
        ),
        (
            ModelCheckpoint(monitor="mIoU"),
            r"ModelCheckpoint.monitor: 'mIoU' is not logged; .*validation logs val_",
        ),
    ],
)
def test_a_monitor_that_is_not_logged_is_an_error_before_training(
    tiny_task, flood_root, tmp_path, monkeypatch, callback, message
):
    monkeypatch.setattr(
        PrithviSegmentationTask, "training_step", lambda *_: pytest.fail("training has begun")
    )
    with pytest.raises(ConfigError, match=message):
        fit(tiny_task, flood_root, tmp_path, callback)


class LogsByItself(PrithviSegmentationTask):
    """Logs a score in a hook."""

    def on_validation_epoch_end(self):
        super().on_validation_epoch_end()
        self.log("val_own", 1.0)


def test_a_score_that_a_task_logs_by_itself_can_be_monitored(flood_root, tmp_path):
    task = LogsByItself("nano", TINY, head_channels=8, num_classes=2, window=32, warmup_steps=0)
    best = ModelCheckpoint(tmp_path, monitor="val_own")
    fit(task, flood_root, tmp_path, best, EarlyStopping("train_loss", check_on_train_epoch_end=True))
    assert best.best_model_score == 1


SPEC = DataSpec(InputSpec(PRITHVI_BANDS, (0.1,) * 6, (0.05,) * 6), ChipClassTarget(("A", "B"), (), True))


@pytest.mark.parametrize(
    ("task", "known"),
    [
        (PrithviClassificationTask("nano", TINY, num_classes=2), "val_mAP"),
        (PrithviClassificationTask("nano", TINY, data_spec=SPEC.to_dict()), "val_AP_A"),
        (PrithviPixelwiseRegressionTask("nano", TINY, head_channels=8), "val_R2"),
        (PrithviPretrainingTask("nano", TINY), "val_RMSE_RED"),
    ],
    ids=["classes", "labels", "values", "images"],
)
def test_the_scores_of_each_task_are_known_before_it_runs(task, known):
    names = {"val_AP_A": ["A", "B"]}.get(known, task.output_names)
    found = list(
        unknown_monitors(task, [ModelCheckpoint(monitor=name) for name in (known, "val_None")], names)
    )
    assert [message.partition(" is not")[0] for message in found] == ["ModelCheckpoint.monitor: 'val_None'"]
