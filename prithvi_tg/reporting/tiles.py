"""TiledMap: tiles of a map and its scene, to embed in an HTML page."""

import base64
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ..errors import DataError
from ..plotting import NO_DATA_COLOR, color_limits, true_color
from ..readers.grid import Grid
from ..readers.raster import open_raster, reading
from ..readers.scene import Scene, SceneReader
from ..spec import DataSpec, InputSpec
from ..targets import IGNORE_INDEX

TILE = 256
_OVERVIEW = 512  # size of the overview that the colour stretch is computed from
_NO_DATA = "#e9edf0"  # the background of a map on the page


@dataclass
class TiledMap:
    """A map as a pyramid of tiles. Level 0 is one tile; each further level doubles the resolution.

    Attributes:
        name: Name of the map.
        width: Width of the map in pixels.
        height: Height of the map in pixels.
        classes: Name and ``#rrggbb`` of each class.
        place: CRS, transform and size of the grid; maps with the same text have the same pixels.
        checkpoint: SHA-256 of the weights that made the map, if the map records it.
        factor: Decimation factor of the finest level.
        levels: ``width``, ``height`` and ``tiles`` of each level. ``tiles`` maps ``row_column`` to the data URLs of
            ``classes`` and, with a scene, of ``scene``.
        size: Size of all tiles in bytes.
        no_data: Colour of pixels without data, ``#rrggbb``; empty if all pixels have data.
    """

    name: str
    width: int
    height: int
    classes: list[tuple[str, str]]
    place: str = ""
    checkpoint: str | None = None
    factor: int = 1
    levels: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    no_data: str = ""


def tile_map(
    path: Path, max_bytes: float, scene: Scene | None = None, spec: DataSpec | None = None
) -> TiledMap:
    """Cut a map into tiles, down to the finest level that fits into a number of bytes.

    Args:
        path: A map with a colour table, as written by `prithvi_tg.mapping`.
        max_bytes: Largest size of all tiles in bytes.
        scene: The mapped scene, shown below the map, which has its pixels or, with an area of interest, some of them.
        spec: Bands and statistics of the model, needed to read the scene.

    Raises:
        DataError: The map has no colour table, the scene has other pixels, or a file cannot be read.
    """
    with open_raster(path) as source:
        colors, classes = _palette(source, path)
        place = f"{source.crs} {tuple(source.transform)[:6]} {source.width} x {source.height}"
        weights = source.tags().get("checkpoint_sha256")
        result = TiledMap(path.stem, source.width, source.height, classes, place, weights)
        if _lacks_data(source, path):
            result.no_data = _NO_DATA if scene is None or spec is None else NO_DATA_COLOR
        corner = (0, 0) if scene is None else _corner(scene, source, path)
        deepest = max(0, math.ceil(math.log2(max(source.shape) / TILE)))
        reader = None if scene is None or spec is None else SceneReader(scene, spec.input)
        try:
            limits = None if reader is None else _limits(reader, corner, source.shape)
            for level in range(deepest + 1):
                factor = 2 ** (deepest - level)
                tiles, size = {}, 0
                for row, column, window in _windows(source.height, source.width, factor):
                    tile = {"classes": _classes(source, path, window, factor, colors)}
                    if reader is not None:
                        tile["scene"] = _scene(reader, window, corner, factor, limits)
                    tiles[f"{row}_{column}"] = tile
                    size += sum(map(len, tile.values()))
                    if level and result.size + size > max_bytes:
                        return result
                shape = {
                    "width": math.ceil(source.width / factor),
                    "height": math.ceil(source.height / factor),
                }
                result.levels.append({**shape, "tiles": tiles})
                result.size += size
                result.factor = factor
        finally:
            if reader is not None:
                reader.close()
    return result


def _lacks_data(source: DatasetReader, path: Path) -> bool:
    factor = max(1, math.ceil(max(source.shape) / _OVERVIEW))
    shape = math.ceil(source.height / factor), math.ceil(source.width / factor)
    with reading(path):
        overview = source.read(1, out_shape=shape)
    return bool((overview == IGNORE_INDEX).any())


