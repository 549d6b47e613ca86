"""Classes by the name of a row of a table or by their path, and functions by their path."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, TypeVar

from .errors import ConfigError

Row = TypeVar("Row")

#: Key -> the method of a task that creates the object, which a subclass can override.
_CREATED_BY = {
    "loss": "configure_losses", "optimizer": "create_optimizer", "schedule": "create_schedule",
    "encoder": "create_encoder", "decoder": "configure_models", "pooling": "configure_models",
}  # fmt: skip


def find_class(key: str, name: str, table: Mapping[str, Row], kind: type = object) -> Row | Any:
    """The entry of a table, or the class of a path.

    Args:
        key: Key of the configuration, for messages.
        name: A name of the table, or ``package.module.Class``.
        table: Name -> class.
        kind: Base class of classes that are given by path.

    Raises:
        ConfigError: The name is unknown or not text, or the class does not derive from `kind` or lacks a method of it.
    """
    check_name(key, name)
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


def check_name(key: str, name: Any) -> None:
    """Check that a name or path is text, which a checkpoint can record.

    Args:
        key: Key of the configuration, for messages.
        name: The name or path.

    Raises:
        ConfigError: It is a class or an object.
    """
    if isinstance(name, str):
        return
    kind = name if isinstance(name, type) else type(name)
    given = f"the class {kind.__qualname__}" if kind is name else f"an object of {kind.__qualname__}"
    own = f"; for an instance, override {_CREATED_BY[key]}" if key in _CREATED_BY else ""
    raise ConfigError(
        f"{key}: {given} was given; give a name or a class path such as "
        f"'{kind.__module__}.{kind.__qualname__}', which checkpoints can record{own}"
    )


def parameters_of(kind: type) -> dict[str, Parameter]:
    """The parameters of a class by name, with those of base classes that it takes as ``**kwargs``."""
    found: dict[str, Parameter] = {}
    for owner in kind.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = list(signature(owner.__init__).parameters.values())[1:]  # type: ignore[misc]  # of a class
        for parameter in parameters:
            if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                found.setdefault(parameter.name, parameter)
        if all(parameter.kind is not Parameter.VAR_KEYWORD for parameter in parameters):
            break
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
