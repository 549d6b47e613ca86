"""Labels of scenes: rasters and polygons as TorchGeo datasets, combined with images by ``images & labels``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from numbers import Real
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.io import DatasetReader
from rasterio.windows import Window
from torchgeo.datasets import VectorDataset

from ...errors import ConfigError, DataError, counted, first_of
from ...readers.crs import ASSIGN_TO_VECTORS
from ...readers.grid import Grid
from ...readers.labels import check_label_raster, label_counts, read_labels
from ...readers.warp import Warped
from ...targets import IGNORE_INDEX, ClassTarget
from .footprints import move_to
from .label_dataset import VECTOR_SUFFIXES, LabelDataset, Paths, RasterLabels, Transform

Labels = NDArray[np.int64]

_MOST_COUNTED = 200 * 10**6  # pixels, in seconds
_COUNTED_AT_ONCE = 2**22
_ADVICE = "add each to classes, or to ignored_labels if it means not labelled"


class LabelRaster(RasterLabels):
    """Rasters of labels, in any CRS and resolution.

    A sample contains ``mask`` int64 (H, W) on the pixels of the query, by nearest neighbour, ``bounds`` and
    ``crs``. Pixels without a label, or outside all files, are 255. If a pixel has no label in one file, the next file
    in the list is used. Pass several files to one dataset: TorchGeo's ``|`` would keep 255.

    A subclass may set TorchGeo's ``filename_regex`` and ``date_format``; then each image uses only files of its
    period.

    Args:
        paths: Rasters with one band, patterns such as ``s*/labels.tif``, or folders of them (``.tif``, ``.tiff``,
            ``.vrt``, ``.img``).
        classes: Class number, from 0, of each stored value; ``None`` for values that mean "not labelled", as the
            nodata tag of the file does.
        transforms: Called with each sample.

    Raises:
        ConfigError: `classes` contains a key or class that is not a number.
        DataError: A file is missing, unreadable, has no CRS or more than one band, or its name does not match
            `filename_regex`.
    """

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
        self._classes = classes
        self.transforms = transforms
        self._find_rasters(paths)

    def _check(self, source: DatasetReader, path: str) -> None:
        check_label_raster(source, path, lambda value: _shown_class(self._classes, value))

    def _labels(self, grid: Grid, files: Sequence[int]) -> Labels:
        labels = np.full((grid.height, grid.width), IGNORE_INDEX, np.int64)
        for number in files:
            unlabelled = ~ClassTarget.is_labelled(labels)
            if unlabelled.any():
                path = self.files[number]
                np.copyto(labels, self._to_classes(path, self._read(path, grid)), where=unlabelled)
        return labels

    def _read(self, path: str, grid: Grid) -> NDArray[np.float64]:
        """Stored labels on a grid, NaN where a pixel is not labelled."""
        source = self._source(path)

        def read(window: Window, size: tuple[int, int]) -> Warped:
            stored, labelled = read_labels(source, path, window, size)
            return Warped(stored[None], labelled[None])

        labels: NDArray[np.float64] = self._on_grid(source, grid, read, 1, "float64", Resampling.nearest)[0]
        return labels

    def _to_classes(self, path: str, stored: NDArray[np.float64]) -> Labels:
        labelled = ~np.isnan(stored)
        values = stored[labelled]
        at = np.searchsorted(self._known, values).clip(max=len(self._known) - 1)
        unknown = values[self._known[at] != values]
        if unknown.size:
            raise self._unknown_labels(path, Counter(unknown.tolist()))
        labels = np.full(stored.shape, IGNORE_INDEX, np.int64)
        labels[labelled] = self._numbers[at]
        return labels

    def _unknown_labels(self, path: str, met: Counter[float]) -> DataError:
        """The error about labels that are not in classes.

        It lists those of all files, so that one change of the classes is enough; of large files, only those of the
        first pixels.

        Args:
            path: The file in which they were met.
            met: Their pixels in the window that was read.
        """
        left, found, others = _MOST_COUNTED, Counter[float](), Counter[float]()
        for file in dict.fromkeys((path, *self.files)):
            counts, pixels = self._count_unknown(file, left)
            left -= pixels
            if file == path:
                found = counts
            else:
                others += counts
        found |= met
        further = {value: count for value, count in others.items() if value not in found}
        more = f"; other files also contain {label_counts(further)}" if further else ""
        limit = f"; only the first {_MOST_COUNTED // 10**6} million pixels were counted" if left <= 0 else ""
        known = first_of(f"{value:g}" for value in self._known)
        return DataError(
            f"{path}: contains {label_counts(found)}, not in classes{more}{limit}; known labels: {known}; {_ADVICE}"
        )

    def _count_unknown(self, path: str, most: int) -> tuple[Counter[float], int]:
        """Pixels of each label of a file that is not in classes, and the number of pixels that were read."""
        source, counts, row = self._source(path), Counter[float](), 0
        rows = max(1, _COUNTED_AT_ONCE // source.width)
        with suppress(DataError):  # the error about the labels comes first
            while row < source.height and row * source.width < most:
                height = min(rows, source.height - row)
                stored, labelled = read_labels(source, path, Window(0, row, source.width, height))
                values, numbers = np.unique(stored[labelled].astype(np.float64), return_counts=True)
                counts.update(
                    {
                        float(value): int(number)
                        for value, number in zip(values, numbers, strict=True)
                        if value not in self._known
                    }
                )
                row += height
        return counts, row * source.width


class LabelPolygons(LabelDataset, VectorDataset):
    """Polygons of labels, rasterised on the pixels of each query.

    A sample contains ``mask`` int64 (H, W), ``bounds`` and ``crs``. The class of a pixel is that of the polygon
    that contains its centre. If polygons overlap, the last one is used, in the order of files and of features in a
    file. Pixels outside all polygons are 255. Polygons without a value of the attribute (null) are left out;
    `unvalued` counts them for each file that has some.

    A subclass may set TorchGeo's ``filename_regex`` and ``date_format``; then each image uses only files of its
    period.

    Args:
        paths: GeoPackages, GeoJSON or Shapefiles, patterns, or folders of them (``.gpkg``, ``.geojson``, ``.shp``).
        attribute: Column of the class; ``None`` if all polygons have the same class.
        classes: Class number, from 0, of each value of the attribute; ``None`` for polygons that mean "not
            labelled" and erase earlier polygons. Without an attribute, the class number.
        all_touched: Label every pixel that a polygon touches, not only those whose centre it contains.
        layer: Layer of the files; the first by default.
        res: Pixel size in units of the first file's CRS; combined with images, the pixel size of the images.
        transforms: Called with each sample.

    Raises:
        ConfigError: `classes` contains a class that is not a number, or does not match `attribute`.
        DataError: A file is missing, unreadable, empty, or has no CRS; it lacks the attribute, has no value of it
            at all, or one that is missing from `classes`; it contains an empty polygon, points or lines.
    """

    suffixes = VECTOR_SUFFIXES

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
            wanted = "one class number" if attribute is None else "a class number for each of its values"
            raise ConfigError(f"classes: {classes!r} does not match attribute {attribute!r}; give {wanted}")
        self.label_name = attribute
        self.classes = classes
        self.all_touched = all_touched
        self.layer = layer
        self.transforms = transforms
        self.unvalued: dict[str, int] = {}
        self.paths = self._find(paths)
        self._parts = [self._load(path) for path in self.files]
        self._build_index(self._parts[0].crs)
        if res is not None:
            self._res = res if isinstance(res, tuple) else (res, res)

    def _load(self, path: str) -> GeoDataFrame:
        """Read the polygons of a file and their class numbers, in the file's CRS."""
        try:
            frame = gpd.read_file(path, layer=self.layer)
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{path}: not a readable polygon file ({error})") from error
        if not isinstance(frame, GeoDataFrame) or frame.empty:
            raise DataError(f"{path}: contains no polygons")
        if frame.crs is None:
            raise DataError(f"{path}: has no CRS; {ASSIGN_TO_VECTORS}")
        empty = (frame.geometry.isna() | frame.geometry.is_empty).to_numpy()
        if empty.any():
            first = empty.argmax() + 1
            number = counted(int(empty.sum()), "empty polygon")
            raise DataError(f"{path}: {number} of {len(frame)}, first feature {first}")
        others = set(frame.geom_type) - {"Polygon", "MultiPolygon"}
        if others:
            raise DataError(f"{path}: contains {first_of(sorted(others))}; labels must be polygons")
        frame = self._with_value(path, frame)
        numbers = [IGNORE_INDEX if number is None else number for number in self._class_numbers(path, frame)]
        return GeoDataFrame({"number": numbers}, geometry=frame.geometry.to_numpy(), crs=frame.crs)

    def _with_value(self, path: str, frame: GeoDataFrame) -> GeoDataFrame:
        """The polygons that have a value of the attribute."""
        if self.label_name is None:
            return frame
        columns = frame.columns.drop(frame.geometry.name)
        if self.label_name not in columns:
            raise DataError(f"{path}: has no attribute {self.label_name!r}; it has {first_of(columns)}")
        unvalued = frame[self.label_name].isna()
        if unvalued.all():
            polygons = counted(len(frame), "polygon")
            raise DataError(f"{path}: {self.label_name} has no value in any of its {polygons}")
        if unvalued.any():
            self.unvalued[path] = int(unvalued.sum())
        return frame[~unvalued]

    def _class_numbers(self, path: str, frame: GeoDataFrame) -> list[int | None]:
        if not isinstance(self.classes, Mapping):
            return [self.classes] * len(frame)
        values = frame[self.label_name].tolist()
        counts = Counter(repr(value) for value in values if value not in self.classes)
        if counts:
            known = first_of(map(repr, self.classes))
            raise DataError(
                f"{path}: {self.label_name} contains {label_counts(counts, noun='polygon')}, not in classes; known "
                f"labels: {known}; {_ADVICE}"
            )
        return [self.classes[value] for value in values]

    def _lay_out(self, crs: CRS) -> Sequence[Any]:
        parts, outlines = [], []
        for number, (path, part) in enumerate(zip(self.files, self._parts, strict=True)):
            moved = move_to(part.geometry.to_numpy(), part.crs, crs, self._roi, path)
            frame = GeoDataFrame({"number": part["number"], "file": number}, geometry=moved, crs=crs)
            parts.append(frame[~frame.is_empty])
            outlines.append(shapely.box(*parts[-1].total_bounds) if len(parts[-1]) else shapely.Polygon())
        self._polygons = pd.concat(parts, ignore_index=True)
        return outlines

    def _labels(self, grid: Grid, files: Sequence[int]) -> Labels:
        polygons = self._polygons.iloc[np.sort(self._polygons.sindex.query(shapely.box(*grid.bounds)))]
        polygons = polygons[polygons["file"].isin(files)]
        shape = (grid.height, grid.width)
        if polygons.empty:
            return np.full(shape, IGNORE_INDEX, np.int64)
        drawn = rasterize(
            zip(polygons.geometry, polygons["number"], strict=True),
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


def _shown_class(classes: Mapping[int, int | None], value: int) -> str | None:
    number = classes.get(value)
    return None if number is None else f"class {number}"
