"""Data modules of chip data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from kornia.augmentation.base import _AugmentationBase
from torch.utils.data import ConcatDataset
from torchgeo.datamodules import NonGeoDataModule

from ..augmentations import ChipAugmentation
from ..bands import PRITHVI_BANDS
from ..datasets import ChipDataset, Sen1Floods11
from ..errors import ConfigError
from ..spec import DataSpec


class ChipDataModule(NonGeoDataModule):
    """Batches of a `ChipDataset`: random crops for training, whole chips for validation and test.

    Args:
        dataset_class: The data set.
        root: Its folder.
        batch_size: Chips in a training batch; the last partial batch of an epoch is dropped. Validation and
            test take one chip at a time, of any size; the task cuts it into windows.
        num_workers: Processes that load chips.
        crop_size: Side of the random crop for training, in pixels; ``None`` for whole chips.
        flips_and_turns: Also flip and turn training crops at random.
        augmentations: Further Kornia augmentations of normalised training crops.
        crops_per_chip: Random crops of each chip in an epoch.
        test_split: The split that ``test`` runs on.
        **kwargs: Arguments of the data set: ``splits``, ``bands``, ``mean``, ``std``, ``legacy_nodata``.

    Raises:
        ConfigError: There is no such split.
    """

    def __init__(
        self,
        dataset_class: type[ChipDataset],
        root: str | Path,
        batch_size: int = 4,
        num_workers: int = 0,
        crop_size: int | None = 224,
        flips_and_turns: bool = True,
        augmentations: Sequence[_AugmentationBase] = (),
        crops_per_chip: int = 1,
        test_split: str = "test",
        **kwargs: Any,
    ) -> None:
        super().__init__(dataset_class, batch_size, num_workers, root=root, **kwargs)
        self.crops_per_chip = crops_per_chip
        self.test_split = test_split
        self.val_batch_size = self.test_batch_size = 1
        self.spec: DataSpec = dataset_class.data_spec(
            **{key: kwargs[key] for key in ("bands", "mean", "std") if key in kwargs}
        )
        if kwargs.get("splits") is None and test_split not in dataset_class.split_names:
            raise ConfigError(
                f"test_split: {test_split!r} is not in {dataset_class.__name__}; "
                f"it has {', '.join(dataset_class.split_names)}"
            )
        self.mean = torch.tensor(self.spec.channel_mean)
        self.std = torch.tensor(self.spec.channel_std)
        self.train_aug = ChipAugmentation(self.mean, self.std, crop_size, flips_and_turns, augmentations)
        self.aug = ChipAugmentation(self.mean, self.std)

    @property
    def num_classes(self) -> int:
        """Number of classes; the command line links it to the task's."""
        return len(self.spec.class_names)

    def setup(self, stage: str) -> None:
        """Open the splits that a stage needs; see `ChipDataset` for what can be wrong with them.

        Raises:
            ConfigError: The training set is smaller than a batch.
        """
        if stage == "fit":
            chips = self.dataset_class(split="train", **self.kwargs)  # type: ignore[call-arg]
            self.train_dataset = ConcatDataset([chips] * self.crops_per_chip)
            if len(self.train_dataset) < self.batch_size:
                raise ConfigError(
                    f"batch_size: {self.batch_size} is more than the {len(self.train_dataset)} crops of an "
                    "epoch, and partial batches are dropped; lower it or raise crops_per_chip"
                )
        if stage in ("fit", "validate"):
            self.val_dataset = self.dataset_class(split="val", **self.kwargs)  # type: ignore[call-arg]
        if stage == "test":
            self.test_dataset = self.dataset_class(split=self.test_split, **self.kwargs)  # type: ignore[call-arg]


class Sen1Floods11DataModule(ChipDataModule):
    """Batches of `Sen1Floods11`.

    Args:
        root: Folder with ``v1.1/`` in it.
        batch_size: Chips in a training batch.
        num_workers: Processes that load chips.
        crop_size: Side of the random crop for training, in pixels.
        flips_and_turns: Flip and turn training crops at random.
        augmentations: Further Kornia augmentations of normalised training crops.
        crops_per_chip: Random crops of each chip in an epoch.
        test_split: ``test``, or ``bolivia`` for the event that no other split has.
        splits: A CSV file with columns ``chip`` and ``split`` to use instead of the published lists.
        bands: Bands to use, by name.
        mean: Mean per band after scaling; the published one by default.
        std: Standard deviation per band after scaling; the published one by default.
        legacy_nodata: Treat pixels without data as hls-foundation-os did.
    """

    def __init__(
        self,
        root: str | Path = "data/sen1floods11",
        batch_size: int = 4,
        num_workers: int = 0,
        crop_size: int | None = 224,
        flips_and_turns: bool = True,
        augmentations: Sequence[_AugmentationBase] = (),
        crops_per_chip: int = 1,
        test_split: str = "test",
        splits: str | Path | None = None,
        bands: Sequence[str] = PRITHVI_BANDS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        legacy_nodata: bool = False,
    ) -> None:
        super().__init__(
            Sen1Floods11,
            root,
            batch_size,
            num_workers,
            crop_size,
            flips_and_turns,
            augmentations,
            crops_per_chip,
            test_split,
            splits=splits,
            bands=bands,
            mean=mean,
            std=std,
            legacy_nodata=legacy_nodata,
        )
