"""Areas of single pixels on the ground."""

import math

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.windows import Window

from .crs import to_pyproj
from .grid import Grid

Floats = NDArray[np.float64]

_TOLERANCE = 0.01
_FLAT_METRES = 5_000.0
_MAX_PARTS = 8
_NODES_METRES = 10_000.0


def row_areas(grid: Grid) -> Floats | None:
    """Area of one pixel of each row on the ground.

    In a projected CRS, this is the planar area, as in other GIS tools, if it is within 1 % of the ellipsoidal area at
    the middle of the scene. Otherwise (web Mercator away from the equator), and in a geographic CRS, it is the area on
    the ellipsoid of the CRS, computed for the pixel in the middle column of each row. The curved surface is
    approximated by flat pieces, with a relative error of 1e-6 for pixels of up to a degree.

    Args:
        grid: Grid of the pixels; may be rotated.

    Returns:
        Square metres (H,); zero for a row outside the Earth. ``None`` without a CRS, or with ground control points
        alone, since pixel areas then differ along a row.
    """
    if grid.crs is None:
        return None
    crs = to_pyproj(grid.crs)
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    plane = abs(grid.transform.determinant) * unit**2
    if crs.is_geographic or crs.is_projected:
        column = np.array([(grid.width - 1) / 2])
        middle = float(_areas_on_ellipsoid(grid, crs, np.array([(grid.height - 1) / 2]), column)[0, 0])
        if crs.is_geographic or (middle > 0 and abs(plane - middle) > _TOLERANCE * middle):
            return _areas_on_ellipsoid(grid, crs, np.arange(grid.height, dtype=np.float64), column)[:, 0]
    return np.full(grid.height, plane)


def ellipsoidal_areas(grid: Grid, window: Window) -> Floats:
    """Area of the pixels of a window on the ellipsoid, in any CRS.

    Unlike `row_areas`, no CRS counts as equal-area, and areas may differ along a row. They are computed for pixels at
    most 10 km apart and interpolated between them, with a relative error below 1e-6.

    Args:
        grid: Grid of the pixels, with a geographic or projected CRS; may be rotated.
        window: Whole pixels of the grid.

    Returns:
        Square metres (h, w), or (h, 1) where all pixels of a row have the same area; zero outside the Earth.
    """
    assert grid.crs is not None
    crs = to_pyproj(grid.crs)
    (top, bottom), (left, right) = window.toranges()
    t = grid.transform
    if crs.is_geographic and t.b == t.d == 0:  # parallels are rows
        return _areas_on_ellipsoid(
            grid, crs, np.arange(top, bottom, dtype=np.float64), np.array([float(left)])
        )
    side = max(math.hypot(t.a, t.d), math.hypot(t.b, t.e)) * _metres_per_unit(crs)
    step = max(1, math.floor(_NODES_METRES / side))
    rows, columns = (
        np.linspace(first, last - 1, math.ceil((last - 1 - first) / step) + 1)
        for first, last in ((top, bottom), (left, right))
    )
    areas = _areas_on_ellipsoid(grid, crs, rows, columns)
    along = np.stack([np.interp(np.arange(left, right), columns, line) for line in areas])
    if len(rows) == 1:
        return along
    upper = np.minimum(np.searchsorted(rows, np.arange(top, bottom), side="right"), len(rows) - 1) - 1
    share = ((np.arange(top, bottom) - rows[upper]) / (rows[upper + 1] - rows[upper]))[:, None]
    return (1 - share) * along[upper] + share * along[upper + 1]


def place(grid: Grid, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Coordinates x and y of points given in pixels from the top left corner."""
    return grid.xy(rows, columns)


def _metres_per_unit(crs: pyproj.CRS) -> float:
    ellipsoid = crs.ellipsoid
    radius = ellipsoid.semi_major_metre if crs.is_geographic and ellipsoid else 1.0
    return float(crs.axis_info[0].unit_conversion_factor * radius)


def _areas_on_ellipsoid(grid: Grid, crs: pyproj.CRS, rows: Floats, columns: Floats) -> Floats:
    """Square metres (R, C) of the pixels in some rows and columns."""
    geodetic = crs.geodetic_crs
    ellipsoid = geodetic.get_geod() if geodetic else None
    if geodetic is None or ellipsoid is None:
        return np.zeros((len(rows), len(columns)))
    t = grid.transform
    side = max(math.hypot(t.a, t.d), math.hypot(t.b, t.e)) * _metres_per_unit(crs)
    parts = min(math.ceil(side / _FLAT_METRES), _MAX_PARTS)
    steps = np.linspace(0, 1, parts + 1)
    x, y = place(grid, columns[:, None, None] + steps, rows[:, None, None, None] + steps[:, None])
    longitude, latitude = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True).transform(x, y)
    radians = geodetic.axis_info[0].unit_conversion_factor
    # Global grids may extend beyond the poles by half a pixel, which has no area.
    latitude = np.clip(latitude * radians, -np.pi / 2, np.pi / 2)
    with np.errstate(invalid="ignore"):  # infinite coordinates outside the Earth
        corners = _in_space(longitude * radians, latitude, ellipsoid)
        diagonals = (
            corners[..., 1:, 1:, :] - corners[..., :-1, :-1, :],
            corners[..., :-1, 1:, :] - corners[..., 1:, :-1, :],
        )
        pieces = np.linalg.norm(np.cross(*diagonals), axis=-1) / 2
    return np.nansum(pieces, axis=(-2, -1))


def _in_space(longitude: Floats, latitude: Floats, ellipsoid: pyproj.Geod) -> Floats:
    # Geocentric x, y, z: neither the poles nor the antimeridian are special there.
    sine, cosine = np.sin(latitude), np.cos(latitude)
    normal = ellipsoid.a / np.sqrt(1 - ellipsoid.es * sine**2)
    x, y = normal * cosine * np.cos(longitude), normal * cosine * np.sin(longitude)
    return np.stack([x, y, normal * (1 - ellipsoid.es) * sine], axis=-1)
