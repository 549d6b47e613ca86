"""Run: the scores, chips, curves and pictures in the folder of a run."""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from ..deprecated import current_record
from ..errors import ConfigError, DataError, counted
from ..files import file_hash
from ..spec import DataSpec
from ..tasks.metrics import segmentation_scores
from ..tasks.monitoring import OLD_NAMES, with_current_losses
from .chip_classes import read_classified_table
from .chips import PICTURES, TABLE, picture_name, read_chip_table
from .reconstructions import read_error_table
from .scored_chips import ScoredChips
from .tables import plain_scores
from .value_chips import read_value_table

#: Settings that do not change what a run computes.
_WITHOUT_EFFECT = ("config", "ckpt_path", "name", "trainer.default_root_dir", "verbose")
#: Key of metrics.json: scores of the further splits of a test; their files are in `split_folder`.
FURTHER_SPLITS = "further_splits"
#: Kind of a run whose task replaced all scores.
OWN_SCORES = "own scores"
#: Kind of a run -> its labels in messages.
KIND_NAMES = {
    "classes": "classes",
    "values": "values",
    "chip_classes": "classes of chips",
    "images": "bands",
    OWN_SCORES: "scores of its own",
}
#: Name of a folder that a run numbers.
_NUMBERED = re.compile(r"(version|fit|pretrain|validate|test)_\d+")
#: Name of a picture: the rank of its chip, and the name of the chip.
_PICTURE = re.compile(r"(worst|best|wrong|right)(?:_(\d+))?_(.*)")
_GOOD = {"best": "best", "right": "correct"}
#: Kind of target -> reader of the scores of single chips.
_TABLES: dict[str, Callable[[Path, Any, int], ScoredChips]] = {
    "classes": lambda path, target, block: read_chip_table(path, block),
    "values": read_value_table,
    "chip_classes": read_classified_table,
    "images": lambda path, target, block: read_error_table(path, block),
}


