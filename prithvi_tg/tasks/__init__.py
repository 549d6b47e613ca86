"""Lightning tasks, on TorchGeo's, made to be subclassed."""

from .base import PrithviTask
from .loading import load_task
from .regression import PrithviPixelwiseRegressionTask
from .segmentation import PrithviSegmentationTask

__all__ = ["PrithviPixelwiseRegressionTask", "PrithviSegmentationTask", "PrithviTask", "load_task"]
