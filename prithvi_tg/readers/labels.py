"""Reading rasters of labels: the stored value of each pixel, and whether the pixel is labelled."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ..errors import ConfigError, DataError, counted, listed
from ..targets import ValueTarget
from .raster import alpha_band, data_bands, read_stored
from .scaling import Scaling, apply_scaling, tagged_scaling
from .valid_range import check_valid_range, ignored

_PIXELS_AT_ONCE = 2**22  # read and averaged together
_MOST_LABELS = 10  # in a message


def check_label_raster(
    source: DatasetReader, path: str | Path, class_of: Callable[[int], str | None]
) -> None:
    """Check that a raster has one band, and that its nodata tag is not the value of a class.

    Args:
        source: An open raster.
        path: Name of the raster, for messages.
        class_of: Returns the class name of a stored value, ``None`` for a value without a class.

    Raises:
        DataError: The raster has several bands.
        ConfigError: Its nodata tag, which means "not labelled", is the value of a class.
    """
    check_label_bands(source, path)
    check_label_tag(source.nodata, path, class_of)


def check_label_bands(source: DatasetReader, path: str | Path) -> None:
    """Check that a raster has one band; for the error see `check_label_raster`."""
    bands = data_bands(source)
    if bands != 1:
        raise DataError(f"{path}: has {bands} bands; a raster of labels has one band of class numbers")


def check_label_tag(tag: float | None, path: str | Path, class_of: Callable[[int], str | None]) -> None:
    """Check that the nodata tag of a raster is not the value of a class; for the error see `check_label_raster`."""
    name = class_of(int(tag)) if tag is not None and float(tag).is_integer() else None
    if name is not None:
        raise ConfigError(
            f"classes: value {tag:g} ({name}) is the nodata tag of {path}, which means not labelled; remove the tag "
            "from the files (gdal_edit.py -unsetnodata) or the value from the classes (in a dataset of your own: map "
            "the value to 255 in to_classes)"
        )


def label_counts(
    counts: Mapping[Any, int], converted: Mapping[Any, int] = MappingProxyType({}), noun: str = "pixel"
) -> str:
    """Text that lists stored labels in order, with their numbers of pixels; of many, the most frequent ones.

    Args:
        counts: Number of pixels of each label.
        converted: See `UnknownLabelError`.
        noun: What is counted.
    """
    labels = sorted(sorted(counts, key=lambda label: -counts[label])[:_MOST_LABELS])
    parts = [
        f"{f'{label:g}' if isinstance(label, float) else label} ({counted(counts[label], noun)})"
        + (f" became {converted[label]} in to_classes" if label in converted else "")
        for label in labels
    ]
    return listed([*parts, *([f"{len(counts) - len(labels)} more"] if len(counts) > len(labels) else [])])


def read_labels(
    source: DatasetReader,
    path: str | Path,
    window: Window | None = None,
    size: tuple[int, int] | None = None,
    legacy: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read the stored labels (H, W), and a mask (H, W) of the labelled pixels.

    A pixel is labelled if it is valid by the rule of `read_stored`: nodata tag, NaN, mask and alpha exclude pixels.

    Args:
        source: An open raster that `check_label_bands` accepts.
        path: Name of the raster, for messages.
        window: Window to read; the whole raster by default.
        size: Height and width of the result; those of the window by default.
        legacy: Treat every pixel as labelled, as in hls-foundation-os.

    Raises:
        DataError: A label is not a whole number, or a block cannot be read.
    """
    stored, valid, _ = read_stored(source, [1], (), window, size, alpha_band(source))
    labelled = np.ones(valid[0].shape, bool) if legacy else valid[0]
    return whole_labels(stored[0], labelled, path), labelled


def whole_labels(values: NDArray[Any], labelled: NDArray[np.bool_], path: str | Path) -> NDArray[np.int64]:
    """Stored labels as integers; 0 where a float is not labelled.

    Raises:
        DataError: A label is not a whole number.
    """
    if values.dtype.kind == "f":
        fractions = labelled & (values != np.rint(values))
        if fractions.any():
            raise DataError(
                f"{path}: label {float(values[fractions][0]):g} is not a whole number; labels must be class numbers"
            )
        values = np.where(labelled, values, 0)
    return values.astype(np.int64)


