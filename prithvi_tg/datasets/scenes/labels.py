"""Labels of scenes: rasters and polygons as TorchGeo data sets, to be joined to images with ``images & labels``."""

import abc
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio.crs
import shapely
import torch
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.windows import Window
from torchgeo.datasets import GeoDataset, RasterDataset, VectorDataset
from torchgeo.datasets.utils import disambiguate_timestamp

from ...compat import place_of
from ...errors import ConfigError, DataError
from ...readers.grid import Grid
from ...readers.labels import check_label_raster, read_labels
from ...readers.raster import open_raster, reading
from ...readers.warp import GridReader, Warped
from ...targets import IGNORE_INDEX
from .footprints import Roi, move_to, outline
from .geo_index import GeoIndex

Labels = NDArray[np.int64]
Paths = str | Path | Iterable[str | Path]
Transform = Callable[[dict[str, Any]], dict[str, Any]]

_OPEN_FILES = 128
_ADVICE = "add it to classes, or to ignored_labels if it means not labelled"


class _LabelDataset(GeoDataset):
    """What rasters and polygons share: files and their dates, the window of a geo-slice, the sample."""

    suffixes: tuple[str, ...]  # of the files that are looked for in a folder
    filename_regex: str
    date_format: str
    transforms: Transform | None
    _roi: Roi | None = None

    def clip_to(self, images: GeoDataset) -> None:
        """Keep what lies under some images, and follow edges to a fraction of their pixels.

        Call it before labels are joined to images in another CRS. Without it, labels are kept in the area of use
        of that CRS.
        """
        if images.crs is not None:
            self._roi = Roi.of(images)

    def _find(self, paths: Paths) -> list[str]:
        """Files in the order given, those of a folder sorted by name."""
        found: list[str] = []
        for path in [paths] if isinstance(paths, str | Path) else paths:
            if not Path(path).is_dir():
                found.append(str(path))
                continue
            inside = sorted(str(file) for file in Path(path).rglob(self.filename_glob) if self._is_ours(file))
            if not inside:
                raise DataError(f"{path}: contains no label files ({', '.join(self.suffixes)})")
            found += inside
        if not found:
            raise DataError("paths: empty; give label files or folders of them")
        return list(dict.fromkeys(found))

    def _is_ours(self, file: Path) -> bool:
        named = re.match(self.filename_regex, file.name, re.VERBOSE)
        return file.suffix.lower() in self.suffixes and named is not None

    def _period(self, path: str) -> tuple[Any, Any]:
        """From when to when the labels of a file hold."""
        match = re.match(self.filename_regex, Path(path).name, re.VERBOSE)
        groups = match.groupdict() if match else {}
        start, stop = (groups.get(key) or groups.get("date") for key in ("start", "stop"))
        try:
            if match is None:
                raise ValueError("does not match " + "".join(self.filename_regex.split()))
            if not start or not stop:
                return pd.Timestamp.min, pd.Timestamp.max
            first, last = (disambiguate_timestamp(day, self.date_format) for day in (start, stop))
        except ValueError as error:
            raise DataError(f"{path}: its name does not contain the date of the labels ({error})") from error
        return first[0], last[1]

    @abc.abstractmethod
    def _lay_out(self, crs: CRS) -> Sequence[Any]:
        """Move the labels to a CRS; return the outline of those of each file, empty where no image is near."""

    @abc.abstractmethod
    def _labels(self, grid: Grid, files: Sequence[int]) -> Labels:
        """Labels of a window (H, W) from some of the files."""

    def _build_index(self, crs: Any) -> None:
        crs = CRS.from_user_input(crs)
        periods = [self._period(path) for path in self.files]
        outlines = list(self._lay_out(crs))
        if self._roi is None:
            for path, outline in zip(self.files, outlines, strict=True):
                if outline.is_empty:
                    raise DataError(f"{path}: lies outside the area where {crs.name} is defined")
        self.index = GeoDataFrame(
            {"filepath": self.files},
            index=pd.IntervalIndex.from_tuples(periods, closed="both", name="datetime"),
            geometry=outlines,
            crs=crs,
        )
        self._crs = self.index.crs  # GeoPandas takes long to tell it
        self._raster_crs = rasterio.crs.CRS.from_user_input(crs)
        self._geo_index = GeoIndex()

    @property
    def files(self) -> list[str]:
        """Every file, in the order in which they are used."""
        return list(self.paths)  # type: ignore[arg-type]

    @property
    def crs(self) -> CRS:
        """CRS of queries; TorchGeo sets it to that of the images."""
        return self._crs

    @crs.setter
    def crs(self, new_crs: CRS | None) -> None:
        if new_crs is None:
            raise DataError(f"{self.files[0]}: labels cannot be aligned with images that have no CRS")
        if new_crs != self.crs:
            self._build_index(new_crs)

    def __getitem__(self, query: Any) -> dict[str, Any]:
        """The labels of a geo-slice, on exactly its pixels.

        Raises:
            IndexError: No file has labels of that place and time.
            DataError: A file cannot be read, or holds a value that no class names.
        """
        x, y, t = self._geo_index.resolve(self, query)
        if not (x.step and y.step):
            raise ConfigError(f"res: {self.files[0]} has no pixel size; set res, or combine it with images")
        # Bounding boxes, since samplers draw windows from those: not every window meets the outline itself.
        hits = self._geo_index.hits(self.index, x, y, t)
        if not hits:
            raise IndexError(f"query: {query} lies outside {self.files[0]} with bounds {self.bounds}")
        grid = Grid(
            self._raster_crs,
            Affine(x.step, 0, x.start, 0, -y.step, y.stop),
            round((y.stop - y.start) / y.step),
            round((x.stop - x.start) / x.step),
        )
        sample = {"mask": torch.from_numpy(self._labels(grid, hits)), **place_of(self, (x, y, t))}
        return sample if self.transforms is None else self.transforms(sample)


