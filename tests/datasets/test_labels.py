"""Labels of scenes: the right class on the right pixel, whatever grid the images and the labels are on."""

import os
import pickle
from collections import Counter
from datetime import date
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import torch
from geopandas import GeoDataFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.transform import Affine, from_origin
from rasterio.warp import Resampling, reproject
from rasterio.warp import transform as transform_points
from torch.utils.data import DataLoader
from torchgeo.datasets import CDL, IntersectionDataset, RasterDataset, stack_samples

from prithvi_tg.datasets import MultiTemporalCropClassification, SceneDataset, find_inputs, resolve_scene
from prithvi_tg.datasets.scenes.cdl import CDL_NAMES, CDL_TO_CROP_CLASS, CDLLabels
from prithvi_tg.datasets.scenes.footprints import move_to
from prithvi_tg.datasets.scenes.label_layers import ClassLayer
from prithvi_tg.datasets.scenes.labels import LabelPolygons, LabelRaster
from prithvi_tg.errors import ConfigError, DataError, MissingFileError
from prithvi_tg.readers.formats import InputOptions
from prithvi_tg.samplers import ExactCoverGeoSampler
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

UTM, ALBERS, DEGREES = "EPSG:32615", "EPSG:5070", "EPSG:4326"
LEFT, TOP = 600000, 4200000
SPEC = DataSpec(InputSpec(("RED",), (0.0,), (1.0,)), ClassTarget())
SAME = {value: value for value in range(255)}
EVER = slice(pd.Timestamp.min, pd.Timestamp.max)


def write(path, values, left=LEFT, top=TOP, pixel=30.0, crs=UTM, **options):
    values = np.atleast_3d(values).transpose(2, 0, 1)
    count, height, width = values.shape
    transform = from_origin(left, top, pixel, pixel) if crs else None
    with rasterio.open(
        path, "w", "GTiff", width, height, count, crs, transform, values.dtype, **options
    ) as out:  # fmt: skip
        out.write(values)
    return path


def numbered(height, width):
    """Values 1 to 250, so that neighbours differ."""
    return (np.arange(height * width).reshape(height, width) % 250 + 1).astype(np.uint8)


def window(left, top, height, width, pixel=30.0, t=EVER):
    """A geo-slice by its top left corner and its pixels."""
    return slice(left, left + width * pixel, pixel), slice(top - height * pixel, top, pixel), t


def mask_of(labels, *place, **options):
    mask = labels[window(*place, **options)]["mask"]
    assert mask.dtype == torch.int64
    return mask.numpy()


def in_albers(x=LEFT, y=TOP):
    (x,), (y,) = transform_points(UTM, ALBERS, [x], [y])
    return x, y


def save(path, geometries, crs=UTM, **columns):
    GeoDataFrame(columns, geometry=geometries, crs=crs).to_file(path)
    return path


def square(row, column, side=1.0, pixel=30.0):
    """Pixels of the scene's grid as a polygon."""
    left, top = LEFT + column * pixel, TOP - row * pixel
    return shapely.box(left, top - side * pixel, left + side * pixel, top)


def scene_dataset(path, **options):
    (found,) = find_inputs([path])
    return SceneDataset(resolve_scene(found, SPEC, InputOptions(**options)), SPEC)


def torchgeo_dataset(path):
    return RasterDataset(str(path))


@pytest.fixture
def raster(tmp_path):
    """40 x 50 pixels of 30 m, numbered."""
    return write(tmp_path / "labels.tif", numbered(40, 50))


# Rasters


def test_a_window_on_the_grid_of_the_file_is_read_without_warping(raster, monkeypatch):
    monkeypatch.setattr("prithvi_tg.readers.warp.WarpedVRT", None)
    labels = LabelRaster(raster, SAME)
    assert (mask_of(labels, LEFT, TOP, 40, 50) == numbered(40, 50)).all()
    assert (mask_of(labels, LEFT + 90, TOP - 60, 5, 7) == numbered(40, 50)[2:7, 3:10]).all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(-60, 60), st.integers(-60, 60), st.integers(1, 70), st.integers(1, 70),
    st.sampled_from([30.0, 0.1, 1 / 3]),
)  # fmt: skip
def test_beyond_the_edge_of_a_file_pixels_are_unlabelled(tmp_path_factory, row, column, height, width, pixel):
    values = numbered(40, 50)
    left, top = LEFT + 0.123, TOP - 0.456  # so that whole pixels are not whole numbers
    path = write(tmp_path_factory.mktemp("labels") / "a.tif", values, left, top, pixel)
    labels = LabelRaster(path, SAME)
    expected = np.full((200, 200), 255)
    expected[70:110, 70:120] = values
    expected = expected[70 + row : 70 + row + height, 70 + column : 70 + column + width]
    place = (left + pixel * column, top - pixel * row, height, width, pixel)
    at_the_edge = row + height == 0 or column + width == 0 or row == 40 or column == 50
    if row + height < 0 or column + width < 0 or row > 40 or column > 50:
        with pytest.raises(IndexError, match="lies outside"):
            mask_of(labels, *place)
    elif not at_the_edge:  # where rounding errors decide
        assert (mask_of(labels, *place) == expected).all()


