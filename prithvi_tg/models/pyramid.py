"""Decoders of segmentation_models_pytorch on a feature pyramid of intermediate tokens, and a linear probe.

The library's decoders expect maps at 1/4, 1/8, 1/16 and 1/32 of the image. A plain ViT has one scale, so the
pyramid is made from four layers by transposed convolutions and pooling, as in ViTDet (Li et al. 2022,
arXiv:2203.16527). DPT takes its four layers at one scale and makes its own pyramid.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn

from ..deprecated import old_names
from ..errors import ConfigError
from .decoders import ChannelNorm, token_map, upscale

#: Names of the library's decoders.
PYRAMID_DECODERS = ("unet", "fpn", "upernet", "segformer", "dpt")


def default_layers(depth: int) -> tuple[int, ...]:
    """Four blocks, evenly spread and ending with the last: 2, 5, 8, 11 of 12."""
    return tuple(max(0, -(-depth * quarter // 4) - 1) for quarter in (1, 2, 3, 4))


class IdentityNeck(nn.Module):
    """No neck at all: the last tokens as a map, for a linear probe.

    Args:
        channels: Width of the encoder times the number of frames.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.halo = 1.0  # of the bilinear upsampling that follows

    def forward(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, 1 + T*h*w, D) -> (B, D*T, h, w)."""
        return token_map(tokens, grid)


class PyramidNeck(nn.Module):
    """A decoder of segmentation_models_pytorch as a neck.

    Args:
        name: One of `PYRAMID_DECODERS`.
        in_channels: Width of the encoder times the number of frames.
        depth: Blocks of the encoder; tells which layers are used, see `default_layers`.
        channels: Channels of the pyramid and the decoder.
    """

    def __init__(self, name: str, in_channels: int, depth: int, channels: int = 256) -> None:
        super().__init__()
        self.name = name
        self.encoder_layers = default_layers(depth)
        self.projections = nn.ModuleList(nn.Conv2d(in_channels, channels, 1) for _ in self.encoder_layers)
        self.scales = nn.ModuleList() if name == "dpt" else _scales(channels)
        widths = (0, 0, channels, channels, channels, channels)
        self.out_channels = channels
        if name == "unet":
            blocks = tuple(max(16, channels // 2**block) for block in range(5))
            self.decoder: nn.Module = UnetDecoder(widths, blocks)
            self.out_channels = blocks[-1]
        elif name == "fpn":
            self.decoder = FPNDecoder(list(widths), 5, channels, max(64, channels // 2))
            self.out_channels = max(64, channels // 2)
        elif name == "upernet":
            self.decoder = UPerNetDecoder(widths, 5, channels)
        elif name == "segformer":
            self.decoder = SegformerDecoder(list(widths), 5, channels)
        elif name == "dpt":
            self.decoder = DPTDecoder(
                [channels] * 4, [16] * 4, False, "ignore", [channels] * 4, fusion_channels=channels
            )
        else:
            raise ConfigError(f"decoder: {name!r} is unknown; known are {', '.join(PYRAMID_DECODERS)}")
        self.to(memory_format=torch.channels_last)  # as the tokens are

    def forward(self, layers: Sequence[Tensor], grid: tuple[int, int, int]) -> Tensor:
        """Four times (B, 1 + T*h*w, D) -> (B, out_channels, H', W').

        Raises:
            ConfigError: One sample in training, where UPerNet's pooled batch norm sees one value.
        """
        _, rows, columns = grid
        # Halving and doubling again needs even grids.
        padding = (0, columns % 2, 0, rows % 2)
        maps = [project(token_map(x, grid)) for project, x in zip(self.projections, layers, strict=True)]
        if any(padding):
            maps = [F.pad(x, padding, mode="replicate") for x in maps]
        features = self._decode(maps)
        factor = features.shape[-1] // (columns + columns % 2)
        return features[..., : rows * factor, : columns * factor]

    def _decode(self, maps: list[Tensor]) -> Tensor:
        if self.name == "dpt":
            return self.decoder(maps, [None] * len(maps))
        if self.name == "upernet" and self.training and len(maps[0]) == 1:
            raise ConfigError(
                "batch_size: upernet cannot be trained on batches of 1, its batch norm needs 2 or more"
            )
        pyramid = [scale(x) for scale, x in zip(self.scales, maps, strict=True)]
        batch, _, height, width = pyramid[0].shape
        # The library's decoders also look at the shapes of the image and of a map at half its size.
        shapes = [pyramid[0].new_empty(batch, 0, height * f, width * f) for f in (4, 2)]
        return self.decoder([*shapes, *pyramid])


def _scales(channels: int) -> nn.ModuleList:
    """From 1/16 of the image to 1/4, 1/8, 1/16 and 1/32."""
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


__getattr__ = old_names(__name__)
