"""Removing the run folder of a command that fails before its first result."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger

_BEFORE_ANY_RESULT = ("config.yaml", "hparams.yaml", "splits.png", "events.out.")


class RemoveEmptyRun(Callback):
    """Remove the run's folder if the command fails and the folder contains only settings.

    Loggers create it before the data are opened. A folder with a checkpoint, curves or scores is kept, as is a folder
    that existed before.

    Args:
        loggers: Loggers of the trainer.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        folders = [Path(logger.log_dir) for logger in loggers if isinstance(logger, CSVLogger)]
        self.folders = [folder for folder in folders if not folder.exists()]

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the folder, in the first process."""
        if not trainer.is_global_zero:
            return
        for folder in self.folders:
            files = [path for path in folder.rglob("*") if not path.is_dir()]
            if all(path.name.startswith(_BEFORE_ANY_RESULT) for path in files):
                shutil.rmtree(folder, ignore_errors=True)
