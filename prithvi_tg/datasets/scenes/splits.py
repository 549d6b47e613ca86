"""Regions: disjoint areas of training, validation and test."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyproj import CRS

from ...errors import ConfigError, DataError, MissingFileError, counted
from ...readers.grid import Grid
from ...readers.words import is_remote
from ..split_fractions import SPLITS, check_fractions
from .footprints import Roi, move_to

_ASSIGNMENTS = 200  # random assignments of blocks to splits, at most
_SHARE_TOLERANCE = 0.02
_SLIVER = 1e-3  # pixels of images in a block that rounding errors alone can cause
_COLORS = {"train": "#4477aa", "val": "#eebb33", "test": "#aa3377"}
_LABELS = {"train": "training", "val": "validation"}


@dataclass(frozen=True)
class Region:
    """The area of one split.

    Attributes:
        roi: The area, in coordinates of the dataset's CRS; it contains whole training windows.
        boxes: Top, left, bottom and right of disjoint rectangles of pixels that contain all scored pixels.
    """

    roi: Any
    boxes: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class Regions:
    """The areas of all splits.

    Attributes:
        grid: The pixels of the dataset.
        splits: Region of each split.
        lost: Share of the area that the training split loses to the buffer.
    """

    grid: Grid
    splits: Mapping[str, Region]
    lost: float = 0.0

    @property
    def are_apart(self) -> bool:
        """Whether each split has an area of its own; splits by time share one."""
        first, *others = (region.roi for region in self.splits.values())
        return not others or not all(roi.equals(first) for roi in others)

    def plot(self) -> Figure:
        """A map of the splits, in coordinates of the dataset's CRS."""
        left, bottom, right, top = geopandas.GeoSeries([one.roi for one in self.splits.values()]).total_bounds
        height = 6 * (top - bottom) / (right - left)
        figure = Figure(
            figsize=(6, min(max(1, height), 9) + 1.2), layout="constrained"
        )  # 1.2: title and legend
        axis = figure.add_subplot()
        for name, region in self.splits.items():
            frame = geopandas.GeoSeries([region.roi])
            frame.plot(ax=axis, color=_COLORS.get(name, "#777777"), edgecolor="white", linewidth=0.5)
            axis.plot([], [], "s", color=_COLORS.get(name, "#777777"), label=_LABELS.get(name, name))
        figure.legend(loc="outside lower center", ncols=len(self.splits), frameon=False)
        cost = f"; the buffer costs {100 * self.lost:.1f} % of the training area" if self.lost else ""
        axis.set_title(f"splits{cost}")
        axis.ticklabel_format(useOffset=False, style="plain")
        # Coordinates in metres are long, and a narrow area has no room for several.
        axis.locator_params("x", nbins=4 if height < 24 else 1)
        axis.locator_params("y", nbins=4 if height > 1.5 else 1)
        x_label, y_label = _axis_labels(self.grid)
        axis.set(xlabel=x_label, ylabel=y_label)
        return figure


def _axis_labels(grid: Grid) -> tuple[str, str]:
    """Names of the axes, with the unit and the CRS."""
    if grid.crs is None:
        return "x", "y"
    if grid.crs.is_geographic:
        return "longitude (degrees)", "latitude (degrees)"
    unit = CRS.from_user_input(grid.crs).axis_info[0].unit_name
    unit = {"metre": "m"}.get(unit, unit)
    code = grid.crs.to_string() if grid.crs.to_epsg() else ""
    return f"x ({unit}){', ' * bool(code)}{code}", f"y ({unit})"


