"""Precision is the requested one: not changed by an import, recorded in maps, and accurate enough in bfloat16."""

import shutil

import numpy as np
import pytest
import rasterio
import torch
from conftest import TINY
from lightning.pytorch import Callback, Trainer

from prithvi_tg import (
    PrithviSegmentationTask,
    Sen1Floods11DataModule,
    create_encoder,
    load_weights,
    map_scene,
)
from prithvi_tg.errors import ConfigError
from prithvi_tg.tasks import precision as precision_module
from prithvi_tg.tasks.precision import Float32Precision, check_precision, float32_precision, uses_tf32


@pytest.mark.version_independent
@pytest.mark.parametrize("patch_size", [8, 14, 16])
def test_patch_embedding_in_bfloat16_equals_that_in_float32(patch_size):
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


def test_maps_in_half_precision_agree_with_float32_and_record_the_precision(golden, golden_task, tmp_path):
    scene = golden / "inference" / "burn_scars" / "in" / "clean.tif"
    maps = {}
    for precision in ("32-true", "bf16-mixed", "16-mixed"):
        path = map_scene(golden_task, scene, tmp_path / f"{precision}.tif", precision=precision)
        with rasterio.open(path) as file:
            maps[precision] = file.read(1)
            assert file.tags()["precision"] == f"{precision}, float32 matmul highest"
    for precision in ("bf16-mixed", "16-mixed"):
        agreement = (maps["32-true"] == maps[precision]).mean()
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


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_precisions_that_round_images_and_years_are_refused(
    tiny_task, flood_root, tmp_path, precision, stage
):
    data = Sen1Floods11DataModule(flood_root, batch_size=2, crop_size=32, splits=flood_root / "splits.csv")
    run = Trainer(accelerator="cpu", precision=precision, default_root_dir=tmp_path, logger=False)
    with pytest.raises(
        ConfigError, match=f"precision: '{precision}' would round raw images, years and places"
    ):
        getattr(run, stage)(tiny_task, data)


@pytest.mark.parametrize("precision", ["transformer-engine", "bf16-true"])
def test_the_command_refuses_them_in_one_line(command, config, precision):
    code, _, err = command("fit", "--config", config, "--trainer.precision", precision)
    assert code != 0
    assert f"precision: '{precision}' would round" in err.strip().splitlines()[-1]


@pytest.mark.parametrize("precision", ["32-true", "64-true", "16-mixed", "bf16-mixed", "32", "bf16"])
def test_other_precisions_are_accepted(precision):
    check_precision(precision)


def tf32_state():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return (
        torch.get_float32_matmul_precision(), matmul.allow_tf32, cudnn.allow_tf32,
        matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision,
    )  # fmt: skip


@pytest.fixture
def _cuda(monkeypatch):
    """Torch's settings can be changed without CUDA, where they have no effect."""
    monkeypatch.setattr(precision_module, "_has_cuda", lambda: True)


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize("before", ["highest", "high"])
@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_one_setting_for_matrix_products_and_convolutions(tf32, before):
    torch.set_float32_matmul_precision(before)
    try:
        settings = tf32_state()
        with float32_precision(tf32):
            word = "tf32" if tf32 else "ieee"
            assert tf32_state() == ("high" if tf32 else "highest", tf32, tf32, word, word, word)
            assert uses_tf32() is tf32
        assert tf32_state() == settings
    finally:
        torch.set_float32_matmul_precision("highest")


def test_without_cuda_no_setting_changes():
    settings = tf32_state()
    with float32_precision(True):
        assert tf32_state() == settings
        assert not uses_tf32()


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize("tf32", [False, True])
def test_a_users_trainer_computes_in_float32_by_default(tiny_task, flood_root, tmp_path, tf32):
    data = Sen1Floods11DataModule(flood_root, batch_size=2, crop_size=32, splits=flood_root / "splits.csv")
    seen = []

    class Seen(Callback):
        def on_validation_batch_end(self, *_):
            seen.append(uses_tf32())

    callbacks = [Seen(), *([Float32Precision(tf32=True)] if tf32 else [])]
    run = Trainer(
        accelerator="cpu", default_root_dir=tmp_path, logger=False, callbacks=callbacks, fast_dev_run=True
    )
    settings = tf32_state()
    run.fit(tiny_task, data)
    run.validate(tiny_task, data, verbose=False)
    assert seen == [tf32, tf32]
    assert tf32_state() == settings


@pytest.mark.usefixtures("_cuda")
def test_maps_record_whether_tf32_was_used(golden, golden_task, tmp_path):
    scene = golden / "inference" / "burn_scars" / "in" / "clean.tif"
    seen = []
    golden_task.model.register_forward_pre_hook(lambda *_: seen.append(uses_tf32()))
    for tf32 in (False, True):
        with rasterio.open(map_scene(golden_task, scene, tmp_path / f"{tf32}.tif", tf32=tf32)) as file:
            tags = file.tags()
        assert tags["tf32"] == ("on" if tf32 else "off")
        assert tags["precision"] == f"32-true, float32 matmul {'high' if tf32 else 'highest'}"
        assert set(seen) == {tf32}
        seen.clear()


@pytest.mark.version_independent
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_gives_the_same_logits_and_checkpoint(compiler_in_this_process):
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
    assert tasks[1].hparams["compile"]
