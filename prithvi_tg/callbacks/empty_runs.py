"""Removing the run folder of a command that fails before its first result."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

_BEFORE_ANY_RESULT = ("config.yaml", "hparams.yaml", "splits.png", "events.out.")
_BEFORE_A_STEP = (*_BEFORE_ANY_RESULT, "metrics.csv")  # learning rates, and curves of the run that is resumed


class RemoveEmptyRun(Callback):
    """Remove the run's folder if the command fails and the folder contains only settings.

    Loggers create it before the data are opened. A folder with a checkpoint, scores or curves of a training step is
    kept, as is a folder that existed before.

    Args:
        loggers: Loggers of the trainer.
        folders: Folders of a run without loggers.
    """

    def __init__(self, loggers: Sequence[Logger], folders: Sequence[Path] = ()) -> None:
        logged = [Path(logger.log_dir) for logger in loggers if isinstance(logger, CSVLogger)]
        self.folders = [folder.absolute() for folder in (*logged, *folders) if not folder.exists()]
        #: Folders that the run creates, the innermost first.
        self.parents = [parent for folder in self.folders for parent in folder.parents if not parent.exists()]
        self._first_step: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the step from which the training starts."""
        self._first_step = trainer.global_step

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the folder, in the first process."""
        if not trainer.is_global_zero:
            return
        # Lightning closes loggers after this hook; what they write into a removed folder would replace the error.
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger | TensorBoardLogger):
                logger.finalize("failed")
        trained = self._first_step is not None and trainer.global_step > self._first_step
        settings = _BEFORE_ANY_RESULT if trained else _BEFORE_A_STEP
        for folder in self.folders:
            files = [path for path in folder.rglob("*") if not path.is_dir()]
            if all(path.name.startswith(settings) for path in files):
                shutil.rmtree(folder, ignore_errors=True)
        for parent in self.parents:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
