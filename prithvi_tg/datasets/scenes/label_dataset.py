"""Base classes of label layers: find files, read their dates and grids, read the labels of a geo-slice."""

import abc
import glob
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio.crs
import shapely
import torch
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.windows import Window
from torchgeo.datasets import GeoDataset, RasterDataset
from torchgeo.datasets.utils import disambiguate_timestamp

from ...compat import place_of
from ...errors import ConfigError, DataError, MissingFileError
from ...readers.aoi import AreaOfInterest
from ...readers.grid import Grid
from ...readers.raster import open_raster, reading
from ...readers.warp import GridReader, ReadWindow
from ...readers.words import is_remote, is_subdataset
from .footprints import Roi, move_to, outline
from .geo_index import GeoIndex

Paths = str | Path | Iterable[str | Path]
Transform = Callable[[dict[str, Any]], dict[str, Any]]

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".img")
VECTOR_SUFFIXES = (".gpkg", ".geojson", ".shp")

_OPEN_FILES = 128


def expand_patterns(paths: Paths) -> list[str]:
    """Paths in the given order, each pattern replaced by the files and folders that match it, sorted by name.

    If some matches are label files by their suffix, other files beside them, such as ``.aux.xml``, are left out.

    Raises:
        MissingFileError: Nothing matches a pattern.
    """
    expanded: list[str] = []
    for word in map(str, [paths] if isinstance(paths, str | Path) else paths):
        if not glob.has_magic(word) or Path(word).exists() or is_remote(word) or is_subdataset(word):
            expanded.append(word)
            continue
        matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (the pattern may be absolute)
        if not matches:
            raise MissingFileError.of(word)
        usual = [one for one in matches if Path(one).suffix.lower() in RASTER_SUFFIXES + VECTOR_SUFFIXES]
        expanded += usual or matches
    return expanded


class LabelDataset(GeoDataset):
    """Base class of label layers: finds files and their dates, and returns the sample of a geo-slice."""

    suffixes: tuple[str, ...]  # suffixes of label files in a folder
    filename_regex: str
    date_format: str
    transforms: Transform | None
    _roi: Roi | None = None

    def clip_to(self, images: GeoDataset) -> None:
        """Clip labels to the images, and reproject edges to a fraction of a pixel.

        Call it before combining labels with images in another CRS. By default, labels are clipped to the area of
        use of that CRS.
        """
        if images.crs is not None:
            self._roi = Roi.of(images)

    def _find(self, paths: Paths) -> list[str]:
        """Files in the given order; files of a folder or pattern are sorted by name."""
        files: list[str] = []
        for path in expand_patterns(paths):
            if not Path(path).is_dir():
                if not (Path(path).exists() or is_remote(path) or is_subdataset(path)):
                    raise MissingFileError.of(path)
                files.append(path)
                continue
            inside = sorted(
                str(file) for file in Path(path).rglob(self.filename_glob) if self._is_label_file(file)
            )
            if not inside:
                raise DataError(f"{path}: contains no label files ({', '.join(self.suffixes)})")
            files += inside
        if not files:
            raise DataError("paths: empty; give label files or folders of them")
        return list(dict.fromkeys(files))

    def _is_label_file(self, file: Path) -> bool:
        named = re.match(self.filename_regex, file.name, re.VERBOSE)
        return file.suffix.lower() in self.suffixes and named is not None

    def _period(self, path: str) -> tuple[Any, Any]:
        """First and last time for which the labels of a file are valid."""
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
        """Reproject the labels; return the outline of each file, empty if it is far from all images."""

    @abc.abstractmethod
    def _labels(self, grid: Grid, files: Sequence[int]) -> NDArray[Any]:
        """Labels of a window from the given files: (H, W), or (V, H, W) for several values."""

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
        self._crs = self.index.crs  # stored, since looking it up is slow
        self._raster_crs = rasterio.crs.CRS.from_user_input(crs)
        self._geo_index = GeoIndex()

    @property
    def files(self) -> list[str]:
        """All files, in the order of their use."""
        return list(self.paths)  # type: ignore[arg-type]  # always a list here

    def area(self) -> AreaOfInterest:
        """The area of the outlines of the files."""
        outlines = shapely.union_all(list(self.index.geometry))
        return AreaOfInterest(", ".join(self.files), outlines, self._raster_crs, "labels:")

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
        """Read the labels of a geo-slice on its pixels.

        Raises:
            IndexError: No file overlaps the query in space and time.
            ConfigError: The labels have no pixel size.
            DataError: A file cannot be read, or contains a value that is missing from the classes.
        """
        x, y, t = self._geo_index.resolve(self, query)
        if not (x.step and y.step):
            raise ConfigError(f"res: {self.files[0]} has no pixel size; set res, or combine it with images")
        # Bounding boxes, since samplers draw windows from them: some windows do not intersect the outline.
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


