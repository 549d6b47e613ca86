"""Reading a raster on the pixels of another grid; validity is decided before values are resampled."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import shapely
from einops import reduce
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from ..compat import GDALError
from ..errors import DataError
from .grid import Grid

#: Side of the tiles of the target grid that are warped at a time. Tiles lie on a fixed lattice, so that a pixel does
#: not depend on the window that it is read by: GDAL interpolates coordinates between points of what it warps.
_TILE = 256
_KEPT_TILES = 16
_TOLERANCE = 0.01  # pixels; GDAL's default is an eighth
_MOST_PIXELS = 2**26  # limit for the part of a raster that one tile needs
_MOST_VALUES = 2**24  # to read at a time, where pixels are averaged
_MUCH_FINER = (
    8  # pixels of the raster along a pixel of the grid, from which on they are averaged before the warp
)
_LEFT = 4  # pixels along a pixel of the grid that averaging leaves: GDAL's kernel is fine enough for them
_MOST_SAMPLES = 32  # pixels along a pixel of the grid that are read for their average
_SAMPLES = 9  # points along each side of a tile, for its position in the source


class Warped(NamedTuple):
    """A window of the target grid: `values` (C, h, w), NaN where `valid` (C, h, w) is false, and a count."""

    values: NDArray[Any]
    valid: NDArray[np.bool_]
    meaningless: int = 0


#: Reads a window of the source at a size (height, width): values (C, h, w), valid (C, h, w) and a count, see `Bands`.
ReadWindow = Callable[[Window, tuple[int, int]], tuple[NDArray[Any], NDArray[np.bool_], int]]


class GridReader:
    """Reads a raster on the pixels of a grid.

    Values are resampled only from pixels that hold data: nodata never bleeds into them. Validity is
    resampled by nearest neighbour. Pixels beyond the raster are not valid. A grid on the same lattice of pixels is read
    without resampling. Where pixels of the grid are larger than those of the raster, values are averaged, except with
    nearest neighbour.

    Args:
        raster_grid: Grid of the raster.
        grid: Grid of the result.
        read: Reads a window of the raster.
        channels: Number of channels that `read` returns.
        dtype: Type of the values, float32 or float64.
        resampling: How values are resampled; a raster with control points always uses nearest neighbour.
        reducing: How values are resampled if pixels of the grid are larger than those of the raster; `resampling` by
            default.
    """

    def __init__(
        self,
        raster_grid: Grid,
        grid: Grid,
        read: ReadWindow,
        channels: int,
        dtype: str = "float32",
        resampling: Resampling = Resampling.bilinear,
        reducing: Resampling | None = None,
    ) -> None:
        self.raster_grid = raster_grid
        self.grid = grid
        self._read = read
        self.channels = channels
        self.dtype = dtype
        self.resampling = resampling
        self.reducing = resampling if reducing is None else reducing
        self._aligned = raster_grid.has_pixels_of(grid)
        self._tiles: OrderedDict[tuple[int, int], Warped] = OrderedDict()

    def read(self, window: Window, size: tuple[int, int]) -> Warped:
        """Read a window of the grid, at its height and width or, for a picture, smaller ones.

        Raises:
            DataError: The raster cannot be read or warped.
        """
        top, left = round(window.row_off), round(window.col_off)
        height, width = round(window.height), round(window.width)
        if (height, width) != size:
            step = Affine.scale(width / size[1], height / size[0])
            return self._warp(self.grid.transform * Affine.translation(left, top) * step, *size, picture=True)
        if self._aligned:
            return self._shifted(top, left, height, width)
        result = self._empty(height, width)
        meaningless = 0
        for row in range(top // _TILE * _TILE, top + height, _TILE):
            for column in range(left // _TILE * _TILE, left + width, _TILE):
                tile = self._tile(row, column)
                meaningless += tile.meaningless
                rows, columns = tile.values.shape[1:]
                first, last = max(top, row), min(top + height, row + rows)
                start, stop = max(left, column), min(left + width, column + columns)
                if first >= last or start >= stop:
                    continue
                inside = (slice(None), slice(first - row, last - row), slice(start - column, stop - column))
                outside = (slice(None), slice(first - top, last - top), slice(start - left, stop - left))
                result.values[outside], result.valid[outside] = tile.values[inside], tile.valid[inside]
        return result._replace(meaningless=meaningless)

    def _empty(self, height: int, width: int) -> Warped:
        shape = (self.channels, height, width)
        return Warped(np.full(shape, np.nan, self.dtype), np.zeros(shape, bool))

    def _shifted(self, top: int, left: int, height: int, width: int) -> Warped:
        """A window of a grid whose pixels are pixels of the raster."""
        result = self._empty(height, width)
        corner = self.grid.transform * (left, top)
        row, column = map(round, self.raster_grid.row_and_column(*corner))
        first, last = max(0, row), min(self.raster_grid.height, row + height)
        start, stop = max(0, column), min(self.raster_grid.width, column + width)
        if first >= last or start >= stop:
            return result
        values, valid, meaningless = self._read(
            Window(start, first, stop - start, last - first), (last - first, stop - start)
        )
        place = (slice(None), slice(first - row, last - row), slice(start - column, stop - column))
        result.values[place], result.valid[place] = values, valid
        return result._replace(meaningless=meaningless)

    def _tile(self, row: int, column: int) -> Warped:
        key = (row, column)
        if key in self._tiles:
            self._tiles.move_to_end(key)
            return self._tiles[key]._replace(meaningless=0)  # counted when it was read
        height, width = min(_TILE, self.grid.height - row), min(_TILE, self.grid.width - column)
        if height <= 0 or width <= 0 or row < 0 or column < 0:
            return self._empty(0, 0)
        tile = self._warp(self.grid.transform * Affine.translation(column, row), height, width)
        self._tiles[key] = tile
        while len(self._tiles) > _KEPT_TILES:
            self._tiles.popitem(last=False)
        return tile

    def _warp(self, transform: Affine, height: int, width: int, picture: bool = False) -> Warped:
        result = self._empty(height, width)
        meaningless = 0
        for needed, ratio in self._source_windows(transform, height, width):
            part, window = self._source_part(needed, ratio, picture)
            meaningless += part.meaningless
            filled = np.where(part.valid, part.values, np.nan).astype(self.dtype)
            ratio = max(1.0, ratio * filled.shape[1] / window.height)
            if self.raster_grid.control is not None:
                resampled = self._picked(filled, window, transform, result.values.shape[1:])
                known = ~np.isnan(resampled)
            else:
                with self._in_memory(filled, window) as source:
                    shape = result.values.shape[1:]
                    resampled = self._resampled(source, transform, shape, Resampling.nearest, ratio)
                    known = ~np.isnan(resampled)
                    resampling = self.reducing if ratio > 1 else self.resampling
                    if resampling != Resampling.nearest:
                        resampled = self._resampled(source, transform, shape, resampling, ratio)
                        known &= ~np.isnan(resampled)
            np.copyto(result.values, resampled, where=known)
            result.valid[...] |= known
        return result._replace(meaningless=meaningless)

    def _source_part(self, window: Window, ratio: float, picture: bool) -> tuple[Warped, Window]:
        """Read a part of the raster, with fewer pixels if they are much finer than the grid.

        Args:
            window: The part.
            ratio: Pixels of the raster along a pixel of the grid.
            picture: Pick pixels instead of averaging them, as a whole scene would take too long.

        Returns:
            What was read, and the window that it covers, which may extend beyond the raster.
        """
        size = (window.height, window.width)
        nearest = self.reducing == Resampling.nearest or self.raster_grid.control is not None
        if ratio < _MUCH_FINER or (nearest and not picture and math.prod(size) <= _MOST_PIXELS):
            return Warped(*self._read(window, size)), window
        if picture or nearest:
            factor = math.floor(ratio if picture else ratio / _LEFT)
            return Warped(*self._read(window, (max(1, size[0] // factor), max(1, size[1] // factor)))), window
        step = max(1, math.floor(ratio / _MOST_SAMPLES))
        factor = math.floor(ratio / step / _LEFT)
        rows, columns = (math.ceil(side / (step * factor)) for side in size)
        whole = Window(window.col_off, window.row_off, columns * step * factor, rows * step * factor)
        return self._averaged(window, rows, columns, factor, step), whole

    def _averaged(self, window: Window, rows: int, columns: int, factor: int, step: int) -> Warped:
        """Means of the data in squares of `factor` x `factor` pixels, of which each `step`-th is read.

        A square is valid if the pixel at its centre is.
        """
        result = self._empty(rows, columns)
        meaningless = 0
        at_once = max(1, _MOST_VALUES // (self.channels * columns * factor**2))
        for row in range(0, rows, at_once):
            stop = min(row + at_once, rows)
            first = row * factor * step
            last = min(stop * factor * step, window.height)
            size = (math.ceil((last - first) / step), math.ceil(window.width / step))
            values, valid, count = self._read(
                Window(window.col_off, window.row_off + first, window.width, last - first), size
            )
            meaningless += count
            padding = ((0, 0), (0, (stop - row) * factor - size[0]), (0, columns * factor - size[1]))
            known = np.pad(valid, padding)
            data = np.pad(np.where(valid, values, 0).astype(np.float64), padding)
            squares = "c (h a) (w b) -> c h w"
            sums, counts = (reduce(one, squares, "sum", a=factor, b=factor) for one in (data, known))
            center = known[:, factor // 2 :: factor, factor // 2 :: factor]
            result.valid[:, row:stop] = center
            np.divide(sums, counts, out=result.values[:, row:stop], where=center, casting="same_kind")
        return result._replace(meaningless=meaningless)

    @contextmanager
    def _in_memory(self, values: NDArray[Any], window: Window) -> Iterator[DatasetReader]:
        """The values of a window as a raster in memory: `reproject` ignores the tolerance before rasterio 1.5."""
        count, height, width = values.shape
        transform = self.raster_grid.transform * Affine.translation(window.col_off, window.row_off)
        transform *= Affine.scale(window.width / width, window.height / height)
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff", count=count, height=height, width=width, dtype=self.dtype, nodata=math.nan,
                crs=self.raster_grid.crs, transform=transform, interleave="band",
            ) as out:  # fmt: skip
                out.write(values)
            with memory.open() as source:
                yield source

    def _resampled(
        self,
        source: DatasetReader,
        transform: Affine,
        size: tuple[int, ...],
        resampling: Resampling,
        ratio: float,
    ) -> NDArray[Any]:
        height, width = size
        # GDAL's own estimate of the scale includes the margin of the source, and smooths too much.
        scale = str(1 / ratio)
        try:
            with WarpedVRT(
                source, crs=self.grid.crs, transform=transform, height=height, width=width, resampling=resampling,
                src_nodata=math.nan, nodata=math.nan, tolerance=_TOLERANCE, UNIFIED_SRC_NODATA="NO",
                XSCALE=scale, YSCALE=scale,
            ) as warped:  # fmt: skip
                values: NDArray[Any] = warped.read()
        except (RasterioError, GDALError) as error:
            raise DataError(
                f"warp: from {self.raster_grid.ground_crs} to {self.grid.crs} is not possible ({error})"
            ) from error
        return values

    def _picked(
        self, values: NDArray[Any], window: Window, transform: Affine, size: tuple[int, ...]
    ) -> NDArray[Any]:
        """The values of a window on the grid by nearest neighbour, for a raster with control points."""
        rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
        x, y = self._own_places(*(transform * (columns.ravel(), rows.ravel())))
        row, column = self.raster_grid.row_and_column(x, y)
        height, width = values.shape[1:]
        with np.errstate(invalid="ignore"):  # points without coordinates
            row = np.floor((row - window.row_off) * height / window.height)
            column = np.floor((column - window.col_off) * width / window.width)
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        resampled = np.full((len(values), len(row)), np.nan, self.dtype)
        resampled[:, inside] = values[:, row[inside].astype(int), column[inside].astype(int)]
        return resampled.reshape(len(values), *size)

    def _own_places(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Transform points from the grid's CRS to that of the raster."""
        crs = self.raster_grid.ground_crs
        if crs == self.grid.crs:
            return x, y
        moved_x, moved_y = transform_points(self.grid.crs, crs, x, y)[:2]
        return np.array(moved_x), np.array(moved_y)

    def _source_windows(self, transform: Affine, height: int, width: int) -> Iterator[tuple[Window, float]]:
        """The parts of the raster that some pixels need, none if they do not overlap it.

        There are two parts if the pixels lie across the antimeridian, where rasters in degrees end.

        Returns:
            The window, and how many pixels of the raster lie along a pixel of the grid.
        """
        rows, columns = np.meshgrid(
            np.linspace(0, height, _SAMPLES), np.linspace(0, width, _SAMPLES), indexing="ij"
        )
        x, y = self._own_places(*(transform * (columns.ravel(), rows.ravel())))
        known = np.isfinite(x) & np.isfinite(y)
        if not known.any():
            return
        crs = self.raster_grid.ground_crs
        if crs is not None and crs.is_geographic and crs != self.grid.crs and np.ptp(x[known]) > 180:
            if np.abs(x[known]).min() > 90:  # across the antimeridian, and no pole near
                for side, edge in ((known & (x < 0), -180.0), (known & (x > 0), 180.0)):
                    row, column = self.raster_grid.row_and_column(
                        np.append(x[side], [edge, edge]), np.append(y[side], [y[known].min(), y[known].max()])
                    )
                    yield from self._source_window(
                        row, column, np.ptp(row) * np.ptp(column) / (height * width)
                    )
                return
            # Around a pole, points between the samples can have any longitude.
            row, _ = self.raster_grid.row_and_column(x[known], y[known])
            row = np.array([row.min() - np.ptp(row), row.max() + np.ptp(row)])
            column = np.array([0.0, self.raster_grid.width])
            if np.ptp(row) * self.raster_grid.width > _MOST_PIXELS:
                raise DataError(
                    "warp: pixels around a pole would need too much of a global raster; crop it to their area first "
                    "(gdalwarp -te)"
                )
            yield from self._source_window(row, column, 1.0)
            return
        row, column = self.raster_grid.row_and_column(x[known], y[known])
        area = np.ptp(row) * np.ptp(column)
        if known.all():  # a turned grid covers less than the rectangle around it
            corners = [0, _SAMPLES - 1, _SAMPLES**2 - 1, _SAMPLES**2 - _SAMPLES]
            area = shapely.Polygon(np.stack([row[corners], column[corners]], axis=1)).area
        yield from self._source_window(row, column, area / (height * width))

    def _source_window(
        self, row: NDArray[np.float64], column: NDArray[np.float64], pixels: float
    ) -> Iterator[tuple[Window, float]]:
        """The part of the raster around some points, if any; `pixels` of it cover one pixel of the grid."""
        ratio = max(1.0, math.sqrt(pixels))
        margin = 3 * math.ceil(ratio) + 0.02 * max(np.ptp(row), np.ptp(column))  # kernel, and curved edges
        first = max(0, math.floor(row.min() - margin))
        last = min(self.raster_grid.height, math.ceil(row.max() + margin))
        start = max(0, math.floor(column.min() - margin))
        stop = min(self.raster_grid.width, math.ceil(column.max() + margin))
        if first >= last or start >= stop:
            return
        yield Window(start, first, stop - start, last - first), ratio
