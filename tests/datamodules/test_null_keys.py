"""Keys of data modules that a configuration sets to null: not given, or one line that names the key."""

import inspect
from contextlib import suppress

import pytest

from prithvi_tg.datamodules import (
    ChipDataModule,
    ChipFolderDataModule,
    LabelledScenesDataModule,
    Sen1Floods11DataModule,
    ValueChipFolderDataModule,
)
from prithvi_tg.datamodules.labelled_scenes import BlockSplit, PolygonSplit
from prithvi_tg.datasets import Sen1Floods11
from prithvi_tg.datasets.scenes.composites import TemporalComposite
from prithvi_tg.datasets.synthetic_values import write_biomass
from prithvi_tg.errors import ConfigError, PrithviTGError
from prithvi_tg.tasks import PrithviSegmentationTask

BANDS = {"bands": ["RED", "NIR_NARROW"], "mean": [0.1, 0.3], "std": [0.04, 0.014], "scale": 1e-4}
VALUES = {"values": ["biomass"], "value_mean": [150.0], "value_std": [87.0]}
STORED = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
SENTINEL2 = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"]


def keys(kind):
    """All keys of a data module and of its base classes of this package, but that of a published dataset."""
    owners = [one for one in kind.__mro__ if one.__module__.startswith("prithvi_tg")]
    known = {
        key for one in owners if "__init__" in vars(one) for key in inspect.signature(one.__init__).parameters
    }
    return sorted(known - {"self", "kwargs", "root"})


@pytest.fixture(scope="module")
def settings(tmp_path_factory, flood_root):
    """Data module -> its settings."""
    root = write_biomass(tmp_path_factory.mktemp("values") / "data", chips=6, size=64)
    hand = f"{flood_root}/{Sen1Floods11.folder}"
    chips = {"batch_size": 1, "crop_size": 32}
    return {
        LabelledScenesDataModule: {
            "images": str(root / "scene.tif"), "labels": str(root / "scene_label.tif"), "window": 32,
            "windows_per_epoch": 8, "split": BlockSplit(48, (0.5, 0.25, 0.25)), **BANDS, **VALUES,
        },
        ValueChipFolderDataModule: {
            "images": str(root / "chips/*_image.tif"), "labels": str(root / "chips/*_biomass.tif"),
            "splits": str(root / "splits.csv"), "file_bands": STORED, **chips, **BANDS, **VALUES,
        },
        ChipFolderDataModule: {
            "images": f"{hand}/S2Hand/*_S2Hand.tif", "labels": f"{hand}/LabelHand/*_LabelHand.tif",
            "splits": str(flood_root / "splits.csv"), "classes": {0: "Land", 1: "Water"}, "sensor": "sentinel2",
            "ignored_labels": [-1], "file_bands": SENTINEL2, **chips, **BANDS,
        },
        Sen1Floods11DataModule: {"root": flood_root, "splits": flood_root / "splits.csv", **chips},
    }  # fmt: skip


CASES = [
    (kind, key)
    for kind in (LabelledScenesDataModule, ValueChipFolderDataModule, ChipFolderDataModule, Sen1Floods11DataModule)
    for key in keys(kind)
]  # fmt: skip


@pytest.mark.parametrize(("kind", "key"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_null_is_a_default_or_an_error_of_the_package(settings, kind, key):
    with suppress(PrithviTGError):
        data = kind(**settings[kind] | {key: None})
        data.setup("fit")
        next(iter(data.train_dataloader()))


def test_null_stands_for_the_default_and_keeps_a_meaning_of_its_own(settings):
    made = settings[LabelledScenesDataModule]
    data = LabelledScenesDataModule(**made | {"file_bands": None, "batch_size": None, "seed": None})
    assert (data.spec.input.file_bands, data.batch_size, data.seed) == ((), 4, 0)
    chips = Sen1Floods11DataModule(**settings[Sen1Floods11DataModule] | {"crop_size": None, "bands": None})
    assert chips.crop_size is None  # whole chips
    assert len(chips.spec.input.bands) == 6
    with pytest.raises(ConfigError, match=r"images: null; give a value"):
        LabelledScenesDataModule(**made | {"images": None})
    with pytest.raises(ConfigError, match=r"root: not given; Sen1Floods11 needs the folder of its files"):
        ChipDataModule(Sen1Floods11)


def test_null_in_a_part_of_a_configuration_stands_for_the_default():
    assert BlockSplit(64, None, None, None) == BlockSplit(64)
    assert TemporalComposite(dates=("2020-01-01",), periods=None).periods == ()
    assert PrithviSegmentationTask("nano", num_classes=2, lr=None, window=None).hparams["lr"] == 1.5e-5
    for part, key in ((BlockSplit, "block"), (PolygonSplit, "path")):
        with pytest.raises(ConfigError, match=f"{key}: null; give a value"):
            part(None)
