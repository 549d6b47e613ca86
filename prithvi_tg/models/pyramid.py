"""Decoders of segmentation_models_pytorch on the features of any encoder, and a linear probe.

The library's decoders require maps at 1/4, 1/8, 1/16 and 1/32 of the image, and also use one at 1/2, if any. A
pyramid encoder returns such maps. A plain ViT has one scale; four of its layers become a pyramid by transposed
convolutions and pooling, as in ViTDet (Li et al. 2022, arXiv:2203.16527). DPT uses four layers at one scale and
computes its own pyramid.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn

from ..deprecated import old_names
from ..errors import ConfigError
from .decoders import ChannelNorm, token_channels, token_map, upscale
from .encoders.base import Encoder, PyramidEncoder

#: Strides that all decoders of the library except U-Net require.
_STRIDES = (4, 8, 16, 32)


def default_layers(depth: int) -> tuple[int, ...]:
    """Indices of four evenly spaced blocks, including the last: 2, 5, 8, 11 of 12."""
    return tuple(max(0, -(-depth * quarter // 4) - 1) for quarter in (1, 2, 3, 4))


# The library's decoders: channels at strides 1, 2, 4, ... (0 without a map) and of the decoder -> module, its channels.


def _unet(widths: Sequence[int], channels: int, **options: Any) -> tuple[nn.Module, int]:
    blocks = tuple(max(16, channels // 2**block) for block in range(len(widths) - 1))
    return UnetDecoder(widths, blocks, len(blocks), **options), blocks[-1]


def _fpn(widths: Sequence[int], channels: int, **options: Any) -> tuple[nn.Module, int]:
    merged = max(64, channels // 2)
    decoder = FPNDecoder(list(widths), 5, channels, merged, **options)
    return decoder, decoder.out_channels


def _upernet(widths: Sequence[int], channels: int, **options: Any) -> tuple[nn.Module, int]:
    return UPerNetDecoder(widths, 5, channels, **options), channels


def _segformer(widths: Sequence[int], channels: int, **options: Any) -> tuple[nn.Module, int]:
    return SegformerDecoder(list(widths), 5, channels, **options), channels


_LIBRARY: dict[str, Callable[..., tuple[nn.Module, int]]] = {
    "unet": _unet,
    "fpn": _fpn,
    "upernet": _upernet,
    "segformer": _segformer,
}


class LibraryNeck(nn.Module):
    """A decoder of segmentation_models_pytorch as a neck.

    Args:
        name: ``unet``, ``fpn``, ``upernet`` or ``segformer``.
        widths: Channels of the maps at strides 1, 2, 4 and so on, 0 for a stride without a map.
        channels: Channels of the decoder.
        **options: Further arguments of the library's decoder.

    Raises:
        ConfigError: An option is unknown.
    """

    def __init__(self, name: str, widths: Sequence[int], channels: int, **options: Any) -> None:
        super().__init__()
        self.name = name
        try:
            self.decoder, self.out_channels = _LIBRARY[name](widths, channels, **options)
        except TypeError as error:
            raise ConfigError(f"decoder_args: {name}: {error}") from error

    def decode(self, maps: dict[int, Tensor]) -> Tensor:
        """Maps (B, C_i, H / i, W / i) by stride i -> (B, out_channels, H', W').

        Raises:
            ConfigError: A training batch for UPerNet has one sample; its batch norm after pooling needs two.
        """
        coarsest = max(maps)
        batch, _, height, width = maps[coarsest].shape
        if self.name == "upernet" and self.training and batch == 1:
            raise ConfigError(
                "batch_size: upernet cannot be trained on batches of 1, because its batch norm needs 2 or more"
            )
        # The library's decoders also use the shapes of the image and of a map at half its size.
        empty = maps[coarsest].new_empty
        strides = [2**power for power in range(int(math.log2(coarsest)) + 1)]
        sizes = {stride: (height * coarsest // stride, width * coarsest // stride) for stride in strides}
        return self.decoder([maps[s] if s in maps else empty(batch, 0, *sizes[s]) for s in strides])


# Necks for the tokens of a ViT.


class IdentityNeck(nn.Module):
    """Returns the last tokens as a map, for a linear probe.

    Args:
        channels: Width of the encoder times the number of frames.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.halo = 1.0  # for the bilinear upsampling of the logits

    def forward(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, 1 + T*h*w, D) -> (B, D*T, h, w)."""
        return token_map(tokens, grid)


class PatchNeck(IdentityNeck):
    """Returns the last tokens as a map, for a head that computes the pixels of each patch.

    Args:
        channels: Width of the encoder times the number of frames.
        patch_size: Side of a patch in pixels.
    """

    def __init__(self, channels: int, patch_size: int) -> None:
        super().__init__(channels)
        self.patch_size = patch_size

    def create_head(self, num_classes: int) -> nn.Module:
        """The head of this neck."""
        return PatchHead(self.out_channels, num_classes, self.patch_size)


class PatchHead(nn.Module):
    """A linear layer from a token to the logits of all pixels of its patch, the ``LinearDecoder`` of TerraTorch.

    Args:
        in_channels: Channels of the map of tokens.
        num_classes: Number of classes.
        patch_size: Side of a patch in pixels.
    """

    def __init__(self, in_channels: int, num_classes: int, patch_size: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, num_classes, patch_size, stride=patch_size)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> logits (B, K, h * patch, w * patch)."""
        # A matrix product, for the same reason as in `PatchEmbed`.
        weight, (p, q) = self.conv.weight, self.conv.kernel_size
        pixels = F.linear(features.movedim(1, -1), weight.flatten(1).T)
        logits = rearrange(pixels, "b h w (k p q) -> b k (h p) (w q)", p=p, q=q)
        return logits if self.conv.bias is None else logits + self.conv.bias[:, None, None]


