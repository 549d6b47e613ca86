"""Data modules of chip datasets."""

import inspect
import logging
import warnings
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import torch
from kornia.augmentation import AugmentationBase2D
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch.utils.data import ConcatDataset, DataLoader
from torchgeo.datamodules import NonGeoDataModule

from ..augmentations import ChipAugmentation
from ..bands import PRITHVI_BANDS
from ..class_paths import parameters_of
from ..datasets import (
    ChipDataset,
    ChipFolder,
    HLSBurnScars,
    MultiTemporalCropClassification,
    Sen1Floods11,
    read_splits,
)
from ..datasets.chips.chip_files import is_misaligned, leaving_out_incomplete
from ..datasets.chips.split_lists import names_of_test_splits
from ..deprecated import OldArguments
from ..errors import NO_VALIDATION, ConfigError, MissingStatisticsError, counted
from ..samplers import RandomCropSampler, ShuffleSampler, UnrepeatedSampler
from ..spec import DataSpec
from .caching import CacheChooser
from .loading import RandomCrops, collate_chips, for_scoring, pinned
from .resuming import ResumableLoader

_log = logging.getLogger(__name__)
_COMPARED_CHIPS = 8  # a few milliseconds each


class ChipDataModule(NonGeoDataModule, metaclass=OldArguments):
    """Batches of a `ChipDataset`: random crops for training, whole chips for validation and test.

    Args:
        dataset_class: Class of the dataset.
        root: Folder of the dataset.
        batch_size: Number of chips in a training batch; the last partial batch of an epoch is dropped.
        num_workers: Number of loader processes.
        crop_size: Side of the random crop for training, in pixels; ``None`` for whole chips, which must then have the
            same size, unless `batch_size` is 1.
        random_flip_rot90: Flip training crops and rotate them by multiples of 90 degrees at random.
        augmentations: Further Kornia augmentations for training, see `ChipAugmentation`.
        crops_per_chip: Number of random crops of each chip in an epoch.
        test_split: Split for ``test``, or several, ``[test, bolivia]``, which one ``test`` scores separately.
        eval_batch_size: Number of chips in a batch of validation and test, which the task cuts into windows; must be 1
            for chips of unequal sizes.
        splits: A CSV file with columns ``chip`` and ``split`` to use instead of the published split, or the name of
            a list of the dataset, see its `split_lists`. Without chips in ``val``, training runs without validation.
        bands: Bands to use, by name.
        mean: Mean per band after scaling; the published one by default.
        std: Standard deviation per band after scaling; the published one by default.
        legacy_nodata: Treat nodata as hls-foundation-os does.
        metadata: Pass dates and locations to encoders that use them.
        skip_bad: Read all chips first, skip those that cannot be read or lack their image or label, and list them.
            By default such a chip is an error.
        same_splits: Pairs of splits that share chips on purpose; ``prithvi-tg check`` does not report them.
        cache: Cache decoded chips, with their stored values, so that no file is opened after the first epoch: ``ram``,
            in memory that all processes of a machine share; ``disk``, in files that later runs also use; ``none``. By
            default ``ram`` if training and validation chips fit into a quarter of the memory, otherwise ``none``.
        cache_folder: Folder for ``cache: disk``; by default ``.prithvi_tg_cache`` beside the images.
        download: Download missing files first, in one process only.
        fold_time: Return only image (B, T*C, H, W) and mask, for TorchGeo's own tasks.
        **kwargs: Further arguments of the dataset.

    Raises:
        ConfigError: The split, the cache or an argument is unknown, or `root` is lacking.
    """

    #: How to get splits that share no ground, for ``prithvi-tg check``.
    split_advice: ClassVar[str] = "keep chips of one place in one split"

    #: Splits that may have no chips.
    optional_splits: ClassVar[tuple[str, ...]] = ("val",)

    def __init__(
        self,
        dataset_class: type[ChipDataset],
        root: str | Path | None = None,
        batch_size: int = 4,
        num_workers: int = 0,
        crop_size: int | None = 224,
        random_flip_rot90: bool = True,
        augmentations: Sequence[AugmentationBase2D] = (),
        crops_per_chip: int = 1,
        test_split: str | Sequence[str] = "test",
        eval_batch_size: int = 1,
        splits: str | Path | None = None,
        bands: Sequence[str] = PRITHVI_BANDS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        legacy_nodata: bool = False,
        metadata: bool = False,
        skip_bad: bool = False,
        same_splits: Sequence[tuple[str, str]] = (),
        cache: str | None = None,
        cache_folder: str | Path | None = None,
        download: bool = False,
        fold_time: bool = False,
        **kwargs: Any,
    ) -> None:
        folder = inspect.signature(dataset_class).parameters.get("root")
        if root is None and folder is not None and folder.default is folder.empty:
            raise ConfigError(f"root: not given; {dataset_class.__name__} needs the folder of its files")
        _check_arguments(type(self), dataset_class, kwargs)
        options = {
            "splits": splits,
            "bands": bands,
            "mean": mean,
            "std": std,
            "legacy_nodata": legacy_nodata,
            "metadata": metadata,
            **({} if root is None else {"root": root}),
            **kwargs,
        }
        super().__init__(dataset_class, batch_size, num_workers, **options)
        self.crop_size = crop_size
        self.same_splits = [(one, other) for one, other in same_splits]
        self.skip_bad = skip_bad
        self.skipped: dict[str, str] = {}
        self.caching = CacheChooser(cache, cache_folder)
        self.download = download
        self.crops_per_chip = crops_per_chip
        self.fold_time = fold_time
        self.test_split = test_split
        self.val_batch_size = self.test_batch_size = eval_batch_size
        self.collate_fn = collate_chips
        known = inspect.signature(dataset_class.data_spec).parameters
        spec = dataset_class.data_spec(**{key: value for key, value in options.items() if key in known})
        self.spec: DataSpec = spec.with_input(metadata=metadata)
        names = dataset_class.split_names if splits is None else None
        self.test_splits = names_of_test_splits(test_split, names, dataset_class.__name__)
        self.mean = torch.tensor(self.spec.input.channel_mean)
        self.std = torch.tensor(self.spec.input.channel_std)
        self.train_aug = ChipAugmentation(
            self.mean, self.std, random_flip_rot90=random_flip_rot90, extra=augmentations
        )
        self.aug = ChipAugmentation(self.mean, self.std)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Normalise and augment on the device; with `fold_time`, merge frames and channels."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        if self.fold_time:
            batch = {"image": batch["image"].flatten(1, 2), "mask": batch["mask"]}
        return batch

    def prepare_data(self) -> None:
        """Download missing files; Lightning calls this in one process of each machine."""
        if self.download:
            self.dataset_class(split="train", download=True, **self.kwargs)  # type: ignore[call-arg]  # of subclasses

    def setup(self, stage: str) -> None:
        """Open the splits of a stage; for errors of the dataset see `ChipDataset`.

        Raises:
            ConfigError: The training set is smaller than a batch, or there is no validation set to validate.
        """
        if stage == "validate" and not self.validates:
            raise ConfigError(
                f"data: {NO_VALIDATION}; score the test set with prithvi-tg test, or move chips to val in the list of "
                "splits"
            )
        names = {"fit": ["train"], "validate": ["val"], "test": [*self.test_splits]}.get(stage, [])
        if stage == "fit" and self.has_split("val"):
            names.insert(0, "val")
        opened = {split: self._open(split) for split in names}
        local_rank = self.trainer.local_rank if self.trainer else 0
        self.caching.attach([*opened.values()], repeated=stage == "fit", local_rank=local_rank)
        for split, dataset in opened.items():
            self._skip_unreadable(split, dataset)
        if "val" in opened:
            self.val_dataset = opened["val"]
        if stage == "fit":
            chips = opened["train"]
            _warn_of_misaligned_labels(chips)
            self.spec = self.spec.with_input(
                pixel_size=chips.pixel_size, file_descriptions=chips.file_descriptions
            )
            self.train_dataset = ConcatDataset([chips] * self.crops_per_chip)
            if len(self.train_dataset) < self.batch_size:
                raise ConfigError(
                    f"batch_size: {self.batch_size} is larger than the number of crops in an epoch "
                    f"({len(self.train_dataset)}), and partial batches are dropped; lower it or raise crops_per_chip"
                )
        if stage == "test":
            self.test_dataset = opened[self.test_splits[0]]
            self._test_datasets = list(opened.values())

    def train_dataloader(self) -> DataLoader[Any]:
        """Loader of random crops of shuffled chips."""
        assert isinstance(self.train_dataset, ConcatDataset)
        loader = ResumableLoader(
            RandomCrops(self.train_dataset, self.crop_size),
            batch_size=self.batch_size,
            sampler=RandomCropSampler(self.create_train_sampler(self.train_dataset)),
            num_workers=self.num_workers,
            collate_fn=collate_chips,
            drop_last=True,
            persistent_workers=self.num_workers > 0,
        )
        return pinned(loader)

    def create_train_sampler(self, chips: ConcatDataset[Any]) -> ShuffleSampler:
        """Sampler of the training chips, each once per epoch, shuffled."""
        return ShuffleSampler(chips)

    @property
    def validates(self) -> bool:
        """Whether there are validation chips."""
        return self.has_split("val")

    def val_dataloader(self) -> Any:
        """Loader with each chip once, over all processes; an empty list without validation chips."""
        return self._scored(self.val_dataset) if self.validates else []

    def test_dataloader(self) -> Any:
        """Loader with each chip once, over all processes; a list of them for several test splits."""
        loaders = [self._scored(dataset) for dataset in self._test_datasets]
        return loaders if len(loaders) > 1 else loaders[0]

    def _scored(self, dataset: Any) -> DataLoader[Any]:
        # Not Lightning's sampler, which repeats chips so that all processes have the same number.
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_size=self.val_batch_size,
            sampler=UnrepeatedSampler(dataset),
            num_workers=self.num_workers,
            collate_fn=self.collate_fn,
            persistent_workers=self.num_workers > 0,
        )
        return for_scoring(pinned(loader))

    def has_split(self, split: str) -> bool:
        """Whether a split has chips in the list of splits; in published datasets all splits have."""
        return split in self.listed_splits()

    def listed_splits(self) -> Collection[str]:
        """The splits with chips in the list of splits; without a list, training, validation and the test splits."""
        listed = self.kwargs["splits"]
        if listed is None:
            return ("train", "val", *self.test_splits)
        assert issubclass(self.dataset_class, ChipDataset)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `open_split` warns about chips in two splits
            return read_splits(self.dataset_class.resolve_splits(listed))

    def open_split(self, split: str) -> ChipDataset:
        """Open the dataset of a split; for errors see `ChipDataset`."""
        dataset = self._open(split)
        self._skip_unreadable(split, dataset)
        return dataset

    def _open(self, split: str) -> ChipDataset:
        with self._leaving_out(split) as incomplete:
            dataset = self.dataset_class(split=split, **self.kwargs)  # type: ignore[call-arg]  # of subclasses
        assert isinstance(dataset, ChipDataset)
        self._skip(split, incomplete)
        return dataset

    def _leaving_out(self, split: str) -> AbstractContextManager[dict[str, str]]:
        """With `skip_bad`, a context that leaves chips out whose image or label is missing."""
        return leaving_out_incomplete(split) if self.skip_bad else nullcontext({})

    def _skip_unreadable(self, split: str, dataset: ChipDataset) -> None:
        if self.skip_bad:
            self._skip(split, dataset.leave_out_bad())

    def _skip(self, split: str, bad: dict[str, str]) -> None:
        self.skipped |= bad
        for chip, reason in bad.items():
            _log_rank_zero(f"Skipped: {split} chip {chip}: {reason}")


