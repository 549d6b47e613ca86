"""PrithviSegmenter: encoder, neck, head, and an auxiliary head that is used in training only."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .decoders import PIXELS_PER_TOKEN, FCNHead, crop_tokens
from .vit import PrithviViT

Tokens = Tensor | list[Tensor]


class PrithviSegmenter(nn.Module):
    """A Prithvi encoder with a decoder for semantic segmentation.

    Args:
        encoder: Tokens from images.
        neck: Called as ``neck(tokens, grid)``, gives a feature map (B, C, H', W'). A neck with an attribute
            ``encoder_layers`` is given the normalised tokens of these blocks, as a list.
        decode_head: Logits from the feature map.
        auxiliary_head: A second head on the same features, for training; ``None`` for none.
        freeze_encoder: Train the neck and the heads only; the encoder stays in evaluation mode.
    """

    def __init__(
        self,
        encoder: PrithviViT,
        neck: nn.Module,
        decode_head: nn.Module,
        auxiliary_head: nn.Module | None = None,
        freeze_encoder: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.neck = neck
        self.decode_head = decode_head
        self.auxiliary_head = auxiliary_head
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "PrithviSegmenter":
        """Switch to training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def forward_tokens(self, image: Tensor, **coordinates: Tensor) -> tuple[Tokens, tuple[int, int, int]]:
        """What the neck takes: tokens of the encoder, or of several of its blocks, and their grid.

        An image of any size is padded to whole patches, to its right and bottom, with zeros: the band mean,
        after normalisation.
        """
        patch = self.encoder.patch_size
        height, width = image.shape[-2:]
        image = F.pad(image, (0, -width % patch, 0, -height % patch))
        layers: tuple[int, ...] | None = getattr(self.neck, "encoder_layers", None)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            tokens: Tokens
            if layers is None:
                tokens = self.encoder(image, **coordinates)
            else:
                tokens = self.encoder.forward_intermediates(image, layers, norm=True, **coordinates)
        return tokens, self.encoder.grid(image)

    def forward_features(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Feature map of the neck (B, C', H', W'), see `forward_tokens`."""
        return self.neck(*self.forward_tokens(image, **coordinates))

    def forward_head(self, features: Tensor, head: nn.Module, size: tuple[int, int]) -> Tensor:
        """Logits (B, K, H, W) of one head at image size; resizing is an identity for a patch of 16."""
        logits: Tensor = head(features)
        patch = self.encoder.patch_size
        padded = tuple(length + -length % patch for length in size)
        if logits.shape[-2:] != padded:
            logits = F.interpolate(logits, size=padded, mode="bilinear", align_corners=False)
        return logits[..., : size[0], : size[1]]

    def forward(
        self, image: Tensor, keep: tuple[int, int, int, int] | None = None, **coordinates: Tensor
    ) -> Tensor:
        """Logits at image size, or of a part of it.

        Args:
            image: (B, T, C, H, W) or (B, C, H, W), normalised.
            keep: Top, left, bottom and right of the pixels that are wanted. Neck and head run on their tokens
                only, and on those around that they depend on, where neck and head know how far that is.
            **coordinates: ``timestamps`` (B, T, 2) and ``location`` (B, 2), see `PrithviViT.forward`.

        Returns:
            (B, K, H, W), or (B, K, bottom - top, right - left).
        """
        height, width = image.shape[-2:]
        tokens, grid = self.forward_tokens(image, **coordinates)
        if keep is None:
            return self.forward_head(self.neck(tokens, grid), self.decode_head, (height, width))
        top, left, bottom, right = keep
        row = column = 0
        halo = self._halo
        if halo is not None and isinstance(tokens, Tensor):
            patch = self.encoder.patch_size
            row, column = max(0, top // patch - halo), max(0, left // patch - halo)
            last_row = min(grid[1], -(-bottom // patch) + halo)
            last_column = min(grid[2], -(-right // patch) + halo)
            tokens, grid = crop_tokens(tokens, grid, slice(row, last_row), slice(column, last_column))
            row, column = row * patch, column * patch
            height, width = grid[1] * patch, grid[2] * patch
        logits = self.forward_head(self.neck(tokens, grid), self.decode_head, (height, width))
        return logits[..., top - row : bottom - row, left - column : right - column]

    @property
    def _halo(self) -> int | None:
        """Tokens beyond its own that a pixel of the logits depends on, after the encoder."""
        neck: float | None = getattr(self.neck, "halo", None)
        if neck is None or not isinstance(self.decode_head, FCNHead):
            return None
        return math.ceil(neck + len(self.decode_head.convs) / PIXELS_PER_TOKEN)

    def forward_both(self, image: Tensor, **coordinates: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of the decode head and, where there is one, of the auxiliary head; each (B, K, H, W)."""
        height, width = image.shape[-2:]
        features = self.forward_features(image, **coordinates)
        logits = self.forward_head(features, self.decode_head, (height, width))
        if self.auxiliary_head is None:
            return logits, None
        return logits, self.forward_head(features, self.auxiliary_head, (height, width))
