"""Ways to fine-tune: decoders, freezing, layer-wise rates, adapters, weights of the hub, metadata, bands."""

import pytest
import torch
from conftest import TINY
from lightning.pytorch import Trainer

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule, load_task
from prithvi_tg.checkpoints import find_weights
from prithvi_tg.datamodules import HLSBurnScarsDataModule
from prithvi_tg.datasets.synthetic import write_hls_burn_scars
from prithvi_tg.errors import CheckpointError, ConfigError
from prithvi_tg.tasks.export import export_weights

pytestmark = pytest.mark.version_independent

DECODERS = ["conv_transpose", "geospatial", "linear", "unet", "fpn", "upernet", "segformer", "dpt"]


def make_task(encoder_args=None, **arguments):
    torch.manual_seed(0)
    defaults = {"encoder": "nano", "head_channels": 32, "num_classes": 2, "window": 32, "warmup_steps": 0}
    return PrithviSegmentationTask(encoder_args=TINY | (encoder_args or {}), **(defaults | arguments))


def fit(task, data, folder, **arguments):
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"max_epochs": 1} | arguments),
    )
    trainer.fit(task, data)


@pytest.fixture
def floods(flood_root):
    return Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", batch_size=2, crop_size=32)


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_trains_and_gives_logits_at_image_size(decoder):
    task = make_task({"depth": 4}, decoder=decoder, num_frames=2, lr=1e-2)
    mask = torch.zeros(4, 32, 48, dtype=torch.int64)
    mask[:, :, 16:32] = 1
    batch = {"image": torch.randn(4, 2, 6, 32, 48) + 3 * mask[:, None, None], "mask": mask}
    task.log = task.log_dict = lambda *_, **__: None
    optimizer = task.create_optimizer()
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = task.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    # DistributedDataParallel fails if a parameter gets no gradient.
    assert [name for name, p in task.named_parameters() if p.requires_grad and p.grad is None] == []
    for size in ((32, 48), (30, 41), (16, 16)):
        assert task.eval()(torch.zeros(1, 2, 6, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("decoder", ["unet", "fpn", "upernet", "segformer", "dpt"])
def test_library_decoders_support_patches_of_14_and_odd_grids(decoder):
    task = make_task({"depth": 4, "patch_size": 14}, decoder=decoder).eval()
    assert task(torch.zeros(1, 1, 6, 70, 42)).shape == (1, 2, 70, 42)


def test_padding_to_whole_patches_does_not_change_the_pixels_of_the_image():
    task = make_task(decoder="linear").eval()
    image = torch.randn(1, 1, 6, 40, 40)
    padded = torch.nn.functional.pad(image, (0, 8, 0, 8))
    torch.testing.assert_close(task(image), task(padded)[..., :40, :40])


def test_upernet_refuses_to_train_on_one_sample():
    task = make_task(decoder="upernet").train()
    with pytest.raises(ConfigError, match="batch_size: upernet cannot be trained on batches of 1"):
        task.model(torch.zeros(1, 1, 6, 32, 32))


def test_a_frozen_encoder_does_not_change_until_its_epoch(floods, tmp_path):
    for unfreeze, changes in ((None, False), (1, True)):
        task = make_task(freeze_encoder=True, unfreeze_epoch=unfreeze, lr=1e-2)
        before = task.model.encoder.blocks[0].attn.qkv.weight.detach().clone()
        fit(task, floods, tmp_path, max_epochs=1)
        assert torch.equal(task.model.encoder.blocks[0].attn.qkv.weight, before)
        fit(task, floods, tmp_path, max_epochs=2)
        assert torch.equal(task.model.encoder.blocks[0].attn.qkv.weight, before) != changes


def test_the_epoch_that_unfreezes_the_encoder_is_logged_once(floods, tmp_path, caplog):
    task = make_task(freeze_encoder=True, unfreeze_epoch=1)
    with caplog.at_level("INFO"):
        fit(task, floods, tmp_path, max_epochs=3)
    lines = [one.message for one in caplog.records if "unfrozen" in one.message]
    trained = sum(one.numel() for one in task.parameters() if one.requires_grad)
    assert lines == [f"epoch 1: encoder unfrozen; {trained:,} parameters are trained"]


@pytest.mark.parametrize("adapters", [{}, {"lora_rank": 2}, {"prompt_tokens": 2}])
def test_an_epoch_for_an_encoder_that_is_not_frozen_is_refused(adapters, floods, tmp_path):
    task = make_task(unfreeze_epoch=1, **adapters)
    with pytest.raises(
        ConfigError, match="unfreeze_epoch: has no effect without freeze_encoder; add freeze_enc"
    ):
        fit(task, floods, tmp_path)


@pytest.mark.parametrize(
    "argument", [{"lora_alpha": 8}, {"lora_targets": ["query", "value"]}, {"lora_dropout": 0.1}]
)
def test_arguments_of_adapters_without_adapters_are_refused(argument, floods, tmp_path):
    (key,) = argument
    with pytest.raises(
        ConfigError, match=f"{key}: has no effect without lora_rank; add lora_rank: 16, or remove"
    ):
        fit(make_task(**argument), floods, tmp_path)
    fit(make_task(lora_rank=2, **argument), floods, tmp_path)


def test_a_model_that_was_trained_with_an_ineffective_argument_can_be_scored(floods, tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_model_summary=False)
    trainer.test(make_task(lora_alpha=8), floods)


@pytest.mark.parametrize("adapters", [{"lora_rank": 2}, {"prompt_tokens": 2}])
def test_new_bands_are_refused_where_the_input_layer_is_frozen(adapters, tmp_path):
    torch.save(make_task().model.encoder.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match="allow_new_bands: new bands need a trainable input layer"):
        make_task(weights=str(tmp_path / "weights.pt"), allow_new_bands=True, **adapters)


def test_layer_decay_lowers_the_rate_from_block_to_block():
    task = make_task({"depth": 3}, lr=1.0, layer_decay=0.5)
    rate_of = {id(p): group["lr"] for group in task.create_optimizer().param_groups for p in group["params"]}
    encoder = task.model.encoder
    rates = [rate_of[id(block.mlp.fc1.weight)] for block in encoder.blocks]
    assert rates == [0.125, 0.25, 0.5]
    assert rate_of[id(encoder.cls_token)] == rate_of[id(encoder.patch_embed.proj.weight)] == 0.0625
    assert rate_of[id(task.model.decode_head.conv_seg.weight)] == rate_of[id(encoder.norm.weight)] == 1.0
    assert len(rate_of) == len(list(task.parameters()))


def test_only_adapters_are_trained_and_they_are_merged_for_export(floods, tmp_path):
    task = make_task(lora_rank=2, lr=1e-2)
    before = {name: p.detach().clone() for name, p in task.model.encoder.named_parameters()}
    fit(task, floods, tmp_path, max_epochs=2)
    changed = {name for name, p in task.model.encoder.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all(".lora_" in name for name in changed)
    exported = load_task(export_weights(task, tmp_path / "weights.safetensors"))
    assert set(exported.model.state_dict()) == set(make_task().model.state_dict())
    image = torch.randn(1, 1, 6, 32, 32)
    torch.testing.assert_close(exported(image), task.eval()(image), rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match=r"weights\.safetensors: exists"):
        export_weights(task, tmp_path / "weights.safetensors")


def test_dates_and_places_of_the_data_reach_the_encoder(tmp_path):
    root = write_hls_burn_scars(tmp_path / "burn", chips=6, size=32)
    data = HLSBurnScarsDataModule(root, batch_size=2, crop_size=32, metadata=True)
    task = make_task(encoder="prithvi_eo_v2_tiny_tl")
    seen = []
    task.model.encoder.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True)
    fit(task, data, tmp_path)
    assert all(set(kwargs) == {"timestamps", "location"} for kwargs in seen)
    assert seen[0]["timestamps"].shape == (1, 1, 2)
    assert seen[0]["timestamps"][0, 0, 0] == 2020


def test_the_number_of_bands_comes_from_the_data(flood_root, tmp_path):
    data = Sen1Floods11DataModule(
        flood_root, splits=flood_root / "splits.csv", batch_size=2, crop_size=32, bands=["NIR_NARROW", "RED"]
    )
    fit(make_task(bands=["NIR_NARROW", "RED"]), data, tmp_path)
    with pytest.raises(ConfigError, match=r"bands: the model has BLUE GREEN .* the data have NIR_NARROW RED"):
        fit(make_task(), data, tmp_path)


def test_an_error_names_weights_that_cannot_be_downloaded(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for source, file in (
        ("prithvi_eo_v2_300m", "Prithvi_EO_V2_300M.pt of ibm-nasa-geospatial/Prithvi-EO-2.0-300M"),
        ("hf://me/mine/a/b.pt", "a/b.pt of me/mine"),
        ("hf://me/mine", "model.safetensors of me/mine"),
        ("hf://me/mine@v2/a.pt", "a.pt of me/mine at v2"),
    ):
        with pytest.raises(CheckpointError) as caught:
            find_weights(source)
        assert file in str(caught.value)
        assert "give the path of a local copy, or null" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="must be hf://OWNER/REPOSITORY/FILE"):
        find_weights("hf://mine")
    assert find_weights(tmp_path / "x.pt") == tmp_path / "x.pt"


def test_metadata_are_refused_for_an_encoder_without_them(tmp_path):
    root = write_hls_burn_scars(tmp_path / "burn", chips=6, size=32)
    data = HLSBurnScarsDataModule(root, batch_size=2, crop_size=32, metadata=True)
    with pytest.raises(ConfigError, match="metadata: the encoder nano does not use dates or locations"):
        fit(make_task(), data, tmp_path)


def test_a_frozen_random_encoder_gives_a_warning(floods, tmp_path):
    with pytest.warns(UserWarning, match="weights: not given, so the frozen encoder"):
        fit(make_task(freeze_encoder=True), floods, tmp_path)
