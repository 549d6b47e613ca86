"""The checkpoints of a training run: ``last.ckpt`` and ``best.ckpt``."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from ..datamodules.validation import has_validation
from ..errors import NO_VALIDATION, ConfigError
from ..files import finished_file, shown
from ..tasks.monitoring import not_logged

_log = logging.getLogger(__name__)


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``: the whole state after every epoch, and within long epochs, for resuming.

    The file includes the state of other checkpoint callbacks, so this callback belongs behind them in a list.

    Args:
        minutes: Time after which it is also written within an epoch.
    """

    def __init__(self, minutes: float = 15) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self.minutes = minutes
        self._written = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write if enough time has passed; the clock is checked as often as the trainer logs."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        number = batch_idx + 1
        # The end of the epoch is written after the last batch.
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # a connector sets it, which mypy cannot see
        if number % every or number == trainer.num_training_batches:
            return
        due = time.monotonic() - self._written >= 60 * self.minutes
        if trainer.strategy.broadcast(due):  # the processes' clocks differ
            self.best_model_path = self.format_checkpoint_name({})  # where Lightning writes it, too
            trainer.save_checkpoint(self.best_model_path)
            self._written = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write at the end of every epoch."""
        super().on_train_epoch_end(trainer, pl_module)
        self._written = time.monotonic()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, for the new run's folder."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``: the weights of the best validation, without the optimiser's state.

    A score that is not finite is never the best. In a run without validation, or without a finite score, the file
    holds the last weights, and a message explains why.

    Args:
        monitor: A logged metric.
        mode: ``max`` or ``min``.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_weights_only=True, enable_version_counter=False
        )
        self._reason = "no validation ran"  # why there is no best checkpoint

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, and copy the best checkpoint so far to the new run's folder."""
        before, folder = Path(state_dict["best_model_path"]), self.dirpath
        if folder is not None and folder != state_dict["dirpath"] and before.is_file():
            best = Path(folder) / before.name
            best.parent.mkdir(parents=True, exist_ok=True)
            with finished_file(best) as partial:
                shutil.copyfile(before, partial)
            path, score = str(best), state_dict["best_model_score"]
            state_dict = {
                **state_dict, "dirpath": folder, "best_model_path": path, "kth_best_model_path": path,
                "best_k_models": {path: score},
            }  # fmt: skip
        super().load_state_dict(state_dict)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if this validation is the best.

        Raises:
            ConfigError: The validation did not log the metric to monitor.
        """
        logged = trainer.callback_metrics
        if (
            not trainer.sanity_checking
            and trainer.state.fn == TrainerFn.FITTING
            and self.monitor not in logged
        ):
            known = [key for key in logged if key.startswith("val")]
            raise ConfigError(not_logged(str(self.monitor), known))
        super().on_validation_end(trainer, pl_module)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether a score is the best so far; Lightning itself would accept a first NaN."""
        if current is not None and not torch.isfinite(current):
            self._explain(trainer, current)
            return False
        return super().check_monitor_top_k(trainer, current)

    def _explain(self, trainer: Trainer, score: Tensor) -> None:
        """Warn, once for each reason, that a validation cannot be the best."""
        counts = getattr(trainer.lightning_module, "confusion", None)  # of the validation that has just ended
        reason = f"{self.monitor} was {float(score)} in validation"
        if isinstance(counts, Tensor) and not counts.any():
            reason += ", where no pixel has a label"
        if reason != self._reason:
            self._reason = reason
            rank_zero_warn(f"monitor: {reason}; such a score is never the best")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last weights if there is no best checkpoint."""
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path and self.dirpath is not None:
            path = str(Path(self.dirpath) / "best.ckpt")
            # The epoch is over, so Lightning counts the next one; validation saves within the epoch.
            progress = trainer.fit_loop.epoch_progress.current
            progress.completed -= 1
            trainer.save_checkpoint(path, weights_only=True)
            progress.completed += 1
            self.best_model_path = path
            if trainer.is_global_zero:
                reason = self._reason if has_validation(trainer) else NO_VALIDATION
                _log.info(f"best.ckpt holds the last weights, because {reason}")


class PrintCheckpoints(Callback):
    """Log the paths of the checkpoints when training ends."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the paths."""
        if trainer.is_global_zero:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
                    path = Path(callback.best_model_path)
                    if path.parent == Path(callback.dirpath or ""):  # not of the run that is resumed
                        _log.info(f"Written: {shown(path)}")
