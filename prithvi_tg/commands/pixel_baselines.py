"""Linear baselines of runs, fitted to the data that their configurations describe."""

import json
from collections.abc import Sequence
from typing import Any

import yaml
from torch.utils.data import DataLoader
from torchgeo.datamodules import BaseDataModule

from ..cli.lightning_parser import PrithviArgumentParser
from ..errors import ConfigError, DataError
from ..reporting.linear_baseline import BASELINES, BaselineResult, linear_baseline
from ..reporting.runs import KIND_NAMES, Run, settings_folder
from ..spec import DataSpec
from .data_parser import open_split


def pixel_baselines(runs: Sequence[Run]) -> dict[str, BaselineResult]:
    """Fit and score a linear model of single pixels for each scored run; the keys are the names of the runs.

    Raises:
        ConfigError: A run has no configuration, or labels without a baseline, or no run is scored.
        DataError: The data of a run cannot be read, or differ from those that the run scored.
    """
    scored = [run for run in runs if run.is_scored]
    if not scored:
        raise ConfigError("baseline: no run has scores to compare with; score one with prithvi-tg test")
    return {run.name: _baseline(run) for run in scored}


def _baseline(run: Run) -> BaselineResult:
    if run.kind not in BASELINES:
        raise ConfigError(
            f"baseline: {run.folder} has {KIND_NAMES[run.kind]}; a per-pixel baseline needs "
            f"{' or '.join(BASELINES)} of pixels"
        )
    split = run.metrics["split"]
    try:
        data = _data(run)
        train, scored = open_split(data, "train"), open_split(data, split)
        samples, scored_samples = (
            DataLoader(part, batch_size=None, num_workers=data.num_workers) for part in (train, scored)
        )
        size = len(train)  # type: ignore[arg-type]  # datasets of chips and of windows have a length
        result = linear_baseline(samples, size, scored_samples, data.spec, run.metrics)
    except DataError as error:
        raise DataError(f"baseline: the data of {run.folder} cannot be read: {error}") from error
    each = run.metrics.get("per_class") or run.metrics["per_value"]
    recorded = {name: one["labelled_pixels"] for name, one in each.items()}
    if result.labelled != recorded:
        raise DataError(
            f"baseline: {run.folder} scored {sum(recorded.values())} labelled pixels, but its data now have "
            f"{sum(result.labelled.values())} in {split}; run prithvi-tg test again"
        )
    return result


def _data(run: Run) -> Any:
    """The data module of the configuration of a run."""
    path = settings_folder(run.folder) / "config.yaml"
    try:
        section = yaml.safe_load(path.read_text())["data"]
    except FileNotFoundError as error:
        raise ConfigError(f"baseline: {path}: no such file; the baseline needs its data: section") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"baseline: {path}: no readable data: section") from error
    parser = PrithviArgumentParser(prog="prithvi-tg report")
    parser.add_subclass_arguments(BaseDataModule, "data", fail_untyped=False)
    config = parser.parse_args([f"--data={json.dumps(section)}"])
    data = parser.instantiate_classes(config).data
    if not isinstance(getattr(data, "spec", None), DataSpec):
        raise ConfigError(
            f"baseline: {type(data).__name__} is not a data module of this package; the baseline needs one"
        )
    return data
