"""Precision is what was asked for: never changed by an import, told by maps, and near in bfloat16."""

import shutil

import numpy as np
import pytest
import rasterio
import torch
from conftest import TINY

from prithvi_tg import PrithviSegmentationTask, create_encoder, load_weights, map_scene
from prithvi_tg.errors import ConfigError


@pytest.mark.version_independent
@pytest.mark.parametrize("patch_size", [8, 14, 16])
def test_patches_are_embedded_alike_in_bfloat16(patch_size):
    """Some versions of oneDNN return wrong numbers for bfloat16 convolutions with kernel and stride of 16."""
    torch.manual_seed(0)
    encoder = create_encoder("nano", width=32, depth=1, num_heads=2, patch_size=patch_size).eval()
    image = torch.randn(2, 3, 6, 4 * patch_size, 3 * patch_size)
    with torch.inference_mode():
        exact = encoder(image)
        with torch.autocast("cpu", torch.bfloat16):
            near = encoder(image)
        convolved = encoder.patch_embed.proj(image.transpose(1, 2)).flatten(2).transpose(1, 2)
        torch.testing.assert_close(encoder.patch_embed(image), convolved, atol=1e-5, rtol=1e-5)
    assert near.dtype == torch.float32
    assert (near - exact).abs().max() < 0.05


@pytest.fixture
def golden_task(golden, burn_spec):
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args={"width": 64, "depth": 2, "num_heads": 4}, head_channels=16, window=64,
        data_spec=burn_spec.to_dict(),
    )  # fmt: skip
    load_weights(task.model, golden / "models" / "burn_scars_64.pth")
    return task


def test_maps_in_bfloat16_agree_with_float32_and_say_so(golden, golden_task, tmp_path):
    scene = golden / "inference" / "burn_scars" / "in" / "clean.tif"
    maps = {}
    for precision in ("32-true", "bf16-mixed"):
        path = map_scene(golden_task, scene, tmp_path / f"{precision}.tif", precision=precision)
        with rasterio.open(path) as file:
            maps[precision] = file.read(1)
            assert file.tags()["precision"] == f"{precision}, float32 matmul highest"
    agreement = (maps["32-true"] == maps["bf16-mixed"]).mean()
    assert 0.98 < agreement < 1  # a model of random images, all of whose logits are close


def test_an_unknown_precision_is_named(golden, golden_task, tmp_path):
    scene = golden / "inference" / "burn_scars" / "in" / "clean.tif"
    with pytest.raises(ConfigError, match="precision: '16' must be one of 32-true, bf16-mixed"):
        map_scene(golden_task, scene, tmp_path / "map.tif", precision="16")


def test_fit_test_and_predict_run_in_bfloat16(config, command, flood_root, tmp_path):
    mixed = "--trainer.precision", "bf16-mixed"
    code, _, err = command("fit", "--config", config, *mixed)
    assert code == 0, err
    best = tmp_path / "runs" / "version_0" / "checkpoints" / "best.ckpt"
    weights = torch.load(best, weights_only=True)["state_dict"]
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}
    code, out, err = command("test", "--config", config, "--ckpt_path", best, *mixed)
    assert code == 0, err
    assert "Water" in out
    scene = next(flood_root.glob("scene.tif"))
    classes = []
    for options in ((), mixed):
        folder = tmp_path / f"maps{len(options)}"
        code, _, err = command("predict", "--ckpt_path", best, scene, "--output", folder, *options)
        assert code == 0, err
        with rasterio.open(next(folder.glob("*_pred.tif"))) as file:
            classes.append(file.read(1))
            assert file.tags()["precision"].startswith(options[1] if options else "32-true")
    assert np.mean(classes[0] == classes[1]) > 0.97


@pytest.mark.version_independent
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_encoder_gives_the_same_logits_and_checkpoint():
    tasks = []
    for compiled in (False, True):
        torch.manual_seed(0)
        tasks.append(
            PrithviSegmentationTask(
                encoder="nano",
                encoder_args=TINY | {"depth": 1},
                head_channels=8,
                num_classes=2,
                compile=compiled,
            ).eval()
        )
    image = torch.randn(2, 1, 6, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(tasks[0](image), tasks[1](image), atol=1e-5, rtol=1e-5)
    assert list(tasks[0].state_dict()) == list(tasks[1].state_dict())
    assert "compile" not in tasks[1].hparams