def split_by_blocks(
    grid: Grid,
    block: int,
    window: int,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    buffer: int = 0,
    seed: int = 0,
    footprints: Sequence[Any] = (),
) -> Regions:
    """Split into blocks, each for training, validation or test.

    Blocks are squares of `block` pixels; those at the right and bottom edges extend to the edge. Distant images have
    separate blocks, and areas without an image have none. Blocks are assigned to splits at random, in shares as near to
    `fractions` as whole blocks allow, with at least one block for each split that has a fraction.

    Several random assignments are compared by their shares of the pixels of the images. The first one within two
    percentage points of `fractions` is used, or within one block if there are fewer than 50 blocks; otherwise the
    nearest one.

    Args:
        grid: The pixels of the dataset.
        block: Side of a block in pixels.
        window: Size of the windows in pixels.
        fractions: Shares of training, validation and test.
        buffer: Pixels between training windows and the blocks of other splits.
        seed: The same seed gives the same blocks.
        footprints: Outlines of the images, in coordinates of the dataset's CRS; the whole grid by default.

    Raises:
        ConfigError: The fractions do not add up, there are too few blocks, or no window fits.
    """
    check_fractions("fractions", fractions)
    if block < window:
        raise ConfigError(
            f"block: {block} is smaller than a window, {window}; use larger blocks or a smaller window"
        )
    images = image_area(grid, footprints)
    boxes, pixels = _blocks(grid, block, images)
    wanted = [fraction > 0 for fraction in fractions]
    if len(boxes) < sum(wanted):
        places = len(pixel_boxes(grid, images))
        extent = f"a scene of {grid.width} x {grid.height}" if places == 1 else f"scenes in {places} places"
        raise ConfigError(
            f"block: {block} gives {counted(len(boxes), 'block')} of {extent}, too few for {sum(wanted)} splits; use "
            "smaller blocks"
        )
    assigned = _assign_splits(pixels, fractions, np.random.default_rng(seed))
    by_split = {
        name: [boxes[k] for k in np.flatnonzero(assigned == number)] for number, name in enumerate(SPLITS)
    }
    rois = {
        name: shapely.union_all([_box_outline(grid, box) for box in part]) for name, part in by_split.items()
    }
    lost = 0.0
    if buffer and not rois["train"].is_empty:
        pixel = max(abs(grid.transform.a), abs(grid.transform.e))
        others = shapely.union_all([rois["val"], rois["test"]])
        rest = rois["train"].difference(others.buffer(buffer * pixel, join_style="mitre"))
        lost = 1 - rest.area / rois["train"].area
        rois["train"] = rest
    if not holds_window(rois["train"], grid, window) and fractions[0]:
        raise ConfigError(
            f"buffer: {buffer} pixels leave no room for a training window of {window}; lower it"
        )
    regions = {name: Region(rois[name], tuple(by_split[name])) for name in SPLITS if by_split[name]}
    return Regions(grid, regions, lost)


