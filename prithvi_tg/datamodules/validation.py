"""Whether a run has a validation set."""

from typing import Any

from lightning.pytorch import Trainer


def has_validation(trainer: Trainer, data: Any = None) -> bool:
    """Whether a run has a validation set that it uses.

    Args:
        trainer: The trainer.
        data: The data module; by default that of the trainer. Those of other packages are taken to have one.
    """
    data = getattr(trainer, "datamodule", None) if data is None else data
    return trainer.limit_val_batches != 0 and bool(getattr(data, "validates", True))
