"""Fingerprints of rasters: whether the sources of a half-finished map are still the ones that it began with."""

import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

from ..errors import DataError
from .raster import open_raster, reading

_TIMEOUT = 20  # seconds
_SIDECAR = ".aux.xml"  # GIS programs write it while they look at a raster; what matters in it is taken from the raster


def fingerprint(path: str) -> dict[str, Any]:
    """What changes when the content of a raster does, as plain values.

    Local files, those behind a VRT too: size and time. Addresses: length, time and ETag as the server gives them; where
    it gives none, a checksum of the first and the last block. A file that cannot be read has none.
    """
    meanings: dict[str, Any] = {}
    states: dict[str, Any] = {}
    pending = [path]
    while pending:
        one = pending.pop()
        if one in meanings:
            continue
        meanings[one] = None
        with suppress(DataError), open_raster(one) as source:  # mapping the scene reports what cannot be read
            meanings[one] = [source.nodatavals, source.scales, source.offsets]
            for file in source.files or [one]:
                if file.lower().endswith(".vrt"):
                    pending.append(file)  # the files behind a VRT in a VRT
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
