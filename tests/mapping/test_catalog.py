import shutil
from datetime import UTC, date, datetime

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from prithvi_tg.datasets.scenes import Grid
from prithvi_tg.errors import DataError
from prithvi_tg.mapping.catalog import stac_item, write_index, write_stac_item
from prithvi_tg.spec import DataSpec

SPEC = DataSpec(
    ("RED",), (0.0,), (1.0,), class_names=("Land", "Open water"), class_colors=("#aa5500", "#0000ff")
)
GRID = Grid(CRS.from_epsg(32615), Affine(30, 0, 600000, 0, -30, 4200000), 100, 200)
COLORS = {0: (170, 85, 0, 255), 1: (0, 0, 255, 255), 255: (0, 0, 0, 0)}
ALBERS = "+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +ellps=GRS80"  # EPSG:5070 but for its datum


def item_of(folder, grid=GRID, dates=(date(2023, 7, 1),), areas=None, **properties):
    assets = {name: folder / f"scene_{name}" for name in ("probabilities.tif", "water.gpkg", "quicklook.png")}
    path = folder / "scene_pred.tif"
    return stac_item(path, grid, SPEC, [15000, 5000], areas, assets, dates, ["scene.tif"], properties)


def footprint_of(folder, crs, transform, height=100, width=100):
    item = item_of(folder, Grid(CRS.from_user_input(crs), transform, height, width))
    return shapely.geometry.shape(item.geometry), item.bbox


def test_an_item_survives_writing_and_reading(tmp_path):
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


def test_assets_are_named_from_the_item_and_say_what_they_are(tmp_path):
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
    item = stac_item(path, GRID, SPEC, [1, 2], None, {"pred": path}, [], [], {})
    assert list(item.assets) == ["pred"]
    assert "classification:classes" in item.assets["pred"].extra_fields


def test_several_dates_are_a_span(tmp_path):
    item = item_of(tmp_path, dates=[date(2023, 8, 2), None, date(2023, 7, 1), date(2023, 9, 3)])
    assert item.datetime is None
    assert item.properties["start_datetime"] == "2023-07-01T00:00:00Z"
    assert item.properties["end_datetime"] == "2023-09-03T00:00:00Z"


def test_without_a_date_the_item_says_that_it_bears_the_time_of_processing(tmp_path):
    item = item_of(tmp_path, dates=[None])
    assert item.datetime is not None
    assert (datetime.now(UTC) - item.datetime).total_seconds() < 60
    assert item.properties["prithvi_tg:datetime"].startswith("time of processing")
    assert "prithvi_tg:datetime" not in item_of(tmp_path).properties


def test_without_a_crs_an_item_has_no_place(tmp_path):
    path = tmp_path / "scene_pred.json"
    write_stac_item(item_of(tmp_path, Grid(None, GRID.transform, 100, 200)), path)
    item = pystac.Item.from_file(path)
    assert (item.geometry, item.bbox) == (None, None)
    assert item.properties["proj:code"] is None
    assert item.properties["prithvi_tg:classes"][0]["square_metres"] is None


def test_a_crs_without_a_code_is_told_in_full(tmp_path):
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


def test_a_straight_footprint_has_four_corners(tmp_path):
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


def write_map(path, values, crs="EPSG:32615", west=600000, north=4200000, size=30, shear=0):
    values = np.asarray(values, np.uint8)
    profile = {
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1,
        "dtype": "uint8",
        "nodata": 255,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", crs=crs, transform=Affine(size, shear, west, 0, -size, north), **profile
    ) as file:
        file.write(values, 1)
        file.write_colormap(1, COLORS)
        file.update_tags(1, CLASS_0="Land", CLASS_1="Open water")
    return path


def test_an_index_shows_maps_side_by_side_with_nodata_between(tmp_path):
    left = write_map(tmp_path / "a.tif", [[0, 1], [1, 0]])
    right = write_map(tmp_path / "b.tif", [[1, 1]], west=600000 + 90, north=4200000 - 30)
    (index,) = write_index([left, right], tmp_path)
    assert index == tmp_path / "index_EPSG_32615.vrt"
    with rasterio.open(index) as file:
        assert file.crs.to_epsg() == 32615
        assert file.transform == GRID.transform
        assert (file.dtypes, file.nodata) == (("uint8",), 255)
        np.testing.assert_array_equal(file.read(1), [[0, 1, 255, 255, 255], [1, 0, 255, 1, 1]])


def test_an_index_has_the_colours_and_names_of_the_maps(tmp_path):
    (index,) = write_index([write_map(tmp_path / "a.tif", [[0, 1]])], tmp_path)
    with rasterio.open(index) as file:
        assert file.colorinterp == (ColorInterp.palette,)
        assert {value: file.colormap(1)[value] for value in COLORS} == COLORS
        assert file.tags(1) == {"CLASS_0": "Land", "CLASS_1": "Open water"}
    assert "<Category>Open water</Category>" in index.read_text()


