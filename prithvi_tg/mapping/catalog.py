"""Catalog: what makes maps findable: a STAC item beside each, and an index that shows many as one."""

import hashlib
import itertools
import json
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyproj
import pystac
import shapely
from matplotlib.colors import to_hex
from rasterio.crs import CRS

from ..datasets.raster import open_raster
from ..datasets.scenes import Grid
from ..errors import DataError
from ..plotting import class_colors
from ..spec import IGNORE_INDEX, DataSpec
from .areas import place, to_pyproj
from .files import finished_file, write_json

log = logging.getLogger(__name__)

_EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
]
_MEDIA_TYPES = {
    ".tif": pystac.MediaType.COG,
    ".gpkg": pystac.MediaType.GEOPACKAGE,
    ".png": pystac.MediaType.PNG,
    ".json": pystac.MediaType.JSON,
    ".csv": "text/csv",
}
_POINTS_PER_SIDE = 32
_ALIGNED = 1e-3  # pixels


def stac_item(
    map_path: Path,
    grid: Grid,
    spec: DataSpec,
    class_pixels: Sequence[int],
    class_areas: Sequence[float] | None,
    assets: Mapping[str, Path],
    dates: Sequence[date | None],
    sources: Sequence[str],
    properties: Mapping[str, Any],
) -> pystac.Item:
    """Describe a map as a STAC item that is to stand in the map's folder.

    Fields of STAC 1.1 with its extensions projection 2.0.0 and classification 2.0.0; dates are midnight UTC.

    Args:
        map_path: The map; its stem becomes the id.
        grid: Where its pixels lie; the item has no geometry without a CRS, or if the edge is off the Earth.
        spec: Class names and colours.
        class_pixels: Pixels of each class.
        class_areas: Square metres of each class, if known.
        assets: Files by key; pictures are overviews, all else is data. The map is ``map`` if it is not there.
        dates: Of the scene's frames; without any, the item bears the moment of processing, and says so.
        sources: What was mapped.
        properties: Further properties; they take precedence.
    """
    now = datetime.now(UTC)
    geometry, bbox = _footprint(grid)
    areas = [None] * len(class_pixels) if class_areas is None else [float(area) for area in class_areas]
    ours: dict[str, Any] = {
        "created": pystac.utils.datetime_to_str(now),
        "proj:code": None,
        "proj:shape": [grid.height, grid.width],
        "proj:transform": list(grid.transform)[:6],
        "prithvi_tg:sources": list(sources),
        "prithvi_tg:classes": [
            {"value": value, "name": name, "pixels": int(pixels), "square_metres": area}
            for value, (name, pixels, area) in enumerate(
                zip(spec.class_names, class_pixels, areas, strict=True)
            )
        ],
    }
    if grid.crs is not None:
        code = _epsg(grid.crs)
        ours |= {"proj:code": f"EPSG:{code}"} if code else {"proj:wkt2": _wkt(grid.crs)}
    days = sorted({datetime.combine(day, time(), UTC) for day in dates if day is not None})
    if not days:
        ours["prithvi_tg:datetime"] = "time of processing, as the date of the scene is not known"
    item = pystac.Item(
        id=map_path.stem,
        geometry=geometry,
        bbox=bbox,
        datetime=now if not days else days[0] if len(days) == 1 else None,
        start_datetime=days[0] if len(days) > 1 else None,
        end_datetime=days[-1] if len(days) > 1 else None,
        properties={**ours, **properties},
        stac_extensions=list(_EXTENSIONS),
    )
    every = dict(assets) if map_path in assets.values() else {"map": map_path, **assets}
    for key, path in every.items():
        item.add_asset(
            key, _asset(path, map_path.parent, _classification(spec) if path == map_path else None)
        )
    return item


