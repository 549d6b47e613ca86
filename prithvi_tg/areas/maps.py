"""ClassMap: a raster of classes, read in tiles of limited size."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ..errors import DataError
from ..files import shown
from ..readers.grid import Grid, on_earth
from ..readers.raster import alpha_band, data_bands, open_raster, read_stored

#: Class of a pixel outside of the population, such as nodata.
OUTSIDE = -1

_ROWS, _COLUMNS = 512, 2048


@dataclass(frozen=True)
class ClassMap:
    """A map of classes.

    Attributes:
        path: The file.
        grid: Its grid.
        classes: Stored value -> class name.
        colors: Stored value -> ``#rrggbb``, of the file's colour table; may be empty.
    """

    path: Path
    grid: Grid
    classes: Mapping[int, str]
    colors: Mapping[int, str]

    @classmethod
    def open(cls, path: Path, classes: Mapping[int, str] | None = None) -> "ClassMap":
        """Read the description of a map.

        Args:
            path: A map of classes, as ``predict`` writes it, with the names of classes as tags.
            classes: Stored value -> class name, for a map without these tags.

        Raises:
            DataError: The file is not a map of classes, or has no CRS.
        """
        with open_raster(path) as source:
            _check_kind(source, path)
            grid = Grid.of(source)
            named = {
                int(match[1]): name
                for key, name in source.tags(1).items()
                if (match := re.fullmatch(r"CLASS_(\d+)", key))
            } or dict(classes or {})
            table = source.colormap(1) if source.colorinterp[0] is ColorInterp.palette else {}
        if not named:
            raise DataError(
                f"{path}: has no class names (tags CLASS_0, CLASS_1, ... of band 1, as predict writes them); give them "
                "with classes={0: 'land', 1: 'water'}"
            )
        if not on_earth(grid.crs):
            raise DataError(
                f"{path}: has no CRS, so the areas and positions of its pixels are unknown; assign one, or warp the "
                "map to one with gdalwarp"
            )
        duplicates = [name for name in named.values() if list(named.values()).count(name) > 1]
        if duplicates:
            raise DataError(f"{path}: two classes are named {duplicates[0]!r}; name each class once")
        colors = {code: "#{:02x}{:02x}{:02x}".format(*table[code]) for code in named if code in table}
        return cls(path, grid, dict(sorted(named.items())), colors)

    def tiles(self) -> Iterator[Window]:
        """Windows that cover the map, row by row of tiles, from left to right."""
        for top in range(0, self.grid.height, _ROWS):
            yield from self.tiles_of_strip(top)

    def tiles_of_strip(self, top: int) -> Iterator[Window]:
        """The tiles that begin at a row, from left to right."""
        for left in range(0, self.grid.width, _COLUMNS):
            yield Window(left, top, min(_COLUMNS, self.grid.width - left), self.strip_height(top))

    def strip_of(self, row: int) -> int:
        """First row of the tiles that hold a row."""
        return row // _ROWS * _ROWS

    def strip_height(self, top: int) -> int:
        """Rows of the tiles that begin at a row."""
        return min(_ROWS, self.grid.height - top)

    def name(self) -> str:
        """The path for messages."""
        return str(shown(self.path))


def _check_kind(source: DatasetReader, path: Path) -> None:
    """Refuse rasters that hold no classes.

    Raises:
        DataError: The raster has several bands, or values that are not whole numbers.
    """
    if data_bands(source) != 1 or np.dtype(source.dtypes[0]).kind not in "iu":
        kind = f"{data_bands(source)} bands of {source.dtypes[0]}"
        raise DataError(
            f"{path}: {kind}, not a map of classes (one band of whole numbers); areas are those of classes, so a map "
            "of values must be divided into classes first"
        )


class MapReader:
    """An open map: classes of windows, and their confidence.

    Attributes:
        map: The map.
    """

    def __init__(self, described: ClassMap, source: DatasetReader, names: Sequence[str]) -> None:
        self.map = described
        self._source = source
        self._alpha = alpha_band(source)
        self._index = np.full(max(described.classes) + 2, OUTSIDE, np.int16)
        for code, name in described.classes.items():
            self._index[code] = names.index(name)

    def has_data(self, window: Window) -> NDArray[np.bool_]:
        """Where a window (h, w) holds a class."""
        return read_stored(self._source, [1], window=window, alpha=self._alpha).valid[0]

    def classes(self, window: Window) -> NDArray[np.int16]:
        """Number of the class of each pixel of a window (h, w), counted in the common names; -1 for nodata.

        Raises:
            DataError: A pixel has a value without a class name, or a block cannot be read.
        """
        stored, valid, _ = read_stored(self._source, [1], window=window, alpha=self._alpha)
        last = len(self._index) - 1
        codes = np.where((stored[0] >= 0) & (stored[0] < last), stored[0], last)
        found = np.where(valid[0], self._index[codes], OUTSIDE)
        unnamed = valid[0] & (found == OUTSIDE)
        if unnamed.any():
            raise DataError(
                f"{self.map.name()}: value {int(stored[0][unnamed][0])} is not a class; classes are "
                f"{', '.join(f'{code} {name}' for code, name in self.map.classes.items())}"
            )
        return found


@contextmanager
def open_maps(maps: Sequence[ClassMap], names: Sequence[str]) -> Iterator[list[MapReader]]:
    """Open several maps.

    Args:
        maps: The maps.
        names: All class names, in their common order.
    """
    with ExitStack() as stack:
        yield [MapReader(one, stack.enter_context(open_raster(one.path)), names) for one in maps]
