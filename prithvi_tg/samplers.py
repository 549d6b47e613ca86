"""Samplers of windows and chips."""

import itertools
import os
from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
import pandas as pd
import shapely
import torch
from geopandas import GeoSeries
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler
from torchgeo.datasets import GeoDataset
from torchgeo.samplers import GeoSampler

from .datasets.chips.stored_chips import CropPlace
from .datasets.scenes.splits import covered, places_in, window_boxes
from .deprecated import accepts_old_arguments, old_names
from .errors import ConfigError
from .readers.grid import Grid
from .tiling import window_starts

_ROUNDS, _TRIES = 10, 20


class ExactCoverGeoSampler(GeoSampler):
    """Windows that cover every pixel of every scene, in reading order.

    Like TorchGeo's grid samplers, but with an exact cover: the last row and column of windows are shifted inwards, so
    that they end at the edge of the scene. A scene smaller than a window has one window at its top left corner; the
    dataset fills the pixels beyond the scene.

    Args:
        dataset: A dataset whose files are the scenes.
        size: Side of a window in pixels.
        stride: Distance between windows in pixels; the size by default.
    """

    def __init__(self, dataset: GeoDataset, size: int, stride: int | None = None) -> None:
        self.index = dataset.index
        self.res = dataset.res
        self.size = size
        self.stride = size if stride is None else stride
        self._length = sum(
            len(rows) * len(columns) for rows, columns in map(self._starts, self.index.geometry)
        )

    def _starts(self, footprint: Any) -> tuple[list[int], list[int]]:
        left, bottom, right, top = footprint.bounds
        height, width = round((top - bottom) / self.res[1]), round((right - left) / self.res[0])
        return window_starts(height, self.size, self.stride), window_starts(width, self.size, self.stride)

    def __iter__(self) -> Iterator[Any]:
        """Geo-slices ``(x, y, t)``, from the top left of each scene to its bottom right."""
        width, height = self.res
        for interval, footprint in zip(self.index.index, self.index.geometry, strict=True):
            left, _, _, top = footprint.bounds
            rows, columns = self._starts(footprint)
            for row in rows:
                y = slice(top - (row + self.size) * height, top - row * height)
                for column in columns:
                    x = slice(left + column * width, left + (column + self.size) * width)
                    yield x, y, slice(interval.left, interval.right)

    def __len__(self) -> int:
        """Number of windows."""
        return self._length


class ResumableSampler:
    """A sampler that can start in the middle of an epoch.

    Attributes:
        skip: Number of samples of this process that each pass skips at its start.
    """

    skip = 0

    def skip_first(self, samples: int) -> None:
        """Skip the first samples of this process in all following passes.

        Args:
            samples: Number of samples; 0 for whole epochs.
        """
        self.skip = samples


