"""Window geometry: windows that exactly cover an image, and the core pixels that each window owns."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

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
        stride: Distance between neighbouring windows in pixels.
        blending: How to blend overlapping windows.
        align: With ``crop``, the core of a window starts and ends on a multiple of this number of its pixels, the
            patch size of the encoder, if the overlap is large enough.
        part: First pixel to map, and the pixel after the last; by default the whole axis. Windows whose core does
            not touch the part are left out; the others are those of the whole axis.
    """

    length: int
    window: int
    stride: int
    blending: Blending = "average"
    align: int = 1
    part: tuple[int, int] | None = None

    @property
    def mapped(self) -> tuple[int, int]:
        """First pixel to map, and the pixel after the last."""
        return (0, self.length) if self.part is None else self.part

    @cached_property
    def covered(self) -> tuple[int, int]:
        """First pixel that the windows cover, and the pixel after the last."""
        return self.starts[0], min(self.starts[-1] + self.window, self.length)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each window."""
        return tuple(start for start, _ in self._windows)

    @cached_property
    def core(self) -> tuple[tuple[int, int], ...]:
        """First pixel of the core of each window, and the pixel after the last."""
        return tuple(core for _, core in self._windows)

    @cached_property
    def _windows(self) -> tuple[tuple[int, tuple[int, int]], ...]:
        """First pixel and core of each window."""
        starts = window_starts(self.length, self.window, self.stride)
        cores = [(start, min(start + self.window, self.length)) for start in starts]
        if self.blending == "crop":
            cores = list(pairwise([0, *map(self._cut, starts[:-1], starts[1:]), self.length]))
        first, last = self.mapped
        return tuple(
            (start, core)
            for start, core in zip(starts, cores, strict=True)
            if core[0] < last and core[1] > first
        )

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
        """Sum of the weights of all windows at each of the `mapped` pixels."""
        total = np.zeros(self.length, np.float32)
        for start, (first, last) in zip(self.starts, self.core, strict=True):
            total[first:last] += self.weights[first - start : last - start]
        return total[slice(*self.mapped)]


@dataclass(frozen=True, eq=False)
class PixelArea:
    """The pixels of an image that are mapped: a box, and a mask in it.

    Attributes:
        top: First row of the box.
        left: First column of the box.
        height: Rows of the box; the first and the last contain a pixel of the area.
        width: Columns of the box.
        bits: (height, ceil(width / 8)) uint8, 1 in the area, first pixel in the highest bit.
    """

    top: int
    left: int
    height: int
    width: int
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, top: int, left: int, masks: Iterable[NDArray[np.bool_]]) -> "PixelArea | None":
        """The pixels of a mask, in the smallest box.

        Args:
            top: First row of the mask.
            left: First column of the mask.
            masks: The mask in pieces (h, W), one below the other.

        Returns:
            The area; ``None`` if no pixel is in it.
        """
        bits, rows = [], []
        across: Any = False
        for mask in masks:
            across = across | mask.any(axis=0)
            rows.append(mask.any(axis=1))
            bits.append(np.packbits(mask, axis=1))
        down, columns = np.flatnonzero(np.concatenate(rows)), np.flatnonzero(across)
        if not len(down):
            return None
        first, start, stop = int(down[0]), int(columns[0]), int(columns[-1]) + 1
        height, width = int(down[-1]) + 1 - first, stop - start
        cut = [np.packbits(np.unpackbits(part, axis=1, count=stop)[:, start:], axis=1) for part in bits]
        return cls(top + first, left + start, height, width, np.concatenate(cut)[first : first + height])

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.bits.tobytes()).hexdigest()
        return f"PixelArea({self.top}, {self.left}, {self.height}, {self.width}, {digest})"

    @property
    def parts(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """First row of the box and the row after the last; first column and the column after the last."""
        return (self.top, self.top + self.height), (self.left, self.left + self.width)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return sum(int(np.unpackbits(row).sum()) for row in self.bits)

    def finer(self, factor: int) -> "PixelArea":
        """The same area of an image with so many pixels along each pixel."""
        mask = self.rows(self.top, self.top + self.height).repeat(factor, axis=0).repeat(factor, axis=1)
        height, width = mask.shape
        return PixelArea(self.top * factor, self.left * factor, height, width, np.packbits(mask, axis=1))

    def rows(self, first: int, last: int) -> NDArray[np.bool_]:
        """Mask (last - first, width), true in the area; rows are those of the image."""
        bits = self.bits[first - self.top : last - self.top]
        return np.unpackbits(bits, axis=1, count=self.width).astype(bool)


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
        area: The pixels to map, whose box is the `part` of rows and columns; by default all.
    """

    rows: AxisTiling
    columns: AxisTiling
    strip_rows: int = 512
    area: PixelArea | None = None

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        window: int,
        stride: int,
        blending: Blending = "average",
        align: int = 1,
        area: PixelArea | None = None,
    ) -> "WindowGrid":
        """Create the windows of an image of a given height and width, or those of them that touch an area."""
        parts = (None, None) if area is None else area.parts
        rows, columns = (
            AxisTiling(length, window, stride, blending, align, part)
            for length, part in zip(shape, parts, strict=True)
        )
        return cls(rows, columns, area=area)

    @cached_property
    def touching(self) -> NDArray[np.bool_] | None:
        """(rows, columns), true for windows whose core touches the area; ``None`` without an area."""
        if self.area is None:
            return None
        (top, bottom), (left, right) = self.rows.mapped, self.columns.mapped
        cores = np.clip(self.columns.core, left, right) - left
        touching = np.empty((len(self.rows.starts), len(cores)), bool)
        for row, (first, last) in enumerate(self.rows.core):
            found = self.area.rows(max(first, top), min(last, bottom)).any(axis=0)
            before = np.concatenate([[0], np.cumsum(found)])
            touching[row] = before[cores[:, 1]] > before[cores[:, 0]]
        return touching

    def count(self, first: int, last: int) -> int:
        """Number of windows in the rows `first` to `last` of windows, with or without data."""
        if self.touching is None:
            return (last + 1 - first) * len(self.columns.starts)
        return int(self.touching[first : last + 1].sum())

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """Strips from top to bottom; each covers a whole number of rows of windows."""
        rows = self.rows
        count = len(rows.starts)
        top, bottom = rows.mapped
        step = max(1, round(self.strip_rows / rows.stride))
        # In an area, the first windows may all begin above it.
        leaders = [i for i in range(0, count, step) if i == 0 or rows.core[i][0] > top]
        tops = [max(top, rows.core[i][0]) for i in leaders]
        bottoms = [*tops[1:], bottom]
        lasts = [i - 1 for i in (*leaders[1:], count)]
        firsts = [next(i for i, (_, end) in enumerate(rows.core) if end > top) for top in tops]
        return tuple(map(Strip, range(len(leaders)), tops, bottoms, firsts, lasts))

    def windows_in(self, strip: Strip) -> int:
        """Number of windows that overlap a strip, with or without data."""
        return self.count(strip.first, strip.last)


def multiples_around(value: int, patch: int) -> str:
    """The nearest multiples of the patch below and above a number, for messages: ``48 or 64``."""
    return " or ".join(str(one) for one in (value // patch * patch, value + -value % patch) if one)


__getattr__ = old_names(__name__)