def write_stac_item(item: pystac.Item, path: Path) -> None:
    """Write an item as JSON, whole or not at all; nothing is looked up or validated.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, item.to_dict(include_self_link=False, transform_hrefs=False))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def write_index(maps: Sequence[Path], folder: Path) -> list[Path]:
    """Show maps as one raster: a GDAL VRT ``index_EPSG_32615.vrt`` per CRS.

    Its extent is the union of the maps, its pixels are as fine as the finest; a later map lies over an earlier
    one; colours and class names are the first map's. Paths are relative, so that the folder may move. A VRT that
    is there already stays: the new one is named ``..._2.vrt``. Maps without a CRS, or not north-up, are left
    out.

    Args:
        maps: Class maps: one band, uint8, nodata 255.
        folder: Where the indexes go.

    Returns:
        The files that were written.

    Raises:
        DataError: A map cannot be read or is not uint8, or a file cannot be written.
    """
    groups: dict[str, list[_Tile]] = {}
    for path in maps:
        tile = _Tile.of(path)
        t = tile.grid.transform
        if tile.grid.crs is None or t.b or t.d or t.a <= 0 or t.e >= 0:
            log.warning("%s: is not in the index: no CRS, or not north-up", path)
            continue
        code = _epsg(tile.grid.crs)
        name = f"EPSG_{code}" if code else hashlib.sha256(_wkt(tile.grid.crs).encode()).hexdigest()[:8]
        groups.setdefault(name, []).append(tile)
    written = []
    for name, tiles in groups.items():
        names = itertools.chain([name], (f"{name}_{k}" for k in itertools.count(2)))
        path = next(path for path in (folder / f"index_{name}.vrt" for name in names) if not path.exists())
        tree = ElementTree.ElementTree(_vrt(tiles, folder))
        ElementTree.indent(tree)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with finished_file(path) as partial:
                tree.write(partial, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error})") from error
        written.append(path)
    return written


def _epsg(crs: CRS) -> int | None:
    # The code that rasterio finds may be that of a similar CRS on another datum.
    code = crs.to_epsg()
    same = code and to_pyproj(crs).equals(pyproj.CRS.from_epsg(code), ignore_axis_order=True)
    return code if same else None


def _wkt(crs: CRS) -> str:
    return crs.to_wkt(version="WKT2_2019")


def _classification(spec: DataSpec) -> dict[str, Any]:
    classes = [
        # The extension allows a name only letters, digits, "-" and "_".
        {
            "value": value,
            "name": re.sub(r"[^0-9A-Za-z_-]+", "_", name),
            "title": name,
            "color_hint": to_hex(color)[1:].upper(),
        }
        for value, (name, color) in enumerate(zip(spec.class_names, class_colors(spec), strict=True))
    ]
    nodata = {"value": IGNORE_INDEX, "name": "nodata", "title": "No data", "nodata": True}
    return {"data_type": "uint8", "nodata": IGNORE_INDEX, "classification:classes": [*classes, nodata]}


def _asset(path: Path, folder: Path, fields: dict[str, Any] | None = None) -> pystac.Asset:
    kind = path.suffix.lower()
    return pystac.Asset(
        href=_relative(path, folder),
        media_type=_MEDIA_TYPES.get(kind),
        roles=["overview"] if kind == ".png" else ["data"],
        extra_fields=fields or {},
    )


def _relative(path: Path, folder: Path) -> str:
    # Folders are resolved, as ".." leads elsewhere behind a link; a linked file keeps the name it was given.
    return Path(os.path.relpath(path.parent.resolve() / path.name, folder.resolve())).as_posix()


def _footprint(grid: Grid) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Outline and bounds in degrees as GeoJSON (RFC 7946), cut at the antimeridian."""
    crs = None if grid.crs is None else to_pyproj(grid.crs)
    if crs is None or not (crs.is_geographic or crs.is_projected):
        return None, None
    # Straight edges of the grid are curves in degrees.
    steps = np.arange(_POINTS_PER_SIDE) / _POINTS_PER_SIDE
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    columns = np.concatenate([steps, ones, 1 - steps, zeros, [0]]) * grid.width
    rows = np.concatenate([zeros, steps, ones, 1 - steps, [0]]) * grid.height
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    longitudes, latitudes = to_degrees.transform(*place(grid, columns, rows))
    if not np.isfinite([longitudes, latitudes]).all():
        return None, None
    latitudes = np.clip(latitudes, -90, 90)
    longitudes = np.unwrap(longitudes, period=360)
    if abs(longitudes[-1] - longitudes[0]) > 180:  # once around a pole, which then is inside
        longitudes = np.append(longitudes, longitudes[[-1, 0]])
        latitudes = np.append(latitudes, [math.copysign(90, latitudes.mean())] * 2)
    outline = shapely.simplify(shapely.Polygon(np.stack([longitudes, latitudes], 1)).buffer(0), 1e-6)
    west, south, east, north = outline.bounds
    parts = []
    for turn in (-360, 0, 360):
        part = shapely.intersection(outline, shapely.box(turn - 180, -90, turn + 180, 90))
        moved = shapely.transform(part, lambda points, turn=turn: (points - [turn, 0]).round(7))
        parts += [
            shapely.geometry.polygon.orient(piece) for piece in shapely.get_parts(moved) if piece.area > 0
        ]
    if not parts:
        return None, None
    if east - west >= 360 - 1e-6:
        west, east = -180, 180
    # West of a footprint across the antimeridian is greater than its east.
    bbox = [(west + 180) % 360 - 180, south, 180 - (180 - east) % 360, north]
    whole = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return json.loads(shapely.to_geojson(whole)), [round(value, 7) for value in bbox]


