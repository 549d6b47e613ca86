"""Learning curves of runs, side by side."""

from collections.abc import Sequence
from io import BytesIO

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .runs import Run

#: Title of a panel, its column of ``metrics.csv`` for validation (solid), and that for training (dotted), if any.
Panel = tuple[str, str, str | None]
_LOSS: Panel = ("loss", "val_loss", "train_loss")
_RATE: Panel = ("learning rate", "lr-", None)
#: Kind of target -> the score of a panel.
_SCORES: dict[str, str] = {"classes": "mIoU", "values": "R2", "chip_classes": "mF1", "images": "mR2"}
_FEW = 30  # points; a curve with at most this many has markers


def curves_svg(runs: Sequence[Run]) -> bytes | None:
    """Losses, a score such as mIoU and the learning rate over optimiser steps, as SVG; ``None`` without curves."""
    trained = [run for run in runs if "step" in run.curves and len(run.curves) > 1]
    if not trained:
        return None
    columns = min(len(runs), 4)
    score = _SCORES.get(runs[0].kind) or next(iter(runs[0].metrics["overall"]), "score")
    panels: list[Panel] = [_LOSS, (score, f"val_{score}", f"train_{score}")]
    if any(
        name.startswith("lr-") and run.curves[name].notna().any() for run in trained for name in run.curves
    ):
        panels.append(_RATE)  # short runs do not log it
    figure = Figure(figsize=(12, 3.4 + 0.25 * -(-len(runs) // columns)), layout="constrained")
    for axes, (title, solid, dotted) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for number, run in enumerate(trained):
            # Later curves are thinner, so that they do not hide earlier ones.
            color, width = f"C{number % 10}", 1.2 + 3.6 * (len(trained) - 1 - number) / len(trained)
            _draw(axes, run.curves, solid, color, "-", width, run.name)
            if dotted is not None and dotted in run.curves:
                label = None if solid in run.curves else run.name  # for a run without validation
                _draw(axes, run.curves, dotted, color, ":", width, label)
        axes.set_title(f"{title} (dotted: training)" if dotted else title)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        if title == "loss":
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    if len(runs) > 1:
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", frameon=False, ncols=columns)
    buffer = BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def _draw(
    axes: Axes, curves: pd.DataFrame, column: str, color: str, style: str, width: float, label: str | None
) -> None:
    names = [
        name for name in curves.columns if name == column or (column == "lr-" and name.startswith(column))
    ]
    for number, name in enumerate(names):
        known = curves[["step", name]].dropna()
        axes.plot(
            known["step"], known[name], style, color=color, marker="o" if len(known) <= _FEW else None,
            markersize=3 if len(known) > 1 else 8, linewidth=width, label=label if number == 0 else None,
        )  # fmt: skip
