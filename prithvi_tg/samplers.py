"""Geo-samplers: which windows of a data set are drawn."""

from collections.abc import Iterator
from typing import Any

from torchgeo.datasets import GeoDataset
from torchgeo.samplers import GeoSampler

from .windows import window_starts


class ExactCoverGeoSampler(GeoSampler):
    """Windows that cover every pixel of every scene, in reading order.

    As TorchGeo's grid samplers, but nothing is left out: the last row and column of windows are shifted
    inwards, so that no window reaches over the edge and none is missing, and a scene smaller than a window
    gets one that starts at its top left corner (the data set fills what lies beyond).

    Args:
        dataset: A data set whose files are the scenes.
        size: Side of a window in pixels.
        stride: Distance of windows in pixels; the size by default.
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
