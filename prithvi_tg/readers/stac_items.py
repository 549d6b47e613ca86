"""STAC items: lists of them from files and addresses, and the bands, dates and quality layers of their assets."""

import io
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pyarrow
import shapely
from pyarrow import parquet

from ..bands import COMMON_NAMES, means
from ..errors import DataError
from .granules import is_hls_file
from .quality import QualityKind, quality_kind
from .scaling import Scaling
from .words import is_remote

SUFFIXES = (".json", ".geojson", ".parquet", ".geoparquet")
_TIMEOUT = 60  # seconds
_MOST_FILES = 1000  # of a catalogue
#: Fields of an item in GeoParquet that are not properties.
_FIELDS = (
    "type",
    "stac_version",
    "stac_extensions",
    "id",
    "geometry",
    "bbox",
    "links",
    "assets",
    "collection",
)
_PICTURES = frozenset({"visual", "overview", "thumbnail", "preview", "rendered_preview"})
#: Scale and nodata of products whose items often lack ``raster:bands``, as in their own formats.
_HLS = (Scaling(1e-4), (-9999.0,))
_SENTINEL2_OFFSET_SINCE = 4.0  # processing baseline


@dataclass(frozen=True)
class ItemBand:
    """One band of an asset.

    Attributes:
        asset: Key of the asset.
        href: Address or path of the asset.
        index: Band of the raster, counted from 1.
        count: Number of bands that the item describes for the asset.
        names: Canonical names by the common name, the band's name and the key, ``None`` where unknown.
        words: The same as written.
        scaling: Scale and offset to reflectance 0..1; ``None`` if the item has none.
        nodata: Stored values that mean nodata.
        preference: Of several assets with a band, the one with the lowest is read.
    """

    asset: str
    href: str
    index: int
    count: int
    names: tuple[str | None, ...]
    words: tuple[str, ...]
    scaling: Scaling | None
    nodata: tuple[float, ...]
    preference: tuple[bool, ...]


