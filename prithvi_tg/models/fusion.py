"""Fused computation of the published decoder: the same function of the same parameters, with fewer operations.

A transposed convolution and a linear layer after it can be computed in one step.

- Transposed convolution (kernel 2, stride 2), then 3 x 3 convolution: each input pixel adds a patch of 4 x 4 pixels,
  its *response*, to the output. Together the layers are one transposed convolution with kernel 4, stride 2 and
  padding 1. It is computed as a 2 x 2 convolution with the four *phases* (even and odd rows and columns) of the image
  as outputs, one pixel larger than needed. The feature map at full resolution, the widest one, is never computed. The
  bias of the transposed convolution becomes a channel of ones, so that the zero padding of the second convolution
  stays correct.
- Two transposed convolutions (kernel 2, stride 2) are one with kernel 4 and stride 4.
- Transposed convolutions with kernel = stride, LayerNorm over channels and GELU are functions of one pixel. Up to its
  last upscaling, the neck is therefore a series of matrix products per token, and pixels are moved to their places
  once.

`GeospatialNeck` is not fused: its 3 x 3 convolutions have as many inputs as outputs, so fusing saves few operations (a
quarter in three blocks, none in the first), and separate blocks are faster.

In evaluation, batch norm is folded into the weights, and `cached_weights` caches them. In training, the weights are
computed from the parameters at each step, so that gradients, state dict and optimiser are those of the separate
modules. Cheap but wide results (phases, batch norm, ReLU) are recomputed in the backward pass.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ..compat import has_forward_hooks
from .decoders import ChannelNorm, ConvBNReLU, ConvTransposeNeck, FCNHead
from .weight_cache import active_cache

Grid = tuple[int, int, int]


def response(upscale: nn.ConvTranspose2d, weight: Tensor) -> Tensor:
    """Responses of an upscaling and a 3 x 3 convolution: the output for one pixel of each input channel.

    Args:
        upscale: Upscaling with kernel 2 and stride 2, from I channels to C.
        weight: Weight (O, C, 3, 3) of the convolution.

    Returns:
        (I + 1, O, 4, 4), float32 even under autocast. The last response is that of a channel of ones, for the bias of
        the upscaling.
    """
    with torch.autocast(weight.device.type, enabled=False):
        ones = _bias(upscale)[None, :, None, None].expand(1, -1, 2, 2)
        taps = torch.cat([upscale.weight, ones])
        # Compute all pairs of taps in one matrix product, then move each to its place.
        pairs = rearrange(weight, "o c u v -> (o u v) c") @ rearrange(taps, "i c s t -> c (i s t)")
        parts = rearrange(pairs, "(o u v) (i s t) -> u v i o s t", u=3, v=3, s=2, t=2)
        rows = sum((F.pad(parts[u], (0, 0, 2 - u, u)) for u in range(3)), start=parts.new_zeros(()))
        return sum((F.pad(rows[v], (2 - v, v)) for v in range(3)), start=parts.new_zeros(()))


def phase_kernel(responses: Tensor) -> Tensor:
    """Weight (4 * O, I, 2, 2) of the 2 x 2 convolution that computes the phases, from responses (I, O, 4, 4)."""
    return rearrange(responses, "i o (a p) (b q) -> (p q o) i a b", p=2, q=2).flip(-2, -1)


def pair_weights(first: nn.ConvTranspose2d, second: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Two upscalings, I to C to O channels, as one matrix per pixel.

    Returns:
        Weight (16 * O, I) and bias (16 * O,), pixels in order: row and column of the first upscaling, then
        of the second.
    """
    with torch.autocast(first.weight.device.type, enabled=False):
        weight = torch.einsum("icst,couv->stuvoi", first.weight, second.weight)
        bias = torch.einsum("c,couv->uvo", _bias(first), second.weight) + _bias(second)
        return weight.flatten(0, 4), bias.flatten().repeat(4)


