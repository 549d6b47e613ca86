import pytest

from prithvi_tg.bands import PRITHVI_BANDS, band_indexes, resolve_band
from prithvi_tg.errors import ConfigError, DataError

pytestmark = pytest.mark.version_independent

S2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]


@pytest.mark.parametrize(
    ("name", "sensor", "band"),
    [
        ("NIR_NARROW", None, "NIR_NARROW"),
        ("nir_narrow", None, "NIR_NARROW"),
        ("B02", None, "BLUE"),
        ("B2", None, "BLUE"),
        ("b8a", None, "NIR_NARROW"),
        ("B05", "hls_l30", "NIR_NARROW"),
        ("B05", "hls_s30", "RED_EDGE_1"),
        ("B11", "sentinel2", "SWIR_1"),
        ("B6", "landsat8", "SWIR_1"),
        ("nir08", None, "NIR_NARROW"),
        ("SWIR22", "sentinel2", "SWIR_2"),
    ],
)
def test_names_are_resolved_per_sensor(name, sensor, band):
    assert resolve_band(name, sensor) == band


def test_nir_may_be_a_broad_or_a_narrow_band():
    with pytest.raises(ConfigError, match="'nir' is unknown; did you mean NIR_BROAD or NIR_NARROW"):
        resolve_band("nir")


def test_an_ambiguous_band_name_needs_a_sensor():
    with pytest.raises(
        ConfigError, match=r"'B05' is ambiguous \(RED_EDGE_1 on sentinel2.*NIR_NARROW on hls_l30"
    ):
        resolve_band("B05")


def test_an_error_about_an_unknown_band_lists_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"'NIR_NAROW' is unknown; did you mean NIR_NARROW.*choose from COASTAL_AEROSOL"
    ):
        resolve_band("NIR_NAROW")
    with pytest.raises(ConfigError, match="sensor: 'modis' is unknown; choose from sentinel2"):
        resolve_band("B02", "modis")


@pytest.mark.parametrize(
    ("descriptions", "expected"),
    [
        (["B02", "B03", "B04", "B8A", "B11", "B12"], [1, 2, 3, 4, 5, 6]),
        (["B12", "B11", "B8A", "B04", "B03", "B02"], [6, 5, 4, 3, 2, 1]),
        (S2, [2, 3, 4, 9, 12, 13]),
        (["B02", "B03", "B04", "B05", "B06", "B07"], [1, 2, 3, 4, 5, 6]),  # Landsat numbers
        (["NDVI", *PRITHVI_BANDS], [2, 3, 4, 5, 6, 7]),
        ([f"{name}_20180504" for name in PRITHVI_BANDS], [1, 2, 3, 4, 5, 6]),
    ],
)
def test_files_are_read_by_their_band_descriptions(descriptions, expected):
    assert band_indexes(PRITHVI_BANDS, descriptions, "scene.tif") == expected


def test_an_error_names_a_file_without_a_band():
    with pytest.raises(
        DataError,
        match=r"scene\.tif: band descriptions \(B02, B03, None\) lack RED; give the bands by index",
    ):
        band_indexes(["BLUE", "RED"], ["B02", "B03", None], "scene.tif")


def test_an_error_about_an_ambiguous_file_asks_for_the_sensor():
    described = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B09", "B10", "B11"]
    with pytest.raises(ConfigError, match="matches several sensors"):
        band_indexes(["SWIR_1"], described, "scene.tif")
    assert band_indexes(["SWIR_1"], described, "scene.tif", "hls_l30") == [6]
