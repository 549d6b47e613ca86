"""Data modules: batches on the device, on TorchGeo's base classes."""

from ..deprecated import old_names
from .chips import (
    ChipDataModule,
    ChipFolderDataModule,
    HLSBurnScarsDataModule,
    MultiTemporalCropDataModule,
    Sen1Floods11DataModule,
    ValueChipFolderDataModule,
)
from .labelled_scenes import LabelledScenesDataModule

__all__ = [
    "ChipDataModule",
    "ChipFolderDataModule",
    "HLSBurnScarsDataModule",
    "LabelledScenesDataModule",
    "MultiTemporalCropDataModule",
    "Sen1Floods11DataModule",
    "ValueChipFolderDataModule",
]

__getattr__ = old_names(__name__)