class PyramidNeck(LibraryNeck):
    """A decoder of the library on a pyramid of four layers of tokens.

    Args:
        name: ``unet``, ``fpn``, ``upernet`` or ``segformer``.
        in_channels: Width of the encoder times the number of frames.
        depth: Number of blocks of the encoder, which selects the layers, see `default_layers`.
        channels: Channels of the pyramid and the decoder.
        **options: Further arguments of the library's decoder.
    """

    def __init__(self, name: str, in_channels: int, depth: int, channels: int = 256, **options: Any) -> None:
        super().__init__(name, (0, 0, channels, channels, channels, channels), channels, **options)
        self.encoder_layers = default_layers(depth)
        self.projections = _projections(in_channels, channels, len(self.encoder_layers))
        self.scales = _scales(channels)
        self.to(memory_format=torch.channels_last)  # the layout of `token_map`

    def forward(self, layers: Sequence[Tensor], grid: tuple[int, int, int]) -> Tensor:
        """Four times (B, 1 + T*h*w, D) -> (B, out_channels, H', W').

        Raises:
            ConfigError: A training batch for ``upernet`` has one sample.
        """
        maps = _even_maps(self.projections, layers, grid)
        scaled = [scale(x) for scale, x in zip(self.scales, maps, strict=True)]
        return _cropped(self.decode(dict(zip(_STRIDES, scaled, strict=True))), grid)


class DPTNeck(nn.Module):
    """The DPT decoder of the library (Ranftl et al. 2021, arXiv:2103.13413) on four layers of tokens.

    Args:
        in_channels: Width of the encoder times the number of frames.
        depth: Number of blocks of the encoder, which selects the layers, see `default_layers`.
        channels: Channels of the decoder.
    """

    def __init__(self, in_channels: int, depth: int, channels: int = 256) -> None:
        super().__init__()
        self.out_channels = channels
        self.encoder_layers = default_layers(depth)
        self.projections = _projections(in_channels, channels, len(self.encoder_layers))
        self.decoder = DPTDecoder(
            [channels] * 4, [16] * 4, False, "ignore", [channels] * 4, fusion_channels=channels
        )
        self.to(memory_format=torch.channels_last)  # the layout of `token_map`

    def forward(self, layers: Sequence[Tensor], grid: tuple[int, int, int]) -> Tensor:
        """Four times (B, 1 + T*h*w, D) -> (B, channels, H', W')."""
        maps = _even_maps(self.projections, layers, grid)
        return _cropped(self.decoder(maps, [None] * len(maps)), grid)


def _projections(in_channels: int, channels: int, layers: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(in_channels, channels, 1) for _ in range(layers))


def _even_maps(
    projections: nn.ModuleList, layers: Sequence[Tensor], grid: tuple[int, int, int]
) -> list[Tensor]:
    """Layers of tokens as maps, padded to even grids, so that they can be halved and doubled."""
    _, rows, columns = grid
    padding = (0, columns % 2, 0, rows % 2)
    maps = [project(token_map(x, grid)) for project, x in zip(projections, layers, strict=True)]
    return [F.pad(x, padding, mode="replicate") for x in maps] if any(padding) else maps


