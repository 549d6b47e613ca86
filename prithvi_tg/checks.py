"""Data checks before training: read everything once, and list what is wrong with advice."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from torch import Tensor

from .bands import resolve_band
from .datamodules import ChipDataModule, LabelledScenesDataModule
from .datasets import ChipDataset
from .errors import ConfigError, PrithviTGError, UnknownLabelError
from .label_checks import LABEL_CHECKS, Finding, Survey
from .readers.labels import label_counts
from .readers.raster import open_raster
from .spec import OTHER_UNIT, DataSpec, UnitRatio
from .targets import Target

_MOST_TOLD = 10  # of chips with one fault
_MIXED_UP = 1.0  # standard deviations that band means are off, on average


def check_chips(data: ChipDataModule) -> Iterator[Finding]:
    """Look at every chip of training, validation and test.

    Args:
        data: Not set up yet.
    """
    surveys: dict[str, Survey] = {}
    for split in ("train", "val", data.test_split):
        if split == "val" and not data.has_split(split):
            yield Finding(
                "ok", split, "no chips: training runs without validation, best.ckpt holds the last weights"
            )
            continue
        try:
            dataset = data.open_split(split)
        except PrithviTGError as error:
            yield Finding("error", split, str(error))
            continue
        yield from _described_bands(split, dataset)
        surveys[split] = survey(dataset)
        yield from _of_survey(split, surveys[split], data.spec, "scale" in signature(type(data)).parameters)
    yield from LABEL_CHECKS[data.spec.target.kind](surveys, data.spec)
    train = surveys.get("train")
    if train is not None:
        epoch = len(train.names) * data.crops_per_chip
        if epoch < data.batch_size:
            yield Finding(
                "error", "batch_size", f"{data.batch_size} is larger than the number of crops in an epoch, {epoch}",
                "lower it or raise crops_per_chip",
            )  # fmt: skip
        crop = data.crop_size
        if crop is not None and train.smallest is not None and train.smallest < crop:
            yield Finding(
                "advice", "crop_size", f"{crop} is larger than the smallest chip, {train.smallest} pixels",
                "smaller chips are padded; set crop_size to the size of the chips",
            )  # fmt: skip
    yield from _shared(surveys, {frozenset(pair) for pair in data.same_splits})


def _described_bands(split: str, dataset: ChipDataset) -> Iterator[Finding]:
    """Whether the band descriptions of the first chip say the same as the configuration."""
    try:
        with open_raster(dataset.chips[0].image) as source:
            descriptions = source.descriptions
    except PrithviTGError:
        return  # which the survey tells
    sensor = getattr(dataset, "sensor", None)
    for number, position in enumerate(dataset.spec.input.file_bands):
        wanted = dataset.spec.input.bands[number % len(dataset.spec.input.bands)]
        text = descriptions[position - 1] if position <= len(descriptions) else None
        told = None if text is None else _told_band(text, sensor)
        if told is not None and told != wanted:
            yield Finding(
                "error", split, f"{wanted} is read from band {position}, but {dataset.chips[0].image.name} describes "
                f"that band as {text}, {told}", "put file_bands in the order of the files",
            )  # fmt: skip
            return


def _told_band(text: str, sensor: str | None) -> str | None:
    """The band that a description names, with a date behind it or not."""
    for name in (text, text.rpartition("_")[0]):
        try:
            return resolve_band(name, sensor)
        except ConfigError:
            continue
    return None


def check_scenes(data: LabelledScenesDataModule) -> Iterator[Finding]:
    """Look at images, labels and their split, and at the windows that are scored.

    Args:
        data: Not set up yet.
    """
    try:
        data.setup("fit")
        both, images = data.open_both()
    except PrithviTGError as error:
        yield Finding("error", "scenes", str(error))
        return
    count = len(images.scenes)
    yield Finding(
        "ok",
        "scenes",
        f"{count} scene{'' if count == 1 else 's'} that overlap{'s' * (count == 1)} the labels",
    )
    shared = shapely.union_all(list(both.index.geometry))
    for split, region in data.split_regions.splits.items():
        share = shapely.area(shapely.intersection(region.roi, shared)) / shapely.area(shared)
        yield Finding("ok", split, f"{100 * share:.0f} % of the area that images and labels share")
    surveys: dict[str, Survey] = {}
    for split in data.split_regions.splits:
        try:
            windows = data.scored_windows(split, both, images)
            found = surveys[split] = Survey()
            _read(found, (windows[number] for number in range(len(windows))), data.spec.target)
        except PrithviTGError as error:
            advice = "add it to classes or to ignored_labels" if "not in classes" in str(error) else ""
            yield Finding("error", split, str(error), advice)
            continue
        yield from _values(split, found, data.spec, takes_scale=True)
    yield from LABEL_CHECKS[data.spec.target.kind](surveys, data.spec)


def survey(dataset: ChipDataset) -> Survey:
    """Read every chip of a split once."""
    found = Survey()

    def samples() -> Iterator[dict[str, Any]]:
        for chip in dataset.chips:
            found.names.append(chip.name)
            try:
                sample = dataset.read_chip(chip)
                _compare_places(chip.image, chip.mask, chip.name, found)
            except UnknownLabelError as error:
                found.mislabelled.append(chip.name)
                found.unknown_labels.update(error.counts)
                continue
            except PrithviTGError as error:
                found.unreadable.append(str(error))
                continue
            image = sample["image"]
            if dataset.spec.input.is_other_unit(_unit_ratio(image, sample["valid"], dataset.spec)):
                found.wrong_unit.append(chip.name)
            digest = hashlib.sha256(image.numpy().tobytes()).hexdigest()
            if not sample["valid"].any():
                found.empty.append(chip.name)
            elif digest in found.hashes:
                found.duplicates.append((found.hashes[digest], chip.name))
            else:
                found.hashes[digest] = chip.name
            if not dataset.spec.target.is_labelled(sample):
                found.unlabelled.append(chip.name)
            side = min(image.shape[-2:])
            found.smallest = side if found.smallest is None else min(found.smallest, side)
            yield sample

    _read(found, samples(), dataset.spec.target)
    if len(found.wrong_unit) > len(found.names) / 2:
        found.wrong_unit = []  # which the means of all tell
    return found


def _unit_ratio(image: Tensor, valid: Tensor, spec: DataSpec) -> float:
    """How many times the statistics a chip's values are; image and valid are (T, C, H, W)."""
    values, observed = image.double().flatten(2).flatten(0, 1), valid.flatten(2).flatten(0, 1)
    # The magnitude alone: a single chip may well be bright in every band, as a cloud is.
    return float(
        spec.input.unit_ratio([float(one[data].mean()) for one, data in zip(values, observed, strict=True)])
    )


