"""Names of logged metrics, and their old names, which configurations may still monitor."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from .scored import ScoredTask

#: Old name -> current name of metrics that had two. In MMSegmentation, Recall equals Acc, and Dice the F-score.
OLD_NAMES = {"Dice": "Fscore", "Recall": "Acc"}

_OLD = "|".join(OLD_NAMES)
_LOGGED = re.compile(rf"(?P<before>(?:train|val|test)_m?)(?P<metric>{_OLD})(?P<class_name>_.+)?")

#: Packages whose tasks and callbacks log only what `ScoredTask.logged_in_validation` lists.
_PACKAGES = (__name__.partition(".")[0], "lightning", "torchgeo", "torch", "builtins")
#: Methods of a user's task that do not log: they describe or build its parts.
_SILENT = re.compile(
    r"__\w+__|(create|configure)_\w+|add_metrics|update_metrics|\w*mode(_of)?|parameter_groups"
)
#: Names that only training logs; they are known when it has begun.
_OF_TRAINING = ("train_", "lr-")


def current_name(logged: str) -> str:
    """Current name of a logged metric: ``val_mFscore`` for ``val_mDice``, ``val_Acc_Water`` for ``val_Recall_Water``.

    A name that is not an old one is returned as it is.
    """
    found = _LOGGED.fullmatch(logged)
    is_mean = found is not None and found["before"].endswith("m")
    if found is None or is_mean == bool(found["class_name"]):
        return logged
    return found["before"] + OLD_NAMES[found["metric"]] + (found["class_name"] or "")


def not_logged(monitor: str, logged: Collection[str], key: str = "monitor") -> str:
    """Message about a monitored metric that validation does not log.

    Args:
        monitor: Name of the metric.
        logged: Names of the metrics that validation logs.
        key: Key or argument with the name.
    """
    near = get_close_matches(monitor, logged, n=1)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"{key}: {monitor!r} is not logged{hint} validation logs {', '.join(logged) or 'nothing'}"


def unknown_monitors(task: "ScoredTask", callbacks: Sequence[Any], names: Sequence[str]) -> Iterator[str]:
    """Messages about monitored metrics that no validation of a task will log.

    None if a class of the user may log by itself: such names are known only when it has done so.

    Args:
        task: The task.
        callbacks: Callbacks of the trainer, such as checkpoints and early stopping.
        names: Name of each output of the task.
    """
    if _logs_by_itself(type(task)) or not all(_is_known(type(one)) for one in callbacks):
        return
    found = [(getattr(one, "monitor", None), f"{type(one).__name__}.monitor") for one in callbacks]
    if task.hparams["schedule"] == "plateau":
        name = (task.hparams["schedule_args"] or {}).get("monitor", task.monitor)
        found.append((name, "schedule_args.monitor"))
    monitors = [("monitor" if name == task.monitor else key, name) for name, key in found if name is not None]
    logged = task.logged_in_validation(names) if monitors else []
    for key, name in dict.fromkeys(monitors):
        if current_name(name) not in logged and not name.startswith(_OF_TRAINING):
            yield not_logged(name, logged, key)


def _logs_by_itself(task_class: type) -> bool:
    """Whether a task has own methods that may log, besides those that only build its parts."""
    own = {
        name
        for base in task_class.__mro__
        if not _is_known(base)
        for name, value in vars(base).items()
        if callable(value)
    }
    return not all(_SILENT.fullmatch(name) for name in own)


def _is_known(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _PACKAGES


def with_current_losses(logged: Any) -> None:
    """Give the losses of a row or a table of ``metrics.csv`` their current names, in place.

    ``train_loss`` was the sum of both heads, and ``train_loss_decode`` the loss of the decode head.
    """
    if "train_loss_decode" in logged:
        logged["train_loss"] = logged.pop("train_loss_decode")


def log_scores(task: "LightningModule", log: Mapping[str, float], shown: Collection[str] = ()) -> None:
    """Log scores, which are equal in all processes. A score that is monitored under its old name gets both names.

    Old names are visible to checkpoints, early stopping and schedules, but not to loggers; each causes a warning.

    Args:
        task: A task with a trainer.
        log: Scores under flat names.
        shown: Names of the scores that the progress bar shows.
    """
    for name, value in log.items():
        task.log(name, value, sync_dist=True, prog_bar=name in shown)
    schedules = [config.monitor for config in task.trainer.lr_scheduler_configs]
    callbacks = [getattr(one, "monitor", None) for one in task.trainer.callbacks]  # type: ignore[attr-defined]
    monitored = [getattr(task, "monitor", None), *schedules, *callbacks]
    for name in dict.fromkeys(name for name in monitored if name is not None):
        now = current_name(name)
        if name not in log and now in log:
            task.log(name, log[now], sync_dist=True, logger=False)
            from lightning.pytorch.utilities import rank_zero_warn  # reports read names without Lightning

            rank_zero_warn(f"monitor: {name} is an old name of {now} and will be removed")