def _cropped(features: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Features without the padding of `_even_maps`."""
    _, rows, columns = grid
    factor = features.shape[-1] // (columns + columns % 2)
    return features[..., : rows * factor, : columns * factor]


def _scales(channels: int) -> nn.ModuleList:
    """Modules that resize maps from 1/16 of the image to 1/4, 1/8, 1/16 and 1/32."""
    return nn.ModuleList(
        (
            nn.Sequential(
                upscale(channels, channels), ChannelNorm(channels), nn.GELU(), upscale(channels, channels)
            ),
            upscale(channels, channels),
            nn.Identity(),
            nn.MaxPool2d(2),
        )
    )


# Necks for the maps of a pyramid encoder.


class LastMapNeck(nn.Module):
    """Returns the last map of a pyramid encoder, for a linear probe.

    Args:
        channels: Channels of the last map times the number of frames.
    """

    encoder_layers = (-1,)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, maps: Sequence[Tensor], grid: tuple[int, int, int]) -> Tensor:
        """A list of one map (B, C*T, h, w) -> this map."""
        return maps[0]


class MapNeck(LibraryNeck):
    """A decoder of the library on the maps of a pyramid encoder.

    Args:
        name: ``unet``, ``fpn``, ``upernet`` or ``segformer``.
        encoder: Encoder of the maps; of several maps at one stride, the last is used.
        num_frames: Number of dates in a sample.
        channels: Channels of the decoder.
        **options: Further arguments of the library's decoder.

    Raises:
        ConfigError: The encoder lacks a map that the decoder requires.
    """

    def __init__(
        self, name: str, encoder: PyramidEncoder, num_frames: int, channels: int = 256, **options: Any
    ) -> None:
        layers = {stride: index for index, stride in enumerate(encoder.strides) if stride > 1}
        powers = [2**power for power in range(1, int(math.log2(max(layers, default=1))) + 1)]
        missing = (set(_STRIDES) if name != "unet" else set()) - set(layers)
        if missing or not set(layers) <= set(powers):
            raise ConfigError(
                f"decoder: {name} needs maps at strides {', '.join(map(str, _STRIDES))}, but the encoder returns "
                f"{', '.join(map(str, encoder.strides))}; choose unet or linear, or another encoder"
            )
        channels_at = {stride: encoder.num_features[index] * num_frames for stride, index in layers.items()}
        super().__init__(name, [0, *(channels_at.get(stride, 0) for stride in powers)], channels, **options)
        self.strides = tuple(sorted(layers))
        self.encoder_layers = tuple(layers[stride] for stride in self.strides)

    def forward(self, maps: Sequence[Tensor], grid: tuple[int, int, int]) -> Tensor:
        """(B, C_i * T, H / stride_i, W / stride_i) by stride -> (B, out_channels, H', W').

        Raises:
            ConfigError: A training batch for ``upernet`` has one sample.
        """
        return self.decode(dict(zip(self.strides, maps, strict=True)))


# Functions for the table of decoders, see `prithvi_tg.models.create_decoder`.


def linear_decoder(encoder: Encoder, num_frames: int, channels: int) -> IdentityNeck | LastMapNeck:
    """A neck that returns the last feature of any encoder as a map."""
    kind = LastMapNeck if isinstance(encoder, PyramidEncoder) else IdentityNeck
    return kind(encoder.embed_dim * num_frames)


def patch_linear_decoder(encoder: Encoder, num_frames: int, channels: int) -> PatchNeck:
    """A neck for a linear layer from each token of a ViT to the pixels of its patch."""
    return PatchNeck(token_channels("patch_linear", encoder, num_frames), encoder.patch_size)


def library_decoder(
    name: str, encoder: Encoder, num_frames: int, channels: int, **options: Any
) -> PyramidNeck | MapNeck:
    """A decoder of the library for any encoder; options are those of the library's decoder."""
    if isinstance(encoder, PyramidEncoder):
        return MapNeck(name, encoder, num_frames, channels, **options)
    depth = len(encoder.num_features)
    return PyramidNeck(name, token_channels(name, encoder, num_frames), depth, channels, **options)


def dpt_decoder(encoder: Encoder, num_frames: int, channels: int) -> DPTNeck:
    """DPT for a ViT."""
    return DPTNeck(token_channels("dpt", encoder, num_frames), len(encoder.num_features), channels)


__getattr__ = old_names(__name__)
