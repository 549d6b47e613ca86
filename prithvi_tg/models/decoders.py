"""Necks and heads of hls-foundation-os, with its parameter names.

A neck converts patch tokens to a feature map at image resolution; a head converts the map to logits.
"""

import itertools
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..errors import ConfigError
from .encoders.base import Encoder, TokenEncoder

#: Side of the square of pixels that a published neck computes from a token.
PIXELS_PER_TOKEN = 16


def token_channels(name: str, encoder: Encoder, num_frames: int) -> int:
    """Number of channels of a map of the tokens of all frames.

    Raises:
        ConfigError: The encoder returns no tokens.
    """
    if not isinstance(encoder, TokenEncoder):
        strides = ", ".join(map(str, encoder.strides))
        raise ConfigError(
            f"decoder: {name} needs the tokens of a ViT, but the encoder returns maps at strides {strides}; choose "
            "unet, fpn, upernet, segformer or linear"
        )
    return encoder.embed_dim * num_frames


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of a (B, C, H, W) map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return rearrange(self.ln(rearrange(x, "b c h w -> b h w c")), "b h w c -> b c h w")


def token_map(tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Patch tokens (B, 1 + T*h*w, D) -> (B, D*T, h, w); channel = d*T + t, as the published necks expect.

    Channels are last in memory, the fastest layout for convolutions.
    """
    frames, rows, columns = grid
    pixels = rearrange(tokens[:, 1:], "b (t h w) d -> b h w (d t)", t=frames, h=rows, w=columns)
    return pixels.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def crop_tokens(
    tokens: Tensor, grid: tuple[int, int, int], rows: slice, columns: slice
) -> tuple[Tensor, tuple[int, int, int]]:
    """The class token and the patch tokens of some rows and columns of the grid, and the grid of these tokens."""
    frames, height, width = grid
    patches = rearrange(tokens[:, 1:], "b (t h w) d -> b t h w d", t=frames, h=height, w=width)
    patches = patches[:, :, rows, columns]
    cropped = (frames, patches.shape[2], patches.shape[3])
    return torch.cat([tokens[:, :1], rearrange(patches, "b t h w d -> b (t h w) d")], dim=1), cropped


def upscale(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Transposed convolution to twice the resolution."""
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)


class ConvTransposeNeck(nn.Module):
    """Four transposed convolutions, 16 x upsampling (``ConvTransformerTokensToEmbeddingNeck`` of hls-foundation-os).

    Args:
        channels: Width of the encoder times the number of frames; the same in every layer.
    """

    head_convs = 1
    auxiliary_convs = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.halo = 0.0  # distance, in tokens, up to which tokens influence a pixel
        self.fpn1 = self._stage(channels)
        self.fpn2 = self._stage(channels)

    @staticmethod
    def _stage(channels: int) -> nn.Sequential:
        return nn.Sequential(
            upscale(channels, channels), ChannelNorm(channels), nn.GELU(), upscale(channels, channels)
        )

    def forward(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, 1 + T*h*w, D) -> (B, D*T, 16 h, 16 w)."""
        return self.fpn2(self.fpn1(token_map(tokens, grid)))


class GeospatialNeck(nn.Module):
    """Blocks of a transposed convolution and 3 x 3 convolutions; each block has half the channels of the one before.

    Args:
        channels: Width of the encoder times the number of frames.
        first_channels: Channels of the first block.
        num_blocks: Number of blocks; each doubles the resolution.
        convs_per_block: Number of 3 x 3 convolutions (with batch norm and ReLU) after each transposed one.
        dropout: Dropout rate after each batch norm; 0 omits the layer.
    """

    head_convs = 1
    auxiliary_convs = 2

    def __init__(
        self,
        channels: int,
        first_channels: int = 256,
        num_blocks: int = 4,
        convs_per_block: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [channels] + [first_channels // 2**block for block in range(num_blocks)]
        self.out_channels = widths[-1]
        # Each 3 x 3 convolution adds one pixel; the pixels of each block are half as large as those of the one before.
        self.halo = convs_per_block * (1 - 0.5**num_blocks)
        self.layers = nn.ModuleList(
            nn.Sequential(
                upscale(before, after), *(self._conv(after, dropout) for _ in range(convs_per_block))
            )
            for before, after in itertools.pairwise(widths)
        )
        self.to(memory_format=torch.channels_last)  # the layout of `token_map`

    @staticmethod
    def _conv(channels: int, dropout: float) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)]
        if dropout:
            layers.append(nn.Dropout(dropout))
        return nn.Sequential(*layers, nn.ReLU())

    def forward(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, 1 + T*h*w, D) -> (B, out_channels, 2^n h, 2^n w)."""
        features = token_map(tokens, grid)
        for layer in self.layers:
            features = layer(features)
        return features


def conv_transpose_decoder(encoder: Encoder, num_frames: int, channels: int) -> ConvTransposeNeck:
    """The published neck, see `prithvi_tg.models.create_decoder`."""
    return ConvTransposeNeck(token_channels("conv_transpose", encoder, num_frames))


def geospatial_decoder(encoder: Encoder, num_frames: int, channels: int, **arguments: Any) -> GeospatialNeck:
    """The neck of the published geospatial models, see `prithvi_tg.models.create_decoder`."""
    return GeospatialNeck(token_channels("geospatial", encoder, num_frames), **arguments)


class ConvBNReLU(nn.Module):
    """3 x 3 convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        return self.act(self.bn(self.conv(x)))


class FCNHead(nn.Module):
    """Convolutions, dropout of whole channels, and a 1 x 1 convolution to the classes.

    Args:
        in_channels: Channels of the neck.
        num_classes: Number of classes.
        channels: Channels of the convolutions.
        num_convs: Number of 3 x 3 convolutions.
        dropout: Rate of the channel dropout.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: int = 256,
        num_convs: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [channels] * num_convs
        self.convs = nn.Sequential(
            *(ConvBNReLU(before, after) for before, after in itertools.pairwise(widths))
        )
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(widths[-1], num_classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        self.conv_seg.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K, H, W)."""
        return self.conv_seg(self.dropout(self.convs(features)))
