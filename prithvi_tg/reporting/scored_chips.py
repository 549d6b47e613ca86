"""ScoredChips: numbers of single chips that add up to the scores of the set; intervals, best and worst chips."""

import re
from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import counted

#: Chips or blocks that intervals need.
MIN_UNITS = 5
#: Name of a window of a scene, with the scene, its day and its position, see `WindowNames`.
_WINDOW = re.compile(
    r"(?P<scene>.*?)(?:(?:\d{4}-\d\d-\d\d|undated)_(?:\d+_)?)?row_(?P<row>-?\d+)_column_(?P<column>-?\d+)"
)
_WINDOWS_PER_BLOCK = 4  # along a side, if the side of a block is not recorded


class ScoredChips(ABC):
    """Scored chips, or windows of a scene.

    Attributes:
        names: Name of each chip.
        block: Side of the blocks of ground that are resampled for windows of a scene, in pixels; 0 if it is not
            recorded. Not used for chips.
    """

    #: Why scores of this kind have no intervals, if they have none.
    no_intervals: ClassVar[str] = ""

    names: tuple[str, ...]
    block: int

    @abstractmethod
    def scores(self, weights: NDArray[np.int64] | None = None) -> dict[str, NDArray[np.float64]]:
        """Scores of the whole set, (D,) or (D, K).

        Args:
            weights: Number of times (D, N) that each chip is counted; once by default, with D = 1.
        """

    @property
    @abstractmethod
    def qualities(self) -> NDArray[np.float64]:
        """A number for each chip (N,), by which they are ranked: higher is better."""

    @abstractmethod
    def caption(self, number: int) -> str:
        """The score of a chip, in words, with its unit."""

    @cached_property
    def block_side(self) -> int | None:
        """Side of the blocks of ground that are resampled, in pixels; ``None`` if single chips are resampled."""
        places = self._places
        if places is None:
            return None
        if self.block:
            return self.block
        gaps = np.concatenate([np.diff(np.unique(axis)) for axis in places[:, 1:].T])
        # The last window of a row is shifted inwards, so the stride is the most frequent gap.
        distances, counts = np.unique(gaps, return_counts=True)
        return _WINDOWS_PER_BLOCK * int(distances[counts.argmax()]) if len(gaps) else 1

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Number of the resampled unit of each chip (N,): the chip itself, or its block of ground.

        A block contains its windows of all dates.
        """
        side = self.block_side
        if side is None or self._places is None:
            return np.arange(len(self.names))
        blocks = self._places // (1, side, side)
        return np.unique(blocks, axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def num_units(self) -> int:
        """Number of resampled units: chips or blocks of ground."""
        return int(self.units.max(initial=-1)) + 1

    @cached_property
    def _places(self) -> NDArray[np.int64] | None:
        """Number of the scene, row and column (N, 3) of windows of scenes; ``None`` for chips."""
        matches = [_WINDOW.fullmatch(name) for name in self.names]
        found = [match for match in matches if match is not None]
        if not found or len(found) < len(matches):
            return None
        scenes = {
            name: number for number, name in enumerate(dict.fromkeys(match["scene"] for match in found))
        }
        return np.array([(scenes[one["scene"]], int(one["row"]), int(one["column"])) for one in found])

    def described(self) -> str:
        """Number of chips, or of windows and the units that intervals resample."""
        count, side = len(self.names), self.block_side
        if side is None:
            return counted(count, "chip")
        blocks = counted(self.num_units, "spatial block")
        return f"{counted(count, 'window')} in {blocks}, up to {side} x {side} pixels each"

    def why_no_intervals(self) -> str:
        """The reason why there are no intervals; empty if there are."""
        if self.no_intervals or self.num_units >= MIN_UNITS:
            return self.no_intervals
        return f"fewer than {MIN_UNITS} {'chips' if self.block_side is None else 'spatial blocks'}"

    def intervals(self, draws: int = 1000, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Bootstrap intervals (Efron 1979): 2.5th and 97.5th percentile, first axis of each score.

        Whole chips are drawn with replacement, since pixels of one chip are not independent. For windows of a scene,
        blocks of ground are drawn (a block bootstrap, Lahiri 2003), since neighbouring windows are not independent
        either. The intervals describe the variation from the choice of chips or blocks, not from the seed of
        training.

        Args:
            draws: Number of bootstrap samples.
            seed: Seed of the draws.
        """
        return {name: _percentiles(values) for name, values in self._drawn(draws, seed).items()}

    def difference_intervals(
        self, other: Self, draws: int = 1000, seed: int = 0
    ) -> dict[str, NDArray[np.float64]]:
        """Paired bootstrap intervals of the scores of another run on the same chips, minus these scores.

        Raises:
            ValueError: The runs scored different chips.
        """
        if self.names != other.names:
            raise ValueError("both runs must have scored the same chips")
        ours, theirs = self._drawn(draws, seed), other._drawn(draws, seed)
        return {name: _percentiles(theirs[name] - ours[name]) for name in ours}

    def _drawn(self, draws: int, seed: int) -> dict[str, NDArray[np.float64]]:
        count = self.num_units
        weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
        return self.scores(weights[:, self.units])


def _percentiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values).any(axis=0)
    bounds = np.full((2, *values.shape[1:]), np.nan)
    bounds[:, known] = np.nanpercentile(values[:, known], (2.5, 97.5), axis=0)
    return bounds


def extremes(chips: ScoredChips, count: int) -> dict[str, str]:
    """Names of the worst and the best chips, by rank (``worst_1``, ``best_1``); no chip is in both.

    Args:
        chips: The chips; equally good ones are ordered by name.
        count: Number of worst and of best chips, at most.
    """
    ranked = [name for _, name in sorted(zip(chips.qualities.tolist(), chips.names, strict=True))]
    count = min(count, (len(ranked) + 1) // 2)
    worst = {f"worst_{k + 1}": name for k, name in enumerate(ranked[:count])}
    return worst | {f"best_{k + 1}": name for k, name in enumerate(reversed(ranked[count:][-count:]))}


class ExtremeSamples:
    """Keeps the samples of the worst and the best chips so far, those of `extremes`.

    Args:
        count: Number of worst and of best chips.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.samples: dict[str, dict[str, Any]] = {}
        self._ranked: list[tuple[float, str]] = []

    def add(self, quality: float, name: str, load: Callable[[], dict[str, Tensor]]) -> None:
        """Keep a chip if it is among the worst or the best.

        Args:
            quality: As of `ScoredChips.qualities`.
            name: Name of the chip.
            load: Returns its sample, on the CPU; not called if the chip is not kept.
        """
        if name in self.samples:
            return
        new = (quality, name)
        if len(self._ranked) >= 2 * self.count:
            low, high = self._ranked[self.count - 1 : self.count + 1]
            if low < new < high:
                return
            del self.samples[self._ranked.pop(self.count - 1 if new < low else self.count)[1]]
        insort(self._ranked, new)
        self.samples[name] = load()
