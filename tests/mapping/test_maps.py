from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from prithvi_tg import PrithviSegmentationTask, load_weights, map_scene
from prithvi_tg.datasets.scenes import SceneDataset
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.mapping.maps import find_scenes, finished_file, map_paths

CONFIGS = Path(__file__).parents[2] / "configs"
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


@pytest.mark.parametrize("name", ["clean", "holes", "no_nodata_tag"])
def test_legacy_maps_equal_the_golden_ones(golden, golden_task, tmp_path, name):
    folder = golden / "inference" / "burn_scars"
    output = map_scene(golden_task, folder / "in" / f"{name}.tif", tmp_path / "map.tif", profile="legacy")
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


def write_scene(path, values, nodata=None, descriptions=None, **profile):
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, count=len(values), height=values.shape[1],
        width=values.shape[2], nodata=nodata, crs="EPSG:32615", transform=TRANSFORM, **profile,
    ) as out:  # fmt: skip
        out.write(values)
        if descriptions:
            out.descriptions = descriptions
    return path


def planted(count):
    """A scene whose band k holds k everywhere."""
    return np.broadcast_to(np.arange(1.0, count + 1, dtype="float32")[:, None, None], (count, 5, 4)).copy()


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
    scene = write_scene(tmp_path / "scene.tif", planted(count), descriptions=descriptions)
    sample = SceneDataset([scene], burn_spec, bands)[0]
    assert sample["image"][0, :, 0, 0].tolist() == expected


def test_a_scene_with_other_bands_asks_for_them(tmp_path, burn_spec):
    scene = write_scene(tmp_path / "scene.tif", planted(4))
    with pytest.raises(
        DataError, match=r"scene\.tif: has 4 bands, the model takes 6 .* say which with --bands"
    ):
        SceneDataset([scene], burn_spec)[0]
    with pytest.raises(ConfigError, match="bands: 2 given, the model takes 6"):
        SceneDataset([scene], burn_spec, (1, 2))
    with pytest.raises(DataError, match="has 4 bands; bands"):
        SceneDataset([scene], burn_spec, (0, 1, 2, 3, 4, 5))[0]


def test_only_pixels_without_any_data_are_masked(tmp_path, burn_spec):
    values = planted(6)
    values[:, 0, 0] = -1
    values[2, 0, 1] = -1
    values[:, 1, 1] = np.nan
    sample = SceneDataset([write_scene(tmp_path / "scene.tif", values, nodata=-1)], burn_spec)[0]
    assert sample["masked"].nonzero().tolist() == [[0, 0], [1, 1]]
    assert sample["image"][0, 2, 0, 1] == torch.tensor(burn_spec.mean[2])
    assert torch.isfinite(sample["image"]).all()


def test_folders_stand_for_the_geotiffs_in_them(tmp_path):
    for name in ("b.tif", "a.TIFF", "c.png", ".hidden.tif"):
        (tmp_path / name).touch()
    assert [path.name for path in find_scenes([tmp_path])] == ["a.TIFF", "b.tif"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no GeoTIFF"):
        find_scenes([tmp_path / "empty"])
    with pytest.raises(DataError, match=r"gone\.tif: no such file or folder"):
        find_scenes([tmp_path / "gone.tif"])


def test_maps_never_collide_and_never_overwrite_unasked(tmp_path):
    scenes = [tmp_path / "a" / "x.tif", tmp_path / "b" / "x.tif"]
    with pytest.raises(ConfigError, match=r"would both be mapped to .*x_pred\.tif"):
        map_paths(scenes, tmp_path)
    (tmp_path / "x_pred.tif").touch()
    with pytest.raises(ConfigError, match=r"x_pred\.tif: exists; say --overwrite"):
        map_paths(scenes[:1], tmp_path)
    assert map_paths(scenes[:1], tmp_path, overwrite=True) == [tmp_path / "x_pred.tif"]


def test_a_map_that_fails_leaves_no_file_behind(tmp_path):
    target = tmp_path / "map.tif"

    def fail():
        with finished_file(target) as partial:
            partial.write_text("half a map")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_made_is_named(golden, golden_task, tmp_path):
    (tmp_path / "maps").write_text("a file where the folder should be")
    scene = golden / "inference" / "burn_scars" / "in" / "too_small.tif"
    with pytest.raises(DataError, match=r"maps/map\.tif: cannot be written"):
        map_scene(golden_task, scene, tmp_path / "maps" / "map.tif")


def test_a_task_that_does_not_know_its_data_cannot_map(tiny_task, tmp_path):
    with pytest.raises(ConfigError, match="data_spec: the task does not know its data"):
        map_scene(tiny_task, tmp_path / "scene.tif", tmp_path / "map.tif")


@pytest.mark.parametrize("name", ["clean", "holes", "no_nodata_tag"])
def test_the_legacy_configuration_of_burn_scars_maps_as_the_seed_did(golden, command, tmp_path, name):
    """From the published kind of checkpoint through the command line, with the golden model's sizes."""
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


def test_a_scene_in_another_unit_is_warned_of(tmp_path, burn_spec):
    scene = write_scene(tmp_path / "scene.tif", planted(6) * 1000)
    with pytest.warns(UserWarning, match=r"scene\.tif: its values are about .* times .* give --scale"):
        SceneDataset([scene], burn_spec)[0]
    sample = SceneDataset([scene], burn_spec, scale=1e-4)[0]
    assert sample["image"][0, :, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_names_in_the_wrong_places_are_an_error(tmp_path, burn_spec):
    descriptions = ("B12", "B11", "B8A", "B04", "B03", "B02")
    scene = write_scene(tmp_path / "scene.tif", planted(6), descriptions=descriptions)
    with pytest.raises(ConfigError, match=r"bands: 'B12' is .*, but stands in the place of BLUE|'B11'"):
        SceneDataset([scene], burn_spec, descriptions, "sentinel2")[0]
