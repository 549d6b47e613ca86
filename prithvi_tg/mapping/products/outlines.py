"""Outlines: connected pixels of one class as polygons, joined across the pieces in which a map is read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize, shapes

Array = NDArray[Any]
#: First row, class numbers (h, W), and weights of the pixels (h, W).
Pieces = Iterable[tuple[int, Array, Array]]


@dataclass
class Region:
    """Pixels of one class that are connected by edges.

    Attributes:
        value: Number of the class.
        outlines: Polygons of its parts, x and y in pixels from the top left corner of the map.
        pixels: Number of its pixels.
        total: Sum of the weights of its pixels.
    """

    value: int
    outlines: list[shapely.Polygon]
    pixels: int
    total: float

    @property
    def outline(self) -> shapely.Polygon:
        """One polygon of all parts."""
        if len(self.outlines) == 1:
            return self.outlines[0]
        # The seams leave vertices on straight edges; a tolerance of zero removes these alone.
        return shapely.simplify(shapely.union_all(self.outlines), 0)

    def join(self, other: "Region") -> None:
        """Add the parts of another region of the class."""
        self.outlines += other.outlines
        self.pixels += other.pixels
        self.total += other.total


def find_regions(pieces: Pieces, classes: Sequence[int], rows: int = 512) -> Iterator[Region]:
    """Yield regions as soon as they are complete; only those that reach the last row read are kept in memory.

    Args:
        pieces: First row, class numbers (h, W) uint8, and weights of the pixels (h, W), from top to bottom.
        classes: Numbers of the classes to find.
        rows: Minimum number of rows to read before regions are searched.
    """
    open_regions: list[Region] = []
    above: Array | None = None  # index in `open_regions` of each pixel of the last row, -1 for none
    for top, values, weights in _merged(pieces, rows):
        found, index = _regions_of(top, values, weights, classes)
        if above is not None:
            found, index = _join(open_regions, above, found, index)
        reaching = np.unique(index[-1])
        reaching = reaching[reaching >= 0]
        yield from (found[one] for one in np.setdiff1d(np.arange(len(found)), reaching))
        open_regions = [found[one] for one in reaching]
        above = np.where(index[-1] < 0, -1, np.searchsorted(reaching, index[-1]))
    yield from open_regions


def _merged(pieces: Iterable[tuple[int, Array, Array]], rows: int) -> Iterator[tuple[int, Array, Array]]:
    waiting: list[tuple[int, Array, Array]] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(len(values) for _, values, _ in waiting) >= rows:
            yield _stacked(waiting)
            waiting = []
    if waiting:
        yield _stacked(waiting)


def _stacked(pieces: Sequence[tuple[int, Array, Array]]) -> tuple[int, Array, Array]:
    tops, values, weights = zip(*pieces, strict=True)
    return tops[0], np.concatenate(values), np.concatenate(weights)


def _regions_of(
    top: int, values: Array, weights: Array, classes: Sequence[int]
) -> tuple[list[Region], NDArray[np.int32]]:
    """The regions of some rows, and the index of the region of each pixel (h, W), -1 for none."""
    wanted = np.isin(values, list(classes))
    placed = Affine.translation(0, top)
    found = list(shapes(values, mask=wanted, connectivity=4, transform=placed))
    index = np.full(values.shape, -1, np.int32)
    if found:
        numbered = [(outline, number) for number, (outline, _) in enumerate(found)]
        rasterize(numbered, out=index, transform=placed)
    outlines = _polygons([outline["coordinates"] for outline, _ in found])
    inside = index.ravel() >= 0
    labels = index.ravel()[inside]
    pixels = np.bincount(labels, minlength=len(found))
    totals = np.bincount(labels, weights.ravel()[inside], minlength=len(found))
    regions = [
        Region(int(value), [outline], int(count), float(total))
        for (_, value), outline, count, total in zip(found, outlines, pixels, totals, strict=True)
    ]
    return regions, index


def _polygons(rings: Sequence[Sequence[Sequence[tuple[float, float]]]]) -> NDArray[np.object_]:
    """Polygons of rings of vertices; all at once, as there may be very many."""
    of_polygon = np.cumsum([0, *map(len, rings)])
    flat = [ring for polygon in rings for ring in polygon]
    of_ring = np.cumsum([0, *map(len, flat)])
    vertices = np.array([vertex for ring in flat for vertex in ring], np.float64).reshape(-1, 2)
    polygons: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, vertices, (of_ring, of_polygon)
    )
    return polygons


def _join(
    upper: Sequence[Region], above: Array, lower: Sequence[Region], index: NDArray[np.int32]
) -> tuple[list[Region], NDArray[np.int32]]:
    """Join regions that touch across a seam; returns all regions, and the new index of each pixel below."""
    count = len(upper)
    regions = [*upper, *lower]
    parent = list(range(len(regions)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    both = (above >= 0) & (index[0] >= 0)
    for first, second in np.unique(np.stack([above[both], index[0][both]]), axis=1).T:
        if upper[first].value == lower[second].value:
            parent[root(count + int(second))] = root(int(first))
    roots = [root(one) for one in range(len(regions))]
    remaining = sorted(set(roots))
    for one, own in enumerate(roots):
        if one != own:
            regions[own].join(regions[one])
    # One more entry, which -1 selects, for pixels without a region.
    renumbered = np.append(np.searchsorted(remaining, roots[count:]), -1).astype(np.int32)
    return [regions[one] for one in remaining], renumbered[index]