@pytest.mark.parametrize("pixel", [10.0, 30.0, 70.0])
@pytest.mark.parametrize("nodata", [None, 0, 7])
def test_another_crs_and_resolution_equals_the_reprojection_by_rasterio(tmp_path, pixel, nodata):
    values, (x, y) = numbered(60, 60), in_albers()
    path = write(tmp_path / "a.tif", values, x - 300, y + 300, 30.0, ALBERS, nodata=nodata)
    labels = LabelRaster(path, {value: number for value, number in SAME.items() if value != nodata})
    labels.crs = UTM
    height, width = 70, 90  # reaches beyond the file
    expected = np.full((height, width), 255, np.uint8)
    reproject(
        values, expected, src_transform=from_origin(x - 300, y + 300, 30, 30), src_crs=ALBERS, src_nodata=nodata,
        dst_transform=from_origin(LEFT + 5, TOP - 5, pixel, pixel), dst_crs=UTM, dst_nodata=255,
        resampling=Resampling.nearest,
    )  # fmt: skip
    found = mask_of(labels, LEFT + 5, TOP - 5, height, width, pixel)
    assert (found == expected).all()
    assert len(np.unique(expected)) > 100


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-900, 900), st.floats(-900, 900), st.sampled_from([10.0, 30.0, 60.0]), st.sampled_from([1, 100])
)  # fmt: skip
def test_every_pixel_has_the_label_at_its_centre(tmp_path_factory, east, south, pixel, scale):
    # For large pixels, one grid is curved in the other.
    east, south, pixel, side = scale * east, scale * south, scale * pixel, scale * 3e-4
    values = numbered(100, 100)
    (x,), (y,) = transform_points(UTM, DEGREES, [LEFT], [TOP])
    x, y = x - 50 * side, y + 50 * side
    path = write(tmp_path_factory.mktemp("labels") / "a.tif", values, x, y, side, DEGREES)
    labels = LabelRaster(path, SAME)
    labels.crs = UTM
    found = mask_of(labels, LEFT + east, TOP - south, 20, 25, pixel)
    rows, columns = np.mgrid[:20, :25] + 0.5
    xs, ys = LEFT + east + columns * pixel, TOP - south - rows * pixel
    xs, ys = (np.array(values) for values in transform_points(UTM, DEGREES, xs.ravel(), ys.ravel()))
    columns, rows = ((xs - x) / side).reshape(20, 25), ((y - ys) / side).reshape(20, 25)
    near_an_edge = (abs(columns - columns.round()) < 0.02) | (abs(rows - rows.round()) < 0.02)
    inside = (rows > 0) & (rows < 100) & (columns > 0) & (columns < 100)
    expected = np.full((20, 25), 255)
    expected[inside] = values[rows[inside].astype(int), columns[inside].astype(int)]
    assert ((found == expected) | near_an_edge).all()


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
@pytest.mark.parametrize("crs", [UTM, ALBERS])
def test_a_label_in_a_corner_pixel_of_the_file_is_read(tmp_path, corner, crs):
    values = np.zeros((32, 32), np.uint8)
    values[corner] = 1
    left, top = (LEFT, TOP) if crs == UTM else in_albers()
    labels = LabelRaster(write(tmp_path / "a.tif", values, left, top, crs=crs), {0: 0, 1: 1})
    labels.crs = UTM
    row, column = (at % 32 + 0.5 for at in corner)
    (x,), (y,) = transform_points(crs, UTM, [left + 30 * column], [top - 30 * row])
    # Pixels of 2 m around the centre of the labelled one.
    found = mask_of(labels, x - 21, y + 21, 21, 21, 2.0)
    assert found[10, 10] == 1
    assert 150 < (found == 1).sum() < 300  # 15 x 15 pixels of 2 m
    assert 20 < (found == 0).sum() < 100  # a third of those around it; the file ends beside it


def test_stored_values_become_classes_and_nodata_and_none_are_unlabelled(tmp_path):
    stored = np.array([[5, 9, 200], [0, 255, 5]], np.uint8)
    labels = LabelRaster(write(tmp_path / "a.tif", stored, nodata=255), {5: 0, 200: 1, 9: 2, 0: None})
    assert (mask_of(labels, LEFT, TOP, 2, 3) == [[0, 2, 1], [255, 255, 0]]).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("shift", [0, 7])
