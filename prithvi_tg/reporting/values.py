"""Tables, records and figures of the scores of pixelwise regression."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from ..files import finished_file
from ..targets import ValueTarget
from ..tasks.value_metrics import DEVIATIONS, value_scores
from .tables import with_further_scores

#: Scores that every value has.
VALUE_SCORES = ("RMSE", "MAE", "bias", "R2")


def value_table(
    scores: dict[str, Tensor], target: ValueTarget, title: str, heading: str = "value"
) -> RenderableType:
    """Table with one row per value, in its unit; R2 has no unit. Further scores have rows of their own.

    Args:
        scores: Scalars for one value, or a number per value, and further scalars.
        target: Names and units.
        title: Title of the table.
        heading: Heading of the column of names.
    """
    table = Table(title=title)
    words = (heading, "unit") if any(target.units) else (heading,)
    for column in (*words, *VALUE_SCORES):
        table.add_column(column, justify="left" if column in words else "right")
    for number, (name, unit) in enumerate(zip(target.names, target.units, strict=True)):
        cells = (f"{float(scores[key].reshape(-1)[number]):.4g}" for key in VALUE_SCORES)
        table.add_row(*(name, unit or "-")[: len(words)], *cells)
    further = {name: values for name, values in scores.items() if name not in VALUE_SCORES}
    return with_further_scores(table, further)


def plain_value_scores(
    scores: dict[str, Tensor], sums: Tensor, target: ValueTarget, counted: str = "labelled_pixels"
) -> dict[str, Any]:
    """Scores in the form of metrics.json: ``overall``, and ``per_value`` with the number of labelled pixels.

    Args:
        scores: Scores of the task.
        sums: The sums of `ValueErrors`.
        target: Names of the values.
        counted: Key of the number of pixels.
    """
    each = value_scores(sums)
    overall = {name: _plain(values) for name, values in scores.items() if values.ndim == 0}
    per_value = {
        name: {
            **{key: _plain(each[key][number]) for key in VALUE_SCORES},
            counted: int(sums[0, number]),
        }
        for number, name in enumerate(target.names)
    }
    return {"overall": overall, "per_value": per_value}


def write_density(folder: Path, counts: Tensor, target: ValueTarget) -> Path:
    """Write ``scatter.png``: a histogram of pixels by label and prediction, with one panel per value.

    Args:
        folder: Existing folder of the run.
        counts: (V, bins, bins) of label and prediction, see `ValueDensity`.
        target: Names, units and statistics.

    Returns:
        The path.
    """
    path = folder / "scatter.png"
    figure = Figure(figsize=(4.8 * len(target.names), 4.4), layout="constrained")
    for number, (name, unit) in enumerate(zip(target.names, target.units, strict=True)):
        mean, std = target.mean[number], target.std[number]
        low, high = mean - DEVIATIONS * std, mean + DEVIATIONS * std
        axes = figure.add_subplot(1, len(target.names), number + 1)
        density = np.ma.masked_equal(counts[number].cpu().numpy().T, 0)
        norm = LogNorm(1, max(2, int(density.max()))) if density.count() else None
        image = axes.imshow(density, origin="lower", extent=(low, high, low, high), cmap="viridis", norm=norm)
        axes.plot((low, high), (low, high), color="black", linewidth=0.8)
        bins = (counts[number].sum(dim=0) + counts[number].sum(dim=1)).nonzero().flatten().tolist()
        if bins:
            width = (high - low) / len(density)
            limits = low + width * (bins[0] - 1), low + width * (bins[-1] + 2)
            axes.set(xlim=limits, ylim=limits)
        label = f"{name} ({unit})" if unit else name
        axes.set_xlabel(f"label: {label}")
        axes.set_ylabel(f"prediction: {label}")
        figure.colorbar(image, ax=axes, label="pixels", shrink=0.8)
    with finished_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    return path


def _plain(value: Tensor) -> float | None:
    number = float(value)
    return None if number != number else number
