"""Names of scenes: all forms that GDAL accepts, and a separate name for each scene."""

import numpy as np
import pytest
import rasterio

from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers.formats import InputOptions, find_inputs, resolve_scene
from prithvi_tg.readers.raster import open_raster
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

PLACE = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)
SPEC = DataSpec(InputSpec(("BLUE", "RED"), (1000.0,) * 2, (500.0,) * 2), ClassTarget())
SITE = 'LOCAL_CS["site grid",UNIT["metre",1]]'


def write(path, count=2, descriptions=None, crs="EPSG:32615", **profile):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=4,
        width=5,
        dtype="int16",
        crs=crs,
        transform=PLACE,
        **profile,
    ) as out:
        out.write(np.broadcast_to(np.arange(1, count + 1, dtype="int16")[:, None, None], (count, 4, 5)))
        if descriptions:
            out.descriptions = descriptions
    return path


def bands_of(path, spec=SPEC, **options):
    (found,) = find_inputs([str(path)], spec.input.num_frames)
    return [channel.index for channel in resolve_scene(found, spec, InputOptions(**options)).channels]


@pytest.mark.parametrize("name", ["tile #1", "a?b", "50% cloud", "x&y", "a;b", "a b", "x:y", "a,b", "Ä"])
def test_a_local_file_keeps_its_whole_name(tmp_path, name):
    write(tmp_path / f"{name}.tif")
    for word in (tmp_path, tmp_path / f"{name}.tif"):
        (found,) = find_inputs(str(word))
        assert found.name == name
        with open_raster(found.frames[0]) as source:
            assert source.count == 2


def test_names_that_differ_behind_a_hash_are_two_scenes(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"tile #{number}.tif")
    assert [found.name for found in find_inputs(tmp_path)] == ["tile #1", "tile #2"]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ('NETCDF:"cube.nc":B02', "cube_B02"),
        ("NETCDF:cube.nc:B02", "cube_B02"),
        ('NETCDF:"/data/a,b.nc":B02', "a,b_B02"),
        ("GTIFF_DIR:2:folder/a.tif", "a_2"),
        ('ZARR:"/data/z.zarr":/group/B02', "z_group_B02"),
        ('HDF5:"/data/h.h5"://B02', "h_B02"),
        ("https://host/a.tif?sign=x,y#z", "a"),
        ("/vsicurl/https://host/a.tif?sign=x", "a"),
        ("/vsizip//data/a.zip/b#1.tif", "b#1"),
        ("s3://bucket/key/a#1.tif", "a"),
    ],
)
def test_names_of_gdal_with_commas_are_one_scene(word, name):
    (found,) = find_inputs([word])
    assert (found.name, found.frames) == (name, (word,))


@pytest.mark.parametrize(
    "dates",
    [
        ('NETCDF:"a.nc":B02', 'NETCDF:"b.nc":B02'),
        ("https://host/a.tif?x=1,2", "https://host/b.tif"),
        ("/vsis3/bucket/a.tif", "/vsis3/bucket/b.tif"),
    ],
)
def test_commas_separate_dates_of_any_form(dates):
    (found,) = find_inputs([",".join(dates)], num_frames=2)
    assert found.frames == dates


def test_a_subdataset_is_mapped_and_an_error_about_a_container_lists_them(tmp_path):
    path = tmp_path / "two.tif"
    for append in ("NO", "YES"):
        write(path, APPEND_SUBDATASET=append)
    assert bands_of(f"GTIFF_DIR:2:{path}") == [1, 2]
    with pytest.raises(DataError, match=r"two\.tif: .*GTIFF_DIR:1:"):
        bands_of(path)
    with pytest.raises(DataError, match="not a readable raster"):
        bands_of(f"GTIFF_DIR:9:{path}")


@pytest.mark.parametrize(
    "descriptions",
    [
        ("Band 1", "Band 2"),
        ("band_1", "band_2"),
        ("1", "2"),
        ("Layer 1", "Layer 2"),
        ("", ""),
        ("Band", "band"),
    ],
)
def test_descriptions_that_only_number_the_bands_are_not_names(tmp_path, descriptions):
    assert bands_of(write(tmp_path / "a.tif", descriptions=descriptions)) == [1, 2]


@pytest.mark.parametrize("digits", ["12345678", "20201301", "00000000", "99999999"])
def test_digits_that_form_no_date_are_not_read_as_one(tmp_path, digits):
    path = write(tmp_path / "a.tif", descriptions=(f"B04_{digits}", f"B02_{digits}"))
    (found,) = find_inputs([path])
    scene = resolve_scene(found, SPEC)
    assert [channel.index for channel in scene.channels] == [2, 1]
    assert scene.dates == (None,)


def test_a_band_that_is_named_twice_is_an_error(tmp_path):
    path = write(tmp_path / "a.tif", 4, ("B02", "B04", "B02", "B04"))
    with pytest.raises(DataError, match=r"name BLUE twice \(bands 1, 3\)"):
        bands_of(path)
    assert bands_of(path, bands=("1", "2")) == [1, 2]


def test_repeated_band_names_are_the_dates_of_a_multi_temporal_model(tmp_path):
    spec = DataSpec(InputSpec(("BLUE", "RED"), (1000.0,) * 2, (500.0,) * 2, num_frames=2), ClassTarget())
    path = write(tmp_path / "a.tif", 4, ("B04", "B02", "B04", "B02"))
    assert bands_of(path, spec) == [2, 1, 4, 3]


@pytest.mark.parametrize("crs", [SITE, None])
def test_a_local_grid_has_no_geographic_coordinates(tmp_path, crs):
    path = write(tmp_path / "a.tif", crs=crs)
    (found,) = find_inputs([path])
    grid = resolve_scene(found, SPEC).grid
    assert np.isnan(grid.latitudes_and_longitudes([1.0], [1.0])).all()
    assert grid.pixel_size is None


@pytest.mark.parametrize(
    ("crs", "pixel", "size"), [("EPSG:32615", 30, 30), ("EPSG:4326", 1e-4, 8.9), ("EPSG:2263", 100, 30.48)]
)
def test_the_size_of_pixels_is_in_metres(tmp_path, crs, pixel, size):
    path = write(tmp_path / "a.tif", crs=crs)
    with rasterio.open(path, "r+") as out:
        out.transform = rasterio.Affine(pixel, 0, 10, 0, -pixel, 50)
    (found,) = find_inputs([path])
    assert resolve_scene(found, SPEC).grid.pixel_size == pytest.approx(size, rel=0.01)


def test_a_scale_option_overrides_the_tags_of_a_scene(tmp_path):
    path = write(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as out:
        out.scales, out.offsets = (2e-4,) * 2, (-0.1,) * 2
    (found,) = find_inputs([path])
    channel = resolve_scene(found, SPEC, InputOptions(scale=3.0, offset=1.0)).channels[0]
    assert (channel.scale, channel.offset) == (3.0, 1.0)
    with pytest.raises(ConfigError, match="offset"):
        resolve_scene(found, SPEC, InputOptions(offset=1.0))
