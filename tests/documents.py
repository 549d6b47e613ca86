"""Fenced blocks of Markdown documents, and replacements that make their commands small enough for a test."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from conftest import TINY

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.datasets.synthetic import write_sen1floods11

TOP = Path(__file__).parents[1]
# Appended to commands, so that full-size recipes take seconds; `make demo` runs the demo's at full length.
SMALL_TRAINER = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
SMALL_NANO = [f"--model.encoder_args={TINY}", "--model.head_channels=8"]
SMALL = {
    "configs/sen1floods11.yaml": [
        "--model.encoder=nano",
        "--model.weights=data/weights/Prithvi_EO_V1_100M.pt",
        *SMALL_NANO,
        "--data.splits=data/sen1floods11/splits.csv",
        "--data.batch_size=2",
        "--data.num_workers=0",
        *SMALL_TRAINER,
    ],
    "configs/demo.yaml": [
        *SMALL_NANO,
        *SMALL_TRAINER,
        "--data.crop_size=64",
        "--trainer.check_val_every_n_epoch=1",
    ],
    "configs/scenes.yaml": [f"--model.encoder_args={TINY}", "--data.windows_per_epoch=16", *SMALL_TRAINER],
    "configs/value_scenes.yaml": [
        f"--model.encoder_args={TINY}",
        "--data.windows_per_epoch=16",
        "--trainer.check_val_every_n_epoch=1",
        *SMALL_TRAINER,
    ],
    "configs/regression.yaml": [
        f"--model.encoder_args={TINY}",
        "--trainer.check_val_every_n_epoch=1",
        *SMALL_TRAINER,
    ],
    "configs/classification.yaml": [f"--model.encoder_args={TINY}", *SMALL_TRAINER],
    "configs/small_chips.yaml": [
        *SMALL_NANO,
        "--data.crop_size=64",
        "--trainer.check_val_every_n_epoch=1",
        *SMALL_TRAINER,
    ],
    "configs/pretrain.yaml": [
        f"--model.encoder_args={TINY}",
        "--model.window=64",
        "--data.crop_size=64",
        *SMALL_TRAINER,
    ],
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


class Block(NamedTuple):
    """A fenced block."""

    language: str
    info: str
    """Words after the language."""
    text: str


def blocks(document: str) -> list[Block]:
    """Every fenced block of a document; those of directives have their braces as language."""
    found = re.findall(
        r"^(`{3,})([^\s`]*)[ \t]*([^\n]*)\n(.*?)^\1[ \t]*$", document, flags=re.DOTALL | re.MULTILINE
    )
    return [Block(language, info.strip(), text) for _, language, info, text in found]


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each line of a block of bash; variables that a line sets for its command are left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words:
            yield words


def small_options(words: list[str]) -> list[str]:
    """Options that make a command of a document small."""
    command = words[1]
    if command == "stats":
        return []
    if command == "chips":
        return ["--data.windows_per_epoch=16"]
    options = [option for name, options in SMALL.items() if name in words for option in options]
    if "--model.encoder" in words and "nano" not in words:  # whose arguments are others
        options = [option for option in options if not option.startswith("--model.encoder_args")]
    if (
        "--trainer.devices" in words
    ):  # several processes are tested in mapping/test_run.py and test_processes.py
        options.append("--trainer.devices=1")
    if "--trainer.num_nodes" in words:
        options.append("--trainer.num_nodes=1")
    return options


def write_workspace(folder: Path) -> None:
    """Write the files that documents name: shipped configurations, small data in the published layout, tiny weights."""
    (folder / "configs").symlink_to(TOP / "configs")
    write_sen1floods11(folder / "data/sen1floods11", chips=6, size=64, scene_size=(64, 64))
    (folder / "SCENE.tif").symlink_to("data/sen1floods11/scene.tif")
    weights = folder / "data" / "weights"
    weights.mkdir()
    task = PrithviSegmentationTask(encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2)
    torch.save(task.model.encoder.state_dict(), weights / "Prithvi_EO_V1_100M.pt")
    published = {k.replace("encoder.", "backbone.", 1): v for k, v in task.model.state_dict().items()}
    torch.save({"state_dict": published, "meta": {}}, weights / "sen1floods11_Prithvi_100M.pth")
