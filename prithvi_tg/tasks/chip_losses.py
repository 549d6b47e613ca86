"""Losses of chips with one class, or with several."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..targets import ChipClassTarget
from .losses import ClassWeightedLoss, PixelCrossEntropy, check_class_weights
from .own_losses import build_loss


class LabelCrossEntropy(ClassWeightedLoss):
    """Binary cross entropy of each class, averaged over labelled chips and classes.

    Args:
        class_weights: One factor per class.
    """

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Logits (B, K) and labels (B, K) of 0 and 1, 255 = not labelled -> scalar."""
        labelled = ChipClassTarget.is_labelled(label)
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), label.where(labelled, 0).float(), weight=self.weight, reduction="none"
        )
        return loss.where(labelled, 0).sum() / labelled.sum().clamp(min=1)


#: Losses by name, called with logits (B, K) and labels.
CHIP_LOSSES: dict[str, Callable[..., nn.Module]] = {"ce": PixelCrossEntropy, "bce": LabelCrossEntropy}
#: Whether chips can have several classes -> the default loss.
DEFAULT_LOSS = {False: "ce", True: "bce"}


def create_chip_loss(
    name: str | None, multilabel: bool, class_weights: Sequence[float] | None = None
) -> nn.Module:
    """Create a loss by name.

    Args:
        name: A key of `CHIP_LOSSES`, or the path of a class, called with logits (B, K) and labels, (B,) or, with
            several classes, (B, K); 255 = not labelled. ``None`` for the default loss.
        multilabel: Whether chips can have several classes.
        class_weights: One factor per class.

    Raises:
        ConfigError: The name is unknown, the loss is for labels of another kind, or a weight is invalid.
    """
    name = name or DEFAULT_LOSS[multilabel]
    if name == DEFAULT_LOSS[not multilabel]:
        kind = "several classes per chip" if multilabel else "one class per chip"
        raise ConfigError(f"loss: {name} is not for {kind}; use {DEFAULT_LOSS[multilabel]}")
    if class_weights is None:
        return build_loss(name, CHIP_LOSSES)
    check_class_weights(class_weights)
    return build_loss(name, CHIP_LOSSES, class_weights=class_weights)
