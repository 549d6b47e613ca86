"""Scores of predicted values: RMSE, MAE, bias and R2 of a whole set, and how labels and predictions lie together."""

import torch
from torch import Tensor
from torchmetrics import Metric

from ..targets import ValueTarget

#: Bins of the density along an axis, from `DEVIATIONS` standard deviations below the mean to as many above.
BINS = 64
DEVIATIONS = 3.0


class ValueErrors(Metric):
    """Sums over labelled pixels from which all scores of values follow; label NaN is not counted.

    Labels and predictions are in the unit of the target; sums are float64, of values relative to the mean of the
    training data, so that nothing cancels.

    Args:
        target: Number of values, and their means.
    """

    sums: Tensor

    def __init__(self, target: ValueTarget) -> None:
        super().__init__()
        self.register_buffer("center", torch.tensor(target.mean, dtype=torch.float64), persistent=False)
        self.center: Tensor
        # Labelled pixels, error, absolute error, squared error, label, squared label.
        self.add_state("sums", torch.zeros(6, len(target.names), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count predictions and labels (B, V, H, W)."""
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
    """Counts (V, BINS, BINS) of label (first axis) and prediction (second), for a picture; label NaN is not counted.

    Values beyond `DEVIATIONS` standard deviations are counted in the outermost bins.

    Args:
        target: Means and standard deviations.
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
        """Count predictions and labels (B, V, H, W)."""
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
    """Scores from the sums of `ValueErrors`.

    Args:
        sums: (..., 6, V).

    Returns:
        ``RMSE MAE bias R2`` (..., V) in the unit, R2 without one, and with several values the mean of R2 over them,
        ``mR2`` (...,); float64. NaN where nothing is labelled; R2 is NaN where all labels are the same.
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
