"""Lightning tasks, derived from TorchGeo's; to change one part, subclass a task and override a method.

Public names are imported when they are first used, so modules of scores are imported without Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import PrithviTask
    from .classification import PrithviClassificationTask
    from .loading import load_task
    from .pretraining import PrithviPretrainingTask
    from .regression import PrithviPixelwiseRegressionTask
    from .segmentation import PrithviSegmentationTask

__all__ = [
    "PrithviClassificationTask",
    "PrithviPixelwiseRegressionTask",
    "PrithviPretrainingTask",
    "PrithviSegmentationTask",
    "PrithviTask",
    "load_task",
]

_HOME = {
    "PrithviClassificationTask": "classification",
    "PrithviPixelwiseRegressionTask": "regression",
    "PrithviPretrainingTask": "pretraining",
    "PrithviSegmentationTask": "segmentation",
    "PrithviTask": "base",
    "load_task": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
