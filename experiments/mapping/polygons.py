"""Memory of vectorising a map: peak memory and time against the size of the map.

    python experiments/mapping/polygons.py

Draws maps of two classes, patches of water with noisy edges on land, which is one large polygon with many holes, a few
rows at a time, so that no map is ever in memory, and writes the polygons of one class, each map in its own process.
The kernel reports peak memory; that of the imports is subtracted.
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
CASES = {
    "2000 x 2000, Water": (2000, 2000, "Water"),
    "2000 x 20000, Water": (20000, 2000, "Water"),
    "10980 x 10980, Water": (10980, 10980, "Water"),
    "2000 x 2000, Land": (2000, 2000, "Land"),
    "2000 x 20000, Land": (20000, 2000, "Land"),
}
ROWS = 256


def pieces(height: int, width: int) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """First row, class numbers and confidences of a map, row of blocks by row of blocks."""
    random = np.random.default_rng(0)
    columns = np.arange(width)
    for top in range(0, height, ROWS):
        rows = np.arange(top, min(top + ROWS, height))[:, None]
        field = np.sin(rows / 37) * np.sin(columns / 41) + 0.5 * np.sin((rows + columns) / 11)
        noise = random.normal(0, 0.04, field.shape)
        yield top, (field + noise > 0.8).astype(np.uint8), np.full(field.shape, 0.9)


def vectorise(height: int, width: int, name: str) -> dict[str, float]:
    """Write the polygons of one class of a map."""
    before = peak_mb()
    grid = Grid(CRS.from_epsg(32632), Affine(10, 0, 6e5, 0, -10, 5e6), height, width)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.gpkg"
        count = write_polygons(
            pieces(height, width), {"gpkg": path}, "map", grid, SPEC, OutputOptions(vector=name)
        )
    added = peak_mb() - before
    return {"polygons": count, "added_mb": round(added), "seconds": round(time.perf_counter() - began, 1)}


def peak_mb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure, print and keep."""
    results = {}
    for name, case in CASES.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results[name] = pool.apply(vectorise, case)
        print(name, results[name], flush=True)
    (HERE / "results_polygons.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
