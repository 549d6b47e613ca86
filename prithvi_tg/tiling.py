"""Window geometry: windows that exactly cover an image, and the core pixels that each window owns."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .choices import Blending as Blending
from .deprecated import old_names
from .errors import ConfigError


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Offsets of windows that exactly cover ``length`` pixels along one axis.

    The distance of windows is ``stride``; the last window is shifted inwards so that it ends on the last pixel, as in
    MMSegmentation's sliding inference. An axis shorter than a window gets one window at 0 (pad the image).

    Raises:
        ConfigError: The stride is not positive, or is larger than the window.
    """
    if not 0 < stride <= window:
        raise ConfigError(f"stride: {stride} must lie between 1 and the window, {window}")
    if length <= window:
        return [0]
    steps = -(-(length - window) // stride)
    return [min(step * stride, length - window) for step in range(steps + 1)]


@dataclass(frozen=True)
class AxisTiling:
    """Windows along one axis of an image.

    Attributes:
        length: Length of the axis in pixels.
        window: Size of a window in pixels.
        stride: Distance of neighbouring windows in pixels.
        blending: How to blend overlapping windows.
        align: With ``crop``, the core of a window starts and ends on a multiple of this number of its pixels, the
            patch size of the encoder, if the overlap is large enough.
    """

    length: int
    window: int
    stride: int
    blending: Blending = "average"
    align: int = 1

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each window."""
        return tuple(window_starts(self.length, self.window, self.stride))

    @cached_property
    def core(self) -> tuple[tuple[int, int], ...]:
        """First pixel of the core of each window, and the pixel after the last."""
        if self.blending != "crop":
            return tuple((start, min(start + self.window, self.length)) for start in self.starts)
        cuts = [0, *map(self._cut, self.starts[:-1], self.starts[1:]), self.length]
        return tuple(pairwise(cuts))

    def _cut(self, start: int, following: int) -> int:
        """Pixel where the core of a window ends and the next begins: the middle of their overlap."""
        middle = (following - start + self.window) / 2
        aligned = round(middle / self.align) * self.align
        fits = following - start <= aligned <= self.window
        return start + (aligned if fits else int(middle))

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """Weight of each pixel of a window, along this axis (window,); never zero."""
        if self.blending != "hann":
            return np.ones(self.window, np.float32)
        return np.sin(np.pi * (np.arange(self.window) + 0.5) / self.window).astype(np.float32) ** 2

    @cached_property
    def total_weight(self) -> NDArray[np.float32]:
        """Sum of the weights of all windows at each pixel of the axis (length,)."""
        total = np.zeros(self.length, np.float32)
        for start, (first, last) in zip(self.starts, self.core, strict=True):
            total[first:last] += self.weights[first - start : last - start]
        return total


@dataclass(frozen=True)
class Strip:
    """Rows of a map that are completed together, and the rows of windows that overlap them.

    Attributes:
        number: Number of the strip, from 0 at the top.
        top: First row of pixels.
        bottom: The row after the last.
        first: First row of windows that overlaps the strip.
        last: Last row of windows that overlaps the strip.
    """

    number: int
    top: int
    bottom: int
    first: int
    last: int


@dataclass(frozen=True)
class WindowGrid:
    """The windows of an image in reading order, and its strips.

    Attributes:
        rows: The windows along the height.
        columns: The windows along the width.
        strip_rows: Approximate height of a strip in pixels.
    """

    rows: AxisTiling
    columns: AxisTiling
    strip_rows: int = 512

    @classmethod
    def of(
        cls, shape: tuple[int, int], window: int, stride: int, blending: Blending = "average", align: int = 1
    ) -> "WindowGrid":
        """Create the windows of an image of a given height and width."""
        rows, columns = (AxisTiling(length, window, stride, blending, align) for length in shape)
        return cls(rows, columns)

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """Strips from top to bottom; each covers a whole number of rows of windows."""
        rows = self.rows
        count = len(rows.starts)
        step = max(1, round(self.strip_rows / rows.stride))
        leaders = range(0, count, step)
        tops = [rows.core[i][0] for i in leaders]
        bottoms = [*tops[1:], rows.length]
        lasts = [min(i + step, len(rows.starts)) - 1 for i in leaders]
        firsts = [next(i for i, (_, end) in enumerate(rows.core) if end > top) for top in tops]
        return tuple(map(Strip, range(len(leaders)), tops, bottoms, firsts, lasts))

    def windows_in(self, strip: Strip) -> int:
        """Number of windows that overlap a strip, with or without data."""
        return (strip.last - strip.first + 1) * len(self.columns.starts)


__getattr__ = old_names(__name__)
