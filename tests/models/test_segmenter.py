import json

import numpy as np
import pytest
import torch
from conftest import TINY, golden_input

from prithvi_tg import EncoderDecoder, PrithviSegmentationTask, create_encoder
from prithvi_tg.models import ConvTransposeNeck, FCNHead, GeospatialNeck

pytestmark = pytest.mark.version_independent

NAMES = ["burn_scars_64", "crop_64"]


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_neck_and_heads_equal_the_golden_results(golden, golden_segmenter, name, fuse):
    arrays = np.load(golden / "models" / f"{name}.npz")
    model = golden_segmenter(name)
    model.fuse = fuse
    image = golden_input(arrays, "input_q")
    with torch.inference_mode():
        features = model.neck(*model.forward_tokens(image))
        logits, auxiliary = model.forward_both(image)
    np.testing.assert_allclose(features[..., ::5, ::5], arrays["neck_sub"], atol=5e-5)
    np.testing.assert_allclose(features.mean((2, 3)), arrays["neck_channel_mean"], atol=5e-5)
    np.testing.assert_allclose(features.std((2, 3)), arrays["neck_channel_std"], atol=5e-5)
    np.testing.assert_allclose(logits, arrays["decode_logits"], atol=5e-5)
    np.testing.assert_allclose(auxiliary[..., ::3, ::3], arrays["aux_logits_sub"], atol=5e-5)


@pytest.mark.parametrize(
    ("keys", "overrides", "frames", "classes"),
    [
        ("burn_scars", {}, 1, 2),
        ("sen1floods11", {}, 1, 2),
        ("crop", {"depth": 6, "num_heads": 8}, 3, 13),
    ],
)
def test_full_size_models_have_every_published_key_and_shape(golden, keys, overrides, frames, classes):
    published = json.loads((golden / f"keys_{keys}.json").read_text())
    with torch.device("meta"):
        encoder = create_encoder("prithvi_eo_v1_100m", **overrides)
        channels = 768 * frames
        heads = [FCNHead(channels, classes, num_convs=convs) for convs in (1, 2)]
        model = EncoderDecoder(encoder, ConvTransposeNeck(channels), *heads)
    ours = {
        key.replace("encoder.", "backbone.", 1): list(value.shape)
        for key, value in model.state_dict().items()
    }
    theirs = {key: entry["shape"] for key, entry in published.items()}
    assert theirs.pop("backbone.pos_embed") == [1, 1 + frames * 14 * 14, 768]  # we compute ours
    assert ours == theirs


def test_logits_have_the_image_size_for_any_patch():
    encoder = create_encoder("nano", width=32, depth=1, num_heads=2, patch_size=14)
    model = EncoderDecoder(encoder, ConvTransposeNeck(32), FCNHead(32, 3, 8)).eval()
    assert model(torch.zeros(2, 1, 6, 28, 42)).shape == (2, 3, 28, 42)


def test_an_image_of_whole_patches_is_not_copied():
    encoder = create_encoder("nano", width=32, depth=1, num_heads=2)
    model = EncoderDecoder(encoder, ConvTransposeNeck(32), FCNHead(32, 3, 8))
    image = torch.ones(2, 1, 6, 32, 48)
    assert model.pad_to_patches(image) is image
    padded = model.pad_to_patches(image[..., :17, :33])
    assert padded.shape == image.shape
    assert padded[..., :17, :33].all()
    assert not padded[..., 17:, :].any()
    assert not padded[..., 33:].any()


def test_geospatial_neck_has_the_published_names_and_16_times_the_resolution():
    neck = GeospatialNeck(64, first_channels=32, convs_per_block=2, dropout=0.5)
    names = set(neck.state_dict())
    assert {
        "layers.0.0.weight",
        "layers.0.1.0.weight",
        "layers.0.2.1.running_mean",
        "layers.3.1.0.bias",
    } <= names
    assert neck(torch.zeros(1, 1 + 6, 64), (1, 2, 3)).shape == (1, 4, 32, 48)


def test_a_frozen_encoder_is_not_trained_and_stays_in_evaluation_mode():
    encoder = create_encoder("nano", width=32, depth=1, num_heads=2, drop_path=0.5)
    model = EncoderDecoder(encoder, ConvTransposeNeck(32), FCNHead(32, 2, 8), freeze_encoder=True).train()
    model(torch.randn(2, 6, 16, 16)).sum().backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.neck.parameters())
    assert not model.encoder.training
    assert model.decode_head.training


def test_an_auxiliary_head_is_optional():
    encoder = create_encoder("nano", width=32, depth=1, num_heads=2)
    model = EncoderDecoder(encoder, ConvTransposeNeck(32), FCNHead(32, 2, 8))
    assert model.forward_both(torch.randn(2, 6, 16, 16))[1] is None


@pytest.mark.parametrize("decoder", ["conv_transpose", "geospatial", "linear", "patch_linear", "unet", "fpn"])
@pytest.mark.parametrize(
    "core_window", [(0, 0, 80, 96), (16, 32, 48, 64), (17, 5, 63, 60), (0, 40, 33, 96), (40, 0, 80, 1)]
)
def test_logits_of_a_core_window_equal_that_part_of_all_logits(decoder, core_window):
    """Neck and head get all tokens that influence the core window, also at edges."""
    torch.manual_seed(0)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=16, num_classes=3, decoder=decoder
    ).eval()
    image = torch.randn(2, 1, 6, 80, 96)
    top, left, bottom, right = core_window
    with torch.inference_mode():
        part = task(image, core_window=core_window)
        whole = task(image)[..., top:bottom, left:right]
    torch.testing.assert_close(part, whole, rtol=0, atol=2e-5)


def test_the_head_runs_only_on_tokens_of_the_core_window_and_their_neighbours():
    task = PrithviSegmentationTask(encoder="nano", encoder_args=TINY, head_channels=16, num_classes=3).eval()
    seen = []
    task.model.decode_head.register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape[-2:])
    )
    with torch.inference_mode():
        task(torch.randn(1, 1, 6, 224, 224), core_window=(64, 64, 176, 176))
    assert seen == [(9 * 16, 9 * 16)]


@pytest.mark.parametrize("patch_size", [14, 16])
def test_the_patch_head_equals_a_transposed_convolution_of_the_tokens(patch_size):
    torch.manual_seed(0)
    task = PrithviSegmentationTask(
        encoder="nano",
        encoder_args=TINY | {"patch_size": patch_size},
        num_classes=3,
        decoder="patch_linear",
        num_frames=2,
    ).eval()
    image = torch.randn(2, 2, 6, 2 * patch_size, 3 * patch_size)
    with torch.inference_mode():
        tokens = task.model.encoder(image)[:, 1:].unflatten(1, (2, 2, 3))
        features = tokens.permute(0, 4, 1, 2, 3).flatten(1, 2)  # channel = d * T + t
        expected = task.model.decode_head.conv(features)
        torch.testing.assert_close(task(image), expected, rtol=0, atol=1e-5)
    assert task(image[..., :20, :]).shape == (2, 3, 20, 3 * patch_size)
    assert sum(p.numel() for p in task.model.decode_head.parameters()) == 2 * 32 * 3 * patch_size**2 + 3


def test_the_dropout_of_the_heads_can_be_chosen():
    def rate(**options):
        task = PrithviSegmentationTask(encoder="nano", encoder_args=TINY, num_classes=2, **options)
        return task.model.decode_head.dropout.p, getattr(task.model.auxiliary_head, "dropout", None)

    assert rate()[0] == 0.1
    assert rate(head_dropout=0.0)[0] == 0
    assert rate(head_dropout=0.3)[1].p == 0.3