class LabelRaster(_LabelDataset, RasterDataset):
    """Rasters of labels, in any CRS and resolution.

    A sample holds ``mask`` int64 (H, W) on the pixels of the query, by nearest neighbour, ``bounds`` and
    ``crs``. Pixels without a label, also beyond the files, are 255. Later files fill what earlier ones leave
    unlabelled; so name several files here, and do not join data sets by TorchGeo's ``|``, where 255 wins.

    A subclass may set TorchGeo's ``filename_regex`` and ``date_format``; then only files of the images' time
    are used.

    Args:
        paths: Rasters of one band, or folders that hold them (``.tif``, ``.tiff``, ``.vrt``, ``.img``).
        classes: Class number, from 0, of each stored value; ``None`` for values that are no label, as the
            file's nodata tag always is.
        transforms: Called with each sample.

    Raises:
        ConfigError: `classes` holds something else than numbers.
        DataError: A file is missing, unreadable, has no CRS or more than one band, or no date in its name
            where there should be one.
    """

    is_image = False
    suffixes = (".tif", ".tiff", ".vrt", ".img")

    def __init__(
        self, paths: Paths, classes: Mapping[int, int | None], transforms: Transform | None = None
    ) -> None:
        _check_classes(classes)
        for value in classes:
            if not isinstance(value, Real):
                raise ConfigError(f"classes: {value!r} is not a raster value; give numbers as stored")
        self._known = np.array(sorted(classes), np.float64)
        numbers = [classes[value] for value in sorted(classes)]
        self._numbers = np.array([IGNORE_INDEX if number is None else number for number in numbers])
        self.transforms = transforms
        self.paths = self._find(paths)
        self._sources: dict[int, dict[str, DatasetReader]] = {}
        self._grids: list[Grid] = []
        for path in self.files:
            with open_raster(path) as source:
                grid = Grid.of(source)
                if not grid.is_placed:
                    raise DataError(f"{path}: has no CRS; give it one (gdal_edit -a_srs)")
                check_label_raster(source, path, lambda value: _shown_class(classes, value))
                self._grids.append(grid)
        self._build_index(self._grids[0].ground_crs)
        first = self._grids[0].north_up().transform
        self._res = (first.a, -first.e)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sources": {}}

    def _lay_out(self, crs: CRS) -> Sequence[Any]:
        return [
            move_to([outline(grid)], CRS.from_user_input(grid.ground_crs), crs, self._roi, path)[0]
            for path, grid in zip(self.files, self._grids, strict=True)
        ]

    def _labels(self, grid: Grid, files: Sequence[int]) -> Labels:
        labels = np.full((grid.height, grid.width), IGNORE_INDEX, np.int64)
        for number in files:
            unlabelled = labels == IGNORE_INDEX
            if unlabelled.any():
                path = self.files[number]
                np.copyto(labels, self._to_classes(path, self._read(path, grid)), where=unlabelled)
        return labels

    def _read(self, path: str, grid: Grid) -> NDArray[np.float64]:
        """Stored labels on a grid, NaN where there is none."""
        source = self._source(path)

        def read(window: Window, size: tuple[int, int]) -> Warped:
            stored, labelled = read_labels(source, path, window, size)
            return Warped(stored[None], labelled[None])

        found = np.full((grid.height, grid.width), np.nan)
        for turned in _turned(Grid.of(source)):
            reader = GridReader(turned, grid, read, 1, "float64", Resampling.nearest)
            values, labelled, _ = reader.read(Window(0, 0, grid.width, grid.height), found.shape)
            np.copyto(found, values[0], where=labelled[0] & np.isnan(found))
        return found

    def _source(self, path: str) -> DatasetReader:
        # By process: a file opened before a fork is the parent's.
        mine = self._sources.setdefault(os.getpid(), {})
        if path not in mine:
            while len(mine) >= _OPEN_FILES:
                mine.pop(next(iter(mine))).close()
            with reading(path):
                mine[path] = rasterio.open(path)
        return mine[path]

    def _to_classes(self, path: str, stored: NDArray[np.float64]) -> Labels:
        moved = ~np.isnan(stored)
        values = stored[moved]
        at = np.searchsorted(self._known, values).clip(max=len(self._known) - 1)
        unknown = values[self._known[at] != values]
        if unknown.size:
            counts = Counter(unknown.tolist())
            held = _some(f"{value:g} ({count} pixels)" for value, count in counts.most_common())
            known = _some(f"{value:g}" for value in self._known)
            raise DataError(f"{path}: holds {held}, which is not in classes; known are {known}; {_ADVICE}")
        labels = np.full(stored.shape, IGNORE_INDEX, np.int64)
        labels[moved] = self._numbers[at]
        return labels


