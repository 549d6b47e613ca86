"""Scenes: what a model takes as one image of any size, whatever files it lies in."""

import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.transform import Affine, array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from ..errors import DataError
from ..readers.quality import QualityClass, QualityKind, flagged
from ..readers.raster import data_mask, legacy_values, open_raster, reading
from ..spec import DataSpec

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: When a pixel of the map is nodata: all of the model's bands lack data there, any of them does, or, as in
#: hls-foundation-os, any band of the file, used or not, equals the file's tag.
NodataRule = Literal["all", "any", "legacy"]


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

    def row_and_column(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies, in pixels from the top left corner."""
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
        if self.crs is None or other.crs is None:
            return self.crs == other.crs
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
        """Places of points given in pixels (N, 2), degrees; NaN without a geo-reference."""
        if self.crs is None:
            return np.full((len(rows), 2), np.nan, np.float32)
        t = self.transform
        x = [t.a * column + t.b * row + t.c for row, column in zip(rows, columns, strict=True)]
        y = [t.d * column + t.e * row + t.f for row, column in zip(rows, columns, strict=True)]
        longitudes, latitudes = transform_points(self.crs, CRS.from_epsg(4326), x, y)[:2]
        return np.stack([latitudes, longitudes], axis=1).astype(np.float32)


@dataclass(frozen=True)
class BandFile:
    """Where one channel of a scene is stored, and what its values mean.

    Attributes:
        path: A raster.
        index: Its band, counted from 1.
        scale: Factor from stored values to the unit of the statistics.
        offset: Added after scaling.
        nodata: Stored values that mean "no data", beside the file's tag, NaN and infinity.
    """

    path: str
    index: int
    scale: float = 1.0
    offset: float = 0.0
    nodata: tuple[float, ...] = ()


@dataclass(frozen=True)
class QualityFile:
    """Where the quality layer of one frame is stored."""

    path: str
    index: int
    kind: QualityKind


@dataclass(frozen=True)
class Scene:
    """One image of any size.

    Attributes:
        name: Names its maps.
        grid: Where its pixels lie; channels on other grids are warped to it.
        channels: One per frame and band, time-major.
        quality: A quality layer per frame, or none at all.
        dates: A date per frame, ``None`` where unknown.
        origin: In words: which stored band each channel came from.
        members: Instead of channels: for each frame, scenes of one date whose median it is, where they are clear.
    """

    name: str
    grid: Grid
    channels: tuple[BandFile, ...]
    quality: tuple[QualityFile, ...] = ()
    dates: tuple[date | None, ...] = ()
    origin: str = ""
    members: tuple[tuple["Scene", ...], ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the scene, once."""
        paths = [channel.path for channel in self.channels] + [layer.path for layer in self.quality]
        paths += [path for frame in self.members for member in frame for path in member.files]
        return tuple(dict.fromkeys(paths))

    @property
    def timestamps(self) -> NDArray[np.float32] | None:
        """Year and day of year 1..366 of each frame (T, 2), if all dates are known."""
        days = [(day.year, day.timetuple().tm_yday) for day in self.dates if day is not None]
        return np.array(days, np.float32) if days and len(days) == len(self.dates) else None


@dataclass(frozen=True)
class Pixels:
    """A part of a scene.

    Attributes:
        values: (T*C, h, w) in the unit of the statistics; the band's mean where there is no data.
        valid: (T*C, h, w), where there is data.
        masked: (h, w), where the map is nodata.
    """

    values: Array
    valid: Mask
    masked: Mask


class SceneReader:
    """Reads parts of a scene; keeps its files open; not to be shared between threads.

    Args:
        scene: What to read.
        spec: Statistics that the model expects.
        nodata_rule: When a pixel of the map is nodata.
        mask: Classes of the quality layers that count as no data.

    Raises:
        DataError: A file cannot be opened.
    """

    def __init__(
        self,
        scene: Scene,
        spec: DataSpec,
        nodata_rule: NodataRule = "all",
        mask: Sequence[QualityClass] = (),
    ) -> None:
        self.scene = scene
        self.spec = spec
        self.nodata_rule = nodata_rule
        self.mask = tuple(mask)
        self._stack = ExitStack()
        self._sources: dict[tuple[str, bool], DatasetReader] = {}
        self._members = [
            [SceneReader(replace(member, grid=scene.grid), spec.frame(number), mask=mask) for member in frame]
            for number, frame in enumerate(scene.members)
        ]
        try:
            pixels = [channel.path for channel in scene.channels]
            for path in dict.fromkeys([*pixels, *(layer.path for layer in scene.quality if mask)]):
                self._sources[path, False] = self._stack.enter_context(open_raster(path))
        except DataError:
            self._stack.close()
            raise

    def __enter__(self) -> "SceneReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()
        for frame in self._members:
            for member in frame:
                member.close()

    @property
    def block_rows(self) -> int:
        """Rows that are decoded together; at least one."""
        grid = self.scene.grid
        heights = [reader.block_rows for frame in self._members for reader in frame]
        heights += [
            source.block_shapes[0][0]
            for (_, warped), source in self._sources.items()
            if not warped and Grid.of(source) == grid
        ]
        return max(heights, default=256)

    def overview(self, side: int) -> Pixels:
        """The whole scene at once, with pixels left out so that no side is longer than `side`.

        Raises:
            DataError: A block cannot be read.
        """
        grid = self.scene.grid
        factor = max(1.0, max(grid.height, grid.width) / side)
        shape = (max(1, round(grid.height / factor)), max(1, round(grid.width / factor)))
        return self._read(Window(0, 0, grid.width, grid.height), shape)

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None, factor: int = 1) -> Pixels:
        """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of the scene's grid.

        With a `factor`, only one pixel of so many in either direction, from the files' overviews if they have
        any.

        Raises:
            DataError: A block cannot be read.
        """
        right = self.scene.grid.width if right is None else right
        shape = (math.ceil((bottom - top) / factor), math.ceil((right - left) / factor))
        return self._read(Window(left, top, right - left, bottom - top), shape)

    def _read(self, window: Window, size: tuple[int, int]) -> Pixels:
        if self._members:
            return self._median(window, size)
        channels = self.scene.channels
        shape = (len(channels), *size)
        values, valid = np.empty(shape, np.float32), np.empty(shape, bool)
        for path in dict.fromkeys(channel.path for channel in channels):
            held = [k for k, channel in enumerate(channels) if channel.path == path]
            source = self._on_grid(path, channels[held[0]].nodata)
            with reading(path):
                indexes = [channels[k].index for k in held]
                stored = source.read(indexes, window=window, out_shape=(len(held), *size))
            for band, k in zip(stored, held, strict=True):
                tag = source.nodatavals[channels[k].index - 1]
                data_mask(band, (*channels[k].nodata, tag), out=valid[k])
                values[k] = band
        frames = np.split(valid, self.spec.num_frames)
        for frame, layer in zip(frames, self._quality(window, size), strict=False):
            frame &= ~layer
        if self.nodata_rule == "legacy":
            values = legacy_values(values, self.spec)
            masked = self._tagged(window, size)
        else:
            masked = self._masked(valid)
        for k, channel in enumerate(channels):
            if channel.scale != 1:
                values[k] *= np.float32(channel.scale)
            if channel.offset:
                values[k] += np.float32(channel.offset)
            if self.nodata_rule != "legacy" and not valid[k].all():
                np.copyto(values[k], np.float32(self.spec.channel_mean[k]), where=~valid[k])
        return Pixels(values, valid, masked)

    def _masked(self, valid: Mask) -> Mask:
        needed = np.logical_and if self.nodata_rule == "any" else np.logical_or
        masked: Mask = ~needed.reduce(valid, axis=0)
        return masked

    def _median(self, window: Window, size: tuple[int, int]) -> Pixels:
        frames = []
        for members in self._members:
            parts = [member._read(window, size) for member in members]
            clear = np.stack([np.where(part.valid, part.values, np.float32("nan")) for part in parts])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # pixels that are never clear
                frames.append(np.nanmedian(clear, axis=0))
        values = np.concatenate(frames)
        valid = np.isfinite(values)
        mean = np.asarray(self.spec.channel_mean, np.float32)[:, None, None]
        return Pixels(np.where(valid, values, mean), valid, self._masked(valid))

    def _quality(self, window: Window, size: tuple[int, int]) -> list[Mask]:
        if not self.mask:
            return []
        if not self.scene.quality:
            raise DataError(
                f"{self.scene.files[0]}: has no quality layer (Fmask, SCL) to mask {self.mask[0]} by"
            )
        layers = []
        for part in self.scene.quality:
            source = self._on_grid(part.path, (), categorical=True)
            with reading(part.path):
                layer = source.read(part.index, window=window, out_shape=size)
            layers.append(flagged(layer, part.kind, self.mask))
        return layers

    def _tagged(self, window: Window, size: tuple[int, int]) -> Mask:
        masked = np.zeros(size, bool)
        for path in dict.fromkeys(channel.path for channel in self.scene.channels):
            source = self._on_grid(path, ())
            with reading(path):
                for index, tag in enumerate(source.nodatavals, start=1):
                    if tag is not None:
                        masked |= source.read(index, window=window, out_shape=size) == tag
        return masked

    def _on_grid(self, path: str, nodata: tuple[float, ...], categorical: bool = False) -> DatasetReader:
        source = self._sources[path, False]
        grid, own = self.scene.grid, Grid.of(source)
        if own.crs is None and grid.crs is None and (own.height, own.width) == (grid.height, grid.width):
            return source
        if own.has_pixels_of(grid) and own.bounds == grid.bounds:
            return source
        if (path, True) not in self._sources:
            tags = {*nodata, *(tag for tag in source.nodatavals[:1] if tag is not None)}
            # Values that mean no data must not be mixed into their neighbours; GDAL can leave out one of them.
            exact = categorical or own.has_pixels_of(grid) or len(tags) > 1
            self._sources[path, True] = self._stack.enter_context(
                WarpedVRT(
                    source,
                    crs=grid.crs,
                    transform=grid.transform,
                    height=grid.height,
                    width=grid.width,
                    resampling=Resampling.nearest if exact else Resampling.bilinear,
                    src_nodata=next(iter(tags), None),
                    nodata=255 if categorical else float("nan"),
                    tolerance=0.01,  # of a pixel; GDAL's habit, an eighth, depends on the extent that is warped
                    dtype=source.dtypes[0] if categorical else "float32",
                )
            )
        return self._sources[path, True]