class RandomWindowGeoSampler(ResumableSampler, GeoSampler, DistributedSampler[Any]):
    """Random windows inside a region, aligned with the dataset's pixels.

    Unlike with TorchGeo's random sampler, windows are aligned with pixels, so nothing is resampled. Each epoch draws
    other windows, the same for the same seed. Each process draws its own windows: the class is a `DistributedSampler`,
    so that Lightning sets its epoch and does not replace it.

    Args:
        grid: The dataset's pixels, see `SceneDataset.grid`.
        roi: Region that contains the windows, in the CRS of the grid.
        size: Side of a window in pixels.
        length: Windows in an epoch, over all processes.
        periods: Times to draw from, with equal probability; all time by default.
        period_rois: Area with data in each period, if not everywhere; each window gets a period with data in it.
        balanced_boxes: Top left and bottom right pixels (N, 4) of boxes, and their probabilities, which centre most
            windows on rare classes; see `LabelIndex`.
        locality_groups: Number of groups of neighbouring windows. The windows of an epoch are drawn first, then sorted
            into groups, which take turns, so that a decoded block of a file serves several windows. With a multiple
            of the batch size, a batch has windows from as many parts of the region. 0 keeps the order of drawing.
        seed: The same seed gives the same windows.
        rank: This process's number; that of torch's process group by default.
        world_size: Number of processes.

    Raises:
        ConfigError: No window fits.
    """

    @accepts_old_arguments
    def __init__(
        self,
        grid: Grid,
        roi: Any,
        size: int,
        length: int,
        periods: Sequence[pd.Interval] = (),
        balanced_boxes: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None,
        locality_groups: int = 0,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        period_rois: Sequence[Any] | None = None,
    ) -> None:
        drawn: Any = range(length)
        DistributedSampler.__init__(self, drawn, world_size or _world_size(), _rank(rank), seed=seed)
        self.grid = grid
        self.roi = roi
        self.size = size
        self.length = length
        self.periods = list(periods) or [pd.Interval(pd.Timestamp.min, pd.Timestamp.max, closed="both")]
        self.period_rois = None if period_rois is None else np.array(period_rois, object)
        self.balanced_boxes = balanced_boxes
        self.locality_groups = locality_groups * self.num_replicas  # each process has its own groups
        self._safe = places_in(roi, grid, size)
        if not len(self._safe):
            raise ConfigError(f"size: no window of {size} pixels fits inside the region of this split")
        parts = shapely.get_parts(roi)
        self._parts = [part for part in parts if len(places_in(part, grid, size, steps=8))] or list(parts)
        areas = np.array([part.area for part in self._parts])
        self._chances = areas / areas.sum()

    def windows(self) -> Iterator[tuple[int, int, pd.Interval]]:
        """Top and left pixel and time of every window of this epoch, of all processes."""
        rng = np.random.default_rng([self.seed, self.epoch])
        places = (self._place(rng) for _ in range(self.length))
        drawn = [(row, column, self._period(rng, row, column)) for row, column in places]
        order = (
            self._sort_by_group(np.array(drawn), rng)
            if self.locality_groups and drawn
            else range(self.length)
        )
        for number in order:
            row, column, period = drawn[number]
            yield row, column, self.periods[period]

    def _sort_by_group(self, windows: NDArray[np.int64], rng: np.random.Generator) -> list[int]:
        """An order of windows (N; row, column, period) in which groups of neighbours take turns.

        Windows are sorted along a Hilbert curve over the area. Each group has an equal part of the curve, and starts
        at a random position in it. Parts and turns are the same in each epoch, so that a process that loads every n-th
        batch returns to blocks that it has decoded.
        """
        rows, columns, periods = windows.T
        bounds = (0, 0, self.grid.width, self.grid.height)  # the same curve in each epoch
        along = GeoSeries.from_xy(columns, rows).hilbert_distance(total_bounds=bounds).to_numpy()
        parts = np.array_split(np.lexsort((along, periods)), min(self.locality_groups, len(windows)))
        groups = [np.roll(part, rng.integers(len(part))) for part in parts]
        turns = np.random.default_rng(self.seed).permutation(len(groups))
        return [
            int(groups[turn][step])
            for step in range(len(groups[0]))
            for turn in turns
            if step < len(groups[turn])
        ]

    def _place(self, rng: np.random.Generator) -> tuple[int, int]:
        for _ in range(_ROUNDS):
            if self.balanced_boxes is None:
                top, left, bottom, right = self._bounds(
                    self._parts[rng.choice(len(self._parts), p=self._chances)]
                )
            else:
                boxes, chances = self.balanced_boxes
                top, left, bottom, right = boxes[rng.choice(len(boxes), p=chances)]
                # All windows that contain a pixel of the box.
                top, left = top - self.size + 1, left - self.size + 1
                bottom, right = bottom + self.size - 1, right + self.size - 1
            rows = rng.integers(top, max(top, bottom - self.size) + 1, _TRIES)
            columns = rng.integers(left, max(left, right - self.size) + 1, _TRIES)
            inside = covered(self.roi, self.grid, rows, columns, self.size).nonzero()[0]
            if len(inside):
                return int(rows[inside[0]]), int(columns[inside[0]])
        row, column = self._safe[rng.integers(len(self._safe))]
        return int(row), int(column)

    def _period(self, rng: np.random.Generator, row: int, column: int) -> int:
        if self.period_rois is None:
            return int(rng.integers(len(self.periods)))
        window = window_boxes(self.grid, np.array([row]), np.array([column]), self.size)
        inside = np.flatnonzero(shapely.intersects(self.period_rois, window))
        return int(inside[rng.integers(len(inside))])

    def _bounds(self, part: Any) -> tuple[int, int, int, int]:
        left, bottom, right, top = part.bounds
        first, last = self.grid.row_and_column(left, top), self.grid.row_and_column(right, bottom)
        return round(first[0]), round(first[1]), round(last[0]), round(last[1])

    def __iter__(self) -> Iterator[Any]:
        """Geo-slices ``(x, y, t)`` of this process."""
        for number, (row, column, period) in enumerate(self.windows()):
            index, process = divmod(number, self.num_replicas)
            if process == self.rank and self.skip <= index < len(self):
                yield *self.grid.window_slices(row, column, self.size), slice(period.left, period.right)

    def __len__(self) -> int:
        """Number of windows of this process; equal in all processes, so that they take equally many steps."""
        return self.length // self.num_replicas


