"""The fused decoder equals the plain one: logits, gradients, borders, running statistics, cached weights."""

import copy

import pytest
import torch
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.models import ConvTransposeNeck, EncoderDecoder, FCNHead, create_encoder
from prithvi_tg.models.fusion import (
    fused_logits,
    fused_training,
    fused_weights,
    pair_weights,
    phase_kernel,
    response,
    upscale_weights,
)
from prithvi_tg.models.weight_cache import WeightCache, active_cache, cached_weights

pytestmark = pytest.mark.version_independent


def decoder(channels, seed=0, convs=(1, 2), classes=3, width=8, dropout=0.0):
    """A neck and heads in which all parameters have an effect, also biases and running statistics."""
    torch.manual_seed(seed)
    neck = ConvTransposeNeck(channels)
    heads = [FCNHead(channels, classes, width, number, dropout) for number in convs]
    for module in [part for top in (neck, *heads) for part in top.modules()]:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, -1, 2)
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            nn.init.normal_(module.bias)
    return neck, heads


def tokens_of(batch, grid, width, seed=1):
    frames, rows, columns = grid
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1 + frames * rows * columns, width, generator=generator)


def fused(neck, heads, tokens, grid):
    """As `EncoderDecoder` calls them."""
    if torch.is_grad_enabled() or any(head.training for head in heads):
        return fused_training(tokens, grid, neck, heads)
    return [fused_logits(tokens, grid, fused_weights(neck, head, tokens)) for head in heads]


def plain(neck, heads, tokens, grid):
    features = neck(tokens, grid)
    return [head(features) for head in heads]


def set_mode(training, neck, heads):
    for module in (neck, *heads):
        module.train(training)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_logits_are_the_plain_ones_for_any_size(batch, frames, rows, columns, kept):
    grid = (frames, rows, columns)
    neck, heads = decoder(4 * frames)
    set_mode(False, neck, heads)
    tokens = tokens_of(batch, grid, 4)
    with torch.set_grad_enabled(not kept):  # weights are kept where no gradients are wanted
        logits = fused(neck, heads, tokens, grid)
        for ours, theirs in zip(logits, plain(neck, heads, tokens, grid), strict=True):
            assert ours.shape == theirs.shape == (batch, 3, 16 * rows, 16 * columns)
            torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


def test_borders_and_corners_are_those_of_zero_padding():
    """The bias of the upscaling must not extend beyond the image, or borders would be brighter."""
    neck, heads = decoder(4)
    for parameter in neck.fpn2[-1].parameters():
        nn.init.ones_(parameter)
    set_mode(False, neck, heads)
    tokens, grid = tokens_of(1, (1, 2, 3), 4), (1, 2, 3)
    with torch.no_grad():
        ours, theirs = (run(neck, heads, tokens, grid)[0] for run in (fused, plain))
    for edge in (ours[..., 0, :] - theirs[..., 0, :], ours[..., -1, :] - theirs[..., -1, :],
                 ours[..., 0] - theirs[..., 0], ours[..., -1] - theirs[..., -1]):  # fmt: skip
        assert edge.abs().max() < 1e-5
    inside = theirs[..., 8:-8, 8:-8].mean()
    assert (theirs[..., 0, :].mean() - inside).abs() > 1e-3  # or nothing was tested


