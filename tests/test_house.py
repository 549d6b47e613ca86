"""The house: rooms import only from rooms below them, names are the field's, files and functions stay short."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import prithvi_tg

PACKAGE = Path(prithvi_tg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: From the ground up; rooms of one line may not import from one another, but for those named together.
ROOMS = (
    "errors files compat deprecated nulls ranges class_paths choices",
    "bands colors",
    "spec targets",
    "tiling",
    "models",
    "hub",
    "load_report",
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
    "areas",
    "reporting",
    "exporting",
    "checks studies chip_writing",
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


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text())


def imports(path: Path) -> list[tuple[str, ...]]:
    """Modules of the package that a file imports, from the package on."""
    found = []
    for node in ast.walk(parsed(path)):
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
    """All names that a file defines: classes, functions, arguments, attributes and variables."""
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
        assert OLD_NAMES.intersection(names(parsed(path))) == set()


@pytest.mark.version_independent
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= 450
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > 80} == {}


#: Rooms that talk to a terminal.
COMMANDS = ("cli", "commands", "__main__.py")
LIBRARY = [path for path in FILES if path.relative_to(PACKAGE).parts[0] not in COMMANDS]
WRITES = frozenset({"clear", "pop", "popitem", "setdefault", "update", "__setitem__"})
#: Functions of the process that others rely on, too.
GLOBAL_HOOKS = frozenset({
    "warnings.formatwarning", "warnings.showwarning", "sys.excepthook", "sys.stderr", "sys.stdout",
})  # fmt: skip
GLOBAL_CALLS = frozenset({"signal.signal", "warnings.filterwarnings", "warnings.simplefilter"})


def targets(node: ast.AST) -> list[ast.expr]:
    """Targets of an assignment or a deletion."""
    if isinstance(node, ast.Assign | ast.Delete):
        return list(node.targets)
    return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []


def environment_writes(tree: ast.AST) -> list[int]:
    """Lines that change the environment of the process."""
    lines = []
    for node in ast.walk(tree):
        items = [one for one in targets(node) if isinstance(one, ast.Subscript)]
        lines += [node.lineno for one in items if ast.unparse(one.value).endswith("environ")]
        if isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            owner, _, method = function.rpartition(".")
            if function in ("os.putenv", "os.unsetenv") or (owner.endswith("environ") and method in WRITES):
                lines.append(node.lineno)
    return lines


def is_restored(node: ast.AST) -> bool:
    """Whether a block restores what it changes: a context manager, or warnings that are caught."""
    if isinstance(node, ast.With):
        return any("catch_warnings" in ast.unparse(item.context_expr) for item in node.items)
    if not isinstance(node, ast.FunctionDef):
        return False
    names = {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}
    return node.name in ("__enter__", "__exit__") or "contextmanager" in names


def hooks_left_behind(tree: ast.AST) -> list[str]:
    """Hooks of the process that are replaced outside of a context manager."""
    restored = {id(inner) for node in ast.walk(tree) if is_restored(node) for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if id(node) not in restored:
            found += [ast.unparse(one) for one in targets(node) if ast.unparse(one) in GLOBAL_HOOKS]
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in GLOBAL_CALLS:
                found.append(name)
    return found


@pytest.mark.version_independent
@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_library_logs_and_only_commands_print(path):
    calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    assert [node.lineno for node in calls if ast.unparse(node.func) in ("print", "sys.stdout.write")] == []


@pytest.mark.version_independent
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_of_the_process_is_changed_for_good(path):
    tree = parsed(path)
    assert hooks_left_behind(tree) == []
    if path in LIBRARY:
        assert environment_writes(tree) == []


@pytest.mark.version_independent
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_messages_have_no_marks_of_literals(path):
    raised = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Raise)]
    texts = [one for node in raised for one in ast.walk(node) if isinstance(one, ast.Constant)]
    assert [one.lineno for one in texts if "``" in str(one.value)] == []


@pytest.mark.version_independent
@pytest.mark.parametrize(
    "line",
    [
        "os.environ['A'] = '1'",
        "del os.environ['A']",
        "os.environ.setdefault('A', '1')",
        "os.putenv('A', '1')",
    ],
)
def test_writes_to_the_environment_are_found(line):
    assert environment_writes(ast.parse(line)) == [1]
    assert environment_writes(ast.parse("found = {**os.environ}; found['A'] = os.environ.get('A')")) == []


@pytest.mark.version_independent
def test_hooks_that_are_left_behind_are_found():
    line = "warnings.formatwarning = short"
    assert hooks_left_behind(ast.parse("warnings.simplefilter('ignore')")) == ["warnings.simplefilter"]
    assert hooks_left_behind(ast.parse(line)) == ["warnings.formatwarning"]
    assert hooks_left_behind(ast.parse("signal.signal(signal.SIGTERM, stop)")) == ["signal.signal"]
    assert hooks_left_behind(ast.parse(f"@contextmanager\ndef short():\n    {line}\n    yield")) == []


#: Rooms whose messages only users of the command line see.
OF_COMMANDS = ("cli", "commands", "checks", "callbacks", "studies.py", "deprecated.py", "__main__.py")


@pytest.mark.version_independent
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_messages_of_the_library_name_arguments_and_not_options(path):
    if path.relative_to(PACKAGE).parts[0] in OF_COMMANDS:
        return
    messages = [
        part.value
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.JoinedStr | ast.Constant)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and "\n" not in part.value
    ]
    found = [text for text in messages if re.search(r"(^|[ (\"])--[a-z]", text)]
    # A command as a whole, what a configuration takes, and options of other programs.
    own = [
        text for text in found if not re.search(r"prithvi-tg |callbacks=|rio |--porcelain|--untracked", text)
    ]
    assert not own
