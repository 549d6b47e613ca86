"""Rasters on another grid: nodata is determined before resampling, and never affects neighbours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import transform
from rasterio.windows import Window

from prithvi_tg.readers import warp
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
def test_neighbours_without_data_never_affect_a_value(fill):
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


def test_the_same_grid_is_read_without_resampling():
    values = np.random.default_rng(0).random((1, 300, 320), np.float32)
    grid = shifted(30 * 17, -30 * 5)
    found = whole(reader(OWN, grid, values), grid)
    assert (found.values[0, :295, :303] == values[0, 5:, 17:]).all()
    assert not found.valid[0, 295:].any()
    assert not found.valid[0, :, 303:].any()


def test_a_pixel_does_not_depend_on_its_window():
    values = np.random.default_rng(0).random((1, 300, 320), np.float32)
    (x,), (y,) = transform(UTM, DEGREES, [600000], [4200000])
    grid = Grid(DEGREES, Affine(3e-4, 0, x, 0, -3e-4, y), 280, 290)
    found = whole(reader(OWN, grid, values), grid)
    window = Window(200, 130, 90, 150)
    part = reader(OWN, grid, values).read(window, (150, 90))
    assert np.array_equal(part.values, found.values[:, 130:, 200:], equal_nan=True)
    assert found.valid.mean() > 0.5


@pytest.mark.parametrize("degrees", [1, 30, 45, 90])
def test_a_linear_ramp_stays_linear_on_a_rotated_grid(degrees):
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


def test_a_raster_outside_the_window_gives_nodata():
    far = shifted(transform=Affine(30, 0, 200000, 0, -30, 1000000), height=40, width=40)
    found = whole(reader(OWN, far, np.ones((1, 300, 320), np.float32)), far)
    assert not found.valid.any()
    assert np.isnan(found.values).all()


def fine(pixel=1.0):
    """A grid of pixels of 1 m, and one of pixels of 10 m that covers most of it, shifted by part of a pixel."""
    own = Grid(UTM, Affine(pixel, 0, 600000, 0, -pixel, 4200000), 700, 800)
    return own, Grid(UTM, Affine(10 * pixel, 0, 600023.4, 0, -10 * pixel, 4200000 - 31.7), 60, 70)


@pytest.mark.parametrize("most_values", [2**24, 2**10])
def test_much_finer_pixels_are_averaged(most_values, monkeypatch):
    monkeypatch.setattr(warp, "_MOST_VALUES", most_values)
    own, grid = fine()
    rows, columns = np.indices((700, 800))
    checkerboard = np.stack([(rows + columns) % 2, (rows // 2 + columns // 2) % 2]).astype(np.float32)
    found = whole(reader(own, grid, checkerboard), grid)
    assert found.valid.all()
    assert np.abs(found.values - 0.5).max() < 0.03


def test_averages_are_at_the_place_of_their_pixels():
    own, grid = fine()
    ramp = np.indices((700, 800)).astype(np.float32) + 0.5
    found = whole(reader(own, grid, ramp), grid)
    rows, columns = np.mgrid[:60, :70] * 10.0 + 5
    assert np.abs(found.values - np.stack([rows + 31.7, columns + 23.4])).max() < 0.1


def test_averages_use_only_pixels_with_data():
    own, grid = fine()
    values = np.full((1, 700, 800), 100, np.float32)
    valid = np.random.default_rng(0).random(values.shape) < 0.5
    values[~valid] = -9999
    found = whole(reader(own, grid, values, valid), grid)
    assert np.allclose(found.values[found.valid], 100)
    assert 0.3 < found.valid.mean() < 0.7


def test_much_finer_labels_are_read_by_nearest_neighbour():
    own, grid = fine()
    labels = np.arange(700 * 800, dtype=np.float64).reshape(1, 700, 800)
    found = whole(reader(own, grid, labels.astype(np.float32), resampling=Resampling.nearest), grid)
    rows, columns = np.mgrid[:60, :70] * 10 + 5
    assert (found.values[0] == labels[0, (rows + 31.7).astype(int), (columns + 23.4).astype(int)]).all()


def test_extremely_fine_pixels_are_sampled_before_they_are_averaged():
    own = Grid(UTM, Affine(0.1, 0, 600000, 0, -0.1, 4200000), 3000, 3000)
    grid = Grid(UTM, Affine(10, 0, 600020, 0, -10, 4199980), 25, 25)
    noise = np.random.default_rng(0).random((1, 3000, 3000), np.float32)
    sizes = []

    def read(window, size):
        sizes.append(size[0] * size[1])
        rows, columns = (np.linspace(part.start, part.stop - 1, count).round().astype(int)
                         for part, count in zip(window.toslices(), size, strict=True))  # fmt: skip
        values = noise[:, rows][:, :, columns]
        return Warped(values, np.ones(values.shape, bool))

    found = whole(GridReader(own, grid, read, 1), grid)
    assert found.valid.all()
    assert np.abs(found.values - 0.5).max() < 0.1
    assert sum(sizes) < 1.6 * (25 * 32) ** 2 < noise.size
