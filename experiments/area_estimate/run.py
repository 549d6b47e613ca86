"""Area of water of a real scene, estimated from a sample of its map, and how often the intervals hold the true area.

Run from the top of the repository, with PRITHVI_TG_REAL_DATA set to a folder that holds ``sentinel2_scene/``:

    python experiments/area_estimate/run.py
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rasterio.windows import from_bounds

from prithvi_tg.areas.estimation import estimate
from prithvi_tg.areas.results import estimate_areas, sample_counts
from prithvi_tg.areas.sample import SampleOptions, draw_sample, open_population_maps
from prithvi_tg.areas.sampling import Population, count
from prithvi_tg.areas.strata import BoundaryStrata, ClassStrata, Stratification
from prithvi_tg.readers.pixel_areas import row_areas

HERE = Path(__file__).parent
WORK = HERE / "output"
SEEDS = 500
WATER, UNLABELLED = 6, (0, 7)  # of the scene classification
POINTS, MINIMUM = 1500, 300
#: The west of the scene.
AOI = "POLYGON ((-8.999 53.249, -8.623 53.249, -8.642 53.076, -8.795 52.905, -8.999 52.905, -8.999 53.249))"


def command(*arguments: str) -> str:
    """Run the command line and return what it printed."""
    run = subprocess.run(
        [sys.executable, "-m", "prithvi_tg", *arguments], check=True, capture_output=True, text=True
    )
    return run.stdout


def map_water(scene: Path, label: Path) -> Path:
    """Train on blocks of the scene, and map an area of interest; a checkpoint of an earlier run is used again."""
    checkpoint = WORK / "runs" / "version_0" / "checkpoints" / "best.ckpt"
    shutil.rmtree(WORK / "maps", ignore_errors=True)
    if not checkpoint.exists():
        train(scene, label)
    command(
        "predict", "--ckpt_path", str(checkpoint), str(scene), "--output", str(WORK / "maps"), "--aoi", AOI
    )
    return WORK / "maps" / f"{scene.stem}_pred.tif"


def train(scene: Path, label: Path) -> None:
    """Train on half of the blocks of the scene."""
    config = str(HERE / "config.yaml")
    given = [f"--data.images={scene}", f"--data.labels={label}"]
    statistics = yaml.safe_load(command("stats", "--config", config, *given))["data"]["init_args"]
    given += [f"--data.{key}={statistics[key]}" for key in ("mean", "std")]
    command("fit", "--config", config, *given, "--trainer.default_root_dir", str(WORK / "runs"))


def within_labels(whole: Path, stored: NDArray[Any]) -> Path:
    """The map without the pixels that the classification does not label, which are outside of the population."""
    path = whole.with_name("labelled_pred.tif")
    with rasterio.open(whole) as source:
        classes, profile, tags, colors = source.read(1), source.profile, source.tags(1), source.colormap(1)
    classes[np.isin(stored, UNLABELLED)] = 255
    profile = {
        key: profile[key] for key in ("crs", "transform", "width", "height", "count", "dtype", "nodata")
    }
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **profile) as out:
        out.write(classes, 1)
        out.write_colormap(1, colors)
        out.update_tags(1, **tags)
    return path


def same_pixels(path: Path, like: Path) -> NDArray[Any]:
    """All bands (C, h, w) of a raster at the pixels of a map that was cropped from the same grid."""
    with rasterio.open(like) as one, rasterio.open(path) as source:
        window = from_bounds(*one.bounds, transform=source.transform).round()
        return source.read(window=window)


def interval_coverage(population: Path, strata: Stratification, truth: NDArray[Any]) -> dict[str, Any]:
    """Draw, label and estimate with many seeds: how many intervals of the area of water hold the true area."""
    pixels = Population(open_population_maps([population]), strata)
    counts = count(pixels)
    areas = row_areas(pixels.maps[0].grid)
    assert areas is not None
    values, errors, marks = [], [], []
    for seed in range(SEEDS):
        options = SampleOptions(points=POINTS, minimum=MINIMUM, seed=seed)
        design, points = draw_sample(pixels, counts, options)
        reference = truth[points.rows, points.columns].astype(np.int64)
        found = estimate(sample_counts(design, reference)).proportions
        total = design.areas.sum()
        values.append(found.value[1] * total)
        errors.append(found.standard_error[1] * total)
        marks.append(not estimate_areas(design, reference)["classes"][1]["reliable"])
    return {"values": values, "errors": errors, "unreliable": float(np.mean(marks))}


def main() -> None:
    """Run everything and write results.json, areas.json and areas.png."""
    WORK.mkdir(exist_ok=True)
    source = Path(os.environ["PRITHVI_TG_REAL_DATA"]) / "sentinel2_scene"
    scene = source / "S2A_L2A_T29UNU_20221005_60m_6band_640.tif"
    label = source / "S2A_L2A_T29UNU_20221005_60m_SCL_640.tif"
    whole = map_water(scene, label)
    stored = same_pixels(label, whole)[0]
    population = within_labels(whole, stored)
    truth = stored == WATER

    points, areas = WORK / "points.gpkg", HERE / "areas.json"
    size = ("--points", str(POINTS), "--minimum", str(MINIMUM))
    command("area", "sample", str(population), "--output", str(points), *size, "--overwrite")
    table = geopandas.read_file(points, layer="points")
    table["reference"] = np.where(truth[table["row"], table["column"]], "Water", "Other")
    table.to_file(points, layer="points")
    print(command("area", "estimate", str(points), "--output", str(areas), "--overwrite"))
    first = json.loads(areas.read_text())

    strata = {
        "classes": ClassStrata(("Other", "Water")),
        "classes and boundary": BoundaryStrata(("Other", "Water"), 2),
    }
    start = time.perf_counter()
    runs = {name: interval_coverage(population, one, truth) for name, one in strata.items()}
    per_seed = (time.perf_counter() - start) / SEEDS / len(runs)
    with rasterio.open(population) as file:
        mapped = file.read(1)
    pixel = first["square_metres"] / (mapped != 255).sum()
    true_area = float((truth & (mapped != 255)).sum() * pixel)
    results: dict[str, Any] = {
        "true area, ha": true_area / 1e4,
        "mapped area, ha": float((mapped == 1).sum() * pixel / 1e4),
        "seed 0": {
            key: first["classes"][1][key] for key in ("square_metres", "users_accuracy", "producers_accuracy")
        },
        "seeds": SEEDS,
        "points": POINTS,
        "seconds per sample": round(per_seed, 4),
    }
    for name, one in runs.items():
        values, errors = np.array(one["values"]), np.array(one["errors"])
        results[name] = {
            "intervals that hold the true area": float((abs(values - true_area) <= 1.96 * errors).mean()),
            "mean estimate, ha": float(values.mean() / 1e4),
            "standard deviation of estimates, ha": float(values.std() / 1e4),
            "mean standard error, ha": float(errors.mean() / 1e4),
            "marked as unreliable": one["unreliable"],
        }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    draw(
        same_pixels(scene, whole),
        mapped,
        truth,
        table,
        runs["classes"],
        true_area,
        results["mapped area, ha"],
    )


def draw(
    bands: NDArray[Any],
    mapped: NDArray[Any],
    truth: NDArray[Any],
    table: "geopandas.GeoDataFrame",
    run: dict[str, Any],
    true_area: float,
    mapped_area: float,
) -> None:
    """The scene with the points, where map and classification differ, and the first intervals."""
    figure = Figure(figsize=(15, 5.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    rgb = np.clip(np.moveaxis(bands[[2, 1, 0]], 0, -1) / 3000, 0, 1)
    left.imshow(rgb)
    for name, color in (("Other", "#ffd166"), ("Water", "#00e5ff")):
        chosen = table[table["reference"] == name]
        left.scatter(
            chosen["column"], chosen["row"], s=5, c=color, linewidths=0, label=f"{name} ({len(chosen)})"
        )
    left.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="reference", markerscale=3)
    left.set_title("Sentinel-2, and the points of seed 0")
    kinds = np.select([mapped == 255, (mapped == 1) & truth, mapped == 1, truth], [0, 2, 3, 4], default=1)
    colors = np.array(
        [[255, 255, 255], [230, 220, 195], [31, 120, 180], [214, 96, 77], [245, 190, 65]], np.uint8
    )
    middle.imshow(colors[kinds], interpolation="nearest")
    for number, name in enumerate(
        ("outside, or not labelled", "other", "water", "mapped as water, is other", "water, mapped as other")
    ):
        middle.plot(
            [], [], "s", color=colors[number] / 255, markeredgecolor="black", markeredgewidth=0.4, label=name
        )
    middle.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    middle.set_title("map and scene classification")
    for axis in (left, middle):
        axis.set_axis_off()
    draw_intervals(right, run, true_area / 1e4, mapped_area)
    figure.savefig(HERE / "areas.png", dpi=80)


def draw_intervals(axis: Axes, run: dict[str, Any], true_area: float, mapped_area: float) -> None:
    """Intervals of the first 100 seeds; those that miss the true area are red."""
    values, errors = np.array(run["values"][:100]) / 1e4, np.array(run["errors"][:100]) / 1e4
    misses = abs(values - true_area) > 1.96 * errors
    for chosen, color in ((~misses, "#0b6e8f"), (misses, "#c0392b")):
        seeds = np.flatnonzero(chosen)
        axis.errorbar(
            seeds, values[seeds], 1.96 * errors[seeds], fmt="o", markersize=2.5, linewidth=1, color=color
        )
    axis.axhline(true_area, color="black", label="true area")
    axis.axhline(mapped_area, color="black", linestyle="dashed", label="mapped area")
    axis.set_xlabel("seed")
    axis.set_ylabel("water, ha")
    axis.set_title(f"95 % intervals of 100 samples;\n{misses.sum()} miss the true area")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)


if __name__ == "__main__":
    main()
