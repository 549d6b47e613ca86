"""Datasets: samples of tensors from files, derived from TorchGeo's base classes."""

from ..deprecated import old_names
from .chips.base import Chip, ChipDataset
from .chips.chip_folder import ChipFolder
from .chips.classified_chips import ClassifiedChips
from .chips.hls_burn_scars import HLSBurnScars
from .chips.multi_temporal_crop import MultiTemporalCropClassification
from .chips.sen1floods11 import Sen1Floods11
from .chips.split_lists import read_splits
from .chips.unlabelled_chips import UnlabelledChips
from .chips.value_folder import ValueChipFolder
from .scenes.cdl import CDLLabels
from .scenes.composites import TemporalComposite
from .scenes.dataset import SceneDataset
from .scenes.labels import LabelPolygons, LabelRaster
from .scenes.value_labels import ValueRaster

__all__ = [
    "CDLLabels",
    "Chip",
    "ChipDataset",
    "ChipFolder",
    "ClassifiedChips",
    "HLSBurnScars",
    "LabelPolygons",
    "LabelRaster",
    "MultiTemporalCropClassification",
    "SceneDataset",
    "Sen1Floods11",
    "TemporalComposite",
    "UnlabelledChips",
    "ValueChipFolder",
    "ValueRaster",
    "read_splits",
]

__getattr__ = old_names(__name__)
