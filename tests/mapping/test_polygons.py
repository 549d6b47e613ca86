import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.features import shapes

from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.mapping.products import select_products
from prithvi_tg.mapping.products.base import OutputOptions
from prithvi_tg.mapping.products.outlines import find_regions
from prithvi_tg.mapping.products.polygons import Polygons, write_polygons
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


def order(polygon):
    value, outline = polygon
    return value, outline.bounds, outline.area


def pieces_of(values, heights, weights=None):
    weights = np.ones(values.shape) if weights is None else weights
    top = 0
    for height in [*heights, len(values)]:
        if top < len(values):
            yield top, values[top : top + height], weights[top : top + height]
        top += height


@pytest.fixture
def polygons_of(tmp_path):
    def write(place=UTM, values=CLASSES, weights=None, form="gpkg", heights=(), **options):
        crs, transform = place
        grid = Grid(None if crs is None else CRS.from_string(crs), transform, *values.shape)
        path = tmp_path / f"scene_pred.{form}"
        count = write_polygons(
            pieces_of(values, heights, weights),
            {form: path},
            "scene_pred",
            grid,
            SPEC,
            OutputOptions(**options),
        )
        frame = geopandas.read_file(path) if form == "gpkg" else geopandas.read_parquet(path)
        assert len(frame) == count
        return frame

    return write


def test_polygons_keep_their_holes_and_share_only_edges(polygons_of):
    patches = polygons_of(vector="Water").sort_values("square_metres", ascending=False)
    assert patches.crs.to_epsg() == 32615
    assert patches["square_metres"].tolist() == [8 * 900, 900, 900]
    assert set(patches["class"]) == {1}
    assert set(patches["name"]) == {"Water"}
    ring = patches.geometry.iloc[0]
    assert len(ring.interiors) == 1
    assert ring.bounds == (600000, 4200000 - 90, 600000 + 90, 4200000)
    np.testing.assert_allclose(patches.area, patches["square_metres"])


@pytest.mark.parametrize("place", [UTM, DEGREES, ("EPSG:3857", Affine(30, 0, 1e6, 0, -30, 8.4e6))])
def test_areas_of_polygons_add_up_to_the_area_of_the_pixels(polygons_of, place):
    patches = polygons_of(place).groupby("class")["square_metres"].sum()
    per_pixel = row_areas(Grid(CRS.from_string(place[0]), place[1], *CLASSES.shape))[:, None]
    for value in (0, 1):
        assert patches[value] == pytest.approx((per_pixel * (value == CLASSES)).sum())


@pytest.mark.parametrize("form", ["gpkg", "parquet"])
def test_a_class_without_pixels_gives_an_empty_layer(polygons_of, form):
    patches = polygons_of(vector=["Ice"], form=form)
    assert len(patches) == 0
    assert list(patches.columns) == ["class", "name", "square_metres", "mean_confidence", "geometry"]
    assert patches.crs.to_epsg() == 32615


def test_without_a_crs_polygons_are_in_the_plane_of_the_map(polygons_of, recwarn):
    patches = polygons_of(NOWHERE, vector=["Water"])
    assert patches["square_metres"].isna().all()
    assert patches.area.sum() == 10 * 4
    assert not [warning for warning in recwarn if "crs" in str(warning.message)]


def test_polygons_of_rotated_maps_are_in_the_right_place(polygons_of):
    patches = polygons_of(("EPSG:32615", Affine(26, 15, 600000, 15, -26, 4200000)))
    np.testing.assert_allclose(patches.area, patches["square_metres"])


