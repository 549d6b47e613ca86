"""Distant scenes: splits divide only the area with images, and the area between scenes costs no time."""

import re
import time

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from prithvi_tg.datamodules import LabelledScenesDataModule
from prithvi_tg.datamodules.labelled_scenes import BlockSplit, PolygonSplit, TimeSplit
from prithvi_tg.datasets.scenes.splits import pixel_boxes, split_by_blocks
from prithvi_tg.errors import ConfigError
from prithvi_tg.readers.scene import Grid

PIXEL = 30.0
FRACTIONS = (0.6, 0.2, 0.2)


def grid_of(height, width):
    return Grid(CRS.from_epsg(32610), Affine(PIXEL, 0, 500000, 0, -PIXEL, 4200000), height, width)


def footprint(top, left, height, width):
    x, y = 500000 + PIXEL * left, 4200000 - PIXEL * top
    return shapely.box(x, y - PIXEL * height, x + PIXEL * width, y)


scene = st.tuples(st.integers(0, 600), st.integers(0, 600), st.integers(33, 300), st.integers(33, 300))


@settings(max_examples=40, deadline=None)
@given(st.lists(scene, min_size=1, max_size=4), st.integers(1, 40), st.integers(0, 9))
def test_every_image_pixel_is_in_one_block_and_every_block_has_image_pixels(scenes, apart, seed):
    scenes = [
        (apart * top if k % 2 else top, apart * left if k % 2 else left, height, width)
        for k, (top, left, height, width) in enumerate(scenes)
    ]
    grid = grid_of(max(t + h for t, _, h, _ in scenes), max(le + w for _, le, _, w in scenes))
    footprints = [footprint(*one) for one in scenes]
    try:
        regions = split_by_blocks(grid, 32, 32, FRACTIONS, seed=seed, footprints=footprints)
    except ConfigError as error:
        assert "too few" in str(error)  # noqa: PT017
        return
    assert set(regions.splits) == {"train", "val", "test"}
    boxes = [box for region in regions.splits.values() for box in region.boxes]
    outlines = [shapely.box(left, top, right, bottom) for top, left, bottom, right in boxes]
    whole = shapely.union_all([shapely.box(le, t, le + w, t + h) for t, le, h, w in scenes])
    held = shapely.area(shapely.intersection(outlines, whole))
    assert held.min() > 0
    assert held.sum() == pytest.approx(whole.area)
    assert shapely.union_all(outlines).area == pytest.approx(shapely.area(outlines).sum())
    for region in regions.splits.values():
        area = sum((bottom - top) * (right - left) for top, left, bottom, right in region.boxes)
        assert region.roi.area == pytest.approx(area * PIXEL**2)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("sides", [(160, 160), (150, 175), (131, 290)])
def test_with_fifty_blocks_splits_have_their_shares_of_blocks_and_pixels(seed, sides):
    apart = [(0, 0, *sides), (5000, 7000, *sides[::-1])]
    grid = grid_of(6000, 8000)
    slanted = shapely.affinity.rotate(footprint(3000, 1000, *sides), 17)
    for footprints in ([footprint(*one) for one in apart], [footprint(*apart[0]), slanted]):
        regions = split_by_blocks(grid, 21, 16, FRACTIONS, seed=seed, footprints=footprints)
        images = shapely.union_all(footprints)
        count = sum(len(region.boxes) for region in regions.splits.values())
        assert count >= 50
        for region, fraction in zip(regions.splits.values(), FRACTIONS, strict=True):
            assert abs(len(region.boxes) / count - fraction) < 0.03
            assert abs(shapely.intersection(region.roi, images).area / images.area - fraction) < 0.03


def test_blocks_of_one_scene_are_those_of_earlier_versions():
    regions = split_by_blocks(grid_of(96, 128), 32, 16, (0.5, 0.25, 0.25), seed=3)
    assert {name: region.boxes for name, region in regions.splits.items()} == EARLIER


EARLIER = {
    "train": (
        (0, 64, 32, 96), (32, 0, 64, 32), (32, 32, 64, 64), (32, 64, 64, 96), (64, 32, 96, 64), (64, 64, 96, 96),
    ),
    "val": ((0, 32, 32, 64), (32, 96, 64, 128), (64, 96, 96, 128)),
    "test": ((0, 0, 32, 32), (0, 96, 32, 128), (64, 0, 96, 32)),
}  # fmt: skip


