"""Reporting results by the kind of target: tables, records, figures and scores of single chips."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import RenderableType
from rich.table import Table

from ..errors import NO_VALIDATION
from ..tasks.calibration_metrics import reliability
from .chip_classes import ClassifiedChipScores, chip_record, chip_score_table, write_chip_confusion
from .chips import ChipScores
from .confusion import write_confusion
from .reconstructions import ReconstructionScores, reconstruction_record
from .reliability import write_reliability
from .tables import plain_scores, score_table
from .value_chips import ValueChipScores
from .values import plain_value_scores, value_table, write_density


class ChipResults(Protocol):
    """Accumulates the scores of single chips, and keeps some chips to draw them."""

    def update(self, names: list[str], batch: dict[str, Any], predictions: Any) -> None:
        """Add a batch."""

    def gathered(self) -> Any:
        """Gather the chips of all processes, with an attribute ``names``; all processes must call it."""

    def write_table(self, path: Path, chips: Any) -> None:
        """Write ``chips.csv``."""

    def write_pictures(self, folder: Path, chips: Any) -> list[Path]:
        """Draw those of the selected chips that this process holds."""

    def plot(self, sample: dict[str, Any]) -> Any:
        """Draw a normalised sample with its ``prediction``; ``None`` without a description of the data."""


@dataclass(frozen=True)
class ResultKind:
    """Functions that report the results of a task.

    Attributes:
        unit: Unit of the scores, for the title of the table.
        table: Builds the table of scores from the task and a title.
        record: Builds the content of metrics.json.
        unscored: Builds the content of metrics.json for a run without scores.
        write_figures: Writes files beside metrics.json, and returns their paths.
        chips: Creates the accumulator of the scores of single chips.
        why_unscored: Why a run has no scores, and how to get some.
    """

    unit: str
    table: Callable[[Any, str], RenderableType]
    record: Callable[[Any], dict[str, Any]]
    unscored: Callable[[Any], dict[str, Any]]
    write_figures: Callable[[Path, Any], list[Path]]
    chips: Callable[[Any], ChipResults]
    why_unscored: str = f"{NO_VALIDATION}; score the test set with prithvi-tg test"


def _confusion_record(task: Any) -> dict[str, Any]:
    counts = {"rows": "label", "columns": "prediction", "counts": task.confusion.tolist()}
    bins = {name: reliability(task.computed[name]) for name in task.records if name in task.computed}
    return {
        **plain_scores(task.scores, task.confusion, task.class_names),
        "confusion_matrix": counts,
        **({"reliability": bins} if bins else {}),
    }


def _class_figures(folder: Path, task: Any) -> list[Path]:
    written = write_confusion(folder, task.confusion, task.class_names)
    bins = {name: reliability(task.computed[name]) for name in task.records if name in task.computed}
    return written + ([write_reliability(folder, bins)] if bins else [])


def _number_table(task: Any, title: str) -> Table:
    table = Table(title=title)
    table.add_column("score")
    table.add_column("value", justify="right")
    for name, value in task.scores.items():
        table.add_row(name, f"{float(value):.4g}")
    return table


#: For a task that replaces all scores of its kind.
OWN_RESULTS = ResultKind(
    unit="scores of the task",
    table=_number_table,
    record=lambda task: {"overall": {name: float(value) for name, value in task.scores.items()}},
    unscored=lambda task: {"overall": {}},
    write_figures=lambda folder, task: [],
    chips=lambda task: RESULT_KINDS[task.target_kind].chips(task),
)


def result_kind(task: Any) -> ResultKind:
    """Functions that report the scores of a validated or tested task."""
    return RESULT_KINDS[task.target_kind] if task.computed.keys() >= set(task.counts) else OWN_RESULTS


#: Kind of target -> functions that report its results.
RESULT_KINDS: dict[str, ResultKind] = {
    "classes": ResultKind(
        unit="per cent",
        table=lambda task, title: score_table(task.scores, task.class_names, title),
        record=_confusion_record,
        unscored=lambda task: {
            "overall": {},
            "per_class": {name: {} for name in task.class_names},
            "confusion_matrix": None,
        },
        write_figures=_class_figures,
        chips=lambda task: ChipScores(task.num_classes, task.run_spec, class_names=task.class_names),
    ),
    "values": ResultKind(
        unit="in units of the values",
        table=lambda task, title: value_table(task.scores, task.target, title),
        record=lambda task: plain_value_scores(task.scores, task.computed["errors"], task.target),
        unscored=lambda task: {"overall": {}, "per_value": {name: {} for name in task.target.names}},
        write_figures=lambda folder, task: [write_density(folder, task.computed["density"], task.target)],
        chips=lambda task: ValueChipScores(task.target, task.run_spec),
    ),
    "images": ResultKind(
        unit="masked pixels in units of the bands",
        table=lambda task, title: value_table(task.scores, task.target, title, heading="band"),
        record=reconstruction_record,
        unscored=lambda task: {"overall": {}, "per_value": {name: {} for name in task.target.names}},
        write_figures=lambda folder, task: [],
        chips=lambda task: ReconstructionScores(
            task.output_names, task.run_spec, scored_size=task.scored_size
        ),
        why_unscored=NO_VALIDATION,
    ),
    "chip_classes": ResultKind(
        unit="per cent",
        table=lambda task, title: chip_score_table(task.scores, task.class_names, title),
        record=chip_record,
        write_figures=write_chip_confusion,
        chips=lambda task: ClassifiedChipScores(task.class_names, task.run_spec),
        unscored=lambda task: {"overall": {}, "per_class": {name: {} for name in task.class_names}},
    ),
}
