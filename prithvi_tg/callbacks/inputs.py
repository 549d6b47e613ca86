"""Counting invalid values in the pixels of a run."""

import logging
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ..augmentations import ChipAugmentation
from ..errors import counted

_log = logging.getLogger(__name__)


class MeaninglessValues(Callback):
    """Log the number of values that are not finite or beyond 1e30, once each for training, validation and test.

    `ChipAugmentation` counts them on the device, so that batches do not wait for the count.
    """

    def __init__(self) -> None:
        self._printed: set[str] = set()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the number in training crops."""
        self._report(trainer, pl_module, "train")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the number in validation chips."""
        self._report(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the number in test chips."""
        self._report(trainer, pl_module, "test")

    def _report(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        datamodule: Any = getattr(trainer, "datamodule", None)
        augmentation = getattr(datamodule, f"{split}_aug", None) or getattr(datamodule, "aug", None)
        if not isinstance(augmentation, ChipAugmentation):
            return
        # The counter of a process without batches is still on the CPU.
        total = trainer.strategy.reduce(augmentation.meaningless.to(pl_module.device), reduce_op="sum")
        augmentation.reset_meaningless()
        if (count := int(total)) and split not in self._printed and trainer.is_global_zero:
            self._printed.add(split)
            _log.info(f"{split}: {counted(count, 'value')} not finite or beyond 1e30, counted as nodata")
