"""PrithviViT: the encoder of Prithvi, and the table of its variants.

The architecture (Jakubik et al. 2023, arXiv:2310.18660) is a ViT over patches of one frame each, with a fixed
sine-cosine table for time, row and column.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...bands import PRITHVI_BANDS
from ...deprecated import old_names
from ...errors import ConfigError, counted
from .base import GroupMatcher, TokenEncoder


@dataclass(frozen=True)
class EncoderVariant:
    """One row of the table of encoders.

    Attributes:
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads of a block.
        patch_size: Side of a patch in pixels.
        num_frames: Number of frames in pre-training; the model accepts any number.
        num_bands: Number of bands of a frame.
        coordinates: Whether the encoder also encodes time and place of the image (the ``TL`` models).
        first_day: Number of 1 January in the time encoding. Public sources disagree about the published models: their
            README gives days 1 to 365, common loaders count from 0.
        repo: Repository of the published weights on the Hugging Face hub.
        file: File of the weights in that repository.
    """

    width: int
    depth: int
    num_heads: int
    patch_size: int = 16
    num_frames: int = 1
    num_bands: int = 6
    coordinates: bool = False
    first_day: int = 1
    repo: str | None = None
    file: str | None = None


_HUB = "ibm-nasa-geospatial"


def _eo_v2(name: str, width: int, depth: int, num_heads: int, patch_size: int = 16) -> EncoderVariant:
    return EncoderVariant(
        width,
        depth,
        num_heads,
        patch_size,
        num_frames=1 if name.startswith("tiny") else 4,
        coordinates=name.endswith("TL"),
        repo=f"{_HUB}/Prithvi-EO-2.0-{name}",
        file=f"Prithvi_EO_V2_{name.replace('-', '_')}.pt",
    )


#: Published encoders, and ``nano``, a small one for tests, demos and training from scratch.
VARIANTS: dict[str, EncoderVariant] = {
    "nano": EncoderVariant(128, 4, 4),
    "prithvi_eo_v1_100m": EncoderVariant(
        768, 12, 12, num_frames=3, repo=f"{_HUB}/Prithvi-EO-1.0-100M", file="Prithvi_EO_V1_100M.pt"
    ),
    "prithvi_eo_v2_tiny_tl": _eo_v2("tiny-TL", 192, 12, 3),
    "prithvi_eo_v2_100m_tl": _eo_v2("100M-TL", 768, 12, 12),
    "prithvi_eo_v2_300m": _eo_v2("300M", 1024, 24, 16),
    "prithvi_eo_v2_300m_tl": _eo_v2("300M-TL", 1024, 24, 16),
    "prithvi_eo_v2_600m": _eo_v2("600M", 1280, 32, 16, patch_size=14),
    "prithvi_eo_v2_600m_tl": _eo_v2("600M-TL", 1280, 32, 16, patch_size=14),
}


def encoder_variant(name: str, **overrides: Any) -> EncoderVariant:
    """A row of `VARIANTS` with some values replaced.

    Raises:
        ConfigError: The name or an override is unknown, or the values contradict each other.
    """
    if name not in VARIANTS:
        raise ConfigError(f"encoder: {name!r} is unknown; choose from {', '.join(VARIANTS)}")
    try:
        variant = replace(VARIANTS[name], **overrides)
    except TypeError as error:
        known = ", ".join(EncoderVariant.__dataclass_fields__)
        raise ConfigError(f"encoder_args: {error}; choose from {known}") from error
    if variant.width % 16:
        raise ConfigError(f"encoder_args.width: {variant.width} must be a multiple of 16")
    if variant.width % variant.num_heads:
        raise ConfigError(
            f"encoder_args.num_heads: {variant.num_heads} heads do not divide a width of {variant.width}"
        )
    return variant


def prithvi_encoder(
    name: str, drop_path: float = 0.0, gradient_checkpointing: bool = False, **overrides: Any
) -> "PrithviViT":
    """Create a Prithvi encoder with random weights.

    Args:
        name: A key of `VARIANTS`.
        drop_path: Highest stochastic depth rate; the rate rises linearly from 0 over the blocks.
        gradient_checkpointing: Recompute each block in the backward pass instead of storing its activations.
        **overrides: Fields of `EncoderVariant` (``depth=6, num_heads=8``).

    Raises:
        ConfigError: The name or an override is unknown.
    """
    return PrithviViT(encoder_variant(name, **overrides), drop_path, gradient_checkpointing)


class PatchEmbed(nn.Module):
    """Patches to tokens: a convolution with one patch of one frame as kernel and stride."""

    def __init__(self, num_bands: int, width: int, patch_size: int) -> None:
        super().__init__()
        kernel = (1, patch_size, patch_size)
        self.proj = nn.Conv3d(num_bands, width, kernel_size=kernel, stride=kernel)

    def forward(self, image: Tensor) -> Tensor:
        """(B, T, C, H, W) -> (B, T*h*w, D), tokens in order t, h, w."""
        p, q = self.proj.kernel_size[1:]
        pixels = rearrange(image, "b t c (h p) (w q) -> b (t h w) (c p q)", p=p, q=q)
        # A matrix product, as oneDNN 3.12 with AMX returns wrong numbers for bfloat16 convolutions with kernel and
        # stride 16. It has the precision of the image even under autocast: the cost is low, and reflectances are not
        # rounded.
        with torch.autocast(image.device.type, enabled=False):
            return F.linear(pixels.to(self.proj.weight.dtype), self.proj.weight.flatten(1), self.proj.bias)


class CoordinateEncoding(nn.Module):
    """Encodes two numbers as sines and cosines, half the width each, times a learnt scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, pairs: Tensor) -> Tensor:
        """(..., 2) -> (..., D); zero if one of the numbers is NaN, that is, unknown."""
        # float32 even under autocast: bfloat16 rounds the year 2018 to 2016.
        with torch.autocast(pairs.device.type, enabled=False):
            half = self.width // 2
            rates = 10000.0 ** -(torch.arange(half // 2, device=pairs.device) / (half / 2))
            angles = pairs.float().nan_to_num()[..., None] * rates
            encoded = torch.cat((angles.sin(), angles.cos()), dim=-1).flatten(-2)
            known = ~pairs.isnan().any(dim=-1, keepdim=True)
            return self.scale.float() * encoded * known


def add_coordinates(
    tokens: Tensor,
    grid: tuple[int, int, int],
    time_encoding: CoordinateEncoding,
    place_encoding: CoordinateEncoding,
    timestamps: Tensor | None,
    location: Tensor | None,
    first_day: int,
) -> Tensor:
    """Add encoded dates and places to patch tokens (B, T*h*w, D); ``None`` and NaN add nothing.

    Args:
        tokens: Patch tokens in order t, h, w, without class token.
        grid: Frames, rows and columns of patches.
        time_encoding: Encoding of dates.
        place_encoding: Encoding of places.
        timestamps: (B, T, 2), year and day of year 1..366.
        location: (B, 2), latitude and longitude in degrees.
        first_day: Number of 1 January in the time encoding.
    """
    if timestamps is not None:
        days = timestamps + timestamps.new_tensor((0, first_day - 1))
        tokens = tokens + time_encoding(days).repeat_interleave(grid[1] * grid[2], dim=1).to(tokens.dtype)
    if location is not None:
        tokens = tokens + place_encoding(location)[:, None].to(tokens.dtype)
    return tokens


class PrithviViT(TokenEncoder):
    """The Prithvi encoder.

    Parameter names are those of the published checkpoints. The position table is not learnt; it is computed for the
    frames and grid of each image.

    Args:
        variant: Width, depth and other sizes; see `VARIANTS`.
        drop_path: Highest stochastic depth rate; the rate rises linearly from 0 over the blocks.
        gradient_checkpointing: Recompute each block in the backward pass instead of storing its activations.
    """

    input_weights = ("patch_embed.proj.weight",)
    pretrained_bands = PRITHVI_BANDS

    def __init__(
        self, variant: EncoderVariant, drop_path: float = 0.0, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        self.variant = variant
        self.patch_size = variant.patch_size
        self.width = variant.width
        self.num_bands = variant.num_bands
        self.num_features = (variant.width,) * variant.depth
        self.strides = (variant.patch_size,) * variant.depth
        if variant.repo and variant.file:
            self.pretrained = f"hf://{variant.repo}/{variant.file}"
        self.patch_embed = PatchEmbed(variant.num_bands, variant.width, variant.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, variant.width))
        if variant.coordinates:
            self.temporal_embed_enc = CoordinateEncoding(variant.width)
            self.location_embed_enc = CoordinateEncoding(variant.width)
            self.coordinates = {"timestamps": "temporal_embed_enc", "location": "location_embed_enc"}
        norm_layer: Any = partial(nn.LayerNorm, eps=1e-5)
        rates = [drop_path * block / max(1, variant.depth - 1) for block in range(variant.depth)]
        self.blocks = nn.ModuleList(
            Block(variant.width, variant.num_heads, qkv_bias=True, norm_layer=norm_layer, drop_path=rate)
            for rate in rates
        )
        self.norm = nn.LayerNorm(variant.width, eps=1e-5)
        self._init_weights()

    def _init_weights(self) -> None:
        """Initialise as masked autoencoders (He et al. 2021, arXiv:2111.06377)."""
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(self.width, -1))
        self.patch_embed.proj.bias.data.zero_()  # type: ignore[union-attr]
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def group_matcher(self) -> GroupMatcher:
        """Groups: the embeddings, then each block; the final norm belongs to the decoder."""
        return {"stem": r"cls_token|patch_embed|\w+_embed_enc", "blocks": r"blocks\.(\d+)\."}

    def embed(
        self, image: Tensor, timestamps: Tensor | None = None, location: Tensor | None = None
    ) -> Tensor:
        """Tokens with their positions (B, 1 + T*h*w, D), class token first; arguments as in `forward_features`."""
        image = self.frames(image)
        grid = self.grid(image)
        tokens = self.patch_embed(image)
        table = constant_table(self.width, *grid, tokens.device).to(tokens.dtype)
        cls_token = (self.cls_token + table[:1]).expand(tokens.shape[0], -1, -1)
        tokens = tokens + table[1:]
        if self.variant.coordinates:
            encodings = self.temporal_embed_enc, self.location_embed_enc
            tokens = add_coordinates(tokens, grid, *encodings, timestamps, location, self.variant.first_day)
        return torch.cat((cls_token.to(tokens.dtype), tokens), dim=1)

    def forward_features(  # type: ignore[override]  # the base class takes any coordinates
        self, image: Tensor, timestamps: Tensor | None = None, location: Tensor | None = None
    ) -> Tensor:
        """Normalised tokens.

        Only encoders with ``coordinates`` use time and place; missing or NaN values are ignored.

        Args:
            image: (B, T, C, H, W), or (B, C, H, W) for one frame; H and W multiples of the patch.
            timestamps: (B, T, 2), year and day of year 1..366.
            location: (B, 2), latitude and longitude in degrees.

        Returns:
            (B, 1 + T*h*w, D), class token first, then patches in order t, h, w.
        """
        return self.forward_tokens(self.embed(image, timestamps, location))

    def forward_tokens(self, tokens: Tensor) -> Tensor:
        """Run all blocks and the final norm on tokens of `embed`, or on any of them, (B, N, D) -> (B, N, D)."""
        for block in self.blocks:
            tokens = self._run(block, tokens)
        return self.norm(tokens)

    def _run(self, block: nn.Module, tokens: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, tokens, use_reentrant=False)
        return block(tokens)

    def forward_intermediates(  # type: ignore[override]
        self,
        image: Tensor,
        indices: Sequence[int],
        norm: bool = False,
        timestamps: Tensor | None = None,
        location: Tensor | None = None,
    ) -> list[Tensor]:
        """Tokens after some of the blocks; as timm's `forward_intermediates`.

        Args:
            image: As in `forward_features`.
            indices: Indices of blocks, counted from 0, or negative from the end.
            norm: Apply the final norm of the encoder to each.
            timestamps: As in `forward_features`.
            location: As in `forward_features`.

        Returns:
            One (B, 1 + T*h*w, D) per index, in the order given.

        Raises:
            ConfigError: The encoder has no such block.
        """
        depth = len(self.blocks)
        wanted = [index + depth if index < 0 else index for index in indices]
        if any(not 0 <= index < depth for index in wanted):
            raise ConfigError(
                f"indices: {list(indices)} are out of range for an encoder of {counted(depth, 'block')}"
            )
        features: dict[int, Tensor] = {}
        tokens = self.embed(image, timestamps, location)
        for index, block in enumerate(self.blocks):
            tokens = self._run(block, tokens)
            if index in wanted:
                features[index] = self.norm(tokens) if norm else tokens
            if index == max(wanted):
                break
        return [features[index] for index in wanted]


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a table that is computed in prediction must also work in training
def position_table(
    width: int, frames: int, rows: int, columns: int, device: torch.device | None = None
) -> Tensor:
    """The fixed 3-D sine-cosine table of Prithvi.

    6/16 of the width encode the column, 6/16 the row and 4/16 the frame, in this order. The table is computed on the
    CPU and cached on the device: a copy in every call would wait for all work of a GPU.

    Returns:
        (1 + frames*rows*columns, width) float32; zero for the class token, then patches in order t, h, w.
    """
    shape = (frames, rows, columns)
    axes = [
        _sincos(width // 16 * 6, columns)[None, None, :, :].expand(*shape, -1),
        _sincos(width // 16 * 6, rows)[None, :, None, :].expand(*shape, -1),
        _sincos(width // 16 * 4, frames)[:, None, None, :].expand(*shape, -1),
    ]
    patches = torch.cat(axes, dim=-1).reshape(-1, width)
    return torch.cat((torch.zeros(1, width, dtype=torch.float64), patches)).float().to(device)


@torch.compiler.assume_constant_result
def constant_table(*arguments: Any) -> Tensor:
    """`position_table` as a constant of compiled code."""
    return position_table(*arguments)


def _sincos(width: int, length: int) -> Tensor:
    rates = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)


__getattr__ = old_names(__name__)
