"""Learning-rate schedules by name."""

import math
from collections.abc import Callable
from inspect import signature
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ..class_paths import find_class
from ..errors import ConfigError


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


#: Schedules by name, called with the optimiser, the number of steps of the run, and further arguments.
SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "poly": poly_schedule,
    "cosine": cosine_schedule,
    "constant": constant_schedule,
}


def create_schedule(name: str, optimizer: Optimizer, total_steps: int, **arguments: Any) -> LRScheduler:
    """Create a schedule by name; it is stepped after each optimiser step.

    Args:
        name: A key of `SCHEDULES`, or the path of a class of ``torch.optim.lr_scheduler``.
        optimizer: The optimiser; its learning rates are the base rates.
        total_steps: Optimiser steps of the run.
        **arguments: Arguments of the schedule.

    Raises:
        ConfigError: The name or an argument is unknown.
    """
    kind = find_class("schedule", name, SCHEDULES, LRScheduler)
    given = (
        {"total_steps": total_steps, **arguments}
        if "total_steps" in signature(kind).parameters
        else arguments
    )
    try:
        schedule: LRScheduler = kind(optimizer, **given)
    except TypeError as error:
        raise ConfigError(f"schedule_args: {name}: {error}") from error
    return schedule
