from datetime import date

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers.granules import (
    hls_granule,
    hls_granules,
    is_hls_file,
    is_hls_prefix,
    safe_granule,
)
from prithvi_tg.readers.raster import open_raster, read_bands

S30 = "HLS.S30.T10SEH.2018190T184921.v2.0"
L30 = "HLS.L30.T10SEH.2018190T184550.v2.0"
S30_CODES = ("B02", "B03", "B04", "B8A", "B11", "B12")
L30_CODES = ("B02", "B03", "B04", "B05", "B06", "B07")

L2A = {
    "R10m": ("B02", "B03", "B04", "B08"),
    "R20m": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12", "SCL"),
    "R60m": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B09", "B11", "B12", "SCL"),
}


def names(granule, layers=(*S30_CODES, "Fmask")):
    return [f"{granule}.{layer}.tif" for layer in layers]


def touch(folder, files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def file_names(files):
    return [file.path.rpartition("/")[2] for file in files]


def write(path, values, driver="GTiff", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"crs": "EPSG:32610", "transform": from_origin(500000, 4000000, 20, 20), "dtype": values.dtype}
    height, width = values.shape
    with rasterio.open(path, "w", driver, width, height, 1, **profile, **options) as out:
        out.write(values, 1)


def reflectance(file):
    with open_raster(file.path) as source:
        values, valid, _ = read_bands(source, [file.index], file.nodata)
    return values[0] * file.scale + file.offset, valid[0]


def metadata(level="2A", offsets=-1000, quantification="10000"):
    """ESA's metadata about scaling, in its namespace; ``offsets=None`` for products before 04.00."""
    value, group, item = {
        "2A": ("BOA_QUANTIFICATION_VALUE", "BOA_ADD_OFFSET_VALUES_LIST", "BOA_ADD_OFFSET"),
        "1C": ("QUANTIFICATION_VALUE", "Radiometric_Offset_List", "RADIO_ADD_OFFSET"),
    }[level]
    listed = "".join(
        f'<{item} band_id="{k}">{offsets - k}</{item}>' for k in range(13) if offsets is not None
    )
    return (
        f'<n1:Level-{level}_User_Product xmlns:n1="https://psd.sentinel2.eo.esa.int/PSD/Level-{level}.xsd">'
        f'<n1:General_Info><{value} unit="none">{quantification}</{value}>'
        f"{f'<{group}>{listed}</{group}>' if listed else ''}</n1:General_Info></n1:Level-{level}_User_Product>"
    )


@pytest.fixture
def safe(tmp_path):
    """An L2A product of empty files."""
    folder = tmp_path / "S2A_MSIL2A_20221005T113321_N0400_R080_T29UNU_20221005T174352.SAFE"
    images = folder / "GRANULE" / "L2A_T29UNU_A038069_20221005T113318" / "IMG_DATA"
    for resolution, layers in L2A.items():
        stem = f"{resolution}/T29UNU_20221005T113321"
        touch(images, [f"{stem}_{layer}_{resolution[1:]}.jp2" for layer in (*layers, "TCI", "AOT")])
    (folder / "MTD_MSIL2A.xml").write_text(metadata())
    return folder


def remove(safe, pattern):
    paths = list(safe.rglob(pattern))
    assert paths
    for path in paths:
        path.unlink()


@pytest.mark.parametrize(
    ("granule", "codes", "sensor"), [(S30, S30_CODES, "hls_s30"), (L30, L30_CODES, "hls_l30")]
)
def test_bands_of_hls_are_numbered_per_sensor(granule, codes, sensor):
    (found,) = hls_granules(names(granule, codes))
    assert found.sensor == sensor
    assert file_names(found.band_files(PRITHVI_BANDS)) == names(granule, codes)


def test_granules_of_one_folder_are_separated_and_sorted_by_tile_and_date():
    later, other = L30.replace("2018190", "2018195"), S30.replace("T10SEH", "T10SDH")
    files = [*names(later, L30_CODES), *names(S30), *names(other)]
    found = hls_granules(sorted(files, key=lambda file: file[::-1]))  # band by band
    assert [granule.name for granule in found] == [other, S30, later]
    assert [granule.tile for granule in found] == ["T10SDH", "T10SEH", "T10SEH"]
    assert file_names(found[1].band_files(PRITHVI_BANDS)) == names(S30, S30_CODES)
    assert file_names(found[2].band_files(PRITHVI_BANDS)) == names(later, L30_CODES)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2018190", date(2018, 7, 9)),
        ("2019060", date(2019, 3, 1)),
        ("2020060", date(2020, 2, 29)),
        ("2020366", date(2020, 12, 31)),
    ],
)
def test_day_of_year_becomes_a_date(day, expected):
    assert hls_granules(names(S30.replace("2018190", day)))[0].date == expected


