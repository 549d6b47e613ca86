"""Fine-tune Prithvi for semantic segmentation, the TorchGeo way, and turn satellite scenes into maps.

Modules, from the ground up; each imports only from those before it:

* ``errors``, ``files``, ``spec``, ``bands``, ``windows``, ``compat``, ``plotting``: names, statistics, window
  geometry, TorchGeo versions.
* ``models``: `PrithviViT`, necks and heads, their fusion, `EncoderDecoder`, sliding inference; pure torch.
* ``hub``, ``checkpoints``: files by address; loading of every published format, with a report.
* ``readers``: rasters and quality layers, the one rule for each question.
* ``datasets``: chips, scenes, granules, labels, synthetic data, split lists.
* ``samplers``: geo-samplers.
* ``augmentations``, ``datamodules``: Kornia on the device; batches of chips, and of windows read from scenes.
* ``tasks``: the task, losses, metrics, schedules.
* ``mapping``: logits of windows -> blended rows -> strips on disk -> maps and their side files.
* ``areas``: samples of pixels of maps, and areas with intervals; no torch.
* ``reporting``: tables and files of scores, chips and their intervals, confusion matrices, records, report.
* ``exporting``: exported models, their items and cards, the hub.
* ``checks``, ``studies``: data checks before training; many runs in parallel.
* ``callbacks``, ``commands``, ``cli``, ``__main__``: Lightning callbacks; the commands.

Public names are imported when they are first used, so ``import prithvi_tg`` is fast.
"""

from importlib import import_module
from typing import Any

from .deprecated import import_old_modules, old_names

__version__ = "0.1.0"

_HOME = {
    "DataSpec": "spec",
    "PrithviTGError": "errors",
    "PrithviViT": "models",
    "EncoderDecoder": "models",
    "create_encoder": "models",
    "slide_inference": "models",
    "load_weights": "checkpoints",
    "ChipDataset": "datasets",
    "Sen1Floods11": "datasets",
    "ChipDataModule": "datamodules",
    "ChipFolderDataModule": "datamodules",
    "ClassifiedChipsDataModule": "datamodules",
    "HLSBurnScarsDataModule": "datamodules",
    "LabelledScenesDataModule": "datamodules",
    "MultiTemporalCropDataModule": "datamodules",
    "Sen1Floods11DataModule": "datamodules",
    "UnlabelledChipsDataModule": "datamodules",
    "UnlabelledScenesDataModule": "datamodules",
    "ValueChipFolderDataModule": "datamodules",
    "PrithviClassificationTask": "tasks",
    "PrithviPixelwiseRegressionTask": "tasks",
    "PrithviPretrainingTask": "tasks",
    "PrithviSegmentationTask": "tasks",
    "load_task": "tasks",
    "classify_scenes": "mapping",
    "embed_scene": "mapping",
    "map_scene": "mapping",
    "map_strips": "mapping",
}

__all__ = ["__version__", *sorted(_HOME)]


import_old_modules()
_old_name = old_names(__name__)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        return _old_name(name)
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
