"""FillSearch: finds a value that many pixels have in all of their bands, which probably means nodata."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Bands that differ on natural surfaces; two bands may well be equal.
_LEAST_BANDS = 3
_LEAST_SHARE = 0.001  # of the pixels
_LEAST_PIXELS = 16  # in one part, so that chance does not count
#: Reflectances: no surface has more, and atmospheric correction gives no less. Within, only 0 may be a fill value, as
#: saturated clouds have the same value in all bands.
_HIGHEST, _LOWEST = 3, -0.05


class FillValue(NamedTuple):
    """A value that pixels have in all of their bands.

    Attributes:
        value: The value, in the unit of the pixels.
        pixels: Number of these pixels.
        share: Their share of the pixels with data.
    """

    value: float
    pixels: int
    share: float

    def describe(self, scale: float, offset: float = 0.0) -> str:
        """The share and the stored value, in words.

        Args:
            scale: Factor from the stored value to `value`.
            offset: Added after scaling.
        """
        return f"{100 * self.share:.2g} % of the pixels are {self.stored(scale, offset)} in all bands"

    def stored(self, scale: float, offset: float = 0.0) -> str:
        """The stored value; see `describe`."""
        return f"{(self.value - offset) / scale:.6g}"


class FillSearch:
    """Counts pixels whose bands all have the same value, in one or several parts of an image or a data set."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._pixels = 0

    def add(self, values: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> None:
        """Add the pixels of an image or of a part of it.

        Args:
            values: Values (C, ...).
            valid: Where there is data, as the values; everywhere by default.
        """
        if len(values) < _LEAST_BANDS:
            return
        equal = (values == values[:1]).all(axis=0)
        if valid is not None:
            equal &= valid.all(axis=0)
        self._pixels += equal.size if valid is None else int(valid.all(axis=0).sum())
        found, counts = np.unique(values[0][equal], return_counts=True)
        often = counts >= _LEAST_PIXELS
        self._counts.update(dict(zip(found[often].tolist(), counts[often].tolist(), strict=True)))

    def found(self, unit: float) -> FillValue | None:
        """The most frequent of these values that is no reflectance, if at least 0.1 % of the pixels have it.

        Args:
            unit: The value of a reflectance of 1, see `InputSpec.reflectance_unit`.
        """
        for value, pixels in self._counts.most_common():
            is_reflectance = _LOWEST <= value / unit <= _HIGHEST and value != 0
            if not is_reflectance and pixels >= _LEAST_SHARE * self._pixels:
                return FillValue(value, pixels, pixels / self._pixels)
        return None
