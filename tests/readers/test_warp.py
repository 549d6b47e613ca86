"""Rasters on the pixels of another grid: validity is decided first, and never bleeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import transform
from rasterio.windows import Window

from prithvi_tg.readers.grid import Grid
from prithvi_tg.readers.warp import GridReader, Warped

UTM, DEGREES = CRS.from_epsg(32615), CRS.from_epsg(4326)
OWN = Grid(UTM, Affine(30, 0, 600000, 0, -30, 4200000), 300, 320)


def reader(own, grid, values, valid=None, resampling=Resampling.bilinear):
    valid = np.ones(values.shape, bool) if valid is None else valid

    def read(window, size):
        rows, columns = window.toslices()
        assert size == values[0, rows, columns].shape
        return Warped(values[:, rows, columns], valid[:, rows, columns])

    return GridReader(own, grid, read, len(values), resampling=resampling)


def whole(found, grid):
    return found.read(Window(0, 0, grid.width, grid.height), (grid.height, grid.width))


def shifted(dx=0.0, dy=0.0, **changes):
    a, b, c, d, e, f = tuple(OWN.transform)[:6]
    grid = {"crs": UTM, "transform": Affine(a, b, c + dx, d, e, f + dy), "height": 300, "width": 320}
    return Grid(**(grid | changes))


@pytest.mark.parametrize("fill", [np.nan, 0, -9999, 65535, 1e36])
def test_a_neighbour_without_data_never_bleeds_into_a_value(fill):
    values = np.full((2, 300, 320), 100, np.float32)
    valid = np.ones(values.shape, bool)
    values[0, 100:150], valid[0, 100:150] = fill, False
    grid = shifted(13, 7)
    found = whole(reader(OWN, grid, values, valid), grid)
    assert (found.values[found.valid] == 100).all()
    assert found.valid[1, :-1, :-1].all()
    assert 49 * 319 <= (~found.valid[0, :-1, :-1]).sum() <= 51 * 319


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 29), st.floats(0, 29), st.sampled_from([20.0, 30.0, 45.0]))
def test_validity_is_that_of_the_nearest_pixel(dx, dy, pixel):
    valid = np.random.default_rng(0).random((1, 300, 320)) < 0.5
    grid = shifted(transform=Affine(pixel, 0, 600000 + dx, 0, -pixel, 4200000 - dy), height=60, width=70)
    found = whole(reader(OWN, grid, np.ones(valid.shape, np.float32), valid), grid)
    rows, columns = np.mgrid[:60, :70] + 0.5
    row, column = OWN.row_and_column(grid.transform.c + columns * pixel, grid.transform.f - rows * pixel)
    undecided = (abs(row - row.round()) < 0.02) | (abs(column - column.round()) < 0.02)
    assert ((found.valid[0] == valid[0, row.astype(int), column.astype(int)]) | undecided).all()


def test_the_same_lattice_is_read_without_resampling():
    values = np.random.default_rng(0).random((1, 300, 320), np.float32)
    grid = shifted(30 * 17, -30 * 5)
    found = whole(reader(OWN, grid, values), grid)
    assert (found.values[0, :295, :303] == values[0, 5:, 17:]).all()
    assert not found.valid[0, 295:].any()
    assert not found.valid[0, :, 303:].any()


def test_a_pixel_does_not_depend_on_the_window_that_it_is_read_by():
    values = np.random.default_rng(0).random((1, 300, 320), np.float32)
    (x,), (y,) = transform(UTM, DEGREES, [600000], [4200000])
    grid = Grid(DEGREES, Affine(3e-4, 0, x, 0, -3e-4, y), 280, 290)
    found = whole(reader(OWN, grid, values), grid)
    window = Window(200, 130, 90, 150)
    part = reader(OWN, grid, values).read(window, (150, 90))
    assert np.array_equal(part.values, found.values[:, 130:, 200:], equal_nan=True)
    assert found.valid.mean() > 0.5


@pytest.mark.parametrize("degrees", [1, 30, 45, 90])
def test_a_linear_ramp_stays_one_when_the_grid_is_turned(degrees):
    ramp = np.mgrid[:300, :320][1].astype(np.float32)[None] + 0.5
    turned = Affine.translation(604800, 4195500) * Affine.rotation(degrees) * Affine.scale(30, -30)
    grid = shifted(transform=turned, height=60, width=70)
    found = whole(reader(OWN, grid, ramp), grid)
    rows, columns = np.mgrid[:60, :70] + 0.5
    _, expected = OWN.row_and_column(*(turned * (columns, rows)))
    assert found.valid.all()
    assert np.abs(found.values[0] - expected).max() < 0.02


@pytest.mark.parametrize("turn", ["south_up", "east_left"])
def test_flipped_rasters_are_permuted_exactly(turn):
    values = np.random.default_rng(0).random((1, 300, 320), np.float32)
    if turn == "south_up":
        own = shifted(transform=Affine(30, 0, 600000, 0, 30, 4200000 - 300 * 30))
        stored = values[:, ::-1]
    else:
        own = shifted(transform=Affine(-30, 0, 600000 + 320 * 30, 0, -30, 4200000))
        stored = values[:, :, ::-1]
    found = whole(reader(own, OWN, stored), OWN)
    assert found.valid.all()
    assert np.allclose(found.values, values, rtol=1e-6)


def test_a_raster_of_the_whole_world_covers_a_window_in_utm():
    world = Grid(DEGREES, Affine(1, 0, -180, 0, -1, 90), 180, 360)
    numbers = np.arange(180 * 360, dtype=np.float32).reshape(1, 180, 360)
    found = whole(reader(world, OWN, numbers, resampling=Resampling.nearest), OWN)
    (x,), (y,) = transform(UTM, DEGREES, [600000 + 15], [4200000 - 15])
    assert found.valid.all()
    assert found.values[0, 0, 0] == numbers[0, int(90 - y), int(x + 180)]


def test_a_raster_elsewhere_gives_no_data():
    far = shifted(transform=Affine(30, 0, 200000, 0, -30, 1000000), height=40, width=40)
    found = whole(reader(OWN, far, np.ones((1, 300, 320), np.float32)), far)
    assert not found.valid.any()
    assert np.isnan(found.values).all()
