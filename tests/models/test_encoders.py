"""Encoders and decoders as extension points: Prithvi, timm, TorchGeo, and classes that are named by their path."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from conftest import TINY
from lightning.pytorch import Trainer
from safetensors.torch import save_file
from torch import nn
from torchgeo.models import swin_v2_t

from prithvi_tg import (
    PrithviSegmentationTask,
    Sen1Floods11DataModule,
    create_encoder,
    load_task,
    load_weights,
)
from prithvi_tg.checkpoints import find_weights
from prithvi_tg.errors import CheckpointError, ConfigError
from prithvi_tg.mapping import map_strips
from prithvi_tg.models import (
    DECODERS,
    EncoderDecoder,
    PyramidEncoder,
    TokenEncoder,
    cached_weights,
    create_decoder,
)
from prithvi_tg.tasks.export import export_weights

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
TINY_VIT = {"embed_dim": 32, "depth": 4, "num_heads": 2}
TINY_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
TINY_SWIN = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 3, 4)}
#: An encoder of each kind and library, small enough to train here.
FAMILIES = {
    "nano": {"encoder": "nano", "encoder_args": TINY},
    "resnet": {"encoder": "timm/resnet10t", "decoder": "unet"},
    "convnext": {"encoder": "timm/convnext_atto", "encoder_args": TINY_CONVNEXT, "decoder": "fpn"},
    "vit": {"encoder": "timm/vit_tiny_patch16_224", "encoder_args": TINY_VIT},
    "torchgeo": {"encoder": "torchgeo/ResNet18_Weights.SENTINEL2_ALL_MOCO", "decoder": "linear"},
}


def make_task(**arguments):
    torch.manual_seed(0)
    defaults = {"num_classes": 2, "head_channels": 32, "window": 32, "warmup_steps": 0, "lr": 1e-3}
    return PrithviSegmentationTask(**(defaults | arguments))


def make_batch(size=64, frames=1, batch=2):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, frames, 6, size, size, generator=generator)
    return {"image": image, "mask": (image[:, 0, 0] > 0).long()}


def training_step(task, batch):
    task.log = task.log_dict = lambda *_, **__: None
    optimizer = task.create_optimizer()
    loss = task.training_step(batch, 0)
    loss.backward()
    optimizer.step()
    return loss.item()


def trainer(folder, **arguments):
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1} | arguments),
    )


@pytest.fixture
def floods(flood_root):
    return Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", batch_size=2, crop_size=64)


# Each family trains, describes itself and maps.


@pytest.mark.parametrize("family", FAMILIES)
def test_a_task_with_any_encoder_fits_reloads_and_maps(family, floods, flood_root, tmp_path):
    task = make_task(**FAMILIES[family])
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit(task, floods)
    run.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load_task(tmp_path / "last.ckpt")
    image = torch.randn(1, 1, 6, 50, 70)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), task.eval()(image))
    rows = list(map_strips(loaded, flood_root / "scene.tif", window=64, stride=32, batch_size=8))
    assert {part.masked.shape[1] for part in rows} == {90}
    assert sum(len(part.masked) for part in rows) == 100


@pytest.mark.parametrize("decoder", ["unet", "fpn", "upernet", "segformer", "linear"])
@pytest.mark.parametrize(
    ("encoder", "arguments"),
    [
        ("timm/resnet10t", {}),
        ("timm/convnext_atto", TINY_CONVNEXT),
        ("timm/swin_tiny_patch4_window7_224", TINY_SWIN),
    ],
)
def test_every_parameter_of_a_pyramid_gets_a_gradient_on_two_dates(encoder, arguments, decoder):
    task = make_task(encoder=encoder, encoder_args=arguments, decoder=decoder, num_frames=2)
    training_step(task, make_batch(frames=2))
    assert [name for name, p in task.named_parameters() if p.requires_grad and p.grad is None] == []
    for size in ((64, 96), (50, 70)):
        assert task.eval()(torch.zeros(1, 2, 6, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("decoder", ["conv_transpose", "geospatial", "linear", "unet", "dpt"])
def test_every_parameter_of_a_vit_of_timm_gets_a_gradient_on_two_dates(decoder):
    task = make_task(
        encoder="timm/vit_tiny_patch16_224", encoder_args=TINY_VIT, decoder=decoder, num_frames=2
    )
    training_step(task, make_batch(frames=2))
    assert [name for name, p in task.named_parameters() if p.requires_grad and p.grad is None] == []
    assert task.eval()(torch.zeros(1, 2, 6, 50, 70)).shape == (1, 2, 50, 70)


def test_each_date_of_a_sample_has_its_own_channels():
    encoder = create_encoder("timm/resnet10t").eval()
    image = torch.randn(1, 2, 6, 64, 64)
    with torch.inference_mode():
        both = encoder(image).unflatten(1, (-1, 2))
        for date in (0, 1):
            torch.testing.assert_close(both[:, :, date], encoder(image[:, date]), rtol=1e-4, atol=1e-5)


def test_tokens_of_a_vit_are_those_of_timm():
    encoder = create_encoder("timm/vit_tiny_patch16_224", **TINY_VIT).eval()
    image = torch.randn(2, 6, 32, 48)
    with torch.inference_mode():
        expected = encoder.backbone.forward_features(image)[:, 1:]
        tokens = encoder(image)
        (last,) = encoder.forward_intermediates(image, [3], norm=True)
    assert isinstance(encoder, TokenEncoder)
    torch.testing.assert_close(tokens[:, 1:], expected)
    torch.testing.assert_close(last, tokens)


# The U-Net baseline.


def test_unet_with_a_resnet_equals_the_u_net_of_segmentation_models_pytorch():
    theirs = smp.Unet("resnet18", encoder_weights=None, in_channels=6, classes=2).eval()
    task = make_task(encoder="timm/resnet18", decoder="unet", head_channels=256).eval()
    encoder = {key: value for key, value in theirs.encoder.state_dict().items() if not key.startswith("fc.")}
    task.model.encoder.backbone.load_state_dict(encoder)
    task.model.neck.decoder.load_state_dict(theirs.decoder.state_dict())
    image = torch.randn(1, 6, 64, 96)
    with torch.inference_mode():
        expected = theirs.decoder(theirs.encoder(image))
        features = task.model.neck(*task.model.forward_tokens(image))
    torch.testing.assert_close(features, expected)


# Names, families and class paths.


class OwnEncoder(PyramidEncoder):
    """Two convolutions; defined outside the package."""

    def __init__(self, num_bands=6, width=4):
        super().__init__()
        self.num_bands = num_bands
        self.num_features = (width, 2 * width)
        self.strides = (2, 4)
        self.first = nn.Conv2d(num_bands, width, 2, stride=2)
        self.second = nn.Conv2d(width, 2 * width, 2, stride=2)

    def forward_frames(self, frames, indices):
        maps = [self.first(frames)]
        maps.append(self.second(maps[0].relu()))
        return [maps[index] for index in indices]


class OwnDecoder(nn.Module):
    """The sum of the last map and a bias; defined outside the package."""

    encoder_layers = (-1,)

    def __init__(self, encoder, num_frames, channels, start=0.0):
        super().__init__()
        self.out_channels = encoder.embed_dim * num_frames
        self.bias = nn.Parameter(torch.full((self.out_channels, 1, 1), start))

    def forward(self, maps, grid):
        assert maps[0].shape[-2:] == grid[1:]
        return maps[0] + self.bias


def own_task(**arguments):
    given = {
        "encoder": f"{__name__}.OwnEncoder",
        "encoder_args": {"width": 8},
        "decoder": f"{__name__}.OwnDecoder",
        "decoder_args": {"start": 1.0},
    }
    return make_task(**(given | arguments))


def test_an_encoder_and_a_decoder_outside_the_package_are_named_by_class_path(floods, tmp_path):
    task = own_task()
    assert type(task.model.encoder) is OwnEncoder
    assert type(task.model.neck) is OwnDecoder
    run = trainer(tmp_path, enable_checkpointing=False)
    before = task.model.encoder.first.weight.detach().clone()
    run.fit(task, floods)
    assert not torch.equal(task.model.encoder.first.weight, before)
    run.save_checkpoint(tmp_path / "own.ckpt")
    loaded = load_task(tmp_path / "own.ckpt")
    image = torch.randn(1, 1, 6, 30, 21)
    torch.testing.assert_close(loaded(image), task.eval()(image))


def test_u_net_works_with_an_encoder_of_any_depth():
    task = own_task(decoder="unet", decoder_args=None)
    training_step(task, make_batch(32))
    assert task.eval()(torch.zeros(1, 1, 6, 30, 21)).shape == (1, 2, 30, 21)
    with pytest.raises(
        ConfigError, match=r"decoder: fpn needs maps at strides 4, 8, 16, 32, but the encoder returns 2, 4;"
    ):
        own_task(decoder="fpn", decoder_args=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "prithvi"}, "encoder: 'prithvi' is unknown; choose from nano, .*timm/NAME.*class"),
        ({"encoder": "timm/resnet5O"}, "encoder: timm has no model 'resnet5O'; did you mean resnet50"),
        ({"encoder": "torchgeo/ResNet50_Weights.SENTINEL2_MOCO"}, "did you mean .*ResNet50_Weights.SENTINEL2_ALL_MOCO"),
        ({"encoder": "torchgeo/DOFABase16_Weights.DOFA_MAE"}, "dofa_base_patch16_224, is not supported; supported are"),
        ({"encoder": "no_module.Encoder"}, "encoder: no_module.Encoder: no module no_module; put its folder"),
        ({"encoder": "torch.nn.Conv2d"}, "encoder: torch.nn.Conv2d must derive from prithvi_tg.*Encoder"),
        ({"encoder": "timm/resnet10t", "encoder_args": {"dpeth": 3}}, "encoder_args: timm/resnet10t"),
        ({"encoder": f"{__name__}.OwnEncoder", "drop_path": 0.1}, "OwnEncoder: got an unexpected .*'drop_path'"),
        ({"decoder": "u_net"}, r"decoder: 'u_net' is unknown; did you mean unet\? Choose from conv_transpose"),
        ({"decoder": "unet", "decoder_args": {"x": 1}}, "decoder_args: unet: .*'x'"),
        ({"decoder": "linear", "decoder_args": {"x": 1}}, "decoder_args: linear: .*'x'"),
        ({"decoder": "torch.nn.Identity"}, "decoder: torch.nn.Identity has no attribute out_channels"),
        ({"weights": "pretrained"}, "weights: none are published with this encoder"),
    ],
)  # fmt: skip
def test_an_impossible_encoder_or_decoder_is_an_error_of_one_line(arguments, message):
    given = {"encoder": "nano", "encoder_args": {}} | arguments
    with pytest.raises((ConfigError, CheckpointError), match=message) as caught:
        make_task(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decoder", ["conv_transpose", "geospatial", "dpt"])
def test_decoders_of_tokens_refuse_a_pyramid(decoder):
    encoder = create_encoder("timm/resnet10t")
    with pytest.raises(
        ConfigError, match=rf"decoder: {decoder} needs the tokens of a ViT, .* strides 2, 4, 8, 16, 32"
    ):
        create_decoder(decoder, encoder)
    assert decoder in DECODERS


# Ways to fine-tune.


def rates(task):
    names = {id(parameter): name.removeprefix("model.") for name, parameter in task.named_parameters()}
    groups = task.create_optimizer().param_groups
    return {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}


def test_layer_decay_follows_the_blocks_of_a_vit_of_timm():
    task = make_task(encoder="timm/vit_tiny_patch16_224", encoder_args=TINY_VIT, lr=1.0, layer_decay=0.5)
    rate = rates(task)
    blocks = [rate[f"encoder.backbone.blocks.{block}.mlp.fc1.weight"] for block in range(4)]
    assert blocks == [0.0625, 0.125, 0.25, 0.5]
    assert rate["encoder.backbone.pos_embed"] == rate["encoder.backbone.patch_embed.proj.weight"] == 0.03125
    assert rate["decode_head.conv_seg.weight"] == 1.0
    assert len(rate) == len(list(task.parameters()))


def test_layer_decay_follows_the_blocks_of_a_resnet():
    rate = rates(make_task(encoder="timm/resnet10t", decoder="unet", lr=1.0, layer_decay=0.5))
    layers = [rate[f"encoder.backbone.layer{layer}.0.conv1.weight"] for layer in (1, 2, 3, 4)]
    assert layers == [0.0625, 0.125, 0.25, 0.5]
    assert rate["encoder.backbone.conv1.0.weight"] == 0.03125
    assert rate["neck.decoder.blocks.0.conv1.0.weight"] == 1.0


def test_layer_decay_needs_an_encoder_that_groups_its_parameters():
    with pytest.raises(
        ConfigError, match="layer_decay: OwnEncoder has no group_matcher; set layer_decay to 1"
    ):
        own_task(layer_decay=0.5).create_optimizer()


def test_only_adapters_of_a_timm_vit_are_trained_and_they_are_merged(tmp_path):
    options = {"encoder": "timm/vit_tiny_patch16_224", "encoder_args": TINY_VIT}
    task = make_task(**options, lora_rank=2, lr=1e-2)
    before = {name: p.detach().clone() for name, p in task.model.encoder.named_parameters()}
    for _ in range(2):
        training_step(task, make_batch())
    changed = {name for name, p in task.model.encoder.named_parameters() if not torch.equal(p, before[name])}
    assert len(changed) == 2 * 2 * 4  # two matrices on qkv and proj of four blocks
    assert all(".lora_" in name for name in changed)
    exported = load_task(export_weights(task, tmp_path / "weights.safetensors"))
    assert set(exported.model.state_dict()) == set(make_task(**options).model.state_dict())
    image = torch.randn(1, 1, 6, 32, 32)
    torch.testing.assert_close(exported(image), task.eval()(image), rtol=0, atol=1e-5)


def test_adapters_that_would_have_no_effect_are_refused():
    with pytest.raises(ConfigError, match=r"lora_targets: TimmPyramid has no linear layers for qkv"):
        make_task(encoder="timm/resnet10t", decoder="unet", lora_rank=2)
    with pytest.raises(ConfigError, match=r"lora_rank: TimmPyramid does not call backbone\.layers\S+qkv"):
        make_task(encoder="timm/swinv2_tiny_window8_256", encoder_args=TINY_SWIN, decoder="unet", lora_rank=2)


def test_batch_norm_of_a_frozen_encoder_does_not_change_until_its_epoch(floods, tmp_path):
    for unfreeze, changes in ((None, False), (0, True)):
        task = make_task(
            encoder="timm/resnet10t", decoder="linear", freeze_encoder=True, unfreeze_epoch=unfreeze
        )
        before = {name: value.clone() for name, value in task.model.encoder.state_dict().items()}
        trainer(tmp_path, enable_checkpointing=False).fit(task, floods)
        after = task.model.encoder.state_dict()
        assert any(not torch.equal(after[name], before[name]) for name in before) == changes


@pytest.mark.parametrize(
    ("encoder", "arguments"),
    [
        ("timm/resnet10t", {}),
        ("timm/vit_tiny_patch16_224", TINY_VIT),
        ("torchgeo/Swin_V2_T_Weights.SENTINEL2_SI_MS_SATLAS", {}),
    ],
)
def test_gradient_checkpointing_gives_the_same_gradients(encoder, arguments):
    image = torch.randn(2, 6, 64, 64)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = create_encoder(encoder, gradient_checkpointing=checkpointing, **arguments)
        model(image).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


class Halved(nn.Conv2d):
    """A convolution that computes its weights, as weight standardisation does."""

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight.double().mul(1 / 3).float(), self.bias)


def test_converted_weights_do_not_replace_those_of_layer_subclasses():
    encoder = own_task().model.encoder
    encoder.second = Halved(encoder.second.in_channels, encoder.second.out_channels, 1)
    model = EncoderDecoder(encoder, nn.Identity(), nn.Identity()).eval()
    image = torch.randn(1, 6, 8, 8)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        plain = model.encoder(image)
        with cached_weights():
            cached = model.forward_tokens(image)[0]
    assert torch.equal(cached, plain)


def test_drop_path_reaches_the_blocks_of_timm():
    encoder = create_encoder("timm/vit_tiny_patch16_224", drop_path=0.3, **TINY_VIT)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in encoder.backbone.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


# Weights.


def test_a_file_of_timm_is_loaded_with_bands_matched_by_name(tmp_path):
    torch.manual_seed(1)
    published = timm.create_model("resnet10t")  # three bands, and a head that we have no use for
    save_file(published.state_dict(), tmp_path / "resnet.safetensors")
    task = make_task(
        encoder="timm/resnet10t",
        decoder="unet",
        weights=str(tmp_path / "resnet.safetensors"),
        bands=["BLUE", "GREEN", "RED"],
    )
    backbone = task.model.encoder.backbone
    torch.testing.assert_close(backbone.conv1[0].weight, published.conv1[0].weight.flip(1))
    torch.testing.assert_close(backbone.layer4[0].conv2.weight, published.layer4[0].conv2.weight)
    with pytest.raises(
        CheckpointError, match="not trained on NIR_NARROW, SWIR_1, SWIR_2; set allow_new_bands"
    ):
        make_task(encoder="timm/resnet10t", decoder="unet", weights=str(tmp_path / "resnet.safetensors"))


def test_bands_of_torchgeo_weights_are_matched_by_name(tmp_path):
    """Thirteen bands of Sentinel-2 in the file, six of them in another order in the model."""
    torch.manual_seed(1)
    published = timm.create_model("resnet18", in_chans=13)
    torch.save(published.state_dict(), tmp_path / "moco.pth")
    encoder = create_encoder("torchgeo/ResNet18_Weights.SENTINEL2_ALL_MOCO", num_bands=6)
    report = load_weights(encoder, tmp_path / "moco.pth", bands=["SWIR_2", *BANDS[:5]])
    expected = published.conv1.weight[:, [12, 1, 2, 3, 8, 11]]
    torch.testing.assert_close(encoder.backbone.conv1.weight, expected)
    assert report.missing == []
    assert [key.removeprefix("encoder.backbone.") for key in report.unexpected] == ["fc.weight", "fc.bias"]
    assert report.bands["SWIR_2"] == "reordered from 12 to 0"


@pytest.mark.parametrize(
    ("weights", "bands"),
    [
        ("ResNet50_Weights.SENTINEL2_SI_MS_SATLAS",
         "RED GREEN BLUE RED_EDGE_1 RED_EDGE_2 RED_EDGE_3 NIR_BROAD SWIR_1 SWIR_2"),
        ("ResNet18_Weights.LANDSAT_ETM_SR_MOCO", "BLUE GREEN RED NIR_BROAD SWIR_1 SWIR_2"),
        ("ViTSmall16_Weights.LANDSAT_OLI_SR_MOCO", "COASTAL_AEROSOL BLUE GREEN RED NIR_NARROW SWIR_1 SWIR_2"),
        ("ResNet50_Weights.SENTINEL1_ALL_MOCO", "VV VH"),
        ("ResNet50_Weights.FMOW_RGB_GASSL", ""),
    ],
)  # fmt: skip
def test_torchgeo_weights_define_their_bands(weights, bands):
    assert create_encoder(f"torchgeo/{weights}").pretrained_bands == tuple(bands.split())


def test_a_swin_of_torchgeo_equals_that_of_torchvision(tmp_path):
    torch.manual_seed(1)
    theirs = swin_v2_t().eval()
    torch.save(theirs.state_dict(), tmp_path / "satlas.pth")
    task = make_task(
        encoder="torchgeo/Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS",
        weights=str(tmp_path / "satlas.pth"),
        bands=["RED", "GREEN", "BLUE"],
        decoder="upernet",
        layer_decay=0.5,
        lr=1.0,
    ).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(task.model.encoder(image), theirs.features(image).permute(0, 3, 1, 2))
        assert task(image).shape == (2, 2, 64, 96)
    rate = rates(task)
    assert rate["encoder.backbone.7.1.mlp.0.weight"] == 0.5
    assert rate["encoder.backbone.0.0.weight"] == min(rate.values())


def test_deeper_weights_of_timm_need_truncate_depth(tmp_path):
    torch.manual_seed(1)
    deeper = create_encoder("timm/vit_tiny_patch16_224", **(TINY_VIT | {"depth": 5}))
    state = {key.removeprefix("backbone."): value for key, value in deeper.state_dict().items()}
    save_file(state, tmp_path / "vit.safetensors")
    encoder = create_encoder("timm/vit_tiny_patch16_224", **TINY_VIT)
    with pytest.raises(CheckpointError, match=r"blocks that the model lacks \(encoder\.backbone\.blocks\.4"):
        load_weights(encoder, tmp_path / "vit.safetensors")
    load_weights(encoder, tmp_path / "vit.safetensors", truncate_depth=True)
    torch.testing.assert_close(
        encoder.backbone.blocks[3].mlp.fc1.weight, deeper.backbone.blocks[3].mlp.fc1.weight
    )


def test_pretrained_selects_the_weights_published_with_the_encoder(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    fetched = []

    def download(url, path, digest, progress):
        fetched.append((url, digest))
        torch.save({"x": torch.zeros(1)}, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    encoder = create_encoder("torchgeo/ResNet18_Weights.SENTINEL2_ALL_MOCO")
    assert fetched == []
    for _ in range(2):  # the second time from the cache
        path = find_weights("pretrained", encoder)
    assert path == tmp_path / "checkpoints" / "resnet18_sentinel2_all_moco-59bfdff9.pth"
    assert fetched == [(encoder.pretrained, "59bfdff9")]
    assert create_encoder("timm/resnet18").pretrained == "hf://timm/resnet18.a1_in1k/model.safetensors"
    assert encoder.pretrained.startswith("https://")


def test_images_of_another_size_are_an_error_for_a_model_of_one_size():
    encoder = create_encoder("timm/mixer_s32_224")
    with pytest.raises(ConfigError, match=r"timm/mixer_s32_224 does not take images of 64 x 64"):
        encoder(torch.zeros(1, 6, 64, 64))
