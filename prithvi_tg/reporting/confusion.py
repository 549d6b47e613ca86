"""The confusion matrix as a table of counts and as a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ..files import finished_file

_SIDE = 0.45  # inches of a cell


def write_confusion(
    folder: Path, confusion: Tensor, class_names: Sequence[str], unit: str = "pixels"
) -> list[Path]:
    """Write ``confusion.csv``, with one row per label and one column per prediction, and ``confusion.png``.

    Args:
        folder: Existing folder of the run.
        confusion: Counts (K, K), rows are labels.
        class_names: One per class.
        unit: Unit of the counts.

    Returns:
        Paths of the written files.
    """
    table, picture = folder / "confusion.csv", folder / "confusion.png"
    with finished_file(table) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label / prediction", *class_names])
        writer.writerows([name, *row] for name, row in zip(class_names, confusion.tolist(), strict=True))
    with finished_file(picture) as partial:
        confusion_figure(confusion, class_names, unit).savefig(partial, format="png", dpi=110)
    return [table, picture]


def confusion_figure(confusion: Tensor, class_names: Sequence[str], unit: str = "pixels") -> Figure:
    """Draw the counts, and the percentages of each label, side by side; colours show the percentage."""
    counts = confusion.cpu().double().numpy()
    labelled = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, labelled, out=np.zeros_like(counts), where=labelled > 0)
    side = max(2.5, _SIDE * len(class_names) + 1)
    margin = 0.08 * max(map(len, class_names)) + 0.5  # for the class names
    figure = Figure(figsize=(2 * (side + margin), side + margin + 0.4), layout="constrained")
    for axes, title, texts in zip(
        figure.subplots(1, 2),
        (unit, "per cent of the label"),
        (_short(counts), [[f"{100 * share:.0f}" for share in row] for row in shares]),
        strict=True,
    ):
        axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        axes.set_title(title)
        axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
        axes.set_yticks(range(len(class_names)), class_names)
        axes.set_xlabel("prediction")
        axes.set_ylabel("label")
        for row, line in enumerate(texts):
            for column, text in enumerate(line):
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    return figure


def _short(counts: np.ndarray) -> list[list[str]]:
    """Format counts with three digits, such as 12.3k or 4.56M."""

    def short(count: float) -> str:
        for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if count >= unit:
                return f"{count / unit:.3g}{name}"
        return f"{count:.0f}"

    return [[short(count) for count in row] for row in counts]
