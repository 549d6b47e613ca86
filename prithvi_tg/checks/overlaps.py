"""Chips of two splits that show the same ground."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from rasterio.errors import CRSError
from rasterio.warp import transform
from shapely import Polygon, STRtree, area, intersection, make_valid

from ..errors import DataError
from ..readers.raster import open_raster

_SHARED = 0.01  # share of the smaller chip; neighbours that only touch are apart


def footprint(path: Path) -> Polygon | None:
    """The corners of a raster in longitude and latitude; ``None`` without a CRS, or if the file is not a raster."""
    with suppress(DataError, CRSError), open_raster(path) as source:
        if source.crs is None:
            return None
        rows, columns = source.shape
        corners = [source.transform * corner for corner in ((0, 0), (columns, 0), (columns, rows), (0, rows))]
        longitudes, latitudes = transform(source.crs, "EPSG:4326", *map(list, zip(*corners, strict=True)))
        if np.isfinite((longitudes, latitudes)).all():
            return Polygon(zip(longitudes, latitudes, strict=True))
    return None


def overlapping(first: dict[str, Polygon], second: dict[str, Polygon]) -> list[tuple[str, str]]:
    """Pairs of chips whose footprints overlap by more than 1 % of the smaller one, except chips with equal names.

    Args:
        first: Name -> footprint of the chips of a split, see `footprint`.
        second: The same of another split.
    """
    if not first or not second:
        return []
    names, others = list(first), list(second)
    shapes = make_valid(np.array([*first.values()])), make_valid(np.array([*second.values()]))
    one, other = STRtree(shapes[1]).query(shapes[0], predicate="intersects")
    shared = area(intersection(shapes[0][one], shapes[1][other]))
    smaller = np.minimum(area(shapes[0][one]), area(shapes[1][other]))
    pairs = zip(one, other, shared > _SHARED * smaller, strict=True)
    found = [(names[i], others[j]) for i, j, is_shared in pairs if is_shared]
    return sorted(pair for pair in found if pair[0] != pair[1])
