"""Lightning tasks, derived from TorchGeo's; to change one part, subclass a task and override a method."""

from .base import PrithviTask
from .classification import PrithviClassificationTask
from .loading import load_task
from .regression import PrithviPixelwiseRegressionTask
from .segmentation import PrithviSegmentationTask

__all__ = [
    "PrithviClassificationTask",
    "PrithviPixelwiseRegressionTask",
    "PrithviSegmentationTask",
    "PrithviTask",
    "load_task",
]
