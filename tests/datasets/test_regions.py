"""Splits that do not leak: regions, the windows drawn from them, and pixels that are scored once."""

from itertools import pairwise

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.crs import CRS

from prithvi_tg.datasets.scenes.scored_windows import ScoredWindows
from prithvi_tg.datasets.scenes.splits import (
    Region,
    Regions,
    split_by_blocks,
    split_by_polygons,
    whole_region,
)
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers.grid import Grid
from prithvi_tg.samplers import RandomWindowGeoSampler, UnrepeatedSampler


def grid_of(height, width, pixel=10.0):
    return Grid(CRS.from_epsg(32615), Affine(pixel, 0, 600000, 0, -pixel, 4200000), height, width)


def pixels(grid, query, size):
    """Row and column of the window's top left pixel; it lies on the grid."""
    x, y, _ = query
    row, column = grid.row_and_column(x.start, y.stop)
    assert abs(row - round(row)) < 1e-6
    assert abs(column - round(column)) < 1e-6
    return round(row), round(column)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(64, 400), st.integers(64, 400), st.integers(8, 40), st.integers(0, 24), st.integers(0, 12),
    st.integers(0, 99), st.sampled_from([10.0, 1 / 3]),
)  # fmt: skip
def test_no_training_window_is_within_the_buffer_of_another_split(
    height, width, window, extra, buffer, seed, pixel
):
    grid, block = grid_of(height, width, pixel), window + extra
    if (height // block) * (width // block) < 3:
        return
    try:
        regions = split_by_blocks(grid, block, window, (0.5, 0.25, 0.25), buffer, seed)
    except ConfigError:
        if not buffer:  # only a buffer may leave no room
            raise
        return
    owner = np.full((height, width), -1)
    for number, region in enumerate(regions.splits.values()):
        for top, left, bottom, right in region.boxes:
            assert (owner[top:bottom, left:right] == -1).all()
            owner[top:bottom, left:right] = number
    assert (owner >= 0).all()
    sampler = RandomWindowGeoSampler(grid, regions.splits["train"].roi, window, 50, seed=seed)
    for query in sampler:
        row, column = pixels(grid, query, window)
        assert min(row, column) >= 0
        assert row + window <= height
        assert column + window <= width
        near = owner[
            max(0, row - buffer) : row + window + buffer, max(0, column - buffer) : column + window + buffer
        ]
        assert (near == 0).all()


def test_windows_differ_by_epoch_and_process_and_repeat_with_the_seed():
    grid = grid_of(200, 200)
    ground = whole_region(grid, shapely.box(*grid.bounds)).roi

    def drawn(epoch=0, seed=0, rank=0, size=1):
        sampler = RandomWindowGeoSampler(grid, ground, 32, 41, seed=seed, rank=rank, world_size=size)
        sampler.set_epoch(epoch)
        queries = [pixels(grid, query, 32) for query in sampler]
        assert len(queries) == len(sampler)
        return queries

    assert drawn() == drawn()
    assert drawn() != drawn(epoch=1)
    assert drawn() != drawn(seed=1)
    both = [drawn(rank=rank, size=2) for rank in (0, 1)]
    assert [place for pair in zip(*both, strict=True) for place in pair] == drawn()[:40]


def test_the_area_lost_to_the_buffer_is_reported():
    grid = grid_of(400, 400)
    without, with_ = (split_by_blocks(grid, 100, 32, buffer=buffer) for buffer in (0, 16))
    assert without.lost == 0
    assert 0.05 < with_.lost < 0.6
    area = {name: region.roi.area for name, region in without.splits.items()}
    assert with_.splits["train"].roi.area == pytest.approx(area["train"] * (1 - with_.lost))
    assert with_.plot().axes[0].get_title().startswith("splits; the buffer costs")
    assert without.plot().axes[0].get_title() == "splits"


@pytest.mark.parametrize(("height", "width"), [(1000, 700), (300, 1000)])
def test_the_legend_and_the_coordinates_of_a_picture_of_splits_cover_nothing(height, width):
    figure = split_by_blocks(grid_of(height, width), 100, 32, buffer=16).plot()
    assert (figure.get_size_inches()[1] < 4) == (height < width)  # as wide or high as the area
    figure.draw_without_rendering()
    (axis,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation", "test"]
    assert not legend.get_window_extent().overlaps(axis.get_tightbbox())
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("x (m), EPSG:32615", "y (m)")
    boxes = [label.get_window_extent() for label in axis.get_xticklabels() if label.get_text()]
    assert len(boxes) > 1
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_splits_by_time_share_their_area():
    grid = grid_of(100, 100)
    whole = whole_region(grid, shapely.box(*grid.bounds))
    assert not Regions(grid, {"train": whole, "val": whole}).are_apart
    assert Regions(grid, {"train": whole}).are_apart
    assert split_by_blocks(grid, 32, 32).are_apart


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"block": 20}, "block: 20 is smaller than a window, 32"),
        ({"block": 150}, "block: 150 gives 1 block of a scene of 200 x 200, too few for 3 splits"),
        (
            {"block": 64, "fractions": (0.5, 0.2, 0.2)},
            "must be three shares of train, val, test that add up to 1",
        ),
        ({"block": 64, "buffer": 60}, "buffer: 60 pixels leave no room for a training window of 32"),
    ],
)
def test_splits_without_room_for_a_window_are_errors(arguments, words):
    with pytest.raises(ConfigError, match=words):
        split_by_blocks(grid_of(200, 200), window=32, **arguments)


