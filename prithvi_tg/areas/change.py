"""Change between two maps: the mapped area of each transition, and a map of transitions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from .. import __version__
from ..colors import default_colors
from ..errors import DataError
from ..files import file_hash, finished_file, writing
from ..readers.pixel_areas import ellipsoidal_areas
from .maps import OUTSIDE, ClassMap, open_maps

_NODATA = 255


@dataclass(frozen=True)
class Transitions:
    """Mapped area of each transition, where both maps have a class.

    Attributes:
        before: The map of the first date.
        after: The map of the second date.
        square_metres: (K, L): class of the first date, class of the second.
        pixels: Number of pixels (K, L).
        only_before: Pixels that have a class only in the first map.
        only_after: Pixels that have a class only in the second map.
    """

    before: ClassMap
    after: ClassMap
    square_metres: NDArray[np.float64]
    pixels: NDArray[np.int64]
    only_before: int
    only_after: int

    def names(self) -> list[tuple[int, int, str]]:
        """Both class numbers and the name of each transition that occurs: ``stable forest``, ``forest to water``."""
        first, second = (tuple(one.classes.values()) for one in (self.before, self.after))
        return [
            (i, j, f"stable {first[i]}" if first[i] == second[j] else f"{first[i]} to {second[j]}")
            for i, j in np.argwhere(self.pixels > 0).tolist()
        ]

    def record(self) -> dict[str, Any]:
        """The matrix, names and hashes, for JSON."""
        return {
            "software": f"prithvi_tg {__version__}",
            "maps": [
                {"name": one.name(), "sha256": file_hash(one.path), "classes": [*one.classes.values()]}
                for one in (self.before, self.after)
            ],
            "mapped_square_metres": self.square_metres.tolist(),
            "pixels": self.pixels.tolist(),
            "pixels_with_one_class": {"before": self.only_before, "after": self.only_after},
        }


def count_transitions(before: ClassMap, after: ClassMap) -> Transitions:
    """Add up the mapped area of each transition.

    Raises:
        DataError: The maps have other pixels, or cannot be read.
    """
    ours, theirs = before.grid, after.grid
    if (ours.height, ours.width) != (theirs.height, theirs.width) or not (
        ours.has_pixels_of(theirs)
        and np.allclose(ours.row_and_column(theirs.transform.c, theirs.transform.f), 0, atol=1e-3)
    ):
        raise DataError(
            f"{after.path}: its pixels differ from those of {before.path}; warp one map to the grid of the other with "
            "gdalwarp -r near, or map both dates on one grid"
        )
    shape = len(before.classes), len(after.classes)
    areas, pixels = np.zeros(shape), np.zeros(shape, np.int64)
    only = [0, 0]
    for window, first, second in _both(before, after):
        in_first, in_second = first != OUTSIDE, second != OUTSIDE
        both = in_first & in_second
        cells = np.ravel_multi_index((first[both], second[both]), shape)
        per_pixel = np.broadcast_to(ellipsoidal_areas(before.grid, window), both.shape)[both]
        areas += np.bincount(cells, per_pixel, areas.size).reshape(shape)
        pixels += np.bincount(cells, minlength=areas.size).reshape(shape)
        only[0] += int((in_first & ~in_second).sum())
        only[1] += int((in_second & ~in_first).sum())
    return Transitions(before, after, areas, pixels, *only)


def _both(before: ClassMap, after: ClassMap) -> Iterator[tuple[Window, NDArray[np.int16], NDArray[np.int16]]]:
    """Windows, with the number of the class of each pixel in both maps."""
    with (
        open_maps([before], tuple(before.classes.values())) as (first,),
        open_maps([after], tuple(after.classes.values())) as (second,),
    ):
        for window in before.tiles():
            yield window, first.classes(window), second.classes(window)


def write_change_map(path: Path, transitions: Transitions) -> None:
    """Write a map of the transitions that occur: a cloud-optimised GeoTIFF, uint8 with nodata 255, colours and names.

    Raises:
        DataError: No transition or more than 255 occur, or the file cannot be written.
    """
    names = transitions.names()
    if not names:
        raise DataError(f"{path}: no pixel has a class in both maps, so there is no change to map")
    if len(names) > _NODATA:
        raise DataError(
            f"{path}: {len(names)} transitions occur, but a map of changes holds at most {_NODATA}"
        )
    codes = np.full(transitions.pixels.shape, _NODATA, np.uint8)
    for code, (i, j, _) in enumerate(names):
        codes[i, j] = code
    grid = transitions.before.grid
    profile = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
    tiles = {
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "bigtiff": "if_safer",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), _plain_file(path) as plain, finished_file(path) as partial:
        with rasterio.open(
            plain, "w", driver="GTiff", count=1, dtype="uint8", nodata=_NODATA, **profile, **tiles
        ) as out:
            for window, first, second in _both(transitions.before, transitions.after):
                both = (first != OUTSIDE) & (second != OUTSIDE)
                out.write(np.where(both, codes[first, second], _NODATA).astype(np.uint8), 1, window=window)
            out.update_tags(
                software=f"prithvi_tg {__version__}",
                before=f"{transitions.before.name()} {file_hash(transitions.before.path)}",
                after=f"{transitions.after.name()} {file_hash(transitions.after.path)}",
            )
            out.write_colormap(1, _colors([name for _, _, name in names]))
            out.update_tags(1, **{f"CLASS_{code}": name for code, (_, _, name) in enumerate(names)})
        with rasterio.Env(GDAL_PAM_ENABLED="NO"):
            copy_raster(plain, partial, driver="COG", compress="DEFLATE", overview_resampling="MODE")


def _colors(names: list[str]) -> dict[int, tuple[int, int, int, int]]:
    table: dict[int, Any] = {
        code: (*(round(255 * part) for part in to_rgb(color)), 255)
        for code, color in enumerate(default_colors(names))
    }
    return {**table, _NODATA: (0, 0, 0, 0)}


@contextmanager
def _plain_file(path: Path) -> Iterator[Path]:
    plain = path.with_name(f".{path.stem}.plain.tif")
    try:
        yield plain
    finally:
        plain.unlink(missing_ok=True)