def _compare_places(image: Path, mask: Path, name: str, found: Survey) -> None:
    """Whether image and mask say that they lie on the same pixels."""
    with open_raster(image) as one, open_raster(mask) as other:
        if one.crs is None:
            found.unplaced += 1
        if one.crs is None or other.crs is None:
            return
        pixel = abs(one.transform.a)
        apart = np.abs(np.subtract(tuple(one.transform)[:6], tuple(other.transform)[:6])).max() / pixel
        if one.crs != other.crs or apart > 0.01:
            found.misaligned.append(name)


def _read(found: Survey, samples: Iterator[dict[str, Any]], target: Target) -> None:
    """Add up labels, data and band statistics of samples."""
    labels = np.zeros(target.num_outputs, np.int64)
    total: Any = 0.0
    squares: Any = 0.0
    count: Any = 0.0
    lows: Any = np.inf
    pixels = 0
    for sample in samples:
        labels += target.count(sample).numpy()
        image, valid = sample["image"].double(), sample["valid"]
        observed = image * valid
        total = total + observed.sum(dim=(0, 2, 3)).numpy()
        squares = squares + (observed**2).sum(dim=(0, 2, 3)).numpy()
        count = count + valid.sum(dim=(0, 2, 3)).numpy()
        pixels += valid[:, 0].numel()
        lows = np.minimum(lows, _low_percentiles(image.numpy(), valid.numpy()))
    found.labels = labels
    if pixels:
        found.lows = lows
        found.nodata = 1 - float(np.min(count)) / pixels
        with np.errstate(invalid="ignore", divide="ignore"):
            found.means = total / count
            found.deviations = np.sqrt(np.maximum(0, squares / count - found.means**2))


