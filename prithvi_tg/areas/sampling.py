"""Stratified random sampling of the pixels of maps, in two passes over tiles.

The first pass counts pixels, the second finds those that were drawn. Pixels of a stratum are numbered by map, row and
column; each has the same chance, and none is drawn twice. Memory does not depend on the number of pixels: a count is
stored for each row and stratum.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.transform import Affine
from rasterio.windows import Window

from ..readers.crs import to_degrees, to_pyproj
from ..readers.grid import Grid
from ..readers.pixel_areas import ellipsoidal_areas
from .maps import OUTSIDE, ClassMap, MapReader, open_maps
from .strata import Stratification

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_PIXELS_AT_ONCE = 2**24  # of another map


class Tile(NamedTuple):
    """Classes and strata of a window of a map.

    Attributes:
        classes: (h, w), -1 for nodata.
        strata: (h, w), -1 outside of the population.
    """

    classes: NDArray[np.int16]
    strata: NDArray[np.int16]


@dataclass(frozen=True)
class Population:
    """The pixels of several maps that have a class.

    A place that several maps cover is counted once: a pixel whose centre lies on a pixel with a class of an earlier map
    belongs to that map.

    Attributes:
        maps: The maps, whose classes have the same names.
        stratification: Strata of the pixels.
    """

    maps: Sequence[ClassMap]
    stratification: Stratification

    @contextmanager
    def open(self) -> Iterator[list[MapReader]]:
        """Open all maps."""
        with open_maps(self.maps, self.stratification.classes) as readers:
            yield readers

    def read(self, readers: Sequence[MapReader], number: int, window: Window) -> Tile:
        """Read a window of a map.

        Args:
            readers: The open maps.
            number: Number of the map.
            window: Pixels of the map.

        Raises:
            DataError: A file cannot be read.
        """
        classes = readers[number].classes(window)
        strata = self.stratification.assign(readers[number], window, classes)
        for earlier in readers[:number]:
            if (strata != OUTSIDE).any() and earlier.map.grid.overlaps(_part(readers[number].map, window)):
                strata[_is_covered(readers[number], window, strata, earlier)] = OUTSIDE
        return Tile(classes, strata)


def _part(whole: ClassMap, window: Window) -> Grid:
    grid = whole.grid
    shift = grid.transform @ Affine.translation(window.col_off, window.row_off)
    return Grid(grid.crs, shift, window.height, window.width)


def _is_covered(
    reader: MapReader, window: Window, strata: NDArray[np.int16], earlier: MapReader
) -> NDArray[np.bool_]:
    """Pixels (h, w) of the population whose centres lie on data of an earlier map."""
    covered = np.zeros(strata.shape, bool)
    rows, columns = np.nonzero(strata != OUTSIDE)
    ours, theirs = reader.map.grid, earlier.map.grid
    x, y = ours.xy(rows + window.row_off + 0.5, columns + window.col_off + 0.5)
    if ours.crs != theirs.crs:
        assert ours.crs is not None
        assert theirs.crs is not None
        transformer = Transformer.from_crs(to_pyproj(ours.crs), to_pyproj(theirs.crs), always_xy=True)
        x, y = transformer.transform(x, y)
    with np.errstate(invalid="ignore"):  # infinite coordinates outside of the other CRS
        their_rows, their_columns = (np.floor(at) for at in theirs.row_and_column(x, y))
        inside = (their_rows >= 0) & (their_rows < theirs.height)
        inside &= (their_columns >= 0) & (their_columns < theirs.width)
    for part in _parts(np.flatnonzero(inside), their_rows, their_columns):
        top, left = int(their_rows[part].min()), int(their_columns[part].min())
        data = earlier.has_data(Window(left, top, *_extent(their_columns[part], their_rows[part])))
        at = their_rows[part].astype(int) - top, their_columns[part].astype(int) - left
        covered[rows[part], columns[part]] = data[at]
    return covered


def _extent(*positions: Floats) -> tuple[int, ...]:
    return tuple(int(np.ptp(one)) + 1 for one in positions)


def _parts(points: Integers, rows: Floats, columns: Floats) -> Iterator[Integers]:
    """Points in groups whose rows and columns extend over a limited number of pixels of a much finer map."""
    if not len(points):
        return
    if len(points) > 1 and math.prod(_extent(rows[points], columns[points])) > _PIXELS_AT_ONCE:
        for half in np.array_split(points, 2):
            yield from _parts(half, rows, columns)
    else:
        yield points


@dataclass(frozen=True)
class Counts:
    """Sizes of strata.

    Attributes:
        rows: For each map, pixels of each row and stratum (rows, S).
        square_metres: Area of each stratum and class (S, K) on the ellipsoid.
    """

    rows: Sequence[Integers]
    square_metres: Floats

    @property
    def pixels(self) -> Integers:
        """Pixels of each stratum (S,)."""
        return np.sum([one.sum(axis=0) for one in self.rows], axis=0, dtype=np.int64)


def count(population: Population) -> Counts:
    """Count the pixels of each stratum, and add up their areas on the ellipsoid.

    Raises:
        DataError: A map cannot be read.
    """
    num_strata, num_classes = len(population.stratification.names), len(population.stratification.classes)
    square_metres = np.zeros(num_strata * num_classes)
    per_map = []
    with population.open() as readers:
        for number, one in enumerate(population.maps):
            counts = np.zeros((one.grid.height, num_strata), np.int64)
            for window in one.tiles():
                classes, strata = population.read(readers, number, window)
                inside = strata != OUTSIDE
                rows, height = np.nonzero(inside)[0], strata.shape[0]
                found = strata[inside].astype(np.int64)
                sums = np.bincount(rows * num_strata + found, minlength=height * num_strata)
                counts[window.row_off : window.row_off + height] += sums.reshape(height, num_strata)
                areas = np.broadcast_to(ellipsoidal_areas(one.grid, window), strata.shape)[inside]
                cells = found * num_classes + classes[inside]
                square_metres += np.bincount(cells, areas, len(square_metres))
            per_map.append(counts)
    return Counts(per_map, square_metres.reshape(num_strata, num_classes))


@dataclass(frozen=True)
class Points:
    """Drawn pixels, in random order.

    Attributes:
        strata: Stratum of each (n,).
        classes: Class of the map (n,).
        maps: Number of the map (n,).
        rows: Row in the map (n,).
        columns: Column in the map (n,).
        longitudes: Of the middle of the pixel (n,), degrees on WGS 84.
        latitudes: Of the middle of the pixel (n,), degrees on WGS 84.
        square_metres: Area of the pixel (n,) on the ellipsoid.
    """

    strata: Integers
    classes: Integers
    maps: Integers
    rows: Integers
    columns: Integers
    longitudes: Floats
    latitudes: Floats
    square_metres: Floats


def draw(population: Population, counts: Counts, sizes: Integers, seed: int) -> Points:
    """Draw pixels of each stratum with equal probability and without replacement.

    Args:
        population: The pixels.
        counts: Result of `count` of the same population.
        sizes: Number of points of each stratum (S,), at most its pixels.
        seed: Seed of the draw.

    Raises:
        DataError: A map cannot be read.
    """
    strata, maps, rows, nths = (
        np.concatenate(part) for part in zip(*_drawn(counts, sizes, seed), strict=True)
    )
    columns, classes = np.full(len(strata), -1), np.full(len(strata), -1)
    longitudes, latitudes, areas = (np.zeros(len(strata)) for _ in range(3))
    with population.open() as readers:
        for number, one in enumerate(population.maps):
            ours = np.flatnonzero(maps == number)
            for top in sorted({one.strip_of(row) for row in rows[ours]}):
                waiting = ours[(rows[ours] >= top) & (rows[ours] < top + one.strip_height(top))]
                for window in one.tiles_of_strip(top):
                    if not len(waiting):
                        break
                    tile = population.read(readers, number, window)
                    hit = _find(tile.strata, waiting, strata, rows - top, nths, columns)
                    if len(hit):
                        at = rows[hit] - top, columns[hit]
                        classes[hit] = tile.classes[at]
                        pixel = np.broadcast_to(ellipsoidal_areas(one.grid, window), tile.strata.shape)
                        areas[hit] = pixel[at]
                        columns[hit] += window.col_off
                    waiting = waiting[columns[waiting] < 0]
            longitudes[ours], latitudes[ours] = _degrees(one, rows[ours], columns[ours])
    order = np.random.default_rng([seed, len(sizes)]).permutation(len(strata))
    strata, classes, maps, rows, columns = (part[order] for part in (strata, classes, maps, rows, columns))
    longitudes, latitudes, areas = (part[order] for part in (longitudes, latitudes, areas))
    return Points(strata, classes, maps, rows, columns, longitudes, latitudes, areas)


def _drawn(counts: Counts, sizes: Integers, seed: int) -> Iterator[tuple[Integers, ...]]:
    """Stratum, map, row and number among the stratum's pixels of that row, of the drawn pixels of each stratum."""
    heights = [len(one) for one in counts.rows]
    maps = np.repeat(np.arange(len(heights)), heights)
    rows = np.concatenate([np.arange(height) for height in heights])
    per_row = np.concatenate(list(counts.rows))
    for stratum, size in enumerate(sizes):
        ends = np.cumsum(per_row[:, stratum])
        # A generator for each stratum, so that its points do not depend on the numbers of others.
        chosen = np.sort(
            np.random.default_rng([seed, stratum]).choice(int(ends[-1]), int(size), replace=False)
        )
        line = np.searchsorted(ends, chosen, side="right")
        before = ends[line] - per_row[line, stratum]
        yield np.full(len(chosen), stratum), maps[line], rows[line], chosen - before


def _find(
    strip: NDArray[np.int16],
    waiting: Integers,
    strata: Integers,
    rows: Integers,
    nths: Integers,
    columns: Integers,
) -> Integers:
    """Set the column of the points that lie in a tile, and count down the numbers of the others.

    Returns:
        The points found.
    """
    found = []
    for point in waiting:
        hits = np.flatnonzero(strip[rows[point]] == strata[point])
        if nths[point] < len(hits):
            columns[point] = hits[nths[point]]
            found.append(point)
        else:
            nths[point] -= len(hits)
    return np.array(found, np.int64)


def _degrees(one: ClassMap, rows: Integers, columns: Integers) -> tuple[Floats, Floats]:
    assert one.grid.crs is not None
    x, y = one.grid.xy(rows + 0.5, columns + 0.5)
    longitudes, latitudes = to_degrees(to_pyproj(one.grid.crs)).transform(x, y)
    return longitudes, latitudes
