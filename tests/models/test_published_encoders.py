"""Every published encoder, against an independent implementation of its forward pass and its checkpoint."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv3d, gelu, layer_norm, linear

from prithvi_tg import create_encoder, load_weights
from prithvi_tg.checkpoints import Checkpoint
from prithvi_tg.errors import CheckpointError, ConfigError
from prithvi_tg.models import VARIANTS
from prithvi_tg.models.encoders.prithvi import position_table

pytestmark = pytest.mark.version_independent

PUBLISHED = [name for name in VARIANTS if name != "nano"]


def sincos(width, values):
    """Sines then cosines of values (N,) at falling frequencies, (N, width)."""
    frequencies = torch.tensor([1 / 10000 ** (2 * i / width) for i in range(width // 2)], dtype=torch.float64)
    angles = values.double()[:, None] * frequencies[None]
    return torch.cat((torch.sin(angles), torch.cos(angles)), dim=1).float()


def reference(weights, image, depth, heads, patch, timestamps=None, location=None):
    """The encoder of Prithvi in plain torch, written from the papers; image (B, C, T, H, W), weights by name."""
    kernel = weights["patch_embed.proj.weight"]
    width = kernel.shape[0]
    tokens = conv3d(image, kernel, weights["patch_embed.proj.bias"], stride=(1, patch, patch))
    batch, _, frames, rows, columns = tokens.shape
    tokens = tokens.flatten(2).transpose(1, 2)
    column_part, row_part, frame_part = width * 6 // 16, width * 6 // 16, width * 4 // 16
    table = []
    for t in range(frames):
        for h in range(rows):
            for w in range(columns):
                parts = [(column_part, w), (row_part, h), (frame_part, t)]
                table.append(torch.cat([sincos(p, torch.tensor([x]))[0] for p, x in parts]))
    tokens = tokens + torch.stack(table)
    if timestamps is not None:
        scale = weights["temporal_embed_enc.scale"]
        for b in range(batch):
            for t in range(frames):
                part = slice(t * rows * columns, (t + 1) * rows * columns)
                code = torch.cat([sincos(width // 2, timestamps[b, t, i : i + 1]) for i in (0, 1)], dim=1)
                tokens[b, part] = tokens[b, part] + scale * code
    if location is not None:
        scale = weights["location_embed_enc.scale"]
        code = torch.cat([sincos(width // 2, location[:, i]) for i in (0, 1)], dim=1)
        tokens = tokens + scale * code[:, None]
    x = torch.cat((weights["cls_token"].expand(batch, -1, -1), tokens), dim=1)
    for n in range(depth):
        w = {k.removeprefix(f"blocks.{n}."): v for k, v in weights.items() if k.startswith(f"blocks.{n}.")}
        y = layer_norm(x, (width,), w["norm1.weight"], w["norm1.bias"], eps=1e-5)
        q, k, v = linear(y, w["attn.qkv.weight"], w["attn.qkv.bias"]).chunk(3, dim=-1)
        q, k, v = (z.unflatten(-1, (heads, -1)).transpose(1, 2) for z in (q, k, v))
        attention = (q @ k.transpose(-2, -1) / math.sqrt(width // heads)).softmax(dim=-1)
        x = x + linear((attention @ v).transpose(1, 2).flatten(2), w["attn.proj.weight"], w["attn.proj.bias"])
        y = layer_norm(x, (width,), w["norm2.weight"], w["norm2.bias"], eps=1e-5)
        y = linear(
            gelu(linear(y, w["mlp.fc1.weight"], w["mlp.fc1.bias"])), w["mlp.fc2.weight"], w["mlp.fc2.bias"]
        )
        x = x + y
    return layer_norm(x, (width,), weights["norm.weight"], weights["norm.bias"], eps=1e-5)


def randomised(encoder):
    torch.manual_seed(0)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 0.5)
    return encoder.eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_tokens_equal_an_independent_implementation(name):
    """Each variant with a sixteenth of its width and two blocks, and the same patch and encodings."""
    variant = VARIANTS[name]
    width = max(32, variant.width // 16 // 16 * 16)
    encoder = randomised(create_encoder(name, width=width, depth=2, num_heads=2))
    patch = variant.patch_size
    image = torch.randn(2, 3, 6, 2 * patch, 3 * patch)
    coordinates = {}
    if variant.coordinates:
        coordinates["timestamps"] = torch.tensor([[[2018, 32], [2018, 190], [2019, 366]]] * 2).float()
        coordinates["location"] = torch.tensor([[45.5, -122.6], [-33.9, 18.4]])
    weights = {key: value.detach() for key, value in encoder.state_dict().items()}
    with torch.inference_mode():
        ours = encoder(image, **coordinates)
        theirs = reference(weights, image.transpose(1, 2), 2, 2, patch, **coordinates)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def published_shapes(name):
    """Names and shapes of the published file, from the description of its format."""
    variant = VARIANTS[name]
    width, side = variant.width, 224 // variant.patch_size
    shapes = {
        "cls_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 6, 1, variant.patch_size, variant.patch_size),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if variant.coordinates:
        shapes |= {"temporal_embed_enc.scale": (1,), "location_embed_enc.scale": (1,)}
    for n in range(variant.depth):
        for layer, rows, columns in (
            ("attn.qkv", 3, 1),
            ("attn.proj", 1, 1),
            ("mlp.fc1", 4, 1),
            ("mlp.fc2", 1, 4),
        ):
            shapes[f"blocks.{n}.{layer}.weight"] = (rows * width, columns * width)
            shapes[f"blocks.{n}.{layer}.bias"] = (rows * width,)
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{n}.{norm}.weight": (width,), f"blocks.{n}.{norm}.bias": (width,)}
    table = position_table(width, variant.num_frames, side, side).unsqueeze(0)
    return shapes, table


def published_checkpoint(name):
    """Tensors without storage in the layout of the published file, with a decoder beside the encoder."""
    shapes, table = published_shapes(name)
    tensors = {f"encoder.{key}": torch.empty(shape, device="meta") for key, shape in shapes.items()}
    tensors |= {"encoder.pos_embed": table, "decoder.mask_token": torch.empty(1, device="meta")}
    return Checkpoint(Path(VARIANTS[name].file), tensors, {}, {})


def on_meta(name):
    with torch.device("meta"):
        return create_encoder(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_loaded_completely_at_full_size(name):
    report = load_weights(on_meta(name), published_checkpoint(name))
    assert report.missing == []
    assert report.unexpected == ["decoder.mask_token"]
    assert report.recomputed == ["encoder.pos_embed"]
    assert len(report.matched) == len(published_shapes(name)[0])


@pytest.mark.parametrize(
    ("file", "model"),
    [
        ("prithvi_eo_v1_100m", "prithvi_eo_v2_300m"),
        ("prithvi_eo_v2_300m", "prithvi_eo_v2_300m_tl"),
        ("prithvi_eo_v2_600m_tl", "prithvi_eo_v2_100m_tl"),
    ],
)
def test_the_file_of_another_variant_is_an_error(file, model):
    with pytest.raises(CheckpointError, match=r"different architecture|temporal_embed_enc"):
        load_weights(on_meta(model), published_checkpoint(file))


def coordinate_encoder(**overrides):
    return randomised(create_encoder("prithvi_eo_v2_tiny_tl", width=32, depth=1, num_heads=2, **overrides))


def test_missing_metadata_are_ignored():
    encoder = coordinate_encoder()
    image = torch.randn(1, 2, 6, 32, 32)
    unknown = {"timestamps": torch.full((1, 2, 2), torch.nan), "location": torch.full((1, 2), torch.nan)}
    torch.testing.assert_close(encoder(image, **unknown), encoder(image))
    one_known = torch.tensor([[[2020.0, 100.0], [torch.nan, torch.nan]]])
    assert not torch.equal(encoder(image, timestamps=one_known), encoder(image))


def test_the_number_of_the_first_of_january_can_be_chosen():
    image, dates = torch.randn(1, 1, 6, 32, 32), torch.tensor([[[2020.0, 100.0]]])
    from_one, from_zero = coordinate_encoder(), coordinate_encoder(first_day=0)
    from_zero.load_state_dict(from_one.state_dict())
    torch.testing.assert_close(
        from_zero(image, timestamps=dates), from_one(image, timestamps=dates - torch.tensor([0, 1.0]))
    )
    assert not torch.equal(from_zero(image, timestamps=dates), from_one(image, timestamps=dates))


def test_years_are_exact_in_half_precision():
    """2018 is 2016 in bfloat16; time is encoded in float32 for any precision of the model."""
    encode = coordinate_encoder().temporal_embed_enc
    dates = torch.tensor([[2018.0, 100.0], [2016.0, 100.0]])
    plain = encode(dates)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encode(dates)
    torch.testing.assert_close(half, plain)
    assert (plain[0] - plain[1]).abs().max() > 0.01


def test_bands_are_matched_by_name():
    tensors = {
        f"encoder.{k}": v.clone()
        for k, v in randomised(create_encoder("nano", width=32, depth=1, num_heads=2)).state_dict().items()
    }
    kernel = tensors["encoder.patch_embed.proj.weight"]
    file = Checkpoint(Path("six.pt"), tensors, {}, {})
    bands = ["RED", "BLUE", "RED_EDGE_1"]
    encoder = create_encoder("nano", width=32, depth=1, num_heads=2, num_bands=3)
    untouched = encoder.patch_embed.proj.weight.detach().clone()
    with pytest.raises(
        CheckpointError, match=r"six\.pt: not trained on RED_EDGE_1; set allow_new_bands: true"
    ):
        load_weights(encoder, file, bands=bands)
    report = load_weights(encoder, file, bands=bands, allow_new_bands=True)
    assert report.bands == {
        "RED": "reordered from 2 to 0",
        "BLUE": "reordered from 0 to 1",
        "RED_EDGE_1": "new",
    }
    torch.testing.assert_close(encoder.patch_embed.proj.weight[:, 0], kernel[:, 2])
    torch.testing.assert_close(encoder.patch_embed.proj.weight[:, 1], kernel[:, 0])
    torch.testing.assert_close(encoder.patch_embed.proj.weight[:, 2], untouched[:, 2])
    assert "RED_EDGE_1 new" in str(report)


def test_gradient_checkpointing_gives_the_same_gradients():
    image = torch.randn(1, 1, 6, 32, 32)
    gradients = []
    for checkpointing in (False, True):
        encoder = randomised(
            create_encoder("nano", gradient_checkpointing=checkpointing, width=32, depth=2, num_heads=2)
        )
        encoder(image).square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_an_error_about_an_unknown_override_lists_the_known_ones():
    with pytest.raises(ConfigError, match="choose from width, depth, num_heads"):
        create_encoder("prithvi_eo_v2_300m", embed_dim=3)
