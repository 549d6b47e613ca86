"""Scenes: one image of any size for a model, stored in one or many files."""

import math
import warnings
from collections.abc import Hashable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ..choices import NodataRule as NodataRule
from ..deprecated import accepts_old_arguments
from ..errors import DataError
from ..spec import InputSpec
from .grid import Grid
from .quality import QualityClass, QualityKind, flagged
from .raster import Bands, as_floats, legacy_values, open_raster, read_stored, reading, tag_mask
from .scaling import Scaling, apply_scaling
from .warp import GridReader, ReadWindow, Warped

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Larger stored types, such as float64, are returned as float32.
_STORED_BYTES = 4


@dataclass(frozen=True)
class BandFile:
    """Location and scaling of one channel of a scene.

    Attributes:
        path: A raster; a `Path` becomes a string.
        index: Band of the raster, counted from 1.
        scale: Factor from stored values to the unit of the statistics.
        offset: Added after scaling.
        nodata: Stored values that mean nodata, besides those of `prithvi_tg.readers.raster.read_bands`.
        alpha: The alpha band of the raster, if it has one.
    """

    path: str
    index: int
    scale: float = 1.0
    offset: float = 0.0
    nodata: tuple[float, ...] = ()
    alpha: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))


@dataclass(frozen=True)
class QualityFile:
    """Location and kind of the quality layer of one frame; `index` is counted from 1."""

    path: str
    index: int
    kind: QualityKind

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))


@dataclass(frozen=True)
class Scene:
    """One image of any size.

    Attributes:
        name: Name of the scene, used in the names of its maps.
        grid: Grid of the scene; channels on other grids are warped to it.
        channels: One per frame and band, time-major.
        quality: One quality layer per frame, or none.
        dates: One date per frame, ``None`` where unknown.
        origin: Text that lists the stored band of each channel.
        members: In place of `channels`: the scenes of one date that each frame consists of.
        combine: How: ``median`` of their clear pixels, a composite; or the ``first`` with a clear pixel, a mosaic.
        frames: The input paths, see `SceneInput`.
    """

    name: str
    grid: Grid
    channels: tuple[BandFile, ...]
    quality: tuple[QualityFile, ...] = ()
    dates: tuple[date | None, ...] = ()
    origin: str = ""
    members: tuple[tuple["Scene", ...], ...] = ()
    combine: Literal["median", "first"] = "median"
    frames: tuple[str, ...] = field(default=(), repr=False)  # pixels do not depend on it

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the scene, without repetition."""
        paths = [channel.path for channel in self.channels] + [layer.path for layer in self.quality]
        paths += [path for frame in self.members for member in frame for path in member.files]
        return tuple(dict.fromkeys(paths))

    @property
    def timestamps(self) -> NDArray[np.float32] | None:
        """Year and day of year 1..366 of each frame (T, 2); ``None`` unless all dates are known."""
        days = [(day.year, day.timetuple().tm_yday) for day in self.dates if day is not None]
        return np.array(days, np.float32) if days and len(days) == len(self.dates) else None


@dataclass(frozen=True)
class Pixels:
    """A part of a scene.

    Attributes:
        values: (T*C, h, w) in the unit of the statistics; nodata is filled with the band's mean.
        valid: (T*C, h, w), true where a value is data.
        masked: (h, w), true where the map is nodata.
        meaningless: Number of values that are not finite or beyond 1e30 without a nodata tag that explains them.
    """

    values: Array
    valid: Mask
    masked: Mask
    meaningless: int = 0


@dataclass(frozen=True)
class StoredPixels:
    """A part of a scene in stored values, before scaling.

    Attributes:
        values: (T*C, h, w) in their stored type; float32 if they were resampled.
        valid: (T*C, h, w), true where a value is data; ``None`` if all values are.
        masked: (h, w), true where the map is nodata; ``None`` if no pixel is.
        scalings: Scale and offset of each channel, see `apply_scaling`.
        fill: Whether nodata is filled with the band's mean; false with ``nodata_rule: legacy``.
        meaningless: See `Pixels`.
    """

    values: NDArray[Any]
    valid: Mask | None
    masked: Mask | None
    scalings: tuple[Scaling, ...]
    fill: bool = True
    meaningless: int = 0

    def in_unit(self, mean: Sequence[float]) -> Pixels:
        """Scale to the unit of the statistics, and fill nodata with `mean` (T*C,); may overwrite `values`."""
        values = self.values.astype(np.float32, copy=False)
        apply_scaling(values, self.scalings)
        valid = np.ones(values.shape, bool) if self.valid is None else self.valid
        if self.fill and self.valid is not None:
            for band, holds_data, middle in zip(values, self.valid, mean, strict=True):
                if not holds_data.all():
                    np.copyto(band, np.float32(middle), where=~holds_data)
        masked = np.zeros(values.shape[1:], bool) if self.masked is None else self.masked
        return Pixels(values, valid, masked, self.meaningless)


def _clear(pixels: Pixels) -> Array:
    """Values (C, h, w), NaN where they are not data."""
    return np.where(pixels.valid, pixels.values, np.float32("nan"))


def _median(parts: Iterable[Array]) -> Array:
    """The median of the clear values at each pixel (C, h, w)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that are never clear
        median: Array = np.nanmedian(np.stack(list(parts)), axis=0)
    return median


