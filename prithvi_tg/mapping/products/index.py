"""Index: combines many maps into one virtual raster (VRT) per CRS."""

import hashlib
import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ...errors import DataError
from ...files import finished_file, relative_path, writing
from ...readers.crs import epsg_code, wkt2
from ...readers.grid import Grid
from ...readers.raster import open_raster
from ...targets import IGNORE_INDEX

_log = logging.getLogger(__name__)

_ALIGNED = 1e-3  # pixels
#: Type of a map -> GDAL's name of the type, and the nodata value.
_TYPES = {"uint8": ("Byte", str(IGNORE_INDEX)), "float32": ("Float32", "nan")}


def write_index(maps: Sequence[Path], folder: Path, replace: bool = False) -> list[Path]:
    """Write one GDAL VRT per CRS that combines maps, such as ``index_EPSG_32615.vrt``.

    The extent is the union of the maps, and the pixel size is the smallest. Later maps cover earlier ones. Colours,
    class names, and names and units of bands are those of the first map. Paths are relative, so that the folder can
    be moved. An existing VRT with other maps, of another run that wrote to the folder, is kept, and the new one is
    named ``index_EPSG_32615_run_2.vrt``. Maps without a CRS, or not north up, are omitted with a warning.

    Args:
        maps: Maps of classes (uint8, nodata 255) or of values (float32, nodata NaN), with the same bands.
        folder: Folder of the VRTs.
        replace: Replace an existing VRT.

    Returns:
        Paths of the written files.

    Raises:
        DataError: A map cannot be read, is neither of classes nor of values, or has other bands than the first, or a
            file cannot be written.
    """
    groups: dict[str, list[_Tile]] = {}
    for path in maps:
        tile = _Tile.of(path)
        t = tile.grid.transform
        if tile.grid.crs is None or t.b or t.d or t.a <= 0 or t.e >= 0:
            reason = "has no CRS" if tile.grid.crs is None else "is not north-up"
            _log.warning(f"{path}: {reason}, so it is left out of the index")
            continue
        code = epsg_code(tile.grid.crs)
        name = f"EPSG_{code}" if code else hashlib.sha256(wkt2(tile.grid.crs).encode()).hexdigest()[:8]
        tiles = groups.setdefault(name, [])
        tiles.append(tile)
        tile.check_like(tiles[0])
    written = []
    for name, tiles in groups.items():
        names = itertools.chain([name], (f"{name}_run_{k}" for k in itertools.count(2)))
        shown = {relative_path(tile.path, folder) for tile in tiles}
        path = next(
            path
            for path in (folder / f"index_{name}.vrt" for name in names)
            if replace or not path.exists() or _maps_of(path) <= shown
        )
        tree = ElementTree.ElementTree(_vrt(tiles, folder))
        ElementTree.indent(tree)
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            with finished_file(path) as partial:
                tree.write(partial, encoding="utf-8")
        written.append(path)
    return written


def _maps_of(index: Path) -> set[str]:
    """Paths of the maps of an existing index, relative to its folder; an empty path if it cannot be read."""
    try:
        return {source.text or "" for source in ElementTree.parse(index).iter("SourceFilename")} or {""}
    except (ElementTree.ParseError, OSError):
        return {""}


@dataclass(frozen=True)
class _Tile:
    path: Path
    grid: Grid
    block: tuple[int, int]
    colors: Mapping[int, tuple[int, ...]]
    tags: Mapping[str, str]
    dtype: str
    bands: tuple[tuple[str, str], ...]  # name and unit

    @classmethod
    def of(cls, path: Path) -> "_Tile":
        with open_raster(path) as source:
            dtype = source.dtypes[0]
            if dtype not in _TYPES:
                raise DataError(
                    f"{path}: data type {dtype}; an index takes uint8 with nodata 255 or float32 with nodata NaN"
                )
            try:
                colors = source.colormap(1)
            except ValueError:  # the map has no colour table
                colors = {}
            bands = tuple(
                (name or "", unit or "") for name, unit in zip(source.descriptions, source.units, strict=True)
            )
            return cls(path, Grid.of(source), source.block_shapes[0], colors, source.tags(1), dtype, bands)

    def check_like(self, first: "_Tile") -> None:
        """Check that the map has the type and bands of the first map.

        Raises:
            DataError: The type or the bands differ.
        """
        if (self.dtype, self.bands) != (first.dtype, first.bands):
            raise DataError(
                f"{self.path}: has {self.described}, but {first.path} has {first.described}; map them into different "
                "folders"
            )

    @property
    def described(self) -> str:
        """Text with type and bands."""
        return f"{self.dtype} bands {', '.join(f'{name} {unit}'.strip() for name, unit in self.bands)}"

    @property
    def class_tags(self) -> dict[str, str]:
        count = next(k for k in itertools.count() if f"CLASS_{k}" not in self.tags)
        return {f"CLASS_{k}": self.tags[f"CLASS_{k}"] for k in range(count)}