def test_rectangles_around_an_area_are_disjoint_even_if_outlines_end_inside_a_pixel():
    grid = grid_of(100, 100)
    ground = shapely.union_all([footprint(0, 0, 10.4, 10.4), footprint(10.6, 10.6, 20, 20)])
    assert pixel_boxes(grid, ground) == ((0, 0, 31, 31),)
    ground = shapely.union_all([footprint(0, 0, 10, 10), footprint(10, 10, 20, 20)])
    assert pixel_boxes(grid, ground) == ((0, 0, 10, 10), (10, 10, 30, 30))


def write(path, crs, left, top, values, descriptions=None):
    bands, height, width = values.shape
    with rasterio.open(
        path, "w", "GTiff", width, height, bands, crs, from_origin(left, top, PIXEL, PIXEL), values.dtype
    ) as out:  # fmt: skip
        out.write(values)
        if descriptions:
            out.descriptions = descriptions
    return str(path)


def two_scenes(folder, other_zone, km=200, side=96):
    places = [("EPSG:32610", 700000, 4200000)]
    if other_zone:  # about 200 km to the east
        places.append(("EPSG:32611", 360000, 4200000))
    else:
        places.append(("EPSG:32610", 700000 + 700 * km, 4200000 + 700 * km))
    rng = np.random.default_rng(0)
    images, labels = [], []
    for number, place in enumerate(places):
        image = rng.integers(1, 200, (1, side, side)).astype(np.uint8)
        day = f"RED_2020010{number + 1}"
        images.append(write(folder / f"image_{number}.tif", *place, image, [day]))
        labels.append(write(folder / f"label_{number}.tif", *place, (image > 100).astype(np.uint8)))
    return images, labels


def module(images, labels, split, **options):
    return LabelledScenesDataModule(
        images=images, labels=labels, classes={0: "Dry", 1: "Water"}, split=split, mean=[0.0], std=[1.0],
        bands=["RED"], window=16, windows_per_epoch=20, random_flip_rot90=False, **options,
    )  # fmt: skip


def test_windows_of_several_scenes_are_named_by_scene_and_place_in_it(tmp_path):
    images, labels = two_scenes(tmp_path, other_zone=False, km=210)
    data = module(images, labels, BlockSplit(16), stride=16)
    data.setup("fit")
    both, opened = data.open_both()
    windows = [data.scored_windows(split, both, opened) for split in data.split_regions.splits]
    names = [part.name(number) for part in windows for number in range(len(part))]
    assert len(set(names)) == len(names)
    places = set()
    for part in windows:
        for number in range(len(part)):
            x, y, _ = part.query(number)
            parts = re.fullmatch(r"(image_\d)_2020-01-0\d_row_(\d+)_column_(\d+)", part.name(number))
            place = int(parts[2]), int(parts[3])
            with rasterio.open(tmp_path / f"{parts[1]}.tif") as source:
                assert source.index(x.start + 1, y.stop - 1) == place
            places.add((parts[1], *place))
    assert len(places) == 2 * 6 * 6
    assert max(places) == ("image_1", 80, 80)


@pytest.mark.parametrize("other_zone", [False, True])
@pytest.mark.parametrize("how", ["blocks", "time", "polygons"])
def test_two_scenes_200_km_apart_are_set_up_quickly_and_divided_between_splits(tmp_path, other_zone, how):
    images, labels = two_scenes(tmp_path, other_zone)
    split = BlockSplit(16)
    if how == "time":
        split = TimeSplit(("2020-01-01", "2020-01-01"), ("2020-01-02", "2020-01-02"))
    if how == "polygons":
        halves = [shapely.box(-180, -90, -120, 90), shapely.box(-120, -90, 180, 90)]
        frame = geopandas.GeoDataFrame({"split": ["train", "val"]}, geometry=halves, crs="EPSG:4326")
        frame.to_file(tmp_path / "split.gpkg")
        split = PolygonSplit(str(tmp_path / "split.gpkg"))
    start = time.process_time()
    data = module(images, labels, split, balanced=True)
    data.setup("fit")
    both, opened = data.open_both()
    held = {name: data.scored_windows(name, both, opened) for name in data.split_regions.splits}
    assert time.process_time() - start < 2
    assert sum(len(windows.windows) for windows in held.values()) < 400  # not those of the ground between
    counts = [
        sum(int((windows[k]["mask"] != 255).sum()) for k in range(len(windows))) for windows in held.values()
    ]
    assert sum(counts) >= 2 * 96 * 96 * 0.97
    if how == "blocks":
        assert np.abs(np.array(counts) / sum(counts) - FRACTIONS).max() < 0.03
    assert all(counts)
    data.split_regions.plot()
