from time import perf_counter

import numpy as np
import pyproj
import pytest
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from prithvi_tg.readers.grid import Grid
from prithvi_tg.readers.pixel_areas import ellipsoidal_areas, row_areas

EARTH = 510_065_621_724_088.44  # square metres of the WGS 84 ellipsoid


def grid(crs, west, north, size, height=3, width=4):
    return Grid(CRS.from_user_input(crs), Affine(size, 0, west, 0, -size, north), height, width)


def test_utm_pixels_have_the_area_of_the_plane_in_every_row():
    assert row_areas(grid(32615, 600000, 4200000, 30)).tolist() == [900.0] * 3


def test_without_a_crs_areas_are_unknown():
    assert row_areas(Grid(None, Affine(30, 0, 0, 0, -30, 0), 3, 4)) is None


def test_feet_are_converted_to_metres():
    areas = row_areas(grid(2263, 980000, 200000, 100))
    np.testing.assert_allclose(areas, (100 * 1200 / 3937) ** 2, rtol=1e-12)


def test_a_plane_without_geographic_coordinates_keeps_its_area():
    assert row_areas(grid('LOCAL_CS["site",UNIT["metre",1]]', 0, 0, 2)).tolist() == [4.0] * 3


@pytest.mark.parametrize(
    ("north", "size"), [(0.0, 0.01), (41.5, 3e-4), (-63.0, 0.25), (90.0, 0.1), (-89.7, 0.1)]
)
def test_rows_in_degrees_have_the_area_on_the_ellipsoid(north, size):
    ellipsoid = pyproj.Geod(ellps="WGS84")
    east = np.linspace(10, 10 + size, 200)  # parallels are no geodesics
    for row, area in enumerate(row_areas(grid(4326, 10, north, size))):
        top, bottom = north - row * size, north - (row + 1) * size
        latitudes = np.repeat([bottom, top], len(east))
        expected, _ = ellipsoid.polygon_area_perimeter([*east, *east[::-1]], latitudes)
        assert area == pytest.approx(expected, rel=1e-6)


def test_the_pixels_of_a_globe_add_up_to_its_surface():
    assert row_areas(grid(4326, -180, 90, 1, 180, 360)).sum() * 360 == pytest.approx(EARTH, rel=1e-6)


def test_rows_beyond_the_poles_have_no_area():
    areas = row_areas(grid(4326, -180, 90.5, 1, 181, 360))
    assert areas.sum() * 360 == pytest.approx(EARTH, rel=1e-6)


def test_other_angular_units_than_degrees_are_supported():
    gradians = row_areas(grid(4807, -200, 100, 1, 200, 400))
    assert gradians.sum() * 400 == pytest.approx(EARTH, rel=1e-3)  # Clarke's Earth of 1880, not WGS 84


def test_web_mercator_far_north_covers_a_quarter_of_its_plane():
    areas = row_areas(grid(3857, 1_000_000, 8_399_737.9, 30))  # 60 degrees north
    np.testing.assert_allclose(areas, 900 / 4, rtol=5e-3)
    assert areas[0] < areas[1] < areas[2]


def test_web_mercator_at_the_equator_has_the_area_of_its_plane():
    assert row_areas(grid(3857, 1_000_000, 45, 30)).tolist() == [900.0] * 3


def test_a_scene_with_a_pole_in_its_middle_has_the_right_area():
    areas = row_areas(grid(3413, -60, 45, 30, 3, 4))
    np.testing.assert_allclose(areas, areas[0], rtol=1e-6)
    # The plane is true to scale at 70 degrees north and too small at the pole.
    assert 900 * 1.05 < areas[0] < 900 * 1.07


def test_rotated_grids_have_areas():
    utm = Grid(CRS.from_epsg(32615), Affine(24, 18, 600000, 18, -24, 4200000), 3, 4)
    np.testing.assert_allclose(row_areas(utm), 900)
    # Columns run northwards here, rows eastwards: the middle column lies along one parallel.
    turned = row_areas(Grid(CRS.from_epsg(4326), Affine(0, 0.01, 10, 0.01, 0, 45), 3, 3))
    straight = row_areas(grid(4326, 10, 45.03, 0.01))
    np.testing.assert_allclose(turned, straight[1], rtol=1e-6)


def test_twenty_thousand_rows_are_computed_quickly():
    start = perf_counter()
    row_areas(grid(4326, 0, 60, 2.7e-4, 20_000, 20_000))
    assert perf_counter() - start < 2


def test_areas_in_degrees_are_those_of_rows_and_need_no_columns():
    one = grid(4326, 10, 60, 0.01, 300, 400)
    areas = ellipsoidal_areas(one, Window(30, 100, 200, 50))
    assert areas.shape == (50, 1)
    np.testing.assert_allclose(areas[:, 0], row_areas(one)[100:150], rtol=1e-9)


@pytest.mark.parametrize(
    ("crs", "west", "north", "size"),
    [(32633, 166_000, 5_000_000, 100), (3857, 1_000_000, 8_400_000, 300), (3413, -900_000, 900_000, 500)],
)
def test_areas_of_a_projection_are_those_of_each_pixel_on_the_ellipsoid(crs, west, north, size):
    one = grid(crs, west, north, size, 700, 900)
    window = Window(100, 50, 640, 500)
    areas = ellipsoidal_areas(one, window)
    assert areas.shape == (500, 640)
    ellipsoid = pyproj.Geod(ellps="WGS84")
    degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    for row, column in ((0, 0), (17, 300), (499, 639), (250, 101)):
        x, y = one.xy(
            [50 + row, 50 + row, 51 + row, 51 + row], [100 + column, 101 + column, 101 + column, 100 + column]
        )
        expected = abs(ellipsoid.polygon_area_perimeter(*degrees.transform(x, y))[0])
        assert areas[row, column] == pytest.approx(expected, rel=3e-6)
    assert np.ptp(areas) > 1e-4 * areas.mean()


def test_an_equal_area_projection_has_equal_areas():
    areas = ellipsoidal_areas(grid(3035, 4_000_000, 3_000_000, 1000, 600, 500), Window(0, 0, 500, 600))
    np.testing.assert_allclose(areas, 1e6, rtol=1e-6)
    assert ellipsoidal_areas(grid(3035, 4_000_000, 3_000_000, 1000), Window(1, 2, 1, 1)).shape == (1, 1)
