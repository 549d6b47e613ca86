"""Land cover of a real scene, trained and tested on blocks of it: a small encoder against single pixels.

Run from the top of the repository, with PRITHVI_TG_REAL_DATA set to a folder that holds ``sentinel2_scene/``:

    python experiments/real_scene/run.py
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
import yaml
from matplotlib.colors import ListedColormap
from torch import Tensor

from prithvi_tg.datamodules import LabelledScenesDataModule
from prithvi_tg.datamodules.labelled_scenes import BlockSplit
from prithvi_tg.datasets.scenes.scored_windows import ScoredWindows
from prithvi_tg.plotting import add_legend, draw_classes, frame_pictures, panels
from prithvi_tg.reporting.linear_baseline import linear_confusion
from prithvi_tg.targets import IGNORE_INDEX
from prithvi_tg.tasks.metrics import segmentation_scores

HERE = Path(__file__).parent
WORK = HERE / "output"
SPLITS = {"training": "tab:blue", "validation": "tab:orange", "test": "tab:purple"}


def command(*arguments: str) -> str:
    """Run the command line and return what it printed."""
    run = subprocess.run(
        [sys.executable, "-m", "prithvi_tg", *arguments], check=True, capture_output=True, text=True
    )
    return run.stdout


def pixels(windows: ScoredWindows) -> tuple[Tensor, Tensor]:
    """The six values and the class of every labelled pixel, once."""
    values, classes = [], []
    for number in range(len(windows)):
        sample = windows[number]
        known = sample["mask"] != IGNORE_INDEX
        values.append(sample["image"][0][:, known].T)
        classes.append(sample["mask"][known])
    return torch.cat(values), torch.cat(classes)


def main() -> None:
    """Run everything and write results.json and maps.png."""
    shutil.rmtree(WORK, ignore_errors=True)
    source = Path(os.environ["PRITHVI_TG_REAL_DATA"]) / "sentinel2_scene"
    scene = source / "S2A_L2A_T29UNU_20221005_60m_6band_640.tif"
    label = source / "S2A_L2A_T29UNU_20221005_60m_SCL_640.tif"
    config = str(HERE / "config.yaml")
    given = [f"--data.images={scene}", f"--data.labels={label}"]
    statistics = yaml.safe_load(command("stats", "--config", config, *given))["data"]["init_args"]
    given += [f"--data.{key}={statistics[key]}" for key in ("mean", "std")]
    run = ["--trainer.default_root_dir", str(WORK / "runs")]
    start = time.perf_counter()
    command("fit", "--config", config, *given, *run)
    seconds = time.perf_counter() - start
    checkpoint = str(WORK / "runs" / "version_0" / "checkpoints" / "best.ckpt")
    command("test", "--config", config, *given, *run, "--ckpt_path", checkpoint)
    record = json.loads((WORK / "runs" / "version_1" / "metrics.json").read_text())
    command(
        "predict", "--ckpt_path", checkpoint, str(scene), "--output", str(WORK / "maps"), "--blending", "hann"
    )

    settings = yaml.safe_load(Path(config).read_text())["data"]["init_args"]
    settings["split"] = BlockSplit(**settings["split"]["init_args"])
    data = LabelledScenesDataModule(
        **settings, images=str(scene), labels=str(label), mean=statistics["mean"], std=statistics["std"]
    )
    both, images = data.open_both()
    data.setup("test")
    train, test = (pixels(data.scored_windows(split, both, images)) for split in ("train", "test"))
    names = data.spec.target.names
    linear = segmentation_scores(linear_confusion(train, test, len(names)))
    labelled = [sum(row) for row in record["confusion_matrix"]["counts"]]
    assert sum(labelled) == len(test[1]), "every labelled pixel of the test blocks is counted once"
    results = {
        "nano": {key: record["overall"][key] for key in ("mIoU", "aAcc")},
        "linear": {key: float(linear[key]) for key in ("mIoU", "aAcc")},
        "IoU per class": {
            name: {
                "test pixels": labelled[index],
                "nano": record["per_class"][name]["IoU"],
                "linear": float(linear["IoU"][index]),
            }
            for index, name in enumerate(names)
        },
        "seconds of fit": round(seconds, 1),
        "threads": torch.get_num_threads(),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    draw(data, scene, label)


def draw(data: LabelledScenesDataModule, scene: Path, label: Path) -> None:
    """The scene, its labels, the map of the whole scene, and the split."""
    spec = data.spec
    with rasterio.open(scene) as file:
        image, valid = file.read().astype(float), file.read_masks() > 0
    with rasterio.open(label) as file:
        stored = file.read(1)
    classes = np.full(stored.shape, IGNORE_INDEX, np.uint8)
    for value, name in data.classes.items():
        classes[stored == int(value)] = spec.target.names.index(name)
    with rasterio.open(WORK / "maps" / f"{scene.stem}_pred.tif") as file:
        predicted = file.read(1)
    figure, axes = panels(4)
    picture, *_ = frame_pictures(image[None] * spec.input.scale, valid[None], spec.input)
    picture.draw(axes[0])
    draw_classes(axes[1], classes, spec.target, no_data=~picture.valid)
    draw_classes(axes[2], predicted, spec.target, no_data=True)
    owner = np.zeros(stored.shape, int)
    for number, region in enumerate(data.split_regions.splits.values()):
        for top, left, bottom, right in region.boxes:
            owner[top:bottom, left:right] = number
    axes[3].imshow(owner, cmap=ListedColormap(SPLITS.values()), interpolation="nearest")
    splits = ", ".join(f"{name} ({color.removeprefix('tab:')})" for name, color in SPLITS.items())
    for axis, title in zip(axes, ("scene", "label", "map", splits), strict=True):
        axis.set_title(title)
    add_legend(figure, spec.target)
    figure.savefig(HERE / "maps.png", dpi=80)


if __name__ == "__main__":
    main()
