"""Exact algebra that makes the published decoders cheap: the same function of the same parameters.

A transposed convolution with nothing but a linear layer after it need not be computed for itself.

- Transposed convolution (kernel 2, stride 2), then 3 x 3 convolution: what a pixel of the input adds to the
  output is a patch of 4 x 4 pixels, its *response*; together they are one transposed convolution with kernel 4,
  stride 2 and padding 1. That is computed as a 2 x 2 convolution whose outputs are the four *phases* (even and
  odd rows and columns) of the image, one pixel larger than needed. The feature map at full resolution, wider
  than all that follows, is never made. The bias of the transposed convolution is a further channel of ones: the
  zeros that the second convolution puts around the image then are right by themselves.
- Two transposed convolutions (kernel 2, stride 2) are one with kernel 4 and stride 4.
- Transposed convolutions whose kernel is their stride, LayerNorm over channels and GELU are functions of one
  pixel: all that a neck does before its last upscaling is a matrix product per token, and pixels are put in
  place once.

`GeospatialNeck` is left as it is: its 3 x 3 convolutions have as many inputs as outputs, so that there is
little to save (a quarter of the operations in three blocks, none in the first), and its blocks are faster apart.

In evaluation batch norm is folded into the weights, and these are cached within `cached_weights`. In training they
are computed from the parameters at each step, so that gradients, state dict and optimiser are those of the
plain modules; what is cheap but wide (phases, batch norm, ReLU) is computed again in the backward pass.
"""

from collections.abc import Callable, Sequence
from typing import Any

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
    """What each input channel of an upscaling adds to the output of the 3 x 3 convolution after it.

    Args:
        upscale: Kernel 2, stride 2, from I channels to C.
        weight: Of the convolution, (O, C, 3, 3).

    Returns:
        (I + 1, O, 4, 4), in float32 whatever autocast says; the last is that of a channel of ones, which
        stands for the bias of the upscaling.
    """
    with torch.autocast(weight.device.type, enabled=False):
        ones = _bias(upscale)[None, :, None, None].expand(1, -1, 2, 2)
        taps = torch.cat([upscale.weight, ones])
        # All pairs of taps in one matrix product, then each to its place.
        pairs = rearrange(weight, "o c u v -> (o u v) c") @ rearrange(taps, "i c s t -> c (i s t)")
        parts = rearrange(pairs, "(o u v) (i s t) -> u v i o s t", u=3, v=3, s=2, t=2)
        rows = sum((F.pad(parts[u], (0, 0, 2 - u, u)) for u in range(3)), start=parts.new_zeros(()))
        return sum((F.pad(rows[v], (2 - v, v)) for v in range(3)), start=parts.new_zeros(()))


def phase_kernel(responses: Tensor) -> Tensor:
    """The 2 x 2 convolution, (4 * O, I, 2, 2), whose outputs are the phases of responses (I, O, 4, 4)."""
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