def test_labels_may_have_any_numeric_type(tmp_path, dtype, shift):
    stored = np.array([[0, 2], [3, 0]], dtype)
    stored[1, 0] = np.nan if dtype == "float32" else 3
    labels = LabelRaster(write(tmp_path / "a.tif", stored), {0: 4, 2: 1, 3: None})
    assert (mask_of(labels, LEFT + shift, TOP, 2, 3) == [[4, 1, 255], [255, 4, 255]]).all()


def test_an_error_about_an_unknown_value_counts_its_pixels(tmp_path):
    stored = np.array([[17, 1, 17], [17, 2, 18]], np.uint8)
    labels = LabelRaster(write(tmp_path / "labels.tif", stored), {1: 0, 2: 1, 0: None})
    message = (
        r"labels.tif: contains 17 \(3 pixels\) and 18 \(1 pixel\), not in classes; known labels: 0, 1, 2; add"
    )
    with pytest.raises(DataError, match=message):
        mask_of(labels, LEFT, TOP, 2, 3)
    assert (mask_of(labels, LEFT + 30, TOP, 2, 1) == [[0], [1]]).all()  # only where it is met


def test_an_error_about_an_unknown_value_lists_those_of_all_files(tmp_path, monkeypatch):
    first = write(tmp_path / "a.tif", np.array([[1, 17, 18, 18]], np.uint8))
    second = write(tmp_path / "b.tif", np.array([[1, 19, 17, 1]], np.uint8))
    labels = LabelRaster([first, second], {1: 0})
    message = (
        r"a\.tif: contains 17 \(1 pixel\) and 18 \(2 pixels\), not in classes; other files also contain 19 \(1 "
        r"pixel\); known labels: 1; add"
    )
    with pytest.raises(DataError, match=message):
        mask_of(labels, LEFT, TOP, 1, 2)  # a window without 18
    monkeypatch.setattr("prithvi_tg.datasets.scenes.labels._MOST_COUNTED", 4)
    with pytest.raises(
        DataError, match=r"18 \(2 pixels\), not in classes; only the first 0 million pixels were"
    ):
        mask_of(labels, LEFT, TOP, 1, 2)


def test_patterns_name_the_labels_that_match(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / f"s{number}").mkdir()
        name = tmp_path / f"s{number}" / f"lab{number}.tif"
        write(name, np.full((2, 2), number, np.uint8), left=LEFT + 60 * (number - 1))
        name.with_suffix(".tif.aux.xml").write_text("<PAMDataset/>")
    labels = LabelRaster([str(tmp_path / "s[12]" / "lab*"), str(tmp_path / "s*" / "lab3.tif")], SAME)
    assert [Path(file).name for file in labels.files] == ["lab1.tif", "lab2.tif", "lab3.tif"]
    assert (mask_of(labels, LEFT, TOP, 1, 6) == [[1, 1, 2, 2, 3, 3]]).all()
    with pytest.raises(MissingFileError, match=r"lab4\*: no file matches this pattern"):
        LabelRaster(str(tmp_path / "s*" / "lab4*"), SAME)


def test_a_pattern_of_polygons_needs_no_suffix(tmp_path):
    for name in ("east", "west"):
        frame = gpd.GeoDataFrame(
            {"crop": ["wheat"]}, geometry=[shapely.box(LEFT, TOP - 60, LEFT + 60, TOP)], crs=UTM
        )
        frame.to_file(tmp_path / f"fields_{name}.shp")
    layer = ClassLayer({"wheat": "Wheat", "maize": "Maize"}, label_attribute="crop")
    labels = layer.open([str(tmp_path / "fields_*")])
    assert [Path(file).name for file in labels.files] == ["fields_east.shp", "fields_west.shp"]


def test_later_files_fill_pixels_that_earlier_files_do_not_label(tmp_path):
    first, second = np.array([[1, 0, 9]], np.uint8), np.array([[2, 2, 2, 2]], np.uint8)
    paths = [write(tmp_path / "z.tif", first, nodata=0), write(tmp_path / "a.tif", second)]
    labels = LabelRaster(paths, {1: 1, 2: 2, 9: None})
    assert (mask_of(labels, LEFT, TOP, 1, 5) == [[1, 2, 2, 2, 255]]).all()
    assert labels.files == [str(path) for path in paths]
    assert (
        mask_of(LabelRaster(tmp_path, {1: 1, 2: 2, 9: None}), LEFT, TOP, 1, 1) == 2
    ).all()  # sorted by name


