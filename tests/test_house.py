"""The house: rooms import only from rooms below them, names are the field's, files and functions stay short."""

import ast
from pathlib import Path

import pytest

import prithvi_tg

PACKAGE = Path(prithvi_tg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: From the ground up; rooms of one line may not import from one another, but for those named together.
ROOMS = (
    "errors files compat deprecated class_paths",
    "bands",
    "spec targets",
    "tiling",
    "models",
    "checkpoints",
    "readers",
    "plotting",
    "augmentations",
    "datasets",
    "samplers",
    "processes",
    "datamodules",
    "tasks",
    "mapping",
    "reporting",
    "checks label_checks studies chip_writing",
    "callbacks",
    "commands cli __main__",
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms.split()}

#: Names that a reader would have to learn, where the field has one.
OLD_NAMES = frozenset({
    "Cover", "KeptWeights", "Log", "PartFolder", "PrithviSegmenter", "Segment", "Series", "ShareSampler", "TokenMap",
    "WindowPlan", "broken", "displaced", "favoured", "first_blocks", "flips_and_turns", "foreign", "goes_on", "ground",
    "keep", "kept", "remainder", "take", "there", "twins", "walks",
})  # fmt: skip


def imports(path: Path) -> list[tuple[str, ...]]:
    """Modules of the package that a file imports, from the package on."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.relative_to(PACKAGE).parts[: -node.level]
            module = (*base, *(node.module.split(".") if node.module else ()))
            found += [module] if module else [(alias.name,) for alias in node.names]
    return [module for module in found if module[0] != "__version__"]


@pytest.mark.version_independent
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_below_it(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room != "__init__":
        assert [module for module in imports(path) if RANK[module[0]] > RANK[room]] == []


def names(tree: ast.AST) -> list[str]:
    """Every name that a file gives: classes, functions, arguments, attributes and variables."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.append(node.name)
        elif isinstance(node, ast.arg | ast.keyword):
            found.append(node.arg or "")
        elif isinstance(node, ast.Attribute):
            found.append(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
    return found


@pytest.mark.version_independent
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_are_those_of_the_field(path):
    if path.name != "deprecated.py":
        assert OLD_NAMES.intersection(names(ast.parse(path.read_text()))) == set()


@pytest.mark.version_independent
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= 450
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > 80} == {}