def _check_arguments(data_class: type, dataset_class: type, names: Iterable[str]) -> None:
    """Check that a dataset takes the arguments of its data module; a class of a user may take any, as ``**kwargs``.

    Raises:
        ConfigError: An argument is unknown.
    """
    package = f"{__name__.partition('.')[0]}."
    for owner in dataset_class.__mro__:
        if owner.__module__.startswith(package):
            break
        if "__init__" in vars(owner):
            parameters = inspect.signature(owner.__init__).parameters.values()  # type: ignore[misc]  # of a class
            if any(one.kind is one.VAR_KEYWORD for one in parameters):
                return
            break
    known = parameters_of(dataset_class).keys() - {"split"}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known | parameters_of(data_class).keys(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"{name}: neither {data_class.__name__} nor {dataset_class.__name__} has this argument{hint}"
            )


def _warn_of_misaligned_labels(dataset: ChipDataset) -> None:
    """Warn if labels of some chips, evenly spaced in the list, are not aligned with their images."""
    step = -(-len(dataset.chips) // _COMPARED_CHIPS)
    compared = dataset.chips[::step]
    shifted = [chip for chip in compared if is_misaligned(chip.image, chip.mask)]
    if shifted:
        rank_zero_warn(
            f"{shifted[0].mask}: its pixels are not aligned with those of {shifted[0].image.name}, as in "
            f"{len(shifted)} of {counted(len(compared), 'training chip')} that were compared; the model would learn "
            "shifted labels. prithvi-tg check lists all such chips"
        )


@rank_zero_only
def _log_rank_zero(line: str) -> None:
    _log.info(line)


class Sen1Floods11DataModule(ChipDataModule):
    """Batches of `Sen1Floods11`; ``test_split: bolivia`` tests on a separate event.

    Args:
        root: Folder that contains ``v1.1/``.
        **kwargs: Arguments of `ChipDataModule`.
    """

    def __init__(self, root: str | Path = "data/sen1floods11", **kwargs: Any) -> None:
        super().__init__(Sen1Floods11, root, **kwargs)


class HLSBurnScarsDataModule(ChipDataModule):
    """Batches of `HLSBurnScars`; ``splits: non_overlapping`` uses splits whose chips share no ground.

    Args:
        root: Folder that contains ``training/`` and ``validation/``.
        **kwargs: Arguments of `ChipDataModule`.
    """

    split_advice = "for scores on other ground, set splits: non_overlapping"

    def __init__(self, root: str | Path = "data/hls_burn_scars", **kwargs: Any) -> None:
        super().__init__(HLSBurnScars, root, **kwargs)


class MultiTemporalCropDataModule(ChipDataModule):
    """Batches of `MultiTemporalCropClassification`.

    Args:
        root: Folder that contains ``training_chips/`` and ``validation_chips/``.
        legacy_channel_order: See `MultiTemporalCropClassification`.
        **kwargs: Arguments of `ChipDataModule`.
    """

    def __init__(
        self,
        root: str | Path = "data/multi_temporal_crop",
        legacy_channel_order: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            MultiTemporalCropClassification, root, legacy_channel_order=legacy_channel_order, **kwargs
        )


class ChipFolderDataModule(ChipDataModule):
    """Batches of a `ChipFolder`: your own chips, described by a configuration.

    Args:
        images: Pattern of the images, with one ``*`` for the name of a chip.
        labels: Pattern of the masks, with one ``*`` for the same name.
        splits: A CSV file with columns ``chip`` and ``split``: train, val (may be absent) or test.
        classes: Class name of each stored label.
        bands: Bands to use, in the order of the channels, by name.
        mean: Mean per band after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band after scaling.
        file_bands: Bands of one frame in the order of the files; `bands` by default.
        num_frames: Number of dates in a file.
        sensor: Naming scheme of the bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of `mean` and `std`, for files without scale tags. Tags that
            contradict it are an error.
        nodata: Stored values that mean nodata, besides the file's tag and NaN.
        ignored_labels: Stored labels that mean "not labelled".
        class_colors: ``#rrggbb`` of each class.
        dataset_class: Class of the dataset, if files are not rasters.
        **kwargs: Arguments of `ChipDataModule`.

    Raises:
        ConfigError: Statistics are missing.
    """

    def __init__(
        self,
        images: str,
        labels: str,
        splits: str | Path,
        classes: dict[int, str],
        bands: Sequence[str] = PRITHVI_BANDS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        ignored_labels: Sequence[int] = (),
        class_colors: Sequence[str] = (),
        dataset_class: type[ChipFolder] = ChipFolder,
        **kwargs: Any,
    ) -> None:
        if mean is None or std is None:
            raise MissingStatisticsError("mean, std: not given; prithvi-tg stats computes them")
        super().__init__(
            dataset_class,
            None,
            splits=splits,
            bands=bands,
            mean=mean,
            std=std,
            images=images,
            labels=labels,
            classes=classes,
            file_bands=file_bands,
            num_frames=num_frames,
            sensor=sensor,
            scale=scale,
            nodata=nodata,
            ignored_labels=ignored_labels,
            class_colors=class_colors,
            **kwargs,
        )
