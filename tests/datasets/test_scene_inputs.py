"""Scenes from arguments of the command line: which band of which file is which channel."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from prithvi_tg.datasets import Sen1Floods11
from prithvi_tg.datasets.scenes.dataset import SceneDataset
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers.formats import InputOptions, find_inputs, resolve_scene

BANDS = ("BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2")
TRANSFORM = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)


def write_scene(path, values, nodata=None, descriptions=None, format="GTiff", **profile):
    if format == "JP2OpenJPEG":
        profile |= {"quality": 100, "reversible": "yes"}
    with rasterio.open(
        path, "w", driver=format, dtype=values.dtype, count=len(values), height=values.shape[1],
        width=values.shape[2], nodata=nodata, crs="EPSG:32615", transform=TRANSFORM, **profile,
    ) as out:  # fmt: skip
        out.write(values)
        if descriptions:
            out.descriptions = descriptions
    return path


def planted(count):
    """A scene whose band k holds k everywhere."""
    return np.broadcast_to(np.arange(1.0, count + 1, dtype="float32")[:, None, None], (count, 5, 4)).copy()


def resolve(path, spec, **options):
    (found,) = find_inputs([path], spec.input.num_frames)
    return resolve_scene(found, spec, InputOptions(**options))


def whole(scene, spec, **reading):
    """The sample of the whole scene."""
    return SceneDataset(scene, spec, **reading)[slice(None), slice(None)]


@pytest.mark.parametrize(
    ("count", "descriptions", "bands", "expected"),
    [
        (6, None, (), [1, 2, 3, 4, 5, 6]),
        (7, None, (1, 2, 3, 5, 6, 7), [1, 2, 3, 5, 6, 7]),
        (7, None, ("1", "2", "3", "5", "6", "7"), [1, 2, 3, 5, 6, 7]),
        (6, ("B12", "B11", "B8A", "B04", "B03", "B02"), (), [6, 5, 4, 3, 2, 1]),
        (6, ("B12", "B11", "B8A", "B04", "B03", "B02"), (1, 2, 3, 4, 5, 6), [1, 2, 3, 4, 5, 6]),
        (7, ("a", "b", "c", "d", "e", "f", "g"), ("g", "a", "b", "c", "d", "e"), [7, 1, 2, 3, 4, 5]),
    ],
)
def test_bands_are_found_by_index_or_name(tmp_path, burn_spec, count, descriptions, bands, expected):
    path = write_scene(tmp_path / "scene.tif", planted(count), descriptions=descriptions)
    scene = resolve(path, burn_spec, bands=bands)
    assert [channel.index for channel in scene.channels] == expected
    assert whole(scene, burn_spec)["image"][0, :, 0, 0].tolist() == expected
    assert f"BLUE={expected[0]}" in scene.origin


def test_an_error_about_a_scene_with_other_bands_asks_for_bands(tmp_path, burn_spec):
    path = write_scene(tmp_path / "scene.tif", planted(4))
    with pytest.raises(
        DataError,
        match=r"scene\.tif: has 4 bands, the model takes 6 .*; for each of BLUE, GREEN, RED, NIR_NARROW, SWIR_1, "
        r"SWIR_2, say which band of the file it is, by index \(1 to 4\) or name$",
    ):
        resolve(path, burn_spec)
    more = write_scene(tmp_path / "more.tif", planted(7))
    with pytest.raises(
        DataError, match=r"by index \(1 to 7\) or name, for example bands=\[1, 2, 3, 4, 5, 6\]$"
    ):
        resolve(more, burn_spec)
    with pytest.raises(ConfigError, match="bands: 2 given, but the model takes 6"):
        resolve(path, burn_spec, bands=(1, 2))
    with pytest.raises(DataError, match="has 4 bands; band 0"):
        resolve(path, burn_spec, bands=(0, 1, 2, 3, 4, 5))


def test_band_names_in_the_wrong_order_are_an_error(tmp_path, burn_spec):
    descriptions = ("B12", "B11", "B8A", "B04", "B03", "B02")
    path = write_scene(tmp_path / "scene.tif", planted(6), descriptions=descriptions)
    with pytest.raises(ConfigError, match=r"bands: 'B12' is .*, but BLUE is expected in this position|'B11'"):
        resolve(path, burn_spec, bands=descriptions, sensor="sentinel2")


@pytest.mark.parametrize(("rule", "masked"), [("all", [[0, 0], [1, 1]]), ("any", [[0, 0], [0, 1], [1, 1]])])
def test_the_rule_decides_which_pixels_are_masked(tmp_path, burn_spec, rule, masked):
    values = planted(6)
    values[:, 0, 0] = -1
    values[2, 0, 1] = -1
    values[:, 1, 1] = np.nan
    scene = resolve(write_scene(tmp_path / "scene.tif", values, nodata=-1), burn_spec)
    sample = whole(scene, burn_spec, nodata_rule=rule)
    assert sample["masked"].nonzero().tolist() == masked
    assert sample["image"][0, 2, 0, 1] == torch.tensor(burn_spec.input.mean[2])
    assert torch.isfinite(sample["image"]).all()


def test_a_given_value_also_means_nodata(tmp_path, burn_spec):
    values = planted(6)
    values[:, 2, 2] = 99
    scene = resolve(write_scene(tmp_path / "scene.tif", values), burn_spec, nodata=(99.0,))
    assert whole(scene, burn_spec)["masked"].nonzero().tolist() == [[2, 2]]


def test_folders_and_globs_are_expanded_to_rasters(tmp_path):
    for name in ("b.tif", "a.TIFF", "d.vrt", "c.png", ".hidden.tif"):
        (tmp_path / name).touch()
    assert [found.name for found in find_inputs([tmp_path])] == ["a", "b", "d"]
    assert [found.name for found in find_inputs([tmp_path / "*.tif"])] == ["b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: contains no scene"):
        find_inputs([tmp_path / "empty"])
    with pytest.raises(DataError, match=r"gone\.tif: no such file or folder"):
        find_inputs([tmp_path / "gone.tif"])
    with pytest.raises(DataError, match=r"gone\*\.tif: no file matches this pattern"):
        find_inputs([tmp_path / "gone*.tif"])


@pytest.mark.parametrize("word", ["", " ", "a.TIFF,", "a.TIFF, "])
def test_an_empty_date_is_not_the_working_folder(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    for name in ("a.TIFF", "other.tif"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="one is empty; join the dates of a scene by commas: before"):
        find_inputs([word], num_frames=len(word.split(",")))


def test_urls_and_vsi_paths_are_passed_to_gdal(tmp_path, burn_spec):
    names = {
        "/vsicurl/https://host/a/scene.tif": "scene",
        "https://host/b.c/other.tif?signature=x/y": "other",
        "s3://bucket/folder/third.vrt": "third",
    }
    assert [found.name for found in find_inputs(names)] == list(names.values())
    with rasterio.MemoryFile() as memory:
        write_scene(memory.name, planted(6))
        assert resolve(memory.name, burn_spec).grid.width == 4


@pytest.mark.parametrize("unit", [1.0, 1e4])
def test_scale_and_offset_tags_give_reflectance(tmp_path, burn_spec, unit):
    spec = (
        burn_spec
        if unit == 1
        else burn_spec.with_input(mean=tuple(1e4 * value for value in burn_spec.input.mean))
    )
    path = write_scene(tmp_path / "scene.tif", planted(6) * 1000)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1e-4,) * 6, (-0.1,) * 6
    pixels = whole(resolve(path, spec), spec)["image"][0, :, 0, 0]
    assert pixels.tolist() == pytest.approx([unit * (k / 10 - 0.1) for k in range(1, 7)], abs=1e-6 * unit)
    with pytest.raises(
        ConfigError, match=r"offset: .*scene\.tif has its own scale and offset; give a scale too"
    ):
        resolve(path, spec, offset=1.0)
    given = whole(resolve(path, spec, scale=2.0, offset=1.0), spec)["image"][0, :, 0, 0]
    assert given.tolist() == [2000.0 * k + 1 for k in range(1, 7)]


# Several dates.


@pytest.fixture
def three_dates(burn_spec):
    return burn_spec.with_input(num_frames=3, file_bands=(), file_count=0)


def planted_dates():
    """An image (T, C, H, W) with the value 10 t + c for date t and band c."""
    t, c = np.mgrid[1:4, 1:7]
    return np.broadcast_to((10.0 * t + c)[..., None, None], (3, 6, 5, 4)).astype("float32")


def as_three_files(folder, values, transforms=(TRANSFORM,) * 3):
    paths = [folder / f"date{t}.tif" for t in range(3)]
    for path, frame, transform in zip(paths, values, transforms, strict=True):
        with rasterio.open(write_scene(path, frame), "r+") as file:
            file.transform = transform
    return paths


def test_three_dates_are_the_same_scene_in_one_file_and_in_three_files(tmp_path, three_dates):
    values = planted_dates()
    one = write_scene(tmp_path / "one.tif", values.reshape(18, 5, 4))
    three = as_three_files(tmp_path, values)
    images = [
        whole(resolve(word, three_dates), three_dates)["image"] for word in (one, ",".join(map(str, three)))
    ]
    assert torch.equal(images[0], torch.from_numpy(values))
    assert torch.equal(images[0], images[1])


def test_spaces_around_the_commas_between_dates_are_ignored(tmp_path):
    paths = [str(path) for path in as_three_files(tmp_path, planted_dates())]
    (found,) = find_inputs([" , ".join(paths)], 3)
    assert found.frames == tuple(paths)


def test_a_file_that_is_given_for_two_dates_is_a_warning(tmp_path, three_dates):
    one, two, _ = as_three_files(tmp_path, planted_dates())
    with pytest.warns(UserWarning, match=rf"date0: {one} is given for several dates; give the file of each"):
        resolve(f"{one},{two},{one}", three_dates)


def test_the_bands_of_each_date_are_printed_with_its_name(tmp_path, three_dates):
    scene = resolve(",".join(map(str, as_three_files(tmp_path, planted_dates()))), three_dates)
    for number, part in enumerate(scene.origin.split("; "), start=1):
        assert part.startswith(f"date {number} (date{number - 1}): BLUE=1 GREEN=2")


def test_dates_in_band_descriptions_are_sorted(tmp_path, three_dates):
    values = planted_dates()
    names = [f"{band}_2020{month:02d}01" for month in (3, 6, 9) for band in BANDS]
    shuffled = np.random.default_rng(0).permutation(18)
    path = write_scene(
        tmp_path / "scene.tif", values.reshape(18, 5, 4)[shuffled], descriptions=[names[k] for k in shuffled]
    )
    scene = resolve(path, three_dates)
    assert torch.equal(whole(scene, three_dates)["image"], torch.from_numpy(values))
    assert scene.timestamps.tolist() == [[2020, 61], [2020, 153], [2020, 245]]


def test_dates_must_be_in_order_and_match_the_model(tmp_path, three_dates):
    path = write_scene(tmp_path / "one.tif", planted_dates().reshape(18, 5, 4))
    days = tuple(date(2020, month, 1) for month in (3, 9, 6))
    with pytest.raises(DataError, match=r"dates are not in order \(2020-03-01 2020-09-01 2020-06-01\)"):
        resolve(path, three_dates, dates=days)
    with pytest.raises(ConfigError, match="dates: 2 given, but the model takes 3"):
        resolve(path, three_dates, dates=days[:2])


def test_the_number_of_dates_must_match_the_model(tmp_path, three_dates, burn_spec):
    paths = as_three_files(tmp_path, planted_dates())
    with pytest.raises(DataError, match="2 dates given, but the model takes 3"):
        find_inputs([",".join(map(str, paths[:2]))], 3)
    advice = r"but the model takes 3 dates; join the files of the dates with commas: before\.tif,after\.tif$"
    with pytest.raises(DataError, match=rf"date0\.tif: has one date of 6 bands, {advice}"):
        resolve(paths[0], three_dates)
    all_bands = write_scene(tmp_path / "all.tif", planted(18), descriptions=[*BANDS, *map(str, range(12))])
    with pytest.raises(DataError, match=rf"all\.tif: has one date of 18 bands, {advice}"):
        resolve(all_bands, three_dates)
    with pytest.raises(DataError, match=r"9\.tif: has 9 bands, the model takes 18 \(3 dates of BLUE"):
        resolve(write_scene(tmp_path / "9.tif", planted(9)), three_dates)
    names = [f"{band}_2020{month:02d}01" for month in (3, 6) for band in BANDS]
    path = write_scene(tmp_path / "two.tif", planted_dates()[:2].reshape(12, 5, 4), descriptions=names)
    with pytest.raises(DataError, match="the model takes 3 dates, but its band descriptions contain 2"):
        resolve(path, three_dates)


def test_dates_on_other_grids_are_warped_to_the_grid_of_the_first(tmp_path, three_dates):
    """A point in one pixel is found there for any grid of its date."""
    values = np.zeros((3, 6, 5, 4), "float32")
    values[:, :, 3, 1] = 7
    shifted = np.zeros((6, 9, 9), "float32")
    shifted[:, 5, 4] = 7  # the same ground: two rows down and three columns right
    finer = np.kron(values[2], np.ones((3, 3), "float32"))
    paths = [
        write_scene(tmp_path / "first.tif", values[0]),
        write_scene(tmp_path / "shifted.tif", shifted),
        write_scene(tmp_path / "finer.tif", finer),
    ]
    for path, transform in zip(
        paths[1:],
        (
            rasterio.Affine(30, 0, 600000 - 90, 0, -30, 4200000 + 60),
            rasterio.Affine(10, 0, 600000, 0, -10, 4200000),
        ),
        strict=True,
    ):
        with rasterio.open(path, "r+") as file:
            file.transform = transform
    sample = whole(resolve(",".join(map(str, paths)), three_dates), three_dates)
    assert torch.equal(sample["image"][1], torch.from_numpy(values[0]))
    assert sample["image"][2, 0].argmax() == values[0, 0].argmax()
    assert sample["valid"].all()


def test_pixels_that_a_date_does_not_cover_have_no_data(tmp_path, three_dates):
    values = planted_dates()
    east = rasterio.Affine(30, 0, 600000 + 60, 0, -30, 4200000)
    paths = as_three_files(tmp_path, values, (TRANSFORM, east, TRANSFORM))
    sample = whole(resolve(",".join(map(str, paths)), three_dates), three_dates)
    assert sample["valid"][1, 0].int().tolist() == [[0, 0, 1, 1]] * 5
    assert not sample["masked"].any()
    far = rasterio.Affine(30, 0, 700000, 0, -30, 4200000)
    paths = as_three_files(tmp_path, values, (TRANSFORM, far, TRANSFORM))
    with pytest.raises(DataError, match=r"date1\.tif: does not overlap .*date0\.tif"):
        resolve(",".join(map(str, paths)), three_dates)


def test_a_scene_without_georeference_is_mapped_with_a_warning(tmp_path, burn_spec, three_dates):
    values = planted(6)
    path = tmp_path / "plain.tif"
    with rasterio.open(path, "w", driver="GTiff", dtype="float32", count=6, height=5, width=4) as out:
        out.write(values)
    with pytest.warns(UserWarning, match=r"plain\.tif: has no georeference, so its map will have none"):
        scene = resolve(path, burn_spec)
    assert torch.equal(whole(scene, burn_spec)["image"][0], torch.from_numpy(values))


# Granules.


def hls_granule(folder, sensor, day, values, tag=-9999, fmask=None, offset=0):
    """Six bands (6, H, W) as one HLS granule, with the band numbers of the sensor."""
    codes = {
        "S30": ("B02", "B03", "B04", "B8A", "B11", "B12"),
        "L30": ("B02", "B03", "B04", "B05", "B06", "B07"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / f"HLS.{sensor}.T15SEH.{day}T170901.v2.0"
    decoys = {"S30": ("B05", "B08"), "L30": ("B01", "B09")}[sensor]
    for code, band in zip((*codes[sensor], *decoys), (*values, *values[:2] * 0 + 1234), strict=True):
        path = write_scene(folder / f"{prefix.name}.{code}.tif", band[None].astype("int16"), nodata=tag)
        with rasterio.open(path, "r+") as file:
            file.scales = (1e-4,)
    if fmask is not None:
        write_scene(folder / f"{prefix.name}.Fmask.tif", fmask[None].astype("uint8"), nodata=255)
    return prefix


@pytest.mark.parametrize("sensor", ["S30", "L30"])
def test_granules_are_found_by_prefix_folder_and_glob(tmp_path, burn_spec, sensor):
    prefix = hls_granule(tmp_path / "granule", sensor, 2018190, planted(6) * 1000)
    for word in (prefix, f"{prefix}.", tmp_path / "granule", tmp_path, f"{prefix}*.tif"):
        scene = resolve(word, burn_spec)
        assert scene.name == prefix.name
        assert scene.dates == (date(2018, 7, 9),)
        pixels = whole(scene, burn_spec)["image"][0, :, 0, 0]
        assert pixels.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_granules_of_one_tile_are_the_dates_of_one_scene(tmp_path, three_dates):
    for t, (sensor, day) in enumerate((("S30", 2018252), ("L30", 2018110), ("S30", 2018190))):
        hls_granule(tmp_path / "archive", sensor, day, planted(6) * 1000 + (2, 0, 1)[t])
    scene = resolve(tmp_path / "archive", three_dates)
    assert scene.name == "T15SEH_20180420_20180909"
    image = whole(scene, three_dates)["image"][:, 0, 0, 0]
    assert image.tolist() == pytest.approx([0.1, 0.1001, 0.1002])
    hls_granule(tmp_path / "archive", "S30", 2018260, planted(6))
    with pytest.raises(DataError, match="4 dates of T15SEH, the model takes 3; give the ones to use"):
        find_inputs([tmp_path / "archive"], 3)


def test_fmask_masks_the_chosen_classes(tmp_path, burn_spec):
    fmask = np.zeros((5, 4), "uint8")
    fmask[0] = 0b00000010  # cloud
    fmask[1] = 0b00001000  # shadow
    fmask[2] = 0b01010000  # snow, and an aerosol level
    scene = resolve(hls_granule(tmp_path / "g", "S30", 2018190, planted(6) * 1000, fmask=fmask), burn_spec)
    for mask, rows in (((), []), (("cloud",), [0]), (("cloud", "shadow"), [0, 1]), (("snow",), [2])):
        sample = whole(scene, burn_spec, mask=mask)
        assert sample["masked"].all(dim=1).nonzero().flatten().tolist() == rows
        assert sample["masked"].sum() == 4 * len(rows)
    assert sample["image"][0, 0, 2, 0] == torch.tensor(burn_spec.input.mean[0])


def test_masking_without_a_quality_layer_is_an_error(tmp_path, burn_spec):
    scene = resolve(write_scene(tmp_path / "scene.tif", planted(6)), burn_spec)
    with pytest.raises(
        DataError, match=r"scene\.tif: has no quality layer \(Fmask, SCL\), which qa_mask cloud needs"
    ):
        whole(scene, burn_spec, qa_mask=("cloud",))


def test_a_band_called_scl_is_the_quality_layer(tmp_path, burn_spec):
    values = np.concatenate([planted(6), np.full((1, 5, 4), 4, "float32")])
    values[6, 0, 0], values[6, 1, 1] = 9, 3
    path = write_scene(tmp_path / "scene.tif", values, descriptions=(*BANDS, "SCL"))
    scene = resolve(path, burn_spec)
    assert whole(scene, burn_spec, qa_mask=("cloud",))["masked"].nonzero().tolist() == [[0, 0]]
    with pytest.raises(ConfigError, match="SCL has no class 'adjacent'; it has shadow, water, cloud"):
        whole(scene, burn_spec, qa_mask=("adjacent",))


def test_a_granule_without_a_band_is_an_error_that_names_it(tmp_path, burn_spec):
    prefix = hls_granule(tmp_path / "g", "L30", 2018190, planted(6))
    Path(f"{prefix}.B06.tif").unlink()
    with pytest.raises(DataError, match=r"HLS\.L30.*SWIR_1"):
        resolve(prefix, burn_spec)


def safe_product(folder, offset):
    """An L2A product with known reflectance, stored with the offset of baseline 04.00."""
    safe = folder / "S2A_MSIL2A_20221005T113321_N0400_R080_T29UNU_20221005T174352.SAFE"
    images = safe / "GRANULE" / "L2A_T29UNU" / "IMG_DATA" / "R20m"
    images.mkdir(parents=True)
    listed = "".join(f'<BOA_ADD_OFFSET band_id="{k}">{offset}</BOA_ADD_OFFSET>' for k in range(13))
    (safe / "MTD_MSIL2A.xml").write_text(
        f"<a><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE>{listed if offset else ''}</a>"
    )
    for number, code in enumerate(("B02", "B03", "B04", "B8A", "B11", "B12"), start=1):
        band = np.full((1, 40, 40), 1000 * number - offset, "uint16")
        band[0, :8] = 0  # beyond the swath
        write_scene(images / f"T29UNU_20221005T113321_{code}_20m.jp2", band, format="JP2OpenJPEG")
    scl = np.full((1, 40, 40), 4, "uint8")
    scl[0, 20:24] = 9
    write_scene(images / "T29UNU_20221005T113321_SCL_20m.jp2", scl, format="JP2OpenJPEG")
    return safe


@pytest.mark.parametrize("offset", [0, -1000])
def test_a_sentinel_2_product_gives_reflectance_with_or_without_offset(tmp_path, burn_spec, offset):
    safe = safe_product(tmp_path, offset)
    for word in (safe, tmp_path):
        scene = resolve(word, burn_spec)
        assert (scene.name, scene.dates) == (safe.stem, (date(2022, 10, 5),))
    sample = whole(scene, burn_spec, qa_mask=("cloud",))
    assert sample["image"][0, :, 30, 30].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    rows = sample["masked"].all(dim=1).nonzero().flatten().tolist()
    assert rows == [*range(8), *range(20, 24)]


def test_zeros_are_data_unless_the_file_has_the_layout_of_the_training_files(tmp_path):
    """In files of Sen1Floods11, 0 means nodata; in most others it is a dark pixel."""
    spec = Sen1Floods11.data_spec()
    six = planted(6) * 1000
    six[2, 0, 0] = 0
    scene = resolve(
        write_scene(tmp_path / "six.tif", six.astype("int16"), nodata=-9999, descriptions=BANDS), spec
    )
    sample = whole(scene, spec, nodata_rule="any")
    assert not sample["masked"].any()
    assert sample["image"][0, 2, 0, 0] == 0
    thirteen = planted(13) * 1000
    thirteen[:, 0, 0] = 0
    scene = resolve(write_scene(tmp_path / "thirteen.tif", thirteen.astype("int16")), spec)
    assert whole(scene, spec)["masked"].nonzero().tolist() == [[0, 0]]
    assert "nodata: -9999 0, in addition to tags and NaN" in scene.origin


def test_a_quality_layer_may_be_a_separate_file(tmp_path, burn_spec):
    layer = np.full((1, 5, 4), 4, "uint8")
    layer[0, 1, 2] = 9
    write_scene(tmp_path / "scene_SCL.tif", layer)
    path = write_scene(tmp_path / "scene.tif", planted(6))
    scene = resolve(path, burn_spec, quality=(str(tmp_path / "scene_SCL.tif"),))
    assert whole(scene, burn_spec, qa_mask=("cloud",))["masked"].nonzero().tolist() == [[1, 2]]
    write_scene(tmp_path / "other.tif", layer)
    with pytest.raises(
        ConfigError,
        match=r"quality: .*other\.tif is of unknown type; its name or band description must contain",
    ):
        resolve(path, burn_spec, quality=(str(tmp_path / "other.tif"),))


def test_maps_in_a_folder_are_not_scenes(tmp_path):
    for name in ("a.tif", "a_pred.tif", "a_confidence.tif", "index_EPSG_32615.vrt"):
        (tmp_path / name).touch()
    assert [found.name for found in find_inputs(str(tmp_path))] == ["a"]


def test_an_unknown_sensor_lists_the_known():
    with pytest.raises(ConfigError, match="sensor: 'foo' is unknown; choose from sentinel2, hls_s30"):
        InputOptions(sensor="foo")
