"""Ranges of the numbers that tasks, data modules and maps take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError


@dataclass(frozen=True)
class Range:
    """An interval of numbers, and its description.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        words: Its description, after "must be".
        has_low: Whether the lower end is part of it.
        has_high: Whether the upper end is part of it.
    """

    low: float
    high: float
    words: str
    has_low: bool = True
    has_high: bool = False

    def contains(self, value: float) -> bool:
        """Whether a number lies in it; NaN does not."""
        above = value >= self.low if self.has_low else value > self.low
        return above and (value <= self.high if self.has_high else value < self.high)


_FROM_1 = Range(1, float("inf"), "1 or more")
_FROM_0 = Range(0, float("inf"), "0 or more")
_ABOVE_0 = Range(0, float("inf"), "above 0", has_low=False)
_SHARE = Range(0, 1, "at least 0 and below 1")

#: Argument of tasks, data modules and functions that map scenes -> its range.
RANGES = {
    "auxiliary_weight": _FROM_0,
    "batch_size": _FROM_1,
    "crop_size": _FROM_1,
    "crops_per_chip": _FROM_1,
    "drop_path": _SHARE,
    "eval_batch_size": _FROM_1,
    "fill_holes": _FROM_0,
    "head_channels": _FROM_1,
    "head_dropout": _SHARE,
    "layer_decay": Range(0, 1, "above 0 and at most 1", has_low=False, has_high=True),
    "lora_alpha": _ABOVE_0,
    "lora_dropout": _SHARE,
    "lora_rank": _FROM_0,
    "lr": _FROM_0,
    "min_area": _FROM_0,
    "num_classes": Range(2, 256, "from 2 to 255"),
    "num_frames": _FROM_1,
    "num_workers": _FROM_0,
    "prompt_tokens": _FROM_0,
    "simplify": _FROM_0,
    "stride": _FROM_1,
    "unfreeze_epoch": _FROM_0,
    "warmup_steps": _FROM_0,
    "weight_decay": _FROM_0,
    "window": _FROM_1,
    "window_batch_size": _FROM_1,
    "windows_per_epoch": _FROM_1,
}


def check_ranges(arguments: Mapping[str, Any]) -> None:
    """Check that numbers lie in their ranges; other values, such as ``null``, are left to their users.

    Args:
        arguments: Arguments by name; those without a range are not checked.

    Raises:
        ConfigError: One does not.
    """
    for name, value in arguments.items():
        limits = RANGES.get(name)
        if limits is not None and isinstance(value, int | float) and not limits.contains(value):
            raise ConfigError(f"{name}: {value} must be {limits.words}")
