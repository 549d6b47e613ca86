"""Real scenes: the same map from a stacked file and from granules, and from one file and from three."""

import numpy as np
import pytest
import rasterio
import torch
from conftest import TINY

from prithvi_tg import PrithviSegmentationTask, map_scene
from prithvi_tg.datasets import MultiTemporalCropClassification, Sen1Floods11
from prithvi_tg.datasets.scenes.dataset import SceneDataset
from prithvi_tg.readers.formats import find_inputs, resolve_scene

CODES = {
    "S30": ("B02", "B03", "B04", "B8A", "B11", "B12"),
    "L30": ("B02", "B03", "B04", "B05", "B06", "B07"),
}


def random_task(spec, **options):
    torch.manual_seed(0)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, num_classes=len(spec.target.names), head_channels=8, window=128,
        stride=96, num_frames=spec.input.num_frames, data_spec=spec.to_dict(), **options,
    )  # fmt: skip
    task.model.decode_head.conv_seg.weight.data *= 100
    return task.eval()


def as_hls(source, bands, folder, sensor, day, fmask=None):
    """Some bands of an open file as one granule, in the layout of NASA."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / f"HLS.{sensor}.T29UNU.{day}T113321.v2.0"
    profile = {
        "driver": "GTiff", "count": 1, "height": source.height, "width": source.width, "crs": source.crs,
        "transform": source.transform, "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate",
    }  # fmt: skip
    for code, band in zip(CODES[sensor], bands, strict=True):
        with rasterio.open(f"{prefix}.{code}.tif", "w", dtype="int16", nodata=-9999, **profile) as out:
            out.write(source.read(band), 1)
            out.scales = (0.0001,)
    if fmask is not None:
        with rasterio.open(f"{prefix}.Fmask.tif", "w", dtype="uint8", nodata=255, **profile) as out:
            out.write(fmask, 1)
    return prefix


def classes_of(path):
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.fixture(scope="session")
def scene(real_data):
    return real_data / "sentinel2_scene" / "S2A_L2A_T29UNU_20221005_60m_6band_640.tif"


@pytest.mark.parametrize("sensor", ["S30", "L30"])
def test_a_stacked_scene_and_its_granule_have_the_same_map(scene, tmp_path, sensor):
    task = random_task(Sen1Floods11.data_spec())
    expected = classes_of(map_scene(task, scene, tmp_path / "stacked.tif"))
    assert min((expected == k).mean() for k in (0, 1)) > 0.02
    with rasterio.open(scene) as source:
        prefix = as_hls(source, range(1, 7), tmp_path / "hls", sensor, 2022278)
    for number, word in enumerate((prefix, tmp_path / "hls")):
        found = map_scene(task, word, tmp_path / f"{number}.tif", bands=())
        np.testing.assert_array_equal(classes_of(found), expected)


def test_real_clouds_are_masked_by_the_chosen_quality_classes(scene, real_data, tmp_path):
    task = random_task(Sen1Floods11.data_spec())
    layer = real_data / "sentinel2_scene" / "S2A_L2A_T29UNU_20221005_60m_SCL_640.tif"
    scl = classes_of(layer)
    fmask = (np.isin(scl, (8, 9)) * 0b10 + (scl == 3) * 0b1000 + 0b01000000).astype("uint8")
    with rasterio.open(scene) as source:
        prefix = as_hls(source, range(1, 7), tmp_path / "hls", "S30", 2022278, fmask)
    found = classes_of(map_scene(task, prefix, tmp_path / "map.tif", qa_mask=("cloud", "shadow")))
    np.testing.assert_array_equal(found == 255, np.isin(scl, (3, 8, 9)))


@pytest.mark.parametrize("name", ["chip_102_345", "chip_104_104"])
def test_three_dates_from_one_file_and_from_three_granules_have_the_same_map(real_data, tmp_path, name):
    chip = real_data / "crops" / f"{name}_merged.tif"
    spec = MultiTemporalCropClassification.data_spec()
    task = random_task(spec)
    expected = classes_of(map_scene(task, chip, tmp_path / "one.tif"))
    assert len(np.unique(expected)) > 2
    with rasterio.open(chip) as source:
        for frame, (sensor, day) in enumerate((("L30", 2022147), ("S30", 2022222), ("L30", 2022247))):
            as_hls(source, range(6 * frame + 1, 6 * frame + 7), tmp_path / "hls", sensor, day)
    np.testing.assert_array_equal(
        classes_of(map_scene(task, tmp_path / "hls", tmp_path / "three.tif")), expected
    )
    (found,) = find_inputs([tmp_path / "hls"], 3)
    image = SceneDataset(resolve_scene(found, spec), spec)[slice(None), slice(None)]["image"]
    with rasterio.open(chip) as source:
        np.testing.assert_allclose(image.flatten(0, 1).numpy(), source.read(), rtol=1e-6)


def test_the_real_scene_is_in_the_expected_unit(scene, tmp_path, recwarn):
    """Clouds above 1 and small negative values give no warning; a wrong unit does."""
    task = random_task(Sen1Floods11.data_spec())
    map_scene(task, scene, tmp_path / "right.tif")
    assert not [one for one in recwarn if "trained on" in str(one.message)]
    with pytest.warns(UserWarning, match="trained on"):
        map_scene(task, scene, tmp_path / "wrong.tif", scale=1.0)