@pytest.mark.parametrize("day", ["2019366", "2020367", "2020000"])
def test_a_day_that_does_not_exist_is_an_error(day):
    with pytest.raises(DataError, match=rf"HLS\.S30.*{day} is not a date"):
        hls_granules(names(S30.replace("2018190", day)))


def test_fmask_is_found():
    assert hls_granules(names(S30))[0].quality.path == f"{S30}.Fmask.tif"
    assert hls_granules(names(S30))[0].quality.kind == "fmask"
    assert hls_granules(names(S30, S30_CODES))[0].quality is None


def test_angles_and_thermal_bands_are_not_reflectance():
    (found,) = hls_granules(names(L30, ("B02", "B10", "B11", "SAA", "SZA", "VAA", "VZA")))
    assert list(found.files) == ["BLUE"]
    with pytest.raises(DataError, match=r"lacks THERMAL_1 \(no reflectance band of hls_l30\)"):
        found.band_files(["THERMAL_1"])


def test_a_missing_band_is_named_with_its_file():
    (found,) = hls_granules(names(S30, ("B02", "B03")))
    expected = rf"{S30}: lacks NIR_NARROW \({S30}\.B8A\.tif\), SWIR_1 \({S30}\.B11\.tif\); found BLUE, GREEN"
    with pytest.raises(DataError, match=expected):
        found.band_files(["BLUE", "NIR_NARROW", "SWIR_1"])
    with pytest.raises(ConfigError, match="'NIR' is unknown"):
        found.band_files(["NIR"])


def test_hls_files_are_recognised_by_name():
    assert all(is_hls_file(f"folder/{name}") for name in names(S30, ("B02", "B8A", "Fmask", "SZA")))
    others = (S30, f"{S30}.B02.jpg", f"{S30}.B02.tif.aux.xml", f"{S30}.NDVI.tif", "scene.tif")
    assert not any(is_hls_file(name) for name in others)
    with pytest.raises(
        DataError, match=r"scene\.tif: not the name of an HLS file, such as HLS\.S30.*B02\.tif"
    ):
        hls_granules(["scene.tif"])


def test_two_files_of_one_band_are_an_error():
    with pytest.raises(DataError, match=r"b/HLS.*B02\.tif: contains the same band as a/HLS.*B02\.tif"):
        hls_granules([f"a/{S30}.B02.tif", f"b/{S30}.B02.tif"])


def test_hls_values_become_reflectance_and_untagged_fill_is_nodata(tmp_path):
    path = tmp_path / f"{S30}.B02.tif"
    write(path, np.array([[1234, -9999], [0, 10000]], np.int16))
    values, valid = reflectance(hls_granules([path])[0].files["BLUE"])
    np.testing.assert_array_equal(valid, [[True, False], [True, True]])
    np.testing.assert_allclose(values[valid], [0.1234, 0, 1], rtol=1e-6)


@pytest.mark.parametrize("dot", ["", "."])
def test_a_local_prefix_selects_the_existing_files(tmp_path, dot):
    touch(tmp_path, [*names(S30, ("B02", "B8A")), *names(L30)])
    found = hls_granule(f"{tmp_path / S30}{dot}")
    assert found.name == S30
    assert file_names(found.files.values()) == names(S30, ("B02", "B8A"))
    assert found.quality is None


