"""``prithvi-tg predict`` with a model of whole chips."""

from pathlib import Path
from typing import Any

from ..callbacks import ChipClassWriter
from ..mapping.chip_classes import ChipBatchesDataModule, plan_chip_classes
from ..readers.formats import InputOptions
from ..spec import DataSpec


def chip_class_prediction(
    settings: Any, spec: DataSpec, reading: InputOptions
) -> tuple[ChipBatchesDataModule, ChipClassWriter]:
    """The batches that the command's settings ask for, and what writes their classes.

    Raises:
        ConfigError: A file exists, or a scene is too large to be one chip.
        DataError: There is no scene, or one cannot be read.
    """
    data, run = plan_chip_classes(
        spec,
        settings.scenes,
        Path(settings.output),
        reading,
        window=settings.window,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        overwrite=settings.overwrite,
    )
    return data, ChipClassWriter(run)
