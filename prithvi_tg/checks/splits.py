"""Checks of the splits of a data module: each is read once, and each problem becomes a finding with advice."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from torchgeo.datasets import GeoDataset, IntersectionDataset

from ..bands import MIXED_UP, find_order, resolve_band
from ..class_paths import parameters_of
from ..datamodules import ChipDataModule, LabelledScenesDataModule
from ..datamodules.scene_splits import BlockSplit, TimeSplit, images_in_no_split
from ..datasets import ChipDataset, ChipFolder
from ..datasets.chips.chip_files import leaving_out_incomplete
from ..datasets.scenes.dataset import SceneDataset
from ..datasets.scenes.labels import LabelPolygons
from ..errors import NO_VALIDATION, ConfigError, PrithviTGError, counted
from ..readers.labels import label_counts
from ..readers.raster import open_raster
from ..spec import OTHER_UNIT, DataSpec, UnitRatio
from ..targets import IGNORE_INDEX
from .findings import Finding, count_chips
from .labels import LABEL_CHECKS
from .overlaps import overlapping
from .own_classes import is_published, nodata_setting
from .surveys import REPAIR, Survey, UnreadableChip, survey_chips, survey_windows

_MOST_LISTED = 10  # chips with the same fault
_MOST_CHECKED = 10  # splits of a list besides training, validation and test


def check_chips(data: ChipDataModule) -> Iterator[Finding]:
    """Check every chip of training, validation and test, and of further splits of the list.

    Args:
        data: A data module that is not set up yet.
    """
    surveys: dict[str, Survey] = {}
    used = ("train", "val", *data.test_splits)
    further = [split for split in data.listed_splits() if split not in used]
    for split in (*used, *further[:_MOST_CHECKED]):
        if split in data.optional_splits and not data.has_split(split):
            absent = {"val": NO_VALIDATION}.get(split, "there is no test set")
            yield Finding("ok", split, absent)
            continue
        try:
            with leaving_out_incomplete(split) as incomplete:
                dataset = data.open_split(split)
        except PrithviTGError as error:
            yield Finding.of_error(split, error)
            continue
        yield from _described_bands(split, dataset)
        surveys[split] = survey_chips(dataset, incomplete)
        yield from _of_chips(split, surveys[split], dataset)
    if left := further[_MOST_CHECKED:]:
        yield Finding(
            "ok", "splits", f"{counted(len(left), 'further split')} not checked{_listed(left)}",
            "to check one of them, set test_split",
        )  # fmt: skip
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
    # Further test sets may be parts of each other or of the test set.
    tests = itertools.product(further, surveys.keys() - {"train", "val"})
    on_purpose = {frozenset(pair) for pair in (*data.same_splits, *tests)}
    yield from _shared(surveys, on_purpose, type(data).split_advice)


def _described_bands(split: str, dataset: ChipDataset) -> Iterator[Finding]:
    """Compare the band descriptions of the first chip with the configuration."""
    if dataset.overrides_reading:
        return  # the bands that a method returns may have another order than those of a raster
    try:
        with open_raster(dataset.chips[0].image) as source:
            descriptions = source.descriptions
    except PrithviTGError:
        return  # the survey reports it
    sensor = getattr(dataset, "sensor", None)
    for number, position in enumerate(dataset.spec.input.file_bands):
        wanted = dataset.spec.input.bands[number % len(dataset.spec.input.bands)]
        text = descriptions[position - 1] if position <= len(descriptions) else None
        described = None if text is None else _described_band(text, sensor)
        if described is not None and described != wanted:
            yield Finding(
                "error", split, f"{wanted} is read from band {position}, but {dataset.chips[0].image.name} describes "
                f"that band as {text}, {described}", "put file_bands in the order of the files",
            )  # fmt: skip
            return


def _described_band(text: str, sensor: str | None) -> str | None:
    """The band that a description names, with or without a date after the name."""
    for name in (text, text.rpartition("_")[0]):
        try:
            return resolve_band(name, sensor)
        except ConfigError:
            continue
    return None


def check_scenes(data: LabelledScenesDataModule) -> Iterator[Finding]:
    """Check images, labels, their splits and the windows that are scored.

    Args:
        data: A data module that is not set up yet.
    """
    try:
        data.setup("fit")
        both, images = data.open_both()
    except PrithviTGError as error:
        yield Finding.of_error("scenes", error)
        return
    yield from _scenes(both, images)
    if isinstance(data.split, TimeSplit) and (message := images_in_no_split(data.split, images)):
        yield Finding("advice", "split", *message.removeprefix("split: ").split("; ", 1))
    yield from _of_polygons(both)
    scenes_by_origin: dict[str, list[str]] = {}
    for scene in images.scenes:
        scenes_by_origin.setdefault(scene.origin, []).append(scene.name)
    for origin, names in scenes_by_origin.items():
        found = f"{origin}: {counted(len(names), 'scene')}{_listed(names)}"
        yield Finding("ok", "bands", found if len(scenes_by_origin) > 1 else origin)
    yield from _areas(
        data, both, "the images" if both is images else "the area covered by both images and labels"
    )
    surveys: dict[str, Survey] = {}
    for split in data.split_regions.splits:
        try:
            windows = data.scored_windows(split, both, images)
            survey = surveys[split] = survey_windows(windows, data.spec)
        except PrithviTGError as error:
            yield Finding.of_error(split, error)
            continue
        yield from _of_values(split, survey, data.spec)
    yield from LABEL_CHECKS[data.spec.target.kind](surveys, data.spec)


def _scenes(both: GeoDataset, images: SceneDataset) -> Iterator[Finding]:
    """Number of scenes, and those that overlap no labels in space and time."""
    rows = zip(images.index.index, images.index.geometry, images.index["filepath"], strict=True)
    apart = [
        Path(path).name
        for time, outline, path in rows
        if not shapely.intersects(outline, both.index.geometry[both.index.index.overlaps(time)]).any()
    ]
    count = len(images.scenes) - len(apart)
    what = "" if both is images else f" that overlap{'s' * (count == 1)} the labels"
    yield Finding("ok", "scenes", f"{counted(count, 'scene')}{what}")
    if apart:
        yield Finding(
            "advice", "scenes", f"{len(apart)} of {counted(len(images.scenes), 'scene')} without labels"
            f"{_listed(apart)}", "remove them from images, or add labels",
        )  # fmt: skip


def _of_polygons(both: GeoDataset) -> Iterator[Finding]:
    """Polygons without a value of the label attribute."""
    layer = both.datasets[1] if isinstance(both, IntersectionDataset) else None
    if isinstance(layer, LabelPolygons):
        for path, number in layer.unvalued.items():
            have, are = ("has", "it is") if number == 1 else ("have", "they are")
            yield Finding(
                "advice", Path(path).name, f"{counted(number, 'polygon')} {have} no value for {layer.label_name}; "
                f"{are} not labelled", "give them a class, or remove them",
            )  # fmt: skip


def _areas(data: LabelledScenesDataModule, both: GeoDataset, area: str) -> Iterator[Finding]:
    """Share of each split in an area, and the part of it that belongs to no split."""
    shared = shapely.union_all(list(both.index.geometry))
    regions = data.split_regions.splits
    shares = {
        split: shapely.area(shapely.intersection(region.roi, shared)) / shapely.area(shared)
        for split, region in regions.items()
    }
    for split, share in shares.items():
        yield Finding("ok", split, f"{100 * share:.0f} % of {area}")
    rest = 100 * (1 - sum(shares.values()))
    if rest >= 0.5:  # splits by time share their area
        cause = "outside all polygons"
        if isinstance(data.split, BlockSplit):
            cause = f"training blocks within {counted(data.split.buffer, 'pixel')} of other splits (buffer)"
        yield Finding("ok", "no split", f"{rest:.0f} % of {area}: {cause}")


def _of_chips(split: str, survey: Survey, dataset: ChipDataset) -> Iterator[Finding]:
    spec = dataset.spec
    kind = f"its {spec.target.label_key}"
    if spec.target.label_key == "mask":
        one_file = all(chip.image == chip.mask for chip in dataset.chips)
        kind = "labels" if dataset.chips and one_file else "its label file"
    labels = f", each with {kind}" if spec.target.names else ""
    yield Finding("ok", split, f"{count_chips(survey.names)}{labels}")
    reasons: dict[str, list[UnreadableChip]] = {}
    for chip in survey.unreadable:
        reasons.setdefault(chip.reason, []).append(chip)
    grouped = list(reasons.values())
    for first, *others in grouped[:_MOST_LISTED]:
        chips = f"{count_chips([first, *others])}, such as {first.name}: " if others else ""
        yield Finding("error", split, f"{chips}{first.message}", first.advice)
    if more := [chip for group in grouped[_MOST_LISTED:] for chip in group]:
        yield Finding("error", split, f"{count_chips(more)} more cannot be used", REPAIR)
    if survey.mislabelled:
        yield Finding(
            "error", split, f"{count_chips(survey.mislabelled)} with labels that are not in classes: "
            f"{label_counts(survey.unknown_labels, survey.converted)}, such as {survey.mislabelled[0]}; known "
            f"classes are {', '.join(spec.target.names)}",
            _label_advice(dataset),
        )  # fmt: skip
    if survey.wrong_unit:
        yield Finding(
            "error", split,
            f"{count_chips(survey.wrong_unit)} with values more than {OTHER_UNIT} times the mean in the "
            f"statistics, or less than 1/{OTHER_UNIT} of it, unlike the other chips{_listed(survey.wrong_unit)}",
            "check the unit of these files",
        )  # fmt: skip
    if survey.misaligned:
        yield Finding(
            "error", split,
            f"{count_chips(survey.misaligned)} with labels that are not aligned with the image, such as "
            f"{survey.misaligned[0]}",
            "write images and labels with the same CRS and transform",
        )  # fmt: skip
    if 0 < survey.unplaced < len(survey.names):
        yield Finding(
            "advice", split, f"{survey.unplaced} of {len(survey.names)} images without a CRS",
            "check whether they belong to this dataset",
        )  # fmt: skip
    for names, what in ((survey.empty, "without any data"), (survey.unlabelled, "without a labelled pixel")):
        if names:
            yield Finding("advice", split, f"{count_chips(names)} {what}, such as {names[0]}", "remove them")
    if survey.duplicates:
        one, other = survey.duplicates[0]
        yield Finding(
            "advice",
            split,
            f"{count_chips(survey.duplicates)} duplicated, such as {one} as {other}",
            "keep one",
        )
    yield from _of_values(split, survey, spec, dataset)


def _label_advice(dataset: ChipDataset) -> str:
    """Advice about stored labels that are not a class."""
    kind = type(dataset)
    if is_published(kind):
        return dataset.label_advice
    if kind.to_classes is ChipFolder.to_classes:
        return "add them to classes, or to ignored_labels if they mean not labelled; or repair the files"
    known = "classes" if "classes" in parameters_of(kind) else "class_names"
    return (
        f"convert them in {kind.__name__}.to_classes to the numbers of the classes, or to {IGNORE_INDEX} if they mean "
        f"not labelled; or add them to {known}"
    )


def _configured_scale(scale: float, fitting: float, key: str = "data.scale") -> str:
    """Advice about a scale that does not match the statistics, for the scale that would."""
    return f"{key} is {scale:g}; a scale of about {fitting:g} would match the statistics"


def _scale_advice(dataset: ChipDataset, scale: float, fitting: float) -> str:
    """As `_configured_scale`, for a dataset whose class may define the scale, or not use it."""
    kind = type(dataset)
    if kind.read_image is not ChipDataset.read_image:  # it returns values in the unit
        factor, size = max(scale / fitting, fitting / scale), "large" if scale > fitting else "small"
        return f"values that read_image returns are about {factor:g} times too {size}; correct it, or the statistics"
    if "scale" in parameters_of(kind):
        return _configured_scale(scale, fitting)
    advice = _configured_scale(scale, fitting, f"{kind.__name__}.scale")
    if is_published(kind):
        return f"{advice}: the files are not as published; multiply their values by about {fitting / scale:g}"
    return f"{advice}; correct it in the class"


def _listed(names: Sequence[str]) -> str:
    """The names after a colon, the first ones if there are many."""
    limit = f", the first {_MOST_LISTED}" if len(names) > _MOST_LISTED else ""
    return f"{limit}: {', '.join(names[:_MOST_LISTED])}"


def _of_values(
    split: str, survey: Survey, spec: DataSpec, dataset: ChipDataset | None = None
) -> Iterator[Finding]:
    """Compare the unit and order of the bands with the statistics, and report nodata and constant bands.

    `dataset` is the dataset of the chips; its class may define scale and nodata.
    """
    if survey.nodata > 0.5:
        yield Finding(
            "advice", split, f"{100 * survey.nodata:.0f} % of the pixels hold no data",
            "check the nodata tags of the files and data.nodata; leave out images without data",
        )  # fmt: skip
    if survey.fill is not None:
        yield Finding(
            "advice", split, survey.fill.describe(spec.input.scale),
            f"if this value means nodata, {nodata_setting(survey.fill.stored(spec.input.scale), dataset)}, and repeat "
            "stats",
        )  # fmt: skip
    if not len(survey.means) or np.isnan(survey.means).any():
        return
    means, deviations = survey.means, survey.deviations
    expected, spread = np.array(spec.input.mean), np.array(spec.input.std)
    measured = " ".join(f"{value:.4g}" for value in means)
    known = " ".join(f"{value:.4g}" for value in expected)
    flat = [band for band, deviation in zip(spec.input.bands, deviations, strict=True) if deviation == 0]
    if flat:
        yield Finding(
            "error",
            split,
            f"{', '.join(flat)}: the same value in all pixels",
            "check how the band was written",
        )
    ratio = spec.input.unit_ratio([*means] * spec.input.num_frames, [*survey.lows] * spec.input.num_frames)
    if spec.input.is_other_unit(ratio):
        message = f"band means {measured} {ratio.describe()}; the statistics are {known}"
        advice = _configured_scale if dataset is None else partial(_scale_advice, dataset)
        yield Finding("error", split, message, _unit_advice(ratio, spec, advice))
        return
    yield from _band_order(split, means, expected, spread, spec.input.bands)


def _unit_advice(ratio: UnitRatio, spec: DataSpec, advice: Callable[[float, float], str]) -> str:
    if ratio.mistaken_for is not None:
        _, scale, offset = ratio.mistaken_for
        return f"write the scale into the files: gdal_edit.py -scale {scale:g} -offset {offset:g} FILE"
    fitting = spec.input.fitting_scale(ratio)
    if fitting is None:
        return "check unit and statistics: prithvi-tg stats"
    return advice(spec.input.scale, fitting)


def _band_order(
    split: str,
    means: NDArray[np.float64],
    expected: NDArray[np.float64],
    spread: NDArray[np.float64],
    bands: Sequence[str],
) -> Iterator[Finding]:
    """Check whether another order of the bands fits the statistics far better."""
    found = find_order(bands, means.tolist(), expected.tolist(), spread.tolist())
    if found.is_mixed_up:
        yield Finding(
            "error", split, f"band means are {found.as_given:.1f} standard deviations off; in the order "
            f"{' '.join(found.bands)} they would be {found.best:.1f} off", "check the order of the bands in the files",
        )  # fmt: skip
    elif found.as_given >= MIXED_UP:
        yield Finding(
            "advice", split, f"band means are {found.as_given:.1f} standard deviations off the statistics",
            "compute the statistics of these data with prithvi-tg stats",
        )  # fmt: skip


def _shared(surveys: dict[str, Survey], on_purpose: set[frozenset[str]], advice: str) -> Iterator[Finding]:
    """Chips that are in two splits, by name or by content, and chips of two splits that show the same ground."""
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
                "error", f"{one}, {other}", f"{count_chips(names)} in both, such as {names[0]}",
                f"scores would be too optimistic; if the overlap is intended, set same_splits: [[{one}, {other}]]",
            )  # fmt: skip
        if copies:
            yield Finding(
                "error", f"{one}, {other}",
                f"{count_chips(copies)} with the same pixels under two names, such as {' and '.join(copies[0])}",
                "keep them in one split",
            )  # fmt: skip
        if overlaps := overlapping(first.footprints, second.footprints):
            shown = {chip for _, chip in overlaps}
            yield Finding(
                "advice", f"{one}, {other}",
                f"{len(shown)} of {len(second.names)} chips of {other} cover ground that chips of {one} also cover, "
                f"such as {overlaps[0][1]} and {overlaps[0][0]}; scores may be too good", advice,
            )  # fmt: skip
