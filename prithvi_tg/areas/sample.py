"""draw_sample: from maps to points with their design."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..errors import ConfigError, DataError
from ..files import file_hash
from .allocation import ALLOCATIONS, Floats, allocate, expected_error, sample_size
from .design import Design, Stratum
from .maps import ClassMap
from .sampling import Counts, Points, Population, draw
from .strata import Stratification


@dataclass(frozen=True)
class SampleOptions:
    """Size and allocation of a sample.

    Attributes:
        points: Number of points; by default computed from `standard_error`.
        standard_error: Standard error of overall accuracy to reach, a share.
        expected_accuracy: Name of a stratum, or of a class for all of its strata -> expected user's accuracy. Upper and
            lower case do not matter, unless two names differ in nothing else.
        allocation: A key of `ALLOCATIONS`; by default ``optimal`` with expected accuracies, otherwise ``proportional``.
        minimum: Points that each stratum has at least.
        seed: Seed of the draw.

    Raises:
        ConfigError: Options are missing or contradict one another.
    """

    points: int | None = None
    standard_error: float | None = None
    expected_accuracy: Mapping[str, float] = field(default_factory=dict)
    allocation: str | None = None
    minimum: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points is None and self.standard_error is None:
            raise ConfigError("points: give the number of points, or standard_error to compute it")
        if self.points is not None and self.standard_error is not None:
            raise ConfigError("points: standard_error computes the number of points; give only one of them")
        if self.points is not None and self.points < 1:
            raise ConfigError(f"points: {self.points} is not positive")
        if self.allocation is not None and self.allocation not in ALLOCATIONS:
            raise ConfigError(
                f"allocation: {self.allocation!r} is unknown; choose from {', '.join(ALLOCATIONS)}"
            )
        if (self.standard_error is not None or self.allocation == "optimal") and not self.expected_accuracy:
            raise ConfigError(
                "expected_accuracy: not given; standard_error and the optimal allocation need it, such as "
                "expected_accuracy={'water': 0.7, 'land': 0.95}"
            )
        for name, accuracy in self.expected_accuracy.items():
            if not 0 <= accuracy <= 1:
                raise ConfigError(f"expected_accuracy: {name}={accuracy:g} is not a share from 0 to 1")

    @property
    def rule(self) -> str:
        """The allocation."""
        return self.allocation or ("optimal" if self.expected_accuracy else "proportional")


def open_population_maps(
    paths: Sequence[Path], classes: Mapping[int, str] | None = None
) -> tuple[ClassMap, ...]:
    """Open maps with the same classes.

    Args:
        paths: Maps of classes.
        classes: Value -> class name, for maps without names.

    Raises:
        DataError: A file is not a map of classes, is given twice, or has other classes than the first.
    """
    maps = tuple(ClassMap.open(path, classes) for path in paths)
    for one in maps[1:]:
        if one.classes != maps[0].classes:
            ours, theirs = (
                ", ".join(f"{code} {name}" for code, name in each.classes.items()) for each in (maps[0], one)
            )
            raise DataError(
                f"{one.path}: its classes are {theirs}, but those of {maps[0].path} are {ours}; maps of one sample "
                "must have the same classes"
            )
    resolved = [one.path.resolve() for one in maps]
    if twice := next((path for path in resolved if resolved.count(path) > 1), None):
        raise DataError(f"{twice}: given twice")
    return maps


def draw_sample(population: Population, counts: Counts, options: SampleOptions) -> tuple[Design, Points]:
    """Draw a stratified random sample.

    Args:
        population: The pixels of maps and their strata.
        counts: Result of `prithvi_tg.areas.sampling.count` of the population.
        options: Size and allocation.

    Raises:
        ConfigError: An expected accuracy is missing, or names no stratum.
        DataError: No pixel has a class, or a map cannot be read.
    """
    stratification = population.stratification
    present = np.flatnonzero(counts.pixels > 0)
    if not len(present):
        raise DataError(f"{', '.join(one.name() for one in population.maps)}: no pixel has a class")
    pixels, areas = counts.pixels[present], counts.square_metres.sum(axis=1)[present]
    strata = tuple(
        Stratum(stratification.names[number], int(size), float(area), stratification.class_of(number))
        for number, size, area in zip(present.tolist(), pixels, areas, strict=True)
    )
    shares = areas / areas.sum()
    deviations = _deviations(strata, options, stratification)
    total = options.points
    if total is None:
        assert options.standard_error is not None
        total = sample_size(shares, deviations, options.standard_error, float(pixels.sum()))
    sizes = allocate(total, ALLOCATIONS[options.rule](shares, deviations), pixels, options.minimum)
    all_sizes = np.zeros(len(stratification.names), np.int64)
    all_sizes[present] = sizes
    points = draw(population, counts, all_sizes, options.seed)
    points = replace(points, strata=np.searchsorted(present, points.strata))
    error = (
        expected_error(shares, deviations, sizes, pixels.astype(float)) if options.expected_accuracy else None
    )
    record = {
        "software": f"prithvi_tg {__version__}",
        "seed": options.seed,
        "stratification": stratification.described(),
        "allocation": options.rule,
        "minimum": options.minimum,
        "target_standard_error": options.standard_error,
        "expected_accuracy": dict(options.expected_accuracy),
        "expected_standard_error": error,
        "points_per_stratum": {one.name: int(size) for one, size in zip(strata, sizes, strict=True)},
        "maps": [{"name": one.name(), "sha256": file_hash(one.path)} for one in population.maps],
    }
    first = population.maps[0].classes
    codes = tuple({name: code for code, name in first.items()}[name] for name in stratification.classes)
    mapped = counts.square_metres.sum(axis=0)
    return Design(
        stratification.classes,
        codes,
        mapped,
        strata,
        points.strata,
        points.classes,
        points.square_metres,
        record,
    ), points


def _deviations(strata: Sequence[Stratum], options: SampleOptions, stratification: Stratification) -> Floats:
    """Standard deviation of correctness in each stratum (H,); zeros without expected accuracies."""
    names = {*stratification.names, *stratification.classes}
    lower = [name.lower() for name in names]
    known = {name.lower(): name for name in names if lower.count(name.lower()) == 1}
    known |= {name: name for name in names}
    given = options.expected_accuracy.items()
    expected = {known.get(name, known.get(name.lower(), "")): accuracy for name, accuracy in given}
    if unknown := [name for name, _ in given if name not in known and name.lower() not in known]:
        raise ConfigError(
            f"expected_accuracy: {unknown[0]!r} is neither a stratum nor a class; strata are "
            f"{', '.join(one.name for one in strata)}"
        )
    if not expected:
        return np.zeros(len(strata))
    accuracies = [expected.get(one.name, expected.get(one.mapped_class or "")) for one in strata]
    missing = [one.name for one, accuracy in zip(strata, accuracies, strict=True) if accuracy is None]
    if missing:
        raise ConfigError(
            f"expected_accuracy: not given for {', '.join(missing)}; for example add "
            f"expected_accuracy={{{missing[0]!r}: 0.9}}"
        )
    return np.array([math.sqrt(one * (1 - one)) for one in accuracies if one is not None])