def _low_percentiles(image: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """First percentile of each band (C,) of an image (T, C, H, W); infinite without data."""
    bands = zip(image.swapaxes(0, 1), valid.swapaxes(0, 1), strict=True)
    return np.array([np.percentile(band[data], 1) if data.any() else np.inf for band, data in bands])


def _of_survey(split: str, found: Survey, spec: DataSpec, takes_scale: bool) -> Iterator[Finding]:
    yield Finding("ok", split, f"{_chips(found.names)}, each with its {spec.target.label_key}")
    advice = "repair the file, or skip it with --skip-bad"
    yield from (Finding("error", split, reason, advice) for reason in found.unreadable[:_MOST_TOLD])
    if more := found.unreadable[_MOST_TOLD:]:
        yield Finding("error", split, f"{_chips(more)} more cannot be used", advice)
    if found.mislabelled:
        yield Finding(
            "error", split, f"{_chips(found.mislabelled)} with labels that are not in classes: "
            f"{label_counts(found.unknown_labels)}, such as {found.mislabelled[0]}; known classes are "
            f"{', '.join(spec.target.names)}",
            "add them to classes, or to ignored_labels if they mean not labelled; or repair the files",
        )  # fmt: skip
    if found.wrong_unit:
        yield Finding(
            "error", split,
            f"{_chips(found.wrong_unit)} with values more than {OTHER_UNIT} times, or less than 1/{OTHER_UNIT} of, the "
            f"statistics, unlike the others{_such_as(found.wrong_unit)}: {', '.join(found.wrong_unit[:_MOST_TOLD])}",
            "check the unit of these files",
        )  # fmt: skip
    if found.misaligned:
        yield Finding(
            "error", split,
            f"{_chips(found.misaligned)} whose mask is not aligned with its image, such as {found.misaligned[0]}",
            "write images and masks with the same CRS and transform",
        )  # fmt: skip
    if 0 < found.unplaced < len(found.names):
        yield Finding(
            "advice", split, f"{found.unplaced} of {len(found.names)} images have no CRS",
            "check whether they belong to this data set",
        )  # fmt: skip
    for names, what in ((found.empty, "without any data"), (found.unlabelled, "without a labelled pixel")):
        if names:
            yield Finding("advice", split, f"{_chips(names)} {what}, such as {names[0]}", "remove them")
    if found.duplicates:
        one, other = found.duplicates[0]
        yield Finding(
            "advice", split, f"{_chips(found.duplicates)} duplicated, such as {one} as {other}", "keep one"
        )
    yield from _values(split, found, spec, takes_scale)


def _chips(names: Sequence[Any]) -> str:
    return f"{len(names)} chip{'' if len(names) == 1 else 's'}"


def _such_as(names: Sequence[Any]) -> str:
    return f", the first {_MOST_TOLD}" if len(names) > _MOST_TOLD else ""


def _values(split: str, found: Survey, spec: DataSpec, takes_scale: bool) -> Iterator[Finding]:
    """Whether values are what the statistics say: unit, bands, and how much there is."""
    if found.nodata > 0.5:
        yield Finding("advice", split, f"{100 * found.nodata:.0f} % of the pixels hold no data")
    if not len(found.means) or np.isnan(found.means).any():
        return
    means, deviations = found.means, found.deviations
    expected, spread = np.array(spec.input.mean), np.array(spec.input.std)
    told = " ".join(f"{value:.4g}" for value in means)
    known = " ".join(f"{value:.4g}" for value in expected)
    flat = [band for band, deviation in zip(spec.input.bands, deviations, strict=True) if deviation == 0]
    if flat:
        yield Finding(
            "error",
            split,
            f"{', '.join(flat)}: the same value in all pixels",
            "check how the band was written",
        )
    ratio = spec.input.unit_ratio([*means] * spec.input.num_frames, [*found.lows] * spec.input.num_frames)
    if spec.input.is_other_unit(ratio):
        message = f"band means {told} {ratio.describe()}; the statistics are {known}"
        yield Finding("error", split, message, _unit_advice(ratio, spec, takes_scale))
        return
    yield from _band_order(split, means, expected, spread, spec.input.bands)


def _unit_advice(ratio: UnitRatio, spec: DataSpec, takes_scale: bool) -> str:
    if ratio.mistaken_for is not None:
        _, scale, offset = ratio.mistaken_for
        return f"write the scale into the files: gdal_edit.py -scale {scale:g} -offset {offset:g} FILE"
    power = 10.0 ** round(np.log10(abs(ratio) or 1))
    if power == 1:
        return "check unit and statistics: prithvi-tg stats"
    if takes_scale:
        return f"different unit; probably scale: {spec.input.scale / power:g}"
    return f"different unit; the files should probably be multiplied by {1 / power:g}"


def _band_order(
    split: str,
    means: NDArray[np.float64],
    expected: NDArray[np.float64],
    spread: NDArray[np.float64],
    bands: Sequence[str],
) -> Iterator[Finding]:
    """Whether another order of the bands would fit the statistics far better."""

    def distance(order: Sequence[int]) -> float:
        return float(np.mean(np.abs(means[list(order)] - expected) / spread))

    as_given = distance(range(len(bands)))
    if as_given < _MIXED_UP or len(bands) > 7:  # 7 bands have 5040 orders
        return
    best = min(itertools.permutations(range(len(bands))), key=distance)
    if distance(best) < as_given / 2:
        order = " ".join(bands[number] for number in np.argsort(best))
        yield Finding(
            "error", split, f"band means are {as_given:.1f} standard deviations off; in the order {order} they would "
            f"be {distance(best):.1f} off", "check the order of the bands in the files",
        )  # fmt: skip
    else:
        yield Finding(
            "advice", split, f"band means are {as_given:.1f} standard deviations off the statistics",
            "compute the statistics of these data with prithvi-tg stats",
        )  # fmt: skip


def _shared(surveys: dict[str, Survey], on_purpose: set[frozenset[str]]) -> Iterator[Finding]:
    """Chips of one split that are in another, by name or by content."""
    for (one, first), (other, second) in itertools.combinations(surveys.items(), 2):
        if frozenset((one, other)) in on_purpose or one == other:
            continue
        names = sorted({*first.names} & {*second.names})
        copies = [
            (first.hashes[digest], second.hashes[digest])
            for digest in first.hashes
            if digest in second.hashes and second.hashes[digest] not in names
        ]
        if names:
            yield Finding(
                "error", f"{one}, {other}", f"{_chips(names)} in both, such as {names[0]}",
                f"scores would be too good; if this is intended, set same_splits: [[{one}, {other}]]",
            )  # fmt: skip
        if copies:
            yield Finding(
                "error", f"{one}, {other}",
                f"{_chips(copies)} with the same pixels under another name, such as {' and '.join(copies[0])}",
                "keep them in one split",
            )  # fmt: skip
