"""Grids: the positions of the pixels of a raster."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine, GCPTransformer, array_bounds, from_gcps
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from ..compat import GDALError

_POINTS_PER_SIDE = 33  # samples of curved edges, for bounds
_METRES_PER_DEGREE = 111_195.0  # of a great circle on a sphere of 6371 km


def on_earth(crs: CRS | None) -> bool:
    """Whether a CRS is geographic or projected; a site grid (``LOCAL_CS``) is neither."""
    return crs is not None and bool(crs.is_geographic or crs.is_projected)


@dataclass(frozen=True)
class ControlPoints:
    """Ground control points: pixels of known position, for rasters without a transform, such as radar images.

    Attributes:
        crs: CRS of the positions.
        points: Row, column, x, y and z of each.
    """

    crs: CRS
    points: tuple[tuple[float, float, float, float, float], ...]

    @classmethod
    def of(cls, source: DatasetReader) -> "ControlPoints | None":
        """The points of an open raster without a CRS; ``None`` if they do not determine positions."""
        if source.crs is not None:
            return None
        points, crs = source.gcps
        if not points or crs is None:
            return None
        found = cls(crs, tuple((one.row, one.col, one.x, one.y, one.z or 0.0) for one in points))
        try:
            GCPTransformer(found.gcps).close()
        except (RasterioError, GDALError):  # too few of them, or all in one line
            return None
        return found

    @property
    def gcps(self) -> list[GroundControlPoint]:
        """The points as objects of rasterio."""
        return [GroundControlPoint(*point) for point in self.points]


@dataclass(frozen=True)
class Grid:
    """Positions of the pixels of a raster.

    Attributes:
        crs: CRS of the transform; ``None`` if the raster has no geo-reference, or control points alone.
        transform: From columns and rows to x and y.
        height: Rows.
        width: Columns.
        control: Control points, for rasters without a transform.
    """

    crs: CRS | None
    transform: Affine
    height: int
    width: int
    control: ControlPoints | None = None

    @classmethod
    def of(cls, source: DatasetReader) -> "Grid":
        """The grid of an open raster."""
        return cls(source.crs, source.transform, source.height, source.width, ControlPoints.of(source))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top, in units of the CRS."""
        west, south, east, north = array_bounds(self.height, self.width, self.transform)
        return min(west, east), min(south, north), max(west, east), max(south, north)

    @property
    def is_placed(self) -> bool:
        """Whether the raster has a geo-reference."""
        return self.ground_crs is not None

    @property
    def ground_crs(self) -> CRS | None:
        """CRS of the transform or of the control points."""
        return self.crs if self.control is None else self.control.crs

    @property
    def is_north_up(self) -> bool:
        """Whether columns run along the x axis of the CRS and rows against its y axis."""
        t = self.transform
        return self.control is None and t.b == t.d == 0 and t.a > 0 and t.e < 0

    def north_up(self) -> "Grid":
        """A grid of the same area with north up and pixels of the same size; itself without a geo-reference.

        For a grid that is flipped or turned by multiples of 90 degrees, the pixels coincide.
        """
        if self.is_north_up or not self.is_placed:
            return self
        # Control points have no exact transform; a fitted one gives the size of pixels.
        t = self.transform if self.control is None else from_gcps(self.control.gcps)
        x_size, y_size = math.hypot(t.a, t.d), math.hypot(t.b, t.e)
        if abs(t.a) < abs(t.d):  # columns are closer to the y axis
            x_size, y_size = y_size, x_size
        along = np.linspace(0, 1, _POINTS_PER_SIDE)
        rows = np.concatenate([along, along, along * 0, along * 0 + 1]) * self.height
        columns = np.concatenate([along * 0, along * 0 + 1, along, along]) * self.width
        x, y = self.xy(rows, columns)
        left, top = float(x.min()), float(y.max())
        height, width = math.ceil(np.ptp(y) / y_size - 1e-6), math.ceil(np.ptp(x) / x_size - 1e-6)
        return Grid(self.ground_crs, Affine(x_size, 0, left, 0, -y_size, top), height, width)

    def coarser(self, factor: int, shape: tuple[int, int]) -> "Grid":
        """A grid of (rows, columns) with the same top left corner, whose pixels are so many pixels wide and high."""
        control = self.control
        if control is not None:
            points = ((row / factor, column / factor, x, y, z) for row, column, x, y, z in control.points)
            control = replace(control, points=tuple(points))
        return Grid(self.crs, self.transform @ Affine.scale(factor), *shape, control)

    def cropped(self, rows: tuple[int, int], columns: tuple[int, int]) -> "Grid":
        """The part of the grid in some rows and columns: the first, and the one after the last."""
        (top, bottom), (left, right) = rows, columns
        if (top, bottom, left, right) == (0, self.height, 0, self.width):
            return self
        control = self.control
        if control is not None:
            points = ((row - top, column - left, x, y, z) for row, column, x, y, z in control.points)
            control = replace(control, points=tuple(points))
        transform = self.transform @ Affine.translation(left, top)
        return Grid(self.crs, transform, bottom - top, right - left, control)

    def is_turned(self, other: "Grid") -> bool:
        """Whether another grid has pixels of the same size in another direction."""
        ours, theirs = self.transform, other.transform
        own, sizes = (sorted((math.hypot(t.a, t.d), math.hypot(t.b, t.e))) for t in (ours, theirs))
        if self.crs != other.crs or not np.allclose(own, sizes, rtol=1e-6, atol=0):
            return False
        return any(abs(getattr(ours, name) - getattr(theirs, name)) > 1e-6 * own[0] for name in "abde")

    def xy(self, rows: Any, columns: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates x and y, in units of `ground_crs`, of points given in pixels from the top left corner."""
        rows, columns = np.broadcast_arrays(np.asarray(rows, float), np.asarray(columns, float))
        if self.control is None:
            t = self.transform
            return t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f
        with GCPTransformer(self.control.gcps) as transformer:
            x, y = transformer.xy(rows.ravel(), columns.ravel(), offset="ul")
        return np.reshape(x, rows.shape), np.reshape(y, rows.shape)

    def row_and_column(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Rows and columns of points, numbers or arrays, in pixels from the top left corner."""
        if self.control is not None:
            with GCPTransformer(self.control.gcps) as transformer:
                rows, columns = transformer.rowcol(x, y, op=np.asarray)
            return rows, columns
        inverse = ~self.transform
        return inverse.d * x + inverse.e * y + inverse.f, inverse.a * x + inverse.b * y + inverse.c

    def has_pixels_of(self, other: "Grid") -> bool:
        """Whether pixels of both grids coincide where the grids overlap."""
        if self.crs != other.crs or self.control != other.control:
            return False
        ours, theirs = self.transform, other.transform
        pixel = abs(ours.a) + abs(ours.b)
        if any(abs(getattr(ours, name) - getattr(theirs, name)) > 1e-6 * pixel for name in "abde"):
            return False
        return all(abs(at - round(at)) < 1e-3 for at in other.row_and_column(ours.c, ours.f))

    def overlaps(self, other: "Grid") -> bool:
        """Whether the areas of two grids overlap."""
        if not (on_earth(self.crs) and on_earth(other.crs)) and self.crs != other.crs:
            return False
        if self.crs is None:
            return self.control == other.control
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
        """Latitude and longitude (N, 2), degrees, of points given in pixels; NaN for a CRS that is not of the Earth."""
        crs = self.ground_crs
        if crs is None or not on_earth(crs):
            return np.full((len(rows), 2), np.nan, np.float32)
        x, y = self.xy(rows, columns)
        longitudes, latitudes = transform_points(crs, CRS.from_epsg(4326), x, y)[:2]
        return np.stack([latitudes, longitudes], axis=1).astype(np.float32)

    @property
    def pixel_size(self) -> float | None:
        """Side of a pixel in the middle of the grid, in metres; ``None`` if unknown."""
        if self.control is not None:
            return self.north_up().pixel_size
        if not on_earth(self.crs):
            return None
        t = self.transform
        side = math.sqrt(abs(t.a * t.e - t.b * t.d))
        assert self.crs is not None
        if not self.crs.is_geographic:
            return side * float(self.crs.linear_units_factor[1])
        latitude = self.latitudes_and_longitudes([self.height / 2], [self.width / 2])[0, 0]
        return side * _METRES_PER_DEGREE * math.sqrt(math.cos(math.radians(float(latitude))))