def test_geoparquet_holds_the_polygons_of_the_geopackage(polygons_of):
    package, parquet = (
        polygons_of(form=form).sort_values(["class", "square_metres"]) for form in ("gpkg", "parquet")
    )
    assert parquet.crs == package.crs
    assert (
        parquet.drop(columns="geometry").values.tolist() == package.drop(columns="geometry").values.tolist()
    )
    assert all(parquet.geometry.values.geom_equals(package.geometry.values))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_pieces_joined_across_seams_are_the_polygons_of_the_whole_map(data):
    height, width = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 10))
    seed = data.draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).choice([0, 1, 2, 255], (height, width), p=[0.45, 0.4, 0.1, 0.05])
    values = values.astype(np.uint8)
    weights = np.arange(values.size, dtype=float).reshape(values.shape)
    heights = data.draw(st.lists(st.integers(1, 5), max_size=14))
    regions = list(find_regions(pieces_of(values, heights, weights), [0, 1], rows=1))
    mask = np.isin(values, [0, 1])
    whole = [
        (int(value), shapely.geometry.shape(one)) for one, value in shapes(values, mask=mask, connectivity=4)
    ]
    joined = sorted(((region.value, region.outline) for region in regions), key=order)
    for (value, outline), (wanted, expected) in zip(joined, sorted(whole, key=order), strict=True):
        assert outline.is_valid
        assert value == wanted
        assert outline.equals(expected)
        assert shapely.get_num_coordinates(outline) <= shapely.get_num_coordinates(expected) + 1
    assert sum(region.pixels for region in regions) == mask.sum()
    assert sum(region.total for region in regions) == weights[mask].sum()


def test_only_regions_that_reach_the_last_row_are_kept():
    values = np.tile(np.array([[1, 0], [0, 1]], np.uint8), (50, 20))  # a chessboard
    read = 0

    def pieces():
        nonlocal read
        for top in range(0, 100, 10):
            read = top + 10
            yield top, values[top : top + 10], np.ones((10, 40))

    for region in find_regions(pieces(), [1], rows=10):
        assert read - region.outline.bounds[3] <= 20


def test_mean_confidence_is_that_of_the_pixels(polygons_of):
    weights = np.linspace(0, 1, CLASSES.size).reshape(CLASSES.shape)
    patches = polygons_of(weights=weights, heights=(1, 1, 1, 1), vector=["Water"])
    largest = patches.loc[patches["square_metres"].idxmax()]
    ring = (CLASSES == 1) & (np.arange(5) < 3) & (np.arange(4)[:, None] < 3)
    assert largest["mean_confidence"] == pytest.approx(weights[ring].mean())


def test_small_polygons_are_left_out(polygons_of):
    assert polygons_of(vector=["Water"], min_area=901)["square_metres"].tolist() == [8 * 900]
    assert len(polygons_of(vector=["Water"], min_area=900)) == 3


def test_small_holes_are_filled(polygons_of):
    patches = polygons_of(vector=["Water"], fill_holes=901, min_area=1000)
    assert patches["square_metres"].tolist() == [9 * 900]
    assert not patches.geometry[0].interiors
    patches = polygons_of(vector=["Water"], fill_holes=900, min_area=1000)
    assert len(patches.geometry[0].interiors) == 1


def test_simplified_outlines_stay_within_the_distance(polygons_of):
    steps = np.tril(np.ones((20, 20), np.uint8))
    exact, simple = (
        polygons_of(values=steps, vector=["Water"], simplify=metres).geometry[0] for metres in (0, 30)
    )
    assert shapely.get_num_coordinates(simple) < shapely.get_num_coordinates(exact) / 2
    assert exact.hausdorff_distance(simple) <= 30 * 1.0001


def test_sizes_in_metres_need_a_crs(tmp_path):
    with pytest.raises(ConfigError, match=r"min_area: -1 must be 0 or more"):
        Polygons.check(SPEC, OutputOptions(vector="Water", min_area=-1))
    with pytest.raises(ConfigError, match=r"vector_formats: 'shp' is unknown; choose from gpkg, parquet"):
        OutputOptions(vector="Water", vector_formats="shp")


def test_options_of_polygons_without_polygons_are_refused():
    for key, value in (
        ("min_area", 900), ("fill_holes", 1), ("simplify", 5), ("vector_formats", ("parquet",))
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{key}: has no effect without vector"):
            select_products(SPEC, OutputOptions(**{key: value}))
        for wanted in ({"vector": "Water"}, {"products": "polygons"}):
            assert any(
                isinstance(one, Polygons)
                for one in select_products(SPEC, OutputOptions(**{key: value}, **wanted))
            )


def test_a_failure_leaves_no_files(polygons_of, tmp_path, monkeypatch):
    def fill_the_disk(self, path, **_):
        path.write_bytes(b"half")
        path.with_name(f"{path.name}-journal").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(geopandas.GeoDataFrame, "to_file", fill_the_disk)
    with pytest.raises(DataError, match=r"scene_pred\.gpkg: cannot be written \(disk full\)"):
        polygons_of()
    assert list(tmp_path.iterdir()) == []
