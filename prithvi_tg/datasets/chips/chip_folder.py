"""ChipFolder: your own chips, described by a configuration."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...readers.labels import label_counts
from ...spec import DataSpec
from ...targets import IGNORE_INDEX, ClassTarget, check_class_names, check_ignored_labels
from .base import Sample
from .pattern_chips import PatternChips, describe_input


class ChipFolder(PatternChips):
    """Your own chips: any bands, any number of dates, any classes.

    Args:
        images: Pattern of the images, with one ``*`` for the name of a chip.
        labels: Pattern of the masks, with one ``*`` for the same name.
        splits: A CSV file with columns ``chip`` and ``split``.
        classes: Name of the class of each stored label; classes are numbered in this order, and labels with the
            same name are one class.
        bands: Bands to use, in the order of the channels, by name.
        mean: Mean per band after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band after scaling.
        split: ``train``, ``val`` or ``test``.
        file_bands: Bands of one frame in the order of the files, by name; `bands` by default. The bands of the
            next frame follow.
        num_frames: Number of dates in a file.
        sensor: Naming scheme of the bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of `mean` and `std`, for files without scale tags. Tags that
            contradict it are an error.
        nodata: Stored values that mean nodata, besides the file's tag and NaN.
        ignored_labels: Stored labels that mean "not labelled".
        class_colors: ``#rrggbb`` of each class.
        legacy_nodata: See `ChipDataset`.
        metadata: See `ChipDataset`; only locations are known.
        transforms: See `ChipDataset`.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The image or the mask of a chip in the list is missing.
    """

    def __init__(
        self,
        images: str,
        labels: str,
        splits: str | Path,
        classes: Mapping[int, str],
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        split: str = "train",
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        ignored_labels: Sequence[int] = (),
        class_colors: Sequence[str] = (),
        legacy_nodata: bool = False,
        metadata: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.classes = dict(classes)
        self.ignored_labels = list(ignored_labels)
        check_ignored_labels(self.classes, self.ignored_labels)
        spec = self.data_spec(
            classes, bands, mean, std, file_bands, num_frames, sensor, scale, nodata, class_colors
        )
        self.sensor = sensor
        self.class_names = spec.target.names
        super().__init__(images, labels, splits, spec, split, legacy_nodata, metadata, transforms)

    @classmethod
    def data_spec(  # type: ignore[override]  # all properties of the dataset are arguments
        cls,
        classes: Mapping[int, str],
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        class_colors: Sequence[str] = (),
    ) -> DataSpec:
        """Bands, statistics and classes, from the arguments of the dataset.

        Raises:
            ConfigError: A band is unknown or not in the files, or the statistics do not match the bands.
        """
        check_class_names(classes)
        inputs = describe_input(bands, mean, std, file_bands, num_frames, sensor, scale, nodata)
        return DataSpec(inputs, ClassTarget(tuple(dict.fromkeys(classes.values())), tuple(class_colors)))

    @property
    def converts_labels(self) -> bool:
        """Whether a subclass has its own `to_classes`."""
        return type(self).to_classes is not ChipFolder.to_classes

    def unknown_labels(self, counts: dict[int, int], converted: dict[int, int]) -> str:
        """Error message for stored labels that are not a class; for the arguments see `UnknownLabelError`."""
        if self.converts_labels:
            return super().unknown_labels(counts, converted)
        known = ", ".join(map(str, self.classes))
        return (
            f"contains {label_counts(counts)}, not in classes; known labels: {known}; add them to classes, or to "
            "ignored_labels if they mean not labelled (prithvi-tg check counts the labels of all chips)"
        )

    def to_classes(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Convert stored labels to classes; unknown labels become -1."""
        classes = np.full(stored.shape, -1, dtype=np.int64)
        for label, name in self.classes.items():
            classes[stored == label] = self.class_names.index(name)
        classes[np.isin(stored, self.ignored_labels)] = IGNORE_INDEX
        return classes
