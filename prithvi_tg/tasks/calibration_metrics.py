"""Calibration of probabilities over a whole set: counts by confidence, and the expected calibration error."""

import torch
from torch import Tensor
from torchmetrics import Metric

from ..targets import IGNORE_INDEX

#: Number of bins of equal width from 0 to 1.
BINS = 15
# Sums are spread over this many columns, as a GPU is slow if many pixels are added to one number.
_COLUMNS = 256


class CalibrationBins(Metric):
    """Counts of labelled pixels by confidence, the highest probability: number, sum of confidences, number correct.

    Each labelled pixel counts once; label 255 is not counted. Memory does not depend on the number of pixels, and an
    update does not wait for the device.

    Args:
        temperature: Divides logits before their softmax.
    """

    sums: Tensor

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.add_state("sums", torch.zeros(3, BINS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits (B, K, ...) and labels (B, ...)."""
        scaled = logits.detach().float()
        if self.temperature != 1:
            scaled = scaled / self.temperature
        predicted, confidence = (
            scaled.max(dim=1).indices.flatten(),
            scaled.softmax(dim=1).amax(dim=1).flatten(),
        )
        labels = labels.flatten()
        bins = (confidence * BINS).long().clamp_(0, BINS - 1)
        index = torch.where(labels == IGNORE_INDEX, BINS, bins) * _COLUMNS
        index += torch.arange(len(labels), device=labels.device) % _COLUMNS
        sums = torch.zeros(3, (BINS + 1) * _COLUMNS, device=labels.device)
        for total, values in zip(
            sums, (torch.ones_like(confidence), confidence, (predicted == labels).float()), strict=True
        ):
            total.index_add_(0, index, values)
        self.sums += sums.double().unflatten(1, (BINS + 1, _COLUMNS)).sum(dim=2)[:, :BINS]

    def compute(self) -> Tensor:
        """The sums (3, BINS)."""
        return self.sums


def expected_calibration_error(sums: Tensor) -> Tensor:
    """Mean distance of confidence and accuracy of the bins, weighted by their pixels (Naeini et al. 2015); float64.

    Args:
        sums: (3, BINS), the result of `CalibrationBins`.
    """
    pixels, confidence, correct = sums.cpu().double()
    return (confidence - correct).abs().sum() / pixels.sum()


def reliability(sums: Tensor) -> dict[str, list[float | None]]:
    """Pixels, mean confidence and accuracy of each bin; ``None`` for the means of a bin without pixels.

    Args:
        sums: (3, BINS), the result of `CalibrationBins`.
    """
    pixels, confidence, correct = sums.cpu().double()
    means = {
        key: [float(value) if count else None for value, count in zip(total / pixels, pixels, strict=True)]
        for key, total in (("confidence", confidence), ("accuracy", correct))
    }
    return {"pixels": [int(count) for count in pixels], **means}