def upscale_weights(upscale: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """An upscaling as one matrix per pixel: weight (4 * O, I) and bias (4 * O,), pixels in order."""
    return rearrange(upscale.weight, "i o s t -> (s t o) i"), _bias(upscale).repeat(4)


_KNOWN = {
    ConvTransposeNeck, FCNHead, ConvBNReLU, ChannelNorm, nn.Sequential, nn.ConvTranspose2d, nn.LayerNorm, nn.GELU,
    nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout2d,
}  # fmt: skip

#: Device type -> multiple of input channels for which convolutions are fastest; 1 for other devices.
_CHANNEL_MULTIPLE = {"cuda": 64}


def can_fuse(neck: nn.Module, heads: Sequence[nn.Module]) -> bool:
    """Whether the modules can be fused: their parts are of known types, not subclasses, and have no hooks."""
    if type(neck) is not ConvTransposeNeck or any(type(head) is not FCNHead for head in heads):
        return False
    if not all(len(head.convs) for head in heads):  # type: ignore[arg-type]  # modules
        return False
    parts = [part for module in (neck, *heads) for part in module.modules()]
    if any(isinstance(part, nn.BatchNorm2d) and part.momentum is None for part in parts):
        return False
    return all(type(part) in _KNOWN and not has_forward_hooks(part) for part in parts)


# In evaluation.


class NormWeights(NamedTuple):
    """Weight, bias and epsilon of a LayerNorm."""

    weight: Tensor
    bias: Tensor
    eps: float


class FusedWeights(NamedTuple):
    """Weights of `fused_logits`: pairs of weight and bias, in one type.

    Attributes:
        upscale: The first upscaling, see `upscale_weights`.
        first_norm: The LayerNorm after it.
        pair: The second and third upscaling, see `pair_weights`.
        second_norm: The LayerNorm after them.
        phases: The last upscaling and the first 3 x 3 convolution with batch norm, see `phase_kernel`. Its input
            channels are those of the neck, one of ones, and zeros up to a multiple for the device.
        later: Further 3 x 3 convolutions with batch norm.
        classes: The 1 x 1 convolution to the classes, as a matrix.
    """

    upscale: tuple[Tensor, Tensor]
    first_norm: NormWeights
    pair: tuple[Tensor, Tensor]
    second_norm: NormWeights
    phases: tuple[Tensor, Tensor]
    later: tuple[tuple[Tensor, Tensor], ...]
    classes: tuple[Tensor, Tensor]


def fused_weights(neck: ConvTransposeNeck, head: FCNHead, like: Tensor) -> FusedWeights:
    """Weights of a neck and a head in evaluation, on the device of `like`, in its type or that of autocast.

    They are taken from the cache of `prithvi_tg.models.weight_cache.cached_weights`, if there is one.
    """
    device = like.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
    cache = active_cache()
    if cache is None:
        return _compute_weights(neck, head, dtype)
    tensors = [*neck.state_dict(keep_vars=True).values(), *head.state_dict(keep_vars=True).values()]
    weights: FusedWeights = cache.get(
        (neck, head, dtype), tensors, lambda: _compute_weights(neck, head, dtype)
    )
    return weights


def _compute_weights(neck: ConvTransposeNeck, head: FCNHead, dtype: torch.dtype) -> FusedWeights:
    up1, norm1, up2, up3, norm2, up4 = _layers(neck)
    convs: list[Any] = list(head.convs)
    scale, shift = _affine(convs[0].bn)
    kernel = phase_kernel(response(up4, convs[0].conv.weight * scale[:, None, None, None]))
    padding = -kernel.shape[1] % _CHANNEL_MULTIPLE.get(kernel.device.type, 1)
    kernel = F.pad(kernel, (0, 0, 0, 0, 0, padding)).contiguous(memory_format=torch.channels_last)
    later = [(conv.conv.weight * scale[:, None, None, None], shift) for conv in convs[1:]
             for scale, shift in [_affine(conv.bn)]]  # fmt: skip

    def converted(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return weight.to(dtype), bias.to(dtype)

    return FusedWeights(
        converted(*upscale_weights(up1)),
        NormWeights(*converted(norm1.ln.weight, norm1.ln.bias), norm1.ln.eps),
        converted(*pair_weights(up2, up3)),
        NormWeights(*converted(norm2.ln.weight, norm2.ln.bias), norm2.ln.eps),
        converted(kernel, shift.repeat(4)),
        tuple(converted(*layer) for layer in later),
        converted(head.conv_seg.weight.flatten(1), _bias(head.conv_seg)),
    )


def fused_logits(tokens: Tensor, grid: Grid, weights: FusedWeights) -> Tensor:
    """Logits of a `ConvTransposeNeck` and an `FCNHead` in evaluation, as a pure function.

    The computation has the type of the weights even under autocast; the statistics of LayerNorm are always float32.

    Args:
        tokens: (B, 1 + T*h*w, D).
        grid: T, h, w.
        weights: See `fused_weights`.

    Returns:
        (B, K, 16 h, 16 w).
    """
    with torch.autocast(tokens.device.type, enabled=False):
        x = _pixels(tokens.to(weights.classes[0].dtype), grid)
        x = _norm_and_gelu(F.linear(x, *weights.upscale), weights.first_norm)
        x = _norm_and_gelu(F.linear(x, *weights.pair), weights.second_norm)
        image = _in_place(x, grid, channels=weights.phases[0].shape[1])
        x = F.conv2d(image, *weights.phases, padding=1).relu_()
        x = rearrange(x, "b (p q c) h w -> b h w p q c", p=2, q=2)
        if not weights.later:
            return _from_phases(F.linear(x, *weights.classes))
        x = _from_phases(x)
        for weight, bias in weights.later:
            x = F.conv2d(x, weight, bias, padding=1).relu_()
        return F.linear(x.permute(0, 2, 3, 1), *weights.classes).permute(0, 3, 1, 2)


# With gradients.


def fused_training(
    tokens: Tensor, grid: Grid, neck: ConvTransposeNeck, heads: Sequence[FCNHead]
) -> list[Tensor]:
    """Logits of each head with gradients, in training or evaluation. Training updates the running statistics.

    Args:
        tokens: (B, 1 + T*h*w, D).
        grid: T, h, w.
        neck: The neck.
        heads: Heads on the features of the neck.

    Returns:
        One (B, K, 16 h, 16 w) per head.
    """
    up1, norm1, up2, up3, norm2, up4 = _layers(neck)
    x = F.linear(_pixels(tokens, grid), *upscale_weights(up1))
    x = checkpoint(
        _norm_and_gelu, x, NormWeights(norm1.ln.weight, norm1.ln.bias, norm1.ln.eps), use_reentrant=False
    )
    # Not composed as in evaluation: for a batch of four, composing takes as long as it saves.
    x = F.linear(x, *upscale_weights(up2)).view(-1, up2.out_channels)
    x = F.linear(x, *upscale_weights(up3))
    x = checkpoint(
        _norm_and_gelu, x, NormWeights(norm2.ln.weight, norm2.ln.bias, norm2.ln.eps), use_reentrant=False
    )
    x = _in_place(x, grid, channels=up3.out_channels)
    ones = x.new_ones(1, 1, *x.shape[-2:])
    logits = []
    for head in heads:
        first: Any = head.convs[0]
        kernel = phase_kernel(response(up4, first.conv.weight))
        phases, bias = (
            rearrange(F.conv2d(image, weight, padding=1), "b (p q c) h w -> b h w p q c", p=2, q=2)
            for image, weight in ((x, kernel[:, :-1]), (ones, kernel[:, -1:]))
        )
        later: list[Any] = list(head.convs[1:])
        y = _norm_and_relu(first.bn, None if later else head, _Unphase.apply, phases, bias)
        for number, conv in enumerate(later, start=1):
            y = _norm_and_relu(conv.bn, head if number == len(later) else None, _same, conv.conv(y))
        logits.append(y)
    return logits


def _norm_and_relu(
    bn: nn.BatchNorm2d, head: FCNHead | None, before: Callable[..., Tensor], *inputs: Tensor
) -> Tensor:
    """``relu(bn(before(*inputs)))``, or its logits if a head is given; stores only the inputs for the backward pass."""
    mean, variance = bn.running_mean, bn.running_var
    momentum = bn.momentum
    assert mean is not None
    assert variance is not None
    assert momentum is not None
    new = mean.clone(), variance.clone()  # the recomputation must not update the running statistics again
    classes = None
    if head is not None:
        # To drop a channel of an image, drop its column of the matrix that computes the logits.
        factors = head.dropout(inputs[0].new_ones(len(inputs[0]), bn.num_features, 1, 1))
        classes = head.conv_seg.weight.flatten(1) * factors.flatten(1)[:, None]

    def run(classes: Tensor | None, *inputs: Tensor) -> Tensor:
        x = F.batch_norm(before(*inputs), *new, bn.weight, bn.bias, bn.training, momentum, bn.eps)
        x = F.relu(x, inplace=True)
        if head is None or classes is None:
            return x
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        logits = torch.baddbmm(_bias(head.conv_seg), pixels, classes.transpose(1, 2))
        return rearrange(logits, "b (h w) k -> b k h w", h=x.shape[2])

    result: Tensor = checkpoint(run, classes, *inputs, use_reentrant=False, preserve_rng_state=False)
    if bn.training:
        with torch.no_grad():
            mean.copy_(new[0])
            variance.copy_(new[1])
            assert bn.num_batches_tracked is not None
            bn.num_batches_tracked.add_(1)
    return result


def _same(x: Tensor) -> Tensor:
    return x


class _Unphase(torch.autograd.Function):
    """Phases (B, h + 1, w + 1, 2, 2, C), plus a bias for the whole batch, to a map (B, C, 2 h, 2 w)."""

    @staticmethod
    def forward(ctx: Any, phases: Tensor, bias: Tensor) -> Tensor:
        return _from_phases(phases, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        batch, channels, height, width = gradient.shape
        h, w = height // 2, width // 2
        parts = gradient.permute(0, 2, 3, 1).reshape(batch, h, 2, w, 2, channels)
        phases = gradient.new_zeros(batch, h + 1, w + 1, 2, 2, channels)
        for p, q in _PHASES:
            phases[:, 1 - p : h + 1 - p, 1 - q : w + 1 - q, p, q] = parts[:, :, 1 - p, :, 1 - q]
        return phases, phases.sum(dim=0, keepdim=True)


_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))


def _from_phases(phases: Tensor, bias: Tensor | None = None) -> Tensor:
    """Phases (B, h + 1, w + 1, 2, 2, C) to a map (B, C, 2 h, 2 w), channels last.

    Phase p holds rows 2 i + p - 1. The first row of phase 0 and the last row of phase 1 lie outside the map.
    """
    batch, h, w = phases.shape[0], phases.shape[1] - 1, phases.shape[2] - 1
    out = phases.new_empty(batch, h, 2, w, 2, phases.shape[-1])
    for p, q in _PHASES:
        rows, columns = slice(1 - p, h + 1 - p), slice(1 - q, w + 1 - q)
        part, place = phases[:, rows, columns, p, q], out[:, :, 1 - p, :, 1 - q]
        if bias is None:
            place.copy_(part)
        elif (
            torch.compiler.is_compiling()
        ):  # compiled code does not support a strided `out`, and does not need it
            place.copy_(part + bias[:, rows, columns, p, q])
        else:
            torch.add(part, bias[:, rows, columns, p, q], out=place)
    return out.view(batch, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)


# In evaluation and with gradients.


def _layers(neck: ConvTransposeNeck) -> tuple[Any, ...]:
    """Upscaling, norm, upscaling, upscaling, norm, upscaling; a GELU follows each norm."""
    (up1, norm1, _, up2), (up3, norm2, _, up4) = neck.fpn1, neck.fpn2
    return up1, norm1, up2, up3, norm2, up4


def _pixels(tokens: Tensor, grid: Grid) -> Tensor:
    """Patch tokens (B, 1 + T*h*w, D) as rows (B*h*w, D*T)."""
    frames, rows, columns = grid
    return rearrange(tokens[:, 1:], "b (t h w) d -> (b h w) (d t)", t=frames, h=rows, w=columns)


def _norm_and_gelu(x: Tensor, norm: NormWeights) -> Tensor:
    """LayerNorm and GELU of pixels, P in each row: (N, P * C) -> (N * P, C), in the type of x.

    Autocast would compute LayerNorm in float32 on CUDA; the statistics are float32 for every type.
    """
    channels = len(norm.weight)
    with torch.autocast(x.device.type, enabled=False):
        x = F.layer_norm(
            x.view(-1, channels), (channels,), norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps
        )
        return F.gelu(x)


def _in_place(x: Tensor, grid: Grid, channels: int) -> Tensor:
    """Pixels (B*h*w*4*16, C) as a map (B, channels, 8 h, 8 w), channels last.

    The first channel after those of the pixels is one, all further channels are zero.
    """
    _, rows, columns = grid
    x = rearrange(
        x,
        "(b h w s t u v r q) c -> b h s u r w t v q c",
        h=rows, w=columns, s=2, t=2, u=2, v=2, r=2, q=2,
    )  # fmt: skip
    more = channels - x.shape[-1]
    if more:
        constant = F.pad(x.new_ones(1), (0, more - 1)).expand(*x.shape[:-1], more)
        x = torch.cat([x, constant], dim=-1)
    return x.reshape(-1, rows * 8, columns * 8, channels).permute(0, 3, 1, 2)


def _affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor and offset of each channel of a batch norm in evaluation."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = bn.weight * (bn.running_var + bn.eps).rsqrt()
    return scale, bn.bias - bn.running_mean * scale


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer.bias, Tensor)
    return layer.bias
