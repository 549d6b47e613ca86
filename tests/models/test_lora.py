"""Low-rank adapters: which layers and rows they change, their sizes, merging, and checkpoints with them."""

import pytest
import torch
from conftest import TINY

from prithvi_tg import PrithviPretrainingTask, PrithviSegmentationTask, load_task
from prithvi_tg.errors import CheckpointError, ConfigError
from prithvi_tg.models import create_encoder
from prithvi_tg.models.lora import LORA_TARGETS, LoRALinear, add_lora, merge_lora
from prithvi_tg.tasks.export import export_weights

PUBLISHED = ["query", "value", "mlp"]
QUERY, KEY, VALUE = slice(0, 32), slice(32, 64), slice(64, 96)


def make_task(**arguments):
    torch.manual_seed(0)
    defaults = {"encoder": "nano", "encoder_args": TINY, "decoder": "linear", "num_classes": 2, "window": 32}
    return PrithviSegmentationTask(**{**defaults, "lora_rank": 2, "lora_targets": PUBLISHED, **arguments})


def train(task, steps=3):
    """A few steps on random images, by which all adapters change."""
    task.log = task.log_dict = lambda *_, **__: None
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-2)
    batch = {"image": torch.randn(2, 1, 6, 32, 32), "mask": torch.randint(0, 2, (2, 32, 32))}
    for step in range(steps):
        optimizer.zero_grad()
        task.train().training_step(batch, step).backward()
        optimizer.step()
    return task


@pytest.mark.parametrize(
    ("encoder", "adapters", "width"),
    [
        ("prithvi_eo_v1_100m", 2_064_384, 768),
        ("prithvi_eo_v2_300m", 5_505_024, 1024),
    ],
)
def test_the_published_protocol_trains_as_many_parameters_as_published(encoder, adapters, width):
    with torch.device("meta"):
        task = make_task(encoder=encoder, encoder_args=None, lora_rank=16, lora_alpha=16)
    trained = {name: p.numel() for name, p in task.named_parameters() if p.requires_grad}
    assert all(p.is_meta for p in task.parameters())
    assert sum(count for name, count in trained.items() if "lora_" in name) == adapters
    assert sum(count for name, count in trained.items() if "lora_" not in name) == 2 * width + 2


def test_key_rows_of_the_joint_layer_do_not_change_before_and_after_merging():
    task = make_task()
    layer = task.model.encoder.blocks[0].attn.qkv
    before = layer.base_layer.weight.detach().clone()
    train(task)
    assert torch.equal(layer.base_layer.weight, before)
    x = torch.randn(2, 5, 32)
    with torch.no_grad():
        base, adapted = layer.base_layer(x), layer.eval()(x)
    assert torch.equal(adapted[..., KEY], base[..., KEY])
    assert not torch.isclose(adapted[..., QUERY], base[..., QUERY]).all()
    assert not torch.isclose(adapted[..., VALUE], base[..., VALUE]).all()
    merge_lora(task.model)
    merged = task.model.encoder.blocks[0].attn.qkv
    assert type(merged) is torch.nn.Linear
    assert torch.equal(merged.weight[KEY], before[KEY])
    assert not torch.isclose(merged.weight[QUERY], before[QUERY]).all()
    assert not torch.isclose(merged.weight[VALUE], before[VALUE]).all()
    torch.testing.assert_close(merged(x), adapted)


@pytest.mark.parametrize("targets", [[name] for name in LORA_TARGETS] + [PUBLISHED, ["query", "key", "proj"]])
def test_all_targets_are_merged_under_the_published_names(targets, tmp_path):
    task = train(make_task(lora_targets=targets, lora_alpha=3.0))
    exported = load_task(export_weights(task, tmp_path / "weights.safetensors"))
    plain = make_task(lora_rank=0)
    assert set(exported.model.state_dict()) == set(plain.model.state_dict())
    assert exported.hparams["lora_rank"] == 0
    image = torch.randn(1, 1, 6, 32, 32)
    torch.testing.assert_close(exported(image), task.eval()(image), rtol=0, atol=1e-5)
    assert not torch.allclose(exported(image), plain.eval()(image), atol=1e-3)


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (["mlp"], {"mlp.fc1.lora_A.default", "mlp.fc2.lora_A.default"}),
        (["qkv", "proj"], {"attn.qkv.lora_A.default", "attn.proj.lora_A.default"}),
        (["value", "key"], {"attn.qkv.lora_A.value", "attn.qkv.lora_A.key"}),
    ],
)
def test_targets_select_the_layers(targets, layers):
    encoder = make_task(lora_targets=targets).model.encoder
    names = {name for name, p in encoder.blocks[0].named_parameters() if p.requires_grad and "lora_A" in name}
    assert names == {f"{layer}.weight" for layer in layers}


