"""Values and logits that are not finite never become a class silently."""

import os

import numpy as np
import pytest
import rasterio
import torch

from prithvi_tg import PrithviSegmentationTask, map_scene, map_strips
from prithvi_tg.errors import DataError
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

BANDS = ("BLUE", "RED")
PLACE = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)


def task_of(**fields):
    torch.manual_seed(0)
    spec = DataSpec(InputSpec(BANDS, (0.1,) * 2, (0.05,) * 2, **fields), ClassTarget(("a", "b")))
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args={"width": 32, "depth": 1, "num_heads": 2}, decoder="linear", bands=BANDS,
        window=32, stride=32, data_spec=spec.to_dict(),
    )  # fmt: skip
    return task.eval()


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(0.1, 0.05, (2, 64, 96)).astype("float32")


def write(path, values, pixel=30):
    with rasterio.open(
        path, "w", driver="GTiff", count=2, height=64, width=96, dtype="float32", crs="EPSG:32615",
        transform=rasterio.Affine(pixel, 0, 600000, 0, -pixel, 4200000),
    ) as out:  # fmt: skip
        out.write(values)
    return path


def break_one_window(task, values):
    """Make the logits of the window that holds a given value NaN."""
    forward = task.forward

    def broken(image, *args, **kwargs):
        logits = forward(image, *args, **kwargs)
        marked = (image > 50).flatten(1).any(dim=1)
        return torch.where(marked[:, None, None, None], float("nan"), logits)

    task.forward = broken
    values[0, 40, 70] = 9.0


@pytest.mark.parametrize("fill", [np.nan, np.inf, -3.4e38])
def test_a_fill_value_is_nodata_and_is_counted(tmp_path, values, fill):
    values[:, 10, 20] = fill
    scene = write(tmp_path / "scene.tif", values)
    with pytest.warns(UserWarning, match=r"scene\.tif: 2 values not finite or beyond 1e30"):
        path = map_scene(task_of(), scene, tmp_path / "map.tif")
    with rasterio.open(path) as source:
        assert np.argwhere(source.read(1) == 255).tolist() == [[10, 20]]


def test_logits_that_are_not_finite_fail_the_scene_and_name_the_window(tmp_path, values):
    task = task_of()
    break_one_window(task, values)
    scene = write(tmp_path / "scene.tif", values)
    with pytest.raises(DataError, match=r"scene\.tif: .*not finite .*row 32, column 64"):
        map_scene(task, scene, tmp_path / "map.tif")
    assert not (tmp_path / "map.tif").exists()
    with pytest.raises(DataError, match="row 32, column 64"):
        list(map_strips(task, scene))


def test_another_pixel_size_than_in_training_gives_one_warning(tmp_path, values):
    scene = write(tmp_path / "scene.tif", values, pixel=60)
    with pytest.warns(UserWarning, match=r"pixel size 60 m, but 10 m in the training data") as told:
        map_scene(task_of(pixel_size=10.0), scene, tmp_path / "map.tif")
    assert sum("pixel size" in str(one.message) for one in told) == 1


@pytest.mark.parametrize("trained", [None, 20.0, 45.0])
def test_a_similar_pixel_size_gives_no_warning(tmp_path, values, trained, recwarn):
    map_scene(task_of(pixel_size=trained), write(tmp_path / "scene.tif", values), tmp_path / "map.tif")
    assert not [one for one in recwarn if "pixel size" in str(one.message)]


def test_an_unfinished_map_is_not_resumed_after_a_source_of_its_vrt_has_changed(
    tmp_path, values, capsys, monkeypatch
):
    source, scene, task = write(tmp_path / "source.tif", values), tmp_path / "scene.vrt", task_of()
    bands = "".join(
        f'<VRTRasterBand dataType="Float32" band="{k}"><SimpleSource><SourceFilename relativeToVRT="1">source.tif'
        f"</SourceFilename><SourceBand>{k}</SourceBand></SimpleSource></VRTRasterBand>"
        for k in (1, 2)
    )
    scene.write_text(
        '<VRTDataset rasterXSize="96" rasterYSize="64"><SRS>EPSG:32615</SRS><GeoTransform>600000, 30, 0, 4200000, 0, '
        f"-30</GeoTransform>{bands}</VRTDataset>"
    )
    with monkeypatch.context() as patch:
        patch.setattr("prithvi_tg.mapping.scene_map.SceneMap.assemble", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            map_scene(task, scene, tmp_path / "map.tif")
    assert (tmp_path / ".map.parts").is_dir()
    write(source, values[:, ::-1].copy())
    os.utime(source, ns=(0, 10**18))
    capsys.readouterr()
    resumed = map_scene(task, scene, tmp_path / "map.tif")
    fresh = map_scene(task, scene, tmp_path / "fresh.tif")
    with rasterio.open(resumed) as one, rasterio.open(fresh) as other:
        assert (one.read() == other.read()).all()
    assert "strips were done" not in capsys.readouterr().out


def test_windows_that_the_model_pads_are_reported(tmp_path, values):
    with pytest.warns(
        UserWarning, match=r"window: 20 is not a multiple of the patch, 16, .* to 32 .*; use 16 or 32"
    ):
        map_scene(task_of(), write(tmp_path / "scene.tif", values), tmp_path / "map.tif", window=20)