def test_a_later_map_lies_over_an_earlier_one_except_where_it_has_no_data(tmp_path):
    below = write_map(tmp_path / "a.tif", [[0, 0, 0]])
    above = write_map(tmp_path / "b.tif", [[1, 255]], west=600000 + 30)
    (index,) = write_index([below, above], tmp_path)
    with rasterio.open(index) as file:
        assert file.read(1).tolist() == [[0, 1, 0]]


def test_the_finest_map_gives_the_pixels(tmp_path):
    coarse = write_map(tmp_path / "a.tif", [[0, 1]])
    fine = write_map(tmp_path / "b.tif", [[1, 0, 1]], size=10, north=4200000 - 30)
    (index,) = write_index([coarse, fine], tmp_path)
    with rasterio.open(index) as file:
        assert file.res == (10, 10)
        expected = [[0, 0, 0, 1, 1, 1]] * 3 + [[1, 0, 1, 255, 255, 255]]
        np.testing.assert_array_equal(file.read(1), expected)


def test_maps_off_the_common_grid_come_within_half_a_pixel(tmp_path):
    values = np.arange(36).reshape(6, 6) % 2
    maps = [
        write_map(tmp_path / "a.tif", values),
        write_map(tmp_path / "b.tif", values, west=600000 + 10 * 30 + 12, north=4200000 - 7),
    ]
    (index,) = write_index(maps, tmp_path)
    with rasterio.open(index) as file:
        whole = file.read(1)
    assert whole.shape == (7, 17)
    np.testing.assert_array_equal(whole[:6, :6], values)
    np.testing.assert_array_equal(whole[:6, 10:16], values)
    assert (whole[:, 6:10] == 255).all()


def test_rounding_of_coordinates_shifts_no_map(tmp_path):
    size = 2.6949458523585647e-4
    values = np.arange(15).reshape(3, 5) % 2
    maps = [
        write_map(tmp_path / f"{k}.tif", values, "EPSG:4326", 10 + 5 * k * size, 50, size) for k in range(7)
    ]
    (index,) = write_index(maps, tmp_path)
    with rasterio.open(index) as file:
        np.testing.assert_array_equal(file.read(1), np.tile(values, 7))


def test_every_crs_has_its_own_index(tmp_path):
    maps = [
        write_map(tmp_path / f"{k}.tif", [[k]], crs)
        for k, crs in enumerate(["EPSG:32615", "EPSG:32616", CRS.from_string(ALBERS), "EPSG:32616"])
    ]
    first, second, third = write_index(maps, tmp_path / "out")
    assert (first.name, second.name) == ("index_EPSG_32615.vrt", "index_EPSG_32616.vrt")
    assert len(third.stem) == len("index_") + 8
    with rasterio.open(second) as file:
        assert file.read(1).tolist() == [[3]]
    with rasterio.open(third) as file:
        assert file.crs == CRS.from_string(ALBERS)


def test_an_index_works_after_its_folder_has_moved(tmp_path):
    path = write_map(tmp_path / "out" / "maps & more" / "a.tif", [[0, 1]])
    write_index([path], tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    with rasterio.open(tmp_path / "elsewhere" / "index_EPSG_32615.vrt") as file:
        assert file.read(1).tolist() == [[0, 1]]


def test_an_index_that_is_there_stays(tmp_path):
    path = write_map(tmp_path / "a.tif", [[0, 1]])
    names = [write_index([path], tmp_path)[0].name for _ in range(3)]
    assert names == ["index_EPSG_32615.vrt", "index_EPSG_32615_2.vrt", "index_EPSG_32615_3.vrt"]


@pytest.mark.parametrize("unfit", [{"crs": None}, {"shear": 5}])
def test_maps_that_no_index_can_show_are_left_out_and_named(tmp_path, unfit, caplog):
    path = write_map(tmp_path / "a.tif", [[0, 1]], **unfit)
    assert write_index([path], tmp_path) == []
    assert "a.tif" in caplog.text


def test_maps_that_cannot_be_read_are_an_error(tmp_path):
    with pytest.raises(DataError, match=r"missing\.tif"):
        write_index([tmp_path / "missing.tif"], tmp_path)
    path = tmp_path / "legacy.tif"
    with rasterio.open(
        path, "w", height=1, width=1, count=1, dtype="int16", transform=GRID.transform
    ) as file:
        file.write(np.zeros((1, 1), np.int16), 1)
    with pytest.raises(DataError, match=r"legacy\.tif: holds int16"):
        write_index([path], tmp_path)
