"""Lightning callbacks, thin over reporting and mapping."""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console

from .datamodules.stream import Log
from .errors import ConfigError
from .files import finished_file, shown
from .mapping.run import MapRun
from .mapping.scene_map import SceneResult
from .plotting import plot_evaluation
from .reporting.chips import PICTURES, TABLE, ChipScores, denormalised, write_chip_table, write_pictures
from .reporting.confusion import write_confusion
from .reporting.pictures import log_picture, rendered, takes_pictures
from .reporting.published import distance_table
from .reporting.record import run_record
from .reporting.tables import map_table, score_table, write_scores
from .tasks import PrithviSegmentationTask


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``: the whole state after every epoch, in long epochs also in between, to go on from.

    It keeps the state of other checkpoint callbacks too, so it belongs behind them in a list.

    Args:
        minutes: Time after which it is written within an epoch too.
    """

    def __init__(self, minutes: float = 15) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self.minutes = minutes
        self._written = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write if it is time; looks at the clock as often as the trainer logs."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        number = batch_idx + 1
        # After the last batch comes the end of the epoch, which is written then.
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if number % every or number == trainer.num_training_batches:
            return
        due = time.monotonic() - self._written >= 60 * self.minutes
        if trainer.strategy.broadcast(due):  # the processes' clocks differ
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self._written = time.monotonic()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in a new run's folder."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``: the weights of the best validation, without the optimiser's state.

    A run that ends before its first validation leaves its last weights under this name, and says so.

    Args:
        monitor: A logged metric.
        mode: ``max`` or ``min``.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_weights_only=True, enable_version_counter=False
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in a new run's folder, which gets a copy of the best so far."""
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
            known = ", ".join(key for key in logged if key.startswith("val"))
            raise ConfigError(f"monitor: {self.monitor!r} is not logged; validation logs {known}")
        super().on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make sure that there is a best checkpoint."""
        super().on_train_end(trainer, pl_module)
        if not self.best_model_path and self.dirpath is not None:
            path = str(Path(self.dirpath) / "best.ckpt")
            trainer.save_checkpoint(path, weights_only=True)
            self.best_model_path = path
            if trainer.is_global_zero:
                print("No validation ran, so best.ckpt holds the last weights.")


class PrintCheckpoints(Callback):
    """Say where the checkpoints are when training ends."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print their paths."""
        if trainer.is_global_zero:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
                    print(f"Written: {shown(Path(callback.best_model_path))}")


class SplitFigure(Callback):
    """``splits.png``: which ground is for which split, where the data module splits ground."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw it into the run's folder."""
        regions = getattr(_datamodule(trainer), "split_regions", None)
        folder = trainer.log_dir  # asked in every process: they agree on it
        if regions is not None and folder is not None and trainer.is_global_zero:
            path = Path(folder) / "splits.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            regions.plot().savefig(path, dpi=110)
            print(f"Written: {shown(path)}")


