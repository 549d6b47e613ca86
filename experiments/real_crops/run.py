"""Crop types on two real places, three dates: a small encoder against a per-pixel linear classifier.

Run from the top of the repository, with PRITHVI_TG_REAL_DATA set to a folder that holds ``worldcereal/``:

    python experiments/real_crops/run.py
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
from matplotlib.figure import Figure
from rasterio.windows import Window

from prithvi_tg import load_task
from prithvi_tg.datamodules import ChipFolderDataModule
from prithvi_tg.datasets import ChipFolder
from prithvi_tg.plotting import add_legend, draw_classes, frame_pictures, panels
from prithvi_tg.reporting.linear_baseline import linear_confusion
from prithvi_tg.tasks.metrics import segmentation_scores

HERE = Path(__file__).parent
WORK = HERE / "output"
HALVES = {"west": ("train", 0), "east": ("test", 32)}


def write_chips(source: Path) -> None:
    """Each place of 64 x 64 pixels as a west and an east chip of 64 x 32; splits.csv says which is which."""
    folder = WORK / "chips"
    folder.mkdir(parents=True)
    rows = ["chip,split"]
    for image in sorted(source.glob("worldcereal_*_3dates_18band.tif")):
        place = image.name.split("_")[1]
        label = image.with_name(f"worldcereal_{place}_CT.tif")
        for half, (split, column) in HALVES.items():
            for path, kind in ((image, "image"), (label, "label")):
                with rasterio.open(path) as file:
                    window = Window(column, 0, 32, 64)
                    profile = file.profile | {"width": 32, "transform": file.window_transform(window)}
                    values = file.read(window=window)
                with rasterio.open(folder / f"{place}_{half}_{kind}.tif", "w", **profile) as out:
                    out.write(values)
            rows.append(f"{place}_{half},{split}")
            if split == "train":
                rows.append(f"{place}_{half},val")  # never used: validation is off
    (folder / "splits.csv").write_text("\n".join(rows) + "\n")


def command(*arguments: str) -> str:
    """Run the command line and return what it printed."""
    run = subprocess.run(
        [sys.executable, "-m", "prithvi_tg", *arguments], check=True, capture_output=True, text=True
    )
    return run.stdout


def pixels(dataset: ChipFolder) -> tuple[torch.Tensor, torch.Tensor]:
    """The 18 values and the class of every labelled pixel."""
    values = torch.cat([sample["image"].flatten(0, 1).flatten(1).T for sample in dataset])
    classes = torch.cat([sample["mask"].flatten() for sample in dataset])
    return values[classes != 255], classes[classes != 255]


def mean_of_present(per_class: dict[str, dict[str, float]], model: str) -> float:
    """Mean IoU over the classes that occur in the test; elsewhere every false alarm counts as a class at 0."""
    return float(np.mean([scores[model] for scores in per_class.values() if scores["test pixels"]]))


def main() -> None:
    """Run everything and write results.json and maps.png."""
    shutil.rmtree(WORK, ignore_errors=True)
    write_chips(Path(os.environ["PRITHVI_TG_REAL_DATA"]) / "worldcereal")
    config = str(HERE / "config.yaml")
    statistics = yaml.safe_load(command("stats", "--config", config))["data"]["init_args"]
    given = [f"--data.{key}={statistics[key]}" for key in ("mean", "std")]
    checkpoint = str(WORK / "runs" / "version_0" / "checkpoints" / "last.ckpt")
    start = time.perf_counter()
    command("fit", "--config", config, *given)
    seconds = time.perf_counter() - start
    command("test", "--config", config, *given, "--ckpt_path", checkpoint)
    record = json.loads((WORK / "runs" / "version_1" / "metrics.json").read_text())

    settings = yaml.safe_load(Path(config).read_text())["data"]["init_args"]
    data = ChipFolderDataModule(**settings, mean=statistics["mean"], std=statistics["std"])
    data.setup("fit")
    data.setup("test")
    train, test = data.train_dataset.datasets[0], data.test_dataset
    confusion = linear_confusion(pixels(train), pixels(test), len(data.spec.target.names))
    linear = segmentation_scores(confusion)
    per_class = {
        name: {
            "test pixels": int(sum(record["confusion_matrix"]["counts"][index])),
            "nano": record["per_class"][name]["IoU"],
            "linear": None if linear["IoU"][index].isnan() else float(linear["IoU"][index]),
        }
        for index, name in enumerate(data.spec.target.names)
    }
    for scores, model in ((record["overall"], "nano"), (linear, "linear")):
        scores["mIoU of classes with test pixels"] = mean_of_present(per_class, model)
    kept = ("mIoU", "mIoU of classes with test pixels", "aAcc")
    results = {
        "nano": {key: record["overall"][key] for key in kept},
        "linear": {key: float(linear[key]) for key in kept},
        "IoU per class": per_class,
        "seconds of fit": round(seconds, 1),
        "threads": torch.get_num_threads(),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    draw(test, checkpoint, data).savefig(HERE / "maps.png", dpi=80)


def draw(test: ChipFolder, checkpoint: str, data: ChipFolderDataModule) -> Figure:
    """For each place: the first date, the labels, and the prediction."""
    task = load_task(checkpoint)
    figure, axes = panels(3 * len(test), test[0]["mask"].shape)
    for number, sample in enumerate(test):
        with torch.inference_mode():
            image = data.aug({"image": sample["image"].unsqueeze(0)})["image"]
            classes = task.forward_windows(image).argmax(dim=1)[0].numpy().astype(np.uint8)
        first, second, third = axes[3 * number : 3 * number + 3]
        picture, *_ = frame_pictures(sample["image"].numpy(), sample["valid"].numpy(), test.spec.input)
        picture.draw(first)
        draw_classes(second, sample["mask"].numpy(), test.spec.target, no_data=~picture.valid)
        draw_classes(third, classes, test.spec.target)
        for axis, title in ((first, sample["name"][-9:]), (second, "label"), (third, "prediction")):
            axis.set_title(title)
    add_legend(figure, test.spec.target)
    return figure


if __name__ == "__main__":
    main()
