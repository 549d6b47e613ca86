"""Scores of chips with one class, or with several."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAveragePrecision,
    MultilabelAveragePrecision,
    MultilabelConfusionMatrix,
)

from ..targets import IGNORE_INDEX
from .metrics import ConfusionMatrix, class_scores


class ClassAveragePrecision(MulticlassAveragePrecision):
    """Average precision of probabilities (B, K) for classes (B,), 255 = ignored. No warning about absent classes."""

    def compute(self) -> Tensor:  # type: ignore[override]  # as torchmetrics' own class
        """Average precision of each class (K,); meaningless for a class that no chip has, NaN without any chip."""
        if not self.preds:
            return torch.full((self.num_classes,), float("nan"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().compute()


class LabelAveragePrecision(MultilabelAveragePrecision):
    """Average precision of probabilities (B, K) for labels (B, K) of 0 and 1. No warning about absent classes."""

    def compute(self) -> Tensor:  # type: ignore[override]  # as torchmetrics' own class
        """Average precision of each class (K,); meaningless for a class that no chip has, NaN without any chip."""
        if not self.preds:
            return torch.full((self.num_labels,), float("nan"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().compute()


def chip_metrics(num_classes: int, multilabel: bool) -> dict[str, Metric]:
    """Metrics for `chip_scores`: ``confusion_matrix`` and ``average_precision``, updated with probabilities."""
    options: dict[str, Any] = {"ignore_index": IGNORE_INDEX, "validate_args": False}
    if multilabel:
        return {
            "confusion_matrix": MultilabelConfusionMatrix(num_classes, **options),
            "average_precision": LabelAveragePrecision(num_classes, average=None, **options),
        }
    return {
        "confusion_matrix": ConfusionMatrix(num_classes),
        "average_precision": ClassAveragePrecision(num_classes, average=None, **options),
    }


def chip_scores(confusion: Tensor, average_precision: Tensor) -> dict[str, Tensor]:
    """All scores of a set of chips.

    Scores of a class that no chip has are NaN; means ignore them.

    Args:
        confusion: Counts (K, K), rows are labels, columns are predictions; or (K, 2, 2) if chips can have several
            classes: ``[[true negatives, false positives], [false negatives, true positives]]``.
        average_precision: (K,), area under the curve of precision over recall.

    Returns:
        ``OA``, overall accuracy: the share of correctly classified chips (for several classes per chip, the
        share of correct decisions); ``BA``, balanced accuracy: the mean recall (for several classes per chip, the mean
        over classes of sensitivity and specificity); ``mF1`` and ``mAP``, means over classes; and ``Recall``,
        ``Precision``, ``F1`` and ``AP`` (K,). All float64.
    """
    counts = confusion.cpu().double()
    if counts.ndim == 3:
        hits, labelled, predicted = counts[:, 1, 1], counts[:, 1].sum(dim=1), counts[:, :, 1].sum(dim=1)
    else:
        hits, labelled, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    scores = class_scores(hits, labelled, predicted)
    average_precision = average_precision.cpu().double().masked_fill(labelled == 0, float("nan"))
    overall, balanced = scores["aAcc"], scores["mAcc"]
    if counts.ndim == 3:
        overall = (counts[:, 0, 0] + hits).sum() / counts.sum()
        balanced = (scores["Acc"] / 2 + counts[:, 0, 0] / counts[:, 0].sum(dim=1) / 2).nanmean()
    return {
        "OA": overall,
        "BA": balanced,
        "mF1": scores["mFscore"],
        "mAP": average_precision.nanmean(),
        "Recall": scores["Acc"],
        "Precision": scores["Precision"],
        "F1": scores["Fscore"],
        "AP": average_precision,
    }
