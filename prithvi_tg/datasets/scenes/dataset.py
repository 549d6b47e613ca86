"""SceneDataset: scenes as a TorchGeo `RasterDataset`, read by windows."""

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import shapely
import torch
from geopandas import GeoDataFrame
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform_bounds
from torchgeo.datasets import RasterDataset

from ...compat import place_of
from ...deprecated import accepts_old_arguments
from ...errors import DataError
from ...readers.formats import InputOptions, find_inputs, resolve_scene
from ...readers.grid import Grid
from ...readers.quality import QualityClass
from ...readers.raster import band_descriptions, data_bands, open_raster
from ...readers.scene import NodataRule, Pixels, Scene, SceneReader
from ...spec import InputSpec
from .composites import TemporalComposite, compose_frames
from .footprints import move, outline
from .geo_index import GeoIndex

_OPEN_SCENES = 64
#: Overlap of scenes of the same ground, as a share of the smaller one.
SAME_GROUND = 0.2  # neighbouring tiles of Sentinel-2 and HLS overlap by a tenth


class SceneDataset(RasterDataset):
    """Scenes as a TorchGeo `RasterDataset`, indexed by geo-slice; combines with any geo-sampler and ``&`` labels.

    A sample contains:

    * ``image``: float32 (T, C, H, W) in the unit of the statistics;
    * ``valid``: bool (T, C, H, W), true where a value is data; false where no scene covers the pixel;
    * ``masked``: bool (H, W), pixels that are nodata in a map;
    * ``meaningless``: int64 (1,), number of values of the image that are not finite or beyond 1e30;
    * ``bounds`` and ``crs``;
    * ``timestamps`` (T, 2) and ``location`` (2,), for models trained with them.

    The index has one period per scene, from its first to its last date. A query whose time equals one of these
    periods reads only the scenes of that period; any other query reads all scenes whose period it overlaps. Scenes
    with the same dates form a mosaic with one period; where scenes overlap, the first one in the list with data is
    used. Scenes that overlap by more than a fifth of their area are not combined: each gets its own period,
    which ends one microsecond before that of the previous scene.

    The grid is that of the first scene, north up. A flipped or rotated scene, or one georeferenced only by ground
    control points, is resampled to a north-up grid with the same pixel size, by nearest neighbour. Scenes on another
    grid are warped to the first scene's grid. If `crs` or `res` is set, as TorchGeo's intersections do, all
    scenes are warped. Each process opens a file when it first reads it.

    Args:
        scenes: One or several scenes; `open` and `resolve_scene` create them from any input.
        spec: Bands, units and statistics that the model expects.
        nodata_rule: When a pixel of a map is nodata.
        qa_mask: Quality classes that count as nodata.
        transforms: Called with each sample.

    Raises:
        DataError: `scenes` is empty, or one of several scenes has no georeference.
    """

    is_image = True

    @accepts_old_arguments
    def __init__(
        self,
        scenes: Scene | Sequence[Scene],
        spec: InputSpec,
        nodata_rule: NodataRule = "all",
        qa_mask: Sequence[QualityClass] = (),
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.scenes = [scenes] if isinstance(scenes, Scene) else list(scenes)
        if not self.scenes:
            raise DataError("scenes: empty; name rasters, granules or folders of them")
        if len(self.scenes) > 1:
            for scene in self.scenes:
                if not scene.grid.is_placed:
                    raise DataError(
                        f"{scene.files[0]}: has no georeference, so it cannot be combined with other scenes"
                    )
        self.spec = spec
        self.nodata_rule = nodata_rule
        self.qa_mask = tuple(qa_mask)
        self.paths = [path for scene in self.scenes for path in scene.files]
        self.bands = spec.bands
        self.all_bands = spec.bands
        self.transforms = transforms
        self.cache = True
        self._readers: dict[tuple[int, int], SceneReader] = {}  # by process id and scene number
        self._geo_index = GeoIndex()
        self._outlines = [(scene.grid.ground_crs, outline(scene.grid)) for scene in self.scenes]
        self.scenes = [replace(scene, grid=scene.grid.north_up()) for scene in self.scenes]
        grid = self.scenes[0].grid
        self._corner = (grid.transform.c, grid.transform.f)
        self._res = (abs(grid.transform.a), abs(grid.transform.e))
        outlines = self._outlines_in(grid.crs)
        self.index = GeoDataFrame(
            {"filepath": [scene.files[0] for scene in self.scenes]},
            index=pd.IntervalIndex(_periods(self.scenes, outlines), closed="both", name="datetime"),
            geometry=outlines,
            crs=grid.crs,
        )
        self._keep_crs()

    @classmethod
    @accepts_old_arguments
    def open(
        cls,
        paths: str | Path | Sequence[str | Path],
        spec: InputSpec,
        options: InputOptions | None = None,
        composite: TemporalComposite | None = None,
        nodata_rule: NodataRule = "all",
        qa_mask: Sequence[QualityClass] = (),
    ) -> "SceneDataset":
        """Open rasters, HLS S30 and L30 granules, Sentinel-2 products, or folders of them.

        Args:
            paths: Paths or patterns, see `find_inputs`.
            spec: Bands, units and statistics that the model expects.
            options: How to read the files.
            composite: How to build the frames of one image from many dates.
            nodata_rule: When a pixel of a map is nodata.
            qa_mask: Quality classes that count as nodata.

        Raises:
            DataError: No input is found, or a file lacks bands that the model needs.
            ConfigError: The options do not match the model.
        """
        words = [paths] if isinstance(paths, str | Path) else paths
        inputs = find_inputs(words, 1 if composite else spec.num_frames, options.format if options else None)
        if composite is not None:
            return cls(compose_frames(inputs, spec, composite, options, qa_mask), spec, nodata_rule, qa_mask)
        return cls([resolve_scene(found, spec, options) for found in inputs], spec, nodata_rule, qa_mask)

    def _outlines_in(self, crs: CRS | None) -> list[Any]:
        """Footprint of each scene in a CRS."""
        if crs is None:
            return [footprint for _, footprint in self._outlines]
        target = pyproj.CRS.from_user_input(crs)
        moved = []
        for (crs_of_scene, footprint), scene in zip(self._outlines, self.scenes, strict=True):
            (moved_outline,) = move(
                [footprint], pyproj.CRS.from_user_input(crs_of_scene), target, min(self._res)
            )
            if not np.isfinite(moved_outline.bounds).all():
                raise DataError(
                    f"{scene.files[0]}: lies outside the area where {target.name}, the CRS of "
                    f"{self.scenes[0].files[0]}, is defined; they cannot be combined"
                )
            moved.append(moved_outline)
        return moved

    @staticmethod
    def _bounds_in(grid: Grid, crs: CRS | None) -> tuple[float, float, float, float]:
        if grid.crs is None or crs is None or grid.crs == crs:
            return grid.bounds
        left, bottom, right, top = transform_bounds(grid.crs, crs, *grid.bounds)
        return left, bottom, right, top

    @property
    def crs(self) -> Any:
        """CRS of queries; TorchGeo sets it."""
        return self._crs

    @crs.setter
    def crs(self, new_crs: Any) -> None:
        if new_crs != self._crs:
            self.index = self.index.to_crs(new_crs)
            self._keep_crs()

    def _keep_crs(self) -> None:
        # Looking up the CRS of a GeoDataFrame takes as long as reading a window.
        self._crs = self.index.crs
        self._raster_crs = None if self._crs is None else CRS.from_user_input(self._crs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}

    @property
    def grid(self) -> Grid:
        """All pixels of the dataset, as one grid."""
        first = self.scenes[0].grid
        crs = self._raster_crs
        if (
            len(self.scenes) == 1
            and crs == first.crs
            and self._res == (abs(first.transform.a), abs(first.transform.e))
        ):
            return first
        return self._around(tuple(self.index.total_bounds), crs)

    def stored_bands(self) -> dict[str, Any]:
        """Attributes of `InputSpec` about the files: ``file_bands``, ``file_count`` and ``file_descriptions``.

        Empty unless each scene is one file, and all files have the bands in the same places. The number of bands and
        their descriptions are those of the first file.
        """
        places = {tuple(channel.index for channel in scene.channels) for scene in self.scenes}
        paths = [{channel.path for channel in scene.channels} for scene in self.scenes]
        if len(places) > 1 or any(len(found) != 1 for found in paths):
            return {}
        (first,) = paths[0]
        with open_raster(first) as source:
            count = data_bands(source, self.spec.file_count)
        return {
            "file_bands": places.pop(), "file_count": count, "file_descriptions": band_descriptions(first),
        }  # fmt: skip

    def _around(self, bounds: Sequence[float], crs: CRS | None) -> Grid:
        """Grid of the pixels that a rectangle touches, aligned with the dataset's pixels."""
        (x, y), (width, height) = self._corner, self._res
        tolerance = 1e-6  # of a pixel, so that rounding errors of coordinates add no pixel
        first = math.floor((bounds[0] - x) / width + tolerance)
        last = math.ceil((bounds[2] - x) / width - tolerance)
        top = math.floor((y - bounds[3]) / height + tolerance)
        bottom = math.ceil((y - bounds[1]) / height - tolerance)
        corner = Affine(width, 0, x + first * width, 0, -height, y - top * height)
        return Grid(crs, corner, bottom - top, last - first)

    def __getitem__(self, query: Any) -> dict[str, Any]:
        """Read the window of a geo-slice.

        Raises:
            IndexError: No scene overlaps the query in space and time.
            DataError: A block cannot be read.
        """
        x, y, t = self._geo_index.resolve(self, query)
        channels = len(self.spec.channel_mean)
        mean = np.asarray(self.spec.channel_mean, np.float32)[:, None, None]
        values: Any = None
        meaningless = 0
        asked = query[2] if isinstance(query, tuple) and len(query) == 3 else slice(None)
        one_period = asked.start is not None and asked.stop is not None
        for number in self._geo_index.hits(self.index, x, y, t, one_period):
            scene = self._on_grid(self.scenes[number])
            window = _window(scene.grid, x, y)
            part = self._read(number, scene, window)
            if part is None:
                continue
            pixels, inside = part
            meaningless += pixels.meaningless
            height, width = window[1] - window[0], window[3] - window[2]
            if values is None and pixels.masked.shape == (height, width):
                values, valid, masked = pixels.values, pixels.valid, pixels.masked
                timestamps = scene.timestamps
                continue
            if values is None:
                values = np.broadcast_to(mean, (channels, height, width)).copy()
                valid, masked = np.zeros(values.shape, bool), np.ones((height, width), bool)
                timestamps = scene.timestamps
            empty = ~valid[:, *inside].any(axis=0)
            for whole, new in ((values, pixels.values), (valid, pixels.valid)):
                np.copyto(whole[:, *inside], new, where=empty)
            np.copyto(masked[inside], pixels.masked, where=empty)
        if values is None:
            raise IndexError(f"query: {query} lies outside {self.scenes[0].name} with bounds {self.bounds}")
        shape = (self.spec.num_frames, len(self.spec.bands), *values.shape[1:])
        sample: dict[str, Any] = {
            "image": torch.from_numpy(values.reshape(shape)),
            "valid": torch.from_numpy(valid.reshape(shape)),
            "masked": torch.from_numpy(masked),
            "meaningless": torch.from_numpy(np.array([meaningless])),
            **place_of(self, (x, y, t)),
        }
        if self.spec.metadata:
            unknown = np.full((self.spec.num_frames, 2), np.nan, np.float32)
            middle = self.grid.row_and_column((x.start + x.stop) / 2, (y.start + y.stop) / 2)
            sample["timestamps"] = torch.from_numpy(unknown if timestamps is None else timestamps)
            place = self.grid.latitudes_and_longitudes(middle[:1], middle[1:])[0]
            sample["location"] = torch.from_numpy(place)
        return sample if self.transforms is None else self.transforms(sample)

    def _on_grid(self, scene: Scene) -> Scene:
        """The scene, with a grid aligned to the dataset's pixels."""
        grid = self.grid
        if grid is scene.grid or scene.grid.has_pixels_of(grid):
            return scene
        return replace(scene, grid=self._around(self._bounds_in(scene.grid, grid.crs), grid.crs))

    def _read(
        self, number: int, scene: Scene, window: tuple[int, int, int, int]
    ) -> tuple[Pixels, tuple[slice, slice]] | None:
        """Pixels of a scene inside a window, and their position in the window."""
        top, bottom, left, right = window
        grid = scene.grid
        inside = (max(0, top), min(grid.height, bottom), max(0, left), min(grid.width, right))
        if inside[0] >= inside[1] or inside[2] >= inside[3]:
            return None
        pixels = self._reader(number, scene).read(*inside)
        return pixels, (slice(inside[0] - top, inside[1] - top), slice(inside[2] - left, inside[3] - left))

    def _reader(self, number: int, scene: Scene) -> SceneReader:
        key = (os.getpid(), number)  # a file opened before a fork belongs to the parent process
        reader = self._readers.get(key)
        # Identity first: comparing two CRS takes a tenth of the time of reading a window.
        if reader is not None and (reader.scene.grid is scene.grid or reader.scene.grid == scene.grid):
            return reader
        if reader is not None:
            self._readers.pop(key).close()
        while len(self._readers) >= _OPEN_SCENES:
            self._readers.pop(next(iter(self._readers))).close()
        self._readers[key] = SceneReader(scene, self.spec, self.nodata_rule, self.qa_mask)
        return self._readers[key]


def _periods(scenes: Sequence[Scene], outlines: Sequence[Any]) -> list[pd.Interval]:
    """One period per scene; scenes that form a mosaic share theirs."""
    mosaics: dict[pd.Interval, list[Any]] = {}
    periods = []
    for scene, footprint in zip(scenes, outlines, strict=True):
        days = [pd.Timestamp(day) for day in scene.dates if day is not None]
        first, last = (min(days), max(days)) if days else (pd.Timestamp.min, pd.Timestamp.max)
        if days:  # to the end of the day, so that labels of a year overlap images of its last day
            last += pd.Timedelta(days=1, microseconds=-1)
        period = pd.Interval(first, last, closed="both")
        while overlap_share(footprint, mosaics.get(period, [])) > SAME_GROUND:
            last -= pd.Timedelta(microseconds=1)
            period = pd.Interval(first, last, closed="both")
        mosaics.setdefault(period, []).append(footprint)
        periods.append(period)
    return periods


def overlap_share(outline: Any, others: Sequence[Any]) -> float:
    """Largest overlap of an outline with any of the others, as a fraction of the smaller area."""
    both = shapely.area(shapely.intersection(outline, list(others)))
    smaller = np.minimum(outline.area, shapely.area(list(others)))
    return float(np.max(both / smaller, initial=0))


def _window(grid: Grid, x: slice, y: slice) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a geo-slice, in pixels of a grid."""
    corners = [grid.row_and_column(x.start, y.start), grid.row_and_column(x.stop, y.stop)]
    (top, left), (bottom, right) = (
        tuple(choose(pair) for pair in zip(*corners, strict=True)) for choose in (min, max)
    )
    off = max(abs(edge - round(edge)) for edge in (top, left))
    if off > 0.02:
        warnings.warn(
            f"query: the window is {off:.2f} pixels off the pixel grid, so image and labels may not align; "
            "use a sampler of prithvi_tg.samplers",
            stacklevel=3,
        )
    height, width = round(bottom - top), round(right - left)
    return round(top), round(top) + height, round(left), round(left) + width
