"""The title of a report: data, model, command and date."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from .runs import Run

_MOST_NAMES = 3


def default_title(runs: Sequence[Run]) -> str:
    """Data, model, command and date of the runs; a part that no run records is left out.

    Several datasets, models or commands are listed; the date is that of the latest run.
    """
    parts = [_listed([name(run.settings) for run in runs]) for name in (data_name, model_name)]
    parts.append(_listed([(run.metrics.get("run") or {}).get("command") or "" for run in runs]))
    return " · ".join(part for part in (*parts, f"{max(map(run_date, runs)):%Y-%m-%d}") if part)


def _listed(names: Sequence[str]) -> str:
    known = [name for name in dict.fromkeys(names) if name]
    more = len(known) - _MOST_NAMES
    return ", ".join([*known[:_MOST_NAMES], *([f"{more} more"] if more > 0 else [])])


def data_name(settings: dict[str, Any]) -> str:
    """Name of a dataset by its data module, such as ``Sen1Floods11``; of own files, the folder of the images."""
    images = settings.get("data.init_args.images")
    first = images[0] if isinstance(images, list) and images else images
    if isinstance(first, str):
        parts = PurePosixPath(first).parts
        fixed = [part for part in parts[:-1] if part not in ("/", "..") and "*" not in part]
        return "/".join(fixed[-2:]) or PurePosixPath(first).stem
    return _last(settings.get("data.class_path")).removesuffix("DataModule")


def model_name(settings: dict[str, Any]) -> str:
    """Name of the encoder, and of the decoder if the model has one."""
    encoder, decoder = (_last(settings.get(f"model.init_args.{key}")) for key in ("encoder", "decoder"))
    return f"{encoder} with {decoder}" if encoder and decoder else encoder


def _last(name: Any) -> str:
    """A name, or the class of a class path."""
    return name.rpartition(".")[2] if isinstance(name, str) else ""


def run_date(run: Run) -> datetime:
    """When the run was scored, from its record; for older runs, the time of ``metrics.json``."""
    recorded = (run.metrics.get("run") or {}).get("date")
    if recorded:
        return datetime.fromisoformat(recorded)
    return datetime.fromtimestamp((run.folder / "metrics.json").stat().st_mtime, UTC)
