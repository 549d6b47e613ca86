"""The documentation site: every fenced command, configuration and line of Python in docs/ runs, page by page.

A block ``bash no-run: REASON`` is parsed, not run. A block of YAML or Python whose first line is a comment with a file
name is written to that file; one of YAML with ``for: CONFIG`` changes that configuration, and must be accepted by it;
all other Python runs.
"""

import itertools
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from command_parsers import parser_of
from documents import SMALL_NANO, SMALL_TRAINER, TOP, blocks, command_lines, small_options, write_workspace

pytestmark = pytest.mark.pictures

DOCS = TOP / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
BLOCKS = {path: blocks(path.read_text()) for path in PAGES}
NOTEBOOKS = [path for path in PAGES if path.parent.name == "notebooks" and path.stem != "index"]
RUN = [
    path for path, found in BLOCKS.items() if any(one.language in ("bash", "python", "yaml") for one in found)
]
#: Commands that Lightning's parser reads, whose ``--print_config`` parses all and runs nothing.
CONFIGURED = ("fit", "pretrain", "validate", "test", "predict", "check", "stats", "chips")


def name_of(path):
    return str(path.relative_to(DOCS))


def file_name(text):
    """The file that a block is to be written to."""
    found = re.match(r"# ([\w./-]+\.(?:yaml|py|csv))\n", text)
    return found and found.group(1)


@pytest.mark.version_independent
@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_fences_are_of_a_known_language(path):
    for block in BLOCKS[path]:
        assert block.language.startswith("{") or block.language in (
            "bash",
            "python",
            "yaml",
            "text",
            "csv",
        ), block
        if block.language == "bash":
            assert not block.info or re.fullmatch(r"no-run: \S.*", block.info), block
        if block.language == "yaml":
            assert file_name(block.text) or re.fullmatch(r"for: \S+", block.info), block


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Data and training of the demo, as on the page about floods; read only."""
    from prithvi_tg.__main__ import main

    top = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        (top / "configs").symlink_to(TOP / "configs")
        for line in ("synthetic demo/data", "fit --config configs/demo.yaml"):
            words = ["prithvi-tg", *line.split()]
            assert main([*words[1:], *small_options(words)]) == 0
    return top / "demo"


@pytest.fixture
def workspace(tmp_path, monkeypatch, demo):
    """A folder with the paths of a page; ``demo`` is that of the page about floods."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_workspace(tmp_path)
    shutil.copytree(demo, tmp_path / "demo")
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:  # of this page
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def small_encoder(words):
    """Options that make the encoder of a page's own configuration small."""
    files = [Path(after) for word, after in itertools.pairwise(words) if word == "--config"]
    text = "".join(path.read_text() for path in files)
    return SMALL_NANO if "encoder: nano" in text and "encoder_args" not in text else []


def run_command(words, command):
    """Run a line of a page at small size; its output goes to the file after ``>``, if there is one."""
    target = words[-1] if ">" in words else None
    words = words[:-2] if target else words
    words = [
        path
        for word in words
        for path in (sorted(map(str, Path().glob(word))) if "*" in word else []) or [word]
    ]
    extra = small_options(words)
    if words[1] in ("fit", "pretrain", "validate", "test") and not extra:  # with a configuration of the page
        extra = [*SMALL_TRAINER, *small_encoder(words)]
    code, out, err = command(*words[1:], *extra)
    assert code == 0, (words, out, err)
    if target:
        Path(target).write_text(out)


def parse_command(words, command):
    """Parse a line of a page without running it."""
    if words[1].startswith("--"):  # --version
        run_command(words, command)
    elif words[1] in CONFIGURED:
        code, _, err = command(*words[1:], "--print_config")
        assert code == 0, (words, err)
    elif words[1] == "sweep":
        _, others = parser_of("sweep").parse_known_args(words[2:])
        parse_command(["prithvi-tg", "fit", *others], command)
    else:
        parser_of(words[1]).parse_args(words[2:])


def run_bash(block, command):
    if block.text.startswith("#!"):
        return  # a script of SLURM, which tests/test_clusters.py runs
    for words in command_lines(block.text):
        if block.info:
            if "prithvi-tg" in words:  # also after docker run
                parse_command(words[words.index("prithvi-tg") :], command)
        else:
            assert words[0] == "prithvi-tg", f"{words}: only prithvi-tg runs; fence it as bash no-run: REASON"
            run_command(words, command)


def accept_changes(block, command):
    """Parse a configuration that a block of YAML changes."""
    Path("changes.yaml").write_text(block.text)
    assert yaml.safe_load(block.text)
    base = block.info.removeprefix("for: ")
    code, _, err = command("fit", "--config", base, "--config", "changes.yaml", "--print_config")
    assert code == 0, (block.text, err)


@pytest.mark.docs
@pytest.mark.version_independent
@pytest.mark.parametrize("path", RUN, ids=name_of)
def test_every_block_of_a_page_runs(path, workspace, command):
    found = BLOCKS[path]
    if any("prithvi-tg synthetic demo/data" in one.text for one in found):
        shutil.rmtree(workspace / "demo")
    namespace = {"__name__": "__docs__"}
    for block in found:
        written = file_name(block.text) if block.language in ("yaml", "python", "csv") else None
        if written:
            target = Path(written)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text if target.suffix != ".csv" else block.text.split("\n", 1)[1])
        elif block.language == "yaml":
            accept_changes(block, command)
        elif block.language == "bash":
            run_bash(block, command)
        elif block.language == "python":
            exec(compile(block.text, str(path), "exec"), namespace)


@pytest.mark.version_independent
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_converts_with_every_block_of_its_page(path):
    jupytext = pytest.importorskip("jupytext")
    cells = [cell["source"] for cell in jupytext.read(path)["cells"] if cell["cell_type"] == "code"]
    blocks_of_page = [
        ("%%bash\n" if one.language == "bash" else "") + one.text.strip() for one in BLOCKS[path]
    ]
    assert cells == blocks_of_page


@pytest.mark.version_independent
def test_every_command_has_a_page_of_reference():
    from prithvi_tg.__main__ import USAGE

    commands = re.findall(r"^  (\w+) {2,}", USAGE, flags=re.MULTILINE)
    assert sorted(commands) == sorted(path.stem for path in (DOCS / "reference" / "commands").glob("*.md"))