def test_files_with_several_crs_form_one_data_set(tmp_path):
    x, y = in_albers(LEFT + 3000, TOP)
    paths = [
        write(tmp_path / "utm.tif", np.full((50, 50), 1, np.uint8)),
        write(tmp_path / "albers.tif", np.full((50, 50), 2, np.uint8), x, y, crs=ALBERS),
    ]
    labels = LabelRaster(paths, {1: 1, 2: 2})
    assert labels.crs == UTM
    assert len(labels) == 2
    found = mask_of(labels, LEFT, TOP, 50, 130)
    assert (found[:, :50] == 1).all()
    assert (found[20:30, 110:120] == 2).all()


def test_the_outline_of_a_large_raster_follows_the_curves_of_its_edges(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((20, 40), np.uint8), -2e6, 3e6, 1e5, ALBERS)
    labels = LabelRaster(path, {1: 0})
    assert labels.index.total_bounds.tolist() == [-2e6, 1e6, 2e6, 3e6]
    labels.crs = DEGREES
    (x,), (y,) = transform_points(ALBERS, DEGREES, [0], [2.99e6])
    assert labels.index.geometry.iloc[0].contains(shapely.Point(x, y))


@pytest.mark.parametrize("value", [np.array([[3]], np.int64), np.array([[3]], np.uint8)])
def test_a_file_is_opened_once_in_a_process(tmp_path, monkeypatch, value):
    paths = [
        write(tmp_path / f"{number}.tif", np.tile(value, (40, 40)), LEFT + 1200 * number)
        for number in range(3)
    ]
    labels = LabelRaster(paths, {3: 0})
    opened = Counter()
    monkeypatch.setattr(rasterio, "open", partial(count_opening, opened, rasterio.open))
    for shift in (0, 7, 14):  # warped and not
        assert (mask_of(labels, LEFT + shift, TOP, 40, 110) == 0).all()
    assert opened == {str(path): 1 for path in paths}


def count_opening(opened, original, path, *args, **kwargs):
    opened[str(path)] += 1
    return original(path, *args, **kwargs)


def test_the_number_of_open_files_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("prithvi_tg.datasets.scenes.label_dataset._OPEN_FILES", 2)
    for number in range(4):
        write(tmp_path / f"{number}.tif", np.full((1, 1), number, np.uint8), LEFT + 30 * number)
    labels = LabelRaster(tmp_path, SAME)
    assert (mask_of(labels, LEFT, TOP, 1, 4) == [[0, 1, 2, 3]]).all()
    assert (mask_of(labels, LEFT, TOP, 1, 4) == [[0, 1, 2, 3]]).all()
    assert len(labels._sources[os.getpid()]) == 2


# Polygons


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "shp"])
@pytest.mark.parametrize("all_touched", [False, True])
def test_polygons_are_rasterised_as_by_rasterio(tmp_path, suffix, all_touched):
    shapes = [shapely.Point(LEFT + 400, TOP - 500).buffer(333), square(10.4, 8.7, 5.2), square(25, 30, 3.3)]
    path = save(tmp_path / f"fields.{suffix}", shapes, crop=["corn", "soy", "corn"])
    labels = LabelPolygons(path, "crop", {"corn": 2, "soy": 0}, all_touched)
    labels.crs, labels.res = UTM, 30.0  # GeoJSON comes in degrees
    expected = rasterize(
        zip(gpd.read_file(path).to_crs(UTM).geometry, [2, 0, 2], strict=True), (40, 50), fill=255,
        transform=from_origin(LEFT, TOP, 30, 30), all_touched=all_touched,
    )  # fmt: skip
    found = mask_of(labels, LEFT, TOP, 40, 50)
    assert (found == expected).all()
    assert {0, 2, 255} == set(np.unique(found))


@settings(max_examples=30, deadline=None)
@given(st.floats(-2000, 2000), st.floats(-2000, 2000), st.integers(1, 50), st.sampled_from([7.0, 30.0]))
def test_a_window_of_polygons_equals_a_part_of_the_whole_raster(tmp_path_factory, east, south, size, pixel):
    path = tmp_path_factory.mktemp("labels") / "a.gpkg"
    shapes = [square(row, column, 2.4) for row in range(0, 90, 4) for column in range(0, 90, 5)]
    numbers = [number % 7 for number in range(len(shapes))]
    labels = LabelPolygons(save(path, shapes, kind=numbers), "kind", SAME)
    transform = from_origin(LEFT + east, TOP - south, pixel, pixel)
    expected = rasterize(zip(shapes, numbers, strict=True), (size, size), fill=255, transform=transform)
    place = (LEFT + east, TOP - south, size, size, pixel)
    left, bottom, right, top = shapely.union_all(shapes).bounds
    if (
        place[0] > right
        or place[1] < bottom
        or place[0] + size * pixel < left
        or place[1] - size * pixel > top
    ):
        with pytest.raises(IndexError, match="lies outside"):
            mask_of(labels, *place)
    else:
        assert (mask_of(labels, *place) == expected).all()


