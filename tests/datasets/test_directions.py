"""Images that are not north-up: flipped, rotated by any angle, or georeferenced only by ground control points."""

from types import SimpleNamespace

import geopandas
import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine

from prithvi_tg.datasets.scenes.dataset import SceneDataset
from prithvi_tg.datasets.scenes.labels import LabelRaster
from prithvi_tg.errors import DataError
from prithvi_tg.mapping.products import PRODUCTS, FinishedMap, MapContext, OutputOptions
from prithvi_tg.mapping.products.index import write_index
from prithvi_tg.mapping.products.polygons import write_polygons
from prithvi_tg.mapping.products.stac import _footprint
from prithvi_tg.readers.grid import Grid
from prithvi_tg.readers.scene import BandFile, Scene, SceneReader
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPEC = DataSpec(InputSpec(("RED",), (0.0,), (1.0,)), ClassTarget(("Land", "Water")))
HEIGHT, WIDTH = 20, 26
UTM = CRS.from_epsg(32610)
NUMBERS = np.arange(1, HEIGHT * WIDTH + 1, dtype=np.int16).reshape(HEIGHT, WIDTH)
CLASSES = {value: value for value in range(251)}
NORTH = Affine(30, 0, 500000, 0, -20, 4200000)


def classes_of(numbers):
    return numbers % 250 + 1


def turned(angle, mirrored=False):
    flip = Affine.scale(-1, 1) if mirrored else Affine.identity()
    return Affine.translation(500000, 4200000) @ Affine.rotation(angle) @ Affine.scale(30, -20) @ flip


def write(path, values, transform=None, gcps=None, crs=UTM):
    height, width = values.shape
    placed = {} if transform is None else {"crs": crs, "transform": transform}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=values.dtype, **placed
    ) as out:  # fmt: skip
        out.write(values, 1)
        if gcps is not None:
            out.gcps = gcps, crs
    return path


def scene_of(path):
    with rasterio.open(path) as source:
        return Scene("scene", Grid.of(source), (BandFile(str(path), 1),))


def under(folder, **place):
    """Pixel numbers (H, W), 0 without a pixel, and labels (H, W) of a scene with labels on the same pixels."""
    images = SceneDataset(scene_of(write(folder / "image.tif", NUMBERS, **place)), SPEC)
    labels = LabelRaster(write(folder / "label.tif", classes_of(NUMBERS).astype(np.uint8), **place), CLASSES)
    labels.clip_to(images)
    both = images & labels
    left, bottom, right, top = images.grid.bounds
    t = both.bounds[2]
    sample = both[slice(left, right), slice(bottom, top), t]
    return images.grid, np.where(sample["valid"][0, 0], sample["image"][0, 0], 0), sample["mask"].numpy()


def expected_at(grid, transform):
    """The pixel number at each pixel centre of a grid, 0 outside; and a mask of centres away from pixel edges."""
    rows, columns = np.mgrid[: grid.height, : grid.width] + 0.5
    inverse, t = ~transform, grid.transform
    x, y = t.a * columns + t.c, t.e * rows + t.f
    column, row = inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f
    inside = (row >= 0) & (row < HEIGHT) & (column >= 0) & (column < WIDTH)
    whole = NUMBERS[row.astype(int).clip(0, HEIGHT - 1), column.astype(int).clip(0, WIDTH - 1)]
    sure = (np.abs(row - np.round(row)) > 0.02) & (np.abs(column - np.round(column)) > 0.02)
    return np.where(inside, whole, 0), sure


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.sampled_from([0, 1, 90, 180, 270]), st.floats(-180, 180)), st.booleans())
def test_labels_match_the_pixels_of_flipped_and_rotated_images(tmp_path, angle, mirrored):
    transform = turned(angle, mirrored)
    grid, numbers, labels = under(tmp_path, transform=transform)
    assert grid.is_north_up
    assert sorted((grid.transform.a, -grid.transform.e)) == pytest.approx([20, 30])
    expected, sure = expected_at(grid, transform)
    assert (numbers[sure] == expected[sure]).all()
    there = numbers > 0
    assert (labels[there] == classes_of(numbers[there])).all()
    assert there.sum() >= HEIGHT * WIDTH * 0.9
    if angle in (0, 90, 180, 270):
        assert sorted(numbers.ravel()) == sorted(NUMBERS.ravel())  # the same pixels in another order


