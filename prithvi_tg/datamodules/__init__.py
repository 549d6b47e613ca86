"""Data modules: batches on the device, on TorchGeo's base classes."""

from .chips import ChipDataModule, Sen1Floods11DataModule
from .scenes import SceneDataModule

__all__ = ["ChipDataModule", "SceneDataModule", "Sen1Floods11DataModule"]