def test_all_touched_draws_every_pixel_that_a_polygon_touches(tmp_path):
    path = save(tmp_path / "a.gpkg", [square(1.6, 1.6, 0.8)])  # reaches into four pixels, holds no centre
    assert (mask_of(LabelPolygons(path, None, 1), LEFT, TOP, 4, 4) == 255).all()
    assert (mask_of(LabelPolygons(path, None, 1, all_touched=True), LEFT, TOP, 4, 4) == 1).sum() == 4


def test_a_small_polygon_in_a_corner_pixel_labels_this_pixel(tmp_path):
    spot = shapely.Point(LEFT + 15, TOP - 15).buffer(1)
    path = tmp_path / "a.gpkg"
    GeoDataFrame(geometry=[spot], crs=UTM).to_crs(ALBERS).to_file(path)
    labels = LabelPolygons(path, None, 3)
    labels.crs = UTM
    found = mask_of(labels, LEFT, TOP, 8, 8)
    assert found[0, 0] == 3
    assert (found == 255).sum() == 63


def test_the_later_one_of_overlapping_polygons_is_used(tmp_path):
    first = save(tmp_path / "1.gpkg", [square(0, 0, 3), square(0, 1, 1), square(1, 0, 1)], kind=[0, 1, 8])
    second = save(tmp_path / "2.gpkg", [square(2, 2, 1)], kind=[2])
    labels = LabelPolygons([first, second], "kind", {0: 0, 1: 1, 2: 2, 8: None})
    assert (mask_of(labels, LEFT, TOP, 3, 3) == [[0, 1, 0], [255, 0, 0], [0, 0, 2]]).all()


def test_polygons_of_dated_files_are_used_for_images_of_their_period(tmp_path):
    class Yearly(LabelPolygons):
        filename_regex = r"fields_(?P<date>\d{4})"
        date_format = "%Y"

    for number, year in enumerate((2021, 2022)):
        save(tmp_path / f"fields_{year}.gpkg", [square(0, number)], kind=[number])
    labels = Yearly(tmp_path, "kind", {0: 0, 1: 1})
    then = slice(pd.Timestamp(2022, 5, 1), pd.Timestamp(2022, 6, 1))
    assert (mask_of(labels, LEFT, TOP, 1, 2, t=then) == [[255, 1]]).all()
    assert (mask_of(labels, LEFT, TOP, 1, 2) == [[0, 1]]).all()


def test_polygons_are_reprojected_once_from_the_crs_of_the_file(tmp_path, monkeypatch):
    labels = LabelPolygons(save(tmp_path / "a.gpkg", [square(3, 3, 5)]), None, 0)
    calls = Counter()
    monkeypatch.setattr(
        "prithvi_tg.datasets.scenes.labels.move_to", lambda *args: calls.update("x") or move_to(*args)
    )
    labels.crs = ALBERS
    labels.crs = ALBERS
    x, y = in_albers()
    for _ in range(3):
        mask_of(labels, x, y, 20, 20)
    assert calls.total() == 1
    labels.crs = UTM
    assert labels.index.total_bounds.tolist() == list(square(3, 3, 5).bounds)


def test_polygons_far_from_the_images_do_not_matter(tmp_path):
    near, far = shapely.box(-93, 37, -92, 38), shapely.box(-4, 0, -2, 1)
    labels = LabelPolygons(save(tmp_path / "a.geojson", [near, far], DEGREES), None, 1)
    labels.crs = UTM
    assert np.isfinite(labels.index.total_bounds).all()
    (x,), (y,) = transform_points(DEGREES, UTM, [-92.5], [37.5])
    assert (mask_of(labels, x, y, 4, 4) == 1).all()


def test_polygons_without_images_need_a_pixel_size(tmp_path):
    path = save(tmp_path / "a.gpkg", [square(0, 0, 3)])
    with pytest.raises(
        ConfigError, match=r"res: .*a.gpkg has no pixel size; set res, or combine it with images$"
    ):
        LabelPolygons(path, None, 1)[slice(LEFT, LEFT + 90), slice(TOP - 90, TOP)]
    whole = LabelPolygons(path, None, 1, res=30)[slice(LEFT, LEFT + 90), slice(TOP - 90, TOP)]
    assert (whole["mask"] == 1).all()
    assert whole["mask"].shape == (3, 3)


