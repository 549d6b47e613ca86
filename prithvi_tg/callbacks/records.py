"""The files in a run's folder: scores, curves and the record of the training."""

import csv
import json
import logging
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..datamodules.validation import has_validation
from ..files import shown
from ..mapping.provenance import weights_hash
from ..reporting.chips import gather
from ..reporting.published import compared_settings, comparison_table, result_names, why_not_comparable
from ..reporting.record import run_record
from ..reporting.results import RESULT_KINDS, result_kind
from ..reporting.runs import FURTHER_SPLITS, differing_settings, read_settings, split_folder
from ..reporting.tables import as_text, write_scores
from ..tasks import PrithviSegmentationTask, PrithviTask
from ..tasks.metrics import mmseg_scores
from ..tasks.monitoring import current_name, with_current_losses
from ..tasks.scored import names_of_test_sets
from .checkpointing import LastCheckpoint

_log = logging.getLogger(__name__)
_CURVES = "metrics.csv"  # of Lightning's CSVLogger
_HANDED_OVER = ("folder", "_seconds", "_parts", "_parameters", "_length")  # of a `TrainingRecord`


class TrainingRecord(Callback):
    """The history of a training over interruptions; a resumed run has a new folder.

    The rows of ``metrics.csv`` before the resumed step are copied, if the file exists, so that curves are complete.
    Training times add up, and the earlier parts are listed.

    Attributes:
        folder: Folder of the training, that of its loggers; set when training starts.
    """

    def __init__(self) -> None:
        self.folder: str | None = None
        self._before: str | None = None  # folder of the run that is resumed, as its checkpoint records it
        self._parts: list[dict[str, Any]] = []
        self._seconds = 0.0  # of earlier parts
        self._began: float | None = None
        self._parameters = (0, 0)
        self._length: tuple[int, int] | None = None
        # With ddp_spawn and ddp_fork, training runs in other processes than the one that made this object.
        self._maker = os.getpid()
        self._handover = Path(tempfile.gettempdir()) / f"prithvi_tg_{uuid.uuid4().hex}.json"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.folder = trainer.log_dir
        self._began = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the size of the model; of a resumed run also the position, and copy its curves.

        Curves have a point in each epoch, also in epochs shorter than ``log_every_n_steps``.
        """
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # a connector sets it
        if 0 < trainer.num_training_batches < every:
            trainer.log_every_n_steps = int(trainer.num_training_batches)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            self._log_start(trainer, pl_module)

    def _log_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in pl_module.parameters()]
        self._parameters = sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
        _log.info("{:,} parameters, {:,} of them trainable".format(*self._parameters))
        if trainer.ckpt_path is None and self._before is None:
            return
        before = self._folder_before(trainer)
        epoch, step = trainer.current_epoch, trainer.global_step
        before_and_now = [read_settings(Path(one)) for one in (before, self.folder) if one is not None]
        changed = {key: now for key, (_, now) in differing_settings(before_and_now).items()}
        self._parts.append({"folder": str(shown(before)), "epoch": epoch, "step": step, "changed": changed})
        place = "" if self.folder is None else f" in {shown(Path(self.folder))}"
        _log.info(f"Resuming{place} from epoch {epoch}, step {step} of {shown(before)}")
        if changed:
            others = ", ".join(f"{key} {value}" for key, value in changed.items())
            warnings.warn(
                f"these settings differ from the run that is resumed: {others}. The optimiser keeps its state, "
                "including learning rates and weight decay; the schedule spans the new number of steps",
                stacklevel=2,
            )
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                _copy_curves(before / _CURVES, logger, step)

    def _folder_before(self, trainer: Trainer) -> Path:
        """The folder of the checkpoint, if it is that of a run; otherwise the folder that the checkpoint records."""
        now = None if trainer.ckpt_path is None else Path(trainer.ckpt_path).absolute().parent.parent
        if now is not None and (self._before is None or (now / _CURVES).exists()):
            return now
        assert self._before is not None
        return Path(self._before)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._seconds = self._seconds_so_far()
        self._began = None
        self._length = (trainer.current_epoch, trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record a training that was complete before it was resumed: Lightning does not start it."""
        if self._length is None and trainer.is_global_zero:
            self._log_start(trainer, pl_module)
            self._began = None
            self._length = (trainer.current_epoch, trainer.global_step)
            _log.info(
                "Nothing was trained, as the run was complete; to train longer, raise trainer.max_epochs"
            )
        if trainer.is_global_zero and os.getpid() != self._maker:
            known = {key: getattr(self, key) for key in _HANDED_OVER}
            self._handover.write_text(json.dumps(known))

    def receive(self) -> None:
        """Restore the record that the process of the training wrote."""
        if self._handover.exists():
            vars(self).update(json.loads(self._handover.read_text()))
            self._handover.unlink()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Log how to resume after a signal or an interrupt."""
        is_reported = trainer.state.fn == TrainerFn.PREDICTING or not trainer.is_global_zero
        if is_reported or not isinstance(exception, KeyboardInterrupt | SIGTERMException):
            return
        resuming = "."
        for callback in trainer.checkpoint_callbacks:
            last = Path(getattr(callback, "dirpath", None) or "") / "last.ckpt"
            if isinstance(callback, LastCheckpoint) and last.exists():
                resuming = f"; to resume, repeat the command with --ckpt_path {shown(last)}"
        _log.error(f"Interrupted{resuming}")

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run restores."""
        folder = None if self.folder is None else str(Path(self.folder).absolute())
        return {"folder": folder, "seconds": self._seconds_so_far(), "parts": self._parts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        self._before, self._seconds = state_dict["folder"], state_dict["seconds"]
        self._parts = list(state_dict["parts"])

    def _seconds_so_far(self) -> float:
        return self._seconds + (0 if self._began is None else time.perf_counter() - self._began)

    def record(self) -> dict[str, Any] | None:
        """Totals over all parts of a completed training; ``None`` without one."""
        if self._length is None:
            return None
        (epochs, steps), (parameters, trained) = self._length, self._parameters
        return {
            "seconds": round(self._seconds, 2),
            "epochs": epochs,
            "steps": steps,
            "parameters": parameters,
            "parameters_trained": trained,
            "resumed_from": self._parts,
        }


def _copy_curves(path: Path, logger: CSVLogger, step: int) -> None:
    """Log the rows of another run's table before a step."""
    if not path.is_file():
        _log.info(f"{shown(path)}: not found; the curves of this run start here")
        return
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                known = {
                    key: int(value) if value.isdigit() else float(value)
                    for key, value in row.items()
                    if value != ""
                }
                logged = int(known.pop("step"))
            except (AttributeError, KeyError, ValueError):
                continue  # an incomplete row of a killed run
            with_current_losses(known)
            if logged < step:  # later steps are repeated
                # Values under an old and a new name are copied once.
                once: dict[str, Any] = {
                    str(key): value
                    for key, value in known.items()
                    if current_name(key) not in known.keys() - {key}
                }
                logger.log_metrics(once, logged)
    logger.save()


class SplitFigure(Callback):
    """Write ``splits.png``, a map of the splits, for data modules that split by area."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it to the run's folder."""
        regions = getattr(_datamodule(trainer), "split_regions", None)
        folder = trainer.log_dir  # in every process: they agree on it
        if regions is None or not regions.are_apart:
            return
        if folder is not None and trainer.is_global_zero:
            path = Path(folder) / "splits.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            regions.plot().savefig(path, dpi=110)
            _log.info(f"Written: {shown(path)}")


class ScoreReport(Callback):
    """After a test or validation, print a table of scores and write them and the confusion matrix to the run's folder.

    Args:
        published_result: A key of `PUBLISHED`, or several; after a test of exactly the published chips with the
            published protocol, the difference to it is shown, otherwise the reason why there is none.
        checkpoint: The scored weights, if the trainer does not load them itself.
        warned: Warnings for the record; the list may grow while the trainer runs.
        command: Name of the command of the run, for the record.
    """

    def __init__(
        self,
        published_result: str | Sequence[str] | None = None,
        checkpoint: str | None = None,
        warned: Sequence[str] = (),
        command: str | None = None,
    ) -> None:
        self.published_results = result_names(published_result)
        self.checkpoint = checkpoint
        self.warned = warned
        self.command = command
        self._began = time.perf_counter()
        self._tested: list[list[str]] = []  # names of the scored chips of each set

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the chips of an earlier test."""
        self._tested = [[] for _ in names_of_test_sets(trainer)]

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the names of the scored chips."""
        if isinstance(batch, dict):
            names = batch.get("name", ["unnamed"] * len(batch["image"]))
            self._tested[min(dataloader_idx, len(self._tested) - 1)] += names

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show and write the scores of each test set."""
        tested = [[chip for part in gather(names) for chip in part] for names in self._tested]
        task: Any = pl_module
        results = getattr(task, "test_results", {})
        first, *further = names_of_test_sets(trainer)
        run = self._run(trainer, pl_module)
        records: dict[str, Any] = {}
        written: dict[str, list[Path]] = {}
        for split in (
            *further,
            first,
        ):  # metrics.json of the first set is the last file: it completes the test
            if results:
                task.use_results(split)
            written[split] = self._write(
                trainer, task, run, split, None if split == first else split, records
            )
            if results and split != first:
                record = result_kind(task).record(task)
                scores = ("overall", "per_class", "per_value")
                records[split] = {key: record[key] for key in scores if key in record}
        for split, chips in zip((first, *further), tested, strict=True):
            if results:
                task.use_results(split)
            self._show(trainer, task, run, split, written[split])
            self._compare(trainer, task, chips)
        if results:
            task.use_results(first)

    def _compare(self, trainer: Trainer, task: LightningModule, tested: Sequence[str]) -> None:
        """Log how the current scores differ from published results of the chips, or why they cannot be compared."""
        if not isinstance(task, PrithviSegmentationTask) or not trainer.is_global_zero:
            return
        weights = trainer.ckpt_path or self.checkpoint
        training = {} if weights is None else read_settings(Path(weights).absolute().parent.parent)
        settings = compared_settings(training) or task.hparams
        reasons = {
            name: why_not_comparable(name, tested, task.class_names, settings)
            for name in self.published_results
        }
        comparable = [name for name, reason in reasons.items() if reason is None]
        for name in comparable:
            _log.info(as_text(comparison_table(name, mmseg_scores(task.confusion), task.class_names)))
        for reason in () if comparable else filter(None, reasons.values()):
            _log.info(reason)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show and write the scores of the validation set, except during training."""
        if trainer.state.fn != TrainerFn.FITTING:
            run = self._run(trainer, pl_module)
            self._show(trainer, pl_module, run, "val", self._write(trainer, pl_module, run, "val"))

    def _write(
        self,
        trainer: Trainer,
        task: LightningModule,
        run: dict[str, Any] | None,
        split: str,
        part: str | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> list[Path]:
        """Write the current scores, and return the files.

        Args:
            trainer: The trainer.
            task: The task.
            run: The record of the run; ``None`` in processes that write nothing.
            split: The scored split.
            part: The split, if it is a further one of a test, with files in a folder of its own.
            further: Scores of the further splits of a test, for the record of the first.
        """
        folder = run_folder(trainer)
        if folder is None or run is None:
            return []
        assert isinstance(task, PrithviTask)
        kind = result_kind(task)
        path = split_folder(folder, part) / "metrics.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = kind.write_figures(path.parent, task)
        record = kind.record(task) | ({FURTHER_SPLITS: further} if further and part is None else {})
        block = getattr(_datamodule(trainer), "bootstrap_block", 0)
        write_scores(path, record, split, run, task.run_spec, block)
        return [path, *figures]

    def _show(
        self,
        trainer: Trainer,
        task: LightningModule,
        run: dict[str, Any] | None,
        split: str,
        written: Sequence[Path],
    ) -> None:
        """Show the current scores of a split as a table, and the written files."""
        if run is None:
            return
        kind = result_kind(task)
        title = f"{split}, {kind.unit}"
        if (weights := trainer.ckpt_path or self.checkpoint) is not None:
            epoch = run["checkpoint_epoch"]
            title += f", {Path(weights).name}" + ("" if epoch is None else f", epoch {epoch}")
        _log.info(as_text(kind.table(task, title)))
        for one in written:
            _log.info(f"Written: {shown(one)}")

    def record_unscored(self, trainer: Trainer, pl_module: LightningModule, weights: str | None) -> None:
        """Write the record of a training that had no validation, without scores."""
        folder = run_folder(trainer)
        if isinstance(pl_module, PrithviTask) and folder is not None and trainer.is_global_zero:
            path = Path(folder) / "metrics.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = RESULT_KINDS[pl_module.target_kind]
            record = self._record(trainer, pl_module, weights)
            write_scores(path, kind.unscored(pl_module), None, record, pl_module.run_spec)
            _log.info(f"Written: {shown(path)}, without scores: {kind.why_unscored}")

    def _run(self, trainer: Trainer, task: LightningModule) -> dict[str, Any] | None:
        """The record of the run whose scores the task has; ``None`` without scores, and in other processes."""
        scored = isinstance(task, PrithviTask) and getattr(task, "scores", None) is not None
        if not scored or not trainer.is_global_zero:
            return None
        assert isinstance(task, PrithviTask)
        return self._record(trainer, task, trainer.ckpt_path or self.checkpoint)

    def _record(self, trainer: Trainer, task: PrithviTask, weights: Any) -> dict[str, Any]:
        seconds = time.perf_counter() - self._began
        run = run_record(
            str(trainer.precision), trainer.world_size, seconds, Path(weights) if weights else None
        )
        training = _training(trainer)
        return (
            {"command": self.command}
            | run
            | {
                "weights_sha256": weights_hash(task),
                "task": task.class_path,
                "training": None if training is None else training.record(),
                "warnings": list(dict.fromkeys(self.warned)),
                "skipped_chips": dict(getattr(_datamodule(trainer), "skipped", {})),
            }
        )


def _datamodule(trainer: Trainer) -> Any:
    return getattr(trainer, "datamodule", None)


def _training(trainer: Trainer) -> TrainingRecord | None:
    """The record of the trainer's training, if it has one."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it, which mypy cannot see
    return next((one for one in callbacks if isinstance(one, TrainingRecord)), None)


def run_folder(trainer: Trainer) -> str | None:
    """The folder for a run's files: scores of a training are beside its curves; call it in every process."""
    training = _training(trainer)
    return (None if training is None else training.folder) or trainer.log_dir


def score_best(trainer: Trainer, task: LightningModule, datamodule: Any) -> None:
    """After a training, score its best checkpoint on the validation set; the record describes that file.

    Without a checkpoint, the last weights are scored; without validation, or chips for it, the record has no scores.

    Args:
        trainer: The trainer of the training; its loggers are removed, as the curves end with the training.
        task: The trained task; the best weights are loaded into it.
        datamodule: The data module with the validation set.
    """
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
    training = _training(trainer)
    if training is not None:
        training.receive()
    # Not trainer.enable_validation: after ddp_spawn and ddp_fork, this process has seen no data.
    if not has_validation(trainer, datamodule):
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # a connector sets it
            if isinstance(callback, ScoreReport):
                callback.record_unscored(trainer, task, best)
        return
    trainer.loggers = []
    verbose = not isinstance(task, PrithviTask)  # ScoreReport prints a table
    trainer.validate(task, datamodule=datamodule, ckpt_path=best, weights_only=True, verbose=verbose)
