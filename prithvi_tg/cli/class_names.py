"""Class paths of a configuration, checked without importing their modules."""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..deprecated import MODULES, NAMES
from ..errors import ConfigError
from .errors import closest

_PACKAGE = __name__.partition(".")[0]
#: Section of a configuration -> modules whose classes need no module in their name.
_TABLES = {
    "model": (f"{_PACKAGE}.tasks", "torchgeo.trainers", "torchgeo.tasks"),  # one or both, by version
    "data": (f"{_PACKAGE}.datamodules", "torchgeo.datamodules"),
}
#: Section -> names of its classes, without base classes.
_CLASSES = {"model": r"Prithvi\w+Task", "data": r"\w+DataModule"}
#: Packages whose import adds no class of a user.
_PUBLISHED = (_PACKAGE, "torchgeo", "lightning", "torch", "torchmetrics", "timm", "kornia")


def check_class_paths(config: Mapping[str, Any]) -> None:
    """Check every class path of a configuration.

    Raises:
        ConfigError: A module is not found, or is ours and has no such class, or a class without module is unknown.
    """
    paths = list(_class_paths(config, ""))
    for key, path in paths:
        if "." in path:
            _check_path(key, path)
    if all(path.partition(".")[0] in _PUBLISHED for _, path in paths if "." in path):
        for key, path in paths:
            if "." not in path and key in _TABLES:
                _check_name(key, path)


def _class_paths(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Keys and class paths of a part of a configuration."""
    if isinstance(node, Mapping):
        if isinstance(node.get("class_path"), str):
            yield key, node["class_path"]
        for name, child in node.items():
            yield from _class_paths(child, key if name == "init_args" else f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        for child in node:
            yield from _class_paths(child, key)


def _check_path(key: str, path: str) -> None:
    module, _, name = path.rpartition(".")
    missing, file = _find(module)
    if missing and not missing.rpartition(".")[2][:1].isupper():  # otherwise a class within a class
        raise ConfigError(f"{key}: no module named {missing!r}; put its folder on PYTHONPATH, or install it")
    if file and module.startswith(f"{_PACKAGE}."):
        known = {*_names_of(module), *NAMES.get(module, ())}
        if name not in known:
            raise ConfigError(f"{key}: {module} has no class {name!r}{closest(name, known)}")


def choices(section: str) -> str:
    """The classes of this package for a section of a configuration, as advice."""
    known = {name for name in _names_of(_TABLES[section][0]) if re.fullmatch(_CLASSES[section], name)}
    return f"choose from {', '.join(sorted(known))}"


def _check_name(key: str, name: str) -> None:
    known = [_names_of(module) for module in _TABLES[key] if not _find(module)[0]]
    if not any(name in names for names in known):
        hint = closest(name, set().union(*known)) or f"; {choices(key)}"
        raise ConfigError(f"{key}: unknown class {name!r}{hint}")


def _find(module: str) -> tuple[str, str]:
    """The first part of the path of a module that is not found, and its file; parent packages are not imported."""
    name, *parts = module.split(".")
    spec = None if name == "__main__" else find_spec(name)
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            break
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    if spec is not None and name == module:
        return "", spec.origin or ""
    return "" if module in sys.modules or module in MODULES else name, ""


@cache
def _names_of(module: str) -> frozenset[str]:
    """Names that a module binds at its top level, from its source."""
    names: set[str] = set()
    nodes = ast.parse(Path(_find(module)[1]).read_text()).body
    # Names that a package imports when they are first used are imported under TYPE_CHECKING, too.
    nodes += [child for node in nodes if isinstance(node, ast.If) for child in node.body]
    for node in nodes:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            ends = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(end.id for end in ends if isinstance(end, ast.Name))
    return frozenset(names)