def test_a_layer_can_be_chosen(tmp_path):
    path = tmp_path / "a.gpkg"
    for name, row in (("old", 0), ("new", 1)):
        GeoDataFrame(geometry=[square(row, 0)], crs=UTM).to_file(path, layer=name)
    assert (mask_of(LabelPolygons(path, None, 4, layer="new"), LEFT, TOP, 2, 1) == [[255], [4]]).all()


# What cannot be


def bad_files(folder):
    write(folder / "no_crs.tif", np.ones((2, 2), np.uint8), crs=None)
    write(folder / "three.tif", np.ones((2, 2, 3), np.uint8))
    (folder / "text.tif").write_text("no raster")
    (folder / "text.gpkg").write_text("no polygons")
    (folder / "empty").mkdir()
    shapes = [square(0, 0), square(2, 2)]
    GeoDataFrame(geometry=shapes).to_file(folder / "no_crs.shp")
    GeoDataFrame({"a": []}, geometry=[], crs=UTM).to_file(folder / "nothing.gpkg")
    save(folder / "null.gpkg", [square(0, 0), None])
    save(folder / "hollow.gpkg", [shapely.Polygon(), square(0, 0)])
    save(folder / "points.gpkg", [shapely.Point(LEFT, TOP)])
    save(folder / "fields.gpkg", shapes, crop=["corn", "rye"], owner=["x", "y"])
    save(folder / "blank.gpkg", shapes, crop=pd.Series([None, None], dtype=object))


def test_polygons_without_a_value_are_not_labelled_and_are_counted(tmp_path):
    shapes = [square(0, 0, 2), square(0, 1), square(3, 3)]
    path = save(tmp_path / "gaps.gpkg", shapes, crop=["corn", None, None])
    labels = LabelPolygons(path, "crop", {"corn": 3})
    expected = np.full((5, 5), 255)
    expected[:2, :2] = 3  # the polygon below one without a value keeps its label
    np.testing.assert_array_equal(mask_of(labels, LEFT, TOP, 5, 5), expected)
    assert labels.unvalued == {str(path): 2}
    numbers = save(tmp_path / "numbers.gpkg", shapes, crop=[1, np.nan, 1])
    assert LabelPolygons(numbers, "crop", {1: 3}).unvalued == {str(numbers): 1}


@pytest.mark.filterwarnings("ignore")  # of writing such files
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(LabelRaster, classes=SAME), {
            "no_crs.tif": r"no_crs.tif: has no CRS; assign the CRS of its coordinates: gdal_edit.py -a_srs EPSG:CODE",
            "three.tif": r"three.tif: has 3 bands; a raster of labels has one",
            "text.tif": r"text.tif: not a readable raster",
            "missing.tif": r"missing.tif: no such file or folder$",
            "empty": r"empty: contains no label files \(.tif, .tiff, .vrt, .img\)",
        }),
        (partial(LabelPolygons, attribute="crop", classes={"corn": 0, "soy": 1}), {
            "no_crs.shp": r"no_crs.shp: has no CRS; assign the CRS of its coordinates: ogr2ogr -a_srs EPSG:CODE",
            "text.gpkg": r"text.gpkg: not a readable polygon file",
            "missing.gpkg": r"missing.gpkg: no such file or folder$",
            "empty": r"empty: contains no label files \(.gpkg, .geojson, .shp\)",
            "nothing.gpkg": r"nothing.gpkg: contains no polygons$",
            "null.gpkg": r"null.gpkg: 1 empty polygon of 2, first feature 2$",
            "hollow.gpkg": r"hollow.gpkg: 1 empty polygon of 2, first feature 1$",
            "points.gpkg": r"points.gpkg: contains Point; labels must be polygons$",
            "fields.gpkg": r"fields.gpkg: crop contains 'rye' \(1 polygon\), not in classes",
            "blank.gpkg": r"blank.gpkg: crop has no value in any of its 2 polygons$",
        }),
        (partial(LabelPolygons, attribute="kind", classes={"corn": 0}), {
            "fields.gpkg": r"fields.gpkg: has no attribute 'kind'; it has crop, owner$",
        }),
    ],
)  # fmt: skip
def test_an_unusable_file_is_an_error_of_one_line(tmp_path, make, message):
    bad_files(tmp_path)
    for name, expected in message.items():
        with pytest.raises(DataError, match=expected) as caught:
            make(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [255, -1, "corn", 0.5])
def test_class_numbers_are_0_to_254(raster, number):
    with pytest.raises(ConfigError, match=rf"classes: {number!r} of 1 is not a class number; give 0 to 254"):
        LabelRaster(raster, {1: number})