class LabelPolygons(_LabelDataset, VectorDataset):
    """Polygons of labels, drawn on the pixels of each query.

    A sample holds ``mask`` int64 (H, W), ``bounds`` and ``crs``. A pixel has the class of the polygon that
    its centre lies in; where polygons overlap, that of the later one, in the order of files and of features
    in a file. Pixels in no polygon are 255.

    A subclass may set TorchGeo's ``filename_regex`` and ``date_format``; then only files of the images' time
    are used.

    Args:
        paths: GeoPackages, GeoJSON or Shapefiles, or folders that hold them (``.gpkg``, ``.geojson``, ``.shp``).
        attribute: Column that tells the class; ``None`` where every polygon is of one class.
        classes: Class number, from 0, of each value of the attribute; ``None`` for polygons that are no label
            and blot out those before them. Without an attribute, the class number.
        all_touched: Draw every pixel that a polygon touches, not only those whose centre it holds.
        layer: Layer of the files; the first by default.
        res: Side of a pixel in units of the first file's CRS; as the images where they are combined with some.
        transforms: Called with each sample.

    Raises:
        ConfigError: `classes` holds something else than numbers, or does not fit `attribute`.
        DataError: A file is missing, unreadable, has no CRS, not the attribute, or a value of it that no class
            names; or holds nothing, an empty polygon, or points and lines.
    """

    suffixes = (".gpkg", ".geojson", ".shp")

    def __init__(
        self,
        paths: Paths,
        attribute: str | None,
        classes: Mapping[str | int, int | None] | int,
        all_touched: bool = False,
        layer: str | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Transform | None = None,
    ) -> None:
        _check_classes(classes if isinstance(classes, Mapping) else {"": classes})
        if isinstance(classes, Mapping) == (attribute is None):
            fit = "one class number" if attribute is None else "a class number for each of its values"
            raise ConfigError(f"classes: {classes!r} does not match attribute {attribute!r}; give {fit}")
        self.label_name = attribute
        self.classes = classes
        self.all_touched = all_touched
        self.layer = layer
        self.transforms = transforms
        self.paths = self._find(paths)
        self._parts = [self._load(path) for path in self.files]
        self._build_index(self._parts[0].crs)
        if res is not None:
            self._res = res if isinstance(res, tuple) else (res, res)

    def _load(self, path: str) -> GeoDataFrame:
        """Polygons of a file and the class number of each, in the file's CRS."""
        try:
            frame = gpd.read_file(path, layer=self.layer)
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{path}: not a readable polygon file ({error})") from error
        if not isinstance(frame, GeoDataFrame) or frame.empty:
            raise DataError(f"{path}: contains no polygons")
        if frame.crs is None:
            raise DataError(f"{path}: has no CRS; give it one (ogr2ogr -a_srs)")
        empty = (frame.geometry.isna() | frame.geometry.is_empty).to_numpy()
        if empty.any():
            first = empty.argmax() + 1
            raise DataError(
                f"{path}: {empty.sum()} of {len(frame)} polygons are empty, first feature {first}"
            )
        others = set(frame.geom_type) - {"Polygon", "MultiPolygon"}
        if others:
            raise DataError(f"{path}: holds {_some(sorted(others))}; labels must be polygons")
        numbers = [IGNORE_INDEX if number is None else number for number in self._class_numbers(path, frame)]
        return GeoDataFrame({"number": numbers}, geometry=frame.geometry.to_numpy(), crs=frame.crs)

    def _class_numbers(self, path: str, frame: GeoDataFrame) -> list[int | None]:
        if not isinstance(self.classes, Mapping):
            return [self.classes] * len(frame)
        columns = frame.columns.drop(frame.geometry.name)
        if self.label_name not in columns:
            raise DataError(f"{path}: has no attribute {self.label_name!r}; it has {_some(columns)}")
        values = frame[self.label_name].tolist()
        counts = Counter(repr(value) for value in values if value not in self.classes)
        if counts:
            held = _some(f"{value} ({count} polygons)" for value, count in counts.most_common())
            known = _some(map(repr, self.classes))
            raise DataError(
                f"{path}: {self.label_name} is {held}, which is not in classes; known are {known}; {_ADVICE}"
            )
        return [self.classes[value] for value in values]

    def _lay_out(self, crs: CRS) -> Sequence[Any]:
        parts, outlines = [], []
        for number, (path, part) in enumerate(zip(self.files, self._parts, strict=True)):
            moved = move_to(part.geometry.to_numpy(), part.crs, crs, self._roi, path)
            found = GeoDataFrame({"number": part["number"], "file": number}, geometry=moved, crs=crs)
            parts.append(found[~found.is_empty])
            outlines.append(shapely.box(*parts[-1].total_bounds) if len(parts[-1]) else shapely.Polygon())
        self._polygons = pd.concat(parts, ignore_index=True)
        return outlines

    def _labels(self, grid: Grid, files: Sequence[int]) -> Labels:
        found = self._polygons.iloc[np.sort(self._polygons.sindex.query(shapely.box(*grid.bounds)))]
        found = found[found["file"].isin(files)]
        shape = (grid.height, grid.width)
        if found.empty:
            return np.full(shape, IGNORE_INDEX, np.int64)
        drawn = rasterize(
            zip(found.geometry, found["number"], strict=True),
            shape,
            fill=IGNORE_INDEX,
            transform=grid.transform,
            all_touched=self.all_touched,
            dtype="uint8",
        )
        return drawn.astype(np.int64)