class RasterLabels(LabelDataset, RasterDataset):
    """Base class of rasters of classes or values; caches open files, and reads labels on the grid of a window."""

    is_image = False
    suffixes = RASTER_SUFFIXES

    def _find_rasters(self, paths: Paths) -> None:
        """Find and check the files, and build the index."""
        self.paths = self._find(paths)
        self._sources: dict[int, dict[str, DatasetReader]] = {}
        self._grids: list[Grid] = []
        for path in self.files:
            with open_raster(path) as source:
                grid = Grid.of(source)
                if not grid.is_placed:
                    raise DataError(
                        f"{path}: has no CRS; assign the CRS of its coordinates: gdal_edit.py -a_srs EPSG:CODE FILE"
                    )
                self._check(source, path)
                self._grids.append(grid)
        self._build_index(self._grids[0].ground_crs)
        first = self._grids[0].north_up().transform
        self._res = (first.a, -first.e)

    @abc.abstractmethod
    def _check(self, source: DatasetReader, path: str) -> None:
        """Raise an error for a raster that cannot contain these labels."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sources": {}}

    def _lay_out(self, crs: CRS) -> Sequence[Any]:
        return [
            move_to([outline(grid)], CRS.from_user_input(grid.ground_crs), crs, self._roi, path)[0]
            for path, grid in zip(self.files, self._grids, strict=True)
        ]

    @staticmethod
    def _on_grid(
        source: DatasetReader,
        grid: Grid,
        read: ReadWindow,
        channels: int,
        dtype: str,
        resampling: Resampling,
        reducing: Resampling | None = None,
    ) -> NDArray[Any]:
        """Values of a raster from `read`, on a grid (C, H, W), NaN for pixels without a label; see `GridReader`."""
        on_grid = np.full((channels, grid.height, grid.width), np.nan, dtype)
        for shifted in _shifted_grids(Grid.of(source)):
            reader = GridReader(shifted, grid, read, channels, dtype, resampling, reducing)
            values, labelled, _ = reader.read(Window(0, 0, grid.width, grid.height), on_grid.shape[1:])
            np.copyto(on_grid, values, where=labelled & np.isnan(on_grid))
        return on_grid

    def _source(self, path: str) -> DatasetReader:
        # By process, as a file that was opened before a fork belongs to the parent process.
        sources = self._sources.setdefault(os.getpid(), {})
        if path not in sources:
            while len(sources) >= _OPEN_FILES:
                sources.pop(next(iter(sources))).close()
            with reading(path):
                sources[path] = rasterio.open(path)
        return sources[path]


def _shifted_grids(grid: Grid) -> list[Grid]:
    """The grid of a raster, and its copy shifted by 360 degrees if its longitudes extend beyond 180 degrees."""
    shifts = [0.0]
    if grid.crs is not None and grid.crs.is_geographic:
        left, _, right, _ = grid.bounds
        shifts += [-360.0] * (right > 180) + [360.0] * (left < -180)
    t = grid.transform
    return [replace(grid, transform=Affine(t.a, t.b, t.c + shift, t.d, t.e, t.f)) for shift in shifts]
