"""PrithviSegmenter: encoder, neck, head, and an auxiliary head that is used in training only."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .vit import PrithviViT


class PrithviSegmenter(nn.Module):
    """A Prithvi encoder with a decoder for semantic segmentation.

    Args:
        encoder: Tokens from images.
        neck: Called as ``neck(tokens, grid)``, gives a feature map (B, C, H', W').
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
        self.encoder.requires_grad_(not freeze_encoder)

    def train(self, mode: bool = True) -> "PrithviSegmenter":
        """Switch to training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def forward_features(self, image: Tensor) -> Tensor:
        """(B, T, C, H, W) or (B, C, H, W) -> feature map of the neck (B, C', H', W')."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            tokens = self.encoder(image)
        return self.neck(tokens, self.encoder.grid(image))

    def forward_head(self, features: Tensor, head: nn.Module, size: tuple[int, int]) -> Tensor:
        """Logits (B, K, H, W) of one head at image size; resizing is an identity for a patch of 16."""
        logits: Tensor = head(features)
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Logits at image size.

        Args:
            image: (B, T, C, H, W) or (B, C, H, W), normalised.

        Returns:
            (B, K, H, W).
        """
        height, width = image.shape[-2:]
        return self.forward_head(self.forward_features(image), self.decode_head, (height, width))

    def forward_both(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of the decode head and, where there is one, of the auxiliary head; each (B, K, H, W)."""
        height, width = image.shape[-2:]
        features = self.forward_features(image)
        logits = self.forward_head(features, self.decode_head, (height, width))
        if self.auxiliary_head is None:
            return logits, None
        return logits, self.forward_head(features, self.auxiliary_head, (height, width))
