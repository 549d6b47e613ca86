"""Learning-rate schedules and the settings of optimisers."""

import json
from contextlib import nullcontext

import pytest
import torch
from conftest import TINY
from lightning.pytorch import Callback, Trainer
from torchmetrics import MeanSquaredError

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule
from prithvi_tg.callbacks import LastCheckpoint
from prithvi_tg.errors import ConfigError
from prithvi_tg.tasks.schedules import PlateauSchedule, poly_schedule

pytestmark = pytest.mark.version_independent


@pytest.mark.parametrize(
    ("key", "steps", "base"),
    [
        ("lr.burn_scars(max_iters=10000, base=1.3e-5)", 10000, 1.3e-5),
        ("lr.sen1floods11(max_iters=6300, base=1.5e-5)", 6300, 1.5e-5),
    ],
)
def test_learning_rates_equal_the_golden_ones(golden, key, steps, base):
    expected = json.loads((golden / "metrics" / "metrics_lr.json").read_text())[key]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    schedule = poly_schedule(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    for step, rate in expected.items():
        assert rates[int(step)] == pytest.approx(rate, rel=1e-9)
    assert optimizer.param_groups[0]["lr"] == 0


def test_an_added_group_starts_at_its_rate_and_decays_with_the_others():
    first, later = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([first], lr=1.0)
    schedule = poly_schedule(optimizer, 10, warmup_steps=0)
    rates = []
    for step in range(8):
        if step == 5:
            optimizer.add_param_group({"params": [later], "lr": 0.05})
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert rates[4] == pytest.approx([0.6])
    assert [*rates[5], *rates[6], *rates[7]] == pytest.approx([0.5, 0.05, 0.4, 0.04, 0.3, 0.03])


class Constant(PrithviSegmentationTask):
    """A task whose validation logs a score that never improves."""

    def on_validation_epoch_end(self):
        super().on_validation_epoch_end()
        self.log("val_constant", 1.0)


class Rates(Callback):
    """Records the learning rate of each epoch, and may end the run like a crash."""

    def __init__(self, stop=None):
        self.found = []
        self.stop = stop

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.stop:
            raise RuntimeError("stopped")
        self.found.append(trainer.optimizers[0].param_groups[0]["lr"])


def rates_of(flood_root, folder, stop=None, ckpt_path=None, trainer_options=None, **options):
    """The rate of each of six epochs with one step."""
    task = Constant(
        encoder="nano", encoder_args=TINY, decoder="linear", num_classes=2, window=32, lr=1.0,
        optimizer="torch.optim.SGD", monitor="val_constant",
        **{"schedule": "plateau", "schedule_args": {"patience": 1, "factor": 0.5}, **options},
    )  # fmt: skip
    rates = Rates(stop)
    last = LastCheckpoint()
    last.dirpath = str(folder)
    trainer = Trainer(
        max_epochs=6, accelerator="cpu", callbacks=[rates, last], logger=False, enable_progress_bar=False,
        enable_model_summary=False, limit_train_batches=1, default_root_dir=folder, **(trainer_options or {}),
    )  # fmt: skip
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", batch_size=2, crop_size=32)
    with pytest.raises(RuntimeError, match="stopped") if stop is not None else nullcontext():
        trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=True)
    return rates.found


def test_plateau_lowers_the_rate_after_validations_without_improvement(flood_root, tmp_path):
    assert rates_of(flood_root, tmp_path) == [1, 1, 1, 0.5, 0.5, 0.25]
    assert rates_of(
        flood_root, tmp_path, trainer_options={"check_val_every_n_epoch": 2}, schedule_args={"patience": 0}
    ) == pytest.approx([1, 1, 1, 1, 0.1, 0.1])


def test_plateau_is_resumed_where_it_was(flood_root, tmp_path):
    # After epoch 1, one validation has not improved; the next one of the resumed run is one too many.
    assert rates_of(flood_root, tmp_path, stop=2) == [1, 1]
    assert rates_of(flood_root, tmp_path, ckpt_path=tmp_path / "last.ckpt") == [1, 0.5, 0.5, 0.25]


def test_plateau_monitors_a_loss_downwards_and_a_score_upwards():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    task = PrithviSegmentationTask("nano", TINY, num_classes=2, schedule="plateau")
    schedule = task.create_schedule(optimizer, 1)
    assert (schedule.monitor, schedule.mode) == ("val_mIoU", "max")
    task = PrithviSegmentationTask(
        "nano", TINY, num_classes=2, schedule="plateau", schedule_args={"monitor": "val_loss"}
    )
    schedule = task.create_schedule(optimizer, 1)
    assert (schedule.monitor, schedule.mode, schedule.patience) == ("val_loss", "min", 10)


def test_a_metric_for_a_schedule_without_one_is_refused():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    task = PrithviSegmentationTask("nano", TINY, num_classes=2, schedule_args={"monitor": "val_loss"})
    with pytest.raises(ConfigError, match=r"schedule_args: poly: .*monitor"):
        task.create_schedule(optimizer, 1)


