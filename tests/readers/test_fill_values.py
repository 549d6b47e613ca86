"""A fill value without a nodata tag is named by maps, checks and statistics, and does not disturb other checks."""

import warnings

import numpy as np
import pytest
import rasterio

from prithvi_tg.checks import check_scenes
from prithvi_tg.commands.stats import training_statistics
from prithvi_tg.datamodules import LabelledScenesDataModule
from prithvi_tg.datamodules.scene_splits import BlockSplit
from prithvi_tg.mapping.row_reader import Rows
from prithvi_tg.mapping.unit_check import UnitCheck
from prithvi_tg.readers.fill_values import FillSearch
from prithvi_tg.readers.formats import InputOptions, find_inputs, resolve_scene
from prithvi_tg.readers.scene import SceneReader
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

BANDS, MEAN, STD = ("RED", "GREEN", "NIR_NARROW"), (0.05, 0.08, 0.25), (0.01, 0.01, 0.05)
SPEC = DataSpec(InputSpec(BANDS, MEAN, STD, scale=1e-4), ClassTarget(("Land", "Water")))


def pixels(side=96, seed=0):
    """Stored values (3, side, side), uint16."""
    shape = (3, side, side)
    values = np.random.default_rng(seed).normal(
        np.reshape(MEAN, (3, 1, 1)), np.reshape(STD, (3, 1, 1)), shape
    )
    return (np.clip(values, 0.001, 1) * 1e4).astype(np.uint16)


def write(path, values, descriptions=None, **profile):
    profile |= {
        "count": len(values),
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype,
    }
    profile |= {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(5e5, 5e6, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(values)
        if descriptions:
            file.descriptions = descriptions
    return str(path)


def with_fill(values, value, side=24):
    values = values.copy()
    values[:, :side, :side] = value
    return values


@pytest.mark.parametrize("value", [0, 65535])
def test_a_value_of_all_bands_is_found_in_several_parts(value):
    search, filled = FillSearch(), with_fill(pixels(), value)
    for part in np.split(filled.astype(np.float32), 4, axis=1):
        search.add(part * np.float32(1e-4))
    assert search.found(1.0) == (pytest.approx(value * 1e-4), 24 * 24, 24 * 24 / 96**2)


@pytest.mark.parametrize("bands", [3, 2])
def test_natural_values_and_values_of_two_bands_are_no_fill(bands):
    search = FillSearch()
    search.add(pixels()[:bands] * 1e-4 if bands == 3 else with_fill(pixels(), 0)[:bands] * 1e-4)
    assert search.found(1.0) is None


def test_saturated_clouds_are_no_fill():
    search = FillSearch()
    search.add(with_fill(pixels(), 16000) * 1e-4)
    assert search.found(1.0) is None


def test_pixels_that_lack_data_are_not_counted():
    search, filled = FillSearch(), with_fill(pixels(), 65535)
    search.add(filled * 1e-4, filled < 65535)
    assert search.found(1.0) is None


def said_of(path, bands=(), nodata=()):
    """Warnings of the check of a scene that is mapped."""
    scene = resolve_scene(find_inputs([path])[0], SPEC.input, InputOptions(bands, nodata=nodata))
    check = UnitCheck(scene, SPEC.input)
    with warnings.catch_warnings(record=True) as said, SceneReader(scene, SPEC.input) as reader:
        warnings.simplefilter("always")
        check.add(Rows.of(0, reader.read_stored(0, reader.scene.grid.height)))
        check.judge()
    return [str(one.message) for one in said]


def test_a_map_names_the_fill_value_and_still_finds_bands_in_another_order(tmp_path):
    path = write(tmp_path / "scene.tif", with_fill(pixels(700), 65535, 200))
    (fill,) = said_of(path)
    assert "8.4 % of the pixels are 65535 in all bands" in fill
    assert fill.endswith("give nodata=[65535]")
    assert said_of(path, nodata=(65535.0,)) == []
    fill, order = said_of(path, (3, 2, 1))
    assert "its bands may be in another order" in order


def module(folder, **options):
    images = write(folder / "scene.tif", with_fill(pixels(), 65535))
    labels = write(folder / "label.tif", np.random.default_rng(1).integers(0, 2, (1, 96, 96), np.uint8))
    return LabelledScenesDataModule(
        images=images, labels=labels, classes={0: "Land", 1: "Water"}, bands=BANDS, mean=MEAN, std=STD, scale=1e-4,
        split=BlockSplit(96, (1.0, 0.0, 0.0)), window=32, windows_per_epoch=4, batch_size=2, **options,
    )  # fmt: skip


def test_check_names_the_fill_value_and_no_other_unit(tmp_path):
    findings = [one for one in check_scenes(module(tmp_path)) if one.severity != "ok"]
    (fill,) = [one for one in findings if "in all bands" in one.message]
    assert fill.message == "6.2 % of the pixels are 65535 in all bands"
    assert "set data.nodata: [65535]" in fill.advice
    assert not any("times as large" in one.message or "deviations off" in one.message for one in findings)


def test_nodata_of_scenes_holds_without_file_bands(tmp_path):
    data = module(tmp_path, nodata=[65535])
    assert not any("in all bands" in one.message for one in check_scenes(data))
    found = training_statistics(data.scored_windows("train", *data.open_and_split("validate")), data.spec)
    np.testing.assert_allclose(found["mean"], MEAN, rtol=0.02)


def test_statistics_of_pixels_with_a_fill_value_give_a_warning(tmp_path):
    data = module(tmp_path)
    windows = data.scored_windows("train", *data.open_and_split("validate"))
    with pytest.warns(UserWarning, match=r"nodata: 6\.2 % .* set data.nodata: \[65535\]"):
        training_statistics(windows, data.spec)


def test_a_scene_without_descriptions_has_its_bands_where_the_training_scenes_had_them(tmp_path):
    images = write(tmp_path / "scene.tif", pixels()[[2, 0, 1]], ("NIR_NARROW", "RED", "GREEN"))
    labels = write(tmp_path / "label.tif", np.random.default_rng(1).integers(0, 2, (1, 96, 96), np.uint8))
    data = LabelledScenesDataModule(
        images=images, labels=labels, classes={0: "Land", 1: "Water"}, bands=BANDS, mean=MEAN, std=STD, scale=1e-4,
        split=BlockSplit(96, (1.0, 0.0, 0.0)), window=32, windows_per_epoch=4, batch_size=2, nodata=[65535],
    )  # fmt: skip
    data.setup("fit")
    assert data.spec.input.file_bands == (2, 3, 1)
    path = write(tmp_path / "other.tif", pixels()[[2, 0, 1]])
    scene = resolve_scene(find_inputs([path])[0], data.spec.input, InputOptions())
    assert [channel.index for channel in scene.channels] == [2, 3, 1]
    assert "same positions as in the training data" in scene.origin
    assert scene.channels[0].nodata == (65535.0,)