def test_query_has_a_layer_of_its_own_and_value_half_of_a_joint_one():
    encoder = create_encoder("timm/pvt_v2_b0")
    add_lora(encoder, 2, ["query", "value"])
    attention = encoder.backbone.stages[0].blocks[0].attn
    length = attention.kv.base_layer.out_features
    assert attention.q.rows == {"default": slice(0, attention.q.base_layer.out_features)}
    assert attention.kv.rows == {"value": slice(length // 2, length)}
    assert not isinstance(attention.proj, LoRALinear)


def test_both_halves_of_a_gated_mlp_have_adapters():
    with torch.device("meta"):
        encoder = create_encoder("timm/vit_small_plus_patch16_dinov3", num_bands=6)
    add_lora(encoder, 2, ["mlp"])
    adapted = {
        name for name, layer in encoder.backbone.blocks[0].named_modules() if isinstance(layer, LoRALinear)
    }
    assert adapted == {"mlp.fc1_g", "mlp.fc1_x", "mlp.fc2"}


def test_a_checkpoint_with_adapters_is_no_weights_before_they_are_merged(tmp_path):
    task = PrithviPretrainingTask("nano", TINY, decoder_args=TINY, lora_rank=2)
    path = tmp_path / "last.ckpt"
    saved = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    torch.save({**saved, "task_class": task.class_path}, path)
    with pytest.raises(CheckpointError, match=r"low-rank adapters, which prithvi-tg export merges"):
        make_task(lora_rank=0, weights=str(path))
    merged = export_weights(load_task(path), tmp_path / "merged.safetensors")
    make_task(lora_rank=0, weights=str(merged))


def test_alpha_scales_the_output_and_dropout_acts_in_training_only():
    layer = make_task(lora_rank=4, lora_alpha=4, lora_dropout=0.5).model.encoder.blocks[0].mlp.fc1
    assert layer.scale == 1
    assert make_task(lora_rank=4).model.encoder.blocks[0].mlp.fc1.scale == 2
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(3, 32)
    update = x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
    torch.testing.assert_close(layer.eval()(x), layer.base_layer(x) + update)
    assert not torch.allclose(layer.train()(x), layer.train()(x))


def test_targets_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match=r"lora_targets: 'q' is unknown; choose from qkv, proj, query"):
        make_task(lora_targets=["q"])
    with pytest.raises(ConfigError, match="lora_targets: qkv includes query; give only one of them"):
        make_task(lora_targets=["qkv", "query"])
    with pytest.raises(ConfigError, match="lora_targets: empty; give one or more"):
        make_task(lora_targets=[])


def test_a_configuration_of_other_targets_yields_to_the_checkpoint(trained_run, tmp_path):
    from prithvi_tg.__main__ import main

    config = ["--config", str(trained_run / "config.yaml"), "--trainer.default_root_dir", str(tmp_path)]
    options = ["--model.lora_rank", "2", "--model.lora_targets", "[query,mlp]", "--model.lora_alpha", "3"]
    assert main(["fit", *config, *options]) == 0
    best = tmp_path / "version_0" / "checkpoints" / "best.ckpt"
    with pytest.warns(
        UserWarning, match=r"lora_targets \['query', 'mlp'\], not \['qkv', 'proj'\]; lora_alpha 3"
    ):
        assert main(["test", *config, "--model.lora_rank", "2", "--ckpt_path", str(best)]) == 0
    assert load_task(best).hparams["lora_targets"] == ["query", "mlp"]
