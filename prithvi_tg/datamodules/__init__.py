"""Data modules: batches on the device, derived from TorchGeo's base classes."""

from ..deprecated import old_names
from .chips import (
    ChipDataModule,
    ChipFolderDataModule,
    HLSBurnScarsDataModule,
    MultiTemporalCropDataModule,
    Sen1Floods11DataModule,
)
from .classified_chips import ClassifiedChipsDataModule
from .labelled_scenes import LabelledScenesDataModule
from .unlabelled_chips import UnlabelledChipsDataModule
from .unlabelled_scenes import UnlabelledScenesDataModule
from .value_chips import ValueChipFolderDataModule

__all__ = [
    "ChipDataModule",
    "ChipFolderDataModule",
    "ClassifiedChipsDataModule",
    "HLSBurnScarsDataModule",
    "LabelledScenesDataModule",
    "MultiTemporalCropDataModule",
    "Sen1Floods11DataModule",
    "UnlabelledChipsDataModule",
    "UnlabelledScenesDataModule",
    "ValueChipFolderDataModule",
]

__getattr__ = old_names(__name__)
