"""Results of tasks that classify whole chips: tables, records, pictures."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from ..errors import DataError
from ..files import finished_file
from ..plotting import plot_sample
from ..spec import DataSpec
from ..targets import ChipClassTarget, Target
from .chips import ChipCounts, denormalised, gather, save_picture
from .confusion import write_confusion
from .tables import with_further_scores

_MEANS = {
    "OA": "overall accuracy",
    "BA": "balanced accuracy",
    "mF1": "mean F1",
    "mAP": "mean average precision",
}
_MOST_DRAWN = 4  # chips of a kind


def chip_score_table(scores: dict[str, Tensor], class_names: Sequence[str], title: str) -> RenderableType:
    """Table with one row per class, in per cent, and the overall scores below.

    Args:
        scores: Scores from `prithvi_tg.tasks.chip_metrics.chip_scores`, and further scores of the task.
        class_names: One per class.
        title: Title of the table.
    """
    overall = [f"{_MEANS[name]} ({name}) {_percent(scores[name])}" for name in _MEANS]
    table = Table(title=title, caption="; ".join(overall))
    table.add_column("class")
    columns = [name for name, values in scores.items() if values.ndim == 1]
    for name in columns:
        table.add_column(name, justify="right")
    for number, class_name in enumerate(class_names):
        table.add_row(class_name, *(_percent(scores[name][number]) for name in columns))
    further = {name: value for name, value in scores.items() if value.ndim == 0 and name not in _MEANS}
    return with_further_scores(table, further)


def _percent(value: Tensor) -> str:
    number = float(value)
    return "-" if number != number else f"{100 * number:.2f}"


def chip_record(task: Any) -> dict[str, Any]:
    """Content of metrics.json: ``overall`` and ``per_class`` scores, and the confusion matrix."""
    scores, confusion = task.scores, task.confusion
    overall = {name: _plain(values) for name, values in scores.items() if values.ndim == 0}
    several = confusion.ndim == 3
    labelled = confusion[:, 1].sum(dim=1) if several else confusion.sum(dim=1)
    per_class = {
        class_name: {
            **{name: _plain(values[number]) for name, values in scores.items() if values.ndim == 1},
            "labelled_chips": int(labelled[number]),
        }
        for number, class_name in enumerate(task.class_names)
    }
    rows, columns = ("no, yes", "no, yes") if several else ("label", "prediction")
    counts = {"rows": rows, "columns": columns, "counts": confusion.tolist()}
    return {"overall": overall, "per_class": per_class, "confusion_matrix": counts}


def _plain(value: Tensor) -> float | None:
    number = float(value)
    return None if number != number else number


def write_chip_confusion(folder: Path, task: Any) -> list[Path]:
    """Write ``confusion.csv`` and ``confusion.png``, unless chips can have several classes."""
    if task.confusion.ndim == 3:
        return []
    return write_confusion(folder, task.confusion, task.class_names, unit="chips")


@dataclass(frozen=True)
class ClassifiedChipResults:
    """Labels and predictions of chips: class numbers or, with several classes per chip, lists of 0 and 1."""

    names: tuple[str, ...]
    labels: tuple[Any, ...]
    predictions: tuple[Any, ...]


@dataclass(frozen=True)
class ClassifiedChipCounts(ChipCounts):
    """Counts of 0 and 1 of chips with one class each, from which `OA`, `BA` and `mF1` are computed."""

    def scores(self, weights: NDArray[np.int64] | None = None) -> dict[str, NDArray[np.float64]]:
        """``OA BA mF1`` (D,) of the whole set, see `ChipCounts`; average precision would need probabilities."""
        known = super().scores(weights)
        return {"OA": known["aAcc"], "BA": known["mAcc"], "mF1": known["mFscore"]}

    def caption(self, number: int) -> str:
        """Empty, as pictures show label and prediction."""
        return ""


class MultilabelChipCounts(ClassifiedChipCounts):
    """Counts of 0 and 1 of chips with several classes each."""

    no_intervals: ClassVar[str] = "not computed for chips with several classes"


def read_classified_table(path: Path, target: Target, block: int = 0) -> ClassifiedChipCounts:
    """Read a table written by `ClassifiedChipScores.write_table`.

    Raises:
        DataError: The file is not such a table.
    """
    several = isinstance(target, ChipClassTarget) and target.multilabel
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        label, prediction = (
            np.array(
                [
                    [name in (row[key].split(";") if several else [row[key]]) for name in target.names]
                    for row in rows
                ],
                np.int64,
            ).reshape(len(rows), len(target.names))
            for key in ("label", "prediction")
        )
        names = tuple(row["chip"] for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not a readable table of chips ({error})") from error
    counts = np.stack([label & prediction, label, prediction])
    return (MultilabelChipCounts if several else ClassifiedChipCounts)(names, counts, block)


class ClassifiedChipScores:
    """Accumulates labels and predictions of chips, and keeps some wrong and some right ones to draw them.

    Args:
        class_names: One per class.
        spec: Bands and statistics, needed to draw chips.
    """

    def __init__(self, class_names: Sequence[str], spec: DataSpec | None) -> None:
        self.class_names = list(class_names)
        self.spec = spec
        self.rows: dict[str, tuple[Any, Any]] = {}
        self._drawn: dict[str, dict[str, dict[str, Any]]] = {"wrong": {}, "right": {}}

    def update(self, names: Sequence[str], batch: dict[str, Any], predictions: Tensor) -> None:
        """Add a batch with ``label``; `predictions` has the shape of the labels."""
        for number, name in enumerate(names):
            label, prediction = batch["label"][number].cpu(), predictions[number].cpu()
            if not ChipClassTarget.is_labelled(label).any():
                continue
            self.rows[name] = (label.tolist(), prediction.tolist())
            chosen = self._drawn["wrong" if (label != prediction).any() else "right"]
            if self.spec is not None and len(chosen) < _MOST_DRAWN:
                sample = {key: batch[key][number].cpu() for key in ("image", "valid") if key in batch}
                chosen[name] = sample | {"label": label, "prediction": prediction}

    def gathered(self) -> ClassifiedChipResults:
        """Gather the chips of all processes, sorted by name."""
        rows = dict(sorted((name, row) for part in gather(self.rows) for name, row in part.items()))
        labels, predictions = zip(*rows.values(), strict=True) if rows else ((), ())
        return ClassifiedChipResults(tuple(rows), tuple(labels), tuple(predictions))

    def write_table(self, path: Path, chips: ClassifiedChipResults) -> None:
        """Write ``chips.csv``: one row per chip with its label, its prediction, and whether they agree."""
        with finished_file(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["chip", "label", "prediction", "right"])
            for name, label, prediction in zip(chips.names, chips.labels, chips.predictions, strict=True):
                cells = class_cell(label, self.class_names), class_cell(prediction, self.class_names)
                writer.writerow([name, *cells, int(label == prediction)])

    def write_pictures(self, folder: Path, chips: ClassifiedChipResults) -> list[Path]:
        """Draw chips that this process holds, as ``wrong_NAME.png`` if misclassified, else ``right_NAME.png``."""
        return [
            save_picture(folder, f"{kind}_{name}", figure)
            for kind, samples in self._drawn.items()
            for name, sample in samples.items()
            if (figure := self.plot(sample)) is not None
        ]

    def plot(self, sample: dict[str, Any]) -> Figure | None:
        """Draw a normalised sample, titled with its label and prediction; ``None`` without `spec`."""
        if self.spec is None:
            return None
        titles = [
            f"{key}: {class_cell(sample[key].tolist(), self.class_names) or 'none'}"
            for key in ("label", "prediction")
            if key in sample
        ]
        pixels = {key: value for key, value in sample.items() if key in ("image", "valid")}
        return plot_sample(denormalised(pixels, self.spec), self.spec, suptitle="\n".join(titles))


def class_cell(label: Any, class_names: Sequence[str]) -> str:
    """Cell of a table for a label: the class name, or several names separated by ``;``."""
    if isinstance(label, list):
        return ";".join(name for name, applies in zip(class_names, label, strict=True) if applies == 1)
    return class_names[label]
