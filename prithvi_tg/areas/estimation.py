"""Stratified estimators of areas and accuracies, with standard errors.

Every figure is a total or a ratio of two totals over strata: Stehman 2014, doi 10.1080/01431161.2014.930207. Where
strata are the classes of the map, these are the estimators of Olofsson et al. 2014, doi 10.1016/j.rse.2014.02.015.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Half of a 95 % interval in standard errors.
Z = 1.96


@dataclass(frozen=True)
class SampleCounts:
    """A labelled sample, summed by stratum, class of the map and class of the reference.

    Where pixels have different areas, each point counts with its pixel's area divided by the mean of its stratum in the
    sample, so that an equal-probability sample of pixels estimates shares of area. Leading dimensions hold many samples
    of the same strata.

    Attributes:
        points: Number of points (..., H, K, K): stratum, class of the map, class of the reference.
        weights: Sums of relative pixel areas, as `points`.
        squares: Sums of their squares, as `points`.
        areas: Area of each stratum (H,), in any unit.
        pixels: Number of pixels of each stratum (H,), for the finite-population factor; infinite where unknown.
    """

    points: Floats
    weights: Floats
    squares: Floats
    areas: Floats
    pixels: Floats

    @classmethod
    def from_counts(cls, points: Any, areas: Any, pixels: Any = np.inf) -> "SampleCounts":
        """A sample of pixels of equal area, from its counts (..., H, K, K)."""
        points, areas = np.asarray(points, float), np.asarray(areas, float)
        pixels = np.broadcast_to(np.asarray(pixels, float), areas.shape)
        return cls(points, points, points, areas, pixels)

    @classmethod
    def from_points(
        cls,
        strata: NDArray[np.integer[Any]],
        mapped: NDArray[np.integer[Any]],
        reference: NDArray[np.integer[Any]],
        point_areas: Floats,
        num_classes: int,
        areas: Floats,
        pixels: Floats,
    ) -> "SampleCounts":
        """A sample from the stratum, both classes and the pixel area of each point (n,).

        Args:
            strata: Stratum of each point.
            mapped: Class of the map.
            reference: Class of the reference.
            point_areas: Area of each point's pixel, in any unit.
            num_classes: Number of classes K.
            areas: Area of each stratum (H,).
            pixels: Number of pixels of each stratum (H,).
        """
        shape = (len(areas), num_classes, num_classes)
        sums = np.bincount(strata, point_areas, len(areas))
        sizes = np.bincount(strata, minlength=len(areas))
        relative = point_areas * (sizes / np.where(sums > 0, sums, 1))[strata]
        cells = np.ravel_multi_index((strata, mapped, reference), shape)
        points, weights, squares = (
            np.bincount(cells, values, int(np.prod(shape))).astype(np.float64).reshape(shape)
            for values in (np.ones(len(cells)), relative, relative**2)
        )
        return cls(points, weights, squares, areas, pixels)


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error, of any shape; NaN where it does not exist."""

    value: Floats
    standard_error: Floats

    @property
    def half_width(self) -> Floats:
        """Half of the 95 % interval."""
        return Z * self.standard_error


@dataclass(frozen=True)
class AreaEstimates:
    """All figures of a sample.

    Attributes:
        matrix: Error matrix in proportions of area (..., K, K); rows are classes of the map.
        proportions: Share of each class in the whole area (..., K), by the reference.
        overall: Overall accuracy (...).
        users: User's accuracy (..., K): share of the mapped area of a class that is the class.
        producers: Producer's accuracy (..., K): share of the area of a class that is mapped as the class.
    """

    matrix: Floats
    proportions: Estimate
    overall: Estimate
    users: Estimate
    producers: Estimate


def estimate(sample: SampleCounts) -> AreaEstimates:
    """Estimate areas and accuracies.

    Each stratum needs at least 2 points, or all of its pixels.
    """
    num_classes = sample.points.shape[-1]
    same = np.eye(num_classes)
    is_mapped = np.repeat(same[:, :, None], num_classes, axis=2)  # (K, K, K): class, row, column
    is_reference = np.repeat(same[:, None, :], num_classes, axis=1)
    hits = is_mapped * is_reference
    everything = np.ones((1, num_classes, num_classes))
    shares = sample.areas / sample.areas.sum()
    per_stratum = sample.points.sum(axis=(-2, -1))[..., None, None]
    overall = _ratio(sample, same[None], everything)
    return AreaEstimates(
        np.einsum("h,...hij->...ij", shares, sample.weights / per_stratum),
        _ratio(sample, is_reference, np.broadcast_to(everything, is_reference.shape)),
        Estimate(overall.value[..., 0], overall.standard_error[..., 0]),
        _ratio(sample, hits, is_mapped),
        _ratio(sample, hits, is_reference),
    )


def _ratio(sample: SampleCounts, y: Floats, x: Floats) -> Estimate:
    """The ratio of two totals of indicators y and x (P, K, K), with its linearised standard error.

    With R = Y / X, the variance is sum_h A_h^2 (1 - n_h / N_h) s_dh^2 / n_h / X^2, where d = y - R x minus its mean in
    the stratum.
    """
    size = sample.points.sum(axis=(-2, -1))  # (..., H)
    y_mean, x_mean = (
        np.einsum("...hij,pij->...ph", sample.weights, one) / size[..., None, :] for one in (y, x)
    )
    y_total, x_total = y_mean @ sample.areas, x_mean @ sample.areas
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = y_total / np.where(x_total > 0, x_total, np.nan)
        residual = (y[:, None] - y_mean[..., None, None]) - ratio[..., None, None, None] * (
            x[:, None] - x_mean[..., None, None]
        )  # (..., P, H, K, K)
        spread = np.einsum("...hij,...phij->...ph", sample.squares, residual**2)
        unseen = 1 - size / sample.pixels
        factor = np.where(unseen > 0, sample.areas**2 * unseen / (size * (size - 1)), 0)
        variance = np.einsum("...ph,...h->...p", spread, factor) / x_total**2
    return Estimate(ratio, np.sqrt(variance))