def has_values(path: Path) -> bool:
    """Whether a raster of this package has values instead of classes, as maps of a regression and probabilities do.

    Raises:
        DataError: The file cannot be read.
    """
    with open_raster(path) as source:
        return "checkpoint_sha256" in source.tags() and source.dtypes[0].startswith("float")


def _palette(source: DatasetReader, path: Path) -> tuple[list[int], list[tuple[str, str]]]:
    try:
        table = source.colormap(1)
    except ValueError as error:
        raise DataError(f"{path}: no colour table; give a map, NAME_pred.tif") from error
    names = source.tags(1)
    classes = [
        (name, "#{:02x}{:02x}{:02x}".format(*table[number]))
        for number in range(IGNORE_INDEX)
        if (name := names.get(f"CLASS_{number}")) is not None
    ]
    flat = [channel for value in range(256) for channel in table.get(value, (0, 0, 0, 0))[:3]]
    return flat, classes


def _windows(height: int, width: int, factor: int) -> Iterator[tuple[int, int, Window]]:
    side = TILE * factor
    for row in range(math.ceil(height / side)):
        for column in range(math.ceil(width / side)):
            left, top = column * side, row * side
            yield row, column, Window(left, top, min(side, width - left), min(side, height - top))


def _classes(source: DatasetReader, path: Path, window: Window, factor: int, colors: list[int]) -> str:
    shape = (math.ceil(window.height / factor), math.ceil(window.width / factor))
    with reading(path):
        values = source.read(1, window=window, out_shape=shape, resampling=Resampling.nearest)
    picture = Image.fromarray(values)
    picture.putpalette(colors)
    return _address(picture, "png", transparency=IGNORE_INDEX, optimize=True)


def _corner(scene: Scene, source: DatasetReader, path: Path) -> tuple[int, int]:
    """Row and column of the top left corner of a map in its scene.

    Raises:
        DataError: The map has other pixels than the scene.
    """
    ours, grid = scene.grid, Grid.of(source)
    if (ours.height, ours.width) == source.shape:
        return 0, 0
    if ours.has_pixels_of(grid):
        row, column = (round(float(at)) for at in ours.row_and_column(grid.transform.c, grid.transform.f))
        if 0 <= row <= ours.height - grid.height and 0 <= column <= ours.width - grid.width:
            return row, column
    raise DataError(
        f"{scene.name}: {ours.width} x {ours.height} pixels, but {path} has {source.width} x {source.height}, "
        "and does not lie within the scene; the map was made from another one"
    )


def _limits(reader: SceneReader, corner: tuple[int, int], shape: tuple[int, int]) -> tuple[float, float]:
    (top, left), (height, width) = corner, shape
    grid = reader.scene.grid
    if (grid.height, grid.width) == shape:
        pixels = reader.overview(_OVERVIEW)
    else:
        factor = max(1, math.ceil(max(shape) / _OVERVIEW))
        pixels = reader.read(top, top + height, left, left + width, factor)
    frame, valid = _first_frame(pixels.values, pixels.valid, reader.spec)
    return color_limits(frame, reader.spec, valid)


def _first_frame(values: NDArray[Any], valid: NDArray[np.bool_], spec: InputSpec) -> tuple[Any, Any]:
    return values[: len(spec.bands)], valid[: len(spec.bands)]


def _scene(
    reader: SceneReader,
    window: Window,
    corner: tuple[int, int],
    factor: int,
    limits: tuple[float, float] | None,
) -> str:
    (top, bottom), (left, right) = window.toranges()
    row, column = corner
    pixels = reader.read(row + top, row + bottom, column + left, column + right, factor)
    frame, valid = _first_frame(pixels.values, pixels.valid, reader.spec)
    rgb = true_color(frame, reader.spec, valid, limits)
    return _address(Image.fromarray((rgb * 255).astype(np.uint8)), "jpeg", quality=80)


def _address(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = BytesIO()
    picture.save(buffer, format=kind, **options)
    return data_address(buffer.getvalue(), f"image/{kind}")


def data_address(content: bytes, media_type: str) -> str:
    """A ``data:`` URL, which embeds a file in a page."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