def test_invalid_classes_of_labels_are_refused(raster, tmp_path):
    path = save(tmp_path / "a.gpkg", [square(0, 0)], kind=["a"])
    with pytest.raises(ConfigError, match="classes: empty"):
        LabelRaster(raster, {})
    with pytest.raises(ConfigError, match="classes: 'corn' is not a raster value"):
        LabelRaster(raster, {"corn": 1})
    with pytest.raises(ConfigError, match="does not match attribute None; give one class number"):
        LabelPolygons(path, None, {"a": 1})
    with pytest.raises(
        ConfigError, match="classes: 1 does not match attribute 'kind'; give a class number for each"
    ):
        LabelPolygons(path, "kind", 1)
    with pytest.raises(DataError, match="paths: empty"):
        LabelRaster([], SAME)


# With images


@pytest.fixture
def image(tmp_path):
    """90 x 70 pixels of 10 m, numbered."""
    values = np.arange(1, 90 * 70 + 1, dtype=np.float32).reshape(90, 70)
    return write(tmp_path / "image.tif", values, pixel=10.0)


def label_raster(folder):
    x, y = in_albers()
    return LabelRaster(write(folder / "l.tif", numbered(40, 30), x - 300, y + 300, crs=ALBERS), SAME)


def label_polygons(folder):
    path = folder / "l.gpkg"
    shapes = GeoDataFrame({"kind": ["a", "b"]}, geometry=[square(2, 1, 9), square(11, 10, 6)], crs=UTM)
    shapes.to_crs(DEGREES).to_file(path)
    return LabelPolygons(path, "kind", {"a": 0, "b": 1})


@pytest.mark.parametrize("make_images", [scene_dataset, torchgeo_dataset])
@pytest.mark.parametrize("make_labels", [label_raster, label_polygons])
def test_labels_are_combined_with_images(tmp_path, image, make_images, make_labels):
    alone = make_labels(tmp_path)
    alone.crs, alone.res = UTM, 10.0
    labels = make_labels(tmp_path)
    both = make_images(image) & labels
    assert isinstance(both, IntersectionDataset)
    assert labels.crs == both.crs == UTM
    assert labels.res == both.res == (10.0, 10.0)
    whole = mask_of(alone, LEFT, TOP, 90, 70, 10.0)
    assert len(np.unique(whole)) > 2
    for row, column in ((0, 0), (20, 30), (50, 40)):
        sample = both[window(LEFT + 10 * column, TOP - 10 * row, 32, 24, 10.0)]
        assert sample["image"].shape[-2:] == sample["mask"].shape == (32, 24)
        assert sample["image"].flatten()[0] == row * 70 + column + 1
        assert (sample["mask"].numpy() == whole[row : row + 32, column : column + 24]).all()


@pytest.mark.parametrize("make_images", [scene_dataset, torchgeo_dataset])
@pytest.mark.parametrize("make_labels", [label_raster, label_polygons])
def test_samplers_and_workers_draw_images_with_their_labels(tmp_path, image, make_images, make_labels):
    both = make_images(image) & make_labels(tmp_path)
    queries = list(ExactCoverGeoSampler(both, 32))
    assert len(queries) > 3
    loader = DataLoader(both, batch_size=2, sampler=queries, num_workers=2, collate_fn=stack_samples)
    masks = torch.cat([batch["mask"] for batch in loader])
    for query, mask in zip(queries, masks, strict=True):
        assert (both[query]["mask"] == mask).all()


def test_a_window_in_the_corner_between_tilted_outlines_is_unlabelled(tmp_path, image):
    both = scene_dataset(image) & label_raster(tmp_path)
    left, _, _, top = both.datasets[1].index.total_bounds
    assert (mask_of(both.datasets[1], left, top, 1, 1, 1.0) == 255).all()


def test_workers_do_not_use_files_opened_by_their_parent(raster, tmp_path, monkeypatch):
    labels = LabelRaster(raster, SAME)
    log = tmp_path / "opened"
    original = rasterio.open

    def open_and_tell(path, *args, **kwargs):
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(rasterio, "open", open_and_tell)
    queries = [window(LEFT + 30 * column, TOP, 8, 8) for column in range(8)]
    expected = [labels[query]["mask"] for query in queries]
    loader = DataLoader(
        labels, 1, sampler=queries, num_workers=2, collate_fn=stack_samples, multiprocessing_context="fork"
    )
    for mask, batch in zip(expected, loader, strict=True):
        assert (batch["mask"][0] == mask).all()
    pids = Counter(log.read_text().split())
    assert pids.pop(str(os.getpid())) == 1
    assert list(pids.values()) == [1, 1]


