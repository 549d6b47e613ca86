"""Findings about labels with values: their range, their unit, and values outside the valid range."""

from collections.abc import Iterator, Sequence

import numpy as np

from ..readers.valid_range import extremes
from ..spec import DataSpec
from ..targets import ValueTarget
from .findings import Finding, count_chips
from .surveys import Survey
from .value_survey import ValueSurvey

#: Labels that fill a smaller part of the valid range may be in another unit.
_TINY = 0.01
#: From this share of the labelled pixels on, values outside the valid range are not outliers.
_MANY = 0.2
#: Mean and standard deviation differ by a power of ten if both of their logarithms are so close to it.
_NEAR_POWER = 0.2
#: Means that lie more standard deviations apart belong to other labels.
_FAR = 3


def of_values(surveys: dict[str, Survey], spec: DataSpec) -> Iterator[Finding]:
    """Number, range and mean of the labels; whether they fit the valid range and the statistics."""
    target = spec.target
    assert isinstance(target, ValueTarget)
    found = {split: survey.values for split, survey in surveys.items() if survey.values is not None}
    for split, values in found.items():
        for number, name in enumerate(target.names):
            if not values.counts[number] and not (surveys[split].unreadable or values.fills):
                yield Finding(
                    "error" if split == "train" else "advice", f"values of {split}",
                    f"{name} has no labelled pixels", "check the label files",
                )  # fmt: skip
        if values.counts.any():
            yield Finding("ok", f"values of {split}", "; ".join(_described(values, target)))
    # Another unit shows in several ways; the first is enough.
    doubts = (
        _outside(surveys, found, target),
        _tiny(found, target),
        *(_statistics(split, values, target) for split, values in found.items()),
    )
    yield from next(filter(None, map(list, doubts)), [])


def _described(values: ValueSurvey, target: ValueTarget) -> Iterator[str]:
    rows = zip(
        target.names, target.units, values.counts, values.lows, values.highs, values.means, strict=True
    )
    for name, unit, count, low, high, mean in rows:
        text = f", {low:.4g} to {high:.4g}{_unit(unit)}, mean {mean:.4g}" if count else ""
        yield f"{name}: {count:,} labelled pixels{text}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def _outside(
    surveys: dict[str, Survey], found: dict[str, ValueSurvey], target: ValueTarget
) -> Iterator[Finding]:
    """Values that probably mean "not labelled", and others outside the valid range."""
    chips = sum(len(surveys[split].names) for split in found)
    beyond = ""
    if target.valid_range is not None:
        beyond = f", outside valid_range, {target.valid_range[0]:g} to {target.valid_range[1]:g}"
    fills = dict.fromkeys(fill for values in found.values() for fill in values.fills)
    for fill in fills:
        names = [name for values in found.values() for name in values.fills.get(fill, ())]
        advice = next(values.advice[fill] for values in found.values() if fill in values.advice)
        yield Finding("error", "values", f"{_chips(names, chips)} the value {fill:.10g}{beyond}", advice)
    exceeding = [name for values in found.values() for name in values.exceeding]
    if exceeding:
        everything = np.array(
            [[values.lows, values.highs] for values in found.values() if values.counts.any()]
        )
        reach = extremes(everything[np.isfinite(everything)], target)
        message = f"{_chips(exceeding, chips)} {reach}{beyond}"
        yield Finding("error", "values", message, _range_advice([*found.values()], target))


def _chips(names: Sequence[str], chips: int) -> str:
    """The subject and verb of a finding: ``3 of 14 chips have``; the samples of scenes are not counted."""
    if not chips:
        return "labels have"
    return f"{len(names)} of {count_chips(range(chips))} {'has' if len(names) == 1 else 'have'}"


def _range_advice(found: Sequence[ValueSurvey], target: ValueTarget) -> str:
    """Widen the valid range; or another scale, if many values lie outside and a power of ten brings all inside."""
    assert target.valid_range is not None
    share = sum(values.beyond for values in found) / max(1, sum(values.counts.sum() for values in found))
    ends = [end for values in found for end in (*values.lows, *values.highs) if np.isfinite(end)]
    furthest = max(ends, key=abs)
    limit = target.valid_range[1] if furthest > 0 else target.valid_range[0]
    if share >= _MANY and limit * furthest > 0:
        factor = 10.0 ** -np.ceil(np.log10(furthest / limit))
        if not any(target.is_outside(np.array([end * factor])).any() for end in ends):
            return f"widen valid_range; if the labels are in another unit, set value_scale: {target.scale * factor:g}"
    return "widen valid_range"


def _tiny(found: dict[str, ValueSurvey], target: ValueTarget) -> Iterator[Finding]:
    """Labels that fill only a tiny part of the valid range."""
    if target.valid_range is None:
        return
    limit = max(map(abs, target.valid_range))
    for number, (name, unit) in enumerate(zip(target.names, target.units, strict=True)):
        ends = [
            abs(end[number])
            for values in found.values()
            if values.counts[number]
            for end in (values.lows, values.highs)
        ]
        furthest = max(ends, default=0)
        if 0 < furthest <= _TINY * limit:
            factor = 10.0 ** np.floor(np.log10(limit / furthest))
            yield Finding(
                "advice", "values",
                f"{name} reaches {furthest:.4g}{_unit(unit)} only, a tiny part of valid_range, "
                f"{target.valid_range[0]:g} to {target.valid_range[1]:g}",
                f"if the labels are in another unit, set value_scale, such as {target.scale * factor:g}; otherwise "
                "narrow valid_range",
            )  # fmt: skip


def _statistics(split: str, values: ValueSurvey, target: ValueTarget) -> Iterator[Finding]:
    """Compare mean and standard deviation with the statistics of the training data."""
    rows = zip(
        target.names, target.units, values.means, values.deviations, target.mean, target.std, strict=True
    )
    for name, unit, mean, deviation, expected, spread in rows:
        measured = f"{name} has mean {mean:.4g}{_unit(unit)} and standard deviation {deviation:.4g}"
        known = f"value_mean, {expected:.4g}, and value_std, {spread:.4g}"
        if not (deviation > 0 and mean * expected > 0):
            continue
        powers = np.log10([mean / expected, deviation / spread])
        power = np.rint(powers.mean())
        if power and (np.abs(powers - power) < _NEAR_POWER).all():
            yield Finding(
                "advice", f"values of {split}", f"{measured}, about {10.0**power:g} times {known}",
                f"if the labels are in another unit, set value_scale: {target.scale * 10.0**-power:g}; otherwise "
                "compute the statistics with prithvi-tg stats",
            )  # fmt: skip
        elif abs(mean - expected) > _FAR * spread:
            yield Finding(
                "advice", f"values of {split}", f"{measured}, far from {known}",
                "compute the statistics of these labels with prithvi-tg stats, or check value_scale",
            )  # fmt: skip
