"""Data modules: batches on the device, on TorchGeo's base classes."""

from .chips import (
    ChipDataModule,
    ChipFolderDataModule,
    HLSBurnScarsDataModule,
    MultiTemporalCropDataModule,
    Sen1Floods11DataModule,
)
from .labelled_scenes import LabelledScenesDataModule
from .scenes import SceneDataModule

__all__ = [
    "ChipDataModule",
    "ChipFolderDataModule",
    "HLSBurnScarsDataModule",
    "LabelledScenesDataModule",
    "MultiTemporalCropDataModule",
    "SceneDataModule",
    "Sen1Floods11DataModule",
]
