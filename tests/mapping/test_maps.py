from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from prithvi_tg import PrithviSegmentationTask, load_weights, map_scene
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.files import finished_file

CONFIGS = Path(__file__).parents[2] / "configs"
CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
)
TRANSFORM = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)


@pytest.fixture
def golden_task(golden, burn_spec):
    task = PrithviSegmentationTask(
        encoder="nano",
        encoder_args={"width": 64, "depth": 2, "num_heads": 4},
        head_channels=16,
        window=64,
        stride=32,
        data_spec=burn_spec.to_dict(),
    )
    load_weights(task.model, golden / "models" / "burn_scars_64.pth")
    return task


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("name", ["clean", "holes", "no_nodata_tag"])
def test_legacy_maps_equal_the_golden_maps(golden, golden_task, tmp_path, name, device):
    folder = golden / "inference" / "burn_scars"
    output = map_scene(
        golden_task, folder / "in" / f"{name}.tif", tmp_path / "map.tif", profile="legacy", device=device
    )
    with rasterio.open(output) as ours, rasterio.open(folder / "out" / f"{name}_pred.tif") as theirs:
        np.testing.assert_array_equal(ours.read(), theirs.read())
        assert ours.profile == theirs.profile


def test_a_scene_smaller_than_a_window_gets_a_map(golden, golden_task, tmp_path):
    scene = golden / "inference" / "burn_scars" / "in" / "too_small.tif"
    for profile in ("cog", "legacy"):
        with rasterio.open(
            map_scene(golden_task, scene, tmp_path / f"{profile}.tif", profile=profile)
        ) as file:
            assert file.shape == (50, 60)
            assert set(np.unique(file.read())) <= {0, 1}


def test_maps_are_cloud_optimised_with_classes_and_nodata(golden, golden_task, tmp_path):
    scene = golden / "inference" / "burn_scars" / "in" / "holes.tif"
    with rasterio.open(scene) as source:
        values = source.read()
        crs, transform = source.crs, source.transform
    with rasterio.open(map_scene(golden_task, scene, tmp_path / "map.tif")) as file:
        classes = file.read(1)
        assert (file.crs, file.transform) == (crs, transform)
        assert (file.dtypes[0], file.nodata) == ("uint8", 255)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.tags(1)["CLASS_1"] == "Burn scar"
        assert file.colormap(1)[255][3] == 0
    empty = (values == -9999).all(axis=0)
    assert empty.any()
    np.testing.assert_array_equal(classes == 255, empty)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("blending", ["average", "hann", "crop"])
def test_maps_do_not_depend_on_device_batches_and_threads(golden, golden_task, tmp_path, blending, device):
    scene = golden / "inference" / "burn_scars" / "in" / "holes.tif"
    plain = {"blending": blending, "batch_size": 1, "num_workers": 0, "device": "cpu"}
    other = {"blending": blending, "batch_size": 7, "num_workers": 3, "device": device}
    maps = []
    for number, options in enumerate((plain, other)):
        with rasterio.open(map_scene(golden_task, scene, tmp_path / f"{number}.tif", **options)) as file:
            maps.append(file.read())
    np.testing.assert_array_equal(*maps)


def test_a_map_that_fails_leaves_no_file_behind(tmp_path):
    target = tmp_path / "map.tif"

    def fail():
        with finished_file(target) as partial:
            partial.write_text("half a map")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_output_folder_that_cannot_be_created(golden, golden_task, tmp_path):
    (tmp_path / "maps").write_text("a file where the folder should be")
    scene = golden / "inference" / "burn_scars" / "in" / "too_small.tif"
    with pytest.raises(DataError, match=r"maps/map\.tif: cannot be written"):
        map_scene(golden_task, scene, tmp_path / "maps" / "map.tif")


def test_a_task_without_a_data_description_cannot_map(tiny_task, tmp_path):
    with pytest.raises(ConfigError, match="data_spec: the task has no description of its data"):
        map_scene(tiny_task, tmp_path / "scene.tif", tmp_path / "map.tif")


@pytest.mark.parametrize("name", ["clean", "holes", "no_nodata_tag"])
def test_the_legacy_configuration_of_burn_scars_reproduces_the_seed(golden, command, tmp_path, name):
    """From a published kind of checkpoint through the command line, with the sizes of the golden model."""
    scene = golden / "inference" / "burn_scars" / "in" / f"{name}.tif"
    code, out, err = command(
        "predict", scene, "--output", tmp_path, "--profile", "legacy",
        "--config", CONFIGS / "burn_scars.yaml", "--config", CONFIGS / "legacy" / "burn_scars.yaml",
        "--ckpt_path", golden / "models" / "burn_scars_64.pth",
        "--model.encoder", "nano", "--model.encoder_args", "{width: 64, depth: 2, num_heads: 4}",
        "--model.head_channels", "16", "--model.window", "64", "--model.stride", "32",
    )  # fmt: skip
    assert code == 0, err
    expected = golden / "inference" / "burn_scars" / "out" / f"{name}_pred.tif"
    with rasterio.open(tmp_path / f"{name}_pred.tif") as ours, rasterio.open(expected) as theirs:
        np.testing.assert_array_equal(ours.read(), theirs.read())
    assert "BLUE=1 GREEN=2 RED=3 NIR_NARROW=4 SWIR_1=5 SWIR_2=6" in out