@pytest.mark.parametrize("make", [label_raster, label_polygons])
def test_labels_can_be_pickled_after_use(tmp_path, make):
    labels = make(tmp_path)
    labels.crs = UTM
    place = (LEFT, TOP, 20, 20)
    expected = mask_of(labels, *place)
    again = pickle.loads(pickle.dumps(labels))  # noqa: S301 (our own)
    assert not getattr(again, "_sources", {})
    assert (mask_of(again, *place) == expected).all()


def test_labels_cannot_be_combined_with_images_without_a_crs(tmp_path, raster):
    path = write(tmp_path / "flat.tif", np.ones((8, 8), np.float32), crs=None)
    with pytest.raises(DataError, match=r"labels.tif: labels cannot be aligned with images that have no CRS"):
        scene_dataset(path) & LabelRaster(raster, SAME)


def test_transforms_are_called_with_samples(raster):
    labels = LabelRaster(raster, SAME, transforms=lambda sample: {**sample, "mask": sample["mask"] + 1})
    assert mask_of(labels, LEFT, TOP, 1, 1) == numbered(1, 1) + 1


# The Cropland Data Layer


def test_values_of_the_cropland_data_layer_are_those_of_torchgeo():
    known = getattr(CDL, "valid_classes", None) or CDL.cmap
    assert set(CDL_NAMES) - {62} == set(known)  # 62 is of older layers


def test_every_cropland_value_has_one_of_the_13_crop_classes_or_none():
    names = MultiTemporalCropClassification.class_names
    assert set(CDL_TO_CROP_CLASS) == {*CDL_NAMES, 255}
    assert set(CDL_TO_CROP_CLASS.values()) == {*range(len(names)), None}
    assert {value for value, number in CDL_TO_CROP_CLASS.items() if number is None} == {0, 81, 88, 255}
    for value, name in {
        1: "Corn", 2: "Cotton", 3: "Other", 4: "Sorghum", 5: "Soybeans", 12: "Other", 23: "Other",
        24: "Winter Wheat", 26: "Other", 36: "Alfalfa", 37: "Natural Vegetation", 61: "Fallow/Idle Cropland",
        111: "Open Water", 121: "Developed/Barren", 131: "Developed/Barren", 143: "Forest",
        152: "Natural Vegetation", 176: "Natural Vegetation", 190: "Wetlands", 195: "Wetlands", 241: "Other",
    }.items():  # fmt: skip
        assert names[CDL_TO_CROP_CLASS[value]] == name


@pytest.fixture
def cropland(tmp_path):
    """Corn in 2021, soybeans in 2022, and files that are not of the layer."""
    folder = tmp_path / "cdl"
    folder.mkdir()
    x, y = in_albers()
    for name, value in (
        ("2021_30m_cdls.tif", 1),
        ("CDL_2022_29.tif", 5),
        ("2022_scene.tif", 99),
        ("notes.tif", 99),
    ):
        write(folder / name, np.full((60, 60), value, np.uint8), x - 600, y + 600, crs=ALBERS)
    (folder / "CDL_2022_29.tif.aux.xml").touch()
    return folder


def test_images_are_combined_with_the_cropland_layer_of_their_year(cropland, image):
    labels = CDLLabels(cropland)
    assert [Path(path).name for path in labels.files] == ["2021_30m_cdls.tif", "CDL_2022_29.tif"]
    for year, number in ((2021, 2), (2022, 3)):
        for day in (date(year, 1, 1), date(year, 12, 31)):
            both = scene_dataset(image, dates=(day,)) & CDLLabels(cropland)
            (query,) = ExactCoverGeoSampler(both, 90)
            assert (both[query]["mask"] == number).any()
            assert set(both[query]["mask"].unique().tolist()) <= {number, 255}
    for day, number in ((pd.Timestamp(2022, 1, 1), 3), (pd.Timestamp(2021, 12, 31), 2)):
        assert (mask_of(labels, *in_albers(), 4, 4, t=slice(day, day)) == number).all()
    with pytest.raises(IndexError, match="lies outside"):
        labels[window(*in_albers(), 4, 4, t=slice(pd.Timestamp(2019, 1, 1), pd.Timestamp(2019, 12, 31)))]


def test_a_file_without_a_year_in_its_name_is_refused(cropland):
    with pytest.raises(DataError, match=r"notes.tif: its name does not contain the date of the labels"):
        CDLLabels(cropland / "notes.tif")


def test_rotated_rasters_are_read_too(tmp_path):
    values = numbered(40, 40)
    transform = Affine.translation(LEFT, TOP) @ Affine.rotation(-30) @ Affine.scale(30, -30)
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 40, 40, 1, UTM, transform, "uint8") as out:
        out.write(values, 1)
    x, y = transform @ (20.5, 12.5)
    assert mask_of(LabelRaster(tmp_path / "a.tif", SAME), x - 1, y + 1, 1, 1, 2.0) == values[12, 20]
