"""Biomass of synthetic chips: a small encoder against regressions of single pixels.

Run from the top of the repository:

    python experiments/synthetic_biomass/run.py
"""

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

HERE = Path(__file__).parent
WORK = HERE / "output"
DATA = WORK / "data"
CONFIG = "configs/regression.yaml"
NODATA = -9999

Pixels = tuple[NDArray[np.float64], NDArray[np.float64]]


def command(*arguments: str) -> str:
    """Run the command line and return what it printed."""
    run = subprocess.run(
        [sys.executable, "-m", "prithvi_tg", *arguments], check=True, capture_output=True, text=True
    )
    return run.stdout


def read(path: Path) -> NDArray[np.float64]:
    """Bands (C, H, W) of a raster, NaN where there is no data."""
    with rasterio.open(path) as file:
        values: NDArray[np.float64] = file.read(masked=True).astype(np.float64).filled(np.nan)
    return values


def chips(split: str) -> list[str]:
    """Names of the chips of a split."""
    with (DATA / "splits.csv").open(newline="") as file:
        return [row["chip"] for row in csv.DictReader(file) if row["split"] == split]


def pixels(split: str, folder: Path = DATA / "chips", ending: str = "image") -> Pixels:
    """What the chips of a split have in each labelled pixel with data: bands (N, C) of some rasters, biomass (N,)."""
    found, biomass = [], []
    for name in chips(split):
        label = read(DATA / "chips" / f"{name}_biomass.tif")[0]
        known = ~np.isnan(label) & ~np.isnan(read(DATA / "chips" / f"{name}_image.tif")).all(axis=0)
        found.append(read(folder / f"{name}_{ending}.tif")[:, known].T)
        biomass.append(label[known])
    return np.concatenate(found), np.concatenate(biomass)


def scores(predicted: NDArray[np.float64], biomass: NDArray[np.float64]) -> dict[str, float]:
    """R2, and RMSE in t/ha."""
    squares = ((predicted - biomass) ** 2).sum()
    return {
        "R2": float(1 - squares / ((biomass - biomass.mean()) ** 2).sum()),
        "RMSE": float(np.sqrt(squares / len(biomass))),
    }


def linear(bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """Regressors of single pixels (N, 1 + C): the bands."""
    return np.concatenate([np.ones((len(bands), 1)), bands], axis=1)


def quadratic(bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """Regressors of single pixels (N, 1 + C + C (C + 1) / 2): the bands, their squares and products."""
    products = [bands[:, k : k + 1] * bands[:, k:] for k in range(bands.shape[1])]
    return np.concatenate([linear(bands), *products], axis=1)


def least_squares(regressors: Any, train: Pixels, test: Pixels) -> dict[str, float]:
    """Scores on test pixels of a regression that is fitted to training pixels."""
    scale = np.nanstd(train[0], axis=0)
    weights = np.linalg.lstsq(regressors(train[0] / scale), train[1], rcond=None)[0]
    return scores(regressors(test[0] / scale) @ weights, test[1])


def main() -> None:
    """Run everything and write results.json and scatter.png."""
    shutil.rmtree(WORK, ignore_errors=True)
    command("synthetic", "--layout", "biomass", "--size", "128", str(DATA))
    given = [
        "--config", CONFIG, "--trainer.default_root_dir", str(WORK / "runs"),
        "--trainer.enable_progress_bar=false", f"--data.splits={DATA / 'splits.csv'}",
        f"--data.images={DATA / 'chips'}/*_image.tif", f"--data.labels={DATA / 'chips'}/*_biomass.tif",
    ]  # fmt: skip
    start = time.perf_counter()
    command("fit", *given)
    seconds = time.perf_counter() - start
    checkpoint = str(WORK / "runs" / "version_0" / "checkpoints" / "best.ckpt")
    command("test", *given, "--ckpt_path", checkpoint)
    record = json.loads((WORK / "runs" / "version_1" / "metrics.json").read_text())
    images = [str(DATA / "chips" / f"{name}_image.tif") for name in chips("test")]
    command("predict", "--ckpt_path", checkpoint, *images, "--output", str(WORK / "maps"))

    train, test = pixels("train"), pixels("test")
    mapped, biomass = pixels("test", WORK / "maps", "image_pred")
    tested = record["overall"]
    assert record["per_value"]["biomass"]["labelled_pixels"] == len(biomass), "the same pixels are scored"
    results = {
        "test": {
            "nano": {key: tested[key] for key in ("R2", "RMSE")},
            "nano, from the maps of predict": scores(mapped[:, 0], biomass),
            "linear, per pixel": least_squares(linear, train, test),
            "quadratic, per pixel": least_squares(quadratic, train, test),
        },
        "labelled pixels": {"train": len(train[1]), "test": len(test[1])},
        "seconds of fit": round(seconds, 1),
        "threads": torch.get_num_threads(),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    shutil.copy(WORK / "runs" / "version_1" / "scatter.png", HERE / "scatter.png")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
