"""STAC: an item beside each map, which describes it for catalogues."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import shapely

from ...files import relative_path, write_json, writing
from ...readers.crs import epsg_code, to_degrees, to_pyproj, wkt2
from ...readers.grid import Grid
from ...readers.pixel_areas import place
from ...readers.scene_paths import relative_words
from .base import FinishedMap, ItemFields, Product

_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_MEDIA_TYPES = {
    ".tif": pystac.MediaType.COG,
    ".gpkg": pystac.MediaType.GEOPACKAGE,
    ".png": pystac.MediaType.PNG,
    ".json": pystac.MediaType.JSON,
    ".csv": "text/csv",
    ".parquet": pystac.MediaType.PARQUET,
}
#: Keys of sidecar files, which are not assets.
_SIDECARS = (".xml", ".qml")
_POINTS_PER_SIDE = 32


class StacItem(Product):
    """``NAME_pred.json``: a STAC item of the map, with the files of all products as assets."""

    name = "item"
    files = {"item": "{map}.json"}

    def finish(self, finished: FinishedMap) -> None:
        """Describe the map and the files beside it."""
        scene, home = self.context.scene, self.context.path.parent
        fields = [product.item_fields(finished) for product in finished.products]
        merged = ItemFields(
            {key: value for one in fields for key, value in one.properties.items()},
            {key: value for one in fields for key, value in one.assets.items()},
            tuple(dict.fromkeys(url for one in fields for url in one.extensions)),
        )
        assets = {
            key: path
            for key, path in finished.files.items()
            if key not in self.files and path.suffix not in _SIDECARS
        }
        tags = {f"prithvi_tg:{key}": value for key, value in self.context.tags.items()}
        item = stac_item(
            finished.files["pred"],
            scene.grid,
            merged,
            assets,
            scene.dates,
            relative_words(scene.files, home),
            tags | {"prithvi_tg:scene": relative_words(scene.frames, home)},
        )
        write_stac_item(item, finished.files["item"])


def stac_item(
    map_path: Path,
    grid: Grid,
    fields: ItemFields,
    assets: Mapping[str, Path],
    dates: Sequence[date | None],
    sources: Sequence[str],
    properties: Mapping[str, Any],
) -> pystac.Item:
    """Create the STAC item of a map, for the folder of the map.

    The item has fields of STAC 1.1, of the extension projection 2.0.0, and of the products. Dates are midnight UTC.

    Args:
        map_path: Path of the map; its stem becomes the id.
        grid: Grid of the map; the item has no geometry without a CRS, or if the edge is outside the Earth.
        fields: Fields of the products.
        assets: Files by key. Pictures have the role overview, other files the role data. The map is added as ``map``
            if it is missing.
        dates: Dates of the scene's frames. Without dates, the item has the time of processing, and a property that
            explains this.
        sources: Files of the scene, relative to the folder of the map.
        properties: Further properties, which take precedence.
    """
    now = datetime.now(UTC)
    geometry, bbox = _footprint(grid)
    ours: dict[str, Any] = {
        "created": pystac.utils.datetime_to_str(now),
        "proj:code": None,
        "proj:shape": [grid.height, grid.width],
        "proj:transform": None if grid.control else list(grid.transform)[:6],
        "prithvi_tg:sources": list(sources),
        **fields.properties,
    }
    if grid.crs is not None:
        code = epsg_code(grid.crs)
        ours |= {"proj:code": f"EPSG:{code}"} if code else {"proj:wkt2": wkt2(grid.crs)}
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
        stac_extensions=[_PROJECTION, *fields.extensions],
    )
    every = dict(assets) if map_path in assets.values() else {"map": map_path, **assets}
    for key, path in every.items():
        item.add_asset(
            key, _asset(path, map_path.parent, fields.assets.get("pred" if path == map_path else key, {}))
        )
    return item


def write_stac_item(item: pystac.Item, path: Path) -> None:
    """Write an item as JSON atomically, without resolving links or validating.

    Raises:
        DataError: The file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, item.to_dict(include_self_link=False, transform_hrefs=False))


def _asset(path: Path, folder: Path, fields: Mapping[str, Any]) -> pystac.Asset:
    kind = path.suffix.lower()
    return pystac.Asset(
        href=relative_path(path, folder),
        media_type=_MEDIA_TYPES.get(kind),
        roles=["overview"] if kind == ".png" else ["data"],
        extra_fields=dict(fields),
    )


def _footprint(grid: Grid) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Outline and bounds in degrees as GeoJSON (RFC 7946), split at the antimeridian."""
    crs = None if grid.ground_crs is None else to_pyproj(grid.ground_crs)
    if crs is None or not (crs.is_geographic or crs.is_projected):
        return None, None
    # Straight edges of the grid are curves in degrees.
    steps = np.arange(_POINTS_PER_SIDE) / _POINTS_PER_SIDE
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    columns = np.concatenate([steps, ones, 1 - steps, zeros, [0]]) * grid.width
    rows = np.concatenate([zeros, steps, ones, 1 - steps, [0]]) * grid.height
    longitudes, latitudes = to_degrees(crs).transform(*place(grid, columns, rows))
    if not np.isfinite([longitudes, latitudes]).all():
        return None, None
    latitudes = np.clip(latitudes, -90, 90)
    longitudes = np.unwrap(longitudes, period=360)
    if abs(longitudes[-1] - longitudes[0]) > 180:  # the outline encloses a pole
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
