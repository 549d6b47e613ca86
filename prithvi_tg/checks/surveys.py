"""Survey: counts and statistics of a split, collected in one pass over its samples."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from shapely import Polygon
from torch import Tensor

from ..datasets import ChipDataset
from ..datasets.chips.chip_files import is_misaligned
from ..datasets.scenes.scored_windows import ScoredWindows
from ..errors import (
    ConfigError,
    DataError,
    OwnMethodError,
    PrithviTGError,
    UnknownLabelError,
    ValueRangeError,
)
from ..readers.fill_values import FillSearch, FillValue
from ..readers.raster import open_raster
from ..spec import DataSpec
from ..targets import Target, ValueTarget
from .findings import CORRECT_METHOD
from .overlaps import footprint
from .value_survey import ValueSurvey

#: Advice about chips whose files are at fault.
REPAIR = "repair or add the file, take the chip out of the split, or skip it with --skip_bad"


class UnreadableChip(NamedTuple):
    """A chip that cannot be read.

    Attributes:
        name: The chip.
        message: The error.
        reason: The error without names of files and numbers, the same for chips with the same fault.
        advice: How to correct it; empty if the error says it.
    """

    name: str
    message: str
    reason: str
    advice: str


@dataclass
class Survey:
    """Counts and statistics of a split.

    Attributes:
        names: Chips of the split, also those that cannot be read.
        hashes: Hash of the pixels -> the first chip that has it.
        duplicates: Pairs of chips with the same pixels.
        unreadable: Chips that cannot be read, with their errors.
        mislabelled: Chips with stored labels that are not a class.
        unknown_labels: Number of pixels of each of these labels.
        converted: See `UnknownLabelError`.
        wrong_unit: Chips whose values are in another unit than the statistics.
        misaligned: Chips whose image and mask have different grids.
        unplaced: Number of images without a CRS.
        footprints: Chip -> its corners in longitude and latitude, see `footprint`.
        empty: Chips without data.
        unlabelled: Chips without a labelled pixel.
        nodata: Share of the pixels that are nodata in the worst band.
        smallest: Shortest side of a chip, in pixels.
        labels: Labelled pixels of each class or value (K,).
        fill: A value of all bands of many pixels, which probably means nodata.
        means: Mean of each band (C,), without `fill`.
        deviations: Standard deviation of each band (C,), without `fill`.
        lows: Lowest first percentile of each band in a chip (C,).
        values: Range and moments of labels with values; ``None`` for other labels.
    """

    names: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[UnreadableChip] = field(default_factory=list)
    mislabelled: list[str] = field(default_factory=list)
    unknown_labels: Counter[int] = field(default_factory=Counter)
    converted: dict[int, int] = field(default_factory=dict)
    wrong_unit: list[str] = field(default_factory=list)
    misaligned: list[str] = field(default_factory=list)
    unplaced: int = 0
    footprints: dict[str, Polygon] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    nodata: float = 0.0
    smallest: int | None = None
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    fill: FillValue | None = None
    means: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    deviations: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    lows: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    values: ValueSurvey | None = None


def survey_chips(dataset: ChipDataset, incomplete: Mapping[str, str] = MappingProxyType({})) -> Survey:
    """Read every chip of a split once.

    Args:
        dataset: The split.
        incomplete: Chip -> error, of chips that the dataset leaves out, see `leaving_out_incomplete`.
    """
    survey = _empty_survey(dataset.spec.target)
    survey.names += incomplete
    for name, message in incomplete.items():
        reason = _without_names(message, [Path(message.partition(": ")[0]).name, name])
        survey.unreadable.append(UnreadableChip(name, message, reason, REPAIR))
    _add_up(survey, _readable_samples(dataset, survey), dataset.spec)
    if len(survey.wrong_unit) > len(survey.names) / 2:
        survey.wrong_unit = []  # the band means of the split show it
    return survey


def survey_windows(windows: ScoredWindows, spec: DataSpec) -> Survey:
    """Read the windows of a split of scenes once."""
    survey = _empty_survey(spec.target)
    _add_up(survey, _readable_windows(windows, survey), spec)
    return survey


def _empty_survey(target: Target) -> Survey:
    return Survey(values=ValueSurvey(target) if isinstance(target, ValueTarget) else None)


def _readable_windows(windows: ScoredWindows, survey: Survey) -> Iterator[dict[str, Any]]:
    """Windows whose labels lie in the valid range; the survey lists the others."""
    for number in range(len(windows)):
        try:
            sample = windows[number]
        except ValueRangeError as error:
            assert survey.values is not None
            survey.values.add_error(error, windows.name(number))
            continue
        yield sample


def _readable_samples(dataset: ChipDataset, survey: Survey) -> Iterator[dict[str, Any]]:
    """Samples of the chips that can be read; the survey lists the others."""
    for chip in dataset.chips:
        survey.names.append(chip.name)
        try:
            sample = dataset.read_chip(chip)
            _compare_grids(chip.image, chip.mask, chip.name, survey)
        except UnknownLabelError as error:
            survey.mislabelled.append(chip.name)
            survey.unknown_labels.update(error.counts)
            survey.converted |= error.converted
            continue
        except ValueRangeError as error:
            assert survey.values is not None
            survey.values.add_error(error, chip.name)
            continue
        except PrithviTGError as error:
            files = (chip.image, chip.mask)
            reason = _without_names(str(error), [*map(str, files), *(file.name for file in files), chip.name])
            advice = "" if isinstance(error, ConfigError) else REPAIR
            if isinstance(error, OwnMethodError):
                advice = CORRECT_METHOD
            survey.unreadable.append(UnreadableChip(chip.name, str(error), reason, advice))
            continue
        if (shape := footprint(chip.image)) is not None:
            survey.footprints[chip.name] = shape
        image = sample["image"]
        if dataset.spec.input.is_other_unit(_unit_ratio(image, sample["valid"], dataset.spec)):
            survey.wrong_unit.append(chip.name)
        digest = hashlib.sha256(image.numpy().tobytes()).hexdigest()
        if not sample["valid"].any():
            survey.empty.append(chip.name)
        elif digest in survey.hashes:
            survey.duplicates.append((survey.hashes[digest], chip.name))
        else:
            survey.hashes[digest] = chip.name
        if not dataset.spec.target.has_label(sample):
            survey.unlabelled.append(chip.name)
        side = min(image.shape[-2:])
        survey.smallest = side if survey.smallest is None else min(survey.smallest, side)
        yield sample


def _without_names(message: str, names: Iterable[str]) -> str:
    """The message of an error without the names of the files of a chip, and without numbers."""
    for name in names:
        message = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "FILE", message)
    return re.sub(r"\d+", "N", message)


def _unit_ratio(image: Tensor, valid: Tensor, spec: DataSpec) -> float:
    """Ratio of the values of a chip to the statistics; image and valid are (T, C, H, W)."""
    values, observed = image.double().flatten(2).flatten(0, 1), valid.flatten(2).flatten(0, 1)
    # A float has no `one_sided`: a single chip, such as a cloud, may well be bright in every band.
    return float(
        spec.input.unit_ratio([float(one[data].mean()) for one, data in zip(values, observed, strict=True)])
    )


def _compare_grids(image: Path, mask: Path, name: str, survey: Survey) -> None:
    """Compare the grids of image and mask of a readable chip, if they are rasters."""
    with suppress(DataError), open_raster(image) as one:
        survey.unplaced += one.crs is None
    if is_misaligned(image, mask):
        survey.misaligned.append(name)


def _add_up(survey: Survey, samples: Iterator[dict[str, Any]], spec: DataSpec) -> None:
    """Add up labels, data and band statistics of samples."""
    target = spec.target
    labels = np.zeros(target.num_outputs, np.int64)
    total: Any = 0.0
    squares: Any = 0.0
    count: Any = 0.0
    lows: Any = np.inf
    pixels = 0
    search = FillSearch()
    for sample in samples:
        labels += target.count(sample).numpy()
        if survey.values is not None:
            survey.values.add(sample[target.label_key].numpy())
        image, valid = sample["image"].double(), sample["valid"]
        observed = image * valid
        total = total + observed.sum(dim=(0, 2, 3)).numpy()
        squares = squares + (observed**2).sum(dim=(0, 2, 3)).numpy()
        count = count + valid.sum(dim=(0, 2, 3)).numpy()
        pixels += valid[:, 0].numel()
        for frame, data in zip(sample["image"].numpy(), valid.numpy(), strict=True):
            search.add(frame, data)
        lows = np.minimum(lows, _low_percentiles(image.numpy(), valid.numpy()))
    survey.labels = labels
    if pixels:
        survey.lows = lows
        survey.nodata = 1 - float(np.min(count)) / pixels
        survey.fill = search.found(spec.input.reflectance_unit)
        if survey.fill is not None:  # the same pixels in all bands
            value, filled, _ = survey.fill
            total, squares, count = total - filled * value, squares - filled * value**2, count - filled
        with np.errstate(invalid="ignore", divide="ignore"):
            survey.means = total / count
            survey.deviations = np.sqrt(np.maximum(0, squares / count - survey.means**2))


def _low_percentiles(image: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """First percentile of each band (C,) of an image (T, C, H, W); infinite without data."""
    bands = zip(image.swapaxes(0, 1), valid.swapaxes(0, 1), strict=True)
    return np.array([np.percentile(band[data], 1) if data.any() else np.inf for band, data in bands])
