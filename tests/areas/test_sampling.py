"""Drawing: exact, reproducible, independent of tiles, right on the ellipsoid, in constant memory."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject

from prithvi_tg.areas import maps as areas_maps
from prithvi_tg.areas.estimation import SampleCounts, estimate
from prithvi_tg.areas.sample import SampleOptions, draw_sample, open_population_maps
from prithvi_tg.areas.sampling import Population, count, draw
from prithvi_tg.areas.strata import BoundaryStrata, ClassStrata, ConfidenceStrata
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers.pixel_areas import row_areas

pytestmark = pytest.mark.version_independent

NAMES = ("land", "water")


def population(*paths, strata=None):
    return Population(open_population_maps(paths), strata or ClassStrata(NAMES))


def checks(height, width, seed=0):
    """Blobs of land and water, with nodata."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2, (height // 5 + 1, width // 7 + 1))
    classes = np.kron(coarse, np.ones((5, 7), int))[:height, :width]
    classes[: height // 10] = 255
    return classes


def drawn(pixels, sizes=(20, 20), seed=0):
    return draw(pixels, count(pixels), np.array(sizes), seed)


def test_nothing_imports_torch():
    code = (
        "import sys, pkgutil, importlib, prithvi_tg.areas as areas\n"
        "for one in pkgutil.iter_modules(areas.__path__): importlib.import_module(f'prithvi_tg.areas.{one.name}')\n"
        "assert 'torch' not in sys.modules and 'prithvi_tg.areas.sampling' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_points_lie_on_pixels_of_their_stratum(write_map):
    classes = checks(60, 50)
    pixels = population(write_map(classes))
    points = drawn(pixels, (30, 20))
    np.testing.assert_array_equal(classes[points.rows, points.columns], points.strata)
    np.testing.assert_array_equal(points.classes, points.strata)
    assert np.bincount(points.strata).tolist() == [30, 20]
    assert len({*zip(points.rows.tolist(), points.columns.tolist(), strict=True)}) == 50
    grid = pixels.maps[0].grid
    there = grid.latitudes_and_longitudes((points.rows + 0.5).tolist(), (points.columns + 0.5).tolist())
    np.testing.assert_allclose(np.stack([points.latitudes, points.longitudes], axis=1), there, atol=1e-5)


def test_points_depend_on_the_seed_and_not_on_tiles(write_map, monkeypatch):
    pixels = population(write_map(checks(60, 50)), write_map(checks(60, 50, 1), "b_pred.tif", transform=FAR))
    first, again, other = drawn(pixels), drawn(pixels), drawn(pixels, seed=1)
    monkeypatch.setattr(areas_maps, "_ROWS", 7)
    monkeypatch.setattr(areas_maps, "_COLUMNS", 11)
    small = drawn(pixels)
    for one in (again, small):
        for name, values in vars(first).items():
            np.testing.assert_allclose(vars(one)[name], values, rtol=1e-7)
    assert not np.array_equal(first.rows, other.rows)


FAR = Affine(30, 0, 700_000, 0, -30, 4_200_000)


def test_every_pixel_of_a_stratum_has_the_same_chance(write_map):
    classes = checks(20, 15)
    pixels = population(write_map(classes))
    counts = count(pixels)
    sizes = np.minimum(counts.pixels, 10)
    hits = np.zeros(classes.shape)
    for seed in range(400):
        points = draw(pixels, counts, sizes, seed)
        np.add.at(hits, (points.rows, points.columns), 1)
    for stratum, size in enumerate(sizes):
        chance = size / counts.pixels[stratum]
        found = hits[classes == stratum]
        chi_squared = ((found - 400 * chance) ** 2 / (400 * chance * (1 - chance))).mean()
        assert chi_squared == pytest.approx(1, abs=0.35)  # mean of about 150 squared normal deviates
    assert hits[classes == 255].sum() == 0


def test_strata_have_their_area_on_the_ellipsoid_in_every_crs(write_map):
    # The same ground in degrees, web Mercator and UTM: a block of water in land at 60 degrees north.
    fine = np.zeros((400, 400))
    fine[100:300, 150:350] = 1
    degrees = write_map(fine, "d_pred.tif", "EPSG:4326", Affine(0.001, 0, 14.8, 0, -0.001, 60.2))
    areas = {"EPSG:4326": count(population(degrees)).square_metres[1, 1]}
    for crs in ("EPSG:3857", "EPSG:32633"):
        left, bottom, right, top = rasterio.warp.transform_bounds("EPSG:4326", crs, 14.8, 59.8, 15.2, 60.2)
        transform = Affine((right - left) / 900, 0, left, 0, (bottom - top) / 900, top)
        out = np.full((900, 900), 255, np.uint8)
        with rasterio.open(degrees) as source:
            reproject(
                rasterio.band(source, 1),
                out,
                dst_transform=transform,
                dst_crs=crs,
                resampling=Resampling.nearest,
            )
        path = write_map(out, f"{crs[5:]}_pred.tif", crs, transform)
        areas[crs] = count(population(path)).square_metres[1, 1]
    for area in areas.values():
        assert area == pytest.approx(areas["EPSG:4326"], rel=3e-3)
    # 200 x 200 pixels of 0.001 degrees at 60 degrees north: 111.42 km and 55.80 km a degree.
    assert areas["EPSG:4326"] == pytest.approx(0.2 * 111_416 * 0.2 * 55_800, rel=2e-3)


def test_estimates_are_unbiased_where_pixels_have_different_areas(write_map):
    # From the equator to 80 degrees north; water that the map misses lies in the south, where pixels are large.
    rows = np.indices((80, 40))[0]
    truth = ((np.indices((80, 40))[1] // 3 + rows // 4) % 4 == 0) & (rows > 30)
    mapped = truth & ~((rows > 60) & (np.indices((80, 40))[1] % 2 == 0))
    pixels = population(write_map(mapped, crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 80)))
    counts = count(pixels)
    areas = np.broadcast_to(row_areas(pixels.maps[0].grid)[:, None], truth.shape)
    expected = (areas * truth).sum() / areas.sum()
    assert truth.mean() < 0.85 * expected  # pixel counts are far off
    shares, inside = [], []
    for seed in range(400):
        points = draw(pixels, counts, np.array([600, 120]), seed)
        reference = truth[points.rows, points.columns].astype(int)
        sample = SampleCounts.from_points(
            points.strata, points.classes, reference, points.square_metres, 2, counts.square_metres.sum(axis=1),
            counts.pixels,
        )  # fmt: skip
        found = estimate(sample).proportions
        shares.append(found.value[1])
        inside.append(abs(found.value[1] - expected) <= found.half_width[1])
    error = np.std(shares) / np.sqrt(400)
    assert abs(np.mean(shares) - expected) < 4 * error
    assert error < 0.01 * expected
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_overlapping_maps_count_a_place_once(write_map):
    left = checks(40, 40)
    shifted = Affine(30, 0, 600_000 + 30 * 25, 0, -30, 4_200_000)
    pixels = population(write_map(left), write_map(checks(40, 40, 1), "b_pred.tif", transform=shifted))
    counts = count(pixels)
    assert counts.pixels.sum() == 36 * 65  # four rows of each are nodata
    assert counts.rows[0].sum() == 36 * 40
    points = drawn(pixels, (200, 200))
    assert (points.columns[points.maps == 1] >= 15).all()


def test_nodata_of_the_first_map_is_filled_by_the_second(write_map):
    first = checks(40, 40)
    first[:, 20:] = 255
    pixels = population(write_map(first), write_map(checks(40, 40, 1), "b_pred.tif"))
    assert [one.sum() for one in count(pixels).rows] == [36 * 20, 36 * 20]


def test_overlaps_are_found_across_crss(write_map):
    one = np.ones((60, 60), int)
    first = write_map(one, "a_pred.tif", "EPSG:32632", Affine(1000, 0, 600_000, 0, -1000, 5_000_000))
    left, bottom, right, top = rasterio.warp.transform_bounds(
        "EPSG:32632", "EPSG:32633", 600_000, 4_940_000, 660_000, 5_000_000
    )
    size = 1000
    shape = (int((top - bottom) / size) + 1, int((right - left) / size) + 1)
    second = write_map(np.ones(shape, int), "b_pred.tif", "EPSG:32633", Affine(size, 0, left, 0, -size, top))
    alone, both = count(population(first)), count(population(first, second))
    whole = count(population(second)).square_metres.sum()
    assert both.rows[1].sum() < shape[0] * shape[1] - 3000
    # The second map covers all of the first: together they have the area of the second.
    assert both.square_metres.sum() == pytest.approx(whole, rel=0.01)
    assert alone.square_metres.sum() == pytest.approx(3.6e9, rel=0.01)


def test_the_boundary_is_a_stratum_of_its_own(write_map, monkeypatch):
    classes = np.zeros((20, 30), int)
    classes[:, 15:] = 1
    classes[0] = 255
    for rows in (512, 6):  # also where a boundary is near the edge of a tile
        monkeypatch.setattr(areas_maps, "_ROWS", rows)
        monkeypatch.setattr(areas_maps, "_COLUMNS", 4 * rows)
        pixels = population(write_map(classes), strata=BoundaryStrata(NAMES, 2))
        counts = count(pixels)
        assert counts.pixels.tolist() == [19 * 13, 19 * 13, 19 * 4]
        points = draw(pixels, counts, np.array([5, 5, 19 * 4]), 0)
        near = points.columns[points.strata == 2]
        assert sorted({*near.tolist()}) == [13, 14, 15, 16]
        assert np.bincount(points.classes[points.strata == 2]).tolist() == [38, 38]


def test_classes_are_divided_by_confidence(write_map):
    classes = checks(40, 40)
    path = write_map(classes)
    stored = np.random.default_rng(0).integers(100, 251, classes.shape)
    confidence = write_map(np.where(classes == 255, 255, stored), "scene_confidence.tif")
    with rasterio.open(confidence, "r+") as file:
        file.scales = (1 / 250,)
    strata = ConfidenceStrata(NAMES, (0.5, 0.8))
    assert strata.names == (
        "land 0-0.5",
        "land 0.5-0.8",
        "land 0.8-1",
        "water 0-0.5",
        "water 0.5-0.8",
        "water 0.8-1",
    )
    pixels = population(path, strata=strata)
    counts = count(pixels)
    assert counts.pixels[4] == ((classes == 1) & (stored >= 125) & (stored < 200)).sum()
    points = draw(pixels, counts, np.full(6, 9), 0)
    bands = np.digitize(stored[points.rows, points.columns] / 250, (0.5, 0.8))
    np.testing.assert_array_equal(points.strata, classes[points.rows, points.columns] * 3 + bands)
    confidence.unlink()
    with pytest.raises(DataError, match=r"scene_confidence.tif: no such file; confidence_bands needs"):
        count(pixels)


def test_memory_does_not_grow_with_the_map(tmp_path):
    peaks = []
    for height in (1024, 8192):
        path = tmp_path / f"{height}_pred.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=1, dtype="uint8", nodata=255, height=height, width=2048, tiled=True,
            crs="EPSG:32615", transform=Affine(30, 0, 600_000, 0, -30, 4_200_000), compress="deflate",
        ) as out:  # fmt: skip
            for top in range(0, height, 512):
                rows = np.indices((512, 2048))[0] // 90 % 2
                out.write(rows.astype("uint8"), 1, window=rasterio.windows.Window(0, top, 2048, 512))
            out.update_tags(1, CLASS_0="land", CLASS_1="water")
        tracemalloc.start()
        draw_sample(pixels := population(path), count(pixels), SampleOptions(points=100))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_a_seed_of_a_design_gives_the_same_design(write_map):
    pixels = population(write_map(checks(60, 50)))
    options = SampleOptions(points=100, seed=3, minimum=10)
    texts = [draw_sample(pixels, count(pixels), options)[0].to_json() for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"dtype": "float32", "nodata": None}, "1 bands of float32, not a map of classes"),
        ({"names": ()}, r"has no class names \(tags CLASS_0"),
        ({"crs": None}, "has no CRS"),
        ({"names": ("water", "water")}, "two classes are named 'water'"),
        ({"names": ("land",)}, "value 1 is not a class; classes are 0 land"),
    ],
)
def test_maps_that_cannot_be_sampled_are_refused(write_map, profile, message):
    path = write_map(checks(20, 20), **profile)
    with pytest.raises(DataError, match=message):
        count(Population(maps := open_population_maps([path]), ClassStrata(tuple(maps[0].classes.values()))))


def test_maps_with_other_classes_are_refused(write_map):
    first = write_map(checks(20, 20))
    second = write_map(checks(20, 20), "b_pred.tif", names=("water", "land"))
    with pytest.raises(
        DataError, match=r"its classes are 0 water, 1 land, but those of .* are 0 land, 1 water"
    ):
        open_population_maps([first, second])
    with pytest.raises(DataError, match="given twice"):
        open_population_maps([first, first])


@pytest.mark.parametrize(
    ("expected", "message"),
    [({"forest": 0.7}, "'forest' is neither a stratum nor a class"), ({"land": 0.7}, "not given for water")],
)
def test_expected_accuracies_name_all_strata(write_map, expected, message):
    pixels = population(write_map(checks(20, 20)))
    with pytest.raises(ConfigError, match=message):
        draw_sample(pixels, count(pixels), SampleOptions(points=40, expected_accuracy=expected))