class WithBrier(PrithviSegmentationTask):
    """A task with a further metric, of which low values are better."""

    def add_metrics(self):
        return {"brier": MeanSquaredError()}


def test_plateau_follows_a_further_metric_in_its_own_direction():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    options = {"schedule": "plateau", "schedule_args": {"monitor": "val_brier"}}
    task = WithBrier("nano", TINY, num_classes=2, **options)
    schedule = task.create_schedule(optimizer, 1)
    assert (task.monitor, task.mode) == ("val_mIoU", "max")
    assert (schedule.monitor, schedule.mode) == ("val_brier", "min")
    assert WithBrier("nano", TINY, num_classes=2, monitor="val_brier").mode == "min"


def test_a_resumed_plateau_has_the_settings_of_the_resumed_run():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    before = PlateauSchedule(optimizer, "val_loss", "min", patience=1, factor=0.5)
    for value in (1.0, 2.0):
        before.step(value)
    after = PlateauSchedule(optimizer, "val_loss", "min", patience=3, factor=0.1)
    after.load_state_dict(before.state_dict())
    assert (after.patience, after.factor, after.best, after.num_bad_epochs) == (3, 0.1, 1.0, 1)
    for value in (2.0, 2.0, 2.0):
        after.step(value)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_resumed_plateau_of_another_metric_ignores_the_best_value_before():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    before = PlateauSchedule(optimizer, "val_loss", "min", patience=0, factor=0.5)
    for value in (0.1, 0.2):
        before.step(value)
    after = PlateauSchedule(optimizer, "val_rmse", "min", patience=0, factor=0.5)
    after.load_state_dict(before.state_dict())
    after.step(30.0)  # the first value of this metric
    assert (after.best, optimizer.param_groups[0]["lr"]) == (30.0, 0.5)
    after.step(31.0)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_plateau_without_what_it_needs_is_an_error(flood_root, tmp_path):
    with pytest.raises(
        ConfigError, match="schedule: there is no validation set, which plateau needs to compute val_c"
    ):
        rates_of(flood_root, tmp_path, trainer_options={"limit_val_batches": 0})
    with pytest.raises(
        ConfigError, match=r"schedule_args.monitor: 'val_x' is not logged; .* validation logs val_"
    ):
        rates_of(flood_root, tmp_path, schedule_args={"monitor": "val_x"})
    with pytest.raises(
        ConfigError, match=r"schedule: torch\S+ReduceLROnPlateau does not know .*; give plateau"
    ):
        rates_of(
            flood_root, tmp_path, schedule="torch.optim.lr_scheduler.ReduceLROnPlateau", schedule_args=None
        )
    with pytest.raises(ConfigError, match=r"schedule_args: plateau: .*patients"):
        rates_of(flood_root, tmp_path, schedule_args={"patients": 4})


def test_a_weight_decay_of_none_is_the_default_of_the_optimizer():
    def decay(**arguments):
        task = PrithviSegmentationTask("nano", TINY, num_classes=2, **arguments)
        return task.create_optimizer().defaults["weight_decay"]

    assert decay() == 0.05
    assert decay(weight_decay=None) == 0.01
    assert decay(weight_decay=None, optimizer="torch.optim.SGD") == 0


def test_early_stopping_of_lightning_ends_a_fit_that_scores_its_best_checkpoint(
    trained_run, tmp_path, command
):
    (tmp_path / "stopping.yaml").write_text(
        "model: {init_args: {schedule: plateau, schedule_args: {patience: 0, factor: 0.5}, monitor: val_loss}}\n"
        "trainer:\n  max_epochs: 9\n  callbacks:\n"
        "  - class_path: lightning.pytorch.callbacks.EarlyStopping\n"
        "    init_args: {monitor: val_loss, mode: min, patience: 2}\n"
    )
    configs = ["--config", str(trained_run / "config.yaml"), "--config", str(tmp_path / "stopping.yaml")]
    # Without learning and batch norm, the loss never improves.
    words = [
        "fit",
        *configs,
        "--model.lr",
        "0",
        "--model.decoder",
        "linear",
        "--trainer.default_root_dir",
        str(tmp_path),
    ]
    code, out, _ = command(*words)
    assert code == 0
    lines = [line for line in out.splitlines() if "samples/s" in line]
    assert [line.partition(":")[0] for line in lines if "epoch" in line] == [
        "epoch 0/8",
        "epoch 1/8",
        "epoch 2/8",
    ]
    assert all(line.endswith(" left") for line in lines if "epoch" in line)
    metrics = json.loads((tmp_path / "version_0" / "metrics.json").read_text())
    assert metrics["run"]["training"]["epochs"] == 3
    assert metrics["run"]["checkpoint"].endswith("best.ckpt")
    assert metrics["run"]["checkpoint_epoch"] == 0
    assert metrics["split"] == "val"
