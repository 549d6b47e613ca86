"""How fast windows are drawn from a tiled COG: this package beside TorchGeo's own dataset and sampler.

    python experiments/sampling/run.py

Both draw the same number of random windows of 224 pixels from the same file, with 0, 1 and 2 processes that read,
interleaved and repeated, each measurement in a fresh process; means and ratios are kept, of the first epoch and of
all.
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
from prithvi_tg.datamodules.loading import collate_training
from prithvi_tg.datasets import SceneDataset, find_inputs, resolve_scene
from prithvi_tg.readers.block_cache import limit_block_cache
from prithvi_tg.samplers import RandomWindowGeoSampler
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

HERE = Path(__file__).parent
WORK = HERE / "output"
SIDE, SIZE, BATCH, EPOCHS, REPEATS = 10980, 224, 8, 5, 2
# As many windows as cover the scene, and a tenth of them: fewer than there are blocks.
LENGTHS = (SIDE**2 // SIZE**2, SIDE**2 // SIZE**2 // 10)
SPEC = DataSpec(InputSpec(PRITHVI_BANDS, (1000.0,) * 6, (500.0,) * 6), ClassTarget())


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


def ours(path: Path, length: int, workers: int) -> tuple[Any, Any, Any]:
    """Dataset, sampler and collation of this package, as its data module makes them."""
    limit_block_cache(max(1, workers))
    dataset = SceneDataset([resolve_scene(found, SPEC) for found in find_inputs([path])], SPEC)
    ground = shapely.union_all(list(dataset.index.geometry))
    return (
        dataset,
        RandomWindowGeoSampler(dataset.grid, ground, SIZE, length, locality_groups=4 * BATCH),
        collate_training,
    )


def theirs(path: Path, length: int, workers: int) -> tuple[Any, Any, Any]:
    """Dataset, sampler and collation of TorchGeo."""
    dataset = RasterDataset(str(path))
    return dataset, TheirSampler(dataset, size=SIZE, length=length), stack_samples


def measure(side: str, path: Path, workers: int, length: int) -> list[float]:
    """Seconds from opening the file to the end of each epoch, in this process."""
    warnings.simplefilter("ignore")
    began = time.perf_counter()
    dataset, sampler, collate = (ours if side == "ours" else theirs)(path, length, workers)
    # As TorchGeo's data modules load: the processes live as long as the training.
    loader = DataLoader(
        dataset,
        BATCH,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
    )
    ends = []
    for epoch in range(EPOCHS):
        if side == "ours":
            sampler.set_epoch(epoch)  # as Lightning does
        if sum(len(batch["image"]) for batch in loader) != length:
            raise SystemExit(f"{side}: an epoch did not hold {length} windows")
        ends.append(time.perf_counter() - began)
    return ends


def in_fresh_process(*words: object) -> list[float]:
    """The same in a process of its own: GDAL's cache of blocks is empty, and each side's alone."""
    command = [sys.executable, __file__, *map(str, words)]
    last = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    return [float(end) for end in last.split()]


def main() -> None:
    """Measure, print and keep."""
    WORK.mkdir(exist_ok=True)
    scene = WORK / "scene.tif"
    if not scene.exists():
        write_scene(scene, SIDE)
    results: dict[str, Any] = {"torchgeo": torchgeo.__version__, "machine": platform.machine(), "runs": []}
    for length in LENGTHS:
        for workers in (0, 1, 2):
            ends: dict[str, list[list[float]]] = {"ours": [], "torchgeo": []}
            for _ in range(REPEATS):
                for side, values in ends.items():
                    values.append(in_fresh_process(side, scene, workers, length))
            for epochs in (1, EPOCHS):
                run = {"windows": length, "workers": workers, "epochs": epochs}
                for side, values in ends.items():
                    run[side] = round(epochs * length / statistics.mean(end[epochs - 1] for end in values), 1)
                run["ratio"] = round(run["ours"] / run["torchgeo"], 2)
                results["runs"].append(run)
                print(run, flush=True)
            path = HERE / f"results_torchgeo_{torchgeo.__version__}.json"
            path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
    else:
        main()
