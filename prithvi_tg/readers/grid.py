"""Grids: where the pixels of a raster lie."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

_METRES_PER_DEGREE = 111_195.0  # of a great circle on a sphere of 6371 km


def on_earth(crs: CRS | None) -> bool:
    """Whether a CRS places points on the Earth; a site grid (``LOCAL_CS``) does not."""
    return crs is not None and bool(crs.is_geographic or crs.is_projected)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie."""

    crs: CRS | None
    transform: Affine
    height: int
    width: int

    @classmethod
    def of(cls, source: DatasetReader) -> "Grid":
        """The grid of an open raster."""
        return cls(source.crs, source.transform, source.height, source.width)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top, in units of the CRS."""
        west, south, east, north = array_bounds(self.height, self.width, self.transform)
        return min(west, east), min(south, north), max(west, east), max(south, north)

    @property
    def is_placed(self) -> bool:
        """Whether the raster has a geo-reference."""
        return self.crs is not None

    def row_and_column(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Rows and columns of points, numbers or arrays, in pixels from the top left corner."""
        inverse = ~self.transform
        return inverse.d * x + inverse.e * y + inverse.f, inverse.a * x + inverse.b * y + inverse.c

    def has_pixels_of(self, other: "Grid") -> bool:
        """Whether pixels of both grids coincide where the grids overlap."""
        if self.crs != other.crs:
            return False
        ours, theirs = self.transform, other.transform
        pixel = abs(ours.a) + abs(ours.b)
        if any(abs(getattr(ours, name) - getattr(theirs, name)) > 1e-6 * pixel for name in "abde"):
            return False
        return all(abs(at - round(at)) < 1e-3 for at in other.row_and_column(ours.c, ours.f))

    def overlaps(self, other: "Grid") -> bool:
        """Whether two grids share ground."""
        if not (on_earth(self.crs) and on_earth(other.crs)) and self.crs != other.crs:
            return False
        if self.crs is None:
            return True
        bounds = other.bounds
        if other.crs != self.crs:
            bounds = transform_bounds(other.crs, self.crs, *bounds)
        left, bottom, right, top = self.bounds
        return bounds[0] < right and bounds[2] > left and bounds[1] < top and bounds[3] > bottom

    def window_slices(self, row: int, column: int, size: int) -> tuple[slice, slice]:
        """The ``x`` and ``y`` of TorchGeo's geo-slices for a window of pixels, of a grid with north up."""
        t = self.transform
        left, top = t.c + t.a * column, t.f + t.e * row
        return slice(left, left + t.a * size, abs(t.a)), slice(top + t.e * size, top, abs(t.e))

    def latitudes_and_longitudes(
        self, rows: Sequence[float], columns: Sequence[float]
    ) -> NDArray[np.float32]:
        """Places of points given in pixels (N, 2), degrees; NaN where the CRS does not place them on the Earth."""
        if not on_earth(self.crs):
            return np.full((len(rows), 2), np.nan, np.float32)
        t = self.transform
        x = [t.a * column + t.b * row + t.c for row, column in zip(rows, columns, strict=True)]
        y = [t.d * column + t.e * row + t.f for row, column in zip(rows, columns, strict=True)]
        longitudes, latitudes = transform_points(self.crs, CRS.from_epsg(4326), x, y)[:2]
        return np.stack([latitudes, longitudes], axis=1).astype(np.float32)

    @property
    def pixel_size(self) -> float | None:
        """Side of a pixel in the middle of the grid, in metres; ``None`` where it is unknown."""
        if not on_earth(self.crs):
            return None
        t = self.transform
        side = math.sqrt(abs(t.a * t.e - t.b * t.d))
        assert self.crs is not None
        if not self.crs.is_geographic:
            return side * float(self.crs.linear_units_factor[1])
        latitude = self.latitudes_and_longitudes([self.height / 2], [self.width / 2])[0, 0]
        return side * _METRES_PER_DEGREE * math.sqrt(math.cos(math.radians(float(latitude))))
