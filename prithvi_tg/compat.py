"""The differences between TorchGeo 0.8 and 0.10, all of them here."""

try:  # TorchGeo 0.10 moved the tasks and dropped the suffix.
    from torchgeo.tasks import BaseTask
    from torchgeo.tasks import SemanticSegmentation as SemanticSegmentationTask
except ImportError:
    from torchgeo.trainers import BaseTask, SemanticSegmentationTask

__all__ = ["BaseTask", "SemanticSegmentationTask"]
