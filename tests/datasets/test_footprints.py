"""Labels that reach far beyond the images: every pixel keeps its label, in any CRS."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from rasterio.transform import from_origin

from prithvi_tg.datasets.scenes.dataset import SceneDataset
from prithvi_tg.datasets.scenes.footprints import Roi, cut, move, move_to
from prithvi_tg.datasets.scenes.labels import LabelPolygons, LabelRaster
from prithvi_tg.errors import DataError
from prithvi_tg.readers.scene import BandFile, Grid, Scene
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPEC = DataSpec(InputSpec(("RED",), (0.0,), (1.0,)), ClassTarget())
SIDE = 24
EVER = slice(pd.Timestamp.min, pd.Timestamp.max)
#: Where images lie: CRS, left, top, pixel.
PLACES = {
    "UTM": ("EPSG:32610", 500000, 4200000, 30),
    "UTM of the south": ("EPSG:32756", 300000, 6250000, 10),
    "a northern zone below the equator": ("EPSG:32637", 400000, -100000, 30),
    "across the antimeridian from the west": ("EPSG:32660", 765000, 2000000, 5000),
    "across the antimeridian from the east": ("EPSG:32601", 160000, -1000000, 5000),
    "the North Pole": ("EPSG:3413", -360000, 310000, 30000),
    "the South Pole": ("EPSG:3031", -350000, 310000, 30000),
    "Albers": ("EPSG:5070", 0, 1800000, 30),
    "Web Mercator": ("EPSG:3857", -13600000, 4500000, 30),
    "degrees": ("EPSG:4326", 7, 47, 0.0003),
}
#: Longitudes and latitudes that polygons and rasters of labels cover.
EXTENTS = {"the world": (-180, -90, 180, 90), "the world from 0 to 360 degrees": (0, -90, 360, 90)}


def images_at(folder, crs, left, top, pixel):
    path = folder / "image.tif"
    place = from_origin(left, top, pixel, pixel)
    with rasterio.open(path, "w", "GTiff", SIDE, SIDE, 1, crs, place, "uint8") as out:
        out.write(np.ones((1, SIDE, SIDE), np.uint8))
    with rasterio.open(path) as source:
        return SceneDataset(Scene("image", Grid.of(source), (BandFile(str(path), 1),)), SPEC)


def labels_under(images, labels):
    """Labels of all pixels of the images."""
    labels.clip_to(images)
    both = images & labels
    left, bottom, right, top = images.index.total_bounds
    width, height = images.res
    assert both.index.geometry.area.sum() == pytest.approx(images.index.geometry.area.sum(), rel=1e-3)
    return labels[slice(left, right, width), slice(bottom, top, height), EVER]["mask"].numpy()


def save(path, shapes, crs):
    gpd.GeoDataFrame({"kind": range(len(shapes))}, geometry=shapes, crs=crs).to_file(path)
    return path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("extent", EXTENTS)
def test_polygons_of_the_world_label_every_pixel(tmp_path, place, extent):
    if place == "degrees" and extent != "the world":
        return
    images = images_at(tmp_path, *PLACES[place])
    path = save(tmp_path / "world.gpkg", [shapely.box(*EXTENTS[extent])], "EPSG:4326")
    assert (labels_under(images, LabelPolygons(path, None, 1)) == 1).all()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("extent", EXTENTS)
def test_rasters_of_the_world_label_every_pixel(tmp_path, place, extent):
    images = images_at(tmp_path, *PLACES[place])
    west, _, _, north = EXTENTS[extent]
    values = np.arange(180 * 360).reshape(1, 180, 360) % 250 + 1
    path = tmp_path / "world.tif"
    with rasterio.open(
        path, "w", "GTiff", 360, 180, 1, "EPSG:4326", from_origin(west, north, 1, 1), "uint8"
    ) as out:  # fmt: skip
        out.write(values.astype(np.uint8))
    found = labels_under(images, LabelRaster(path, {value: value for value in range(255)}))
    to_degrees = Transformer.from_crs(images.crs, 4326, always_xy=True)
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    t = images.grid.transform
    longitude, latitude = to_degrees.transform(t.c + t.a * columns, t.f + t.e * rows)
    east, south = (longitude - west) % 360, north - latitude
    expected = values[0, np.floor(south).astype(int).clip(0, 179), np.floor(east).astype(int).clip(0, 359)]
    pixel = t.a / 100_000 if images.crs.is_projected else t.a
    sure = (np.abs(east - np.round(east)) > 0.05 * pixel) & (np.abs(south - np.round(south)) > 0.05 * pixel)
    polar = np.abs(latitude) > 85
    assert (found[sure & ~polar] == expected[sure & ~polar]).all()
    assert (found != 255).all()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:4087", "EPSG:6933"])
def test_a_lake_on_a_continent_is_labelled_under_utm(tmp_path, crs):
    images = images_at(tmp_path, *PLACES["UTM"])
    left, bottom, right, top = images.index.total_bounds
    lake = shapely.box(left, bottom, (left + right) / 2, top)
    shapes = [shapely.box(-170, -60, -30, 80), lake]
    moved = [
        move([shape], CRS(own), CRS(crs), 1e-3)[0]
        for shape, own in zip(shapes, ("EPSG:4326", images.crs), strict=True)
    ]
    path = save(tmp_path / "a.gpkg", moved, crs)
    found = labels_under(images, LabelPolygons(path, "kind", {0: 0, 1: 1}))
    expected = np.zeros((SIDE, SIDE)) + (np.arange(SIDE) < SIDE / 2)
    assert (found == expected).all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 60), st.floats(-75, 75), st.floats(-3, 3), st.floats(0.5, 2.0), st.sampled_from([10.0, 500.0]),
)  # fmt: skip
def test_straight_edges_in_degrees_are_reprojected_with_an_error_below_a_pixel(
    zone, latitude, east, size, pixel
):
    utm = CRS(32600 + zone)
    middle = 6 * zone - 183 + east
    box = shapely.box(middle - size, latitude - size, middle + size, latitude + size)
    (moved,) = move([box], CRS(4326), utm, pixel)
    dense = shapely.get_coordinates(box.segmentize(size / 500))
    x, y = Transformer.from_crs(4326, utm, always_xy=True).transform(*dense.T)
    assert shapely.distance(moved.exterior, shapely.points(x, y)).max() < 0.2 * pixel
    assert len(shapely.get_coordinates(moved)) < 4000


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(PLACES)), st.sampled_from([4326, 4269, 3857, 6933, 4087, 3413, 5070]))
def test_the_region_of_images_contains_their_area_in_any_crs(place, crs):
    if crs == 5070 and place not in ("UTM", "Albers", "Web Mercator"):
        return  # North America alone
    own, left, top, pixel = PLACES[place]
    side = SIDE * pixel
    region = Roi(CRS(own), ((left, top - side, left + side, top),), pixel).within(CRS(crs))
    if region is None:
        return
    x, y = (
        values.ravel() for values in np.meshgrid(np.linspace(left, left + side), np.linspace(top - side, top))
    )
    points = np.stack(Transformer.from_crs(own, crs, always_xy=True).transform(x, y), axis=1)
    points = points[np.isfinite(points).all(axis=1)]
    assert shapely.covers(region, shapely.points(points)).all()


def test_polygons_inside_the_region_are_unchanged_and_invalid_ones_are_repaired_when_clipped():
    bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    inside = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    away = shapely.box(5, 5, 6, 6)
    touching = shapely.box(1.5, 0, 2, 1)
    whole, kept, none, edge = cut(
        np.array([bow_tie, inside, away, touching], object), shapely.box(-1, -1, 1.5, 3)
    )
    assert kept is inside
    assert none.is_empty
    assert edge.is_empty  # a line alone
    assert whole.is_valid
    assert whole.area == pytest.approx(1 + 0.25)


def test_an_outline_partly_outside_the_crs_is_an_error_and_one_far_away_is_omitted():
    orthographic = CRS("+proj=ortho +lat_0=40 +lon_0=-100")
    near, far = shapely.box(-101, 39, -99, 41), shapely.box(79, -41, 81, -39)
    moved = move_to([near, far], CRS(4326), orthographic, None, "a.gpkg")
    assert not moved[0].is_empty
    assert moved[1].is_empty
    with pytest.raises(
        DataError, match=r"^a.gpkg: 1 outline beyond the area where .* is defined; clip them to"
    ):
        move_to([shapely.box(-180, -90, 180, 90)], CRS(4326), orthographic, None, "a.gpkg")


def test_labels_far_from_the_images_do_not_overlap_them(tmp_path):
    images = images_at(tmp_path, *PLACES["UTM"])
    near, far = shapely.box(-124, 37, -122, 39), shapely.box(10, 50, 11, 51)
    paths = [save(tmp_path / f"{k}.gpkg", [shape], "EPSG:4326") for k, shape in enumerate((far, near))]
    assert (labels_under(images, LabelPolygons(paths, None, 1)) == 1).all()
    alone = LabelPolygons(paths[0], None, 1)
    alone.clip_to(images)
    with pytest.raises(RuntimeError, match="no spatial intersection"):
        images & alone
