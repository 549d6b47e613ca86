"""How fast windows are drawn from a tiled COG: this package beside TorchGeo's own data set and sampler.

    python experiments/sampling/run.py

Both draw the same number of random windows of 224 pixels from the same file, interleaved and repeated, with 0, 1 and 2
processes that read; medians and ratios are kept.
"""

import json
import platform
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from rasterio.shutil import copy as copy_raster
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples

try:  # TorchGeo 0.10 renamed it
    from torchgeo.samplers import RandomPatchSampler as TheirSampler
except ImportError:
    from torchgeo.samplers import RandomGeoSampler as TheirSampler

import torchgeo

from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.datasets import SceneDataset, find_inputs, resolve_scene
from prithvi_tg.samplers import RandomWindowGeoSampler
from prithvi_tg.spec import DataSpec

HERE = Path(__file__).parent
WORK = HERE / "output"
SIZE, WINDOWS, REPEATS = 224, 200, 3
SPEC = DataSpec(PRITHVI_BANDS, (1000.0,) * 6, (500.0,) * 6)


def write_scene(path: Path, side: int) -> None:
    """A COG of six bands, int16, of smooth ground and noise."""
    rng = np.random.default_rng(0)
    plain = path.with_suffix(".plain.tif")
    rows, columns = np.arange(side)[:, None], np.arange(side)[None]
    with rasterio.open(
        plain, "w", driver="GTiff", height=side, width=side, count=6, dtype="int16", nodata=-9999,
        crs="EPSG:32629", transform=rasterio.Affine(10, 0, 500000, 0, -10, 5400000), tiled=True,
    ) as out:  # fmt: skip
        out.descriptions = PRITHVI_BANDS
        for band in range(1, 7):
            ground = 1000 + 500 * np.sin(rows / 97) * np.cos(columns / (100 + band))
            out.write((ground + rng.integers(-100, 100, (side, side))).astype(np.int16), band)
    copy_raster(plain, path, driver="COG", compress="DEFLATE", blocksize=512)
    plain.unlink()


def ours(path: Path) -> tuple[Any, Any]:
    """Data set and sampler of this package."""
    dataset = SceneDataset([resolve_scene(found, SPEC) for found in find_inputs([path])], SPEC)
    ground = shapely.union_all(list(dataset.index.geometry))
    return dataset, RandomWindowGeoSampler(dataset.grid, ground, SIZE, WINDOWS)


def theirs(path: Path) -> tuple[Any, Any]:
    """Data set and sampler of TorchGeo."""
    dataset = RasterDataset(str(path))
    return dataset, TheirSampler(dataset, size=SIZE, length=WINDOWS)


def samples_per_second(dataset: Any, sampler: Any, workers: int) -> float:
    """Windows a second of an epoch, after the processes have started."""
    loader = DataLoader(
        dataset, batch_size=8, sampler=sampler, num_workers=workers, collate_fn=stack_samples,
        persistent_workers=workers > 0,
    )  # fmt: skip
    next(iter(loader))
    began = time.perf_counter()
    count = sum(len(batch["image"]) for batch in loader)
    return count / (time.perf_counter() - began)


def main() -> None:
    """Measure, print and keep."""
    warnings.simplefilter("ignore")
    WORK.mkdir(exist_ok=True)
    scene = WORK / "scene.tif"
    if not scene.exists():
        write_scene(scene, 8000)
    results: dict[str, Any] = {
        "torchgeo": torchgeo.__version__,
        "machine": platform.machine(),
        "samples/s": {},
    }
    for workers in (0, 1, 2):
        rates: dict[str, list[float]] = {"ours": [], "torchgeo": []}
        for _ in range(REPEATS):
            rates["ours"].append(samples_per_second(*ours(scene), workers))
            rates["torchgeo"].append(samples_per_second(*theirs(scene), workers))
        medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
        medians["ratio"] = round(medians["ours"] / medians["torchgeo"], 2)
        results["samples/s"][f"{workers} workers"] = medians
        print(workers, medians, flush=True)
    path = HERE / f"results_torchgeo_{torchgeo.__version__}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
