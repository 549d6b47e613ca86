"""Areas and accuracies of a labelled sample, as a record for tables, JSON and the report."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, counted, listed
from .design import Design
from .estimation import AreaEstimates, Estimate, SampleCounts, estimate
from .points import LEFT_OUT

#: Omissions of a class that a stratum needs for a normal interval.
MIN_OMISSIONS = 5
#: Share of the area of a class that one point of a stratum must stand for, for its omissions to matter.
_WEIGHT_OF_A_POINT = 0.025


#: Why an accuracy has no interval.
DEGENERATE = "all points behind the figure agree; label more points to get one"


def described_allocation(record: Mapping[str, Any]) -> str:
    """How points were allocated to strata: ``proportional allocation``, and strata that only have the minimum.

    Args:
        record: The record of a `Design`.
    """
    minimum, points = record.get("minimum", 0), record.get("points_per_stratum", {})
    rule = f"{record.get('allocation', '-')} allocation"
    raised = [name for name, number in points.items() if number <= minimum]
    if record.get("allocation") == "equal" or not raised:
        return rule
    least = f"the minimum of {counted(minimum, 'point')}"
    return (
        f"{least} in each stratum" if len(raised) == len(points) else f"{rule}, {least} in {listed(raised)}"
    )


def sample_counts(design: Design, reference: NDArray[np.int64]) -> SampleCounts:
    """The labelled points by stratum and classes.

    Args:
        design: The design of the sample.
        reference: Class of each point (n,), `LEFT_OUT` for points without.

    Raises:
        DataError: A stratum has fewer than 2 labelled points, and more pixels than that.
    """
    used = reference != LEFT_OUT
    sizes = np.bincount(design.stratum_of[used], minlength=len(design.strata))
    for one, size in zip(design.strata, sizes.tolist(), strict=True):
        if size < min(2, one.pixels):
            raise DataError(
                f"stratum {one.name}: {'only 1' if size else 'none'} of its points is labelled, but a variance needs "
                "at least 2; label more, or draw a sample with a larger minimum"
            )
    return SampleCounts.from_points(
        design.stratum_of[used],
        design.class_of[used],
        reference[used],
        design.point_areas[used],
        len(design.classes),
        design.areas,
        design.pixels.astype(float),
    )


def estimate_areas(design: Design, reference: NDArray[np.int64]) -> dict[str, Any]:
    """Estimate areas and accuracies from a labelled sample.

    Args:
        design: The design of the sample.
        reference: Class of each point (n,), `LEFT_OUT` for points that cannot be interpreted.

    Returns:
        The content of ``areas.json``: see docs/reference/outputs.md.

    Raises:
        DataError: A stratum has fewer than 2 labelled points.
    """
    counts = sample_counts(design, reference)
    found = estimate(counts)
    total = float(design.areas.sum())
    few = few_omissions(design, counts, found)
    left_out = np.bincount(design.stratum_of[reference == LEFT_OUT], minlength=len(design.strata))
    used = counts.points.sum(axis=(1, 2))
    is_census = bool((used >= counts.pixels).all())

    def figure(one: Estimate, index: Any, unit: float = 1.0) -> dict[str, Any] | None:
        found = _figure(one, index, unit)
        if found is not None:
            # Sums of areas are rounded.
            found["degenerate"] = found["standard_error"] < 1e-9 * unit and not is_census
        return found

    return {
        "square_metres": total,
        "points": int(used.sum()),
        "uninterpretable": int(left_out.sum()),
        "overall_accuracy": figure(found.overall, ()),
        "classes": [
            {
                "name": name,
                "mapped_square_metres": float(design.mapped_square_metres[number]),
                "square_metres": figure(found.proportions, number, total),
                "share": figure(found.proportions, number),
                "users_accuracy": figure(found.users, number),
                "producers_accuracy": figure(found.producers, number),
                "reliable": not few[number],
                "few_omissions_in": few[number],
            }
            for number, name in enumerate(design.classes)
        ],
        "error_matrix": found.matrix.tolist(),
        "counts": counts.points.sum(axis=0).astype(int).tolist(),
        "strata": [
            {
                "name": one.name,
                "pixels": one.pixels,
                "square_metres": one.square_metres,
                "points": int(points),
                "uninterpretable": int(without),
            }
            for one, points, without in zip(design.strata, used, left_out, strict=True)
        ],
        "design": dict(design.record),
    }


def few_omissions(design: Design, counts: SampleCounts, found: AreaEstimates) -> list[list[str]]:
    """For each class, the strata whose few omissions make the interval of its area unreliable.

    An omission is a point whose reference is the class and whose map class is another. The normal interval is too short
    where a stratum has fewer than `MIN_OMISSIONS` of them, and one of its points stands for more than 2.5 % of the area
    of the class; or where it has none, and three of its points (the rule of three: as many may be missed with a chance
    of 5 %) stand for more than half of the interval. Strata that are mapped as the class have no omissions.
    """
    sizes = counts.points.sum(axis=(1, 2))
    of_a_point = counts.areas / sizes
    is_census = sizes >= counts.pixels
    omissions = counts.points.sum(axis=1) - np.einsum("hkk->hk", counts.points)  # (H, K)
    areas, half_widths = (
        share * counts.areas.sum() for share in (found.proportions.value, found.proportions.half_width)
    )
    few: list[list[str]] = []
    for number, name in enumerate(design.classes):
        is_few = (omissions[:, number] < MIN_OMISSIONS) & (of_a_point > _WEIGHT_OF_A_POINT * areas[number])
        is_few |= (omissions[:, number] == 0) & (3 * of_a_point > half_widths[number])
        own = np.array([one.mapped_class == name for one in design.strata])
        lacking = is_few & ~own & ~is_census
        few.append([one.name for one, chosen in zip(design.strata, lacking, strict=True) if chosen])
    return few


def _figure(one: Estimate, index: Any, unit: float) -> dict[str, Any] | None:
    """Value, standard error and 95 % interval, within 0 and the unit; ``None`` where it does not exist."""
    value, error, half = (
        float(part[index]) * unit for part in (one.value, one.standard_error, one.half_width)
    )
    if math.isnan(value):
        return None
    interval = [max(0.0, value - half), min(unit, value + half)]
    return {"value": value, "standard_error": error, "interval": interval}
