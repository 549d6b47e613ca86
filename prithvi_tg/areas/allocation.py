"""Size of a stratified sample, and its allocation to strata: Olofsson et al. 2014, section 5.1."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

Floats = NDArray[np.float64]

#: Points that a variance needs.
MIN_POINTS = 2
_LARGEST_ERROR = 0.5  # that of a single point, which is right or wrong


def sample_size(shares: Floats, deviations: Floats, standard_error: float, pixels: float = math.inf) -> int:
    """Number of points for a standard error of overall accuracy with the optimal allocation (Cochran 1977, eq. 5.25).

    Args:
        shares: Share of area of each stratum (H,).
        deviations: Standard deviation of correctness in each stratum (H,): sqrt(U (1 - U)) for an accuracy U.
        standard_error: The standard error.
        pixels: Number of pixels of all strata.

    Raises:
        ConfigError: The standard error is not a share that a sample can have.
    """
    if not 0 < standard_error < _LARGEST_ERROR:
        raise ConfigError(
            f"standard_error: {standard_error:g} is not between 0 and {_LARGEST_ERROR}; give a share such as 0.01"
        )
    spread = shares @ deviations
    return math.ceil(spread**2 / (standard_error**2 + shares @ deviations**2 / pixels))


def expected_error(shares: Floats, deviations: Floats, points: NDArray[np.int64], pixels: Floats) -> float:
    """Standard error of overall accuracy that an allocation (H,) is expected to have."""
    return float(np.sqrt(np.sum((shares * deviations) ** 2 / points * (1 - points / pixels))))


#: Name -> relative number of points of each stratum, from shares of area and standard deviations of correctness.
ALLOCATIONS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "proportional": lambda shares, deviations: shares,
    "equal": lambda shares, deviations: np.ones_like(shares),
    "optimal": lambda shares, deviations: shares * deviations,
}


def allocate(
    total: int, relative: Floats, pixels: NDArray[np.int64], minimum: int = MIN_POINTS
) -> NDArray[np.int64]:
    """Distribute points to strata.

    A stratum gets at least the minimum and at most all of its pixels; the others share the rest. Fractions are rounded
    down, and the strata with the largest fractions get the points that remain. The sum differs from the total only
    where minimums exceed it, or where the strata have fewer pixels.

    Args:
        total: Number of points.
        relative: Relative number of each stratum (H,), as of `ALLOCATIONS`.
        pixels: Pixels of each stratum (H,).
        minimum: Points that each stratum has at least.
    """
    lowest = np.minimum(max(minimum, MIN_POINTS), pixels)
    points = np.zeros(len(pixels))
    free = np.ones(len(pixels), bool)
    while free.any():
        rest = max(0.0, total - points[~free].sum())
        weight = np.where(free, relative, 0)
        points[free] = (rest * weight / weight.sum() if weight.sum() > 0 else lowest.astype(float))[free]
        low, high = free & (points < lowest), free & (points > pixels)
        if not (low | high).any():
            break
        # What the minimums need more than the full strata give back, the others lack; then full ones may get room.
        lacking = (lowest - points)[low].sum() - (points - pixels)[high].sum()
        fixed, limit = (low, lowest) if lacking >= 0 else (high, pixels)
        points[fixed], free[fixed] = limit[fixed], False
    whole = np.floor(points)
    remaining = round(float((points - whole).sum()))
    whole[np.argsort(whole - points, kind="stable")[:remaining]] += 1
    return whole.astype(np.int64)
