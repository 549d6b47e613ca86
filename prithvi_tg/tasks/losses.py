"""Losses of segmentation: those of hls-foundation-os, and focal and Lovasz loss from libraries.

All take logits (B, K, H, W) in any precision, compute in float32, and ignore pixels labelled 255. All run on CUDA
with ``torch.use_deterministic_algorithms``.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import kornia.losses
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from ..errors import ConfigError
from ..targets import IGNORE_INDEX, ClassTarget
from .own_losses import build_loss


class ClassWeightedLoss(nn.Module):
    """Base class of losses with an optional weight per class, in the buffer `weight` (K,).

    Args:
        class_weights: One factor per class.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        # Not persistent: checkpoints contain the weights of the model only.
        self.register_buffer("weight", weight, persistent=False)
        self.weight: Tensor | None


class PixelCrossEntropy(ClassWeightedLoss):
    """Cross entropy, averaged over labelled pixels; 0 for a batch without a labelled pixel.

    Class weights multiply the loss of each pixel. Unlike in torch, the sum is divided by the number of pixels, not by
    the sum of their weights.

    Args:
        class_weights: One factor per class.
    """

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) -> scalar."""
        # Not F.cross_entropy: its kernel for images (nll_loss2d) has no deterministic version on CUDA.
        labelled = ClassTarget.is_labelled(mask)
        classes = mask.where(labelled, 0)
        loss = -logits.float().log_softmax(dim=1).gather(1, classes.unsqueeze(1)).squeeze(1)
        if self.weight is not None:
            loss = loss * self.weight[classes]
        return loss.where(labelled, 0).sum() / labelled.sum().clamp(min=1)


class LabelledMean(Metric):
    """Mean of a loss over the labelled pixels of all batches and processes; NaN if there are none."""

    total: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("pixels", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, labelled: Tensor) -> None:
        """Add the mean loss of a chip, weighted by its number of labelled pixels (scalar)."""
        self.total += (loss * labelled).where(labelled > 0, 0)
        self.pixels += labelled

    def compute(self) -> Tensor:
        """The mean."""
        return self.total / self.pixels


class DiceLoss(nn.Module):
    """One minus the Dice coefficient with squared terms in the denominator, smoothed by 1 (Milletari 2016).

    It is computed per sample and class, and averaged over both.

    Args:
        legacy: As in MMSegmentation 0.30, omit ignored pixels from the numerator only; in the denominator they count
            as class 0. By default they are omitted from both.
    """

    def __init__(self, legacy: bool = False) -> None:
        super().__init__()
        self.legacy = legacy

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) -> scalar."""
        probabilities = logits.float().softmax(dim=1)
        labelled = ClassTarget.is_labelled(mask)
        target = F.one_hot(mask.where(labelled, 0), logits.shape[1]).movedim(-1, 1).float()
        labelled = labelled.unsqueeze(1)
        overlap = (probabilities * target * labelled).sum(dim=(2, 3))
        total = probabilities**2 + target**2
        if not self.legacy:
            total = total * labelled
        dice = (2 * overlap + 1) / (total.sum(dim=(2, 3)) + 1)
        return (1 - dice).mean()


class FocalLoss(ClassWeightedLoss):
    """Focal loss over softmax probabilities (Lin et al. 2017, arXiv:1708.02002), mean over labelled pixels.

    With ``gamma = 0`` it is `PixelCrossEntropy`.

    Args:
        gamma: Exponent that reduces the weight of easy pixels.
        class_weights: One factor per class.
    """

    def __init__(self, gamma: float = 2.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(class_weights)
        self.gamma = gamma

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
        return loss / ClassTarget.is_labelled(mask).sum().clamp(min=1)


class LovaszLoss(nn.Module):
    """Lovasz softmax loss over the labelled pixels of a batch (Berman et al. 2018, arXiv:1705.08790)."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) -> scalar."""
        if not ClassTarget.is_labelled(mask).any():
            return logits.float().sum() * 0  # the library returns no scalar without a pixel
        return self.loss(logits.float(), mask)


#: Losses of segmentation by name; those that take class weights have an argument ``class_weights``.
LOSSES: dict[str, Callable[..., nn.Module]] = {
    "ce": PixelCrossEntropy,
    "dice": DiceLoss,
    "dice_legacy": partial(DiceLoss, legacy=True),
    "focal": FocalLoss,
    "lovasz": LovaszLoss,
}


def create_loss(name: str, class_weights: Sequence[float] | None = None) -> nn.Module:
    """Create a loss by name.

    Args:
        name: A key of `LOSSES`, or the path of a class, called with logits (B, K, H, W) and labels (B, H, W).
        class_weights: One factor per class, for losses that take them.

    Raises:
        ConfigError: The name is unknown, the loss does not support class weights, or a weight is invalid.
    """
    if class_weights is None:
        return build_loss(name, LOSSES)
    check_class_weights(class_weights)
    return build_loss(name, LOSSES, class_weights=class_weights)


def check_class_weights(weights: Sequence[float]) -> None:
    """Check class weights.

    Raises:
        ConfigError: One is negative or not finite, or all are 0.
    """
    for index, weight in enumerate(weights):
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(
                f"class_weights: {weight} of class {index} must be a finite number that is not negative"
            )
    if not any(weights):
        raise ConfigError("class_weights: all are 0; at least one must be positive")