def _first(parts: Iterable[Array]) -> Array:
    """The first clear value at each pixel (C, h, w); parts are read until all pixels have one."""
    merged: Array | None = None
    for part in parts:
        merged = part if merged is None else np.where(np.isnan(merged), part, merged)
        if not np.isnan(merged).any():
            break
    assert merged is not None
    return merged


class SceneReader:
    """Reads parts of a scene and keeps its files open. Not safe to share between threads.

    Args:
        scene: Scene to read.
        spec: Statistics that the model expects.
        nodata_rule: When a pixel of the map is nodata.
        qa_mask: Quality classes that count as nodata.

    Raises:
        DataError: A file cannot be opened.
    """

    @accepts_old_arguments
    def __init__(
        self,
        scene: Scene,
        spec: InputSpec,
        nodata_rule: NodataRule = "all",
        qa_mask: Sequence[QualityClass] = (),
    ) -> None:
        self.scene = scene
        self.spec = spec
        self.nodata_rule = nodata_rule
        self.qa_mask = tuple(qa_mask)
        self._groups: dict[BandFile, list[int]] = {}  # channels of one file, read together
        for k, channel in enumerate(scene.channels):
            self._groups.setdefault(replace(channel, index=0, scale=1, offset=0), []).append(k)
        self._scalings = [Scaling(channel.scale, channel.offset) for channel in scene.channels]
        self._stack = ExitStack()
        self._sources: dict[str, DatasetReader] = {}
        self._warps: dict[Hashable, GridReader] = {}
        self._file_grids: dict[
            str, tuple[Grid, bool]
        ] = {}  # grid of each file; whether it equals the scene's
        self._members = [
            [
                SceneReader(replace(member, grid=scene.grid), spec.frame(number), qa_mask=qa_mask)
                for member in frame
            ]
            for number, frame in enumerate(scene.members)
        ]
        try:
            pixels = [channel.path for channel in scene.channels]
            for path in dict.fromkeys([*pixels, *(layer.path for layer in scene.quality if qa_mask)]):
                self._sources[path] = self._stack.enter_context(open_raster(path))
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
        """Number of rows in a block of the files; at least one."""
        grid = self.scene.grid
        heights = [reader.block_rows for frame in self._members for reader in frame]
        heights += [source.block_shapes[0][0] for source in self._sources.values() if Grid.of(source) == grid]
        return max(heights, default=256)

    def overview(self, side: int) -> Pixels:
        """Read the whole scene, decimated so that no side is longer than `side` pixels.

        Raises:
            DataError: A block cannot be read.
        """
        grid = self.scene.grid
        factor = max(1.0, max(grid.height, grid.width) / side)
        shape = (max(1, round(grid.height / factor)), max(1, round(grid.width / factor)))
        return self._read(Window(0, 0, grid.width, grid.height), shape)

    def read(self, top: int, bottom: int, left: int = 0, right: int | None = None, factor: int = 1) -> Pixels:
        """Read rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of the scene's grid.

        With `factor`, the read is decimated by that factor in both directions, from the files' overviews if there
        are any.

        Raises:
            DataError: A block cannot be read.
        """
        right = self.scene.grid.width if right is None else right
        shape = (math.ceil((bottom - top) / factor), math.ceil((right - left) / factor))
        return self._read(Window(left, top, right - left, bottom - top), shape)

    def read_stored(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> StoredPixels:
        """Read rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of the scene's grid, without scaling.

        Raises:
            DataError: A block cannot be read.
        """
        size = (bottom - top, (self.scene.grid.width if right is None else right) - left)
        return self._read_stored(Window(left, top, size[1], size[0]), size)

    def _read(self, window: Window, size: tuple[int, int]) -> Pixels:
        return self._read_stored(window, size).in_unit(self.spec.channel_mean)

    def _read_stored(self, window: Window, size: tuple[int, int]) -> StoredPixels:
        if self._members:
            return self._combined(window, size)
        channels = self.scene.channels
        parts = [
            self._bands(file, tuple(channels[k].index for k in held), window, size)
            for file, held in self._groups.items()
        ]
        values, valid = parts[0].values, parts[0].valid
        if len(parts) > 1:
            stored = np.result_type(*(part.values for part in parts))
            values, valid = (np.empty((len(channels), *size), kind) for kind in (stored, bool))
            for part, held in zip(parts, self._groups.values(), strict=True):
                values[held], valid[held] = part.values, part.valid
        if values.dtype.itemsize > _STORED_BYTES:
            with np.errstate(over="ignore"):  # values beyond the range of float32 are never valid
                values = values.astype(np.float32)
        frames = np.split(valid, self.spec.num_frames)
        for frame, layer in zip(frames, self._quality(window, size), strict=False):
            frame &= ~layer
        legacy = self.nodata_rule == "legacy"
        masked: Mask | None
        if legacy:
            values = legacy_values(values.astype(np.float32, copy=False), self.spec)
            masked = self._tagged(window, size)
        else:
            masked = None if valid.all() else self._masked(valid)
        meaningless = sum(part.meaningless for part in parts)
        holes = valid if legacy or masked is not None else None
        return StoredPixels(values, holes, masked, tuple(self._scalings), not legacy, meaningless)

    def _masked(self, valid: Mask) -> Mask:
        needed = np.logical_and if self.nodata_rule == "any" else np.logical_or
        masked: Mask = ~needed.reduce(valid, axis=0)
        return masked

    def _combined(self, window: Window, size: tuple[int, int]) -> StoredPixels:
        combine = _median if self.scene.combine == "median" else _first
        values = np.concatenate(
            [combine(_clear(member._read(window, size)) for member in members) for members in self._members]
        )
        valid = np.isfinite(values)
        scalings = (Scaling(1.0),) * len(values)
        if valid.all():
            return StoredPixels(values, None, None, scalings)
        return StoredPixels(values, valid, self._masked(valid), scalings)

    def _quality(self, window: Window, size: tuple[int, int]) -> list[Mask]:
        if not self.qa_mask:
            return []
        if not self.scene.quality:
            raise DataError(
                f"{self.scene.files[0]}: has no quality layer (Fmask, SCL), which qa_mask {self.qa_mask[0]} needs"
            )
        layers = []
        for part in self.scene.quality:
            layer = self._quality_layer(part, window, size)
            layers.append(flagged(layer, part.kind, self.qa_mask))
        return layers

    def _tagged(self, window: Window, size: tuple[int, int]) -> Mask:
        """Pixels where any band of any file equals its nodata tag, the rule of hls-foundation-os."""
        masked = np.zeros(size, bool)
        for path in dict.fromkeys(channel.path for channel in self.scene.channels):
            source = self._sources[path]

            def read(window: Window, size: tuple[int, int], source: DatasetReader = source) -> Warped:
                tagged = tag_mask(source, window, size)[None]
                return Warped(tagged.astype(np.float32), np.ones(tagged.shape, bool))

            part = self._on_grid(("tag", path), source, read, 1, Resampling.nearest, window, size)
            masked |= part.values[0] == 1
        return masked

    def _bands(
        self, file: BandFile, indexes: tuple[int, ...], window: Window, size: tuple[int, int]
    ) -> Bands | Warped:
        source = self._sources[file.path]

        def read(window: Window, size: tuple[int, int]) -> Bands:
            return read_stored(
                source, indexes, file.nodata, window, size, file.alpha, self.nodata_rule == "legacy"
            )

        def read_floats(window: Window, size: tuple[int, int]) -> Bands:
            return as_floats(read(window, size))

        if self._file_grid(source)[1]:
            return read(window, size)
        return self._on_grid(
            (file, indexes), source, read_floats, len(indexes), Resampling.bilinear, window, size
        )

    def _quality_layer(self, part: QualityFile, window: Window, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Classes of a quality layer (h, w), 255 outside it."""
        source = self._sources[part.path]

        def read(window: Window, size: tuple[int, int]) -> Warped:
            with reading(part.path):
                layer = source.read([part.index], window=window, out_shape=(1, *size))
            return Warped(layer, np.ones(layer.shape, bool))

        found = self._on_grid(("quality", part), source, read, 1, Resampling.nearest, window, size)
        return np.where(found.valid[0], found.values[0], 255).astype(np.uint8)

    def _on_grid(
        self,
        key: Hashable,
        source: DatasetReader,
        read: ReadWindow,
        channels: int,
        resampling: Resampling,
        window: Window,
        size: tuple[int, int],
    ) -> Any:
        """Read a window of the scene's grid through `read`, warped if needed; `key` identifies the cached warp."""
        grid, same = self._file_grid(source)
        if same:
            return read(window, size)
        if grid.is_turned(self.scene.grid):  # nearest neighbour, so that pixels keep their values and labels
            resampling = Resampling.nearest
        if key not in self._warps:
            self._warps[key] = GridReader(grid, self.scene.grid, read, channels, resampling=resampling)
        return self._warps[key].read(window, size)

    def _file_grid(self, source: DatasetReader) -> tuple[Grid, bool]:
        """The grid of a file, and whether it equals that of the scene."""
        grid = self.scene.grid
        if source.name not in self._file_grids:
            of_file = Grid.of(source)
            same_size = (of_file.height, of_file.width) == (grid.height, grid.width)
            same = same_size and (
                of_file.crs is grid.crs is None
                or (of_file.has_pixels_of(grid) and of_file.bounds == grid.bounds)
            )
            self._file_grids[source.name] = of_file, same
        return self._file_grids[source.name]
