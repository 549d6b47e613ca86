"""Reading rasters: the values and, beside them, which of them are data."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ..errors import DataError
from ..spec import DataSpec


@contextmanager
def open_raster(path: str | Path) -> Iterator[DatasetReader]:
    """Open a raster for reading.

    Raises:
        DataError: The file is missing, or cannot be opened or read.
    """
    with reading(path):
        with warnings.catch_warnings():
            # A raster without a geo-reference is said once, where it matters: when it is mapped.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path)
        with source:
            yield source


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Say which file it was that could not be read.

    Raises:
        DataError: Within, rasterio could not open or read it.
    """
    try:
        yield
    except RasterioError as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        reason = reason.removeprefix(Path(path).name).lstrip(":, ")  # GDAL often begins with the name
        raise DataError(f"{path}: not a readable raster ({reason})") from error


def read_bands(
    source: DatasetReader,
    indexes: Sequence[int],
    nodata: Sequence[float] = (),
    window: Window | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of some bands, and where they are data.

    Args:
        source: An open raster.
        indexes: 1-based bands.
        nodata: Values that mean no data, beside each band's own tag, NaN and infinity.
        window: Part of the raster; all of it by default.

    Returns:
        Values (C, H, W) as stored, float32, and whether each is data (C, H, W).

    Raises:
        DataError: The raster has too few bands.
    """
    if max(indexes) > source.count or min(indexes) < 1:
        raise DataError(
            f"{source.name}: has {source.count} bands; bands {list(indexes)} (counted from 1) are wanted"
        )
    with reading(source.name):
        values = source.read(indexes=list(indexes), window=window)
    valid = np.empty(values.shape, dtype=bool)
    for channel, index in enumerate(indexes):
        data_mask(values[channel], (*nodata, source.nodatavals[index - 1]), out=valid[channel])
    return values.astype(np.float32, copy=False), valid


def data_mask(
    values: NDArray[Any], nodata: Sequence[float | None], out: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Where stored values are data: finite, and none of some values."""
    integers = values.dtype.kind in "iu"
    if out is None:
        out = np.empty(values.shape, bool)
    if integers:
        out[...] = True
    else:
        np.isfinite(values, out=out)
    for value in {value for value in nodata if value is not None}:
        whole = integers and float(value).is_integer()
        out &= values != (int(value) if whole else value)  # whole numbers need no copy as floats
    return out


def legacy_values(values: NDArray[np.float32], spec: DataSpec) -> NDArray[np.float32]:
    """Stored values as hls-foundation-os handed them on: only what `DataSpec.legacy_fill` says is replaced."""
    if spec.legacy_fill is None:
        return values
    return np.where(values == -9999, np.float32(spec.legacy_fill), values)


def center(source: DatasetReader) -> tuple[float, float]:
    """Latitude and longitude of the middle of a raster, degrees; NaN without a geo-reference."""
    if source.crs is None:
        return float("nan"), float("nan")
    longitude, latitude = source.lnglat()
    return latitude, longitude


def tag_mask(source: DatasetReader) -> NDArray[np.bool_]:
    """Where any band of a file, used or not, equals its nodata tag (H, W); NaN never matches.

    This is how hls-foundation-os masked its maps.
    """
    mask = np.zeros(source.shape, dtype=bool)
    for index, tag in enumerate(source.nodatavals, start=1):
        if tag is not None:
            mask |= source.read(index) == tag
    return mask
