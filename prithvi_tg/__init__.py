"""Fine-tune Prithvi for semantic segmentation, the TorchGeo way, and turn satellite scenes into maps.

Public names are loaded when they are first used, so that ``import prithvi_tg`` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "DataSpec": "spec",
    "PrithviTGError": "errors",
    "PrithviViT": "models",
    "PrithviSegmenter": "models",
    "create_encoder": "models",
    "slide_inference": "models",
    "load_weights": "checkpoints",
    "ChipDataset": "datasets",
    "Sen1Floods11": "datasets",
    "ChipDataModule": "datamodules",
    "Sen1Floods11DataModule": "datamodules",
    "PrithviSegmentationTask": "tasks",
    "load_task": "tasks",
    "map_scene": "mapping",
    "map_strips": "mapping",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
