"""Fingerprints of rasters, by which a resumed map notices that its sources have changed."""

import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

from ..errors import DataError
from .raster import open_raster, reading

_TIMEOUT = 20  # seconds
_SIDECAR = ".aux.xml"  # GIS programs write it when they open a raster; its tags are read through the raster


def fingerprint(path: str) -> dict[str, Any]:
    """Plain values that change with the content of a raster.

    For local files, including the sources of a VRT: size and time. For addresses: length, time and ETag from the
    server; without them, a checksum of the first and the last block. An unreadable file has the fingerprint ``None``.
    """
    meanings: dict[str, Any] = {}
    states: dict[str, Any] = {}
    pending = [path]
    while pending:
        one = pending.pop()
        if one in meanings:
            continue
        meanings[one] = None
        with suppress(DataError), open_raster(one) as source:  # mapping the scene reports unreadable files
            meanings[one] = [source.nodatavals, source.scales, source.offsets]
            for file in source.files or [one]:
                if file.lower().endswith(".vrt"):
                    pending.append(file)  # a VRT within a VRT
                if not file.endswith(_SIDECAR) and file not in states:
                    states[file] = _state(file, source)
    return {"meanings": meanings, "states": states}


def _state(file: str, source: DatasetReader) -> Any:
    local = Path(file)
    if local.exists():
        stat = local.stat()
        return [stat.st_size, stat.st_mtime_ns]
    address = file.removeprefix("/vsicurl/")
    if address.startswith(("http://", "https://")):
        request = urllib.request.Request(address, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                state = [answer.headers.get(key) for key in ("Content-Length", "Last-Modified", "ETag")]
        except (urllib.error.URLError, TimeoutError, ValueError):
            state = []
        if any(state[1:]):
            return state
    with reading(source.name):
        blocks = [window for _, window in source.block_windows(1)]
        return [source.checksum(1, window=window) for window in (blocks[0], blocks[-1])]