class ScoreReport(Callback):
    """After a test or validation, print a table of scores and write them and the confusion matrix to the run's folder.

    Args:
        published_result: A key of `PUBLISHED`; after a test, the distance to it is printed.
        checkpoint: The weights that are scored; for a training run, its best ones.
    """

    def __init__(self, published_result: str | None = None, checkpoint: str | None = None) -> None:
        self.published_result = published_result
        self.checkpoint = checkpoint
        self._began = time.perf_counter()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the time."""
        self._began = time.perf_counter()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the test set."""
        self._report(trainer, pl_module, getattr(_datamodule(trainer), "test_split", "test"))
        name = self.published_result
        if name and isinstance(pl_module, PrithviSegmentationTask) and trainer.is_global_zero:
            Console().print(distance_table(name, pl_module.scores, pl_module.class_names))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the validation set, but not each time while training."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._report(trainer, pl_module, "val")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the last validation of a training run."""
        self._report(trainer, pl_module, "val")

    def _report(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        scores = getattr(pl_module, "scores", None)
        folder = trainer.log_dir  # asked in every process: they agree on it
        if not isinstance(pl_module, PrithviSegmentationTask) or scores is None or not trainer.is_global_zero:
            return
        names = pl_module.class_names
        Console().print(score_table(scores, names, f"{split}, per cent"))
        if folder is not None:
            path = Path(folder) / "metrics.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            best = getattr(trainer.checkpoint_callback, "best_model_path", "")
            weights = best if trainer.state.fn == TrainerFn.FITTING else self.checkpoint
            seconds = time.perf_counter() - self._began
            run = run_record(
                str(trainer.precision), trainer.world_size, seconds, Path(weights) if weights else None
            )
            # Training ends with the last weights, which need not be those of the best checkpoint.
            fitting = trainer.state.fn == TrainerFn.FITTING
            run["scores_of"] = "last validation, not of the checkpoint" if fitting else "checkpoint"
            run["skipped_chips"] = dict(getattr(_datamodule(trainer), "skipped", {}))
            write_scores(path, scores, names, pl_module.confusion, split, run, pl_module.data_spec)
            written = write_confusion(path.parent, pl_module.confusion, names)
            for one in (path, *written):
                print(f"Written: {shown(one)}")


class ChipReport(Callback):
    """Keep what single chips score, and show some.

    After a test or validation, write ``chips.csv`` and pictures of the best and worst chips to the run's folder.
    While training, each validation draws the same few chips for loggers that take pictures.

    Args:
        panels: Chips that are drawn at each validation.
    """

    def __init__(self, panels: int = 2) -> None:
        self.panels = panels
        self._scores: ChipScores | None = None
        self._seen = 0
        self._panels: list[dict[str, Any]] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._scores, self._panels, self._seen = None, [], 0
        if isinstance(pl_module, PrithviSegmentationTask):
            self._scores = ChipScores(pl_module.num_classes, pl_module.data_spec)

    on_validation_epoch_start = on_test_epoch_start

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        if self._scores is None or not isinstance(outputs, dict) or "prediction" not in outputs:
            return
        prediction = outputs["prediction"]
        unnamed = [f"{trainer.global_rank}_{self._seen + k:06d}" for k in range(len(prediction))]
        self._seen += len(prediction)
        names = batch.get("name", unnamed)
        self._scores.update(names, batch, prediction)
        if trainer.state.fn == TrainerFn.FITTING and self._scores.spec is not None:
            for number in range(min(len(names), self.panels - len(self._panels))):
                sample = {key: batch[key][number] for key in ("image", "valid", "mask") if key in batch}
                sample = {key: value.cpu() for key, value in sample.items()}
                sample = denormalised(sample, self._scores.spec)
                self._panels.append(sample | {"prediction": prediction[number].cpu()})

    on_validation_batch_end = on_test_batch_end

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the test set's."""
        self._write(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the validation set's; while training, draw."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._write(trainer, pl_module)
        elif trainer.is_global_zero and not trainer.sanity_checking and self._scores is not None:
            draws = [logger for logger in trainer.loggers if takes_pictures(logger)]
            for number, sample in enumerate(self._panels if draws else [], start=1):
                assert self._scores.spec is not None
                picture = rendered(plot_evaluation(sample, self._scores.spec))
                for logger in draws:
                    log_picture(logger, f"validation/chip_{number}", picture, trainer.global_step)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget it."""
        self._scores = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last validation's."""
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = trainer.log_dir  # asked in every process: they agree on it
        if self._scores is None or folder is None:
            return
        chips = self._scores.gathered()
        if not chips.names:
            return
        pictures = Path(folder) / PICTURES
        if trainer.is_global_zero:
            pictures.mkdir(parents=True, exist_ok=True)
            assert isinstance(pl_module, PrithviSegmentationTask)
            write_chip_table(Path(folder) / TABLE, chips, pl_module.class_names)
            print(f"Written: {shown(Path(folder) / TABLE)}")
        trainer.strategy.barrier()
        write_pictures(pictures, self._scores, chips)


class MapWriter(Callback):
    """Write maps of the scenes that `Trainer.predict` runs on, and say what became of each.

    Scenes are shared out over the trainer's processes; the trainer's data module is a `SceneDataModule`.

    Args:
        run: The maps.
        folder: Where an index of all maps goes.
        class_names: One per class.
    """

    def __init__(self, run: MapRun, folder: Path, class_names: Sequence[str]) -> None:
        self.run = run
        self.folder = folder
        self.class_names = class_names
        self.results: list[SceneResult] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take up what an earlier start left; one process looks, so that all know the same."""
        pending = self.run.prepare() if trainer.is_global_zero else None
        pending, failed = trainer.strategy.broadcast(
            (pending, {name: m.error for name, m in self.run.maps.items()})
        )
        for name, error in failed.items():
            if error is not None:
                self.run.maps[name].error = error
        _datamodule(trainer).pending = pending
        if trainer.is_global_zero:
            for one in self.run.maps.values():
                print(f"{one.scene.name}: {one.scene.origin}")
            for result in self.run.broken:
                print(f"Failed: {result.error}", file=sys.stderr)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Blend a batch of windows, and write what it finishes."""
        self._take(batch["log"], outputs, batch.get("keep"))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take in what was read without any window."""
        stream: Any = trainer.predict_dataloaders
        self._take(stream.remainder, None, None)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take in what other processes know; write the index of all maps; tell what became of each scene."""
        errors = {name: one.error for name, one in self.run.maps.items() if one.error is not None}
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, errors)
            errors = {name: error for part in gathered for name, error in part.items()}
        for name, error in errors.items():
            self.run.maps[name].error = error
        self.results = self.run.results()
        if trainer.is_global_zero:
            for path in self.run.write_indexes(self.folder):
                print(f"Written: {shown(path)}")
            Console().print(map_table(self.results, self.class_names))
            self.run.clear()

    def _take(self, log: Log, logits: Any, keep: Any) -> None:
        told = set(self.run.failed)
        self.run.take(log, logits, keep)
        for name in self.run.failed - told:
            print(f"Failed: {self.run.maps[name].error}", file=sys.stderr, flush=True)


def _datamodule(trainer: Trainer) -> Any:
    return getattr(trainer, "datamodule", None)
