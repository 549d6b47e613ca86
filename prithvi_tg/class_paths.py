"""Classes by the name of a row of a table or by their path, and functions by their path."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

from .errors import ConfigError

Row = TypeVar("Row")


def find_class(key: str, name: str, table: Mapping[str, Row], kind: type = object) -> Row | Any:
    """The entry of a table, or the class of a path.

    Args:
        key: Key of the configuration, for messages.
        name: A name of the table, or ``package.module.Class``.
        table: Name -> class.
        kind: Base class of classes that are given by path.

    Raises:
        ConfigError: The name is unknown, or the class does not derive from `kind` or lacks a method of it.
    """
    if name in table:
        return table[name]
    if "." not in name:
        near = get_close_matches(name, table, n=1)
        hint = f"; did you mean {near[0]}? Choose" if near else "; choose"
        raise ConfigError(f"{key}: {name!r} is unknown{hint} from {', '.join(table)}, or the path of a class")
    found = _imported(key, name)
    wanted = f"{kind.__module__}.{kind.__qualname__}"
    if not isinstance(found, type):
        raise ConfigError(f"{key}: {name} is not a class; it must be one that derives from {wanted}")
    if not issubclass(found, kind):
        raise ConfigError(f"{key}: {name} must derive from {wanted}")
    if missing := getattr(found, "__abstractmethods__", ()):
        raise ConfigError(f"{key}: {name} does not define {', '.join(sorted(missing))}; see {wanted}")
    return found


def find_function(key: str, name: str) -> Callable[..., Any]:
    """The function of a path, ``package.module.function``.

    Args:
        key: Key of the configuration, for messages.
        name: The path.

    Raises:
        ConfigError: There is no such function.
    """
    if "." not in name:
        raise ConfigError(f"{key}: {name!r} must be the path of a function, package.module.function")
    found = _imported(key, name)
    if not callable(found):
        raise ConfigError(f"{key}: {name} is not a function")
    return found


def _imported(key: str, name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):  # the user's module lacks something itself
            raise
        raise ConfigError(f"{key}: {name}: no module {module}; put its folder on PYTHONPATH") from error
    except AttributeError as error:
        raise ConfigError(f"{key}: {name}: {module} has no {attribute}") from error