@pytest.mark.parametrize(
    "transform",
    [
        Affine(30, 0, 500000, 0, 20, 4199000),
        Affine(-30, 0, 500000, 0, -20, 4200000),
        Affine(-30, 0, 500000, 0, 20, 4199000),
    ],
    ids=["south-up", "east-left", "both"],
)
def test_flipped_images_keep_every_pixel(tmp_path, transform):
    grid, numbers, labels = under(tmp_path, transform=transform)
    expected, _ = expected_at(grid, transform)
    assert (numbers == expected).all()
    assert (labels == classes_of(numbers)).all()


def control(transform, bend=0.0):
    """16 points of a transform, displaced by a few pixels at most."""
    found = []
    for row in np.linspace(0, HEIGHT, 4):
        for column in np.linspace(0, WIDTH, 4):
            x, y = transform @ (column + bend * (row / HEIGHT) ** 2, row)
            found.append(GroundControlPoint(row, column, x, y))
    return found


@pytest.mark.parametrize("angle", [0, 20])
def test_control_points_georeference_an_image_and_its_labels(tmp_path, angle):
    transform = turned(angle)
    grid, numbers, labels = under(tmp_path, gcps=control(transform))
    assert grid.crs == UTM
    expected, sure = expected_at(grid, transform)
    assert (numbers[sure] == expected[sure]).all()
    assert (labels[numbers > 0] == classes_of(numbers[numbers > 0])).all()
    assert (numbers > 0).sum() >= HEIGHT * WIDTH * 0.9


def test_an_image_between_bent_control_points_is_straightened(tmp_path):
    path = write(tmp_path / "image.tif", NUMBERS, gcps=control(NORTH, bend=3))
    labels = LabelRaster(write(tmp_path / "label.tif", NUMBERS % 250 + 1, NORTH), CLASSES)
    images = SceneDataset(scene_of(path), SPEC)
    labels.clip_to(images)
    left, bottom, right, top = images.grid.bounds
    both = images & labels
    sample = both[slice(left, right), slice(bottom, top), both.bounds[2]]
    numbers, valid = sample["image"][0, 0].numpy(), sample["valid"][0, 0].numpy()
    rows, columns = np.divmod(numbers - 1, WIDTH)
    t = images.grid.transform
    x = t.c + t.a * (np.arange(images.grid.width) + 0.5)
    straight = 500000 + 30 * (columns + 0.5 + 3 * ((rows + 0.5) / HEIGHT) ** 2)
    assert np.abs(straight - x)[valid].max() < 30
    assert valid.mean() > 0.8


def test_a_map_keeps_control_points_and_its_polygons_use_them(tmp_path):
    transform = turned(20)
    scene = scene_of(write(tmp_path / "image.tif", NUMBERS, gcps=control(transform)))
    with SceneReader(scene, SPEC) as reader:
        assert (reader.read(0, HEIGHT).values[0] == NUMBERS).all()  # read as it is stored
    values = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    values[0, 2:5, 3:9] = 1
    store = SimpleNamespace(pieces=lambda strips, layer: [(0, values)])
    for name in ("classes", "legacy_classes"):
        path, product = tmp_path / f"{name}_pred.tif", PRODUCTS[name]()
        product.begin(MapContext(scene, path, SPEC, OutputOptions(), {}, None))
        product.finish(FinishedMap(product.outputs(), [product], [], store, []))
        with rasterio.open(path) as source:
            assert Grid.of(source) == scene.grid
            assert (source.read() == values).all()
        pieces = [(0, values[0], np.ones((HEIGHT, WIDTH)))]
        water = OutputOptions(vector=SPEC.target.names[1])
        write_polygons(pieces, {"gpkg": tmp_path / "a.gpkg"}, "a", scene.grid, SPEC, water)
        found = geopandas.read_file(tmp_path / "a.gpkg")
        assert found.crs == "EPSG:32610"
        corner = transform @ (3, 2)
        assert (
            found.geometry[0].exterior.distance(geopandas.points_from_xy(*zip(corner, strict=True))[0]) < 0.01
        )
        assert found.geometry[0].area == pytest.approx(18 * 600)
    geometry, bbox = _footprint(scene.grid)
    assert geometry["type"] == "Polygon"
    assert -123.01 < bbox[0] < bbox[2] < -122.98
    assert write_index([tmp_path / "classes_pred.tif"], tmp_path) == []


def test_collinear_control_points_give_no_georeference(tmp_path):
    points = [GroundControlPoint(k, k, 500000.0 + 30 * k, 4200000.0 - 30 * k) for k in range(5)]
    scene = scene_of(write(tmp_path / "image.tif", NUMBERS, gcps=points))
    assert not scene.grid.is_placed
    with pytest.raises(DataError, match=r"label.tif: has no CRS; assign the CRS of its coordinates"):
        LabelRaster(write(tmp_path / "label.tif", NUMBERS, gcps=points), CLASSES)
