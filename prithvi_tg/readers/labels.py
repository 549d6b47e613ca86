"""Reading rasters of labels: which stored value each pixel has, and which pixels are labelled."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ..errors import ConfigError, DataError
from ..targets import ValueTarget
from .raster import alpha_band, data_bands, read_stored
from .scaling import Scaling, apply_scaling, tagged_scaling


def check_label_raster(
    source: DatasetReader, path: str | Path, class_of: Callable[[int], str | None]
) -> None:
    """Refuse a raster that cannot hold labels, or whose nodata tag is also the value of a class.

    Args:
        source: An open raster.
        path: Its name for messages.
        class_of: Name of the class of a stored value, ``None`` for values that are no class.

    Raises:
        DataError: The raster has several bands.
        ConfigError: Its nodata tag, which means "not labelled", is the value of a class.
    """
    bands = data_bands(source)
    if bands != 1:
        raise DataError(f"{path}: has {bands} bands; a raster of labels has one band of class numbers")
    tag = source.nodata
    name = class_of(int(tag)) if tag is not None and float(tag).is_integer() else None
    if name is not None:
        raise ConfigError(
            f"classes: value {tag:g} ({name}) is the nodata tag of {path}, which means not labelled; remove the tag "
            "from the files (gdal_edit.py -unsetnodata) or the value from the classes"
        )


def label_counts(counts: Mapping[int, int]) -> str:
    """The most frequent of some stored labels, in a line."""
    most = sorted(counts, key=lambda label: -counts[label])
    told = ", ".join(f"{label} ({counts[label]} pixels)" for label in most[:5])
    return told + (f", {len(most) - 5} more" if len(most) > 5 else "")


def read_labels(
    source: DatasetReader,
    path: str | Path,
    window: Window | None = None,
    size: tuple[int, int] | None = None,
    legacy: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Stored labels (H, W) and where there is one (H, W).

    A pixel is labelled if it holds data by the rule of `read_stored`: nodata tag, NaN, mask and alpha exclude pixels.

    Args:
        source: An open raster that `check_label_raster` accepts.
        path: Its name for messages.
        window: Part of the raster; all of it by default.
        size: Height and width of the result; those of the window by default.
        legacy: Every pixel is labelled, as in hls-foundation-os.

    Raises:
        DataError: A label is no whole number, or a block cannot be read.
    """
    stored, valid, _ = read_stored(source, [1], (), window, size, alpha_band(source))
    values, labelled = stored[0], np.ones(valid[0].shape, bool) if legacy else valid[0]
    if values.dtype.kind == "f":
        fractions = labelled & (values != np.rint(values))
        if fractions.any():
            raise DataError(
                f"{path}: label {float(values[fractions][0]):g} is not a whole number; labels must be class numbers"
            )
        values = np.where(labelled, values, 0)
    return values.astype(np.int64), labelled


def read_values(
    source: DatasetReader,
    path: str | Path,
    target: ValueTarget,
    window: Window | None = None,
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Values of a raster of labels (V, H, W) in the unit of the target, NaN where a pixel is not labelled.

    A pixel is labelled if it holds data by the rule of `read_stored`. Scale and offset tags of the file are applied;
    values of files without them are multiplied by the scale of the target.

    Args:
        source: An open raster with a band per value.
        path: Its name for messages.
        target: Scale and valid range.
        window: Part of the raster; all of it by default.
        size: Height and width of the result; those of the window by default.

    Raises:
        DataError: The raster has another number of bands, or a value lies outside the valid range.
        ConfigError: Its scale tags contradict the scale of the target.
    """
    bands = data_bands(source, len(target.names))
    if bands != len(target.names):
        raise DataError(
            f"{path}: has {bands} bands for {len(target.names)} values ({', '.join(target.names)})"
        )
    stored, valid, _ = read_stored(source, range(1, bands + 1), (), window, size, alpha_band(source, bands))
    values = np.where(valid, stored, np.nan).astype(np.float32)
    scalings = [tagged_scaling(source, index) for index in range(1, bands + 1)]
    for tags in scalings:
        if (
            tags is not None
            and target.scale != 1
            and not math.isclose(tags.scale, target.scale, rel_tol=1e-4)
        ):
            raise ConfigError(
                f"value_scale: {target.scale:g} is configured, but {path} has the tags scale {tags.scale:g} and offset "
                f"{tags.offset:g}; remove value_scale, or the tags (gdal_edit.py -unsetscale -unsetoffset)"
            )
    apply_scaling(values, [tags or Scaling(target.scale) for tags in scalings])
    if target.valid_range is not None:
        low, high = target.valid_range
        outside = (values < low) | (values > high)
        if outside.any():
            raise DataError(
                f"{path}: value {values[outside][0]:g} lies outside valid_range, {low:g} to {high:g}; correct the "
                "range, or mark such pixels as nodata"
            )
    return values
