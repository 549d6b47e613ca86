"""Progress, times and throughput of a run."""

import logging
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from ..errors import counted
from ..mapping.progress import duration
from ..mapping.window_stream import ReadEvents, StripRangeRead

_log = logging.getLogger(__name__)

_MOST_OTHERS = 3  # scores in a line besides the monitored one


def throughput(count: int, unit: str, seconds: float) -> str:
    """A number of samples or windows, its duration and the number per second; the unit is a plural."""
    return f"{counted(count, unit.removesuffix('s'))} in {duration(seconds)}, {count / max(seconds, 1e-9):.3g} {unit}/s"


def batch_samples(trainer: Trainer, batch: Any) -> int:
    """Number of samples that all processes computed with a batch of this process; 0 for batches without images."""
    return len(batch["image"]) * trainer.world_size if isinstance(batch, dict) and "image" in batch else 0


class EpochLines(Callback):
    """Log one line per epoch: losses, scores, training samples per second and the time that is left.

    The scores are the monitored one and at most three others: those of `add_metrics`, and the main ones of the task.

    Training samples per second do not include the time of validation. The time left includes it.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._began = self._epoch_began = self._validation_began = 0.0
        self._validation = 0.0  # seconds of this epoch
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the training."""
        self._began = time.perf_counter()
        self._first_step = trainer.global_step
        self._start_epoch()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an epoch."""
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._samples, self._validation, self._epoch_began = 0, 0.0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples of a batch."""
        self._samples += batch_samples(trainer, batch)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of a validation."""
        self._validation_began = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the duration of a validation."""
        self._validation += time.perf_counter() - self._validation_began

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line."""
        if not trainer.is_global_zero:
            return
        now = time.perf_counter()
        monitor = getattr(pl_module, "monitor", "val_loss")
        logged = trainer.callback_metrics
        losses = ("train_loss", "val_loss")
        others = [
            name for name in getattr(pl_module, "main_scores", ()) if name in logged and name != monitor
        ]
        names = dict.fromkeys((*losses, monitor, *others[:_MOST_OTHERS]))
        if self._validation == 0:  # the logged scores are those of an earlier epoch
            names = dict.fromkeys(name for name in names if not name.startswith("val_"))
        parts = [f"{name} {float(logged[name]):.4f}" for name in names if name in logged]
        seconds = now - self._epoch_began - self._validation
        parts.append(f"{self._samples / max(seconds, 1e-9):.3g} samples/s")
        done, total = trainer.global_step - self._first_step, trainer.estimated_stepping_batches
        if done and total < float("inf"):
            left = (now - self._began) / done * max(0, total - trainer.global_step)
            parts.append(f"{duration(left)} left")
        last = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs - 1}"
        _log.info(f"epoch {trainer.current_epoch}{last}: {', '.join(parts)}")


class RunTimes(Callback):
    """Log the duration and the throughput at the end of a training, a validation and a test."""

    def __init__(self) -> None:
        self._samples = 0
        self._began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._samples, self._began = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples of a batch."""
        self._samples += batch_samples(trainer, batch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the duration of the training, validation included."""
        self._report(trainer, "Training")

    on_test_start = on_train_start

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the samples of a batch."""
        self._samples += batch_samples(trainer, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the duration of the test."""
        self._report(trainer, "Test")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, except during training."""
        if trainer.state.fn != TrainerFn.FITTING:
            self.on_train_start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the samples of a batch, except during training."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._samples += batch_samples(trainer, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the duration of the validation, except during training."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._report(trainer, "Validation")

    def _report(self, trainer: Trainer, name: str) -> None:
        if trainer.is_global_zero and self._samples:
            _log.info(f"{name}: {throughput(self._samples, 'samples', time.perf_counter() - self._began)}")


class WindowProgressBar(RichProgressBar):
    """A progress bar that reaches 100 % when windows of scenes are skipped, because they have no data.

    The number of windows with data is known only when the scenes are read; the total falls as windows are skipped.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._skipped = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        self._skipped = 0
        super().on_predict_start(trainer, pl_module)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the completed batches, and reduce the total by the windows that were skipped."""
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        events = batch.get("events") if isinstance(batch, dict) else None
        total = self.total_predict_batches_current_dataloader
        if isinstance(events, ReadEvents) and total < float("inf"):
            self._skipped += sum(one.skipped for one in events.events if isinstance(one, StripRangeRead))
            stream: Any = trainer.predict_dataloaders
            self._set_total(max(batch_idx + 1, int(total) - self._skipped // stream.batch_size))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the total to the number of completed batches."""
        if self.progress is not None and self.predict_progress_bar_id is not None:
            self._set_total(int(self.progress.tasks[self.predict_progress_bar_id].completed))
        super().on_predict_end(trainer, pl_module)

    def _set_total(self, total: int) -> None:
        if self.progress is not None and self.predict_progress_bar_id is not None:
            self.progress.update(self.predict_progress_bar_id, total=total)
            self.refresh(hard=True)
