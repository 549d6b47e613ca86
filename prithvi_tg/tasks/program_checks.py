"""Checks of a file of ``torch.export`` before it is loaded: it must not contain code.

`torch.export.load` unpickles sample inputs, some tensors and custom objects, loads compiled libraries, passes symbolic
sizes to ``sympify``, runs the code of guards and of the graph, and resolves any name below ``torch``, ``math`` and
``_operator``. Files that `prithvi_tg.exporting` writes need none of this, so everything beyond tensors, names, sizes
and operators of ATen is refused.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.export.pt2_archive import PT2ArchiveReader

from ..errors import CheckpointError
from .description import DESCRIPTION

_MODEL = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_INPUTS = "data/sample_inputs/model.pt"
_RECORD = re.compile(
    r"data/(weights/weight|constants/tensor)_\d+|extra/[\w.-]+|archive_format|archive_version|byteorder|version"
    r"|\.data/(version|serialization_id)"
)
#: A name, a number, or a path of names; it cannot be an expression of Python.
_WORD = re.compile(r"[\w.-]*")
_SYMBOL = re.compile(r"[a-z]+\d+")
_TARGET = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|eq|ne|lt|le|gt|ge)"
)
#: Functions of symbolic sizes.
_SIZES = frozenset({
    "Symbol", "Integer", "Rational", "Add", "Mul", "Pow", "FloorDiv", "CleanDiv", "Mod", "PythonMod", "Max", "Min",
    "Equality", "Unequality", "GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan",
})  # fmt: skip
_SIZE_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub,
)  # fmt: skip
#: Keys of the metadata of a node; torch only looks up their names.
_METADATA = frozenset({"nn_module_stack", "source_fn_stack", "torch_fn"})


def check_program(path: Path) -> dict[str, Any]:
    """Check that a file of ``torch.export`` contains no code.

    Args:
        path: A ``.pt2`` file.

    Returns:
        The description that this package stores in the file, see `describe_task`.

    Raises:
        CheckpointError: The file cannot be read, could run code, or was not exported by this package.
    """
    try:
        with PT2ArchiveReader(str(path)) as archive:
            names = archive.get_file_names()
            for name in names:
                if name not in (_MODEL, *_CONFIGS, _INPUTS) and not _RECORD.fullmatch(name):
                    raise _refusal(path, f"it contains {name}")
            if f"extra/{DESCRIPTION}" not in names:
                raise CheckpointError(
                    f"{path}: has no {DESCRIPTION}, so it was not written by prithvi-tg export; give a model that was"
                )
            description: dict[str, Any] = json.loads(archive.read_string(f"extra/{DESCRIPTION}"))
            if _INPUTS in names and archive.read_bytes(_INPUTS):
                raise _refusal(path, f"{_INPUTS} is a pickle")
            for name in _CONFIGS:
                _check_payloads(path, json.loads(archive.read_string(name)))
            _check_graph(path, json.loads(archive.read_string(_MODEL)))
    except (RuntimeError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise CheckpointError(f"{path}: not a readable program of torch.export ({reason})") from error
    return description


def _refusal(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: refused, because reading it could run code ({reason})")


def _check_payloads(path: Path, content: Any) -> None:
    for name, payload in content["config"].items():
        if payload["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", payload["path_name"]):
            raise _refusal(path, f"{name} is not a plain tensor")
    for key, text in _strings(content):
        _check_word(path, key, text)


def _check_graph(path: Path, content: Any) -> None:
    if content.get("guards_code"):
        raise _refusal(path, "it contains guard code")
    content.pop("torch_version", None)
    for key, text in _strings(content):
        if key == "expr_str":
            _check_size(path, text)
        elif key in ("in_spec", "out_spec"):
            for part in _tree_types(json.loads(text)):
                if part not in (None, "builtins.tuple", "builtins.list", "builtins.dict"):
                    raise _refusal(path, f"its arguments have the type {str(part)[:80]}")
        elif key == "target" and not _TARGET.fullmatch(text):
            raise _refusal(path, f"it calls {text[:80]}")
        elif key == "as_operator":
            raise _refusal(path, f"it refers to {text[:80]}")
        elif key in _METADATA:
            if "\n" in text:
                raise _refusal(path, f"{key} has several lines")
        elif key not in ("in_spec", "out_spec", "target"):
            _check_word(path, key, text)


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings of a JSON content with their keys; keys are strings, too."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield "", name
            yield from _strings(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value, key)
    elif isinstance(content, str):
        yield key, content


def _check_word(path: Path, key: str, text: str) -> None:
    if not _WORD.fullmatch(text):
        raise _refusal(path, f"{key or 'a key'} is {text[:80]!r}")


def _check_size(path: Path, text: str) -> None:
    """Check that a symbolic size is an expression of symbols and integers."""
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        is_known = isinstance(node, _SIZE_NODES)
        if isinstance(node, ast.Name):
            is_known = node.id in _SIZES or bool(_SYMBOL.fullmatch(node.id))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_known = bool(_SYMBOL.fullmatch(node.value))
        elif isinstance(node, ast.Call):
            is_known = isinstance(node.func, ast.Name) and node.func.id in _SIZES
        if not is_known:
            raise _refusal(path, f"a size is {text[:80]!r}")


def _tree_types(content: Any) -> Iterator[Any]:
    """Types of the nodes of a serialised pytree specification; contexts must be empty."""
    if isinstance(content, list):
        for part in content:
            yield from _tree_types(part)
    elif isinstance(content, dict):
        yield content["type"]
        context = content["context"]
        if context not in (None, "null", "[]"):
            yield f"with context {context}"
        yield from _tree_types(content["children_spec"])
