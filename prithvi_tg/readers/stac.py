"""The scene format of STAC: items, item collections and lists of items, as files or addresses."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pystac
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from ..bands import SENSORS
from ..class_paths import find_function
from ..errors import ConfigError, DataError, first_of
from .frames import FrameRequest, SceneFormat, SceneFrame
from .grid import Grid
from .raster import data_bands, open_raster
from .scaling import Scaling, band_scaling
from .scene import BandFile, QualityFile
from .stac_items import SUFFIXES, ItemBand, SceneItem, load_items
from .words import is_remote, stem

_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.(\d+))?")
_ADDRESS = re.compile(r"/(items(/[^/]+)?|search)/?$")
_NEAR = 1e-6  # degrees between footprints of one place


class StacItems(SceneFormat):
    """STAC items; those of one date and place are a mosaic, and the dates of a place are those of a scene.

    A frame is ``items.json#2021-06-03``, the items of a date; ``items.json#2021-06-03.2`` at the second of several
    places that do not touch; or ``items.json#ID``, one item. Assets are chosen by ``eo:common_name``, band name or key.
    """

    description = "STAC items"
    stacks = True

    def matches(self, path: str) -> bool:
        """Whether a path is a JSON or GeoParquet file, or an address of one or of an API."""
        base = path.partition("#")[0]
        if not is_remote(base):
            return base.lower().endswith(SUFFIXES) and Path(base).is_file()
        if not base.startswith(("http://", "https://")):
            return False
        found = urlsplit(base).path
        return found.lower().endswith(SUFFIXES) or _ADDRESS.search(found) is not None

    def group(self, paths: Sequence[str]) -> tuple[list[str], list[str]]:
        """None: the JSON files of a folder often describe something else."""
        return [], list(paths)

    def frames(self, word: str) -> list[str]:
        """A frame per date and place of a list of items."""
        items = load_items(word.partition("#")[0])
        if "#" in word or len(items) == 1:
            return [word]
        places = _places(items)
        several = max(places) > 0
        keys = sorted({(place, item.date) for place, item in zip(places, items, strict=True)})
        return [f"{word}#{day}{f'.{place + 1}' if several else ''}" for place, day in keys]

    def name(self, path: str) -> str:
        """The id of the item; of a mosaic, the tile or the name of the list, and the date."""
        items = _chosen(path)
        if len(items) == 1:
            return items[0].name
        return "_".join(self.tile_and_date(path))

    def tile_and_date(self, path: str) -> tuple[str, str]:
        """Tile, or name of the list and number of the place, and the date of a frame."""
        base, _, fragment = path.partition("#")
        items = _chosen(path)
        tiles = {item.tile for item in items}
        found = _DATE.fullmatch(fragment)
        number = f"_{found.group(2)}" if found and found.group(2) else ""
        tile = tiles.pop() if len(tiles) == 1 else None
        return tile or f"{stem(base)}{number}", f"{items[0].date:%Y%m%d}"

    def open(self, path: str, request: FrameRequest) -> SceneFrame:
        """Find the assets of the bands; the grid is that of the finest band, or around all items of a mosaic."""
        if request.num_frames != 1:
            raise DataError(
                f"{path}: contains one date, but the model takes {request.num_frames}; give all dates, joined by commas"
            )
        request.refuse_offset_alone(path)
        parts = [_item_frame(_signed(item, request.options.modifier), request) for item in _chosen(path)]
        if len(parts) == 1:
            return parts[0]
        if request.options.legacy:
            raise ConfigError(f"nodata_rule: legacy is not possible for a mosaic of items ({path})")
        origin = f"mosaic of {len(parts)} items; {parts[0].origin}"
        return SceneFrame(
            _grid_around([part.grid for part in parts]), (), parts[0].dates, origin, members=tuple(parts)
        )


def _chosen(path: str) -> list[SceneItem]:
    """The items of a frame."""
    base, _, fragment = path.partition("#")
    items = load_items(base)
    if not fragment and len(items) == 1:
        return list(items)
    if found := _DATE.fullmatch(fragment):
        place = int(found.group(2) or 1) - 1
        chosen = [
            item
            for item, where in zip(items, _places(items), strict=True)
            if str(item.date) == found.group(1) and (where == place or not found.group(2))
        ]
    else:
        chosen = [item for item in items if item.id == fragment]
    if not chosen:
        dates = ", ".join(sorted({str(item.date) for item in items})[:6])
        raise DataError(f"{path}: {base} contains no item with this date or id; its dates are {dates}")
    return chosen


def _places(items: Sequence[SceneItem]) -> list[int]:
    """Number of the place of each item, from west to east; footprints of a place touch."""
    footprints = [item.footprint for item in items]
    known = [one.buffer(_NEAR) for one in footprints if one is not None]
    parts = sorted(shapely.get_parts(shapely.union_all(known)), key=lambda part: part.bounds)
    return [
        0 if one is None else next(k for k, part in enumerate(parts) if part.intersects(one))
        for one in footprints
    ]


def _signed(item: SceneItem, modifier: str | None) -> SceneItem:
    if modifier is None:
        return item
    function = find_function("modifier", modifier)
    complete = {"stac_version": "1.0.0", "links": [], "geometry": None, **item.content}
    before = pystac.Item.from_dict(complete, preserve_dict=True, migrate=False)
    after = function(before) or before
    if not isinstance(after, pystac.Item):
        raise ConfigError(
            f"modifier: {modifier} gives {type(after).__name__}; a pystac.Item or None is expected"
        )
    return replace(item, content=after.to_dict(include_self_link=False, transform_hrefs=False))


def _item_frame(item: SceneItem, request: FrameRequest) -> SceneFrame:
    """The bands of an item."""
    chosen = _choose_bands(item, request)
    channels, grids = [], []
    for band in chosen:
        with open_raster(band.href) as source:
            if (count := data_bands(source)) != band.count:
                raise DataError(
                    f"{item.source}: item {item.id!r} describes {band.count} of the {count} bands of the asset "
                    f"{band.asset!r} ({source.name}); its eo:bands (or bands) needs an entry for each band of the file"
                )
            grids.append(Grid.of(source))
            scaling = band.scaling
            if scaling is None:
                scaling = band_scaling(source, band.index, request.spec, request.options.legacy)
            else:
                unit = request.spec.reflectance_unit
                scaling = Scaling(scaling.scale * unit, scaling.offset * unit)
        channels.append(request.with_options(BandFile(band.href, band.index, *scaling, band.nodata)))
    finest = min(grids, key=lambda grid: abs(grid.transform.a) + abs(grid.transform.b))
    found = item.quality()
    listed = " ".join(
        f"{name}={band.asset}{f'[{band.index}]' if band.count > 1 else ''}"
        for name, band in zip(request.spec.bands, chosen, strict=True)
    )
    quality = QualityFile(found[0], 1, found[1]) if found else None
    return SceneFrame(finest, tuple(channels), (item.date,), f"assets {listed}", quality)


def _choose_bands(item: SceneItem, request: FrameRequest) -> list[ItemBand]:
    """The band of an asset for each band of the model, in its order.

    Raises:
        DataError: The item lacks a band.
    """
    bands = item.bands(request.options.sensor)
    chosen = []
    for number, name in enumerate(request.spec.bands):
        wanted = str(request.bands[number]) if request.bands else name
        ranked = sorted(
            ((_rank(band, wanted, name), band.preference, k) for k, band in enumerate(bands)),
        )
        if not ranked or ranked[0][0] == _NO_MATCH:
            found = first_of(
                dict.fromkeys(f"{band.asset} ({'/'.join(filter(None, band.words))})" for band in bands), 20
            )
            known = request.options.sensor or item.sensor
            hint = (
                ""
                if known
                else f"; it names no known platform, so give a sensor ({', '.join(SENSORS)}) or bands"
            )
            if any(not any(band.words[:2]) for band in bands):
                hint += "; an asset with several bands needs eo:bands (or bands), with an entry for each"
            raise DataError(
                f"{item.source}: item {item.id!r} lacks {wanted}; its bands are {found or 'none'}{hint}"
            )
        chosen.append(bands[ranked[0][2]])
    return chosen


_NO_MATCH = 100


def _rank(band: ItemBand, wanted: str, name: str) -> int:
    """How well a band matches: by the word as written, by common name, by name, by key."""
    words = [word.lower() for word in band.words if word]
    if wanted.lower() in words:
        return 0
    if wanted != name or name not in band.names:
        return _NO_MATCH
    return 1 + band.names.index(name)


def _grid_around(grids: Sequence[Grid]) -> Grid:
    """The grid of a mosaic: in the CRS of most items, with the pixels of the finest of these, around all.

    Raises:
        DataError: An item has no CRS.
    """
    if any(grid.crs is None for grid in grids):
        raise DataError("stac: an item of a mosaic has no CRS; give the items one by one, items.json#ID")
    crs = Counter(grid.crs for grid in grids).most_common(1)[0][0]
    own = [grid for grid in grids if grid.crs == crs]
    first = min(own, key=lambda grid: abs(grid.transform.a) + abs(grid.transform.b))
    corners: list[Any] = []
    for grid in grids:
        left, bottom, right, top = (
            grid.bounds if grid.crs == crs else transform_bounds(grid.crs, crs, *grid.bounds)
        )
        corners += [(x, y) for x in (left, right) for y in (bottom, top)]
    places = [first.row_and_column(x, y) for x, y in corners]
    rows, columns = (np.array(values) for values in zip(*places, strict=True))
    top, left_column = (int(np.floor(values.min() + 1e-3)) for values in (rows, columns))
    bottom, right_column = (int(np.ceil(values.max() - 1e-3)) for values in (rows, columns))
    transform = first.transform @ Affine.translation(left_column, top)
    return Grid(crs, transform, bottom - top, right_column - left_column)
