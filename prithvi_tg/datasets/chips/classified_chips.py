"""ClassifiedChips: chips with a class for the whole chip, from a table or from folders of classes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError, DataError, IncompleteChipError, counted
from ...plotting import plot_sample
from ...spec import DataSpec
from ...targets import IGNORE_INDEX, ChipClassTarget, check_class_names, check_ignored_labels
from .base import Chip, Sample
from .chip_files import leave_out
from .chip_labels import ChipLabel, labels_of_folders, read_label_table, split_labels
from .pattern_chips import DescribedChips, describe_input
from .stored_chips import StoredChip


class ClassifiedChips(DescribedChips):
    """Your own chips with one class for the whole chip, or, with `multilabel`, any number of classes.

    A sample is as in `ChipDataset`, with this entry instead of ``mask``:

    * ``label``: int64 (), the class; or, with `multilabel`, int64 (K,), 1 for each class that applies; 255 if the chip
      has no data.

    Labels are read from a table, ``labels: labels.csv`` with ``images: chips/*.tif``, or from folders of classes,
    ``images: chips/*/*.tif``; then the name of a chip is ``CLASS/STEM``.

    Args:
        images: Pattern of the images: with `labels`, one ``*`` for the name of a chip; without, two ``*``, for the
            class and for the chip.
        classes: Names of the classes, in the order of the model's outputs.
        bands: Bands to use, in the order of the channels, by name.
        mean: Mean per band after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band after scaling.
        labels: A CSV or Parquet table with columns ``chip``, ``class`` and, optionally, ``split``.
        splits: A CSV file with columns ``chip`` and ``split``; by default the column of the table, or fractions.
        split_fractions: Shares of training, validation and test, if there is no list or column of splits. The split
            of a chip depends on a hash of its name. If several chips are from one scene, give a list instead.
        multilabel: Whether several classes, separated by ``;`` in the table, can apply to a chip.
        split: ``train``, ``val`` or ``test``.
        file_bands: Bands of one frame in the order of the files, by name; `bands` by default. The bands of the
            next frame follow.
        num_frames: Number of dates in a file.
        sensor: Naming scheme of the bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of `mean` and `std`, for files without scale tags. Tags that
            contradict it are an error.
        nodata: Stored values that mean nodata, besides the file's tag and NaN.
        ignored_labels: Classes of the table or folders to ignore, with their chips; with `multilabel`, only the class
            is ignored.
        class_colors: ``#rrggbb`` of each class.
        legacy_nodata: See `ChipDataset`.
        metadata: See `ChipDataset`; only locations are known.
        transforms: See `ChipDataset`.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: A chip is missing, its class is unknown, or the table lacks a column.
    """

    def __init__(
        self,
        images: str,
        classes: Sequence[str],
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        labels: str | Path | None = None,
        splits: str | Path | None = None,
        split_fractions: Sequence[float] = (0.6, 0.2, 0.2),
        multilabel: bool = False,
        split: str = "train",
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        ignored_labels: Sequence[str] = (),
        class_colors: Sequence[str] = (),
        legacy_nodata: bool = False,
        metadata: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.images = images
        self.labels = labels
        self.split_fractions = tuple(split_fractions)
        self.multilabel = multilabel
        self.sensor = sensor
        self.ignored_labels = list(ignored_labels)
        spec = self.data_spec(
            classes, bands, mean, std, file_bands, num_frames, sensor, scale, nodata, class_colors, multilabel
        )
        self.class_names = spec.target.names
        check_ignored_labels(self.class_names, self.ignored_labels)
        root = Path(images.partition("*")[0])
        super().__init__(root, splits, spec, split, legacy_nodata, metadata, transforms)

    @classmethod
    def data_spec(  # type: ignore[override]  # all properties of the dataset are arguments
        cls,
        classes: Sequence[str],
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        class_colors: Sequence[str] = (),
        multilabel: bool = False,
    ) -> DataSpec:
        """Bands, statistics and classes, from the arguments of the dataset.

        Raises:
            ConfigError: A class is given twice, a band is unknown or not in the files, or the statistics do not match
                the bands.
        """
        for name in classes:
            if list(classes).count(name) > 1:
                raise ConfigError(f"classes: {name!r} is given twice")
        check_class_names(classes)
        inputs = describe_input(bands, mean, std, file_bands, num_frames, sensor, scale, nodata)
        return DataSpec(inputs, ChipClassTarget(tuple(classes), tuple(class_colors), multilabel))

    @staticmethod
    def labels_by_split(
        images: str,
        labels: str | Path | None = None,
        splits: str | Path | None = None,
        split_fractions: Sequence[float] = (0.6, 0.2, 0.2),
        multilabel: bool = False,
    ) -> dict[str, list[ChipLabel]]:
        """The chips of each split with their classes; for arguments and errors see the class."""
        if labels is not None:
            found = read_label_table(labels, images, multilabel)
        elif multilabel:
            raise ConfigError(
                "labels: not given; multilabel needs a table, because a folder gives only one class per chip"
            )
        else:
            found = labels_of_folders(images)
        return split_labels(found, splits, split_fractions)

    def find_chips(self) -> list[Chip]:
        """The chips of the split; `Chip.mask` is the image, as there are no masks.

        Raises:
            ConfigError: The split has no chips.
            DataError: A class is unknown, or an image is missing.
        """
        by_split = self.labels_by_split(
            self.images, self.labels, self.splits, self.split_fractions, self.multilabel
        )
        self.label_of: dict[str, Tensor] = {}
        chips = []
        for label in self.of_split(by_split):
            classes = [name for name in label.classes if name not in self.ignored_labels]
            if label.classes and not classes and not self.multilabel:
                continue
            self.label_of[label.name] = self._encode(label.name, classes)
            chips.append(Chip(label.name, label.image, label.image))
        errors = {
            chip.name: f"{chip.image}: no such file; the image of chip {chip.name} is missing"
            for chip in chips
            if not chip.image.is_file()
        }
        complete = [chip for chip in chips if chip.name not in errors]
        if errors and not (complete and leave_out(errors)):
            more = f" (and {counted(len(errors) - 1, 'other image')})" if len(errors) > 1 else ""
            raise IncompleteChipError(f"{next(iter(errors.values()))}{more}")
        for name in errors:
            del self.label_of[name]
        return complete

    def _encode(self, chip: str, classes: Sequence[str]) -> Tensor:
        """Label of a chip: int64 () or, with several classes, (K,)."""
        for name in classes:
            if name not in self.class_names:
                raise DataError(
                    f"{self.labels or self.images}: chip {chip} has the class {name!r}, which is not one of the "
                    f"{len(self.class_names)} classes ({', '.join(self.class_names)}); add it to classes or to "
                    "ignored_labels"
                )
        numbers = [self.class_names.index(name) for name in classes]
        if not self.multilabel:
            return torch.tensor(numbers[0])
        label = torch.zeros(len(self.class_names), dtype=torch.int64)
        label[numbers] = 1
        return label

    @property
    def class_counts(self) -> Tensor:
        """Number of chips of each class, int64 (K,)."""
        labels = torch.stack(list(self.label_of.values()))
        if self.multilabel:
            return labels.sum(dim=0)
        return torch.bincount(labels, minlength=len(self.class_names))

    def _read_label(self, chip: Chip, valid: NDArray[np.bool_]) -> None:
        """``None``: the label is a class of the whole chip."""

    def _target(self, chip: Chip, stored: StoredChip) -> Sample:
        label = self.label_of[chip.name]
        return {"label": label.clone() if stored.has_data else torch.full_like(label, IGNORE_INDEX)}

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draw a sample: each date in true colour, with the classes as title.

        Args:
            sample: A sample of this dataset, optionally with ``prediction`` in the form of ``label``.
            show_titles: Add the date to each panel, and the classes of the chip.
            suptitle: Title of the figure; by default the classes.
        """
        classes = [
            f"{key}: {', '.join(self._names(sample[key])) or 'none'}"
            for key in ("label", "prediction")
            if key in sample
        ]
        pixels: Sample = {key: sample[key] for key in ("image", "valid") if key in sample}
        return plot_sample(
            pixels, self.spec, show_titles, suptitle or ("; ".join(classes) if show_titles else None)
        )

    def _names(self, label: Tensor) -> list[str]:
        numbers = label.eq(1).nonzero().flatten() if self.multilabel else label.reshape(1)
        return [
            "not labelled" if number == IGNORE_INDEX else self.class_names[number]
            for number in numbers.tolist()
        ]
