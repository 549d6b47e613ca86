"""Lightning tasks, on TorchGeo's, made to be subclassed."""

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
