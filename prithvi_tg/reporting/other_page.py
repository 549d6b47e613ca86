"""The page of runs of other kinds than classes of pixels, and parts of a run that all pages show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from ..errors import ConfigError
from . import formats
from .curves import curves_svg
from .results import OWN_RESULTS, RESULT_KINDS
from .runs import OWN_SCORES, Run
from .tiles import TiledMap, data_address

_FIGURES = ("scatter.png", "confusion.png")
#: Scores of classified chips, which are shown in per cent.
_SHARES = ("OA", "BA", "mF1", "mAP", "Recall", "Precision", "F1", "AP")
#: Scores in the unit of a value.
_IN_UNIT = ("RMSE", "MAE", "bias")
_SPLITS = {"train": "training", "val": "validation"}
_COUNTS = ("labelled_", "masked_")


def why_no_intervals(run: Run) -> str:
    """The reason why the scores of a run have no intervals; empty if they have, or if there are no scores."""
    if not run.is_scored:
        return ""
    if run.kind == OWN_SCORES:
        return "not computed for scores of your own"
    return "no chips.csv" if run.chips is None else run.chips.why_no_intervals()


def scored_part(run: Run) -> dict[str, Any]:
    """The name of a run, the scored split and chips, and why there are no intervals."""
    split = run.metrics["split"]
    kind = RESULT_KINDS.get(run.kind, OWN_RESULTS)
    return {
        "name": run.name,
        "split": _SPLITS.get(split, split) or f"nothing: {kind.why_unscored}",
        "scored": "" if run.chips is None or not run.is_scored else run.chips.described(),
        "why_no_intervals": why_no_intervals(run),
    }


def embedded(pictures: Mapping[str, Path]) -> list[dict[str, str]]:
    """Name and address of pictures that the page contains."""
    return [
        {"name": name, "address": data_address(path.read_bytes(), "image/png")}
        for name, path in pictures.items()
    ]


def other_page(
    page: Environment,
    common: dict[str, Any],
    runs: Sequence[Run],
    maps: Sequence[TiledMap],
    template: str = "other.html",
) -> str:
    """The page of runs of any other kind: scores, curves, figures, chips.

    Raises:
        ConfigError: Maps are given.
    """
    if maps:
        raise ConfigError("maps: the report shows only maps with one class per pixel; omit maps")
    curves = curves_svg(runs)
    overall = dict.fromkeys(name for run in runs for name in run.metrics["overall"])
    return page.get_template(template).render(
        **common,
        runs=[_described(run) for run in runs],
        overall={name: _with_unit(name, runs[0]) for name in overall},
        curves=None if curves is None else data_address(curves, "image/svg+xml"),
    )


def _described(run: Run) -> dict[str, Any]:
    each = run.metrics.get("per_value") or run.metrics.get("per_class") or {}
    units = _units(run) or [""] * len(each)
    part = scored_part(run)
    has_intervals = run.chips is not None and run.is_scored and not part["why_no_intervals"]
    intervals = run.chips.intervals() if run.chips is not None and has_intervals else {}
    columns = list(dict.fromkeys(key for scores in each.values() for key in scores))
    rows = [
        {
            "name": f"{name} ({unit})" if unit else name,
            "cells": [
                _cell(column, each[name].get(column), _bounds(intervals.get(column), number))
                for column in columns
            ],
        }
        for number, (name, unit) in enumerate(zip(each, units, strict=bool(each)))
        if columns
    ]
    figures = {path.stem: path for name in _FIGURES if (path := run.folder / name).exists()}
    return part | {
        "overall": {
            name: _cell(name, value, _bounds(intervals.get(name)))
            for name, value in run.metrics["overall"].items()
        },
        "overall_intervals": bool(intervals),
        "each": rows,
        "columns": columns,
        "figures": embedded(figures),
        "pictures": embedded(run.pictures),
    }


def _units(run: Run) -> list[str]:
    return list((run.metrics.get("data_spec") or {}).get("target", {}).get("units") or [])


def _with_unit(name: str, run: Run) -> str:
    """The name of a score of the whole set, with the unit if there is only one value."""
    units = _units(run)
    return f"{name} ({units[0]})" if name in _IN_UNIT and len(units) == 1 and units[0] else name


def _bounds(interval: np.ndarray | None, number: int = 0) -> list[float] | None:
    """The bounds of one of several values."""
    if interval is None:
        return None
    return (interval if interval.ndim == 1 else interval[:, number]).tolist()


def _cell(name: str, value: float | None, bounds: Sequence[float] | None) -> dict[str, str]:
    """A score and its interval as text."""
    if name.startswith(_COUNTS):
        return {"text": "-" if value is None else formats.count(int(value)), "interval": ""}
    if name in _SHARES:
        texts = [formats.percent(value, 2), *(formats.percent(bound) for bound in bounds or ())]
    else:
        texts = [formats.number(value), *map(formats.number, bounds or ())]
    has_interval = len(texts) == 3 and "-" not in texts
    return {"text": texts[0], "interval": f"{texts[1]} to {texts[2]}" if has_interval else ""}