@pytest.mark.parametrize("training", [True, False])
def test_gradients_and_running_statistics_are_the_plain_ones(training):
    neck, heads = (part.double() if isinstance(part, nn.Module) else [head.double() for head in part]
                   for part in decoder(8))  # fmt: skip
    set_mode(training, neck, heads)
    other_neck, other_heads = copy.deepcopy((neck, heads))
    grid, tokens = (1, 3, 2), tokens_of(2, (1, 3, 2), 8).double()
    ours_in, theirs_in = (tokens.clone().requires_grad_() for _ in range(2))
    ours = fused(neck, heads, ours_in, grid)
    theirs = plain(other_neck, other_heads, theirs_in, grid)
    for outputs in (ours, theirs):
        sum((logits.sin() ** 2).mean() for logits in outputs).backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, rtol=1e-6, atol=1e-12)
    for module, other in zip((neck, *heads), (other_neck, *other_heads), strict=True):
        for (name, mine), his in zip(module.named_parameters(), other.parameters(), strict=True):
            largest = max(1e-6, float(his.grad.abs().max()))
            assert (mine.grad - his.grad).abs().max() <= 1e-6 * largest, name
        for (name, mine), his in zip(module.named_buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(mine, his, msg=name)


def test_dropout_drops_the_same_channels_as_the_plain_head():
    neck, heads = decoder(4, dropout=0.5, width=64)
    set_mode(True, neck, heads)
    tokens, grid = tokens_of(3, (1, 2, 2), 4), (1, 2, 2)
    results = []
    for run in (fused, plain):
        torch.manual_seed(5)
        results.append(run(neck, heads, tokens, grid))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def segmenter(**options):
    torch.manual_seed(0)
    encoder = create_encoder("nano", width=32, depth=1, num_heads=2)
    return EncoderDecoder(encoder, ConvTransposeNeck(32), FCNHead(32, 3, 8), FCNHead(32, 3, 8, 2), **options)


IMAGE = torch.randn(2, 1, 6, 35, 50, generator=torch.Generator().manual_seed(0))


def both(model):
    """Logits of the fused and of the plain path."""
    with torch.inference_mode():
        ours = model(IMAGE)
        model.fuse = False
        theirs = model(IMAGE)
        model.fuse = True
    return ours, theirs


def set_data(model):
    """As weight averaging does: torch's version counter does not see it."""
    for parameter in model.parameters():
        parameter.data.copy_(parameter.data * 1.5)


def take_fused_steps(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


#: Ways to change weights between two evaluations; those of the first table change torch's version counters.
COUNTED = {
    "in place": lambda model: model.decode_head.conv_seg.weight.mul_(2),
    "a part in place": lambda model: model.neck.fpn2[0].weight[0].mul_(9),
    "running statistics": lambda model: model.decode_head.convs[0].bn.running_var.mul_(3),
    "load_state_dict": lambda model: model.load_state_dict(segmenter_state(1)),
    "assigned state": lambda model: model.load_state_dict(segmenter_state(1), assign=True),
    "a new parameter": lambda model: setattr(
        model.neck.fpn1[0], "weight", nn.Parameter(model.neck.fpn1[0].weight * 2)
    ),
    "a new neck": lambda model: setattr(model, "neck", decoder(32, seed=4)[0].eval()),
    "a new head": lambda model: setattr(model, "decode_head", FCNHead(32, 3, 8).eval()),
}
UNCOUNTED = {
    "data of one": lambda model: model.decode_head.conv_seg.weight.data.mul_(2),
    "data of all": set_data,
    "fused optimiser": take_fused_steps,
    "rounded": lambda model: model.half().float(),
    "foreach on detached": lambda model: torch._foreach_mul_([p.detach() for p in model.parameters()], 1.5),
    "data of running statistics": lambda model: model.decode_head.convs[0].bn.running_var.data.mul_(3),
}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", COUNTED | UNCOUNTED)
def test_every_change_of_weights_affects_the_next_evaluation(change, precision):
    model = segmenter().eval()
    with torch.inference_mode(), cached_weights(), torch.autocast("cpu", precision):
        before = model(IMAGE)
    with torch.no_grad():
        (COUNTED | UNCOUNTED)[change](model)
    fresh = copy.deepcopy(model)
    with torch.inference_mode(), torch.autocast("cpu", precision):
        after, expected = model(IMAGE), fresh(IMAGE)
    assert torch.equal(after, expected)
    assert not torch.equal(after, before)


def test_a_copy_does_not_share_cached_weights():
    model = segmenter().eval()
    with torch.inference_mode(), cached_weights():
        before = model(IMAGE)
        other = copy.deepcopy(model)
        other.decode_head.conv_seg.weight.data.mul_(2)
        assert not torch.equal(other(IMAGE), before)
        assert torch.equal(model(IMAGE), before)


@pytest.mark.parametrize("change", COUNTED)
def test_weights_are_cached_until_a_version_changes(change):
    model = segmenter().eval()
    with cached_weights() as cache:
        before, _ = both(model)
        (kept,) = cache._values.values()
        again, _ = both(model)
        assert list(cache._values.values()) == [kept]
        assert torch.equal(before, again)
        with torch.no_grad():
            COUNTED[change](model)
        after, theirs = both(model)
    assert (after - before).abs().max() > 1e-4
    torch.testing.assert_close(after, theirs, atol=1e-5, rtol=1e-5)


def test_contexts_of_one_run_share_a_cache_and_nothing_is_cached_outside():
    model, cache = segmenter().eval(), WeightCache()
    for _ in range(2):
        with torch.inference_mode(), cached_weights(cache), cached_weights() as inner:
            model(IMAGE)
        assert inner is cache
    assert len(cache._values) == 1
    assert active_cache() is None


def segmenter_state(seed):
    state = segmenter().state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in state.items()
    }


def test_a_training_step_affects_the_next_evaluation():
    model = segmenter()
    both(model.eval())
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    logits, auxiliary = model.train().forward_both(IMAGE)
    (logits.square().mean() + auxiliary.square().mean()).backward()
    optimizer.step()
    ours, theirs = both(model.eval())
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_parameters_and_state_are_those_of_the_plain_model():
    model, other = segmenter(fuse=True), segmenter(fuse=False)
    both(model.eval())
    assert list(model.state_dict()) == list(other.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in other.named_parameters()]


class Louder(FCNHead):
    def forward(self, features):
        return 2 * super().forward(features)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "decode_head", Louder(32, 3, 8).eval()),
        lambda model: setattr(model.decode_head.convs[0], "act", nn.LeakyReLU(0.5)),
        lambda model: setattr(model.neck.fpn1, "2", nn.SiLU()),
        lambda model: model.decode_head.convs.register_forward_hook(
            lambda module, inputs, output: output + 1
        ),
        lambda model: setattr(model, "decode_head", FCNHead(32, 3, 8, num_convs=0).eval()),
    ],
)
def test_replaced_subclassed_or_hooked_parts_are_not_fused(change):
    model = segmenter().eval()
    before, _ = both(model)
    change(model)
    after, theirs = both(model)
    assert torch.equal(after, theirs)
    assert not torch.equal(after, before)