def _check_classes(classes: Mapping[Any, int | None]) -> None:
    if not classes:
        raise ConfigError("classes: empty; give a class number, from 0, for each value")
    for value, number in classes.items():
        if number is not None and number not in range(IGNORE_INDEX):
            raise ConfigError(
                f"classes: {number!r} of {value!r} is not a class number; give 0 to {IGNORE_INDEX - 1}, "
                "or null for no label"
            )


def _turned(own: Grid) -> list[Grid]:
    """A raster's grid, and those a turn around the globe away where it counts beyond 180 degrees."""
    turns = [0.0]
    if own.crs is not None and own.crs.is_geographic:
        left, _, right, _ = own.bounds
        turns += [-360.0] * (right > 180) + [360.0] * (left < -180)
    t = own.transform
    return [replace(own, transform=Affine(t.a, t.b, t.c + turn, t.d, t.e, t.f)) for turn in turns]


def _shown_class(classes: Mapping[int, int | None], value: int) -> str | None:
    number = classes.get(value)
    return None if number is None else f"class {number}"


def _some(words: Iterable[str], most: int = 12) -> str:
    """The first of some words, in a line."""
    listed = list(words)
    more = [f"{len(listed) - most} more"] if len(listed) > most else []
    return ", ".join(listed[:most] + more)
