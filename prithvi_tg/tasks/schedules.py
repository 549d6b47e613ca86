"""Learning-rate schedules by name."""

import math
from collections.abc import Callable
from inspect import signature
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from ..class_paths import find_class
from ..errors import ConfigError
from .monitoring import not_logged


def poly_factor(step: int, total_steps: int, warmup_steps: int, power: float, warmup_ratio: float) -> float:
    """Factor of the base learning rate in a step, counted from 0, as in hls-foundation-os.

    The factor is a polynomial from 1 to 0 over the whole run, times a linear warm-up from `warmup_ratio` to 1.
    """
    factor = max(0.0, 1 - step / total_steps) ** power
    if step < warmup_steps:
        factor *= 1 - (1 - step / warmup_steps) * (1 - warmup_ratio)
    return factor


class SharedLambdaLR(LambdaLR):
    """`LambdaLR` with one factor for all parameter groups, including groups that a callback adds during training."""

    def get_lr(self) -> list[Any]:
        """Rates of all groups; an added group starts at its own rate and decays with the others."""
        factor, groups = self.lr_lambdas[0], self.optimizer.param_groups
        for group in groups[len(self.base_lrs) :]:
            self.base_lrs.append(group["lr"] / (factor(self.last_epoch - 1) or 1.0))
        self.lr_lambdas += [factor] * (len(groups) - len(self.lr_lambdas))
        return super().get_lr()


def poly_schedule(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int = 1500,
    power: float = 1.0,
    warmup_ratio: float = 1e-6,
) -> LambdaLR:
    """Scheduler with `poly_factor`, stepped after each optimiser step.

    Args:
        optimizer: The optimiser; its learning rates are the base rates.
        total_steps: Optimiser steps of the run.
        warmup_steps: Steps of warm-up.
        power: Exponent of the polynomial.
        warmup_ratio: First factor of the warm-up.
    """
    return SharedLambdaLR(
        optimizer, lambda step: poly_factor(step, total_steps, warmup_steps, power, warmup_ratio)
    )


def constant_schedule(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """Scheduler with a constant learning rate."""
    return SharedLambdaLR(optimizer, lambda step: 1.0)


def cosine_schedule(optimizer: Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """Linear warm-up, then half a cosine from 1 to 0 over the rest of the run (Loshchilov, Hutter 2017)."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total_steps - warmup_steps)))

    return SharedLambdaLR(optimizer, factor)


_PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


class PlateauSchedule(ReduceLROnPlateau):
    """Lowers the rate when a logged metric of validation no longer improves; `PlateauSteps` steps it.

    Args:
        optimizer: The optimiser.
        monitor: The metric.
        monitor_mode: ``min`` or ``max``: whether low or high values are better.
        patience: Number of validations without improvement that are accepted.
        factor: Factor of the rate after one more.
        **arguments: Further arguments of `torch.optim.lr_scheduler.ReduceLROnPlateau`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        monitor: str,
        monitor_mode: Literal["min", "max"],
        patience: int = 10,
        factor: float = 0.1,
        **arguments: Any,
    ) -> None:
        super().__init__(optimizer, monitor_mode, factor, patience, **arguments)
        self.monitor = monitor

    def state_dict(self) -> dict[str, Any]:
        """What validations have changed; a resumed run has its own settings, such as `patience`."""
        known = {key: value for key, value in super().state_dict().items() if key in _PLATEAU_STATE}
        return known | {"monitor": self.monitor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; the best value of another metric is not compared with values of this one."""
        if state_dict.get("monitor", self.monitor) != self.monitor:
            state_dict = {key: state_dict[key] for key in ("last_epoch", "_last_lr") if key in state_dict}
        super().load_state_dict(state_dict)


class PlateauSteps(Callback):
    """Steps `PlateauSchedule` after each validation, before checkpoints are written, so that these can be resumed.

    Lightning itself steps such a schedule after the epoch's checkpoint, and not in an epoch that it resumes.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Step the schedules with the metrics of this validation.

        Raises:
            ConfigError: The validation did not log the metric.
        """
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, PlateauSchedule):
                monitor, logged = config.scheduler.monitor, trainer.callback_metrics
                if monitor not in logged:
                    known = [key for key in logged if key.startswith("val")]
                    raise ConfigError(not_logged(monitor, known, "schedule_args.monitor"))
                config.scheduler.step(float(logged[monitor]))


#: Schedules by name, called with the optimiser, further arguments, and those of these that they have: ``total_steps``,
#: the number of steps of the run; ``monitor`` and ``monitor_mode``.
SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "poly": poly_schedule,
    "cosine": cosine_schedule,
    "constant": constant_schedule,
    "plateau": PlateauSchedule,
}


def create_schedule(
    name: str,
    optimizer: Optimizer,
    total_steps: int,
    metric: tuple[str, str] = ("val_loss", "min"),
    **arguments: Any,
) -> LRScheduler:
    """Create a schedule by name; it is stepped after each optimiser step, or after each validation.

    Args:
        name: A key of `SCHEDULES`, or the path of a class of ``torch.optim.lr_scheduler``.
        optimizer: The optimiser; its learning rates are the base rates.
        total_steps: Optimiser steps of the run.
        metric: Logged metric of a schedule that is stepped after validation, and ``min`` or ``max``: whether low or
            high values are better.
        **arguments: Arguments of the schedule.

    Raises:
        ConfigError: The name or an argument is unknown, or torch's own schedule for plateaus is given.
    """
    kind = find_class("schedule", name, SCHEDULES, LRScheduler)
    offered = {"total_steps": total_steps, "monitor": metric[0], "monitor_mode": metric[1]}
    parameters = signature(kind).parameters
    given = {key: value for key, value in offered.items() if key in parameters} | arguments
    try:
        schedule: LRScheduler = kind(optimizer, **given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"schedule_args: {name}: {error}") from error
    if isinstance(schedule, ReduceLROnPlateau) and not isinstance(schedule, PlateauSchedule):
        raise ConfigError(f"schedule: {name} does not know the metric to monitor; give plateau")
    return schedule
