"""Reading rasters: stored values and a mask of the pixels that hold data."""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ..bands import names_no_band
from ..compat import GDALError
from ..errors import DataError, counted
from .grid import on_earth

if TYPE_CHECKING:
    from ..spec import InputSpec  # imports PyTorch

#: A larger magnitude is a fill value in any unit: no sensor measures it, and float32 overflows soon after.
LARGEST_VALUE = 1e30


#: What GDAL says of files that end too early.
_TRUNCATED = re.compile(
    r"TIFF(Read|Fetch)Directory|TIFFFetchNormalTag:IO error|Cannot read TIFF header|got \d+ bytes, expected|"
    r"Premature end"
)
_HTTP = re.compile(r"(/vsicurl/)?https?://")
#: Settings of GDAL that read little more than the requested blocks; those of the user take precedence.
_HTTP_SETTINGS = {
    "CPL_VSIL_CURL_CHUNK_SIZE": "16384",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "VSI_CACHE": "NO",
}


def _open_address(path: str) -> DatasetReader:
    for key, value in _HTTP_SETTINGS.items():
        if key not in os.environ and get_gdal_config(key) is None:
            set_gdal_config(key, value)

    def opened() -> DatasetReader:
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            return rasterio.open(path)

    # Without this setting, GDAL asks the server for sidecar files. Local files have some, and in the main thread the
    # setting would apply to files that other threads open.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(opened).result()


@contextmanager
def open_raster(path: str | Path) -> Iterator[DatasetReader]:
    """Open a raster for reading.

    Raises:
        DataError: The file is missing, cannot be opened or read, holds complex numbers or several rasters.
    """
    with reading(path):
        with warnings.catch_warnings():
            # A raster without a geo-reference is reported once, when it is mapped.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = _open_address(str(path)) if _HTTP.match(str(path)) else rasterio.open(path)
        # Not `with source`: it binds GDAL's environment of this thread to the file. A reader that is garbage collected
        # while another file is open would end the environment of that file.
        with closing(source):
            if source.subdatasets:
                raise DataError(
                    f"{path}: holds several rasters; name one of them: {', '.join(source.subdatasets[:8])}"
                )
            kind = next((kind for kind in source.dtypes if kind.startswith("complex")), None)
            if kind is not None:
                raise DataError(
                    f"{path}: holds {kind} values; convert them to real numbers first, such as the amplitude of "
                    "a radar image"
                )
            yield source


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Name the file in errors of GDAL.

    Raises:
        DataError: Within, rasterio could not open or read the file.
    """
    try:
        yield
    except (RasterioError, GDALError, CRSError) as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        reason = reason.removeprefix(Path(path).name).lstrip(":, ")  # GDAL often begins with the name
        advice = "; the file may be truncated" if _TRUNCATED.search(_texts(error)) else ""
        raise DataError(f"{path}: not a readable raster ({reason}){advice}") from error


def _texts(error: BaseException | None) -> str:
    """The messages of an error and of its causes."""
    return "" if error is None else f"{error}\n{_texts(error.__cause__)}"


class Bands(NamedTuple):
    """Some bands of a raster.

    Attributes:
        values: (C, H, W) as stored.
        valid: (C, H, W), true where a value is data.
        meaningless: Number of values that are not finite or beyond 1e30 without a nodata tag that explains them.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]
    meaningless: int = 0


def read_stored(
    source: DatasetReader,
    indexes: Sequence[int],
    nodata: Sequence[float] = (),
    window: Window | None = None,
    size: tuple[int, int] | None = None,
    alpha: int | None = None,
    legacy: bool = False,
) -> Bands:
    """Read bands in their stored type and decide which pixels hold data: the one rule for images and labels.

    A pixel of a band holds data if it is finite, not beyond 1e30, not equal to the nodata tag of that band or to a
    value of `nodata`, and not excluded by a mask of the file (``.msk``, internal, of the dataset or the band) or by
    its alpha band.

    Args:
        source: An open raster.
        indexes: Bands, counted from 1.
        nodata: Further stored values that mean nodata.
        window: Part of the raster; all of it by default.
        size: Height and width of the result, by nearest neighbour; those of the window by default.
        alpha: The alpha band of the file, see `alpha_band`.
        legacy: The rule of hls-foundation-os: only the nodata tag and `nodata` count.

    Raises:
        DataError: The raster lacks a band, or a block cannot be read.
    """
    if max(indexes) > source.count or min(indexes) < 1:
        raise DataError(
            f"{source.name}: {counted(source.count, 'band')}, but bands {list(indexes)} (counted from 1) are requested"
        )
    shape = None if size is None else (len(indexes), *size)
    with reading(source.name):
        stored = source.read(indexes=list(indexes), window=window, out_shape=shape)
    valid = np.empty(stored.shape, dtype=bool)
    meaningless, tags = 0, source.nodatavals
    for channel, index in enumerate(indexes):
        tag = tags[index - 1]
        meaningless += data_mask(stored[channel], (*nodata, tag), valid[channel], legacy)
    if not legacy:
        _apply_masks(source, indexes, valid, window, alpha)
    return Bands(stored, valid, meaningless)


