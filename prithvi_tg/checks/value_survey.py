"""ValueSurvey: range and moments of the labels of a split that holds values."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from ..errors import ValueRangeError
from ..targets import ValueTarget


class ValueSurvey:
    """Range and moments of the labels of a split, of each value (V,) and in the unit.

    Attributes:
        counts: Labelled pixels.
        lows: Lowest values, infinite without labels.
        highs: Highest values.
        beyond: Number of values outside the valid range.
        exceeding: Names of the samples with such values.
        fills: Stored value that probably means "not labelled" -> names of the samples that have it.
        advice: The same value -> what to do about it.
    """

    def __init__(self, target: ValueTarget) -> None:
        self.target = target
        self.counts = np.zeros(len(target.names), np.int64)
        self.lows, self.highs = np.full((2, len(target.names)), [[np.inf], [-np.inf]])
        self._sums, self._squares = np.zeros((2, len(target.names)))
        self.beyond = 0
        self.exceeding: list[str] = []
        self.fills: dict[float, list[str]] = defaultdict(list)
        self.advice: dict[float, str] = {}

    def add(self, values: NDArray[np.floating]) -> None:
        """Add labels in the unit, (H, W) or (V, H, W), NaN where not labelled."""
        values = values.reshape(len(self.counts), -1).astype(np.float64)
        labelled = self.target.is_labelled(values)
        self.counts += labelled.sum(axis=1)
        self.lows = np.minimum(self.lows, np.where(labelled, values, np.inf).min(axis=1))
        self.highs = np.maximum(self.highs, np.where(labelled, values, -np.inf).max(axis=1))
        self._sums += np.where(labelled, values, 0).sum(axis=1)
        self._squares += np.where(labelled, values**2, 0).sum(axis=1)
        self.beyond += int(self.target.is_outside(values).sum())

    def add_error(self, error: ValueRangeError, name: str) -> None:
        """Add the labels of a sample with values outside the valid range.

        Args:
            error: The error of reading them.
            name: Name of the sample.
        """
        if error.fill is not None:
            self.fills[error.fill].append(name)
            self.advice[error.fill] = error.advice
        if error.values is not None:
            before = self.beyond
            self.add(error.values)
            if self.beyond > before:
                self.exceeding.append(name)

    @property
    def means(self) -> NDArray[np.float64]:
        """Means; 0 without labels."""
        return self._sums / np.maximum(1, self.counts)

    @property
    def deviations(self) -> NDArray[np.float64]:
        """Standard deviations; 0 without labels."""
        return np.sqrt(np.maximum(0, self._squares / np.maximum(1, self.counts) - self.means**2))
