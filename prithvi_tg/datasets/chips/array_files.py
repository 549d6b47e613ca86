"""Chips in files that are not rasters: checks of the arrays that methods of a dataset return."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, DataError, counted
from ...readers.raster import Bands, data_mask
from ...readers.valid_range import check_valid_range, ignored
from ...spec import InputSpec
from ...targets import ValueTarget


def stored_bands(array: Any, path: Path, spec: InputSpec, legacy: bool = False) -> Bands:
    """The bands of a model in the array of a file.

    Args:
        array: Stored values of all bands of the file, (T*C, H, W) or (T, C, H, W).
        path: Name of the file, for messages.
        spec: The bands of the file and of the model, and stored values that mean nodata.
        legacy: See `read_stored`.

    Raises:
        DataError: The array has another shape, or does not hold real numbers.
    """
    array = _numbers(array, path, "load_image")
    count = int(np.prod(array.shape[:-2]))
    if array.ndim < 2 or count != spec.file_count:
        bands = counted(spec.file_count // spec.num_frames, "band")
        dates = f" of each of {spec.num_frames} dates" if spec.num_frames > 1 else ""
        last = array.ndim == 3 and array.shape[-1] == spec.file_count
        advice = "; return np.moveaxis(array, -1, 0)" if last else ""
        raise DataError(
            f"{path}: load_image returned an array {array.shape}; ({spec.file_count}, H, W) is expected: the {bands} "
            f"of file_bands{dates}, then rows and columns{advice}"
        )
    values = array.reshape(count, *array.shape[-2:])[[index - 1 for index in spec.file_bands]]
    valid = np.empty(values.shape, dtype=bool)
    return Bands(values, valid, data_mask(values, spec.nodata, valid, legacy))


def scaled_bands(returned: Any, path: Path, spec: InputSpec) -> Bands:
    """The bands that `read_image` of a subclass returned: image and mask (T, C, H, W) in the unit of the statistics.

    Raises:
        ConfigError: The method did not return two arrays.
        DataError: The arrays have another shape, or the image does not hold real numbers.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        what = f"a {type(returned).__name__}" if returned is not None else "None"
        raise ConfigError(
            f"{path}: read_image returned {what}; an image and a mask, both (T, C, H, W), are expected"
        )
    image, valid = returned
    image, valid = _numbers(image, path, "read_image"), np.asarray(valid, dtype=bool)
    shape = (spec.num_frames, len(spec.bands), *image.shape[-2:])
    if image.shape != shape or valid.shape != shape:
        raise DataError(
            f"{path}: read_image returned an image {image.shape} and a mask {valid.shape}; two arrays (T, C, H, W) "
            f"with {counted(spec.num_frames, 'frame')} of {counted(len(spec.bands), 'band')} are expected"
        )
    values = image.reshape(-1, *shape[-2:]).astype(np.float32)
    finite = np.empty(values.shape, dtype=bool)
    data_mask(values, (), finite)
    valid = valid.reshape(values.shape)
    return Bands(values, valid & finite, int(np.count_nonzero(valid & ~finite)))


def stored_labels(
    array: Any, path: Path, method: str = "load_mask"
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Labels (H, W) that a method returned, and a mask (H, W) of those that are not NaN.

    Raises:
        DataError: The array has another shape, or does not hold real numbers.
    """
    array = _numbers(array, path, method)
    if array.ndim < 2 or array.size != np.prod(array.shape[-2:]):
        raise DataError(f"{path}: {method} returned an array {array.shape}; (H, W) is expected")
    labels = array.reshape(array.shape[-2:])
    return labels, ~np.isnan(labels)


def stored_values(array: Any, path: Path, target: ValueTarget) -> NDArray[np.float32]:
    """Values (V, H, W) in the unit that ``load_mask`` returned, NaN where a pixel is not labelled.

    Args:
        array: Stored values, (V, H, W) or, for one value, (H, W).
        path: Name of the file, for messages.
        target: Scale and valid range of the values.

    Raises:
        DataError: The array has another shape, or holds no real numbers.
        ValueRangeError: A value lies outside the valid range.
    """
    array = _numbers(array, path, "load_mask")
    if array.ndim < 2 or np.prod(array.shape[:-2]) != target.num_outputs:
        raise DataError(
            f"{path}: load_mask returned an array {array.shape}; ({target.num_outputs}, H, W) is expected, with the "
            "values first"
        )
    stored = array.reshape(target.num_outputs, *array.shape[-2:])
    valid = np.empty(stored.shape, dtype=bool)
    data_mask(stored, target.ignored_labels, valid)
    values = np.where(valid, stored, np.nan).astype(np.float32) * np.float32(target.scale)
    check_valid_range(
        values,
        stored,
        target,
        path,
        lambda fill: f"{ignored(fill)}, or return NaN instead of {fill} in load_mask",
    )
    return values


def _numbers(array: Any, path: Path, method: str) -> NDArray[Any]:
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise DataError(f"{path}: {method} returned no array ({error})") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: {method} returned values of type {array.dtype}; real numbers are expected")
    narrow = {"bool": np.uint8, "float16": np.float32}.get(array.dtype.name)
    return array if narrow is None else array.astype(narrow)
