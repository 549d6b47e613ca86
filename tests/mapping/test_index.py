import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from prithvi_tg.errors import DataError
from prithvi_tg.mapping.products.index import write_index
from prithvi_tg.readers.grid import Grid
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPEC = DataSpec(
    InputSpec(("RED",), (0.0,), (1.0,)), ClassTarget(("Land", "Open water"), ("#aa5500", "#0000ff"))
)
GRID = Grid(CRS.from_epsg(32615), Affine(30, 0, 600000, 0, -30, 4200000), 100, 200)
COLORS = {0: (170, 85, 0, 255), 1: (0, 0, 255, 255), 255: (0, 0, 0, 0)}
ALBERS = "+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +ellps=GRS80"  # EPSG:5070 but for its datum


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


def test_later_maps_cover_earlier_ones_except_for_nodata(tmp_path):
    below = write_map(tmp_path / "a.tif", [[0, 0, 0]])
    above = write_map(tmp_path / "b.tif", [[1, 255]], west=600000 + 30)
    (index,) = write_index([below, above], tmp_path)
    with rasterio.open(index) as file:
        assert file.read(1).tolist() == [[0, 1, 0]]


def test_the_index_has_the_pixels_of_the_finest_map(tmp_path):
    coarse = write_map(tmp_path / "a.tif", [[0, 1]])
    fine = write_map(tmp_path / "b.tif", [[1, 0, 1]], size=10, north=4200000 - 30)
    (index,) = write_index([coarse, fine], tmp_path)
    with rasterio.open(index) as file:
        assert file.res == (10, 10)
        expected = [[0, 0, 0, 1, 1, 1]] * 3 + [[1, 0, 1, 255, 255, 255]]
        np.testing.assert_array_equal(file.read(1), expected)


def test_maps_off_the_common_grid_are_shifted_by_at_most_half_a_pixel(tmp_path):
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


def test_rounding_errors_of_coordinates_shift_no_map(tmp_path):
    size = 2.6949458523585647e-4
    values = np.arange(15).reshape(3, 5) % 2
    maps = [
        write_map(tmp_path / f"{k}.tif", values, "EPSG:4326", 10 + 5 * k * size, 50, size) for k in range(7)
    ]
    (index,) = write_index(maps, tmp_path)
    with rasterio.open(index) as file:
        np.testing.assert_array_equal(file.read(1), np.tile(values, 7))


def write_values(path, values, west=600000, names=("biomass", "height"), units=("t/ha", "m")):
    values = np.asarray(values, np.float32)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=len(values), height=values.shape[1], width=values.shape[2],
        nodata=float("nan"), crs="EPSG:32615", transform=Affine(30, 0, west, 0, -30, 4200000),
    ) as file:  # fmt: skip
        file.write(values)
        file.descriptions, file.units = names, units
    return path


def test_an_index_of_values_has_all_bands_with_names_and_units(tmp_path):
    nan = float("nan")
    left = write_values(tmp_path / "a.tif", [[[1.5, 2, 3]], [[10, 20, 30]]])
    right = write_values(tmp_path / "b.tif", [[[nan, 4]], [[nan, 40]]], west=600000 + 60)
    (index,) = write_index([left, right], tmp_path)
    with rasterio.open(index) as file:
        assert (file.descriptions, file.units) == (("biomass", "height"), ("t/ha", "m"))
        assert (set(file.dtypes), bool(np.isnan(file.nodata))) == ({"float32"}, True)
        np.testing.assert_array_equal(file.read(), [[[1.5, 2, 3, 4]], [[10, 20, 30, 40]]])
        np.testing.assert_array_equal(file.read(masked=True).mask, False)


def test_maps_with_different_bands_have_separate_indexes(tmp_path):
    first = write_values(tmp_path / "a.tif", [[[1]], [[2]]])
    for other in (
        write_values(tmp_path / "b.tif", [[[1]], [[2]]], units=("Mg/ha", "m")),
        write_map(tmp_path / "c.tif", [[1]]),
    ):
        with pytest.raises(
            DataError, match=r"has float32 bands biomass t/ha, height m; map them into different"
        ):
            write_index([first, other], tmp_path)
    assert not list(tmp_path.glob("*.vrt"))


def test_every_crs_has_a_separate_index(tmp_path):
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


def test_an_existing_index_of_other_maps_is_kept(tmp_path):
    (tmp_path / "index_EPSG_32615.vrt").write_text("not an index")
    paths = [write_map(tmp_path / f"{name}.tif", [[0, 1]]) for name in "ab"]
    names = [write_index([path], tmp_path)[0].name for path in paths]
    assert names == ["index_EPSG_32615_run_2.vrt", "index_EPSG_32615_run_3.vrt"]
    with rasterio.open(tmp_path / names[0]) as file:
        assert [Path(path).name for path in file.files] == [names[0], "a.tif"]


def test_an_index_of_some_of_the_maps_is_replaced(tmp_path):
    first = write_map(tmp_path / "a.tif", [[0, 1]])
    other = write_map(tmp_path / "b.tif", [[1]], west=600000 + 60)
    for maps, width in (([first], 2), ([first], 2), ([first, other], 3)):
        (index,) = write_index(maps, tmp_path)
        with rasterio.open(index) as file:
            assert file.width == width
    assert [path.name for path in tmp_path.glob("*.vrt")] == ["index_EPSG_32615.vrt"]


@pytest.mark.parametrize(
    ("unfit", "reason"), [({"crs": None}, "has no CRS"), ({"shear": 5}, "is not north-up")]
)
def test_maps_that_an_index_cannot_show_are_omitted_and_named(tmp_path, unfit, reason, caplog):
    path = write_map(tmp_path / "a.tif", [[0, 1]], **unfit)
    assert write_index([path], tmp_path) == []
    assert f"{path}: {reason}, so it is left out of the index" in caplog.text


def test_unreadable_maps_are_an_error(tmp_path):
    with pytest.raises(DataError, match=r"missing\.tif"):
        write_index([tmp_path / "missing.tif"], tmp_path)
    path = tmp_path / "legacy.tif"
    with rasterio.open(
        path, "w", height=1, width=1, count=1, dtype="int16", transform=GRID.transform
    ) as file:
        file.write(np.zeros((1, 1), np.int16), 1)
    with pytest.raises(DataError, match=r"legacy\.tif: data type int16"):
        write_index([path], tmp_path)
