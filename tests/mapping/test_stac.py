from datetime import UTC, date, datetime

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from rasterio import Affine
from rasterio.crs import CRS

from prithvi_tg.errors import DataError
from prithvi_tg.mapping.products.classes import class_fields
from prithvi_tg.mapping.products.stac import stac_item, write_stac_item
from prithvi_tg.readers.grid import Grid
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPEC = DataSpec(
    InputSpec(("RED",), (0.0,), (1.0,)), ClassTarget(("Land", "Open water"), ("#aa5500", "#0000ff"))
)
GRID = Grid(CRS.from_epsg(32615), Affine(30, 0, 600000, 0, -30, 4200000), 100, 200)
COLORS = {0: (170, 85, 0, 255), 1: (0, 0, 255, 255), 255: (0, 0, 0, 0)}
ALBERS = "+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +ellps=GRS80"  # EPSG:5070 but for its datum


def item_of(folder, grid=GRID, dates=(date(2023, 7, 1),), areas=None, **properties):
    assets = {name: folder / f"scene_{name}" for name in ("probabilities.tif", "water.gpkg", "quicklook.png")}
    path = folder / "scene_pred.tif"
    fields = class_fields(SPEC, [15000, 5000], areas)
    return stac_item(path, grid, fields, assets, dates, ["scene.tif"], properties)


def footprint_of(folder, crs, transform, height=100, width=100):
    item = item_of(folder, Grid(CRS.from_user_input(crs), transform, height, width))
    return shapely.geometry.shape(item.geometry), item.bbox


def test_an_item_is_equal_after_writing_and_reading(tmp_path):
    item = item_of(tmp_path, areas=[13.5e6, 4.5e6], **{"prithvi_tg:version": "1.0"})
    path = tmp_path / "scene_pred.json"
    write_stac_item(item, path)
    assert list(tmp_path.iterdir()) == [path]
    read = pystac.Item.from_file(path)
    assert read.id == "scene_pred"
    assert read.datetime == datetime(2023, 7, 1, tzinfo=UTC)
    assert (read.geometry, read.bbox) == (item.geometry, item.bbox)
    assert read.properties == item.properties
    assert read.stac_extensions == item.stac_extensions
    assert read.properties["proj:code"] == "EPSG:32615"
    assert read.properties["proj:shape"] == [100, 200]
    assert read.properties["proj:transform"] == [30, 0, 600000, 0, -30, 4200000]
    assert read.properties["prithvi_tg:sources"] == ["scene.tif"]
    assert read.properties["prithvi_tg:version"] == "1.0"
    assert read.properties["prithvi_tg:classes"] == [
        {"value": 0, "name": "Land", "pixels": 15000, "square_metres": 13.5e6},
        {"value": 1, "name": "Open water", "pixels": 5000, "square_metres": 4.5e6},
    ]


def test_assets_have_relative_paths_roles_and_classes(tmp_path):
    item = item_of(tmp_path)
    path = tmp_path / "scene_pred.json"
    write_stac_item(item, path)
    assert str(tmp_path) not in path.read_text()
    assets = pystac.Item.from_file(path).assets
    assert {key: (asset.href, asset.media_type, asset.roles) for key, asset in assets.items()} == {
        "map": ("scene_pred.tif", pystac.MediaType.COG, ["data"]),
        "probabilities.tif": ("scene_probabilities.tif", pystac.MediaType.COG, ["data"]),
        "water.gpkg": ("scene_water.gpkg", pystac.MediaType.GEOPACKAGE, ["data"]),
        "quicklook.png": ("scene_quicklook.png", pystac.MediaType.PNG, ["overview"]),
    }
    classes = assets["map"].extra_fields["classification:classes"]
    assert [
        (entry["value"], entry["name"], entry["title"], entry.get("color_hint")) for entry in classes
    ] == [
        (0, "Land", "Land", "AA5500"),
        (1, "Open_water", "Open water", "0000FF"),
        (255, "nodata", "No data", None),
    ]
    assert assets["map"].extra_fields["nodata"] == 255


