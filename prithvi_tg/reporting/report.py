"""The report: one self-contained HTML page about one or several runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..errors import ConfigError, counted
from ..files import finished_file
from ..tasks.metrics import MMSEG_MEANS, PER_CLASS
from . import formats
from .curves import curves_svg
from .linear_baseline import BaselineResult
from .other_page import embedded, other_page, scored_part
from .reliability import reliability_svg
from .runs import KIND_NAMES, Run, differing_settings
from .tiles import TILE, TiledMap, data_address
from .titles import default_title, run_date

_MEANS = ("mIoU", "aAcc", *(f"m{name}" for name in PER_CLASS if name != "IoU"))


def write_report(
    path: Path,
    runs: Sequence[Run],
    maps: Sequence[TiledMap] = (),
    title: str = "",
    baselines: Mapping[str, BaselineResult] | None = None,
    areas: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the page: scores with bootstrap intervals, differences, curves, confusion matrices, chips, maps.

    Args:
        path: The page, ``.html``; written to its final name when it is complete.
        runs: Runs with the same classes; others are compared with the first. None for a page of areas alone.
        maps: Maps of scenes; maps of one place move together.
        title: Title of the page; by default, data, model, command and date of the runs.
        baselines: Name of a run -> scores of a baseline on the same pixels.
        areas: Results of `prithvi_tg.reporting.areas.read_areas`.

    Raises:
        ConfigError: Runs have labels of different kinds, or maps are given for other labels than classes of pixels.
    """
    page = Environment(
        loader=PackageLoader(__package__, "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    page.filters |= {
        "percent": formats.percent,
        "count": formats.count,
        "signed": formats.signed,
        "setting": formats.setting,
        "number": formats.number,
        "path": formats.path,
        "area": formats.area,
    }
    kinds = list(dict.fromkeys(run.kind for run in runs)) or ["areas"]
    if len(kinds) > 1:
        named = ", ".join(KIND_NAMES[kind] for kind in kinds)
        raise ConfigError(
            f"runs: labels of different kinds cannot be compared ({named}); report them separately"
        )
    folder = files(__package__) / "page"
    common = {
        "title": title or (default_title(runs) if runs else _areas_title(areas)),
        "names": [run.name for run in runs],
        "version": __version__,
        "style": Markup((folder / "report.css").read_text()),
        "script": Markup((folder / "report.js").read_text()),
        "records": _rows([_record(run) for run in runs]),
        "settings": differing_settings([run.settings for run in runs]),
        "baselines": baselines or {},
        "score": formats.percent if kinds[0] in ("classes", "chip_classes") else formats.number,
        "tile": TILE,
        "areas": areas,
        "unit": unit_of_chips(runs),
    }
    content = _PAGES.get(kinds[0], other_page)(page, common, runs, maps)
    with finished_file(path) as partial:
        partial.write_text(content, encoding="utf-8")


def _class_page(
    page: Environment, common: dict[str, Any], runs: Sequence[Run], maps: Sequence[TiledMap]
) -> str:
    """The page of runs with classes of pixels."""
    curves = curves_svg(runs)
    scored = [run for run in runs if run.is_scored]
    same = [run for run in scored if _labelled(run) == _labelled(scored[0])]
    return page.get_template("report.html").render(
        **common,
        runs=[_described(run) for run in runs],
        compared=_compared(same) if len(same) > 1 else [],
        same=[run.name for run in same],
        others=[run.name for run in scored if run not in same],
        classes=runs[0].class_names,
        columns=PER_CLASS,
        means=[*_MEANS, *_other_means(runs)],
        further=_further(runs),
        curves=None if curves is None else data_address(curves, "image/svg+xml"),
        places=_places(maps, runs),
        tiles=[asdict(one) for one in maps],
    )


def _areas_page(
    page: Environment, common: dict[str, Any], runs: Sequence[Run], maps: Sequence[TiledMap]
) -> str:
    """The page of areas without a run."""
    return page.get_template("base.html").render(**common, runs=[], curves=None)


def unit_of_chips(runs: Sequence[Run]) -> str:
    """What was scored: ``chips``, ``windows`` of scenes, or both."""
    are_windows = {run.chips.block_side is not None for run in runs if run.chips is not None}
    return {(True,): "windows", (False, True): "chips or windows"}.get(tuple(sorted(are_windows)), "chips")


def _areas_title(areas: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(", ".join(one["map_names"]) or one["name"] for one in areas)
    return f"Areas with intervals · {', '.join(names)}"


#: Kind of target, or ``areas`` without a run -> its page; others have a plain one.
_PAGES: dict[str, Callable[..., str]] = {
    "classes": _class_page,
    "areas": _areas_page,
    "values": partial(other_page, template="values.html"),
    "chip_classes": partial(other_page, template="chip_classes.html"),
    "images": partial(other_page, template="pretraining.html"),
}


def _other_means(runs: Sequence[Run]) -> list[str]:
    """Means of MMSegmentation that differ from ours in a run."""
    overall = [run.metrics["overall"] for run in runs]
    return [
        f"mmseg_{name}"
        for name in MMSEG_MEANS
        if any(name in one and not _same(one[name], one[f"mmseg_{name}"]) for one in overall)
    ]


def _further(runs: Sequence[Run]) -> list[str]:
    """Names of scores that a task has added."""
    known = {*_MEANS, *(f"mmseg_{name}" for name in MMSEG_MEANS)}
    return list(dict.fromkeys(name for run in runs for name in run.metrics["overall"] if name not in known))


def _same(one: float | None, other: float | None) -> bool:
    return one == other if one is None or other is None else math.isclose(one, other)


def makers(tiled: TiledMap, runs: Sequence[Run]) -> list[str]:
    """The runs that trained or scored the weights of a map, or of a member of its ensemble."""
    return [run.name for run in runs if run.checkpoints.intersection((tiled.checkpoint or "").split())]


def _places(maps: Sequence[TiledMap], runs: Sequence[Run]) -> list[list[dict[str, Any]]]:
    """Maps grouped by place and legend, with their numbers in `maps`."""
    places: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for number, one in enumerate(maps):
        known = makers(one, runs)
        if known:
            origin = f"made with the weights of {', '.join(known)}"
        elif one.checkpoint:
            origin = f"made with weights {one.checkpoint[:16]}, which belong to none of these runs"
        else:
            origin = "the file does not record its weights"
        described = {"number": number, "name": one.name, "classes": one.classes, "origin": origin}
        described["no_data"] = one.no_data
        places.setdefault((one.place, *one.classes), []).append(described)
    return list(places.values())


def _compared(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Rows of IoU per class and of the mean: for the first run, and for others with the difference to it."""
    bounds = [_difference_bounds(runs[0], run) for run in runs]
    rows = []
    for number, name in enumerate([*runs[0].class_names, None]):
        scores = [
            run.metrics["overall"]["mIoU"] if name is None else run.metrics["per_class"][name]["IoU"]
            for run in runs
        ]
        intervals = [
            None if one is None else (one["mIoU"] if name is None else one["IoU"][:, number]).tolist()
            for one in bounds
        ]
        cells = [
            {"score": score, "difference": _minus(score, scores[0]), "interval": interval}
            for score, interval in zip(scores, intervals, strict=True)
        ]
        rows.append({"name": name or "mean", "cells": cells})
    return rows


def _difference_bounds(first: Run, run: Run) -> dict[str, Any] | None:
    if first.chips is None or run.chips is None or first.chips.names != run.chips.names:
        return None
    return None if first.chips.why_no_intervals() else first.chips.difference_intervals(run.chips)


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _labelled(run: Run) -> list[int]:
    return [sum(row) for row in run.metrics["confusion_matrix"]["counts"]]


def _described(run: Run) -> dict[str, Any]:
    counts = run.metrics["confusion_matrix"]["counts"] if run.is_scored else []
    part = scored_part(run)
    has_intervals = run.is_scored and not part["why_no_intervals"]
    intervals = run.chips.intervals() if run.chips is not None and has_intervals else None
    return {
        **part,
        "folder": str(run.folder),
        "overall": run.metrics["overall"],
        "overall_intervals": {} if intervals is None else {key: intervals[key].tolist() for key in _MEANS},
        "reliability": _reliability(run),
        "per_class": [
            {
                **run.metrics["per_class"][name],
                "interval": None if intervals is None else intervals["IoU"][:, number].tolist(),
            }
            for number, name in enumerate(run.class_names if run.is_scored else ())
        ],
        "confusion": [
            [{"count": count, "share": count / sum(row) if sum(row) else None} for count in row]
            for row in counts
        ],
        "pictures": embedded(run.pictures),
    }


def _reliability(run: Run) -> str | None:
    """Address of the reliability diagram; ``None`` for a run of an earlier version, or without scores."""
    bins = run.metrics.get("reliability")
    return data_address(reliability_svg(bins), "image/svg+xml") if bins else None


def _parameters(training: dict[str, Any]) -> str:
    count, trained = training["parameters"], training["parameters_trained"]
    return f"{count:,}, {'all' if trained == count else f'{trained:,} of them'} trained"


def _record(run: Run) -> dict[str, str]:
    """The record of a run as text, one value per row of the table."""
    record = run.metrics.get("run") or {}
    git, versions, training = (record.get(key) or {} for key in ("git", "versions", "training"))
    parts = [f"{part['folder']} (to epoch {part['epoch']})" for part in training.get("resumed_from", [])]
    checkpoint, epoch = record.get("checkpoint"), record.get("checkpoint_epoch")
    words = {
        "command": record.get("command"),
        "date": f"{run_date(run):%Y-%m-%d %H:%M} UTC" if record.get("date") else None,
        "task": record.get("task"),
        "checkpoint": checkpoint if epoch is None else f"{checkpoint}, epoch {epoch}",
        "SHA-256": (record.get("checkpoint_sha256") or "")[:16],
        "trained": f"{counted(training['epochs'], 'epoch')}, {counted(training['steps'], 'step')}"
        if training
        else None,
        "parameters": _parameters(training) if training else None,
        "training time": f"{training['seconds']:.0f} s" if training else None,
        "resumed from": ", ".join(parts),
        "seed": record.get("seed"),
        "precision": record.get("precision"),
        "device": record.get("device"),
        "processes": record.get("processes"),
        "time": f"{record['seconds']:.0f} s" if "seconds" in record and not training else None,
        "memory": f"{record['peak_memory_gb']} GB" if record.get("peak_memory_gb") is not None else None,
        "GPU memory": f"{record['peak_gpu_memory_gb']} GB"
        if record.get("peak_gpu_memory_gb") is not None
        else None,
        "warnings": "; ".join(record.get("warnings") or ()),
        "skipped chips": len(record.get("skipped_chips") or ()) or None,
        "commit": git.get("commit", "")[:12] + (" with changes" if git.get("changed") else ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {key: str(value) for key, value in words.items() if value not in (None, "")}


def _rows(records: Sequence[dict[str, str]]) -> dict[str, list[tuple[str, list[str]]]]:
    """The records of runs, one row per key: keys with differing values, and keys with equal values."""
    keys = dict.fromkeys(key for record in records for key in record)
    rows: dict[str, list[tuple[str, list[str]]]] = {"differing": [], "same": []}
    for key in keys:
        values = [record.get(key, "-") for record in records]
        rows["same" if len(records) > 1 and len(set(values)) == 1 else "differing"].append((key, values))
    return rows
