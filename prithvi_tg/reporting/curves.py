"""Learning curves of runs, side by side."""

from collections.abc import Sequence
from io import BytesIO

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .runs import Run

#: Title of a panel, and the columns of ``metrics.csv`` that it shows: solid, and dashed.
_PANELS = (
    ("loss", "val_loss", "train_loss"),
    ("mIoU", "val_mIoU", "train_mIoU"),
    ("learning rate", "lr", None),
)


def curves_svg(runs: Sequence[Run]) -> bytes | None:
    """Losses, mIoU and learning rate over optimiser steps, a colour per run, as SVG; ``None`` without curves."""
    trained = [run for run in runs if "step" in run.curves and len(run.curves) > 1]
    if not trained:
        return None
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axes, (title, solid, dashed) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        for number, run in enumerate(trained):
            color = f"C{number % 10}"
            _draw(axes, run.curves, solid, color, "-", run.name)
            if dashed is not None:
                _draw(axes, run.curves, dashed, color, ":", None)
        axes.set_title(title if dashed is None else f"{title} (dotted: training)")
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if title == "loss":
            axes.set_ylim(bottom=0)
    if len(trained) > 1:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False)
    buffer = BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def _draw(axes: Axes, curves: pd.DataFrame, column: str, color: str, style: str, label: str | None) -> None:
    names = [name for name in curves.columns if name == column or (column == "lr" and name.startswith("lr-"))]
    for number, name in enumerate(names):
        known = curves[["step", name]].dropna()
        marker = "o" if len(known) < 3 else None  # a line of one point shows nothing
        axes.plot(
            known["step"], known[name], style, color=color, marker=marker, markersize=4, linewidth=1.4,
            label=label if number == 0 else None,
        )  # fmt: skip
