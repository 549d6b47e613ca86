"""Scores of segmentation, computed from one confusion matrix of the whole set."""

from collections.abc import Sequence

from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ..targets import IGNORE_INDEX

#: Metrics per class; the name of their mean over classes has the prefix ``m``.
PER_CLASS = ("IoU", "Acc", "Fscore", "Precision")
#: Means that MMSegmentation defines differently; logged in addition as ``mmseg_mFscore`` and so on.
MMSEG_MEANS = ("mDice", "mFscore", "mPrecision")


class ConfusionMatrix(MulticlassConfusionMatrix):
    """Counts of (label, prediction), summed over batches and processes; label 255 is not counted."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, ignore_index=IGNORE_INDEX, validate_args=False)


def class_scores(hits: Tensor, labelled: Tensor, predicted: Tensor) -> dict[str, Tensor]:
    """Compute the scores of classes and their means from counts of pixels.

    A class that is labelled but never predicted has the score 0. A class that is predicted but never labelled has
    IoU and Precision 0, and Acc and Fscore NaN. A class that is neither has the score NaN. Means ignore NaN.

    Args:
        hits: (..., K) pixels of a class in label and prediction.
        labelled: (..., K) pixels of a class in the label.
        predicted: (..., K) pixels of a class in the prediction.

    Returns:
        ``IoU Acc Fscore Precision`` (..., K), ``mIoU mAcc mFscore mPrecision`` (...,), and ``aAcc`` (...,), the
        share of correct pixels; float64.
    """
    hits, labelled, predicted = (counts.double() for counts in (hits, labelled, predicted))
    unlabelled = labelled == 0
    precision = hits / predicted
    per_class = {
        "IoU": hits / (labelled + predicted - hits),
        "Acc": hits / labelled,
        "Fscore": (2 * hits / (labelled + predicted)).masked_fill(unlabelled, float("nan")),
        "Precision": precision.masked_fill((predicted == 0) & ~unlabelled, 0.0),
    }
    means = {f"m{name}": values.nanmean(dim=-1) for name, values in per_class.items()}
    return {"aAcc": hits.sum(dim=-1) / labelled.sum(dim=-1), **means, **per_class}


def mmseg_scores(confusion: Tensor) -> dict[str, Tensor]:
    """All metrics of a confusion matrix as MMSegmentation 0.30 defines them, to compare with published results.

    Its means can be too high: a class that is labelled but never predicted, or never correct, has precision or
    F-score NaN instead of 0, and the means ignore it.

    Args:
        confusion: (K, K) counts, rows are labels, columns are predictions.

    Returns:
        ``aAcc``, ``IoU Acc Dice Fscore Precision Recall`` (K,) and their means; float64.
    """
    hits, labelled, predicted = _counts(confusion)
    precision, recall = hits / predicted, hits / labelled
    per_class = {
        "IoU": hits / (labelled + predicted - hits),
        "Acc": recall,
        "Dice": 2 * hits / (labelled + predicted),
        "Fscore": 2 * precision * recall / (precision + recall),
        "Precision": precision,
        "Recall": recall,
    }
    means = {f"m{name}": values.nanmean() for name, values in per_class.items()}
    return {"aAcc": hits.sum() / labelled.sum(), **means, **per_class}


def segmentation_scores(confusion: Tensor) -> dict[str, Tensor]:
    """All metrics of a confusion matrix, as `class_scores` defines them, and the means of MMSegmentation.

    Each metric has one name. ``Acc`` of a class is its recall, named as in MMSegmentation and published results;
    ``Fscore`` is also known as Dice. mIoU, mAcc and aAcc equal those of MMSegmentation.

    Args:
        confusion: (K, K) counts, rows are labels, columns are predictions.

    Returns:
        ``aAcc``, ``mIoU mAcc mFscore mPrecision`` and ``mmseg_mDice mmseg_mFscore mmseg_mPrecision`` (scalars),
        and ``IoU Acc Fscore Precision`` (K values each); all float64.
    """
    means = mmseg_scores(confusion)
    return class_scores(*_counts(confusion)) | {f"mmseg_{name}": means[name] for name in MMSEG_MEANS}


def _counts(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Correct, labelled and predicted pixels of each class (K,)."""
    counts = confusion.cpu().double()  # some accelerators lack float64
    return counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)


def score_log(scores: dict[str, Tensor], names: Sequence[str], prefix: str) -> dict[str, float]:
    """Scores under flat names for a logger: ``val_mIoU``, ``val_IoU_Water``.

    NaN scores of classes are omitted.

    Args:
        scores: Scalars, or one value per output.
        names: Name of each output.
        prefix: ``train``, ``val`` or ``test``.
    """
    flat: dict[str, float] = {}
    for name, values in scores.items():
        if values.ndim == 0:
            flat[f"{prefix}_{name}"] = float(values)
        else:
            pairs = zip(names, values.tolist(), strict=True)
            flat |= {f"{prefix}_{name}_{c}": value for c, value in pairs if value == value}
    return flat
