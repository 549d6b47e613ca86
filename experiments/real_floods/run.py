"""Floods on two real chips: fine-tune, test, map, report, and recompute the score from the map.

Run from the top of the repository, with PRITHVI_TG_REAL_DATA set to a folder with ``sen1floods11/v1.1``:

    python experiments/real_floods/run.py
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
from matplotlib.figure import Figure
from numpy.typing import NDArray

from prithvi_tg import Sen1Floods11
from prithvi_tg.plotting import NOT_LABELLED, add_legend, draw_classes, frame_pictures, mark, panels

HERE = Path(__file__).parent
WORK = HERE / "output"


def water_iou(prediction: NDArray[np.integer], label: NDArray[np.integer]) -> float:
    """Intersection over union of water on labelled pixels."""
    labelled = (label >= 0) & (label != 255)
    hit = (prediction == 1) & (label == 1) & labelled
    either = ((prediction == 1) | (label == 1)) & labelled
    return hit.sum() / either.sum()


def linear_classifier(train: dict, test: dict) -> float:
    """Water IoU of a logistic regression on the six bands of single pixels."""
    x, y = (train["image"][0].flatten(1).T, train["mask"].flatten())
    mean, std = x.mean(0), x.std(0)
    keep = y != 255
    x, y = ((x - mean) / std)[keep], y[keep].float()
    weight = torch.zeros(x.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(x @ weight[1:] + weight[0], y)
        value.backward()
        return value

    optimizer.step(loss)
    pixels = (test["image"][0].flatten(1).T - mean) / std
    prediction = (pixels @ weight[1:] + weight[0] > 0).long().reshape(test["mask"].shape)
    return water_iou(prediction.detach().numpy(), test["mask"].numpy())


def prithvi_tg(*arguments: str) -> float:
    """Run the command and return its seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "prithvi_tg", *arguments], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Run everything and write results.json, maps.png and report.jpg."""
    root = Path(os.environ["PRITHVI_TG_REAL_DATA"]) / "sen1floods11"
    shutil.rmtree(WORK, ignore_errors=True)
    common = ["--config", str(HERE / "config.yaml"), "--data.root", str(root)]
    common += ["--trainer.default_root_dir", str(WORK)]
    checkpoint = str(WORK / "version_0" / "checkpoints" / "last.ckpt")
    fit_seconds = prithvi_tg("fit", *common)
    prithvi_tg("test", *common, "--ckpt_path", checkpoint)
    test_iou = json.loads((WORK / "version_1" / "metrics.json").read_text())["per_class"]["Water"]["IoU"]

    scene = root / Sen1Floods11.folder / "S2Hand" / "India_900498_S2Hand.tif"
    prithvi_tg("predict", "--ckpt_path", checkpoint, str(scene), "--output", str(WORK / "maps"))
    page, mapped = WORK / "report.html", WORK / "maps" / "India_900498_S2Hand_pred.tif"
    prithvi_tg(
        "report", str(WORK / "version_0"), str(WORK / "version_1"), "--output", str(page),
        "--maps", str(mapped), "--title", "Floods on two real chips",
    )  # fmt: skip
    take_picture(page, HERE / "report.jpg")
    with rasterio.open(mapped) as file:
        classes = file.read(1)
    with rasterio.open(root / Sen1Floods11.folder / "LabelHand" / "India_900498_LabelHand.tif") as file:
        label = file.read(1)
    map_iou = water_iou(classes, label)

    train, test = (Sen1Floods11(root, split, HERE / "splits.csv") for split in ("train", "test"))
    results = {
        "water IoU printed by test": test_iou,
        "water IoU recomputed from the map with numpy": float(map_iou),
        "water IoU of a per-pixel linear classifier": float(linear_classifier(train[0], test[0])),
        "seconds of fit": round(fit_seconds, 1),
        "threads": torch.get_num_threads(),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    draw(test, classes).savefig(HERE / "maps.png", dpi=80)
    if abs(test_iou - map_iou) > 1e-9:
        raise SystemExit("the map and the test disagree")


def take_picture(page: Path, path: Path) -> None:
    """The whole page as headless Chromium shows it, after a click that enlarges the map."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print(f"No Chromium here: {path.name} is left as it is")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-background-networking"]
        )
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.goto(page.resolve().as_uri())
        opened.click(".zoom-in")
        opened.screenshot(path=path, full_page=True, type="jpeg", quality=60)
        browser.close()


def draw(dataset: Sen1Floods11, classes: NDArray[np.uint8]) -> Figure:
    """The test chip, its label, the map, and where they differ."""
    sample = dataset[0]
    label, spec = sample["mask"].numpy(), dataset.spec
    figure, axes = panels(4)
    picture, *_ = frame_pictures(sample["image"].numpy(), sample["valid"].numpy(), spec.input)
    picture.draw(axes[0])
    draw_classes(axes[1], label, spec.target, no_data=~picture.valid)
    draw_classes(axes[2], classes, spec.target, no_data=True)
    axes[3].imshow((label != 255) & (label != classes), cmap="Reds", interpolation="nearest")
    mark(axes[3], label == 255, NOT_LABELLED)
    for axis, title in zip(axes, ("India_900498", "label", "map", "differences"), strict=True):
        axis.set_title(title)
    add_legend(figure, spec.target)
    return figure


if __name__ == "__main__":
    main()
