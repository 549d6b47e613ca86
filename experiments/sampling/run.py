"""How fast windows are drawn from a tiled COG: this package beside TorchGeo's own data set and sampler.

    python experiments/sampling/run.py

Both draw the same number of random windows of 224 pixels from the same file, with 0, 1 and 2 processes that read,
interleaved and repeated, each measurement in a fresh process; medians and ratios are kept.
"""

import json
import platform
import statistics
import subprocess
import sys
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
SIDE, SIZE, BATCH, REPEATS = 10980, 224, 8, 3
# As many windows as cover the scene, and a tenth of them: fewer than there are blocks.
LENGTHS = (SIDE**2 // SIZE**2, SIDE**2 // SIZE**2 // 10)
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


def ours(path: Path, length: int) -> tuple[Any, Any]:
    """Data set and sampler of this package, as its data module makes them."""
    dataset = SceneDataset([resolve_scene(found, SPEC) for found in find_inputs([path])], SPEC)
    ground = shapely.union_all(list(dataset.index.geometry))
    return dataset, RandomWindowGeoSampler(dataset.grid, ground, SIZE, length, walks=4 * BATCH)


def theirs(path: Path, length: int) -> tuple[Any, Any]:
    """Data set and sampler of TorchGeo."""
    dataset = RasterDataset(str(path))
    return dataset, TheirSampler(dataset, size=SIZE, length=length)


def measure(side: str, path: Path, workers: int, length: int) -> float:
    """Windows a second of an epoch in this process, from opening the file on."""
    warnings.simplefilter("ignore")
    began = time.perf_counter()
    dataset, sampler = (ours if side == "ours" else theirs)(path, length)
    loader = DataLoader(dataset, BATCH, sampler=sampler, num_workers=workers, collate_fn=stack_samples)
    count = sum(len(batch["image"]) for batch in loader)
    return count / (time.perf_counter() - began)


def in_fresh_process(*words: object) -> float:
    """The same in a process of its own: GDAL's cache of blocks is empty, and each side's alone."""
    command = [sys.executable, __file__, *map(str, words)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Measure, print and keep."""
    WORK.mkdir(exist_ok=True)
    scene = WORK / "scene.tif"
    if not scene.exists():
        write_scene(scene, SIDE)
    results: dict[str, Any] = {"torchgeo": torchgeo.__version__, "machine": platform.machine(), "runs": []}
    for length in LENGTHS:
        for workers in (0, 1, 2):
            rates: dict[str, list[float]] = {"ours": [], "torchgeo": []}
            for _ in range(REPEATS):
                for side, values in rates.items():
                    values.append(in_fresh_process(side, scene, workers, length))
            run = {"windows": length, "workers": workers}
            run |= {side: round(statistics.median(values), 1) for side, values in rates.items()}
            run["ratio"] = round(run["ours"] / run["torchgeo"], 2)
            results["runs"].append(run)
            print(run, flush=True)
    path = HERE / f"results_torchgeo_{torchgeo.__version__}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
    else:
        main()
