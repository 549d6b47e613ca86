"""Arguments that name files: addresses, GDAL's subdataset names, and the names of scenes derived from them."""

import re
from pathlib import Path

from .granules import is_hls_prefix


def is_remote(word: str) -> bool:
    """Whether an argument is an address or a ``/vsi`` path of GDAL."""
    return word.startswith("/vsi") or re.match(r"^[a-z0-9+.-]+://", word, re.IGNORECASE) is not None


#: Parameters of an address that sign it: of Azure, AWS, Google Cloud and CloudFront.
_SIGNATURE = re.compile(r"[?&](sig|X-Amz-Signature|X-Goog-Signature|Signature|token)=", re.IGNORECASE)


def without_signature(address: str) -> str:
    """An address without its query if that contains a signature, which is secret and expires."""
    return address.partition("?")[0] if is_remote(address) and _SIGNATURE.search(address) else address


def is_subdataset(word: str) -> bool:
    """Whether an argument is a subdataset name of GDAL, ``DRIVER:...``; a single letter before a colon is a drive."""
    return re.match(r"^[A-Za-z][A-Za-z0-9_]+:(?!//)", word) is not None and not Path(word).exists()


def stem(frame: str) -> str:
    """The name of a scene: that of its file, folder or granule, without parent folders and suffix."""
    if is_subdataset(frame):
        return _subdataset_name(frame)
    if "://" in frame or frame.startswith("/vsicurl"):
        frame = re.split(r"[?#]", frame)[0]
    name = frame.rstrip("/").rsplit("/", 1)[-1]
    if is_hls_prefix(name):
        return name.rstrip(".")
    return name.rsplit(".", 1)[0]


def _subdataset_name(word: str) -> str:
    """``cube_B02`` from ``NETCDF:"cube.nc":B02``, ``a_2`` from ``GTIFF_DIR:2:a.tif``."""
    parts = [part.strip('"') for part in re.findall(r'"[^"]*"|[^:]+', word.split(":", 1)[1])]
    file = next((part for part in parts if Path(part).suffix), parts[0])
    others = [re.sub(r"[^0-9A-Za-z.-]+", "_", part).strip("_") for part in parts if part != file]
    return "_".join([Path(file).stem, *filter(None, others)])
