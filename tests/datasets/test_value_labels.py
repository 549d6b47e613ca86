"""Values of scenes: the right value on the right pixel, whatever grid the images and the labels are on."""

import math

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.warp import transform as transform_points

from prithvi_tg.datasets import ValueRaster
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.targets import ValueTarget

UTM, ALBERS = "EPSG:32615", "EPSG:5070"
LEFT, TOP = 600000, 4200000
HEIGHT = ValueTarget(("height",))


def write(path, values, left=LEFT, top=TOP, pixel=30.0, crs=UTM, dtype="float32", tags=None, **options):
    values = np.asarray(values, dtype).reshape(-1, *np.shape(values)[-2:])
    with rasterio.open(
        path, "w", "GTiff", values.shape[2], values.shape[1], len(values), crs, from_origin(left, top, pixel, pixel),
        dtype, **options,
    ) as out:  # fmt: skip
        out.write(values)
        if tags is not None:
            out.scales, out.offsets = ((tags[0],) * len(values), (tags[1],) * len(values))
    return path


def ramp(height, width, pixel=30.0):
    """Values that are linear in the coordinates of the centres of pixels."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return 0.1 * pixel * rows + 0.02 * pixel * columns


def mask_of(labels, left, top, height, width, pixel=30.0):
    place = slice(left, left + width * pixel, pixel), slice(top - height * pixel, top, pixel)
    mask = labels[*place, slice(pd.Timestamp.min, pd.Timestamp.max)]["mask"]
    assert mask.dtype == torch.float32
    return mask.numpy()


def test_values_on_the_grid_of_the_file_are_those_of_the_file(tmp_path):
    values = ramp(40, 50)
    values[3, 4], values[5, 6] = -1, np.nan
    labels = ValueRaster(write(tmp_path / "a.tif", values, nodata=-1), HEIGHT)
    expected = np.where(values == -1, np.nan, values).astype(np.float32)
    np.testing.assert_array_equal(mask_of(labels, LEFT, TOP, 40, 50), expected)
    beyond = mask_of(labels, LEFT - 60, TOP + 30, 6, 8)
    np.testing.assert_array_equal(beyond[1:, 2:], expected[:5, :6])
    assert np.isnan(beyond[0]).all()
    assert np.isnan(beyond[:, :2]).all()


def test_ignored_labels_are_no_values_whatever_the_tags_of_the_file(tmp_path):
    values = ramp(8, 8)
    values[3, 4], values[5, 6] = -9999, -1
    path = write(tmp_path / "a.tif", values, nodata=-1)
    with pytest.raises(
        DataError, match=r"set ignored_labels: \[-9999\], or mark it as nodata in each file: rio ed"
    ):
        mask_of(ValueRaster(path, HEIGHT), LEFT, TOP, 8, 8)
    labels = ValueRaster(path, ValueTarget(("height",), ignored_labels=(-9999,)))
    expected = np.where(values < 0, np.nan, values).astype(np.float32)
    np.testing.assert_array_equal(mask_of(labels, LEFT, TOP, 8, 8), expected)


def test_scale_and_offset_tags_are_used_as_for_chips(tmp_path):
    path = write(tmp_path / "a.tif", np.full((4, 4), 50), dtype="int16", tags=(0.5, 1.0))
    assert (mask_of(ValueRaster(path, HEIGHT), LEFT, TOP, 4, 4) == 26).all()
    with pytest.raises(
        ConfigError, match=r"value_scale: 2 is configured, but .*a\.tif has the tags scale 0\.5"
    ):
        ValueRaster(path, ValueTarget(("height",), scale=2.0))
    plain = write(tmp_path / "b.tif", np.full((4, 4), 50), dtype="int16")
    assert (mask_of(ValueRaster(plain, ValueTarget(("height",), scale=2.0)), LEFT, TOP, 4, 4) == 100).all()


@pytest.mark.parametrize("pixel", [30.0, 60.0, 300.0, 600.0])
def test_a_large_pixel_has_the_mean_of_the_labelled_pixels_it_covers(tmp_path, pixel):
    rng, side = np.random.default_rng(0), int(pixel // 10)
    values = rng.uniform(0, 100, (8 * side, 8 * side))
    values[rng.random(values.shape) < 0.3] = -1
    values[: math.ceil(0.65 * side)] = -1  # beyond the centre of the first row
    labels = ValueRaster(write(tmp_path / "a.tif", values, pixel=10.0, nodata=-1), HEIGHT)
    mask = mask_of(labels, LEFT, TOP, 8, 8, pixel)
    blocks = np.where(values == -1, np.nan, values).reshape(8, side, 8, side).swapaxes(1, 2).reshape(8, 8, -1)
    known = ~np.isnan(mask)
    assert not known[0].any()
    assert 0.4 < known[1:].mean() < 0.95
    # For few covered pixels, their mean; for many, the mean of means over quarters of a pixel.
    np.testing.assert_allclose(
        mask[known], np.nanmean(blocks, axis=2)[known], rtol=1e-5 if side < 8 else 0.08
    )


def test_larger_label_pixels_are_interpolated_without_unlabelled_pixels(tmp_path):
    values = ramp(20, 20, 90.0)
    values[10:, 8:] = -9999
    labels = ValueRaster(write(tmp_path / "a.tif", values, pixel=90.0, nodata=-9999), HEIGHT)
    mask = mask_of(labels, LEFT, TOP, 60, 60)
    known = np.ones((60, 60), bool)
    known[30:, 24:] = False
    np.testing.assert_array_equal(np.isnan(mask), ~known)  # the nearest label pixel decides
    inner = np.zeros((60, 60), bool)
    inner[3:28, 3:57] = inner[28:57, 3:22] = True
    np.testing.assert_allclose(mask[inner], ramp(60, 60)[inner], atol=0.02)
    assert np.nanmin(mask) >= 0  # no -9999 was blended in


@pytest.mark.parametrize("pixel", [10.0, 30.0, 95.0])
def test_values_in_another_crs_are_read_at_the_same_place(tmp_path, pixel):
    """A linear function of Albers coordinates, read on UTM pixels."""
    (x,), (y,) = transform_points(UTM, ALBERS, [LEFT], [TOP])
    left, top = x - 1500.5, y + 1500.5
    labels = ValueRaster(write(tmp_path / "a.tif", ramp(120, 120), left, top, crs=ALBERS), HEIGHT)
    labels.crs = UTM
    side = int(1500 // pixel)
    mask = mask_of(labels, LEFT, TOP, side, side, pixel)
    rows, columns = np.mgrid[:side, :side] + 0.5
    xs, ys = transform_points(UTM, ALBERS, (LEFT + pixel * columns).ravel(), (TOP - pixel * rows).ravel())
    expected = 0.1 * (top - np.array(ys)) + 0.02 * (np.array(xs) - left)
    np.testing.assert_allclose(mask.ravel(), expected, atol=0.1 if pixel <= 30 else 0.8)


def test_several_values_are_bands_with_separate_labels(tmp_path):
    values = np.stack([ramp(6, 6), 100 + ramp(6, 6)])
    values[0, :2], values[1, :, :2] = -1, -1
    target = ValueTarget(("height", "biomass"))
    first = write(tmp_path / "a.tif", values, nodata=-1)
    second = write(tmp_path / "b.tif", np.full((2, 6, 6), 7), nodata=-1)
    mask = mask_of(ValueRaster([first, second], target), LEFT, TOP, 6, 6)
    np.testing.assert_array_equal(mask, np.where(values == -1, 7, values).astype(np.float32))
    with pytest.raises(DataError, match=r"a\.tif: has 2 bands for 1 value \(height\)"):
        ValueRaster(first, HEIGHT)


def test_values_outside_the_valid_range_are_refused_when_read(tmp_path):
    labels = ValueRaster(write(tmp_path / "a.tif", ramp(6, 6)), ValueTarget(("height",), valid_range=(0, 5)))
    with pytest.raises(DataError, match=r"a\.tif: values up to .* lie outside valid_range, 0 to 5; widen"):
        mask_of(labels, LEFT, TOP, 6, 6)
