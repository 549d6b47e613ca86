"""Reliability diagram: the share of correct pixels by confidence."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..files import finished_file

#: Name of counts -> its label in the diagram.
_LABELS = {"calibration": "as trained", "calibrated": "with temperature"}


def reliability_figure(bins: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw accuracy over confidence, and below it the share of the pixels in each bin.

    Args:
        bins: Name -> result of `prithvi_tg.tasks.calibration_metrics.reliability`.
    """
    figure = Figure(figsize=(4.2, 5.3 + 0.2 * len(bins)), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
    for number, (name, counts) in enumerate(bins.items()):
        pixels, confidence, accuracy = (
            np.array(counts[key], float) for key in ("pixels", "confidence", "accuracy")
        )
        total = pixels.sum()
        error = np.nansum(np.abs(confidence - accuracy) * pixels) / total if total else np.nan
        label = f"{_LABELS.get(name, name)}, ECE {error:.3f}"
        line = {"color": f"C{number}", "marker": "o", "markersize": 3, "clip_on": False}
        upper.plot(confidence, accuracy, label=label, **line)
        edges = np.linspace(0, 1, len(pixels) + 1)
        lower.stairs(pixels / max(total, 1), edges, color=f"C{number}", fill=number == 0, alpha=0.6)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of correct pixels")
    upper.grid(alpha=0.3)
    figure.legend(loc="outside upper center", frameon=False)
    lower.set(xlabel="confidence", ylabel="share of pixels")
    return figure


def write_reliability(folder: Path, bins: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write ``reliability.png`` to the folder of a run, and return its path."""
    path = folder / "reliability.png"
    with finished_file(path) as partial:
        reliability_figure(bins).savefig(partial, format="png", dpi=110)
    return path


def reliability_svg(bins: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The diagram as SVG."""
    buffer = BytesIO()
    reliability_figure(bins).savefig(buffer, format="svg")
    return buffer.getvalue()
