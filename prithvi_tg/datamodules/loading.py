"""Functions for loaders: batches from samples, workers, and pinned memory."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.seed import pl_worker_init_function
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, default_collate

from ..datasets.chips.stored_chips import CropPlace
from ..errors import ConfigError
from ..readers.block_cache import set_block_cache
from ..samplers import UnrepeatedSampler
from ..targets import ignore_value


def collate(samples: Iterable[Mapping[Any, Any]], without: Collection[str] = ()) -> dict[Any, Any]:
    """Combine samples to a batch as TorchGeo's `stack_samples`: stacked tensors, and lists of other values.

    In a loader process, tensors are stacked in shared memory, which saves a copy.

    Args:
        samples: The samples.
        without: Keys to omit.
    """
    samples = list(samples)
    columns = {key: [sample[key] for sample in samples] for key in samples[0] if key not in without}
    return {
        key: default_collate(values) if isinstance(values[0], Tensor) else values
        for key, values in columns.items()
    }


class RandomCrops(Dataset[dict[str, Any]]):
    """Crops of training chips, by `CropPlace`; see `ChipDataset.crop`.

    Args:
        chips: A dataset of chips, repeated any number of times.
        side: Side of a crop in pixels; ``None`` for whole chips.
    """

    def __init__(self, chips: ConcatDataset[Any], side: int | None) -> None:
        self.chips = chips
        self.side = side

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, place: CropPlace) -> dict[str, Any]:
        dataset: Any = self.chips.datasets[0]
        crop: dict[str, Any] = dataset.crop(place._replace(chip=place.chip % len(dataset)), self.side)
        return crop


def collate_chips(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Combine chips to a batch; chips of unequal sizes are padded at their bottom and right to the largest size.

    ``valid`` is omitted if no sample has it. Padding is not labelled (255, or NaN for values) and not valid. A padded
    batch has the entry ``size``, the height and width of each chip, which `ChipAugmentation` needs to crop inside the
    chips.
    """
    if any("valid" in sample for sample in samples):
        samples = [
            sample
            if "valid" in sample
            else {**sample, "valid": torch.ones_like(sample["image"], dtype=torch.bool)}
            for sample in samples
        ]
    sizes = [tuple(sample["image"].shape[-2:]) for sample in samples]
    if len({*sizes}) == 1:
        batch: dict[str, Any] = default_collate(list(samples))
        return batch
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    padded = []
    for sample, size in zip(samples, sizes, strict=True):
        padding = (0, width - size[1], 0, height - size[0])
        padded.append(
            {
                key: F.pad(value, padding, value=_padding(key, value))
                if isinstance(value, Tensor) and tuple(value.shape[-2:]) == size
                else value
                for key, value in sample.items()
            }
        )
    return default_collate(padded) | {"size": sizes}


def _padding(key: str, value: Tensor) -> float:
    return ignore_value(value) if key == "mask" else 0


collate_training = partial(collate, without=("valid",))
"""`collate` without ``valid``, which only figures need; training ignores pixels without a label."""


def init_reading_worker(worker_id: int, megabytes: int | None, rank: int) -> None:
    """A ``worker_init_fn`` for loaders that read scenes.

    Limits GDAL's block cache, and seeds the random generators after ``seed_everything(workers=True)``: Lightning adds
    its own ``worker_init_fn`` only to loaders without one.

    Args:
        worker_id: Number of the worker.
        megabytes: Limit of the block cache, see `limit_block_cache`; ``None`` does not change it.
        rank: Rank of the training process.
    """
    if megabytes is not None:
        set_block_cache(megabytes)
    if int(os.environ.get("PL_SEED_WORKERS", "0")):
        pl_worker_init_function(worker_id, rank)


def pinned(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Let a loader return batches in pinned memory if there is a GPU."""
    loader.pin_memory = torch.cuda.is_available()
    return loader


def for_scoring(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Give a loader its own random generator, so that scoring does not change the training.

    Raises:
        ConfigError: A process has no samples. Lightning needs the same logged metrics from all processes.
    """
    sampler: Any = loader.sampler
    if isinstance(sampler, UnrepeatedSampler) and sampler.count < sampler.num_replicas:
        raise ConfigError(
            f"devices: {sampler.num_replicas} processes share {sampler.count} samples for validation or test; use at "
            f"most {sampler.count} devices, or train without validation (limit_val_batches: 0)"
        )
    loader.generator = torch.Generator()
    return loader


def pinned_tensor(tensor: Tensor) -> Tensor:
    """A tensor in pinned memory if there is a GPU."""
    return tensor.pin_memory() if _has_gpu() else tensor


@cache
def _has_gpu() -> bool:
    """Whether there is a GPU; torch asks the driver in each call, which takes half a millisecond."""
    return torch.cuda.is_available()