def test_dropout_that_is_active_in_evaluation_has_an_effect():
    model = segmenter().eval()
    model.decode_head.dropout.train()
    with torch.inference_mode():
        assert not torch.equal(model(IMAGE), model(IMAGE))


def test_gradients_of_the_image_flow_in_evaluation():
    model = segmenter().eval()
    both(model)
    gradients = []
    for model.fuse in (True, False):
        image = IMAGE.clone().requires_grad_()
        model(image).square().mean().backward()
        gradients.append(image.grad)
    torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-3)


def test_two_upscalings_are_one_matrix():
    first, second = nn.ConvTranspose2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 5, 2, 2)
    x = torch.randn(1, 3, 1, 1)
    for (weight, bias), expected, side in (
        (pair_weights(first, second), second(first(x)), 2), (upscale_weights(first), first(x), 1),
    ):  # fmt: skip
        pixels = torch.nn.functional.linear(x.flatten(), weight, bias).view(*[2] * 2 * side, -1)
        order = (0, 1, 2) if side == 1 else (0, 2, 1, 3, 4)
        result = pixels.permute(order).reshape(2 * side, 2 * side, -1).permute(2, 0, 1)
        torch.testing.assert_close(result, expected[0], atol=1e-6, rtol=1e-5)


def test_a_response_is_the_output_for_one_pixel():
    upscale, conv = nn.ConvTranspose2d(3, 4, 2, 2), nn.Conv2d(4, 5, 3, padding=1, bias=False)
    nn.init.zeros_(upscale.bias)
    point = torch.zeros(1, 3, 3, 3)
    point[0, 1, 1, 1] = 1
    expected = conv(upscale(point))[0, :, 1:5, 1:5]
    torch.testing.assert_close(response(upscale, conv.weight)[1], expected, atol=1e-6, rtol=1e-5)
    assert phase_kernel(response(upscale, conv.weight)).shape == (20, 4, 2, 2)


def test_bfloat16_is_near_float32():
    model = segmenter().eval()
    with torch.inference_mode():
        exact = model(IMAGE)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = model(IMAGE)
            tokens, _ = model.forward_tokens(IMAGE)
    assert tokens.dtype == torch.float32  # blocks add to them
    assert near.dtype == torch.bfloat16
    assert (near - exact).abs().max() < 0.03 * exact.abs().max()


@pytest.mark.parametrize("decoder", ["conv_transpose", "unet", "geospatial"])
def test_cached_bfloat16_weights_equal_those_of_autocast(decoder):
    torch.manual_seed(0)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, decoder=decoder, head_channels=16, num_classes=3, fuse=False
    )
    model = task.model.eval()
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad(), cached_weights() as cache:
                kept = model(IMAGE)
                assert cache._values
            direct = model(IMAGE)  # where gradients are wanted nothing is kept
        assert torch.equal(kept, direct)
        with torch.no_grad():
            model.encoder.blocks[0].attn.qkv.weight.mul_(2)  # seen at once
