"""Names of logged metrics, and their old names, which configurations may still monitor."""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

#: Old name -> current name of metrics that had two. In MMSegmentation, Recall equals Acc, and Dice the F-score.
OLD_NAMES = {"Dice": "Fscore", "Recall": "Acc"}

_OLD = "|".join(OLD_NAMES)
_LOGGED = re.compile(rf"(?P<before>(?:train|val|test)_m?)(?P<metric>{_OLD})(?P<class_name>_.+)?")


def current_name(logged: str) -> str:
    """Current name of a logged metric: ``val_mFscore`` for ``val_mDice``, ``val_Acc_Water`` for ``val_Recall_Water``.

    A name that is not an old one is returned as it is.
    """
    found = _LOGGED.fullmatch(logged)
    is_mean = found is not None and found["before"].endswith("m")
    if found is None or is_mean == bool(found["class_name"]):
        return logged
    return found["before"] + OLD_NAMES[found["metric"]] + (found["class_name"] or "")


def not_logged(monitor: str, logged: Collection[str]) -> str:
    """Message about a monitored metric that validation does not log.

    Args:
        monitor: Name of the metric.
        logged: Names of the metrics that validation logs.
    """
    near = get_close_matches(monitor, logged, n=1)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"monitor: {monitor!r} is not logged{hint} validation logs {', '.join(logged) or 'nothing'}"


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
