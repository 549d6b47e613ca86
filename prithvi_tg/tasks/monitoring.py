"""Names of logged metrics, also those of before, under which configurations may still monitor them."""

import re
from collections.abc import Collection, Mapping

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn

#: Metrics that had two names. MMSegmentation's Recall is its Acc; Dice is the F-score.
OLD_NAMES = {"Dice": "Fscore", "Recall": "Acc"}

_OLD = "|".join(OLD_NAMES)
_LOGGED = re.compile(rf"(?P<before>(?:train|val|test)_m?)(?P<metric>{_OLD})(?P<class_name>_.+)?")


def current_name(logged: str) -> str:
    """Today's name of a logged metric: ``val_mFscore`` for ``val_mDice``, ``val_Acc_Water`` for ``val_Recall_Water``.

    A name that is not an old one is returned as it is.
    """
    found = _LOGGED.fullmatch(logged)
    is_mean = found is not None and found["before"].endswith("m")
    if found is None or is_mean == bool(found["class_name"]):
        return logged
    return found["before"] + OLD_NAMES[found["metric"]] + (found["class_name"] or "")


def log_scores(task: LightningModule, log: Mapping[str, float], shown: Collection[str] = ()) -> None:
    """Log scores, equal in all processes; those that something monitors under an old name also by that name.

    Old names reach checkpoints, early stopping and schedules, but no logger, and are warned of.

    Args:
        task: Attached to a trainer.
        log: Scores under flat names.
        shown: Names of those that the progress bar shows.
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
            rank_zero_warn(f"monitor: {name} is an old name of {now} and will be removed")
