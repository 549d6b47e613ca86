"""Memory of vectorising a map: peak memory and time against the size of the map.

    python experiments/mapping/polygons.py

Draws maps of two classes, patches with noisy edges on one large background, in rows of blocks, so that no map is ever
in memory, and writes the polygons of both classes, each map in its own process. The kernel reports peak memory.
"""

import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS

from prithvi_tg.mapping.products.base import OutputOptions
from prithvi_tg.mapping.products.polygons import write_polygons
from prithvi_tg.readers.grid import Grid
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

HERE = Path(__file__).parent
SPEC = DataSpec(InputSpec(("RED",), (0.0,), (1.0,)), ClassTarget(("Land", "Water")))
SIZES = {"2000 x 2000": (2000, 2000), "2000 x 20000": (20000, 2000), "10980 x 10980": (10980, 10980)}
ROWS = 256


def pieces(height: int, width: int) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """First row, class numbers and confidences of a map, row of blocks by row of blocks."""
    random = np.random.default_rng(0)
    columns = np.arange(width)
    for top in range(0, height, ROWS):
        rows = np.arange(top, min(top + ROWS, height))[:, None]
        field = np.sin(rows / 37) * np.sin(columns / 41) + 0.5 * np.sin((rows + columns) / 11)
        noise = random.normal(0, 0.15, field.shape)
        yield top, (field + noise > 0.8).astype(np.uint8), np.full(field.shape, 0.9)


def vectorise(size: tuple[int, int]) -> dict[str, float]:
    """Write the polygons of one map."""
    height, width = size
    grid = Grid(CRS.from_epsg(32632), Affine(10, 0, 6e5, 0, -10, 5e6), height, width)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.gpkg"
        count = write_polygons(pieces(height, width), {"gpkg": path}, "map", grid, SPEC, OutputOptions())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"polygons": count, "peak_mb": round(peak), "seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    """Measure, print and keep."""
    results = {}
    for name, size in SIZES.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results[name] = pool.apply(vectorise, (size,))
        print(name, results[name], flush=True)
    (HERE / "results_polygons.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
