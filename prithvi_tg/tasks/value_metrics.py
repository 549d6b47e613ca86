"""Scores of pixelwise regression over a whole set, and the joint density of labels and predictions."""

import torch
from torch import Tensor
from torchmetrics import Metric

from ..targets import ValueTarget

#: Number of bins of the density on an axis; they cover the mean plus and minus `DEVIATIONS` standard deviations.
BINS = 64
DEVIATIONS = 3.0


class ValueErrors(Metric):
    """Sums over labelled pixels for `value_scores`; a NaN label is ignored.

    Labels and predictions are in the unit of the target. The sums are float64, of values minus the mean of the training
    data, to avoid cancellation.

    Args:
        target: The values.
    """

    sums: Tensor

    def __init__(self, target: ValueTarget) -> None:
        super().__init__()
        self.register_buffer("center", torch.tensor(target.mean, dtype=torch.float64), persistent=False)
        self.center: Tensor
        # Labelled pixels, error, absolute error, squared error, label, squared label.
        self.add_state("sums", torch.zeros(6, len(target.names), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add predictions and labels (B, V, H, W)."""
        center = self.center[:, None, None]
        labelled = ValueTarget.is_labelled(label)
        y = (label.double() - center).where(labelled, 0)
        error = (prediction.double() - center - y).where(labelled, 0)
        terms = (labelled.double(), error, error.abs(), error**2, y, y**2)
        self.sums += torch.stack([term.sum(dim=(0, 2, 3)) for term in terms])

    def compute(self) -> Tensor:
        """The sums (6, V)."""
        return self.sums


class ValueDensity(Metric):
    """Counts (V, BINS, BINS) of labels (first axis) and predictions (second), for a figure; a NaN label is ignored.

    The outermost bins also count values beyond `DEVIATIONS` standard deviations.

    Args:
        target: The values.
    """

    counts: Tensor

    def __init__(self, target: ValueTarget) -> None:
        super().__init__()
        mean, std = torch.tensor(target.mean), torch.tensor(target.std)
        self.register_buffer("low", mean - DEVIATIONS * std, persistent=False)
        self.register_buffer("width", 2 * DEVIATIONS * std / BINS, persistent=False)
        self.low: Tensor
        self.width: Tensor
        shape = (len(target.names), BINS, BINS)
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add predictions and labels (B, V, H, W)."""
        low, width = self.low[:, None, None], self.width[:, None, None]
        labelled = ValueTarget.is_labelled(label)
        row, column = (
            ((values.float() - low) / width).nan_to_num().clamp(0, BINS - 1).long()
            for values in (label, prediction)
        )
        for number in range(label.shape[1]):
            inside = labelled[:, number]
            pairs = (row[:, number] * BINS + column[:, number])[inside]
            self.counts[number] += torch.bincount(pairs, minlength=BINS * BINS).reshape(BINS, BINS)

    def compute(self) -> Tensor:
        """The counts."""
        return self.counts


def value_scores(sums: Tensor) -> dict[str, Tensor]:
    """Compute scores from the sums of `ValueErrors`.

    Args:
        sums: (..., 6, V).

    Returns:
        ``RMSE MAE bias`` (..., V) in the unit of the values, ``R2`` (..., V), and ``mR2`` (...,), the mean of R2 over
        the values; float64. NaN without labelled pixels; R2 is also NaN if all labels are equal.
    """
    count, error, absolute, squared, label, squared_label = sums.double().cpu().unbind(-2)
    spread = squared_label - label**2 / count
    scores = {
        "RMSE": (squared / count).sqrt(),
        "MAE": absolute / count,
        "bias": error / count,
        "R2": (1 - squared / spread).where(spread > 0, float("nan")),
    }
    return {**scores, "mR2": scores["R2"].nanmean(dim=-1)}
