"""Datasets: samples of tensors from files, on TorchGeo's base classes."""

from .cdl import CDLLabels
from .chip_folder import ChipFolder
from .chips import Chip, ChipDataset, read_splits
from .hls_burn_scars import HLSBurnScars
from .labels import LabelPolygons, LabelRaster
from .multi_temporal_crop import MultiTemporalCropClassification
from .scene_dataset import SceneDataset
from .scene_inputs import InputOptions, find_inputs, resolve_scene
from .scenes import Scene, SceneReader
from .sen1floods11 import Sen1Floods11
from .series import Series

__all__ = [
    "CDLLabels",
    "Chip",
    "ChipDataset",
    "ChipFolder",
    "HLSBurnScars",
    "InputOptions",
    "LabelPolygons",
    "LabelRaster",
    "MultiTemporalCropClassification",
    "Scene",
    "SceneDataset",
    "SceneReader",
    "Sen1Floods11",
    "Series",
    "find_inputs",
    "read_splits",
    "resolve_scene",
]
