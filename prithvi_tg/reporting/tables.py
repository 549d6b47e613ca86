"""Tables and files of scores."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, Group, RenderableType
from rich.table import Table
from torch import Tensor

from ..errors import counted
from ..files import write_json
from ..spec import DataSpec

_ANY_WIDTH = 10_000
#: Width of a table in a file, unless words such as paths need more.
_WIDTH = 120
_NARROW = 24


def as_text(table: RenderableType) -> str:
    """Convert a table, or several, to text.

    In the width and colours of a terminal; for a file, as wide as ``COLUMNS`` says, by default at most 120 characters
    wide, or as wide as its words need, as lines are only broken between words.
    """
    console = Console()
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console = Console(width=_ANY_WIDTH)
        for part in table.renderables if isinstance(table, Group) else [table]:
            if isinstance(part, Table):
                _narrow(part, console)
        console = Console(width=max(Console().width, console.measure(table).maximum))
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def _narrow(table: Table, console: Console) -> None:
    """Limit the widest columns of a table to `_WIDTH` in all, but to no less than `_NARROW` and their longest word."""
    measured = [
        [console.measure(cell) for cell in (column.header, *column.cells)] for column in table.columns
    ]
    widths = [max(cell.maximum for cell in cells) for cells in measured]
    lows = [max(max(cell.minimum, min(cell.maximum, _NARROW)) for cell in cells) for cells in measured]
    borders = console.measure(table).maximum - sum(widths)
    while sum(widths) + borders > _WIDTH and widths != lows:
        widest = max((width, number) for number, width in enumerate(widths) if width > lows[number])[1]
        widths[widest] -= 1
    for column, width in zip(table.columns, widths, strict=True):
        column.max_width = width


def with_further_scores(table: Table, scores: Mapping[str, Tensor]) -> RenderableType:
    """A table, and below it one with a row for each further score of a task, if there are any.

    Args:
        table: Table of the task's own scores, with another unit or a column per score.
        scores: One number each.
    """
    if not scores:
        return table
    title = "further scores (not in per cent)"
    below = Table(title=title, min_width=len(title))
    below.add_column("score")
    below.add_column("value", justify="right")
    for name, value in scores.items():
        below.add_row(name, f"{float(value):.4g}")
    return Group(table, below)


def score_table(scores: dict[str, Tensor], class_names: Sequence[str], title: str) -> RenderableType:
    """Table with one row per class and one for means, in per cent; further scores of the task have rows of their own.

    Args:
        scores: The result of `prithvi_tg.tasks.metrics.segmentation_scores`.
        class_names: Name of each class.
        title: Title of the table.
    """
    columns = [name for name, values in scores.items() if values.ndim == 1]
    caption = f"aAcc {_percent(scores['aAcc'])}; Acc of a class is its recall"
    known = {"aAcc", *(f"m{name}" for name in columns)}
    further = {
        name: value
        for name, value in scores.items()
        if value.ndim == 0 and name not in known and not name.startswith("mmseg_")
    }
    if any(bool(scores[name].isnan().any()) for name in columns):
        caption += "; classes without a score (-) are left out of the means"
    mmseg = {
        name.removeprefix("mmseg_"): value for name, value in scores.items() if name.startswith("mmseg_")
    }
    others = [
        f"{name} {_percent(value)}"
        for name, value in mmseg.items()
        if name in scores and not torch.isclose(value, scores[name], equal_nan=True)
    ]
    if others:
        caption += (
            f"; MMSegmentation's means, without the classes that have no correct pixel: {', '.join(others)}"
        )
    table = Table(title=title, caption=caption)
    table.add_column("class")
    for name in columns:
        table.add_column(name, justify="right")
    for index, class_name in enumerate(class_names):
        table.add_row(class_name, *(_percent(scores[name][index]) for name in columns))
    table.add_section()
    table.add_row("mean", *(_percent(scores[f"m{name}"]) for name in columns))
    return with_further_scores(table, further)


def map_table(results: Sequence[Any]) -> Table:
    """Table with one row per scene, mapped or failed.

    Args:
        results: The result of `prithvi_tg.mapping.map_run.MapRun.results`.
    """
    notes = ["Skipped windows have no data."] if any(result.skipped for result in results) else []
    notes += (
        ["Kept maps were completed by the interrupted run."]
        if any(result.was_complete for result in results)
        else []
    )
    table = Table(
        title="maps", caption=" ".join([*notes, "The content column covers only pixels with data."])
    )
    # Several lines in a cell, so that the table fits into 80 columns beside long names.
    table.add_column("scene", overflow="fold")
    for column in ("size", "time", "nodata"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("content", overflow="fold")
    for result in results:
        size = f"{result.width} x {result.height}" if result.width else "-"
        if result.error is not None:
            table.add_row(result.name, size, "-", "-", "[red]failed[/red]")
            continue
        speed = result.width * result.height / 1e6 / max(result.seconds, 1e-9)
        windows = counted(result.windows, "window")
        lines = [size, windows, *([f"{result.skipped} skipped"] if result.skipped else [])]
        shown_speed = f"{speed:.2f}" if speed >= 0.1 else f"{speed:.1g}"
        time = "kept" if result.was_complete else f"{result.seconds:.1f} s\n{shown_speed} Mpx/s"
        cells = ("\n".join(lines), time, f"{100 * result.nodata:.1f} %")
        table.add_row(result.name, *cells, "\n".join(result.summary) or "no data")
    return table


def _percent(value: Tensor) -> str:
    number = float(value)
    return "-" if number != number else f"{100 * number:.2f}"


def write_scores(
    path: Path,
    results: dict[str, Any],
    split: str | None,
    run: dict[str, Any],
    spec: DataSpec | None,
    block: int = 0,
) -> None:
    """Write scores as JSON: the results, the run, the data; NaN becomes null.

    Args:
        path: The file, ``metrics.json``.
        results: The result of `ResultKind.record` (``overall`` scores, and those of each class or value) or of
            `ResultKind.unscored`.
        split: The scored split; ``None`` for a run without scores.
        run: Record of the run.
        spec: Description of the data.
        block: Side of the blocks of ground that intervals resample, for windows of a scene; see `ChipCounts`.
    """
    record: dict[str, Any] = {"split": split, **results}
    record["bootstrap_block"] = block
    record["run"] = run
    record["data_spec"] = None if spec is None else spec.to_dict()
    write_json(path, record)


def plain_scores(
    scores: dict[str, Tensor], confusion: Tensor, class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Scores in the form of metrics.json: ``overall``, and ``per_class`` with the number of labelled pixels."""
    overall = {name: _plain(values) for name, values in scores.items() if values.ndim == 0}
    columns = {name: values for name, values in scores.items() if values.ndim == 1}
    per_class = {
        class_name: {
            **{name: _plain(values[number]) for name, values in columns.items()},
            "labelled_pixels": int(confusion[number].sum()),
        }
        for number, class_name in enumerate(class_names)
    }
    return {"overall": overall, "per_class": per_class}


def _plain(value: Tensor) -> float | None:
    number = float(value)
    return None if number != number else number
