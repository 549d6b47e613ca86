"""Every command and every line of Python in the README, word by word, on data small enough for a test."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.datasets.synthetic import write_sen1floods11

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
# Appended to commands, so that full-size recipes take seconds; `make demo` runs the demo's at full length.
SMALL_TRAINER = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
SMALL = {
    "configs/sen1floods11.yaml": [
        "--model.encoder=nano",
        "--model.weights=data/weights/Prithvi_EO_V1_100M.pt",
        f"--model.encoder_args={TINY}",
        "--model.head_channels=8",
        "--data.splits=data/sen1floods11/splits.csv",
        "--data.batch_size=2",
        "--data.num_workers=0",
        *SMALL_TRAINER,
    ],
    "configs/demo.yaml": [
        f"--model.encoder_args={TINY}",
        "--model.head_channels=8",
        *SMALL_TRAINER,
        "--data.crop_size=64",
        "--trainer.check_val_every_n_epoch=1",
    ],
    "configs/scenes.yaml": [f"--model.encoder_args={TINY}", "--data.windows_per_epoch=16", *SMALL_TRAINER],
    "demo/data": ["--size=64"],
    "data/my_scenes": ["--size=64"],
    "configs/chip_folder.yaml": [
        "--model.encoder=nano",
        f"--model.encoder_args={TINY}",
        "--model.weights=data/weights/Prithvi_EO_V1_100M.pt",
        "--data.crop_size=32",
        "--data.batch_size=2",
        *SMALL_TRAINER,
    ],
}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands():
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    return [shlex.split(line) for line in lines]


@pytest.mark.version_independent
def test_every_command_is_one_that_is_run_here_or_by_the_gate():
    gate = (TOP / ".ci" / "run").read_text()
    for words in commands():
        assert words[0] in ("prithvi-tg", "make"), words
        if words[0] == "make":
            assert f"make {words[1]} PYTHON" in gate


def test_every_key_in_the_text_is_one_that_the_command_takes(command):
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
    """Where the README's paths exist: small data in the published layout, tiny weights in published files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(TOP / "configs")
    write_sen1floods11("data/sen1floods11", chips=6, size=64, scene_size=(64, 64))
    (tmp_path / "SCENE.tif").symlink_to("data/sen1floods11/scene.tif")
    weights = tmp_path / "data" / "weights"
    weights.mkdir()
    task = PrithviSegmentationTask(encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2)
    torch.save(task.model.encoder.state_dict(), weights / "Prithvi_EO_V1_100M.pt")
    published = {k.replace("encoder.", "backbone.", 1): v for k, v in task.model.state_dict().items()}
    torch.save({"state_dict": published, "meta": {}}, weights / "sen1floods11_Prithvi_100M.pth")
    return tmp_path


def test_every_command_and_every_line_of_python_runs(workspace, command):
    ran = 0
    for words in commands():
        if words[0] == "make":
            continue
        extra = [option for name, options in SMALL.items() if name in words for option in options]
        if words[1] == "stats":
            extra = []
        if words[1] == "chips":
            extra = ["--data.windows_per_epoch=16"]
        if words[1] == "predict" and (workspace / "maps").exists():
            extra.append("--overwrite")
        if "--trainer.devices" in words:  # two processes are tested in mapping/test_run.py
            extra.append("--trainer.devices=1")
        code, out, err = command(*words[1:], *extra)
        assert code == 0, (words, err)
        if words[1] == "stats" and "configs/chip_folder.yaml" in words:
            shipped = yaml.safe_load((TOP / "configs" / "chip_folder.yaml").read_text())["data"]["init_args"]
            assert {key: yaml.safe_load(out)[key] for key in ("mean", "std")} == {
                key: shipped[key] for key in ("mean", "std")
            }
        ran += 1
    assert ran >= 12
    assert (workspace / "maps" / "SCENE_pred.tif").exists()
    assert (workspace / "demo" / "maps" / "scene_pred.tif").exists()
    namespace: dict[str, object] = {}
    for block in blocks("python"):
        small = block.replace('encoder="nano"', f'encoder="nano", encoder_args={TINY}, head_channels=8')
        exec(compile(small.replace("crop_size=128", "crop_size=64"), "README.md", "exec"), namespace)
    assert (workspace / "demo" / "my_map.tif").exists()