def test_a_map_among_the_assets_keeps_its_key(tmp_path):
    path = tmp_path / "scene_pred.tif"
    item = stac_item(path, GRID, class_fields(SPEC, [1, 2], None), {"pred": path}, [], [], {})
    assert list(item.assets) == ["pred"]
    assert "classification:classes" in item.assets["pred"].extra_fields


def test_several_dates_give_a_start_and_an_end(tmp_path):
    item = item_of(tmp_path, dates=[date(2023, 8, 2), None, date(2023, 7, 1), date(2023, 9, 3)])
    assert item.datetime is None
    assert item.properties["start_datetime"] == "2023-07-01T00:00:00Z"
    assert item.properties["end_datetime"] == "2023-09-03T00:00:00Z"


def test_an_item_without_a_date_notes_that_it_has_the_time_of_processing(tmp_path):
    item = item_of(tmp_path, dates=[None])
    assert item.datetime is not None
    assert (datetime.now(UTC) - item.datetime).total_seconds() < 60
    assert item.properties["prithvi_tg:datetime"].startswith("time of processing")
    assert "prithvi_tg:datetime" not in item_of(tmp_path).properties


def test_an_item_without_a_crs_has_no_geometry(tmp_path):
    path = tmp_path / "scene_pred.json"
    write_stac_item(item_of(tmp_path, Grid(None, GRID.transform, 100, 200)), path)
    item = pystac.Item.from_file(path)
    assert (item.geometry, item.bbox) == (None, None)
    assert item.properties["proj:code"] is None
    assert item.properties["prithvi_tg:classes"][0]["square_metres"] is None


def test_a_crs_without_a_code_is_written_in_full(tmp_path):
    item = item_of(tmp_path, Grid(CRS.from_string(ALBERS), GRID.transform, 100, 200))
    assert item.properties["proj:code"] is None
    assert CRS.from_wkt(item.properties["proj:wkt2"]) == CRS.from_string(ALBERS)


def test_footprints_follow_the_curves_of_the_grid(tmp_path):
    outline, bbox = footprint_of(tmp_path, ALBERS, Affine(30000, 0, -1.5e6, 0, -30000, 2e6))
    edge = rasterio.warp.transform(
        CRS.from_string(ALBERS), "EPSG:4326", np.linspace(-1.5e6, 1.5e6, 999), [2e6] * 999
    )
    assert max(outline.boundary.distance(shapely.Point(*point)) for point in zip(*edge, strict=True)) < 0.01
    assert bbox[3] == pytest.approx(max(edge[1]), abs=0.01)
    assert outline.exterior.is_ccw


def test_a_footprint_with_straight_edges_has_four_corners(tmp_path):
    outline, bbox = footprint_of(tmp_path, "EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 50))
    assert outline.equals(shapely.box(10, 49, 11, 50))
    assert len(outline.exterior.coords) == 5
    assert bbox == [10, 49, 11, 50]


def test_footprints_are_cut_at_the_antimeridian(tmp_path):
    outline, bbox = footprint_of(tmp_path, "EPSG:32601", Affine(1000, 0, 300000, 0, -1000, 7_000_000))
    assert outline.geom_type == "MultiPolygon"
    assert outline.bounds[0] == -180
    assert outline.bounds[2] == 180
    assert outline.area < 5
    west, _, east, _ = bbox
    assert 178 < west < 180
    assert -180 < east < -178


def test_a_footprint_around_a_pole_contains_it(tmp_path):
    outline, bbox = footprint_of(tmp_path, "EPSG:3413", Affine(1000, 0, -50000, 0, -1000, 30000))
    assert outline.covers(shapely.Point(12, 89.99))
    assert not outline.covers(shapely.Point(12, 88))
    assert [bbox[0], *bbox[2:]] == [-180, 180, 90]


def test_the_footprint_of_the_globe_is_the_globe(tmp_path):
    for west in (-180, 0):
        outline, bbox = footprint_of(tmp_path, "EPSG:4326", Affine(1, 0, west, 0, -1, 90), 180, 360)
        assert outline.area == pytest.approx(360 * 180)
        assert bbox == [-180, -90, 180, 90]


def test_a_failed_item_leaves_nothing_behind(tmp_path):
    item = item_of(tmp_path)
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(DataError, match=r"taken\.json: cannot be written"):
        write_stac_item(item, tmp_path / "taken.json")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]
