"""Runs as their folders hold them: scores, chips, curves, pictures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ConfigError, DataError
from ..spec import DataSpec
from .chips import PICTURES, TABLE, ChipCounts, read_chip_table


@dataclass(frozen=True)
class Run:
    """What a run left.

    Attributes:
        name: Of its folder, as far as it differs from that of others.
        folder: Its folder.
        metrics: Content of ``metrics.json``.
        chips: Counts of single chips, if it kept them.
        curves: ``metrics.csv``, a row per logged step; empty without one.
        pictures: Of the worst and best chips, by what they are called, ``worst_1_NAME``.
    """

    name: str
    folder: Path
    metrics: dict[str, Any]
    chips: ChipCounts | None
    curves: pd.DataFrame
    pictures: dict[str, Path]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Its classes."""
        return tuple(self.metrics["per_class"])

    @property
    def spec(self) -> DataSpec | None:
        """Bands, statistics and classes of its data, if it knew them."""
        values = self.metrics.get("data_spec")
        return DataSpec.from_dict(values) if values else None


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read what a run left in its folder.

    Raises:
        DataError: It is no folder of a run, or no test or validation was finished in it.
    """
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DataError(
            f"{folder}: holds no metrics.json; name the folder of a run (version_0) that validated or tested"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable ({error})") from error
    if not isinstance(metrics, dict) or not {"overall", "per_class", "confusion_matrix"} <= metrics.keys():
        raise DataError(f"{path}: does not hold the scores of a run")
    table, curves = folder / TABLE, folder / "metrics.csv"
    chips = read_chip_table(table) if table.exists() else None
    if chips is not None and chips.counts.shape[2] != len(metrics["per_class"]):
        raise DataError(
            f"{table}: has {chips.counts.shape[2]} classes, {path.name} {len(metrics['per_class'])}"
        )
    return Run(
        name=name or folder.name,
        folder=folder,
        metrics=metrics,
        chips=chips if chips is not None and chips.names else None,
        curves=_curves(curves) if curves.exists() else pd.DataFrame(),
        pictures={path.stem: path for path in sorted((folder / PICTURES).glob("*.png"))},
    )


def read_runs(folders: list[Path]) -> list[Run]:
    """The same of several, to be compared.

    Raises:
        ConfigError: Their classes differ.
        DataError: One cannot be read.
    """
    names = _distinct_names([folder.resolve() for folder in folders])
    runs = [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]
    for run in runs[1:]:
        if run.class_names != runs[0].class_names:
            raise ConfigError(
                f"runs: {run.folder} has the classes {', '.join(run.class_names)}, {runs[0].folder} has "
                f"{', '.join(runs[0].class_names)}; they cannot be compared"
            )
    return runs


def _curves(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable curves ({error})") from error


def _distinct_names(folders: list[Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart."""
    for length in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"runs: {folders[0]} is named more than once")