@dataclass(frozen=True)
class Run:
    """The files of a run.

    Attributes:
        name: Given name, or the part of the folder's path that differs from other runs.
        folder: Folder of the run.
        metrics: Content of ``metrics.json``, with scores by the current definitions. A training without validation
            has no scores.
        chips: Scores of single chips, if recorded.
        curves: ``metrics.csv``, one row per logged step; empty without the file.
        pictures: Pictures of the worst and best chips, by caption.
        settings: Flattened ``config.yaml``, with keys such as ``model.init_args.lr``; empty without the file. Apart
            from the data, the settings of a scored checkpoint are those of its training, if this is found.
    """

    name: str
    folder: Path
    metrics: dict[str, Any]
    chips: ScoredChips | None
    curves: pd.DataFrame
    pictures: dict[str, Path]
    settings: dict[str, Any]

    @property
    def kind(self) -> str:
        """Kind of its target, a key of `prithvi_tg.targets.TARGETS`; `OWN_SCORES` if the task replaced all scores."""
        return _kind(self.metrics)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.metrics["per_class"])

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the classes or values."""
        return tuple(self.metrics.get("per_class") or self.metrics.get("per_value") or ())

    @property
    def is_scored(self) -> bool:
        """Whether the run has scores; a training without validation has none."""
        return bool(self.metrics["overall"])

    @property
    def spec(self) -> DataSpec | None:
        """Bands, statistics and classes of the data, if recorded."""
        values = self.metrics.get("data_spec")
        return DataSpec.from_dict(values) if values else None

    @cached_property
    def checkpoints(self) -> set[str]:
        """SHA-256 of the scored weights (of the file, and by `weights_hash`) and of all checkpoints in the folder."""
        record = self.metrics.get("run") or {}
        scored = {record[key] for key in ("checkpoint_sha256", "weights_sha256") if record.get(key)}
        return scored | {file_hash(path) for path in (self.folder / "checkpoints").glob("*.ckpt")}


def split_folder(folder: str | Path, split: str | None) -> Path:
    """Folder with the files of a further split of a test; that of the run for ``None``, the first or only one."""
    return Path(folder) if split is None else Path(folder) / re.sub(r"[^0-9A-Za-z_.-]+", "_", split)


def settings_folder(folder: Path) -> Path:
    """Folder with the settings of a run: its own, or for a further split of a test the one above."""
    has_settings = any((folder / name).exists() for name in ("config.yaml", "hparams.yaml"))
    return folder.parent if not has_settings and (folder.parent / "metrics.json").exists() else folder


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read the folder of a run.

    Raises:
        DataError: The folder contains no run, or the run is not complete.
    """
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder}: {_why_no_run(folder)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(metrics, dict) or not isinstance(metrics.get("overall"), dict):
        raise DataError(f"{path}: does not contain the scores of a run")
    metrics = current_record(metrics)
    if _kind(metrics) != "classes":
        return _read_other(folder, name or folder.name, metrics)
    if not {"per_class", "confusion_matrix"} <= metrics.keys():
        raise DataError(f"{path}: has no confusion matrix, which the report of classes needs")
    if metrics["confusion_matrix"] is not None:
        metrics |= _scores(metrics, path)
    table, curves = folder / TABLE, folder / "metrics.csv"
    chips = read_chip_table(table, metrics.get("bootstrap_block") or 0) if table.exists() else None
    if chips is not None and chips.counts.shape[2] != len(metrics["per_class"]):
        raise DataError(
            f"{table}: {chips.counts.shape[2]} classes, but {path.name} has {len(metrics['per_class'])}"
        )
    chips = chips if chips is not None and chips.names else None
    return Run(
        name=name or folder.name,
        folder=folder,
        metrics=metrics,
        chips=chips,
        curves=_curves(curves) if curves.exists() else pd.DataFrame(),
        pictures=_pictures(folder / PICTURES, chips),
        settings=_settings(folder, metrics),
    )


def _kind(metrics: Mapping[str, Any]) -> str:
    """Kind of target of a run, a key of `prithvi_tg.targets.TARGETS`, or `OWN_SCORES`."""
    if not metrics.keys() & {"per_class", "per_value", "confusion_matrix"}:
        return OWN_SCORES
    values = metrics.get("data_spec")
    return DataSpec.from_dict(values).target.kind if values else "classes"


def _read_other(folder: Path, name: str, metrics: dict[str, Any]) -> Run:
    """Read a run whose target is not classes of pixels."""
    curves, table = folder / "metrics.csv", folder / TABLE
    chips, spec = None, metrics.get("data_spec")
    if spec and table.exists():
        target = DataSpec.from_dict(spec).target
        chips = _TABLES[target.kind](table, target, metrics.get("bootstrap_block") or 0)
    return Run(
        name=name,
        folder=folder,
        metrics=metrics,
        chips=chips,
        curves=_curves(curves) if curves.exists() else pd.DataFrame(),
        pictures=_pictures(folder / PICTURES, chips),
        settings=_settings(folder, metrics),
    )


def _scores(metrics: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """``overall`` and ``per_class`` by the current definitions, computed from the confusion matrix."""
    names = list(metrics["per_class"])
    try:
        confusion = torch.tensor(metrics["confusion_matrix"]["counts"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: no readable confusion matrix ({error})") from error
    if confusion.shape != (len(names), len(names)):
        raise DataError(
            f"{path}: {len(names)} classes, but a confusion matrix of shape {tuple(confusion.shape)}"
        )
    scores = plain_scores(segmentation_scores(confusion), confusion, names)
    old = {f"m{name}" for name in OLD_NAMES}
    further = {
        name: value
        for name, value in metrics["overall"].items()
        if name not in scores["overall"] and name not in old
    }
    return scores | {"overall": {**scores["overall"], **further}}


def _why_no_run(folder: Path) -> str:
    if not folder.is_dir():
        return "not a folder" if folder.exists() else "no such folder"
    files = (path for name in ("metrics.json", "config.yaml") for path in folder.glob(f"*/{name}"))
    if runs := sorted({path.parent.name for path in files}, key=lambda name: (len(name), name)):
        advice = "runs; name one or several of them" if len(runs) > 1 else "a run; name its folder"
        return f"contains {advice}: {', '.join(str(folder / run) for run in runs)}"
    checkpoints = folder / "checkpoints"
    if (checkpoints / "last.ckpt").exists():
        score = f", or score {checkpoints / 'best.ckpt'} with validate or test"
        return (
            f"unfinished run: no metrics.json; resume it with prithvi-tg fit --ckpt_path {checkpoints / 'last.ckpt'}"
            f"{score if (checkpoints / 'best.ckpt').exists() else ''}"
        )
    if (folder / "config.yaml").exists():
        return "unfinished run: no metrics.json, and no checkpoint to resume from"
    return "contains no metrics.json; name the folder of a scored run, such as version_0"


def read_runs(folders: Sequence[Path], names: Sequence[str] = ()) -> list[Run]:
    """Read several runs to compare; each further split of a test is a run of its own, ``RUN (SPLIT)``.

    Args:
        folders: Folders of the runs.
        names: Names of the runs; by default the parts in which their folders differ.

    Raises:
        ConfigError: The classes or values of the runs differ, or the number of names does not match.
        DataError: A run cannot be read.
    """
    if names and len(names) != len(folders):
        raise ConfigError(
            f"names: {len(names)} given for {counted(len(folders), 'run')}; give one for each run"
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"names: {', '.join(names)}: not unique; give each run its own name")
    names = names or distinct_names([folder.resolve() for folder in folders])
    runs = [
        run for folder, name in zip(folders, names, strict=True) for run in _by_split(read_run(folder, name))
    ]
    for run in runs[1:]:
        if run.kind == runs[0].kind and run.output_names != runs[0].output_names:
            raise ConfigError(
                f"runs: {run.folder} has the {KIND_NAMES[run.kind]} {', '.join(run.output_names)}, but "
                f"{runs[0].folder} has {', '.join(runs[0].output_names)}; they cannot be compared"
            )
    return runs


def _by_split(run: Run) -> list[Run]:
    """A run, and the further splits of its test."""
    further = run.metrics.get(FURTHER_SPLITS) or {}
    if not further:
        return [run]
    others = [read_run(split_folder(run.folder, split), f"{run.name} ({split})") for split in further]
    return [replace(run, name=f"{run.name} ({run.metrics['split']})"), *others]


def differing_settings(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Settings that differ between runs, with one value per run; ``None`` if a run lacks the setting.

    Runs without any settings are not compared.
    """
    known = [settings for settings in runs if settings]
    keys = dict.fromkeys(key for settings in known for key in settings)
    return {
        key: [settings.get(key) for settings in runs]
        for key in keys
        if key not in _WITHOUT_EFFECT and any(settings.get(key) != known[0].get(key) for settings in known)
    }


def _pictures(folder: Path, chips: ScoredChips | None) -> dict[str, Path]:
    """Pictures of chips by caption, worst chips first."""
    numbers = {} if chips is None else {picture_name(name): k for k, name in enumerate(chips.names)}
    found = {path: _PICTURE.fullmatch(path.stem) for path in folder.glob("*.png")}
    pictures = {}
    for path, match in sorted(found.items(), key=lambda one: _rank(one[1])):
        if match is None:
            continue
        kind, rank, name = match.groups()
        words = f"{_GOOD.get(kind, kind)}{f' {rank}' if rank else ''}: "
        number = numbers.get(name)
        if chips is None or number is None:
            pictures[words + name] = path
        else:
            caption = chips.caption(number)
            pictures[words + ", ".join(part for part in (chips.names[number], caption) if part)] = path
    return pictures


def _rank(match: re.Match[str] | None) -> tuple[bool, int, str]:
    """Order of a picture: worst and wrong chips first, then by rank and name."""
    kind, rank, name = match.groups() if match else ("", None, "")
    return kind in _GOOD, int(rank or 0), name


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a run, flattened: from ``config.yaml``, or else ``hparams.yaml`` of Lightning's loggers.

    Raises:
        DataError: The file cannot be read.
    """
    path, prefix = folder / "config.yaml", ""
    if not path.exists():
        path, prefix = folder / "hparams.yaml", "model.init_args."
    try:
        settings = _flat(yaml.safe_load(path.read_text()) or {}, prefix) if path.exists() else {}
        return {key: value for key, value in settings.items() if not key.startswith(f"{prefix}data_spec.")}
    except yaml.constructor.ConstructorError:
        warnings.warn(
            f"{path}: contains Python objects, which are not read; the settings of this run are not shown",
            stacklevel=2,
        )
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise DataError(f"{path}: settings cannot be read ({error})".replace("\n", " ")) from error


def _settings(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run, see `Run`: a test ignores the model that its own configuration describes."""
    own = read_settings(settings_folder(folder))
    record = metrics.get("run") or {}
    path = Path(record.get("checkpoint") or "")
    if record.get("command") not in ("test", "validate") or not own or not path.is_file():
        return own
    trained = read_settings(path.parent.parent)
    if not trained or file_hash(path) != record.get("checkpoint_sha256"):
        return own
    data = {key: value for key, value in own.items() if key.startswith("data.")}
    return {key: value for key, value in trained.items() if not key.startswith("data.")} | data


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _curves(path: Path) -> pd.DataFrame:
    try:
        curves = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: curves cannot be read ({error})") from error
    with_current_losses(curves)
    return curves


def distinct_names(folders: list[Path]) -> list[str]:
    """The shortest trailing parts of paths that are distinct; numbered folders of several parents have theirs, too."""
    several = len({folder.parent for folder in folders}) > 1
    numbered = several and all(_NUMBERED.fullmatch(folder.name) for folder in folders)
    for length in range(2 if numbered else 1, max((len(folder.parts) for folder in folders), default=1) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"runs: {max(folders, key=folders.count)} is given more than once")
