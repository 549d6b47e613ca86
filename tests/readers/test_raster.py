"""Which pixels of a raster have data: one rule, per band, for every reader."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from prithvi_tg.errors import DataError
from prithvi_tg.readers.raster import alpha_band, open_raster, read_bands, reading

PLACE = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)


def write(path, values, mask=None, alpha=False, tags=None, internal=True, **profile):
    values = np.asarray(values)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(
            path, "w", driver="GTiff", count=len(values), height=values.shape[1], width=values.shape[2],
            dtype=values.dtype, crs="EPSG:32615", transform=PLACE, **profile,
        ) as out,
    ):  # fmt: skip
        if alpha:
            out.colorinterp = [
                ColorInterp.gray,
                *[ColorInterp.undefined] * (len(values) - 2),
                ColorInterp.alpha,
            ]
        out.write(values)
        if mask is not None:
            out.write_mask(mask)
    return path


def valid_of(path, indexes=(1, 2), **options):
    with open_raster(path) as source:
        return read_bands(source, list(indexes), **options)


HALF = np.array([[0, 0, 255, 255]] * 3, np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_the_nodata_tag_of_a_band_excludes_pixels_of_this_band_only(tmp_path, dtype):
    values = np.full((2, 3, 4), 5, dtype)
    values[0, 1, 1] = 7
    bands = valid_of(write(tmp_path / "a.tif", values, nodata=7))
    expected = np.ones((2, 3, 4), bool)
    expected[0, 1, 1] = False
    assert (bands.valid == expected).all()
    assert bands.meaningless == 0


def test_every_band_has_its_own_nodata_tag(tmp_path):
    for name, tag in (("a", 1), ("b", 2)):
        write(tmp_path / f"{name}.tif", np.array([[[1, 2, 3]]], "int16"), nodata=tag)
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{k}"><NoDataValue>{k}</NoDataValue><SimpleSource><SourceFilename '
        f'relativeToVRT="1">{name}.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>'
        for k, name in ((1, "a"), (2, "b"))
    )
    path = tmp_path / "both.vrt"
    path.write_text(f'<VRTDataset rasterXSize="3" rasterYSize="1">{bands}</VRTDataset>')
    assert valid_of(path).valid.tolist() == [[[False, True, True]], [[True, False, True]]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1.1e30])
def test_meaningless_values_are_nodata_and_are_counted(tmp_path, value):
    values = np.ones((2, 3, 4), "float32")
    values[1, 0, :2] = value
    bands = valid_of(write(tmp_path / "a.tif", values))
    assert (~bands.valid).sum() == 2
    assert bands.meaningless == 2


@pytest.mark.parametrize("value", [np.nan, -3.4028234663852886e38])
def test_values_equal_to_the_nodata_tag_are_not_counted(tmp_path, value):
    values = np.ones((1, 3, 4), "float32")
    values[0, 0, :2] = value
    bands = valid_of(write(tmp_path / "a.tif", values, nodata=value), (1,))
    assert (~bands.valid).sum() == 2
    assert bands.meaningless == 0


@pytest.mark.parametrize("internal", [True, False])
def test_a_mask_of_the_file_excludes_pixels_of_all_bands(tmp_path, internal):
    path = write(tmp_path / "a.tif", np.ones((2, 3, 4), "uint16"), mask=HALF, internal=internal)
    assert (tmp_path / "a.tif.msk").exists() != internal
    bands = valid_of(path)
    assert (bands.valid == (HALF > 0)).all()
    part = valid_of(path, window=Window(1, 0, 3, 2), size=(2, 3))
    assert (part.valid == (HALF > 0)[:2, 1:]).all()


def test_mask_tag_and_given_values_all_mean_nodata(tmp_path):
    values = np.arange(12, dtype="int16").reshape(1, 3, 4)
    path = write(tmp_path / "a.tif", values, mask=HALF)
    found = valid_of(path, (1,), nodata=[6.0])
    assert found.valid[0].sum() == 5


@pytest.mark.parametrize(("count", "dtype"), [(3, "uint8"), (5, "uint16"), (7, "int16")])
def test_an_alpha_band_excludes_pixels(tmp_path, count, dtype):
    values = np.ones((count, 3, 4), dtype)
    values[-1] = HALF
    path = write(tmp_path / "a.tif", values, alpha=True)
    with open_raster(path) as source:
        alpha = alpha_band(source)
        assert alpha == count
        assert (read_bands(source, [1, 2], alpha=alpha).valid == (HALF > 0)).all()


def test_a_fourth_byte_band_with_data_is_not_an_alpha_band(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((4, 3, 4), "uint8"))
    with open_raster(path) as source:
        assert source.colorinterp[3] == ColorInterp.alpha  # what GDAL makes of four bands of bytes
        assert alpha_band(source, num_bands=4) is None
        assert alpha_band(source, num_bands=3) == 4


def test_the_legacy_rule_uses_only_the_tag_and_given_values(tmp_path):
    values = np.ones((1, 3, 4), "float32")
    values[0, 0] = [np.nan, 3e38, -1, 9]
    path = write(tmp_path / "a.tif", values, mask=HALF, nodata=-1)
    bands = valid_of(path, (1,), nodata=[9.0], legacy=True)
    assert bands.valid[0].tolist() == [[True, True, False, False], [True] * 4, [True] * 4]


def test_complex_rasters_are_refused(tmp_path):
    path = write(tmp_path / "slc.tif", np.ones((1, 3, 4), "complex64"))
    with pytest.raises(DataError, match=r"slc\.tif: .*complex64"), open_raster(path):
        pass


def test_an_error_about_a_container_lists_its_rasters(tmp_path):
    path = tmp_path / "two.tif"
    for append in ("NO", "YES"):
        write(path, np.ones((1, 3, 4), "uint8"), APPEND_SUBDATASET=append)
    with pytest.raises(DataError, match=r"two\.tif: .*GTIFF_DIR:1:.*GTIFF_DIR:2:"), open_raster(path):
        pass
    with open_raster(f"GTIFF_DIR:2:{path}") as source:
        assert source.count == 1


def test_closing_a_file_late_does_not_change_other_environments(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 3, 4), "int16"))
    forgotten = open_raster(path)
    forgotten.__enter__()
    with rasterio.Env():
        forgotten.__exit__(None, None, None)  # as the garbage collector may do at any moment
        with rasterio.open(path) as source:
            assert source.count == 1


@pytest.mark.parametrize(
    ("damage", "is_truncated"),
    [
        (lambda content: content[:20], True),
        (lambda content: content[:20000], True),
        (lambda content: content[:20000] + b"\x07" * 5000 + content[25000:], False),
    ],
)
def test_an_error_names_a_truncated_file_as_such(tmp_path, damage, is_truncated):
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", "GTiff", 200, 200, 1, dtype="uint8", compress="deflate") as out:
        out.write(np.random.default_rng(0).integers(0, 255, (1, 200, 200), "uint8"))
    content = path.read_bytes()
    path.write_bytes(damage(content))
    with (
        pytest.raises(DataError, match="not a readable raster") as caught,
        open_raster(path) as source,
        reading(path),
    ):
        source.read()
    assert str(caught.value).endswith("; the file may be truncated") == is_truncated
