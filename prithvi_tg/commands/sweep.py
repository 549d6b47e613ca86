"""``prithvi-tg sweep``: search over any keys of a configuration with Optuna (the extra ``sweep``)."""

import difflib
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..cli.table import COMMANDS
from ..errors import ConfigError, DataError
from ..tasks.monitoring import current_name

_BOUNDS = {"low", "high", "log", "step"}


def run(arguments: list[str]) -> int:
    """Parse the arguments, run trials and print the best."""
    options, fit = COMMANDS["sweep"].parser().parse_known_args(arguments)
    space = read_space(options.space)
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("sweep: needs Optuna: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # this command prints shorter lines
    options.output.mkdir(parents=True, exist_ok=True)
    is_loss = "loss" in options.metric
    storage = f"sqlite:///{options.output / 'sweep.db'}"
    others = {*optuna.get_all_study_names(storage)} - {options.metric}
    if others:
        raise ConfigError(
            f"metric: {options.output} holds trials for {', '.join(others)}, not for {options.metric}; choose "
            "another --output"
        )
    study = optuna.create_study(
        storage=storage,
        study_name=options.metric,
        direction="minimize" if is_loss else "maximize",
        load_if_exists=True,
    )
    # Added trials must propose other values than the existing ones.
    study.sampler = optuna.samplers.TPESampler(seed=options.seed + len(study.trials))

    def objective(trial: Any) -> float:
        values = {key: propose(trial) for key, propose in space.items()}
        folder = options.output / f"trial_{trial.number:04d}"
        try:
            score = train(fit, values, folder, options.metric)
        except DataError as error:
            print(f"{folder.name}: failed with {_in_words(values)}: {error}", file=sys.stderr, flush=True)
            raise
        print(f"{folder.name}: {options.metric} {score:.4f} with {_in_words(values)}", flush=True)
        return score

    study.optimize(objective, n_trials=options.trials, catch=(DataError,))
    study.trials_dataframe(("number", "value", "params", "state")).to_csv(
        options.output / "trials.csv", index=False
    )
    finished = [trial for trial in study.trials if trial.value is not None]
    if not finished:
        raise DataError(f"{options.output}: no trial finished; see trial_*/log.txt")
    best = study.best_trial
    folder = options.output / f"trial_{best.number:04d}"
    print(f"Best of {len(finished)}: {options.metric} {best.value:.4f} in {folder}, with")
    print(yaml.safe_dump(best.params, sort_keys=False), end="")
    print(f"Its weights: {folder / 'version_0' / 'checkpoints' / 'best.ckpt'}")
    print(f"Written: {options.output / 'trials.csv'}")
    return 0


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )


def read_space(path: Path) -> dict[str, Callable[[Any], Any]]:
    """Read the search space: for each key, a function that proposes a value for an Optuna trial.

    Raises:
        ConfigError: The file is not readable, or a line is neither a list nor a range.
    """
    try:
        lines = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})".replace("\n", " ")) from error
    if not isinstance(lines, Mapping) or not lines:
        raise ConfigError(
            f"{path}: must have a line per key, such as 'model.lr: {{low: 1.0e-6, high: 1.0e-3}}'"
        )
    return {str(key): _proposal(path, str(key), value) for key, value in lines.items()}


def _proposal(path: Path, key: str, value: Any) -> Callable[[Any], Any]:
    if isinstance(value, list) and value:
        return lambda trial: trial.suggest_categorical(key, value)
    numbers = isinstance(value, Mapping) and {"low", "high"} <= value.keys() <= _BOUNDS
    if numbers and all(isinstance(value[bound], int | float) for bound in ("low", "high")):
        whole = all(isinstance(value[bound], int) for bound in ("low", "high"))
        return lambda trial: (trial.suggest_int if whole else trial.suggest_float)(key, **value)
    raise ConfigError(
        f"{path}: {key}: {value!r} is neither a list of choices nor {{low: , high: }} with log or step; "
        "YAML reads numbers like 1e-3 as text, so write 1.0e-3"
    )


def train(fit: list[str], values: Mapping[str, Any], folder: Path, metric: str) -> float:
    """Train once.

    Args:
        fit: Arguments for ``prithvi-tg fit``.
        values: Values of keys.
        folder: Folder of the trial.
        metric: A column of ``metrics.csv``.

    Returns:
        The metric of the best epoch: the lowest for a loss, otherwise the highest.

    Raises:
        DataError: The training failed.
        ConfigError: The training did not log the metric; other trials would not log it either.
    """
    folder.mkdir(parents=True)
    words = [
        f"--{key}={yaml.safe_dump(value, default_flow_style=True).split(chr(10))[0]}"
        for key, value in values.items()
    ]
    with (folder / "log.txt").open("w") as log:
        command = [sys.executable, "-m", "prithvi_tg", "fit", *fit, *words]
        command += [
            f"--trainer.default_root_dir={folder}", "--name=null", "--trainer.enable_progress_bar=false"
        ]  # fmt: skip
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    lines = dict.fromkeys((folder / "log.txt").read_text(errors="replace").splitlines())
    for line in lines:
        if "warning:" in line:
            print(f"{folder.name}: {line}", file=sys.stderr)
    curves = folder / "version_0" / "metrics.csv"
    if done.returncode != 0 or not curves.exists():
        errors = [line for line in lines if "error:" in line]
        raise DataError(f"{errors[-1] if errors else 'training failed'}; see {folder / 'log.txt'}")
    table = pd.read_csv(curves)
    metric = metric if metric in table else current_name(metric)
    if metric not in table or table[metric].isna().all():
        known = [column for column in table.columns if column.startswith("val_")]
        near = difflib.get_close_matches(metric, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"validation logs {', '.join(known)}"
        raise ConfigError(f"metric: {metric!r} is not in {curves}; {hint}")
    return float(table[metric].min() if "loss" in metric else table[metric].max())