def polygons(folder, shapes):
    frame = geopandas.GeoDataFrame(
        {"split": [name for name, _ in shapes]}, geometry=[shape for _, shape in shapes], crs="EPSG:32615"
    )
    frame.to_file(folder / "splits.gpkg")
    return folder / "splits.gpkg"


def test_windows_lie_inside_the_given_polygons(tmp_path):
    grid = grid_of(200, 200)
    left, bottom, right, top = grid.bounds
    triangle = shapely.Polygon([(left, top), (left, bottom), (right - 300, top)])
    corner = shapely.box(right - 400, bottom, right, bottom + 400)
    path = polygons(tmp_path, [("train", triangle), ("val", corner)])
    regions = split_by_polygons(grid, path, window=32)
    for query in RandomWindowGeoSampler(grid, regions.splits["train"].roi, 32, 40):
        x, y, _ = query
        assert triangle.buffer(1e-3).covers(shapely.box(x.start, y.start, x.stop, y.stop))
    assert regions.splits["val"].boxes == ((160, 160, 200, 200),)
    with pytest.raises(DataError, match="polygons of train and val overlap"):
        split_by_polygons(grid, polygons(tmp_path, [("train", triangle), ("val", triangle)]))
    with pytest.raises(DataError, match="split is 'holdout'; choose from train, val, test"):
        split_by_polygons(grid, polygons(tmp_path, [("holdout", corner)]))
    with pytest.raises(DataError, match=r"has no attribute 'fold'; it has split, geometry"):
        split_by_polygons(grid, path, "fold")


def test_outlines_of_neighbours_that_differ_by_rounding_do_not_overlap(tmp_path):
    grid = grid_of(64, 64)
    left, bottom, right, top = grid.bounds
    middle, rounding = (left + right) / 2, 1e-6 * grid.transform.a
    halves = [
        ("train", shapely.box(left, bottom, middle + rounding, top)),
        ("val", shapely.box(middle, bottom, right, top)),
    ]
    regions = split_by_polygons(grid, polygons(tmp_path, halves)).splits
    assert regions["train"].roi.intersection(regions["val"].roi).area == 0
    wider = [halves[0], ("val", shapely.box(middle - grid.transform.a, bottom, right, top))]
    with pytest.raises(DataError, match="polygons of train and val overlap"):
        split_by_polygons(grid, polygons(tmp_path, wider))


class Numbered(torch.utils.data.Dataset):
    """The label of each pixel is its number."""

    def __init__(self, grid):
        self.grid = grid
        always = pd.IntervalIndex.from_tuples([(pd.Timestamp.min, pd.Timestamp.max)], closed="both")
        self.index = geopandas.GeoDataFrame(geometry=[shapely.box(*grid.bounds)], index=always)

    def __getitem__(self, query):
        _, y, _ = query
        row, column = pixels(self.grid, query, None)
        height = round((y.stop - y.start) / abs(self.grid.transform.e))
        rows, columns = np.mgrid[row : row + height, column : column + height]
        inside = (rows < self.grid.height) & (columns < self.grid.width)
        return {"mask": torch.from_numpy(np.where(inside, 1000 + rows * self.grid.width + columns, 255))}


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 150), st.integers(1, 150), st.integers(4, 50), st.floats(0.3, 1), st.integers(1, 3),
    st.integers(0, 30),
)  # fmt: skip
def test_every_pixel_of_a_split_is_scored_once_by_any_number_of_processes(
    height, width, size, overlap, processes, extra
):
    grid = grid_of(height, width)
    block = size + extra
    if (height // block) * (width // block) >= 3:
        region = split_by_blocks(grid, block, size, (0.4, 0.6, 0.0)).splits["val"]
    else:
        region = whole_region(grid, shapely.box(*grid.bounds))
    windows = ScoredWindows(Numbered(grid), grid, region, size, max(1, int(size * overlap)))
    seen = np.zeros(height * width, int)
    for rank in range(processes):
        for index in UnrepeatedSampler(windows, rank, processes):
            labels = windows[index]["mask"].numpy()
            seen[labels[labels >= 1000] - 1000] += 1
    expected = np.zeros((height, width), int)
    for top, left, bottom, right in region.boxes:
        expected[top:bottom, left:right] = 1
    np.testing.assert_array_equal(seen.reshape(height, width), expected)


def test_pixels_beyond_a_polygon_are_not_scored():
    grid = grid_of(40, 40)
    left, bottom, right, top = grid.bounds
    ground = shapely.Polygon([(left, bottom), (left, top), (right, top)])
    windows = ScoredWindows(Numbered(grid), grid, Region(ground, ((0, 0, 40, 40),)), 16)
    scored = np.concatenate(
        [labels[labels >= 1000] for labels in (windows[k]["mask"].numpy() for k in range(len(windows)))]
    )
    rows, columns = np.divmod(np.sort(scored) - 1000, 40)
    assert len(set(scored)) == len(scored)
    # Pixels whose centre lies above the diagonal.
    assert (rows + columns <= 39).all()
    assert len(scored) >= 40 * 39 // 2
