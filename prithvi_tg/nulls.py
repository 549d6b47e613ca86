"""Arguments that a configuration gives as null: they are not given, unless null has a meaning of its own."""

import inspect
import typing
from collections.abc import Mapping
from dataclasses import fields
from inspect import Parameter
from typing import Any

from .errors import ConfigError


def without_nulls(owner: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a class without those that are null, if their types exclude it; these have their defaults.

    Args:
        owner: The class; its base classes may take some of the arguments.
        arguments: By name.

    Raises:
        ConfigError: One of them has no default.
    """
    found = dict(arguments)
    for name in [name for name, value in arguments.items() if value is None]:
        parameter = _parameter(owner, name)
        if parameter is None or _accepts_null(parameter.annotation):
            continue
        if parameter.default is Parameter.empty:
            raise ConfigError(f"{name}: null; give a value")
        del found[name]
    return found


def set_defaults(instance: Any) -> None:
    """Set the fields of a frozen dataclass that are null to their defaults, in its ``__post_init__``."""
    given = {field.name: getattr(instance, field.name) for field in fields(instance)}
    known = without_nulls(type(instance), given)
    for field in fields(instance):
        if field.name not in known:
            object.__setattr__(instance, field.name, field.default)


def _parameter(owner: type, name: str) -> Parameter | None:
    """A parameter of a class, or of a base class that gets it as one of ``**kwargs``."""
    for one in owner.__mro__:
        if "__init__" in vars(one):
            known = inspect.signature(one.__init__).parameters  # type: ignore[misc]  # of a class
            if name in known:
                return known[name]
    return None


def _accepts_null(annotation: Any) -> bool:
    if isinstance(annotation, str):  # from __future__ import annotations
        return any(word in annotation for word in ("None", "Optional", "Any"))
    return annotation in (Parameter.empty, Any, None) or type(None) in typing.get_args(annotation)
