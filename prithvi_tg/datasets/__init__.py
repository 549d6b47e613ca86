"""Datasets: samples of tensors from files, on TorchGeo's base classes."""

from .chips import Chip, ChipDataset, read_splits
from .sen1floods11 import Sen1Floods11

__all__ = ["Chip", "ChipDataset", "Sen1Floods11", "read_splits"]