def _vrt(tiles: Sequence[_Tile], folder: Path) -> ElementTree.Element:
    x_size = min(tile.grid.transform.a for tile in tiles)
    y_size = min(-tile.grid.transform.e for tile in tiles)
    corners = np.array([tile.grid.bounds for tile in tiles])
    left, bottom = corners[:, :2].min(axis=0).tolist()
    right, top = corners[:, 2:].max(axis=0).tolist()
    width = math.ceil((right - left) / x_size - _ALIGNED)
    height = math.ceil((top - bottom) / y_size - _ALIGNED)
    crs, first = tiles[0].grid.crs, tiles[0]
    assert crs is not None
    root = ElementTree.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    _add(root, "SRS", wkt2(crs))
    _add(root, "GeoTransform", ", ".join(map(repr, (left, x_size, 0.0, top, 0.0, -y_size))))
    kind, nodata = _TYPES[first.dtype]
    for number, (name, unit) in enumerate(first.bands, start=1):
        band = _add(root, "VRTRasterBand", dataType=kind, band=str(number))
        if name:
            _add(band, "Description", name)
        if first.class_tags:
            _add_classes(band, first)
        _add(band, "NoDataValue", nodata)
        if unit:
            _add(band, "UnitType", unit)
        _add_sources(band, tiles, folder, (left, top, x_size, y_size))
    return root


def _add_classes(band: ElementTree.Element, first: _Tile) -> None:
    """Add colours, and class names both as tags of the maps and as category names, which GIS programs show."""
    metadata = _add(band, "Metadata")
    for key, name in first.class_tags.items():
        _add(metadata, "MDI", name, key=key)
    if first.colors:
        _add(band, "ColorInterp", "Palette")
        table = _add(band, "ColorTable")
        for value in range(256):
            color = first.colors.get(value, (0, 0, 0, 255))
            _add(table, "Entry", **{f"c{k}": str(part) for k, part in enumerate(color, start=1)})
    names = _add(band, "CategoryNames")
    for name in first.class_tags.values():
        _add(names, "Category", name)


def _add_sources(
    band: ElementTree.Element, tiles: Sequence[_Tile], folder: Path, origin: tuple[float, float, float, float]
) -> None:
    """Add one band of each map; `origin` is left, top and pixel size of the index."""
    left, top, x_size, y_size = origin
    for tile in tiles:
        kind, nodata = _TYPES[tile.dtype]
        grid, t = tile.grid, tile.grid.transform
        rows, columns = str(grid.height), str(grid.width)
        blocks = {"BlockXSize": str(tile.block[1]), "BlockYSize": str(tile.block[0])}
        source = _add(band, "ComplexSource")
        _add(source, "SourceFilename", relative_path(tile.path, folder), relativeToVRT="1")
        _add(source, "SourceBand", band.attrib["band"])
        # With these properties, GDAL opens a map only when its pixels are read.
        _add(source, "SourceProperties", RasterXSize=columns, RasterYSize=rows, DataType=kind, **blocks)
        _add(source, "SrcRect", xOff="0", yOff="0", xSize=columns, ySize=rows)
        offset = {"xOff": (t.c - left) / x_size, "yOff": (top - t.f) / y_size}
        size = {"xSize": grid.width * t.a / x_size, "ySize": -grid.height * t.e / y_size}
        _add(source, "DstRect", **{key: _pixels(value) for key, value in (offset | size).items()})
        _add(source, "NODATA", nodata)


def _pixels(value: float) -> str:
    # Rounding errors of coordinates must not shift a map by a pixel.
    return str(round(value)) if abs(value - round(value)) < _ALIGNED else f"{value:.6f}"


def _add(
    parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name, attributes)
    element.text = text
    return element