class FusedDecoder:
    """A `ConvTransposeNeck` and the `FCNHead` modules on it, computed together.

    It has no parameters of its own; calling it is calling the modules.

    Args:
        neck: The neck.
    """

    def __init__(self, neck: ConvTransposeNeck) -> None:
        self.neck = neck

    @staticmethod
    def can_run(neck: nn.Module, heads: Sequence[nn.Module]) -> bool:
        """Whether the function of these modules is known here: no part is replaced, subclassed or hooked."""
        if type(neck) is not ConvTransposeNeck or any(type(head) is not FCNHead for head in heads):
            return False
        if not all(len(head.convs) for head in heads):  # type: ignore[arg-type]
            return False
        parts = [part for module in (neck, *heads) for part in module.modules()]
        if any(isinstance(part, nn.BatchNorm2d) and part.momentum is None for part in parts):
            return False
        return all(type(part) in _KNOWN and not has_forward_hooks(part) for part in parts)

    def __call__(self, tokens: Tensor, grid: Grid, heads: Sequence[FCNHead]) -> list[Tensor]:
        """Logits of each head.

        Args:
            tokens: (B, 1 + T*h*w, D).
            grid: T, h, w.
            heads: On the neck's features.

        Returns:
            One (B, K, 16 h, 16 w) per head.
        """
        frames, rows, columns = grid
        x = rearrange(tokens[:, 1:], "b (t h w) d -> (b h w) (d t)", t=frames, h=rows, w=columns)
        training = any(part.training for head in heads for part in head.modules())
        if torch.is_grad_enabled() or training:
            return self._differentiable(x, (rows, columns), heads)
        return [self._evaluate(x, (rows, columns), head) for head in heads]

    # Both.

    def _layers(self) -> tuple[Any, ...]:
        """Upscaling, norm, upscaling, upscaling, norm, upscaling; a GELU follows each norm."""
        (up1, norm1, _, up2), (up3, norm2, _, up4) = self.neck.fpn1, self.neck.fpn2
        return up1, norm1, up2, up3, norm2, up4

    @staticmethod
    def _in_place(x: Tensor, size: tuple[int, int], ones: bool) -> Tensor:
        """Pixels (B*h*w*4*16, C) as a map (B, C, 8 h, 8 w), or C + 1 channels with one of ones."""
        rows, columns = size
        x = rearrange(
            x,
            "(b h w s t u v r q) c -> b h s u r w t v q c",
            h=rows, w=columns, s=2, t=2, u=2, v=2, r=2, q=2,
        )  # fmt: skip
        shape = (len(x), rows, 2, 2, 2, columns, 2, 2, 2, x.shape[-1] + ones)
        if ones:
            placed = x.new_ones(shape)
            placed[..., :-1] = x
        else:
            placed = x.contiguous()
        return placed.view(-1, rows * 8, columns * 8, shape[-1]).permute(0, 3, 1, 2)  # channels last

    # In evaluation.

    def _evaluate(self, x: Tensor, size: tuple[int, int], head: FCNHead) -> Tensor:
        _, norm1, _, _, norm2, _ = self._layers()
        w1, b1, w2, b2, kernel, bias, w_seg, b_seg = self._weights(head, x)
        x = _norm_and_gelu(F.linear(x, w1, b1).view(-1, norm1.ln.normalized_shape[0]), norm1)
        x = _norm_and_gelu(F.linear(x, w2, b2).view(-1, norm2.ln.normalized_shape[0]), norm2)
        x = F.conv2d(self._in_place(x, size, ones=True), kernel, bias, padding=1).relu_()
        phases = rearrange(x, "b (p q c) h w -> b h w p q c", p=2, q=2)
        if len(head.convs) > 1:
            x = _from_phases(phases)
            return head.conv_seg(head.convs[1:](x))
        return _from_phases(F.linear(phases, w_seg, b_seg))

    def _weights(self, head: FCNHead, x: Tensor) -> list[Tensor]:
        """The fused weights, in the type that they are used in."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        cache = active_cache()
        if cache is None:
            return self._compute_weights(head, dtype)
        tensors = [*self.neck.state_dict(keep_vars=True).values(), *head.state_dict(keep_vars=True).values()]
        weights: list[Tensor] = cache.get(
            (self.neck, head, dtype), tensors, lambda: self._compute_weights(head, dtype)
        )
        return weights

    def _compute_weights(self, head: FCNHead, dtype: torch.dtype) -> list[Tensor]:
        up1, _, up2, up3, _, up4 = self._layers()
        first: ConvBNReLU = head.convs[0]  # type: ignore[assignment]
        scale, shift = _affine(first.bn)
        kernel = phase_kernel(response(up4, first.conv.weight * scale[:, None, None, None]))
        weights = [
            *upscale_weights(up1),
            *pair_weights(up2, up3),
            kernel.contiguous(memory_format=torch.channels_last),
            shift.repeat(4),
            head.conv_seg.weight.flatten(1),
            _bias(head.conv_seg),
        ]
        return [weight.to(dtype) for weight in weights]

    # With gradients.

    def _differentiable(self, x: Tensor, size: tuple[int, int], heads: Sequence[FCNHead]) -> list[Tensor]:
        up1, norm1, up2, up3, norm2, up4 = self._layers()
        x = F.linear(x, *upscale_weights(up1)).view(-1, up1.out_channels)
        x = checkpoint(_norm_and_gelu, x, norm1, use_reentrant=False)
        # Composing these two takes as long as it saves in a batch of four.
        x = F.linear(x, *upscale_weights(up2)).view(-1, up2.out_channels)
        x = F.linear(x, *upscale_weights(up3)).view(-1, up3.out_channels)
        x = self._in_place(checkpoint(_norm_and_gelu, x, norm2, use_reentrant=False), size, ones=False)
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
    """``relu(bn(before(*inputs)))``, then the logits if a head is given; nothing but the inputs is stored."""
    mean, variance = bn.running_mean, bn.running_var
    momentum = bn.momentum
    assert mean is not None
    assert variance is not None
    assert momentum is not None
    new = mean.clone(), variance.clone()  # the second pass must not count into the running statistics
    classes = None
    if head is not None:
        # Dropping a channel of an image is dropping a column of the matrix that makes its logits.
        wanted = head.dropout(inputs[0].new_ones(len(inputs[0]), bn.num_features, 1, 1))
        classes = head.conv_seg.weight.flatten(1) * wanted.flatten(1)[:, None]

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
    """Phases (B, h + 1, w + 1, 2, 2, C) plus a bias for all of a batch to a map (B, C, 2 h, 2 w)."""

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

    Phase p of rows holds rows 2 i + p - 1: of the first its first one and of the second its last one lie outside.
    """
    batch, h, w = len(phases), phases.shape[1] - 1, phases.shape[2] - 1
    out = phases.new_empty(batch, h, 2, w, 2, phases.shape[-1])
    for p, q in _PHASES:
        rows, columns = slice(1 - p, h + 1 - p), slice(1 - q, w + 1 - q)
        part, place = phases[:, rows, columns, p, q], out[:, :, 1 - p, :, 1 - q]
        if bias is None:
            place.copy_(part)
        else:
            torch.add(part, bias[:, rows, columns, p, q], out=place)
    return out.view(batch, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)


def _norm_and_gelu(x: Tensor, norm: ChannelNorm) -> Tensor:
    return F.gelu(norm.ln(x))


def _affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Batch norm in evaluation, as a factor and an offset of each channel."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = bn.weight * (bn.running_var + bn.eps).rsqrt()
    return scale, bn.bias - bn.running_mean * scale


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer.bias, Tensor)
    return layer.bias
