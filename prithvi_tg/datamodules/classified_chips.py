"""Data module of chips with a class for the whole chip."""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset

from ..bands import PRITHVI_BANDS
from ..datasets import ClassifiedChips
from ..errors import ConfigError, MissingStatisticsError
from ..samplers import ShuffleSampler, WeightedShuffleSampler
from .chips import ChipDataModule


class ClassifiedChipsDataModule(ChipDataModule):
    """Batches of `ClassifiedChips`: whole chips with one class each, from a table or from folders of classes.

    Batches contain ``image`` (B, T, C, H, W), normalised, and ``label`` (B,) or, with `multilabel`, (B, K). Chips of
    unequal sizes need `batch_size` 1, or `crop_size` and ``eval_batch_size: 1``.

    Args:
        images: Pattern of the images: with `labels`, one ``*`` for the name of a chip; without, two ``*``, for the
            class and for the chip, as in ``data/chips/*/*.tif``.
        classes: Names of the classes, in the order of the model's outputs.
        labels: A CSV or Parquet table with columns ``chip``, ``class`` and, optionally, ``split``.
        splits: A CSV file with columns ``chip`` and ``split``; by default the column of the table, or fractions.
        split_fractions: Shares of training, validation and test, if there is no list or column of splits; the split of
            a chip depends on a hash of its name.
        multilabel: Whether several classes, separated by ``;`` in the table, can apply to a chip.
        bands: Bands to use, in the order of the channels, by name.
        mean: Mean per band after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band after scaling.
        file_bands: Bands of one frame in the order of the files; `bands` by default.
        num_frames: Number of dates in a file.
        sensor: Naming scheme of the bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of `mean` and `std`, for files without scale tags. Tags that
            contradict it are an error.
        nodata: Stored values that mean nodata, besides the file's tag and NaN.
        ignored_labels: Classes whose chips are left out; with `multilabel`, only the class is ignored.
        class_colors: ``#rrggbb`` of each class.
        crop_size: Side of the random crop for training, in pixels; by default whole chips, because a crop may
            have another class.
        balance_classes: Draw training chips of all classes equally often. Not for `multilabel`.
        eval_batch_size: Number of chips in a batch of validation and test; `batch_size` by default.
        dataset_class: Class of the dataset, if files are not rasters.
        **kwargs: Arguments of `ChipDataModule`.

    Raises:
        ConfigError: Statistics are missing, or settings contradict each other.
    """

    def __init__(
        self,
        images: str,
        classes: Sequence[str],
        labels: str | Path | None = None,
        splits: str | Path | None = None,
        split_fractions: Sequence[float] = (0.6, 0.2, 0.2),
        multilabel: bool = False,
        bands: Sequence[str] = PRITHVI_BANDS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        ignored_labels: Sequence[str] = (),
        class_colors: Sequence[str] = (),
        crop_size: int | None = None,
        balance_classes: bool = False,
        eval_batch_size: int | None = None,
        dataset_class: type[ClassifiedChips] = ClassifiedChips,
        **kwargs: Any,
    ) -> None:
        if mean is None or std is None:
            raise MissingStatisticsError("mean, std: not given; prithvi-tg stats computes them")
        if balance_classes and multilabel:
            raise ConfigError("balance_classes: true does not work with multilabel; remove one of them")
        super().__init__(
            dataset_class,
            None,
            splits=splits,
            bands=bands,
            mean=mean,
            std=std,
            images=images,
            classes=classes,
            labels=labels,
            split_fractions=split_fractions,
            multilabel=multilabel,
            file_bands=file_bands,
            num_frames=num_frames,
            sensor=sensor,
            scale=scale,
            nodata=nodata,
            ignored_labels=ignored_labels,
            class_colors=class_colors,
            crop_size=crop_size,
            **kwargs,
        )
        self.balance_classes = balance_classes
        self.val_batch_size = self.test_batch_size = eval_batch_size or self.batch_size

    def setup(self, stage: str) -> None:
        """See `ChipDataModule.setup`; for training, record the size of the images."""
        super().setup(stage)
        if stage == "fit":
            assert isinstance(self.train_dataset, ConcatDataset)
            chips: Any = self.train_dataset.datasets[0]
            self.spec = self.spec.with_input(image_size=self.crop_size or chips.image_size)

    def listed_splits(self) -> Collection[str]:
        """The splits with chips."""
        assert issubclass(self.dataset_class, ClassifiedChips)
        keys = ("images", "labels", "splits", "split_fractions", "multilabel")
        with warnings.catch_warnings(), self._leaving_out(""):
            warnings.simplefilter("ignore")  # `open_split` warns about chips in two splits
            return self.dataset_class.labels_by_split(**{key: self.kwargs[key] for key in keys})

    def create_train_sampler(self, chips: ConcatDataset[Any]) -> ShuffleSampler:
        """Sampler of each chip once, shuffled; or, if balanced, of each class equally often, with replacement."""
        if not self.balance_classes:
            return super().create_train_sampler(chips)
        dataset: Any = chips.datasets[0]
        shares = 1 / dataset.class_counts.double()
        weights = [float(shares[dataset.label_of[chip.name]]) for chip in dataset.chips]
        return WeightedShuffleSampler(chips, weights * self.crops_per_chip)
