"""Values of labels that cannot be right: missing values without a tag, or values outside their valid range."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ValueRangeError, counted
from ..targets import ValueTarget

#: Stored values that mark missing values by convention, besides the limits of integer types.
_USUAL_FILLS = (
    -99.0, -999.0, -9999.0, -99999.0, 9999.0, 99999.0, -32768.0, -32767.0, 32767.0, 65535.0, -(2.0**31), 2.0**31 - 1,
)  # fmt: skip
#: Those of them that are no value of a label unless `valid_range` contains them.
_SURE_FILLS = (*(fill for fill in _USUAL_FILLS if fill <= -999), 65535.0, 2.0**31 - 1)
_HUGE = 1e20
#: A value marks missing values if at least so many pixels, and half of those outside the range, have it.
_REPEATED = 10


def check_valid_range(
    values: NDArray[np.float32],
    stored: NDArray[Any],
    target: ValueTarget,
    path: str | Path,
    mark: Callable[[str], str],
) -> None:
    """Check that all values lie in the valid range; without one, that none is a usual mark of missing values.

    Args:
        values: In the unit (V, H, W), NaN where a pixel is not labelled.
        stored: The same values as they are stored.
        target: The valid range.
        path: Name of the file, for messages.
        mark: Returns how to mark a stored value as not labelled.

    Raises:
        ValueRangeError: A value lies outside, or is such a mark.
    """
    if target.valid_range is None:
        _refuse_marks(values, stored, path, mark)
        return
    outside = target.is_outside(values)
    if not outside.any():
        return
    beyond = f"valid_range, {target.valid_range[0]:g} to {target.valid_range[1]:g}"
    fill, is_usual = _probable_fill(stored[outside])
    # Coarse labels on finer pixels repeat values, too, but these lie near the range.
    if fill is None or not (is_usual or _is_far(float(values[outside & (stored == fill)][0]), target)):
        raise ValueRangeError(
            f"{path}: {extremes(values[outside], target)} lie outside {beyond}; widen valid_range, or correct "
            "value_scale if the labels are stored in another unit; prithvi-tg check prints the range of all labels",
            values,
        )
    filled = outside & (stored == fill)
    text, named = f"{fill:.10g}", _named(fill, float(values[filled][0]))
    advice = f"it usually means not labelled: {mark(text)}"
    if not is_usual:
        advice = f"if it means not labelled, {mark(text)}; otherwise widen valid_range"
    pixels = counted(int(filled.sum()), "pixel")
    raise ValueRangeError(
        f"{path}: value {named} in {pixels} lies outside {beyond}; {advice}",
        np.where(filled, np.float32(np.nan), values),
        fill,
        advice.replace(str(path), "FILE"),
    )


def _refuse_marks(
    values: NDArray[np.float32], stored: NDArray[Any], path: str | Path, mark: Callable[[str], str]
) -> None:
    """Check that no value usually marks missing values; see `check_valid_range`."""
    marked = ~np.isnan(values) & (np.isin(stored, _SURE_FILLS) | (np.abs(stored.astype(np.float64)) > _HUGE))
    if not marked.any():
        return
    fill = float(stored[marked][0])
    filled = marked & (stored == fill)
    advice = (
        f"it usually means not labelled: {mark(f'{fill:.10g}')}; otherwise set a valid_range that contains it"
    )
    raise ValueRangeError(
        f"{path}: value {_named(fill, float(values[filled][0]))} in {counted(int(filled.sum()), 'pixel')}; {advice}",
        np.where(filled, np.float32(np.nan), values),
        fill,
        advice.replace(str(path), "FILE"),
    )


def ignored(fill: str) -> str:
    """Advice to ignore a stored label in all files."""
    return f"set ignored_labels: [{fill}]"


def _named(fill: float, value: float) -> str:
    """A value in the unit, and as it is stored if that differs."""
    shown = f"{value:g}"
    return shown if float(shown) == fill else f"{shown} (stored as {fill:.10g})"


def extremes(values: NDArray[np.floating], target: ValueTarget) -> str:
    """How far values outside a range reach, such as ``values up to 315``."""
    low, high = target.valid_range or (-np.inf, np.inf)
    lowest, highest = values.min(), values.max()
    if lowest >= low:
        return f"values up to {highest:.4g}"
    return f"values down to {lowest:.4g}" + (f" and up to {highest:.4g}" if highest > high else "")


def _is_far(value: float, target: ValueTarget) -> bool:
    """Whether a value is negative where none is valid, or lies far outside the valid range."""
    low, high = target.valid_range or (-np.inf, np.inf)
    return value < 0 <= low or max(low - value, value - high) > (high - low) / 2


def _probable_fill(stored: NDArray[Any]) -> tuple[float | None, bool]:
    """The stored value that probably marks missing values, if there is one, and whether it usually does.

    Args:
        stored: Stored values outside the valid range (N,).
    """
    found, counts = np.unique(stored, return_counts=True)
    usual = np.isin(found, _USUAL_FILLS) | (np.abs(found) > _HUGE)
    if stored.dtype.kind in "iu":
        limits = np.iinfo(stored.dtype)
        usual |= (found == limits.max) | ((found == limits.min) & (found != 0))
    if usual.any():
        return float(found[usual][counts[usual].argmax()]), True
    value, count = float(found[counts.argmax()]), counts.max()
    return (value if value.is_integer() and count >= max(_REPEATED, counts.sum() / 2) else None), False