def test_an_error_about_a_local_prefix_names_the_expected_files(tmp_path):
    with pytest.raises(
        DataError, match=rf"must contain {S30}\.B02\.tif and the other bands; found no HLS file"
    ):
        hls_granule(tmp_path / "nowhere" / S30)
    touch(tmp_path, names(L30, ("B02",)))
    with pytest.raises(DataError, match=rf"found {L30}\.B02\.tif"):
        hls_granule(tmp_path / S30)
    with pytest.raises(DataError, match=r"not the name of an HLS granule \(without band\), such as HLS"):
        hls_granule(tmp_path / "S30.T10SEH")


@pytest.mark.parametrize("folder", ["/vsis3/bucket/a", "https://host//a", "s3://bucket"])
@pytest.mark.parametrize("dot", ["", "."])
def test_a_remote_prefix_assumes_every_band_of_the_sensor(folder, dot):
    found = hls_granule(f"{folder}/{L30}{dot}")
    assert [file.path for file in found.band_files(PRITHVI_BANDS)] == names(f"{folder}/{L30}", L30_CODES)
    assert found.quality.path == f"{folder}/{L30}.Fmask.tif"
    assert list(found.files) == ["COASTAL_AEROSOL", *PRITHVI_BANDS, "CIRRUS"]


def test_a_prefix_is_neither_a_file_nor_a_folder(tmp_path):
    assert is_hls_prefix(tmp_path / S30)
    assert is_hls_prefix(f"s3://bucket/{S30}.")
    assert not is_hls_prefix(tmp_path / f"{S30}.B02.tif")
    assert not is_hls_prefix(f"s3://bucket/{S30}/")
    (tmp_path / S30).mkdir()
    assert not is_hls_prefix(tmp_path / S30)


def test_name_and_date_of_a_safe_folder_are_those_of_its_product(safe):
    found = safe_granule(safe, PRITHVI_BANDS)
    assert found.name == safe.name.removesuffix(".SAFE")
    assert (found.sensor, found.tile, found.date) == ("sentinel2", "T29UNU", date(2022, 10, 5))
    renamed = safe_granule(safe.rename(safe.with_name("field")), PRITHVI_BANDS)
    assert (renamed.name, renamed.tile, renamed.date) == ("field", "T29UNU", date(2022, 10, 5))


@pytest.mark.parametrize(
    ("bands", "resolutions"),
    [
        (["BLUE", "NIR_BROAD"], ["10m", "10m"]),
        (["BLUE", "NIR_NARROW"], ["20m", "20m"]),
        (["B02", "B8A", "WATER_VAPOR"], ["60m", "60m", "60m"]),
        (["BLUE", "NIR_BROAD", "NIR_NARROW", "WATER_VAPOR"], ["10m", "10m", "20m", "60m"]),
    ],
)
def test_the_finest_resolution_with_all_bands_is_used(safe, bands, resolutions):
    files = file_names(safe_granule(safe, bands).band_files(bands))
    assert [file.removesuffix(".jp2").split("_")[-1] for file in files] == resolutions


def test_scl_comes_from_the_resolution_of_the_bands_or_the_next_finest(safe):
    def scl(bands):
        quality = safe_granule(safe, bands).quality
        assert quality.kind == "scl"
        return quality.path.removesuffix(".jp2").split("_")[-1]

    assert scl(["BLUE"]) == "20m"
    assert scl(["NIR_NARROW"]) == "20m"
    assert scl(["WATER_VAPOR"]) == "60m"
    remove(safe, "*_SCL_20m.jp2")
    assert scl(["BLUE"]) == "60m"
    remove(safe, "*_SCL_60m.jp2")
    assert safe_granule(safe, ["BLUE"]).quality is None


def test_offsets_of_newer_products_are_those_of_each_band(safe):
    files = safe_granule(safe, PRITHVI_BANDS).files
    # The synthetic metadata lowers the offset by one from band to band; B8A is the ninth.
    assert files["BLUE"].offset == pytest.approx(-0.1001)
    assert files["NIR_NARROW"].offset == pytest.approx(-0.1008)
    assert files["SWIR_2"].offset == pytest.approx(-0.1012)
    assert {file.scale for file in files.values()} == {0.0001}