@dataclass(frozen=True)
class SceneItem:
    """A STAC item.

    Attributes:
        content: The item as JSON, with absolute paths or addresses of assets.
        source: File or address that contains it.
    """

    content: Mapping[str, Any]
    source: str

    @property
    def id(self) -> str:
        """The id."""
        return str(self.content["id"])

    @property
    def name(self) -> str:
        """The id as a file name."""
        return re.sub(r"[^\w.-]+", "_", self.id)

    @property
    def properties(self) -> Mapping[str, Any]:
        """The properties."""
        return self.content.get("properties") or {}

    @cached_property
    def date(self) -> date:
        """Date of ``datetime``, or else of ``start_datetime``.

        Raises:
            DataError: There is neither.
        """
        text = self.properties.get("datetime") or self.properties.get("start_datetime")
        try:
            return datetime.fromisoformat(str(text)).date()
        except ValueError as error:
            raise DataError(
                f"{self.source}: item {self.id} has the datetime {text}; a date is needed"
            ) from error

    @cached_property
    def footprint(self) -> Any:
        """Its geometry in degrees, or else its bounding box; ``None`` without either."""
        if self.content.get("geometry"):
            return shapely.make_valid(shapely.geometry.shape(self.content["geometry"]))
        box = self.content.get("bbox")
        return shapely.box(box[0], box[1], *box[len(box) // 2 :][:2]) if box else None

    @property
    def tile(self) -> str | None:
        """Its tile in the military grid, such as ``T32TQM``, or another code of a grid."""
        code = self.properties.get("grid:code") or self.properties.get("s2:mgrs_tile")
        found = re.search(r"(?:^|[._-]T?)(\d{2}[A-Z]{3})(?:$|[._])", str(code or self.id))
        if found:
            return f"T{found.group(1)}"
        return re.sub(r"[^\w.-]+", "_", str(code)) if code else None

    @cached_property
    def sensor(self) -> str | None:
        """One of `prithvi_tg.bands.SENSORS`; ``None`` if unknown."""
        words = " ".join(
            str(word)
            for word in (
                self.content.get("collection"),
                self.id,
                *map(self.properties.get, ("constellation", "platform")),
            )
        ).lower()
        for sensor, pattern in (
            ("hls_s30", r"hls\W?s\W?30|hls2-s30"),
            ("hls_l30", r"hls\W?l\W?30|hls2-l30"),
            ("sentinel2", r"sentinel-?2|\bs2[abc]_"),
            ("landsat8", r"landsat-?[89]|\blc0[89]_"),
        ):
            if re.search(pattern, words):
                return sensor
        return None

    def bands(self, sensor: str | None = None) -> list[ItemBand]:
        """All bands of all assets, pictures left out.

        Args:
            sensor: Naming scheme of the bands; by default that of the item.
        """
        sensor = sensor or self.sensor
        found = []
        for key, asset in (self.content.get("assets") or {}).items():
            roles = {str(role).lower() for role in asset.get("roles") or ()}
            if (
                key.lower() in _PICTURES
                or roles & _PICTURES
                or not asset.get("href")
                or self._is_metadata(asset)
            ):
                continue
            described = list(_described_bands(asset))
            for index, fields in enumerate(described, start=1):
                words = [
                    str(fields.get("common_name") or fields.get("eo:common_name") or ""),
                    str(fields.get("name") or ""),
                ]
                words += [key] if len(described) == 1 else []
                names = [COMMON_NAMES.get(words[0].lower()), *(means(word, sensor) for word in words[1:])]
                names += [COMMON_NAMES.get(word.lower()) for word in words[1:]]
                scaling, nodata = self._scaling(fields, str(asset["href"]), sensor)
                preference = (
                    len(described) > 1,
                    "tif" not in str(asset.get("type") or asset["href"]).lower(),
                )
                found.append(
                    ItemBand(
                        key,
                        asset["href"],
                        index,
                        len(described),
                        tuple(names),
                        tuple(words),
                        scaling,
                        nodata,
                        preference,
                    )
                )
        return found

    @staticmethod
    def _is_metadata(asset: Mapping[str, Any]) -> bool:
        return str(asset.get("type") or "").startswith(
            ("application/json", "application/xml", "text/", "application/geo+")
        )

    def _scaling(
        self, fields: Mapping[str, Any], href: str, sensor: str | None
    ) -> tuple[Scaling | None, tuple[float, ...]]:
        """Scale and offset to reflectance, and nodata values, of a band."""
        scale, offset = (fields.get(key, fields.get(f"raster:{key}")) for key in ("scale", "offset"))
        value = fields.get("nodata")
        nodata = () if value is None else (float(value),)
        if scale is not None or offset is not None:
            # Earth Search keeps the offset in raster:bands of files that it has already been added to.
            applied = self.properties.get("earthsearch:boa_offset_applied") is True
            found = Scaling(
                1.0 if scale is None else float(scale), 0.0 if offset is None or applied else float(offset)
            )
            return (None if found == Scaling(1.0) else found), nodata
        if is_hls_file(urlsplit(href).path):
            return _HLS[0], nodata or _HLS[1]
        baseline = re.fullmatch(r"0?(\d+\.\d+)", str(self.properties.get("s2:processing_baseline") or ""))
        if sensor == "sentinel2" and baseline:
            offset = -0.1 if float(baseline.group(1)) >= _SENTINEL2_OFFSET_SINCE else 0.0
            return Scaling(1e-4, offset), nodata or (0.0,)
        return None, nodata

    def quality(self) -> tuple[str, QualityKind] | None:
        """Address and kind of the quality layer, if there is one."""
        found: list[tuple[bool, int, str, QualityKind]] = []
        for key, asset in (self.content.get("assets") or {}).items():
            href = str(asset.get("href") or "")
            layer = re.sub(r"^.*[._]", "", urlsplit(href).path.rsplit(".", 1)[0])
            if (kind := quality_kind(key) or quality_kind(layer)) and not self._is_metadata(asset):
                found.append(("tif" not in str(asset.get("type") or href).lower(), len(found), href, kind))
        return min(found)[2:] if found else None


def _described_bands(asset: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Fields of each band of an asset: those of STAC 1.1, and of the extensions eo and raster of STAC 1.0."""
    general = {
        key: asset[key]
        for key in ("nodata", "raster:scale", "raster:offset", "eo:common_name")
        if key in asset
    }
    lists = [asset.get(key) or [] for key in ("bands", "eo:bands", "raster:bands")]
    for index in range(max(1, *map(len, lists))):
        merged: dict[str, Any] = dict(general)
        for fields in lists:
            merged |= fields[index] if index < len(fields) else {}
        yield merged


def load_items(address: str) -> tuple[SceneItem, ...]:
    """Items of a JSON or GeoParquet file: an item, an item collection, a list of items, or a static catalogue.

    Args:
        address: A path, or an address of http or https.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    path = Path(address)
    changed = None if is_remote(address) or not path.exists() else path.stat().st_mtime_ns
    return _load(address, changed)


@lru_cache(maxsize=64)
def _load(address: str, changed: int | None) -> tuple[SceneItem, ...]:
    content = _fetch(address)
    if content[:4] == b"PAR1":
        return _checked(_from_parquet(content, address), address)
    parsed = _parsed(content, address)
    kind = parsed.get("type") if isinstance(parsed, dict) else "list"
    if kind in ("Collection", "Catalog"):
        return _of_catalog(parsed, address)
    found = {"list": parsed, "FeatureCollection": None, "Feature": [parsed]}.get(str(kind), ())
    return _checked(parsed.get("features") or () if found is None else found, address)


def _parsed(content: bytes, address: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise DataError(f"{address}: not readable as JSON ({error})") from error


def _checked(found: Sequence[Any], address: str) -> tuple[SceneItem, ...]:
    for one in found:
        if not (isinstance(one, dict) and "id" in one and isinstance(one.get("assets"), dict)):
            raise DataError(f"{address}: contains something that is not a STAC item with id and assets")
    if not found:
        raise DataError(f"{address}: contains no STAC item")
    return tuple(SceneItem(_with_absolute_addresses(one, address), address) for one in found)


def _of_catalog(catalog: Mapping[str, Any], address: str) -> tuple[SceneItem, ...]:
    """The items of a static catalogue or collection, and of those below it."""
    items: list[SceneItem] = []
    waiting, seen = [(catalog, address)], {address}
    while waiting:
        part, source = waiting.pop()
        for link in part.get("links") or ():
            target = _linked(str(link.get("href") or ""), source)
            if link.get("rel") not in ("item", "child") or target in seen:
                continue
            seen.add(target)
            if len(seen) > _MOST_FILES:
                raise DataError(
                    f"{address}: links to more than {_MOST_FILES} files; give a catalogue or collection below it"
                )
            content = _parsed(_fetch(target), target)
            if link["rel"] == "child":
                waiting.append((content, target))
            else:
                items += _checked([content], target)
    if not items:
        raise DataError(
            f"{address}: a STAC {catalog['type']} without links to items; give the address of the items, or a list "
            "that prithvi-tg search wrote"
        )
    return tuple(items)


def _linked(href: str, source: str) -> str:
    """Path or address of a link in a file."""
    if is_remote(source):
        return urljoin(source, href)
    return href.removeprefix("file://") if is_remote(href) else os.path.normpath(Path(source).parent / href)


def _fetch(address: str) -> bytes:
    if not is_remote(address):
        try:
            return Path(address).read_bytes()
        except OSError as error:
            raise DataError(f"{address}: cannot be read ({error.strerror})") from error
    if urlsplit(address).scheme not in ("http", "https"):
        raise DataError(f"{address}: lists of STAC items are read from files, http and https")
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise DataError(f"{address}: cannot be read ({error})") from error


def _from_parquet(content: bytes, address: str) -> list[dict[str, Any]]:
    """Items from their table, see the specification stac-geoparquet."""
    try:
        rows = parquet.read_table(io.BytesIO(content)).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{address}: not readable as Parquet ({error})") from error
    items = []
    for row in rows:
        known = {key: _known(value) for key, value in row.items() if value is not None}
        item = {key: value for key, value in known.items() if key in _FIELDS and key != "bbox"}
        item["properties"] = {key: value for key, value in known.items() if key not in _FIELDS}
        if isinstance(item.get("geometry"), bytes):
            item["geometry"] = json.loads(shapely.to_geojson(shapely.from_wkb(item["geometry"])))
        items.append(item)
    return items


def _known(value: Any) -> Any:
    """A value of Parquet as in JSON; fields that other rows have are left out."""
    if isinstance(value, dict):
        return {key: _known(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_known(one) for one in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _with_absolute_addresses(item: Mapping[str, Any], source: str) -> dict[str, Any]:
    links = item.get("links") or ()
    own = next(
        (
            str(link["href"])
            for link in links
            if link.get("rel") == "self" and is_remote(str(link.get("href")))
        ),
        "",
    )
    assets = {}
    for key, asset in item["assets"].items():
        href = str(asset.get("href") or "")
        if href and not is_remote(href) and not Path(href).is_absolute():
            local = Path(source).parent / href
            href = (
                urljoin(source, href)
                if is_remote(source)
                else str(local)
                if local.exists() or not own
                else urljoin(own, href)
            )
        assets[key] = {**asset, "href": href.removeprefix("file://")}
    return {**item, "assets": assets}
