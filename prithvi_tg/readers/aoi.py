"""Areas of interest: the part of scenes to map, from a vector file, a box in degrees, or WKT."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import CRSError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from ..errors import ConfigError, DataError
from ..tiling import PixelArea
from .crs import ASSIGN_TO_VECTORS
from .grid import Grid, on_earth

_DEGREES = CRS.from_epsg(4326)
_BOX = re.compile(r"\s*[-+.\deE]+(\s*,\s*[-+.\deE]+)+\s*")
_WKT = re.compile(r"\s*(SRID=\d+;)?\s*[A-Za-z]+\s*(Z|M|ZM)?\s*(\(|EMPTY)", re.IGNORECASE)
_SAMPLES = 33  # along each side of a scene, for its position in another CRS
_MARGIN = 0.1  # of the size of a scene, that an area is reprojected beyond it
_PARTS = 1000  # straight pieces, along the size of a scene, of an edge that is reprojected
_ROWS = 1024  # that are rasterised at a time


@dataclass(frozen=True)
class AreaOfInterest:
    """An area on the ground.

    Attributes:
        word: The area as the user has given it.
        geometry: Its polygons, in units of `crs`.
        crs: CRS of the geometry.
        kind: What the area is, for messages.
    """

    word: str
    geometry: Any
    crs: CRS
    kind: str = "aoi"

    @classmethod
    def of(cls, word: "str | Path | AreaOfInterest") -> "AreaOfInterest":
        """Read an area; one that has been read is returned as it is.

        Args:
            word: A vector file that geopandas reads, of which all polygons count; ``left,bottom,right,top`` in degrees,
                with a left greater than right across the antimeridian; or WKT, a ``POLYGON`` or ``MULTIPOLYGON`` of
                longitudes and latitudes.

        Raises:
            ConfigError: The text is neither a file nor a box nor WKT.
            DataError: The file cannot be read or has no CRS, or the area is empty or has no polygon.
        """
        if isinstance(word, AreaOfInterest):
            return word
        text = str(word)
        if Path(text).exists() or not (_BOX.fullmatch(text) or _WKT.match(text)):
            geometry, crs = _read(text)
        else:
            geometry, crs = (_box if _BOX.fullmatch(text) else _wkt)(text), _DEGREES
        if geometry.is_empty:
            raise DataError(f"aoi: {text} is empty; give an area with polygons")
        geometry = shapely.make_valid(shapely.force_2d(geometry))
        polygons = [part for part in _parts(geometry) if part.geom_type == "Polygon" and part.area > 0]
        if not polygons:
            kinds = ", ".join(sorted({part.geom_type for part in _parts(geometry)}))
            raise DataError(
                f"aoi: {text} contains no polygon with an area ({kinds}); buffer points and lines"
            )
        return cls(text, shapely.union_all(polygons), crs)

    @property
    def sha256(self) -> str:
        """Hash of CRS and geometry."""
        return hashlib.sha256(self.crs.to_wkt().encode() + shapely.to_wkb(self.geometry)).hexdigest()

    @property
    def described(self) -> str:
        """Text with the bounds."""
        word = self.word[:80] if self.kind == "aoi" else self.word  # WKT may be long
        return f"{self.kind} {word} ({_listed(self.geometry.bounds, self.crs)})"

    @property
    def in_degrees(self) -> Any:
        """The geometry in longitude and latitude (EPSG:4326)."""
        if self.crs == _DEGREES:
            return self.geometry
        left, bottom, right, top = self.geometry.bounds
        dense = shapely.segmentize(self.geometry, max(right - left, top - bottom) / _SAMPLES)
        return shapely.transform(dense, lambda points: _moved(points, self.crs, _DEGREES))

    def pixels(self, grid: Grid, name: str) -> PixelArea | None:
        """The pixels whose centre is in the area.

        Args:
            grid: Grid of a scene.
            name: The scene, for messages.

        Returns:
            The pixels; ``None`` if there are none.

        Raises:
            DataError: The scene has no transform and CRS.
        """
        if grid.control is not None:
            raise DataError(
                f"aoi: {name} is georeferenced by control points alone; warp it to a CRS first (gdalwarp -t_srs)"
            )
        if grid.crs is None or (grid.crs != self.crs and not on_earth(grid.crs)):
            raise DataError(
                f"aoi: {name} has no CRS of the Earth, so the area cannot be located in it; leave out the area"
            )
        geometry = self._in_crs_of(grid)

        def in_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
            rows, columns = grid.row_and_column(points[:, 0], points[:, 1])
            return np.stack([columns, rows], axis=1)

        outline = shapely.transform(geometry, in_pixels)
        outline = outline.intersection(shapely.box(-1, -1, grid.width + 1, grid.height + 1))
        if outline.is_empty or outline.area == 0:
            return None
        left, top, right, bottom = outline.bounds
        first, last = max(0, int(top)), min(grid.height, int(bottom) + 1)
        start, stop = max(0, int(left)), min(grid.width, int(right) + 1)
        if first >= last or start >= stop:
            return None
        masks = (
            _inside(outline, row, min(row + _ROWS, last), start, stop) for row in range(first, last, _ROWS)
        )
        return PixelArea.of(first, start, masks)

    def refusal(self, grid: Grid, name: str) -> str:
        """Text that explains why no pixel of a scene is in the area."""
        if not self._in_crs_of(grid).intersects(shapely.box(*grid.bounds)):
            return self.apart_from(grid, name)
        return (
            f"{self.described} contains the centre of no pixel of {name} ({self._bounds(grid)}); enlarge it"
        )

    def apart_from(self, grid: Grid, name: str) -> str:
        """Text with the bounds of the area and of a scene apart from it, and advice."""
        advice = self._exchanged(grid) or self._other_crs(grid)
        return f"{self.described} does not intersect {name} ({self._bounds(grid)}){advice}"

    def _bounds(self, grid: Grid) -> str:
        """Bounds of a scene, in its CRS and in that of the area."""
        bounds = _listed(grid.bounds, grid.crs)
        if grid.crs is not None and grid.crs != self.crs:
            try:
                moved = transform_bounds(grid.crs, self.crs, *grid.bounds)
            except (CRSError, RasterioError):
                moved = (np.inf,) * 4
            bounds += f"; {_listed(moved, self.crs)}" if np.isfinite(moved).all() else ""
        return bounds

    def _exchanged(self, grid: Grid) -> str:
        """Advice for an area with latitude before longitude, if a scene lies there; otherwise empty."""
        left, bottom, right, top = self.geometry.bounds
        if self.crs != _DEGREES or left < -90 or right > 90:
            return ""
        swapped = replace(self, geometry=shapely.transform(self.geometry, lambda points: points[:, ::-1]))
        if not swapped._in_crs_of(grid).intersects(shapely.box(*grid.bounds)):
            return ""
        return (
            "; with longitude and latitude exchanged, it would: "
            f"{','.join(f'{value:.10g}' for value in (bottom, left, top, right))}"
        )

    def _other_crs(self, grid: Grid) -> str:
        """Advice for an area whose coordinates lie in a scene, but in another CRS; otherwise empty."""
        if grid.crs in (None, self.crs) or not self.geometry.intersects(shapely.box(*grid.bounds)):
            return ""
        crs = grid.crs.to_string() if grid.crs.to_epsg() else "the CRS of the scene"
        return f"; its coordinates would fit in {crs}: check its CRS"

    def coverage(self, grids: Sequence[Grid]) -> str:
        """Text with the share of the area that scenes cover, with or without data.

        Args:
            grids: Grids of the scenes.
        """
        covered = shapely.union_all([_in_equal_area(self._part_in(grid), grid.crs) for grid in grids])
        whole = _in_equal_area(self.geometry, self.crs)
        share = covered.intersection(whole).area / whole.area
        polygons = shapely.get_parts(whole)
        outside = int((~shapely.intersects(polygons, covered)).sum())
        percent = f"{100 * min(share, 1.0):.1f}".removesuffix(".0")
        text = f"the scenes cover {percent} % of the area"
        lie = "lies" if outside == 1 else "lie"
        return f"{text}; {outside} of its {len(polygons)} polygons {lie} outside them" if outside else text

    def _part_in(self, grid: Grid) -> Any:
        """The part of the geometry in a grid, in the CRS of the grid."""
        corners = grid.xy([0, 0, grid.height, grid.height], [0, grid.width, grid.width, 0])
        return self._in_crs_of(grid).intersection(shapely.Polygon(np.stack(corners, axis=1)))

    def _in_crs_of(self, grid: Grid) -> Any:
        """The geometry around a grid, in the CRS of the grid."""
        if grid.crs == self.crs:
            return self.geometry
        boxes = self._around(grid)
        near = shapely.union_all([self.geometry.intersection(box) for box in boxes])
        size = max(max(box.bounds[2] - box.bounds[0], box.bounds[3] - box.bounds[1]) for box in boxes)
        # A straight edge is a curve in another CRS.
        near = shapely.segmentize(near, size / _PARTS)

        return shapely.make_valid(shapely.transform(near, lambda points: _moved(points, self.crs, grid.crs)))

    def _around(self, grid: Grid) -> list[Any]:
        """Boxes around a grid in the CRS of the area: two across the antimeridian."""
        rows, columns = np.meshgrid(
            np.linspace(-_MARGIN, 1 + _MARGIN, _SAMPLES) * grid.height,
            np.linspace(-_MARGIN, 1 + _MARGIN, _SAMPLES) * grid.width,
        )
        x, y = grid.xy(rows.ravel(), columns.ravel())
        x, y = (np.array(values) for values in transform_points(grid.crs, self.crs, x, y)[:2])
        known = np.isfinite(x) & np.isfinite(y)
        if not known.any():
            return [shapely.box(*self.geometry.bounds)]
        x, y = x[known], y[known]
        if self.crs.is_geographic and np.ptp(x) > 180:
            west, east = x[x < 0].max(), x[x >= 0].min()
            return [shapely.box(-180, y.min(), west, y.max()), shapely.box(east, y.min(), 180, y.max())]
        return [shapely.box(x.min(), y.min(), x.max(), y.max())]


def _moved(points: NDArray[np.float64], crs: CRS | None, other: CRS | None) -> NDArray[np.float64]:
    """Points (N, 2) in another CRS."""
    return np.stack(transform_points(crs, other, points[:, 0], points[:, 1])[:2], axis=1)


def _in_equal_area(geometry: Any, crs: CRS | None) -> Any:
    """A geometry in longitude and sine of latitude, where areas are those on a sphere; cut at the antimeridian."""
    if geometry.is_empty:
        return geometry
    left, bottom, right, top = geometry.bounds
    dense = shapely.segmentize(geometry, max(right - left, top - bottom) / _SAMPLES)
    parts = []
    for part in _parts(shapely.transform(dense, lambda points: _moved(points, crs, _DEGREES))):
        if part.bounds[2] - part.bounds[0] > 180 and crs != _DEGREES:  # it crosses the antimeridian
            part = shapely.transform(part, lambda points: points + [360, 0] * (points[:, :1] < 0))
            east, west = shapely.box(180, -90, 540, 90), shapely.box(-180, -90, 180, 90)
            beyond = shapely.transform(part.intersection(east), lambda points: points - [360, 0])
            part = part.intersection(west).union(beyond)
        parts.append(part)
    flat = shapely.transform(
        shapely.union_all(parts),
        lambda points: np.stack([points[:, 0], np.sin(np.radians(points[:, 1]))], axis=1),
    )
    return shapely.make_valid(flat)


def _inside(outline: Any, top: int, bottom: int, left: int, right: int) -> NDArray[np.bool_]:
    """Mask of the pixels whose centre is in an outline, which is in pixels."""
    mask: NDArray[np.uint8] = rasterize(
        [outline],
        out_shape=(bottom - top, right - left),
        transform=Affine.translation(left, top),
        dtype="uint8",
    )
    return mask.astype(bool)


def _parts(geometry: Any) -> list[Any]:
    """The single geometries of a geometry."""
    parts = shapely.get_parts(geometry).tolist()
    return [
        one
        for part in parts
        for one in (_parts(part) if part.geom_type.startswith(("Multi", "Geo")) else [part])
    ]


def _listed(bounds: tuple[float, float, float, float], crs: CRS | None) -> str:
    digits = 7 if crs is not None and crs.is_geographic else 1
    name = "" if crs is None else f" in {crs.to_string() if crs.to_epsg() else 'its CRS'}"
    return f"left, bottom, right, top {', '.join(f'{round(value, digits):.10g}' for value in bounds)}{name}"


def _box(text: str) -> Any:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"aoi: {text} is not left,bottom,right,top in degrees ({error})") from error
    wanted = "four numbers left,bottom,right,top in degrees are expected"
    if len(values) != 4:
        raise ConfigError(f"aoi: {text} has {len(values)} numbers; {wanted}")
    left, bottom, right, top = values
    if not (-180 <= left <= 180 and -180 <= right <= 180 and -90 <= bottom < top <= 90) or left == right:
        exchanged = [f"{value:g}" for value in (bottom, left, top, right)]
        is_exchanged = -90 <= left < right <= 90 and -180 <= bottom < top <= 180
        raise ConfigError(
            f"aoi: {text}: {wanted}, longitudes in -180..180 and latitudes in -90..90, bottom below top"
            + (f"; did you mean {','.join(exchanged)}?" if is_exchanged else "")
        )
    if left > right:
        if left - right < 180:
            raise ConfigError(
                f"aoi: {text}: left {left:g} is greater than right {right:g}, so the box crosses "
                f"the antimeridian and is {360 - left + right:g} degrees wide; exchange left and right"
            )
        return shapely.union_all([shapely.box(left, bottom, 180, top), shapely.box(-180, bottom, right, top)])
    return shapely.box(left, bottom, right, top)


def _wkt(text: str) -> Any:
    if text.strip().upper().startswith("SRID="):
        raise ConfigError(
            f"aoi: {text[:80]}: WKT is in longitude and latitude; write other CRS to a vector file"
        )
    try:
        geometry = shapely.from_wkt(text)
    except shapely.errors.ShapelyError as error:
        raise ConfigError(f"aoi: {text[:80]} is not valid WKT ({error})") from error
    left, bottom, right, top = (0, 0, 0, 0) if geometry.is_empty else geometry.bounds
    if left < -180 or right > 180 or bottom < -90 or top > 90:
        raise ConfigError(
            f"aoi: {text[:80]}: WKT is in longitude and latitude, but its bounds are {left:g}, {bottom:g}, {right:g}, "
            f"{top:g}; write other CRS to a vector file"
        )
    return geometry


def _read(text: str) -> tuple[Any, CRS]:
    path = Path(text)
    if not path.exists():
        raise ConfigError(
            f"aoi: {text[:80]} is not a file; give a vector file, left,bottom,right,top in degrees, or WKT"
        )
    try:
        read = (
            geopandas.read_parquet
            if path.suffix.lower() in (".parquet", ".geoparquet")
            else geopandas.read_file
        )
        frame = read(path)
    except (OSError, RuntimeError, ValueError, CRSError) as error:
        raise DataError(f"aoi: {text}: not a readable vector file ({error})") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise DataError(f"aoi: {text}: has no geometries")
    if frame.crs is None:
        raise DataError(f"aoi: {text}: has no CRS; {ASSIGN_TO_VECTORS}")
    geometries = frame.geometry.dropna()
    return shapely.union_all(shapely.make_valid(geometries.to_numpy())), CRS.from_wkt(frame.crs.to_wkt())
