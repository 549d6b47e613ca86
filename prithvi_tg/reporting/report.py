"""One page about one run or several: everything in it, nothing to load."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..files import finished_file
from .curves import curves_svg
from .runs import Run
from .tiles import TILE, TiledMap, data_address

_FEWEST = 5  # chips, of which an interval is told
_PER_CLASS = ("IoU", "Acc", "Fscore", "Precision", "Recall")


def write_report(path: Path, runs: Sequence[Run], maps: Sequence[TiledMap] = (), title: str = "") -> None:
    """Write the page: scores with bootstrap intervals, curves, confusion matrices, chips, maps.

    Args:
        path: The page, ``.html``; it appears when it is whole.
        runs: With the same classes.
        maps: Of scenes.
        title: Of the page.
    """
    page = Environment(
        loader=PackageLoader(__package__, "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    page.filters |= {"percent": _percent, "count": _count}
    folder = files(__package__) / "page"
    curves = curves_svg(runs)
    content = page.get_template("report.html").render(
        title=title or ", ".join(run.name for run in runs),
        version=__version__,
        style=Markup((folder / "report.css").read_text()),
        script=Markup((folder / "report.js").read_text()),
        runs=[_described(run) for run in runs],
        classes=runs[0].class_names,
        columns=_PER_CLASS,
        curves=None if curves is None else data_address(curves, "image/svg+xml"),
        maps=[{"name": one.name, "classes": one.classes} for one in maps],
        tile=TILE,
        tiles=[asdict(one) for one in maps],
    )
    with finished_file(path) as partial:
        partial.write_text(content, encoding="utf-8")


def _described(run: Run) -> dict[str, Any]:
    counts = run.metrics["confusion_matrix"]["counts"]
    known = run.chips is not None and len(run.chips.names) >= _FEWEST
    intervals = run.chips.intervals() if run.chips is not None and known else None
    return {
        "name": run.name,
        "folder": str(run.folder),
        "split": run.metrics["split"],
        "record": _record(run.metrics.get("run") or {}),
        "overall": run.metrics["overall"],
        "overall_intervals": {}
        if intervals is None
        else {key: intervals[key].tolist() for key in ("mIoU", "aAcc")},
        "chips": 0 if run.chips is None else len(run.chips.names),
        "per_class": [
            {
                **run.metrics["per_class"][name],
                "interval": None if intervals is None else intervals["IoU"][:, number].tolist(),
            }
            for number, name in enumerate(run.class_names)
        ],
        "confusion": [
            [{"count": count, "share": count / sum(row) if sum(row) else None} for count in row]
            for row in counts
        ],
        "pictures": [
            {"name": name, "address": data_address(picture.read_bytes(), "image/png")}
            for name, picture in sorted(
                run.pictures.items(), key=lambda item: item[0].split("_")[0], reverse=True
            )
        ],
    }


def _record(run: dict[str, Any]) -> dict[str, str]:
    """What a run tells of itself, in words."""
    git, versions = run.get("git") or {}, run.get("versions") or {}
    told = {
        "commit": git.get("commit", "")[:12] + (" with changes" if git.get("changed") else ""),
        "seed": run.get("seed"),
        "precision": run.get("precision"),
        "device": run.get("device"),
        "processes": run.get("processes"),
        "time": f"{run['seconds']:.0f} s" if "seconds" in run else None,
        "memory": f"{run['peak_memory_gb']} GB" if run.get("peak_memory_gb") is not None else None,
        "GPU memory": f"{run['peak_gpu_memory_gb']} GB"
        if run.get("peak_gpu_memory_gb") is not None
        else None,
        "scores of": run.get("scores_of"),
        "checkpoint": run.get("checkpoint"),
        "SHA-256": (run.get("checkpoint_sha256") or "")[:16],
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {key: str(value) for key, value in told.items() if value not in (None, "")}


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")
