"""What is released: a source distribution, a wheel made from it, and the demo, which needs no checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
import yaml
from conftest import TINY

import prithvi_tg
from prithvi_tg.commands import demo
from prithvi_tg.commands.synthetic import LAYOUTS
from prithvi_tg.datasets.synthetic import write_sen1floods11

pytestmark = pytest.mark.pictures

TOP = Path(__file__).parents[1]
SOURCES = (
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
)
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_{}(sys.argv[1]))"


def build(kind, source, folder):
    """Build a distribution without network, and return its path."""
    line = [sys.executable, "-c", BUILD.format(kind), str(folder)]
    done = subprocess.run(line, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """A source distribution of a copy of the checkout, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "checkout"
    shutil.copytree(
        TOP / "prithvi_tg", source / "prithvi_tg", symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(TOP / "configs", source / "configs")
    for name in SOURCES:
        shutil.copy(TOP / name, source)
    with tarfile.open(build("sdist", source, folder)) as file:
        file.extractall(folder, filter="data")
    return folder / f"prithvi_tg-{prithvi_tg.__version__}"


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """A wheel made from the source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(build("wheel", sdist, folder)) as file:
        file.extractall(folder / "unpacked")
    return folder / "unpacked"


def files(folder):
    """Files of a folder, without those behind links to folders."""
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.version_independent
def test_a_wheel_has_every_file_of_the_package_and_every_configuration(sdist, wheel):
    configurations = {Path("configs") / path for path in files(TOP / "configs")}
    assert files(wheel / "prithvi_tg") == files(TOP / "prithvi_tg") | configurations
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff"} <= {path.name for path in files(sdist)}
    assert not any(path.is_symlink() for path in sdist.rglob("*"))


@pytest.mark.version_independent
def test_a_wheel_runs_outside_of_a_checkout(wheel, tmp_path):
    code = """
import prithvi_tg
from prithvi_tg.__main__ import main
from prithvi_tg.commands.demo import CONFIGS, demo_config
print(prithvi_tg.__file__)
print(*sorted(path.name for path in CONFIGS.glob("*.yaml")))
main(["--help"])
"""
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    origin, configurations, usage = done.stdout.split("\n", 2)
    assert Path(origin).is_relative_to(wheel)
    assert "demo.yaml" in configurations.split()
    assert "  demo " in usage


@pytest.mark.version_independent
def test_citation_and_changes_have_the_version_of_the_package():
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
    assert citation["version"] == prithvi_tg.__version__
    headings = [line for line in (TOP / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    released = next(line.split()[1].strip("[]") for line in headings if "Unreleased" not in line)
    assert released == prithvi_tg.__version__


@pytest.mark.version_independent
def test_an_image_is_made_of_all_that_a_wheel_is_made_of():
    lines = (TOP / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    assert copied[-1] == ["."]  # of which .dockerignore leaves:
    kept = {line[1:] for line in (TOP / ".dockerignore").read_text().split() if line.startswith("!")}
    assert kept == {*SOURCES, "configs", "prithvi_tg"}
    assert all((TOP / name).exists() for names in copied for name in names)
    assert "USER user" in lines[lines.index("COPY . .") :]


@pytest.mark.version_independent
def test_the_workflow_runs_the_gate_and_templates_ask_distinct_questions():
    (job,) = yaml.safe_load((TOP / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(TOP / ".ci" / "run", os.X_OK)
    for name in ("bug", "question"):
        form = yaml.safe_load((TOP / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
        assert form["name"]
        assert form["description"]
        questions = [one["id"] for one in form["body"]]
        assert len({*questions}) == len(questions) >= 2
        assert all(one["attributes"]["label"] for one in form["body"])


@pytest.fixture
def small_demo(monkeypatch, tmp_path):
    """The demo with a tiny model on few small chips and a small scene, in an empty folder."""
    config = yaml.safe_load((TOP / "configs" / "demo.yaml").read_text())
    config["model"]["init_args"] |= {"encoder_args": TINY, "head_channels": 8, "window": 32}
    config["data"]["init_args"] |= {"crop_size": 32}
    config["trainer"]["enable_progress_bar"] = False
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(demo, "CONFIGS", tmp_path / "configs")
    commands = demo.demo_commands

    def with_few_chips(output):
        (synthetic, *words), *others = commands(output)
        return [[synthetic, *words, "--chips", "8", "--size", "64"], *others]

    monkeypatch.setattr(demo, "demo_commands", with_few_chips)
    monkeypatch.setitem(LAYOUTS, "sen1floods11", partial(write_sen1floods11, scene_size=(100, 90)))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def test_the_demo_runs_all_its_commands_and_replaces_only_what_it_wrote(small_demo, command):
    code, out, err = command("demo", "--output", "it's here", "--epochs", 1)
    assert code == 0, err
    written = Path("it's here")
    for product in (
        "data/scene.tif",
        "runs/version_0/checkpoints/best.ckpt",
        "maps/scene_pred.tif",
        "report.html",
    ):
        assert (written / product).stat().st_size
    names = [line.split()[2] for line in out.splitlines() if line.startswith("$ prithvi-tg ")]
    assert names == ["synthetic", "fit", "test", "predict", "report"]
    assert sorted(path.name for path in Path().iterdir()) == ["it's here"]

    assert command("demo", "--output", written)[0] == 2
    (written / "notes.txt").write_text("mine")
    stale = written / "maps" / "stale.tif"
    stale.touch()
    code, _, err = command("demo", "--output", written, "--epochs", 1, "--overwrite")
    assert code == 0, err
    assert not stale.exists()
    assert (written / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "mine"), "output: mine exists; add --overwrite to replace it"),
        (("--output", "mine", "--overwrite"), "output: mine has no demo.yaml, so it was not written by demo"),
        (("--epochs", "0"), "epochs: 0 must be 1 or more"),
    ],
)
def test_the_demo_refuses_what_is_not_its_own(words, message, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    code, _, err = command("demo", *words)
    assert code == 2
    assert message in err
    assert (tmp_path / "mine" / "data").is_dir()