@dataclass(frozen=True)
class _Tile:
    path: Path
    grid: Grid
    block: tuple[int, int]
    colors: Mapping[int, tuple[int, ...]]
    tags: Mapping[str, str]

    @classmethod
    def of(cls, path: Path) -> "_Tile":
        with open_raster(path) as source:
            if source.dtypes[0] != "uint8":
                raise DataError(f"{path}: holds {source.dtypes[0]}; an index takes maps of uint8, nodata 255")
            try:
                colors = source.colormap(1)
            except ValueError:  # it has none
                colors = {}
            return cls(path, Grid.of(source), source.block_shapes[0], colors, source.tags(1))

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
    _add(root, "SRS", _wkt(crs))
    _add(root, "GeoTransform", ", ".join(map(repr, (left, x_size, 0.0, top, 0.0, -y_size))))
    band = _add(root, "VRTRasterBand", dataType="Byte", band="1")
    # Class names twice: as the maps have them, and as GIS programs show them.
    metadata = _add(band, "Metadata")
    for key, name in first.class_tags.items():
        _add(metadata, "MDI", name, key=key)
    _add(band, "NoDataValue", str(IGNORE_INDEX))
    if first.colors:
        _add(band, "ColorInterp", "Palette")
        table = _add(band, "ColorTable")
        for value in range(256):
            color = first.colors.get(value, (0, 0, 0, 255))
            _add(table, "Entry", **{f"c{k}": str(part) for k, part in enumerate(color, start=1)})
    names = _add(band, "CategoryNames")
    for name in first.class_tags.values():
        _add(names, "Category", name)
    for tile in tiles:
        grid, t = tile.grid, tile.grid.transform
        rows, columns = str(grid.height), str(grid.width)
        blocks = {"BlockXSize": str(tile.block[1]), "BlockYSize": str(tile.block[0])}
        source = _add(band, "ComplexSource")
        _add(source, "SourceFilename", _relative(tile.path, folder), relativeToVRT="1")
        _add(source, "SourceBand", "1")
        # With these, GDAL opens a map only when its pixels are wanted.
        _add(source, "SourceProperties", RasterXSize=columns, RasterYSize=rows, DataType="Byte", **blocks)
        _add(source, "SrcRect", xOff="0", yOff="0", xSize=columns, ySize=rows)
        offset = {"xOff": (t.c - left) / x_size, "yOff": (top - t.f) / y_size}
        size = {"xSize": grid.width * t.a / x_size, "ySize": -grid.height * t.e / y_size}
        _add(source, "DstRect", **{key: _pixels(value) for key, value in (offset | size).items()})
        _add(source, "NODATA", str(IGNORE_INDEX))
    return root


def _pixels(value: float) -> str:
    # Rounding errors of coordinates must not shift a map by a pixel.
    return str(round(value)) if abs(value - round(value)) < _ALIGNED else f"{value:.6f}"


def _add(
    parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name, attributes)
    element.text = text
    return element
