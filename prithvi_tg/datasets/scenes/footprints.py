"""Footprints: geometries reprojected without losing their shape, and clipped to the images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from torchgeo.datasets import GeoDataset

from ...errors import DataError, counted
from ...readers.grid import Grid

Geometries = NDArray[np.object_]
Box = tuple[float, float, float, float]
Points = NDArray[np.float64]

_TOLERANCE = 0.05  # largest error of an edge, in pixels
_MOST_PIECES = 1000  # per edge
_MARGIN = 0.05  # degrees around images, for differences of datums
_AREA_OF_USE_MARGIN = 5.0  # degrees; UTM coordinates are common outside their zone
_POINTS_PER_SIDE = 101  # for the bounds of a box in another CRS
_POLAR = 85.0  # degrees of latitude; a footprint beyond it covers all longitudes


@dataclass(frozen=True)
class Roi:
    """Region of interest: the boxes of the images, used to clip other layers in the CRS of those layers.

    Attributes:
        crs: CRS of the images.
        boxes: Left, bottom, right and top of each image, in units of this CRS.
        pixel: Pixel size in units of the CRS that layers are reprojected to.
    """

    crs: CRS
    boxes: tuple[Box, ...]
    pixel: float

    @classmethod
    def of(cls, images: GeoDataset) -> "Roi":
        """The region of a dataset of images."""
        boxes = tuple(tuple(box) for box in images.index.geometry.bounds.to_numpy().tolist())
        return cls(CRS.from_user_input(images.crs), boxes, min(images.res))

    @classmethod
    def of_crs(cls, crs: CRS) -> "Roi | None":
        """The area of use of a CRS, with a margin of five degrees; ``None`` if it is unknown."""
        code = crs.to_epsg()
        area = crs.area_of_use or (CRS.from_epsg(code).area_of_use if code else None)
        if area is None:
            return None
        degrees, more = CRS.from_epsg(4326), _AREA_OF_USE_MARGIN
        box = (area.west, area.south, area.east + (360 if area.east < area.west else 0), area.north)
        wider = (box[0] - more, max(-90.0, box[1] - more), box[2] + more, min(90.0, box[3] + more))
        bounds = Transformer.from_crs(degrees, crs, always_xy=True).transform_bounds(*wider)
        return cls(degrees, (wider if np.isfinite(bounds).all() else box,), _meter(crs))

    def within(self, crs: CRS) -> Any:
        """The region in another CRS, with a margin; ``None`` if it has no finite bounds there.

        In a geographic CRS the region is repeated at -360 and +360 degrees, for layers with longitudes from 0 to
        360 degrees and for regions that cross the antimeridian.
        """
        spans = [span for box in self.boxes for span in self._degrees(box)]
        to_crs = Transformer.from_crs(4326, crs, always_xy=True)
        bounds = np.array([to_crs.transform_bounds(*span, densify_pts=_POINTS_PER_SIDE) for span in spans])
        if not np.isfinite(bounds).all():
            return None
        margin = 0.02 * (bounds[:, 2:] - bounds[:, :2]).max()  # for curves between the points
        turns = (-360, 0, 360) if crs.is_geographic else (0,)
        west, south, east, north = bounds.T
        boxes = [
            shapely.box(west + turn - margin, south - margin, east + turn + margin, north + margin)
            for turn in turns
        ]
        return shapely.union_all(boxes)

    def _degrees(self, box: Box) -> list[Box]:
        """A box in longitudes from -180 to 180 and latitudes, split at the antimeridian."""
        bounds = Transformer.from_crs(self.crs, 4326, always_xy=True).transform_bounds(
            *box, densify_pts=_POINTS_PER_SIDE
        )
        if not np.isfinite(bounds).all():
            return [(-180.0, -90.0, 180.0, 90.0)]
        west, south, east, north = bounds
        south, north = max(-90.0, south - _MARGIN), min(90.0, north + _MARGIN)
        east += 360 if east < west else 0
        west, east = west - _MARGIN, east + _MARGIN
        if east - west >= 360 or max(north, -south) > _POLAR:
            return [(-180.0, south, 180.0, north)]
        turn = 360 * np.floor((west + 180) / 360)
        west, east = west - turn, east - turn
        if east <= 180:
            return [(west, south, east, north)]
        return [(west, south, 180.0, north), (-180.0, south, east - 360, north)]


def outline(grid: Grid) -> shapely.Polygon:
    """Outline of the pixels of a grid, in units of `Grid.ground_crs`; follows the corners of a rotated grid."""
    corners = shapely.Polygon([(0, 0), (0, grid.height), (grid.width, grid.height), (grid.width, 0)])
    if grid.control is not None:  # edges may be curves
        corners = corners.segmentize(max(grid.height, grid.width) / 32)
    return shapely.transform(corners, lambda points: np.stack(grid.xy(points[:, 1], points[:, 0]), axis=1))


def move(geometries: Sequence[Any] | Geometries, source: CRS, target: CRS, pixel: float) -> Geometries:
    """Reproject geometries, with points added along edges that become curves.

    Args:
        geometries: Polygons in `source`.
        source: CRS of the polygons.
        target: CRS of the result.
        pixel: Pixel size in units of `target`; the error of an edge is at most a twentieth of it.
    """
    polygons = np.asarray(geometries, object)
    if source == target:
        return polygons
    transformer = Transformer.from_crs(source, target, always_xy=True)

    def moved(points: Points) -> Points:
        return np.stack(transformer.transform(*points.T), axis=1)

    return np.asarray(
        shapely.transform(shapely.segmentize(polygons, _spacing(polygons, moved, pixel)), moved)
    )


def cut(geometries: Geometries, region: Any) -> Geometries:
    """Clip polygons to a region; polygons outside become empty, polygons inside stay unchanged."""
    shapely.prepare(region)
    clipped = geometries.copy()
    for number in np.flatnonzero(~shapely.covers(region, shapely.envelope(geometries))):
        polygon = geometries[number]
        if not polygon.is_valid:
            polygon = shapely.make_valid(polygon)
        clipped[number] = _polygons_of(shapely.intersection(polygon, region))
    return clipped


def move_to(
    geometries: Sequence[Any] | Geometries, source: CRS, target: CRS, roi: Roi | None, name: str
) -> Geometries:
    """Clip polygons to the region of the images, and reproject them.

    Args:
        geometries: Polygons in `source`.
        source: CRS of the polygons.
        target: CRS of the images.
        roi: Region of the images; the area of use of `target` by default.
        name: File of the polygons, for messages.

    Returns:
        The polygons; a polygon that is far from all images or has no coordinates in `target` is empty.

    Raises:
        DataError: `source` cannot be converted to `target`, or only a part of an outline has coordinates there.
    """
    polygons = np.asarray(geometries, object)
    if source == target:
        return polygons
    try:
        roi = roi or Roi.of_crs(target)
        region = None if roi is None else roi.within(source)
        if region is not None:
            polygons = cut(polygons, region)
        polygons = move(polygons, source, target, _meter(target) if roi is None else roi.pixel)
    except ProjError as error:
        raise DataError(f"{name}: {source.name} cannot be converted to {target.name} ({error})") from error
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    finite = np.bincount(owner, np.isfinite(points).all(axis=1), len(polygons))
    lost = finite < shapely.get_num_coordinates(polygons)
    if (lost & (finite > 0)).any():
        outlines = counted(int(np.sum(lost & (finite > 0))), "outline")
        raise DataError(
            f"{name}: {outlines} beyond the area where {target.name} is defined; "
            "clip them to the images (ogr2ogr -clipsrc)"
        )
    polygons = polygons.copy()
    polygons[lost] = shapely.Polygon()
    return polygons


def _meter(crs: CRS) -> float:
    """Approximate length of a metre in units of a CRS."""
    return 1 / 111_320 if crs.is_geographic else 1.0


def _spacing(geometries: Geometries, moved: Callable[[Points], Points], pixel: float) -> Points:
    """Largest distance of neighbouring points (N,) with which each polygon keeps straight edges once reprojected."""
    rings, polygon = shapely.get_rings(geometries, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    step = (points[1:] - points[:-1])[ring[1:] == ring[:-1]]
    start = points[:-1][ring[1:] == ring[:-1]]
    owner = polygon[ring[:-1][ring[1:] == ring[:-1]]]
    length = np.hypot(*step.T)
    first, last = moved(start), moved(start + step)
    off = np.zeros(len(start))
    with np.errstate(invalid="ignore"):  # for points without coordinates
        for at in (0.25, 0.5):  # an S-shaped edge has no error in its middle
            bend = moved(start + at * step) - (first + at * (last - first))
            off = np.maximum(off, np.hypot(*bend.T))
        pieces = np.ceil(np.sqrt(off / (_TOLERANCE * pixel)))  # the error grows with the square of the length
    pieces = np.nan_to_num(pieces, nan=_MOST_PIECES, posinf=_MOST_PIECES)
    longest = np.zeros(len(geometries))
    np.maximum.at(longest, owner, length)
    spacing = np.where(longest > 0, longest, 1.0)
    np.minimum.at(spacing, owner[pieces > 1], (length / np.maximum(pieces, 1))[pieces > 1])
    return np.maximum(spacing, np.where(longest > 0, longest, 1.0) / _MOST_PIECES)


def _polygons_of(geometry: Any) -> Any:
    """The polygons of a geometry, without its points and lines."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = shapely.get_parts(geometry)
    return shapely.union_all(parts[np.isin(shapely.get_type_id(parts), (3, 6))])