def check_value_raster(source: DatasetReader, path: str | Path, target: ValueTarget) -> list[Scaling]:
    """Scale and offset of each value of a raster, from its tags or else from the target.

    Args:
        source: An open raster.
        path: Name of the raster, for messages.
        target: Names and scale of the values.

    Raises:
        DataError: The raster does not have one band per value.
        ConfigError: The raster's scale tags contradict the scale of the target.
    """
    count = len(target.names)
    bands = data_bands(source, count)
    if bands != count:
        raise DataError(
            f"{path}: has {counted(bands, 'band')} for {counted(count, 'value')} ({', '.join(target.names)})"
        )
    scalings = [tagged_scaling(source, index) for index in range(1, count + 1)]
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
    return [tags or Scaling(target.scale) for tags in scalings]


def read_values(
    source: DatasetReader, path: str | Path, target: ValueTarget, window: Window | None = None
) -> NDArray[np.float32]:
    """Read values of a raster of labels (V, H, W) in the unit of the target, NaN where a pixel is not labelled.

    A pixel is labelled if it is valid by the rule of `read_stored`, with the ignored labels of the target as nodata.
    The file's scale and offset tags are applied; without tags, values are multiplied by the scale of the target.

    Args:
        source: An open raster with one band per value.
        path: Name of the raster, for messages.
        target: Scale and valid range.
        window: Window to read; the whole raster by default.

    Raises:
        DataError: The raster has another number of bands.
        ValueRangeError: A value lies outside the valid range.
        ConfigError: The raster's scale tags contradict the scale of the target.
    """
    scalings = check_value_raster(source, path, target)
    bands = len(scalings)
    stored, valid, _ = read_stored(
        source, range(1, bands + 1), target.ignored_labels, window, alpha=alpha_band(source, bands)
    )
    values = np.where(valid, stored, np.nan).astype(np.float32)
    apply_scaling(values, scalings)

    def mark(fill: str) -> str:
        return f"{ignored(fill)}, or mark it as nodata in each file: rio edit-info --nodata {fill} {path}"

    check_valid_range(values, stored, target, path, mark)
    return values


def read_mean_values(
    source: DatasetReader, path: str | Path, target: ValueTarget, window: Window, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Read values as `read_values` does, averaged to a height and width (h, w) no larger than the window's.

    A mean uses labelled pixels only. The result is NaN where the pixel in the middle is not labelled.

    Raises:
        DataError: See `read_values`.
        ConfigError: See `read_values`.
    """
    top, left, height, width = (
        round(side) for side in (window.row_off, window.col_off, window.height, window.width)
    )
    if (height, width) == size:
        return read_values(source, path, target, window)
    rows, columns = (
        np.rint(np.linspace(0, length, count + 1)).astype(int)
        for length, count in zip((height, width), size, strict=True)
    )
    means = np.empty((len(target.names), *size), np.float32)
    at_once = max(1, _PIXELS_AT_ONCE // (width * math.ceil(height / size[0])))
    for first in range(0, size[0], at_once):
        edges = rows[first : first + at_once + 1]
        strip = Window(left, top + edges[0], width, edges[-1] - edges[0])
        values = read_values(source, path, target, strip)
        labelled = ~np.isnan(values)
        total, count = (
            np.add.reduceat(np.add.reduceat(part, edges[:-1] - edges[0], axis=1), columns[:-1], axis=2)
            for part in (np.where(labelled, values, 0).astype(np.float64), labelled.astype(np.int64))
        )
        middle = np.ix_((edges[:-1] + edges[1:]) // 2 - edges[0], (columns[:-1] + columns[1:]) // 2)
        with np.errstate(invalid="ignore"):
            means[:, first : first + len(edges) - 1] = np.where(labelled[:, *middle], total / count, np.nan)
    return means