def _edges(length: int, block: int) -> list[int]:
    """First and last pixels of blocks along an axis; no block is smaller than `block`, unless the axis is."""
    count = max(1, length // block)
    return [block * k for k in range(count)] + [length]


def _blocks(
    grid: Grid, block: int, images: Any
) -> tuple[list[tuple[int, int, int, int]], NDArray[np.float64]]:
    """Blocks (N; top, left, bottom, right) that contain images, and the number of image pixels in each (N,)."""
    boxes: list[tuple[int, int, int, int]] = []
    for top, left, bottom, right in pixel_boxes(grid, images):
        rows = [top + edge for edge in _edges(bottom - top, block)]
        columns = [left + edge for edge in _edges(right - left, block)]
        boxes += [
            (row, column, end, stop) for row, end in pairwise(rows) for column, stop in pairwise(columns)
        ]
    outlines = np.array([_box_outline(grid, box) for box in boxes], object)
    shapely.prepare(images)
    partial = ~shapely.covers(images, outlines)
    outlines[partial] = shapely.intersection(outlines[partial], images)
    pixels = shapely.area(outlines) / abs(grid.transform.a * grid.transform.e)
    occupied = np.flatnonzero(pixels > _SLIVER)
    return [boxes[number] for number in occupied], pixels[occupied]


def _assign_splits(
    pixels: NDArray[np.float64], fractions: Sequence[float], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Assign a split to each block (N,), from the number of image pixels in each (N,)."""
    count = len(pixels)
    shares = np.array(fractions) * count
    numbers = np.floor(shares).astype(int)
    numbers[(shares > 0) & (numbers == 0)] = 1
    while numbers.sum() < count:
        numbers[np.argmax(shares - numbers)] += 1
    while numbers.sum() > count:
        numbers[np.argmax(np.where(numbers > 1, numbers - shares, -np.inf))] -= 1
    splits = np.repeat(np.arange(len(fractions)), numbers)
    least = math.inf
    for _ in range(_ASSIGNMENTS):
        assignment = rng.permutation(splits)
        off = np.abs(np.bincount(assignment, pixels, len(fractions)) / pixels.sum() - fractions).max()
        if off < least - 1e-9:
            least, assigned = off, assignment
        if least <= max(_SHARE_TOLERANCE, 1 / count):
            break
    return assigned


def _box_outline(grid: Grid, box: tuple[int, int, int, int]) -> Any:
    top, left, bottom, right = box
    t = grid.transform
    return shapely.box(t.c + t.a * left, t.f + t.e * bottom, t.c + t.a * right, t.f + t.e * top)


def split_by_polygons(
    grid: Grid,
    path: str | Path,
    attribute: str = "split",
    window: int = 1,
    footprints: Sequence[Any] = (),
    roi: Roi | None = None,
) -> Regions:
    """Split by polygons of a vector file with an attribute ``train``, ``val`` or ``test``.

    Args:
        grid: The pixels of the dataset.
        path: File of the polygons.
        attribute: Column with the split.
        window: Size of the windows in pixels.
        footprints: Outlines of the images, in coordinates of the dataset's CRS; the whole grid by default.
        roi: Region of the images, to clip the polygons.

    Raises:
        DataError: The file cannot be read or has no CRS, or polygons have no split or overlap.
        ConfigError: No training window fits.
    """
    frame = read_split_polygons(path, attribute)
    if grid.crs is None:
        raise DataError(f"{path}: polygons cannot be aligned with images that have no CRS")
    target = CRS.from_user_input(grid.crs)
    moved = move_to(frame.geometry.to_numpy(), frame.crs, target, roi, str(path))
    images = image_area(grid, footprints)
    rois = {
        name: shapely.intersection(shapely.union_all(moved[frame[attribute] == name]), images)
        for name in SPLITS
    }
    rois = {name: roi for name, roi in rois.items() if not roi.is_empty}
    rounding = 1e-3 * min(abs(grid.transform.a), abs(grid.transform.e))
    for name, other in itertools.combinations(rois, 2):
        shared = rois[name].intersection(rois[other])
        if not shared.buffer(-rounding).is_empty:
            raise DataError(
                f"{path}: polygons of {name} and {other} overlap; each pixel must belong to one split"
            )
        rois[other] = rois[other].difference(shared)  # a sliver, because outlines of neighbours are rounded
    if "train" in rois and not holds_window(rois["train"], grid, window):
        raise ConfigError(f"{path}: no training window of {window} pixels fits into its polygons")
    boxes = {name: pixel_boxes(grid, roi) for name, roi in rois.items()}
    return Regions(grid, {name: Region(roi, boxes[name]) for name, roi in rois.items()})


def read_split_polygons(path: str | Path, attribute: str) -> geopandas.GeoDataFrame:
    """Read polygons with a column of splits.

    Raises:
        DataError: The file cannot be read, has no CRS, or a polygon has no split.
    """
    if not Path(path).exists() and not is_remote(str(path)):
        raise MissingFileError.of(str(path))
    try:
        frame = geopandas.read_file(path)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable vector file ({error})") from error
    if attribute not in frame:
        raise DataError(
            f"{path}: has no attribute {attribute!r}; it has {', '.join(map(str, frame.columns))}"
        )
    if frame.crs is None:
        raise DataError(f"{path}: has no CRS")
    unknown = sorted(set(map(str, frame[attribute])) - set(SPLITS))
    if unknown:
        raise DataError(f"{path}: {attribute} is {unknown[0]!r}; choose from {', '.join(SPLITS)}")
    return frame


def image_area(grid: Grid, footprints: Sequence[Any]) -> Any:
    """The area of all images; that of the grid if there are no footprints."""
    return shapely.union_all(list(footprints)) if len(footprints) else shapely.box(*grid.bounds)


def pixel_boxes(grid: Grid, roi: Any) -> tuple[tuple[int, int, int, int], ...]:
    """Disjoint rectangles of pixels (top, left, bottom, right) that contain an area, one for each separate part."""
    edges = []
    for part in shapely.get_parts(roi):
        left, bottom, right, top = part.bounds
        first, last = grid.row_and_column(left, top), grid.row_and_column(right, bottom)
        low = [max(0, math.floor(at + 1e-6)) for at in first]  # tolerance for rounding errors of coordinates
        high = [
            min(most, math.ceil(at - 1e-6)) for at, most in zip(last, (grid.height, grid.width), strict=True)
        ]
        if low[0] < high[0] and low[1] < high[1]:
            edges.append(shapely.box(low[1], low[0], high[1], high[0]))
    merged = shapely.union_all(edges)
    while True:  # merge overlapping rectangles into one around both
        around = [shapely.box(*part.bounds) for part in shapely.get_parts(merged)]
        merged = shapely.union_all(around)
        if len(shapely.get_parts(merged)) == len(around):
            break
    found = [tuple(map(round, part.bounds)) for part in around]
    return tuple((top, left, bottom, right) for left, top, right, bottom in found)


def whole_region(grid: Grid, roi: Any, footprints: Sequence[Any] = ()) -> Region:
    """The whole area of a dataset as a region, for splits by time."""
    return Region(roi, pixel_boxes(grid, image_area(grid, footprints)))


def holds_window(roi: Any, grid: Grid, window: int) -> bool:
    """Whether a window of whole pixels fits into an area."""
    return any(
        len(_places_in_part(part, grid, window, steps))
        for steps in (4, 64)  # a coarse search first, which finds a window in most parts
        for part in shapely.get_parts(roi)
    )


def places_in(roi: Any, grid: Grid, window: int, steps: int = 64) -> NDArray[np.int64]:
    """Some top left pixels (N, 2) of windows inside an area; empty if none fits.

    For each part of the area, the candidates are the positions of its corners along both axes, and a lattice of
    `steps` x `steps` positions.
    """
    found = [_places_in_part(part, grid, window, steps) for part in shapely.get_parts(roi)]
    return np.concatenate([np.empty((0, 2), np.int64), *found])


def _places_in_part(part: Any, grid: Grid, window: int, steps: int) -> NDArray[np.int64]:
    if not part.area:  # a line or point, which a difference can leave
        return np.empty((0, 2), np.int64)
    edges = np.array([grid.row_and_column(x, y) for x, y in shapely.get_coordinates(part)])
    axes = []
    for axis, length in ((0, grid.height), (1, grid.width)):
        low, high = edges[:, axis].min(), edges[:, axis].max() - window
        lattice = np.linspace(low, max(low, high), steps)
        corners = np.unique(np.concatenate([edges[:, axis], edges[:, axis] - window]))
        corners = corners[np.linspace(0, len(corners) - 1, min(len(corners), 4 * steps)).astype(int)]
        tried = np.unique(
            np.concatenate([np.ceil(corners - 1e-6), np.floor(corners + 1e-6), np.ceil(lattice)])
        )
        axes.append(tried[(tried >= 0) & (tried + window <= length)])
    rows, columns = (values.ravel() for values in np.meshgrid(*axes, indexing="ij"))
    inside = covered(part, grid, rows, columns, window)
    return np.stack([rows[inside], columns[inside]], axis=1).astype(np.int64)


def window_boxes(grid: Grid, rows: NDArray[Any], columns: NDArray[Any], size: int) -> Any:
    """Outlines (N,) of windows by their top left pixels, reduced by half a pixel, so that neighbours do not touch."""
    t = grid.transform
    x, y = t.c + t.a * (columns + 0.5), t.f + t.e * (rows + 0.5)
    return shapely.box(x, y + t.e * (size - 1), x + t.a * (size - 1), y)


def covered(
    roi: Any, grid: Grid, rows: NDArray[Any], columns: NDArray[Any], window: int
) -> NDArray[np.bool_]:
    """Whether windows with these top left pixels lie inside an area (N,)."""
    t = grid.transform
    margin = 1e-6  # of a pixel, so that rounding errors do not exclude windows at an edge
    left, right = t.c + t.a * (columns + margin), t.c + t.a * (columns + window - margin)
    top, bottom = t.f + t.e * (rows + margin), t.f + t.e * (rows + window - margin)
    shapely.prepare(roi)
    return np.asarray(shapely.covers(roi, shapely.box(left, bottom, right, top)))
