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
#: Kind of target -> possible scores of a panel.
_SCORES: dict[str, tuple[str, ...]] = {
    "classes": ("mIoU",),
    "values": ("R2", "mR2"),
    "chip_classes": ("mF1",),
    "images": ("mR2",),
}
_FEW = 30  # points; a curve with at most this many has markers


def curves_svg(runs: Sequence[Run]) -> bytes | None:
    """Losses, a score such as mIoU and the learning rate over optimiser steps, as SVG; ``None`` without curves."""
    trained = [run for run in runs if _has_training(run.curves)]
    if not trained:
        return None
    columns = min(len(runs), 4)
    scores = _SCORES.get(runs[0].kind) or tuple(runs[0].metrics["overall"])[:1]
    possible = [_LOSS, *((name, f"val_{name}", f"train_{name}") for name in scores), _RATE]
    panels = [panel for panel in possible if any(_has_curve(run.curves, panel) for run in trained)]
    if not panels:
        return None
    figure = Figure(figsize=(12, 3.4 + 0.25 * -(-len(runs) // columns)), layout="constrained")
    for axes, (title, solid, dotted) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        has_dotted = False
        for number, run in enumerate(trained):
            # Later curves are thinner, so that they do not hide earlier ones.
            color, width = f"C{number % 10}", 1.2 + 3.6 * (len(trained) - 1 - number) / len(trained)
            _draw(axes, run.curves, solid, color, "-", width, run.name)
            if dotted is not None and _columns(run.curves, dotted):
                has_dotted = True
                label = None if _columns(run.curves, solid) else run.name  # for a run without validation
                _draw(axes, run.curves, dotted, color, ":", width, label)
        axes.set_title(f"{title} (dotted: training)" if has_dotted else title)
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


def _has_training(curves: pd.DataFrame) -> bool:
    """Whether there are curves, or the points of a training of one epoch; one row of scores is from a validation."""
    logged = any(name.startswith(("train_", "lr-")) for name in curves)
    return "step" in curves and (len(curves) > 1 or (logged and len(curves) == 1))


def _columns(curves: pd.DataFrame, column: str) -> list[str]:
    """The columns of a quantity that have values: one, or one for each group of parameters."""
    names = [name for name in curves if name == column or (column == "lr-" and name.startswith(column))]
    return [name for name in names if curves[name].notna().any()]


def _has_curve(curves: pd.DataFrame, panel: Panel) -> bool:
    """Whether a run logged the quantity of a panel."""
    return any(_columns(curves, column) for column in panel[1:] if column is not None)


def _draw(
    axes: Axes, curves: pd.DataFrame, column: str, color: str, style: str, width: float, label: str | None
) -> None:
    for number, name in enumerate(_columns(curves, column)):
        known = curves[["step", name]].dropna()
        axes.plot(
            known["step"], known[name], style, color=color, marker="o" if len(known) <= _FEW else None,
            markersize=3 if len(known) > 1 else 8, linewidth=width, label=label if number == 0 else None,
        )  # fmt: skip