class ShuffleSampler(ResumableSampler, DistributedSampler[int]):
    """Samples in a new random order in each epoch, the same for the same seed; each process has its own.

    Args:
        dataset: Dataset to draw from.
        seed: The same seed gives the same orders; by default that of the run.
        rank: This process's number; that of torch's process group by default.
        world_size: Number of processes.
    """

    def __init__(
        self, dataset: Sized, seed: int | None = None, rank: int | None = None, world_size: int | None = None
    ) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        drawn: Any = dataset
        super().__init__(drawn, world_size or _world_size(), _rank(rank), seed=seed, drop_last=True)

    def __iter__(self) -> Iterator[int]:
        """Numbers of this process's samples."""
        return itertools.islice(super().__iter__(), self.skip, None)


class RandomCropSampler(ResumableSampler, DistributedSampler[Any]):
    """The samples of another sampler, each with the place of a random crop.

    Places depend only on seed, epoch, process and position in the epoch, not on loader processes or caches. A resumed
    run draws the same places.

    Args:
        sampler: Sampler of chip numbers.
    """

    def __init__(self, sampler: ShuffleSampler) -> None:
        self.sampler = sampler
        super().__init__(
            sampler.dataset, sampler.num_replicas, sampler.rank, seed=sampler.seed, drop_last=True
        )

    def __iter__(self) -> Iterator[CropPlace]:
        """Chips of this process with the places of their crops."""
        self.sampler.set_epoch(self.epoch)
        self.sampler.skip_first(self.skip)
        random = np.random.default_rng((self.seed, self.epoch, self.rank))
        places = random.random((len(self), 2))[self.skip :].tolist()
        for index, (down, across) in zip(self.sampler, places, strict=True):
            yield CropPlace(index, down, across)

    def __len__(self) -> int:
        """Number of samples of this process in an epoch."""
        return len(self.sampler)


class WeightedShuffleSampler(ShuffleSampler):
    """Samples drawn with replacement, as many as the dataset has; the same for the same seed and epoch.

    Args:
        dataset: Dataset to draw from.
        weights: Weight of each sample (N,), not negative; probabilities are proportional to the weights.
        seed: See `ShuffleSampler`, as for all that follow.
        rank: This process's number.
        world_size: Number of processes.
    """

    def __init__(
        self,
        dataset: Sized,
        weights: Sequence[float],
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(dataset, seed, rank, world_size)
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def __iter__(self) -> Iterator[int]:
        """Numbers of this process's samples."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = torch.multinomial(self.weights, self.total_size, replacement=True, generator=generator)
        return iter(drawn[self.rank :: self.num_replicas].tolist()[self.skip :])


class UnrepeatedSampler(DistributedSampler[int]):
    """Every sample of a dataset in exactly one of several processes: for scores that count each sample once.

    Args:
        dataset: Dataset to distribute.
        rank: This process's number; that of torch's process group by default.
        world_size: Number of processes.
    """

    def __init__(self, dataset: Sized, rank: int | None = None, world_size: int | None = None) -> None:
        super().__init__(dataset, world_size or _world_size(), _rank(rank), shuffle=False)  # type: ignore[arg-type]  # needs only a length
        self.count = len(dataset)

    def __iter__(self) -> Iterator[int]:
        """Numbers of this process's samples."""
        return iter(range(self.rank, self.count, self.num_replicas))

    def __len__(self) -> int:
        """Number of samples of this process."""
        return len(range(self.rank, self.count, self.num_replicas))


def _world_size() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _rank(rank: int | None) -> int:
    if rank is not None:
        return rank
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


__getattr__ = old_names(__name__)
