"""The section of the report about areas that were estimated from a sample."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..areas.estimation import Z
from ..areas.results import DEGENERATE, described_allocation
from ..errors import DataError, listed
from .runs import distinct_names

_KEYS = {
    "square_metres",
    "points",
    "uninterpretable",
    "overall_accuracy",
    "classes",
    "error_matrix",
    "strata",
    "design",
}
_LARGE = 1e10  # square metres, from which areas are shown in square kilometres


def read_areas(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read results of ``area estimate`` for the page.

    Args:
        paths: Files that ``area estimate --output`` wrote.

    Raises:
        DataError: A file is not such a result.
    """
    names = distinct_names([path.resolve().with_suffix("") for path in paths])
    return [_read(path, name) for path, name in zip(paths, names, strict=True)]


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
        if not isinstance(record, dict) or not record.keys() >= _KEYS:
            raise DataError(f"{path}: not a result of area estimate")
        return _described(record, name)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a result of area estimate ({error})") from error


def _described(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    is_large = record["square_metres"] >= _LARGE
    unit, size = ("km²", 1e6) if is_large else ("ha", 1e4)
    classes = record["classes"]
    design = record["design"]
    figures = [
        record["overall_accuracy"],
        *(one[key] for one in classes for key in ("square_metres", "users_accuracy", "producers_accuracy")),
    ]
    return {
        "name": name,
        "unit": unit,
        "total": record["square_metres"] / size,
        "points": record["points"],
        "uninterpretable": record["uninterpretable"],
        "overall": record["overall_accuracy"],
        "classes": [_class(one, size) for one in classes],
        "unreliable": [
            {**one, "strata_with_few": listed(one["few_omissions_in"])}
            for one in classes
            if not one["reliable"]
        ],
        "degenerate": DEGENERATE if any(one and one.get("degenerate") for one in figures) else "",
        "matrix": [[*row, sum(row)] for row in record["error_matrix"]],
        "totals": [sum(column) for column in zip(*record["error_matrix"], strict=True)],
        "strata": [
            {
                **one,
                "area": one["square_metres"] / size,
                "share": one["square_metres"] / record["square_metres"],
            }
            for one in record["strata"]
        ],
        "allocation": described_allocation(design),
        "seed": design.get("seed", "-"),
        "maps": ", ".join(one["name"] for one in design.get("maps", ())),
        "map_names": list(dict.fromkeys(Path(one["name"]).name for one in design.get("maps", ()))),
    }


def _class(one: Mapping[str, Any], size: float) -> dict[str, Any]:
    """Figures of a class in units of so many square metres; its bar reaches from 0 to just above its largest figure."""
    area, mapped = one["square_metres"], one["mapped_square_metres"]
    end = 1.05 * max(area["interval"][1], mapped) or 1.0
    return {
        **one,
        "mapped": mapped / size,
        "area": area["value"] / size,
        "half_width": Z * area["standard_error"] / size,
        "bar": [edge / end for edge in area["interval"]],
        "mark": area["value"] / end,
        "mapped_mark": mapped / end,
    }
