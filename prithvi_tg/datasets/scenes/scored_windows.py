"""ScoredWindows: windows of scenes as a map-style dataset in which each pixel is scored once."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import shapely
import torch
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from torch import Tensor
from torch.utils.data import Dataset
from torchgeo.datasets import GeoDataset, IntersectionDataset

from ...readers.grid import Grid
from ...targets import ignore_value
from ...tiling import AxisTiling
from .dataset import SceneDataset
from .splits import Region, window_boxes
from .window_names import WindowNames


class ScoredWindows(Dataset[dict[str, Any]]):
    """Windows that cover a region; a pixel of several windows has its label in only one of them.

    Windows without data in a period, such as between distant scenes, are omitted, as are labels outside the region.
    Samples have a ``name``, as chips do, and ``scored``, bool (size, size): the pixels that count here.

    Args:
        dataset: Images and labels, indexed by geo-slice.
        grid: The pixels of the dataset.
        region: The region to score.
        size: Size of a window in pixels.
        stride: Distance between neighbouring windows; the size by default.
        periods: Periods, each scored separately; by default one period of all times.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        grid: Grid,
        region: Region,
        size: int,
        stride: int | None = None,
        periods: Sequence[pd.Interval] = (),
    ) -> None:
        self.dataset = dataset
        self.grid = grid
        self.region = region
        self.size = size
        self.periods = list(periods) or [pd.Interval(pd.Timestamp.min, pd.Timestamp.max, closed="both")]
        pixel = abs(grid.transform.a)
        self._roi = region.roi.buffer(1e-6 * pixel)  # a tolerance for rounding errors at an edge
        self.windows: list[tuple[int, int, tuple[slice, slice]]] = []
        for top, left, bottom, right in region.boxes:
            rows, columns = (
                AxisTiling(length, size, stride or size, "crop") for length in (bottom - top, right - left)
            )
            for row, (first, last) in zip(rows.starts, rows.core, strict=True):
                for column, (begin, end) in zip(columns.starts, columns.core, strict=True):
                    core = slice(first - row, last - row), slice(begin - column, end - column)
                    self.windows.append((top + row, left + column, core))
        self.places = self._places()
        self._prefixes = _prefixes(self.periods)
        images = dataset.datasets[0] if isinstance(dataset, IntersectionDataset) else dataset
        self._names = WindowNames(images if isinstance(images, SceneDataset) else None, grid)

    def _places(self) -> list[tuple[int, int]]:
        """Pairs of a period and a window with data, sorted by period."""
        rows, columns = (np.array([window[axis] for window in self.windows]) for axis in (0, 1))
        boxes = window_boxes(self.grid, rows, columns, self.size)
        return [
            (number, int(window))
            for number, period in enumerate(self.periods)
            for window in np.flatnonzero(shapely.intersects(boxes, area_in_period(self.dataset, period)))
        ]

    def __len__(self) -> int:
        return len(self.places)

    def query(self, index: int) -> Any:
        """The geo-slice of a window."""
        period, number = self.places[index]
        row, column, _ = self.windows[number]
        time = self.periods[period]
        return *self.grid.window_slices(row, column, self.size), slice(time.left, time.right)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample: dict[str, Any] = self.dataset[self.query(index)]
        row, column, core = self.windows[self.places[index][1]]
        scored = np.zeros((self.size, self.size), bool)
        scored[core] = True
        scored &= self._in_region(row, column)
        found = {**sample, **self.restricted(sample, torch.from_numpy(scored)), "name": self.name(index)}
        return found | {"scored": torch.from_numpy(scored)}

    def restricted(self, sample: dict[str, Any], scored: Tensor) -> dict[str, Any]:
        """The entries of a sample that decide which pixels count, restricted to those that are scored, bool (H, W)."""
        return {"mask": sample["mask"].masked_fill(~scored, ignore_value(sample["mask"]))}

    def name(self, index: int) -> str:
        """Scene and top left pixel of a window, see `WindowNames`; if there are several periods, the first day, too."""
        number, window = self.places[index]
        row, column, _ = self.windows[window]
        return self._names.of(row, column, self.size, self._prefixes[number])

    def _in_region(self, row: int, column: int) -> Any:
        t = self.grid.transform
        corner = Affine(t.a, t.b, t.c + t.a * column, t.d, t.e, t.f + t.e * row)
        window = shapely.box(corner.c, corner.f + t.e * self.size, corner.c + t.a * self.size, corner.f)
        shapely.prepare(self._roi)  # needed in spawned processes; no work if it is prepared
        if shapely.covers(self._roi, window):
            return True
        return geometry_mask([self.region.roi], (self.size, self.size), corner, invert=True)


def _prefixes(periods: Sequence[pd.Interval]) -> list[str]:
    """A unique prefix for the names of the windows of each period."""
    if len(periods) == 1:
        return [""]
    prefixes: list[str] = []
    for period in periods:
        day = "undated" if period.left == pd.Timestamp.min else f"{period.left:%Y-%m-%d}"
        candidates = (f"{day}_" if count == 1 else f"{day}_{count}_" for count in itertools.count(1))
        prefixes.append(next(name for name in candidates if name not in prefixes))
    return prefixes


def area_in_period(dataset: GeoDataset, period: pd.Interval) -> Any:
    """The area with data in a period, in coordinates of the dataset's CRS.

    If a `SceneDataset` has scenes with exactly this period, only these are used, as in its samples.
    """
    if isinstance(dataset, IntersectionDataset):
        area = shapely.intersection(*(area_in_period(part, period) for part in dataset.datasets))
    else:
        times = dataset.index.index
        same = times == period if isinstance(dataset, SceneDataset) else np.zeros(len(times), bool)
        area = shapely.union_all(list(dataset.index.geometry[same if same.any() else times.overlaps(period)]))
    shapely.prepare(area)
    return area
