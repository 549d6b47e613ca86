import geopandas
import numpy as np
import pytest
import rasterio
from rasterio import Affine

from prithvi_tg.errors import DataError
from prithvi_tg.mapping.products.polygons import write_polygons
from prithvi_tg.readers.grid import Grid
from prithvi_tg.readers.pixel_areas import row_areas
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPEC = DataSpec(InputSpec(("RED",), (0.0,), (1.0,)), ClassTarget(("Land", "Water", "Ice")))
UTM = ("EPSG:32615", Affine(30, 0, 600000, 0, -30, 4200000))
DEGREES = ("EPSG:4326", Affine(0.5, 0, 10, 0, -0.5, 80))
NOWHERE = (None, Affine(2, 0, 0, 0, -2, 0))

CLASSES = np.array(
    [
        [1, 1, 1, 0, 255],
        [1, 0, 1, 0, 255],
        [1, 1, 1, 0, 1],
        [0, 0, 0, 1, 0],
    ],
    np.uint8,
)


@pytest.fixture
def write_map(tmp_path):
    def write(crs, transform, values=CLASSES):
        path = tmp_path / "scene_pred.tif"
        height, width = values.shape
        profile = {"height": height, "width": width, "count": 1, "dtype": "uint8", "nodata": 255}
        with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as file:
            file.write(values, 1)
        return path

    return write


def test_polygons_keep_their_holes_and_share_only_edges(write_map, tmp_path):
    path = tmp_path / "water.gpkg"
    assert write_polygons(write_map(*UTM), path, [1], SPEC) == 3
    patches = geopandas.read_file(path, layer="scene_pred").sort_values("square_metres", ascending=False)
    assert patches.crs.to_epsg() == 32615
    assert patches["square_metres"].tolist() == [8 * 900, 900, 900]
    assert set(patches["class"]) == {1}
    assert set(patches["name"]) == {"Water"}
    ring = patches.geometry.iloc[0]
    assert len(ring.interiors) == 1
    assert ring.bounds == (600000, 4200000 - 90, 600000 + 90, 4200000)
    np.testing.assert_allclose(patches.area, patches["square_metres"])


@pytest.mark.parametrize("place", [UTM, DEGREES, ("EPSG:3857", Affine(30, 0, 1e6, 0, -30, 8.4e6))])
def test_areas_of_polygons_add_up_to_the_area_of_the_pixels(write_map, tmp_path, place):
    path = tmp_path / "all.gpkg"
    map_path = write_map(*place)
    write_polygons(map_path, path, [0, 1], SPEC)
    patches = geopandas.read_file(path).groupby("class")["square_metres"].sum()
    with rasterio.open(map_path) as file:
        per_pixel = row_areas(Grid.of(file))[:, None]
    for value in (0, 1):
        assert patches[value] == pytest.approx((per_pixel * (value == CLASSES)).sum())


def test_a_class_without_pixels_gives_an_empty_layer(write_map, tmp_path):
    path = tmp_path / "ice.gpkg"
    assert write_polygons(write_map(*UTM), path, [2], SPEC) == 0
    patches = geopandas.read_file(path)
    assert len(patches) == 0
    assert list(patches.columns) == ["class", "name", "square_metres", "geometry"]
    assert patches.crs.to_epsg() == 32615


def test_without_a_crs_polygons_are_in_the_plane_of_the_map(write_map, tmp_path, recwarn):
    path = tmp_path / "water.gpkg"
    assert write_polygons(write_map(*NOWHERE), path, [1], SPEC) == 3
    patches = geopandas.read_file(path)
    assert patches["square_metres"].isna().all()
    assert patches.area.sum() == 10 * 4
    assert not [warning for warning in recwarn if "crs" in str(warning.message)]


def test_polygons_of_rotated_maps_are_in_the_right_place(write_map, tmp_path):
    transform = Affine(26, 15, 600000, 15, -26, 4200000)
    write_polygons(write_map("EPSG:32615", transform), tmp_path / "water.gpkg", [1], SPEC)
    patches = geopandas.read_file(tmp_path / "water.gpkg")
    np.testing.assert_allclose(patches.area, patches["square_metres"])


def test_classes_without_a_name_are_an_error(write_map, tmp_path):
    with pytest.raises(DataError, match=r"water\.gpkg: value 3 is not a class; classes are 0 to 2"):
        write_polygons(write_map(*UTM), tmp_path / "water.gpkg", [3], SPEC)


def test_a_failure_leaves_no_files(write_map, tmp_path, monkeypatch):
    def fill_the_disk(self, path, **_):
        path.write_bytes(b"half")
        path.with_name(f"{path.name}-journal").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(geopandas.GeoDataFrame, "to_file", fill_the_disk)
    map_path = write_map(*UTM)
    with pytest.raises(DataError, match=r"water\.gpkg: cannot be written \(disk full\)"):
        write_polygons(map_path, tmp_path / "water.gpkg", [1], SPEC)
    assert list(tmp_path.iterdir()) == [map_path]
