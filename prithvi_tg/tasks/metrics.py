"""Metrics of a whole set from one confusion matrix, with the meaning they have in MMSegmentation."""

from collections.abc import Sequence

from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ..spec import IGNORE_INDEX

#: Metrics that exist per class; their mean over classes is called by the name with an ``m`` before it.
PER_CLASS = ("IoU", "Acc", "Dice", "Fscore", "Precision", "Recall")


class ConfusionMatrix(MulticlassConfusionMatrix):
    """Counts of (label, prediction), summed over batches and processes; label 255 is not counted."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, ignore_index=IGNORE_INDEX, validate_args=False)


def segmentation_scores(confusion: Tensor) -> dict[str, Tensor]:
    """Every metric of a confusion matrix.

    A class absent from both labels and predictions is NaN everywhere. A class absent from the labels only
    counts 0 in IoU, Dice and Precision, and is NaN in Acc, Recall and Fscore; so mDice and mFscore differ
    there. Means leave NaN out.

    Args:
        confusion: (K, K) counts, rows are labels, columns are predictions.

    Returns:
        ``aAcc`` and ``mIoU mAcc mDice mFscore mPrecision mRecall`` (scalars), and ``IoU Acc Dice Fscore
        Precision Recall`` (K values each); all float64.
    """
    counts = confusion.cpu().double()  # not every accelerator knows float64
    hits = counts.diagonal()
    labelled = counts.sum(dim=1)
    predicted = counts.sum(dim=0)
    precision = hits / predicted
    recall = hits / labelled
    per_class = {
        "IoU": hits / (labelled + predicted - hits),
        "Acc": recall,
        "Dice": 2 * hits / (labelled + predicted),
        "Fscore": 2 * precision * recall / (precision + recall),
        "Precision": precision,
        "Recall": recall,
    }
    means = {f"m{name}": values.nanmean() for name, values in per_class.items()}
    return {"aAcc": hits.sum() / counts.sum(), **means, **per_class}


def score_log(scores: dict[str, Tensor], class_names: Sequence[str], prefix: str) -> dict[str, float]:
    """Scores under flat names for a logger: ``val_mIoU``, ``val_IoU_Water``.

    Classes whose score is NaN are left out.

    Args:
        scores: What `segmentation_scores` gave.
        class_names: One per class.
        prefix: ``val`` or ``test``.
    """
    flat: dict[str, float] = {}
    for name, values in scores.items():
        if values.ndim == 0:
            flat[f"{prefix}_{name}"] = float(values)
        else:
            pairs = zip(class_names, values.tolist(), strict=True)
            flat |= {f"{prefix}_{name}_{c}": value for c, value in pairs if value == value}
    return flat
