"""Datasets: samples of tensors from files, on TorchGeo's base classes."""

from .chip_folder import ChipFolder
from .chips import Chip, ChipDataset, read_splits
from .hls_burn_scars import HLSBurnScars
from .multi_temporal_crop import MultiTemporalCropClassification
from .scene_dataset import SceneDataset
from .scene_inputs import InputOptions, find_inputs, resolve_scene
from .scenes import Scene, SceneReader
from .sen1floods11 import Sen1Floods11

__all__ = [
    "Chip",
    "ChipDataset",
    "ChipFolder",
    "HLSBurnScars",
    "InputOptions",
    "MultiTemporalCropClassification",
    "Scene",
    "SceneDataset",
    "SceneReader",
    "Sen1Floods11",
    "find_inputs",
    "read_splits",
    "resolve_scene",
]
