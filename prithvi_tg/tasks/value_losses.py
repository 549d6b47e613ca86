"""Losses of pixelwise regression, over labelled pixels only."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ..targets import ValueTarget
from .own_losses import build_loss


class LabelledLoss(nn.Module):
    """Mean of a loss over labelled pixels; 0 if no pixel is labelled.

    Args:
        function: Loss, called with outputs, labels and ``reduction="none"``.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Standardised outputs and labels (B, V, H, W), NaN = not labelled -> scalar."""
        labelled = ValueTarget.is_labelled(labels)
        loss = self.function(outputs.float(), labels.float().where(labelled, 0), reduction="none")
        return loss.where(labelled, 0).sum() / labelled.sum().clamp(min=1)


#: Losses by name.
VALUE_LOSSES: dict[str, Callable[[], nn.Module]] = {
    "mse": partial(LabelledLoss, F.mse_loss),
    "mae": partial(LabelledLoss, F.l1_loss),
    "huber": partial(LabelledLoss, F.smooth_l1_loss),
}


def create_value_loss(name: str) -> nn.Module:
    """Create a loss by name.

    Args:
        name: A key of `VALUE_LOSSES`, or the path of a class, called with outputs and labels (B, V, H, W), both
            standardised, NaN = not labelled.

    Raises:
        ConfigError: The name is unknown, or the loss needs arguments.
    """
    return build_loss(name, VALUE_LOSSES)
