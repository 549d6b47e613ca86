"""Losses of hls-foundation-os, exactly, and two more from libraries.

All take logits (B, K, H, W) in any precision, compute in float32, and ignore pixels labelled 255.
"""

from collections.abc import Sequence

import kornia.losses
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..spec import IGNORE_INDEX

LOSSES = ("ce", "dice", "dice_legacy", "focal", "lovasz")


class PixelCrossEntropy(nn.Module):
    """Cross entropy whose mean divides by the number of labelled pixels.

    Class weights multiply each pixel's loss; torch's own mean would divide by the sum of the weights instead.
    A batch without a labelled pixel gives 0.

    Args:
        class_weights: One factor per class.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        # Not persistent: a loss is no part of a model's weights.
        self.register_buffer("weight", weight, persistent=False)
        self.weight: Tensor | None

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) -> scalar."""
        loss = F.cross_entropy(
            logits.float(), mask, weight=self.weight, ignore_index=IGNORE_INDEX, reduction="sum"
        )
        return loss / (mask != IGNORE_INDEX).sum().clamp(min=1)


class DiceLoss(nn.Module):
    """One minus the Dice coefficient with squared terms in the denominator, smoothed by 1 (Milletari 2016).

    Computed per sample and class, averaged over both.

    Args:
        legacy: As MMSegmentation 0.30: ignored pixels are left out of the numerator only, and count in the
            denominator as class 0. By default they vanish from both.
    """

    def __init__(self, legacy: bool = False) -> None:
        super().__init__()
        self.legacy = legacy

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) -> scalar."""
        probabilities = logits.float().softmax(dim=1)
        labelled = (mask != IGNORE_INDEX).unsqueeze(1)
        target = F.one_hot(mask.masked_fill(mask == IGNORE_INDEX, 0), logits.shape[1]).movedim(-1, 1).float()
        overlap = (probabilities * target * labelled).sum(dim=(2, 3))
        total = probabilities**2 + target**2
        if not self.legacy:
            total = total * labelled
        dice = (2 * overlap + 1) / (total.sum(dim=(2, 3)) + 1)
        return (1 - dice).mean()


class FocalLoss(nn.Module):
    """Focal loss over softmax probabilities (Lin et al. 2017, arXiv:1708.02002), mean over labelled pixels.

    With ``gamma = 0`` it is `PixelCrossEntropy`.

    Args:
        gamma: How much easy pixels count less.
        class_weights: One factor per class.
    """

    def __init__(self, gamma: float = 2.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("weight", weight, persistent=False)
        self.weight: Tensor | None

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) -> scalar."""
        loss = kornia.losses.focal_loss(
            logits.float(),
            mask,
            alpha=None,
            gamma=self.gamma,
            weight=self.weight,
            reduction="sum",
            ignore_index=IGNORE_INDEX,
        )
        return loss / (mask != IGNORE_INDEX).sum().clamp(min=1)


class LovaszLoss(nn.Module):
    """Lovasz softmax loss over the labelled pixels of a batch (Berman et al. 2018, arXiv:1705.08790)."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) -> scalar."""
        if not (mask != IGNORE_INDEX).any():
            return logits.float().sum() * 0  # the library gives no scalar for no pixel
        return self.loss(logits.float(), mask)


def create_loss(name: str, class_weights: Sequence[float] | None = None) -> nn.Module:
    """A loss by name: ``ce``, ``dice``, ``dice_legacy``, ``focal`` (gamma 2) or ``lovasz``.

    Raises:
        ConfigError: The name is unknown, or the loss takes no class weights.
    """
    if class_weights is not None and name not in ("ce", "focal"):
        raise ConfigError(f"class_weights: not supported by the loss {name!r}; use ce or focal")
    if name == "ce":
        return PixelCrossEntropy(class_weights)
    if name in ("dice", "dice_legacy"):
        return DiceLoss(legacy=name == "dice_legacy")
    if name == "focal":
        return FocalLoss(class_weights=class_weights)
    if name == "lovasz":
        return LovaszLoss()
    raise ConfigError(f"loss: {name!r} is unknown; known are {', '.join(LOSSES)}")
