"""EncoderDecoder: encoder, neck, head, and an auxiliary head that is used in training only."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..deprecated import old_names
from ..errors import ConfigError
from .decoders import PIXELS_PER_TOKEN, FCNHead, crop_tokens
from .encoder_model import EncoderModel
from .encoders.base import Encoder, TokenEncoder
from .fusion import can_fuse, fused_logits, fused_training, fused_weights
from .weight_cache import Method, active_cache, call_method, can_run_converted, converted_weights

Tokens = Tensor | list[Tensor]


class EncoderDecoder(EncoderModel):
    """An encoder with a decoder for pixelwise outputs.

    Args:
        encoder: Returns tokens or maps of images.
        neck: Called as ``neck(features, grid)``; returns a feature map (B, C, H', W'). If it has an attribute
            ``encoder_layers``, its first argument is the list of the normalised features of these indices.
        decode_head: Returns logits for the feature map.
        auxiliary_head: A second head on the same features, used in training; ``None`` for no second head.
        freeze_encoder: Train only the neck and the heads; the encoder stays in evaluation mode.
        fuse: Compute the published decoder in the fused form of `prithvi_tg.models.fusion`, with the same parameters
            and, up to rounding, the same logits. It has no effect on other decoders.
    """

    def __init__(
        self,
        encoder: Encoder,
        neck: nn.Module,
        decode_head: nn.Module,
        auxiliary_head: nn.Module | None = None,
        freeze_encoder: bool = False,
        fuse: bool = True,
    ) -> None:
        super().__init__(encoder, freeze_encoder)
        self.neck = neck
        self.decode_head = decode_head
        self.auxiliary_head = auxiliary_head
        self.fuse = fuse

    def forward_tokens(self, image: Tensor, **coordinates: Tensor) -> tuple[Tokens, tuple[int, int, int]]:
        """Features for the neck, the last one of the encoder or several, and the grid of patches.

        An image of any size is padded to whole patches, see `pad_to_patches`.
        """
        image = self.pad_to_patches(image)
        layers: tuple[int, ...] | None = getattr(self.neck, "encoder_layers", None)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_is_frozen):
            weights = self._converted_weights(self.encoder, image)
            tokens: Tokens
            if layers is None:
                method = Method(self.encoder, "__call__")
                tokens = self._run(call_method, image, method, weights, **coordinates)
            else:
                method = Method(self.encoder, "forward_intermediates")
                tokens = self._run(call_method, image, method, weights, layers, norm=True, **coordinates)
        return tokens, self.encoder.grid(image)

    def forward_heads(
        self, tokens: Tokens, grid: tuple[int, int, int], size: tuple[int, int], heads: Sequence[nn.Module]
    ) -> list[Tensor]:
        """Logits (B, K, H, W) of each head, resized to the image; for patches of 16 pixels they have that size."""
        if not (self.fuse and can_fuse(self.neck, heads)):
            weights = self._converted_weights(self.neck, tokens)
            logits = self._run(decode, tokens, grid, Method(self.neck, "__call__"), heads, weights)
        elif torch.is_grad_enabled() or any(part.training for head in heads for part in head.modules()):
            logits = self._run(fused_training, tokens, grid, self.neck, heads)
        else:
            fused = [fused_weights(self.neck, head, tokens) for head in heads]  # type: ignore[arg-type]  # FCN heads
            logits = [self._run(fused_logits, tokens, grid, weights) for weights in fused]
        return [self._resize(part, size) for part in logits]

    def _converted_weights(self, module: nn.Module, x: Tokens) -> dict[str, Tensor] | None:
        """The weights of a module in the type of autocast, from the active cache, if any."""
        device = (x if isinstance(x, Tensor) else x[0]).device.type
        cache = active_cache()
        if cache is None or not can_run_converted(module, device):
            return None
        return converted_weights(cache, module, torch.get_autocast_dtype(device))

    def _resize(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        patch = self.encoder.patch_size
        padded = tuple(length + -length % patch for length in size)
        if logits.shape[-2:] != padded:
            logits = F.interpolate(logits, size=padded, mode="bilinear", align_corners=False)
        return logits[..., : size[0], : size[1]]

    def forward(
        self, image: Tensor, core_window: tuple[int, int, int, int] | None = None, **coordinates: Tensor
    ) -> Tensor:
        """Logits at image size, or of a part of it.

        Args:
            image: (B, T, C, H, W) or (B, C, H, W), normalised.
            core_window: Top, left, bottom and right of the pixels to compute. If the receptive field of neck and head
                is known, they run only on the tokens inside it.
            **coordinates: ``timestamps`` (B, T, 2) and ``location`` (B, 2), see `PrithviViT.forward_features`.

        Returns:
            (B, K, H, W), or (B, K, bottom - top, right - left).
        """
        height, width = image.shape[-2:]
        tokens, grid = self.forward_tokens(image, **coordinates)
        if core_window is None:
            return self.forward_heads(tokens, grid, (height, width), [self.decode_head])[0]
        top, left, bottom, right = core_window
        row = column = 0
        halo = self._halo
        if halo is not None and isinstance(tokens, Tensor) and isinstance(self.encoder, TokenEncoder):
            patch = self.encoder.patch_size
            row, column = max(0, top // patch - halo), max(0, left // patch - halo)
            last_row = min(grid[1], -(-bottom // patch) + halo)
            last_column = min(grid[2], -(-right // patch) + halo)
            tokens, grid = crop_tokens(tokens, grid, slice(row, last_row), slice(column, last_column))
            row, column = row * patch, column * patch
            height, width = grid[1] * patch, grid[2] * patch
        (logits,) = self.forward_heads(tokens, grid, (height, width), [self.decode_head])
        return logits[..., top - row : bottom - row, left - column : right - column]

    @property
    def _halo(self) -> int | None:
        """Distance, in tokens, up to which tokens influence a pixel of the logits, after the encoder."""
        neck: float | None = getattr(self.neck, "halo", None)
        if neck is None or not isinstance(self.decode_head, FCNHead):
            return None
        return math.ceil(neck + len(self.decode_head.convs) / PIXELS_PER_TOKEN)

    def forward_both(self, image: Tensor, **coordinates: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K, H, W) of the decode head, and of the auxiliary head, if any."""
        heads = [head for head in (self.decode_head, self.auxiliary_head) if head is not None]
        height, width = image.shape[-2:]
        tokens, grid = self.forward_tokens(image, **coordinates)
        logits = self.forward_heads(tokens, grid, (height, width), heads)
        return logits[0], logits[1] if len(logits) > 1 else None


def decode(
    tokens: Tokens,
    grid: tuple[int, int, int],
    neck: Method,
    heads: Sequence[nn.Module],
    weights: dict[str, Tensor] | None = None,
) -> list[Tensor]:
    """Logits of each head on the map of a neck; for `weights` see `call_method`.

    Raises:
        ConfigError: The neck does not return a map with its ``out_channels``.
    """
    features = call_method(tokens, neck, weights, grid)
    _check_map(features, neck.module)
    return [head(features) for head in heads]


def _check_map(features: Any, neck: nn.Module) -> None:
    """Check that a neck has returned a map (B, out_channels, H', W').

    Raises:
        ConfigError: It has returned something else.
    """
    channels = getattr(neck, "out_channels", None)
    is_map = isinstance(features, Tensor) and features.ndim == 4
    if not is_map or (channels is not None and features.shape[1] != channels):
        given = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
        wanted = "out_channels" if channels is None else f"{channels}, its out_channels"
        raise ConfigError(f"decoder: {type(neck).__name__} returns {given}, not a map (B, {wanted}, H', W')")


__getattr__ = old_names(__name__)
