"""What is said of the labels of a training set, by the kind of target, and what a pass over a split collects."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .spec import DataSpec

Severity = Literal["ok", "advice", "error"]

_RARE = 0.001  # of the labelled pixels


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        severity: ``error`` for what makes results wrong, ``advice`` for what may.
        subject: What was looked at.
        message: What was found.
        advice: What to do.
    """

    severity: Severity
    subject: str
    message: str
    advice: str = ""


@dataclass
class Survey:
    """What one pass over a split found."""

    names: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)  # of content, to the chip that has it
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    mislabelled: list[str] = field(default_factory=list)  # with stored labels that are no class
    unknown_labels: Counter[int] = field(default_factory=Counter)  # pixels of each
    wrong_unit: list[str] = field(default_factory=list)  # in another unit
    misaligned: list[str] = field(default_factory=list)
    unplaced: int = 0
    empty: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    nodata: float = 0.0
    smallest: int | None = None
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    means: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    deviations: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    lows: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # lowest 1st percentile of a chip


def _of_classes(surveys: dict[str, Survey], spec: DataSpec) -> Iterator[Finding]:
    """Class balance, and classes that are scored but never learnt."""
    train = surveys.get("train")
    if train is None or not train.labels.sum():
        if train is not None:
            yield Finding("error", "train", "no pixel is labelled", "check classes and ignored_labels")
        return
    for split, found in surveys.items():
        counted = found.labels / max(1, found.labels.sum())
        told = ", ".join(
            f"{name} {100 * share:.2g} %" for name, share in zip(spec.target.names, counted, strict=True)
        )
        yield Finding("ok", f"classes of {split}", told)
        absent = [name for name, share in zip(spec.target.names, counted, strict=True) if share < _RARE]
        if split != "train" and absent:
            yield Finding(
                "advice", f"classes of {split}", f"{', '.join(absent)}: almost no pixels, so the score is unreliable",
                "choose another split; for blocks, smaller blocks or another seed",
            )  # fmt: skip
    shares = train.labels / train.labels.sum()
    for number, name in enumerate(spec.target.names):
        if train.labels[number] == 0:
            scored = [split for split, found in surveys.items() if split != "train" and found.labels[number]]
            yield Finding(
                "error" if scored else "advice", "classes of train",
                f"{name} has no pixel" + (f", but is in {' and '.join(scored)}" if scored else ""),
                "choose another split, or remove the class",
            )  # fmt: skip
        elif shares[number] < _RARE:
            yield Finding(
                "advice", "classes of train", f"{name} has {100 * shares[number]:.2g} % of the pixels",
                "use class_weights of prithvi-tg stats",
            )  # fmt: skip


def _of_values(surveys: dict[str, Survey], spec: DataSpec) -> Iterator[Finding]:
    """Labelled pixels of each value."""
    for split, found in surveys.items():
        counted = zip(spec.target.names, found.labels.tolist(), strict=True)
        yield Finding(
            "ok",
            f"values of {split}",
            ", ".join(f"{name}: {count:,} labelled pixels" for name, count in counted),
        )
    train = surveys.get("train")
    for name, count in zip(spec.target.names, [] if train is None else train.labels.tolist(), strict=False):
        if count == 0:
            yield Finding(
                "error", "values of train", f"{name} has no labelled pixel", "check the label files"
            )


#: Kind of target -> what is said of its labels.
LABEL_CHECKS: dict[str, Callable[[dict[str, Survey], DataSpec], Iterator[Finding]]] = {
    "classes": _of_classes,
    "chip_classes": _of_classes,
    "values": _of_values,
}