def read_bands(
    source: DatasetReader,
    indexes: Sequence[int],
    nodata: Sequence[float] = (),
    window: Window | None = None,
    size: tuple[int, int] | None = None,
    alpha: int | None = None,
    legacy: bool = False,
) -> Bands:
    """Read bands of an image as float32; arguments and errors are those of `read_stored`."""
    return as_floats(read_stored(source, indexes, nodata, window, size, alpha, legacy))


def as_floats(bands: Bands) -> Bands:
    """The same with values in float32."""
    with np.errstate(over="ignore"):  # values that float32 cannot hold are not valid anyway
        return bands._replace(values=bands.values.astype(np.float32, copy=False))


def data_mask(
    values: NDArray[Any], nodata: Sequence[float | None], out: NDArray[np.bool_], legacy: bool = False
) -> int:
    """Mark the stored values that are data.

    Args:
        values: Stored values, any shape.
        nodata: Values that mean nodata; ``None``, as in rasterio's tags, is skipped.
        out: Result, of the shape of `values`.
        legacy: Compare with `nodata` alone; NaN and huge values count as data.

    Returns:
        How many values are not finite or beyond 1e30 and are not explained by `nodata`.
    """
    integers = values.dtype.kind in "iu"
    known = {value for value in nodata if value is not None}
    unexplained = 0
    if integers or legacy:
        first = known.pop() if known else None
        if first is None:
            out.fill(True)
        else:
            np.not_equal(values, _as_stored(first, integers), out=out)
    else:
        # NaN fails both comparisons.
        np.less_equal(values, LARGEST_VALUE, out=out)
        out &= values >= -LARGEST_VALUE
        if not out.all():
            strange = values[~out]
            expected = np.isin(strange, np.array(list(known), values.dtype))
            if any(value != value for value in known):
                expected |= np.isnan(strange)
            unexplained = int(np.count_nonzero(~expected))
    for value in known:
        out &= values != _as_stored(value, integers)
    return unexplained


def _as_stored(value: float, integers: bool) -> float:
    """A nodata value to compare stored values with; with whole numbers, integers need no copy as floats."""
    return int(value) if integers and float(value).is_integer() else value


def alpha_band(source: DatasetReader, num_bands: int = 0) -> int | None:
    """The alpha band of a raster, counted from 1, or ``None``.

    Args:
        source: An open raster.
        num_bands: Number of bands that the file is known to hold data in, 0 if unknown. GDAL marks the fourth band of
            a plain four-band file of bytes as alpha; a band that is known to hold data is not an alpha band.
    """
    if num_bands >= source.count:
        return None
    kinds = list(source.colorinterp)
    return kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else None


def data_bands(source: DatasetReader, num_bands: int = 0) -> int:
    """Number of bands without the alpha band, see `alpha_band`."""
    return source.count - (alpha_band(source, num_bands) is not None)


def _apply_masks(
    source: DatasetReader,
    indexes: Sequence[int],
    valid: NDArray[np.bool_],
    window: Window | None,
    alpha: int | None,
) -> None:
    size = valid.shape[1:]
    with reading(source.name):
        if alpha is not None:
            valid &= source.read(alpha, window=window, out_shape=size) > 0
        of_bands = source.mask_flag_enums  # asks GDAL about every band
        flags = [of_bands[index - 1] for index in indexes]
        of_dataset: NDArray[np.bool_] | None = None
        for channel, (index, kinds) in enumerate(zip(indexes, flags, strict=True)):
            if MaskFlags.all_valid in kinds or MaskFlags.nodata in kinds or MaskFlags.alpha in kinds:
                continue  # no mask, or one that repeats the tag or the alpha band
            if MaskFlags.per_dataset not in kinds:
                valid[channel] &= source.read_masks(index, window=window, out_shape=size) > 0
                continue
            if of_dataset is None:
                of_dataset = source.read_masks(index, window=window, out_shape=size) > 0
            valid[channel] &= of_dataset


def legacy_values(values: NDArray[np.float32], spec: "InputSpec") -> NDArray[np.float32]:
    """Stored values as in hls-foundation-os: -9999 is replaced by `InputSpec.legacy_fill`, if it is set."""
    if spec.legacy_fill is None:
        return values
    return np.where(values == -9999, np.float32(spec.legacy_fill), values)


def band_descriptions(path: str | Path) -> tuple[str, ...]:
    """Band descriptions of a raster, empty where a band has none; no descriptions if they name no band."""
    with open_raster(path) as source:
        described = not names_no_band(source.descriptions)
        return tuple(text or "" for text in source.descriptions) if described else ()


def center(source: DatasetReader) -> tuple[float, float]:
    """Latitude and longitude of the middle of a raster, degrees; NaN if unknown, as for a site grid."""
    if not on_earth(source.crs):
        return float("nan"), float("nan")
    longitude, latitude = source.lnglat()
    return latitude, longitude


def tag_mask(source: DatasetReader, window: Window, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask (H, W) of pixels where any band of a file, used or not, equals its nodata tag; NaN never matches.

    This is the rule by which hls-foundation-os masked its maps.
    """
    mask = np.zeros(size, dtype=bool)
    with reading(source.name):
        for index, tag in enumerate(source.nodatavals, start=1):
            if tag is not None:
                mask |= source.read(index, window=window, out_shape=size) == tag
    return mask