def test_older_products_have_no_offset(safe):
    (safe / "MTD_MSIL2A.xml").write_text(metadata(offsets=None, quantification="5000"))
    files = safe_granule(safe, PRITHVI_BANDS).files
    assert {(file.scale, file.offset) for file in files.values()} == {(0.0002, 0.0)}


def test_l1c_has_a_file_per_band_its_own_offsets_and_no_scl(tmp_path):
    codes = ("B02", "B03", "B04", "B8A", "B10", "B11", "B12")
    touch(
        tmp_path / "GRANULE" / "a" / "IMG_DATA", [f"T29UNU_20221005T113321_{c}.jp2" for c in (*codes, "TCI")]
    )
    (tmp_path / "MTD_MSIL1C.xml").write_text(metadata("1C"))
    found = safe_granule(tmp_path, ["BLUE", "CIRRUS"])
    assert file_names(found.band_files(["CIRRUS"])) == ["T29UNU_20221005T113321_B10.jp2"]
    assert found.files["CIRRUS"].offset == pytest.approx(-0.101)
    assert found.quality is None


def test_jpeg_2000_becomes_reflectance_and_zero_is_nodata(tmp_path):
    stored = np.full((64, 64), 2500, np.uint16)
    stored[:8] = 0
    image = tmp_path / "GRANULE" / "a" / "IMG_DATA" / "T29UNU_20221005T113321_B02.jp2"
    write(image, stored, "JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    (tmp_path / "MTD_MSIL1C.xml").write_text(metadata("1C", offsets=-999))
    values, valid = reflectance(safe_granule(tmp_path, ["BLUE"]).files["BLUE"])
    np.testing.assert_array_equal(valid, stored > 0)
    np.testing.assert_allclose(values[valid], 0.15, rtol=1e-6)


def test_a_band_that_the_level_lacks_is_named(safe):
    expected = r"MSIL2A_.*: lacks CIRRUS \(T29UNU_20221005T\*_B10\*\.jp2\); found COASTAL_AEROSOL, BLUE"
    with pytest.raises(DataError, match=expected):
        safe_granule(safe, ["BLUE", "CIRRUS"])
    with pytest.raises(ConfigError, match="'B99' is unknown"):
        safe_granule(safe, ["B99"])


def test_a_folder_without_metadata_is_an_error(safe):
    remove(safe, "MTD_MSIL2A.xml")
    expected = r"\.SAFE: not a Sentinel-2 \.SAFE folder; .*neither MTD_MSIL2A\.xml nor MTD_MSIL1C\.xml"
    with pytest.raises(DataError, match=expected):
        safe_granule(safe, ["BLUE"])


def test_a_folder_with_no_images_or_those_of_two_tiles_is_an_error(safe):
    image = next(safe.rglob("*_B02_10m.jp2"))
    image.with_name(image.name.replace("T29UNU", "T30UVD")).touch()
    with pytest.raises(DataError, match="found T29UNU_20221005T113321, T30UVD_20221005T113321"):
        safe_granule(safe, ["BLUE"])
    remove(safe, "*.jp2")
    with pytest.raises(DataError, match=r"GRANULE/\*/IMG_DATA must contain \.jp2 files .*found none"):
        safe_granule(safe, ["BLUE"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (metadata()[:80], r"not readable as XML \(.*download the product again"),
        (metadata().replace("BOA_QUANTIFICATION_VALUE", "OTHER"), "BOA_QUANTIFICATION_VALUE is missing"),
        (metadata(quantification="many"), "BOA_QUANTIFICATION_VALUE is many; a number is expected"),
        (metadata(quantification="0"), "BOA_QUANTIFICATION_VALUE is 0; a positive number is expected"),
        (metadata().replace("-1001", ""), 'BOA_ADD_OFFSET band_id="1" of B02 is missing'),
        (metadata().replace('band_id="8"', 'band_id="13"'), 'BOA_ADD_OFFSET band_id="8" of B8A is missing'),
    ],
)
def test_damaged_metadata_is_an_error_that_names_the_file_and_the_element(safe, text, message):
    (safe / "MTD_MSIL2A.xml").write_text(text)
    with pytest.raises(DataError, match=rf"MTD_MSIL2A\.xml: {message}"):
        safe_granule(safe, PRITHVI_BANDS)
