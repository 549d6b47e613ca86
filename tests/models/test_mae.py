"""Masked autoencoding: the forward pass against an independent statement of it, and the published decoders."""

import math

import numpy as np
import pytest
import torch

from prithvi_tg.errors import ConfigError
from prithvi_tg.models import DecoderVariant, MaskedAutoencoder, create_encoder, decoder_variant

WIDTH, HEADS, PATCH, BANDS = 32, 4, 4, 3


def tiny(coordinates=False, patch=PATCH, **options):
    torch.manual_seed(0)
    sizes = {"width": WIDTH, "depth": 2, "num_heads": HEADS, "patch_size": patch, "num_bands": BANDS}
    encoder = create_encoder("nano", coordinates=coordinates, **sizes)
    model = MaskedAutoencoder(encoder, DecoderVariant(16, 2, 2), **options).eval()
    for parameter in model.parameters():  # biases and norms start at 0 and 1, where mistakes do not show
        torch.nn.init.normal_(parameter, std=0.2)
    return model.double()


def batch(frames, side=16, samples=2):
    generator = torch.Generator().manual_seed(frames)
    image = torch.randn(samples, frames, BANDS, side, side, generator=generator, dtype=torch.float64)
    noise = torch.rand(samples, frames * (side // PATCH) ** 2, generator=generator)
    year = torch.tensor([[2018.0, 2020.0]])
    timestamps = torch.stack(
        (year.T.repeat(1, frames), torch.arange(samples * frames).reshape(samples, frames) * 40 + 1.0), -1
    )
    return image, noise, timestamps, torch.tensor([[10.5, -60.0], [-33.0, 151.2]])


# The independent statement: numpy, one sample and one patch at a time, from the papers' description.


def sines(number, width):
    rates = [10000 ** -(k / (width / 2)) for k in range(width // 2)]
    return np.array([math.sin(number * rate) for rate in rates] + [math.cos(number * rate) for rate in rates])


def position(t, row, column, width):
    parts = (column, 6), (row, 6), (t, 4)
    return np.concatenate([sines(number, width // 16 * sixteenths) for number, sixteenths in parts])


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state, name, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def transformer_block(state, name, x, heads):
    query, key, value = np.split(
        linear(state, f"{name}.attn.qkv", norm(state, f"{name}.norm1", x)), 3, axis=-1
    )
    width = x.shape[-1] // heads
    mixed = np.zeros_like(x)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        logits = query[:, part] @ key[:, part].T / math.sqrt(width)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        mixed[:, part] = weights / weights.sum(-1, keepdims=True) @ value[:, part]
    x = x + linear(state, f"{name}.attn.proj", mixed)
    hidden = linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.norm2", x))
    gelu = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return x + linear(state, f"{name}.mlp.fc2", gelu)


def coordinates_of(state, part, t, timestamps, location, width):
    if timestamps is None:
        return 0.0
    year, day = timestamps[t]
    latitude, longitude = location
    time = np.concatenate((sines(year, width // 2), sines(day, width // 2)))
    place = np.concatenate((sines(latitude, width // 2), sines(longitude, width // 2)))
    scale_of_time, scale_of_place = (
        state[f"{name}_{part}.scale"] for name in ("temporal_embed", "location_embed")
    )
    return scale_of_time * time + scale_of_place * place


def reconstruct_one(state, image, noise, timestamps=None, location=None):
    """Prediction (L, p*q*C), true patches and masked patches of one image (T, C, H, W)."""
    frames, _, height, width = image.shape
    places = [(t, i, j) for t in range(frames) for i in range(height // PATCH) for j in range(width // PATCH)]
    encoder = {
        name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")
    }
    decoder = {
        name.removeprefix("decoder."): value for name, value in state.items() if name.startswith("decoder.")
    }
    kernel, bias = encoder["patch_embed.proj.weight"][:, :, 0], encoder["patch_embed.proj.bias"]
    tokens, truth = [], []
    for t, i, j in places:
        patch = image[t, :, i * PATCH : (i + 1) * PATCH, j * PATCH : (j + 1) * PATCH]
        token = np.array([(patch * kernel[k]).sum() for k in range(WIDTH)]) + bias
        token = (
            token + position(t, i, j, WIDTH) + coordinates_of(encoder, "enc", t, timestamps, location, WIDTH)
        )
        tokens.append(token)
        truth.append(
            np.array([patch[c, p, q] for p in range(PATCH) for q in range(PATCH) for c in range(BANDS)])
        )
    kept = np.argsort(noise)[: int(len(places) * (1 - 0.75))]
    x = np.stack([encoder["cls_token"][0, 0], *(tokens[k] for k in kept)])
    for block in range(2):
        x = transformer_block(encoder, f"blocks.{block}", x, HEADS)
    x = linear(decoder, "decoder_embed", norm(encoder, "norm", x))
    narrow = x.shape[-1]
    patches = [decoder["mask_token"][0, 0] for _ in places]
    for row, k in enumerate(kept, start=1):
        patches[k] = x[row]
    patches = [
        patch
        + position(*place, narrow)
        + coordinates_of(decoder, "dec", place[0], timestamps, location, narrow)
        for patch, place in zip(patches, places, strict=True)
    ]
    x = np.stack([x[0], *patches])
    for block in range(2):
        x = transformer_block(decoder, f"decoder_blocks.{block}", x, 2)
    prediction = linear(decoder, "decoder_pred", norm(decoder, "decoder_norm", x))[1:]
    return prediction, np.stack(truth), np.array([k not in kept for k in range(len(places))])


@pytest.mark.parametrize("coordinates", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_the_forward_pass_equals_an_independent_statement(frames, coordinates, norm_pix_loss):
    model = tiny(coordinates, norm_pix_loss=norm_pix_loss)
    image, noise, timestamps, location = batch(frames)
    known = {"timestamps": timestamps, "location": location} if coordinates else {}
    result = model(image, noise=noise, **known)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    errors = []
    for k in range(len(image)):
        place = (timestamps[k].numpy(), location[k].numpy()) if coordinates else ()
        prediction, truth, masked = reconstruct_one(state, image[k].numpy(), noise[k].numpy(), *place)
        # Coordinates are encoded in float32.
        np.testing.assert_allclose(
            result.prediction[k].detach().numpy(), prediction, atol=2e-4 if coordinates else 1e-6
        )
        np.testing.assert_array_equal(result.mask[k].numpy(), masked)
        if norm_pix_loss:
            truth = (truth - truth.mean(1, keepdims=True)) / np.sqrt(
                truth.var(1, ddof=1, keepdims=True) + 1e-6
            )
        errors += [((prediction[p] - truth[p]) ** 2).mean() for p in np.flatnonzero(masked)]
    assert len(errors) == 2 * (frames * 16 - 4 * frames)
    assert result.loss.item() == pytest.approx(np.mean(errors), rel=1e-4)


# Pixels without data.


def test_a_masked_patch_without_data_and_single_values_without_data_do_not_count():
    model = tiny()
    image, noise, *_ = batch(1)
    valid = torch.ones_like(image, dtype=torch.bool)
    everywhere = model(image, valid, noise)
    assert everywhere.loss.item() == pytest.approx(model(image, noise=noise).loss.item(), rel=1e-12)
    empty, partly = everywhere.mask[0].nonzero().flatten()[:2].tolist()
    places = [divmod(number, 4) for number in (empty, partly)]
    rows, columns = (slice(PATCH * places[0][axis], PATCH * (places[0][axis] + 1)) for axis in (0, 1))
    valid[0, :, :, rows, columns] = False
    valid[0, :, 1, PATCH * places[1][0], PATCH * places[1][1]] = False  # one value: its band alone
    result = model(image, valid, noise)
    errors = ((result.prediction - model.patchify(image)) ** 2).detach()
    errors[0, partly, 1] = float("nan")  # the first pixel of the patch, its second band
    expected = [
        errors[sample, patch].nanmean()
        for sample, patch in result.mask.nonzero().tolist()
        if (sample, patch) != (0, empty)
    ]
    assert result.loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-6)
    assert result.counted.sum() == result.mask.sum() - 1


def test_an_image_without_data_has_the_loss_0_and_no_gradient():
    model = tiny()
    image, noise, *_ = batch(1)
    loss = model(image, torch.zeros_like(image, dtype=torch.bool), noise).loss
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_statistics_of_a_patch_ignore_values_without_data():
    model = tiny(norm_pix_loss=True)
    image, noise, *_ = batch(1)
    valid = torch.ones_like(image, dtype=torch.bool)
    valid[:, :, 2] = False
    image[:, :, 2] = 1e3
    two = image[:, :, :2]
    mean = two.reshape(2, 2, 4, PATCH, 4, PATCH).mean(dim=(1, 3, 5)).reshape(2, 16)
    std = (
        two.reshape(2, 2, 4, PATCH, 4, PATCH).permute(0, 2, 4, 1, 3, 5).flatten(3).std(dim=-1).reshape(2, 16)
    )
    result = model(image, valid, noise)
    predicted = model.unpatchify(result.prediction, (1, 4, 4))
    restored = model.reconstruct(image, result, valid)
    masked = ~restored.isnan()
    spread = std.reshape(2, 1, 1, 4, 4).repeat_interleave(PATCH, 3).repeat_interleave(PATCH, 4)
    centre = mean.reshape(2, 1, 1, 4, 4).repeat_interleave(PATCH, 3).repeat_interleave(PATCH, 4)
    torch.testing.assert_close(
        restored[masked],
        (predicted * spread + centre)[masked].float(),
        rtol=1e-4,
        atol=1e-4,
        check_dtype=False,
    )


# Masks.


@pytest.mark.parametrize(
    ("side", "frames", "ratio", "visible"), [(16, 1, 0.75, 4), (20, 3, 0.75, 18), (20, 1, 0.9, 2)]
)
def test_the_number_of_visible_patches_is_rounded_down(side, frames, ratio, visible):
    image = torch.zeros(2, frames, BANDS, side, side, dtype=torch.float64)
    result = tiny(mask_ratio=ratio)(image)
    assert (~result.mask).sum(dim=1).tolist() == [visible] * 2


def test_masks_differ_between_samples_and_calls():
    image = torch.zeros(2, 1, BANDS, 64, 64, dtype=torch.float64)
    model = tiny()
    one, other = model(image).mask, model(image).mask
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one, other)


def test_visible_patches_do_not_depend_on_masked_ones():
    model = tiny()
    image, noise, *_ = batch(1)
    result = model(image, noise=noise)
    masked = model.unpatchify(result.mask[..., None].expand_as(result.prediction), (1, 4, 4))
    again = model(image.where(~masked, 9.0), noise=noise)
    torch.testing.assert_close(again.prediction, result.prediction)


def test_settings_that_cannot_work_are_refused():
    image = torch.zeros(1, 1, BANDS, PATCH, PATCH, dtype=torch.float64)
    with pytest.raises(ConfigError, match="masks all 1 patches of an image of 4 x 4 pixels"):
        tiny()(image)
    with pytest.raises(ConfigError, match=r"mask_ratio: 1.0 must be above 0 and below 1"):
        tiny(mask_ratio=1.0)
    with pytest.raises(ConfigError, match="encoder: TimmPyramid cannot encode a subset of its patches"):
        MaskedAutoencoder(create_encoder("timm/resnet18", num_bands=6), DecoderVariant())
    with pytest.raises(
        ConfigError, match=r"decoder_args: .*unexpected keyword argument 'heads'; choose from width"
    ):
        decoder_variant("nano", heads=3)
    with pytest.raises(ConfigError, match=r"decoder_args.num_heads: 5 heads do not divide a width of 64"):
        decoder_variant("nano", num_heads=5)


# The published decoder.


def published_decoder(patch, coordinates):
    """Names and shapes of the decoder's tensors in the published files, without the position table."""
    shapes = {
        "mask_token": (1, 1, 512),
        "decoder_embed.bias": (512,),
        "decoder_pred.bias": (patch * patch * 6,),
    }
    shapes["decoder_pred.weight"] = (patch * patch * 6, 512)
    for block in range(8):
        sizes = {"norm1": (512,), "norm2": (512,), "attn.qkv": (1536, 512), "attn.proj": (512, 512)}
        for name, size in (sizes | {"mlp.fc1": (2048, 512), "mlp.fc2": (512, 2048)}).items():
            shapes[f"decoder_blocks.{block}.{name}.weight"] = size
            shapes[f"decoder_blocks.{block}.{name}.bias"] = size[:1]
    shapes |= {"decoder_norm.weight": (512,), "decoder_norm.bias": (512,)}
    scales = ("temporal_embed_dec.scale", "location_embed_dec.scale") if coordinates else ()
    return shapes | dict.fromkeys(scales, (1,))


@pytest.mark.parametrize(
    ("name", "width", "patch"),
    [
        ("prithvi_eo_v1_100m", 768, 16), ("prithvi_eo_v2_tiny_tl", 192, 16), ("prithvi_eo_v2_100m_tl", 768, 16),
        ("prithvi_eo_v2_300m", 1024, 16), ("prithvi_eo_v2_300m_tl", 1024, 16), ("prithvi_eo_v2_600m", 1280, 14),
        ("prithvi_eo_v2_600m_tl", 1280, 14),
    ],
)  # fmt: skip
def test_the_decoder_has_the_published_names_and_shapes(name, width, patch):
    with torch.device("meta"):
        model = MaskedAutoencoder(create_encoder(name), decoder_variant(name))
    found = {key: tuple(value.shape) for key, value in model.decoder.state_dict().items()}
    coordinates = name.endswith("_tl")
    assert found == published_decoder(patch, coordinates) | {"decoder_embed.weight": (512, width)}
    assert {block.attn.num_heads for block in model.decoder.decoder_blocks} == {16}
    names = {key.split(".")[0] for key in model.state_dict()}
    assert names == {"encoder", "decoder"}
