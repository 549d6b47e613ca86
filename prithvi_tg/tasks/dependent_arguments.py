"""Arguments of tasks that only have an effect together with another one."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from ..errors import ConfigError

#: Argument -> the argument without which it has no effect, and how to give that one.
NEEDED = {
    **dict.fromkeys(("lora_targets", "lora_alpha", "lora_dropout"), ("lora_rank", "lora_rank: 16")),
    "unfreeze_epoch": ("freeze_encoder", "freeze_encoder: true"),
}


def is_set(key: str, arguments: Mapping[str, Any], task_class: type) -> bool:
    """Whether an argument of a task has another value than its default; empty and missing ones have not."""
    parameter = signature(task_class).parameters.get(key)
    if parameter is None or key not in arguments:
        return False
    value, default = (
        list(one) if isinstance(one, list | tuple) else one for one in (arguments[key], parameter.default)
    )
    return bool(value != default)


def check_dependent_arguments(arguments: Mapping[str, Any], task_class: type) -> None:
    """Check that no argument is set that has no effect without another one.

    Args:
        arguments: Arguments of the task by name.
        task_class: Class of the task, which has the defaults.

    Raises:
        ConfigError: One is set.
    """
    for key, (needed, setting) in NEEDED.items():
        if is_set(key, arguments, task_class) and not arguments.get(needed):
            raise ConfigError(f"{key}: has no effect without {needed}; add {setting}, or remove {key}")
