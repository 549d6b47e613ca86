"""Every command and every line of Python in the README, word by word, on data small enough for a test."""

import re

import pytest
import yaml
from conftest import TINY
from documents import TOP, blocks, command_lines, small_options, write_workspace

pytestmark = pytest.mark.pictures

README = (TOP / "README.md").read_text()


def commands():
    return [
        words
        for block in blocks(README)
        if block.language == "bash" and not block.info.startswith("no-run: ")
        for words in command_lines(block.text)
    ]


@pytest.mark.version_independent
def test_every_command_is_run_here_or_by_the_gate():
    gate = (TOP / ".ci" / "run").read_text()
    for words in commands():
        assert words[0] in ("prithvi-tg", "make"), words
        if words[0] == "make":
            assert f"make {words[1]} PYTHON" in gate


@pytest.mark.version_independent
def test_files_that_the_text_names_exist():
    links = [path for path in re.findall(r"\]\(([^)#]+)", README) if not path.startswith("http")]
    scripts = re.findall(r"python (experiments/\S+\.py)", README)
    assert links
    assert scripts
    assert [path for path in [*links, *scripts] if not (TOP / path).exists()] == []


@pytest.mark.version_independent
def test_it_has_at_most_160_lines():
    assert len(README.splitlines()) <= 160


def test_every_key_in_the_text_is_accepted_by_the_command(command):
    known = ""
    for module in ("Sen1Floods11DataModule", "LabelledScenesDataModule"):
        code, out, _ = command("fit", "--data.help", module)
        assert code == 0
        known += out
    keys = re.findall(r"--data\.(\w+)", README)
    assert keys
    assert all(f"--data.{key}" in known for key in keys)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path)
    return tmp_path


def test_every_command_and_every_line_of_python_runs(workspace, command):
    ran = 0
    for words in commands():
        if words[0] == "make":
            continue
        code, _, err = command(*words[1:], *small_options(words))
        assert code == 0, (words, err)
        ran += 1
    assert ran >= 7
    assert (workspace / "maps" / "SCENE_pred.tif").exists()
    assert (workspace / "demo" / "maps" / "scene_pred.tif").exists()
    namespace: dict[str, object] = {"__name__": "__readme__"}
    for block in blocks(README):
        if block.language == "python":
            small = block.text.replace(
                'encoder="nano"', f'encoder="nano", encoder_args={TINY}, head_channels=8'
            )
            exec(compile(small.replace("crop_size=128", "crop_size=64"), "README.md", "exec"), namespace)
    assert (workspace / "demo" / "my_map.tif").exists()
    task = namespace["MyTask"](encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2)
    assert task.criterion.label_smoothing == 0.1


def test_shipped_statistics_are_those_that_stats_prints(workspace, command):
    shipped = yaml.safe_load((TOP / "configs" / "chip_folder.yaml").read_text())["data"]["init_args"]
    assert command("synthetic", "data/my_chips")[0] == 0
    code, out, err = command("stats", "--config", "configs/chip_folder.yaml")
    assert code == 0, err
    assert {key: yaml.safe_load(out)["data"]["init_args"][key] for key in ("mean", "std")} == {
        key: shipped[key] for key in ("mean", "std")
    }
