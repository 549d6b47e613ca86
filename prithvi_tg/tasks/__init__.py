"""Lightning tasks, on TorchGeo's, made to be subclassed."""

from .loading import load_task
from .segmentation import PrithviSegmentationTask

__all__ = ["PrithviSegmentationTask", "load_task"]
