"""How samples become batches and travel to the device."""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate


def collate(samples: Iterable[Mapping[Any, Any]], without: Collection[str] = ()) -> dict[Any, Any]:
    """A batch as TorchGeo's `stack_samples` makes it: tensors stacked, all else in lists.

    In a process that loads, tensors are stacked in memory that the training process sees, which saves a copy.

    Args:
        samples: The samples.
        without: What to leave out.
    """
    samples = list(samples)
    columns = {key: [sample[key] for sample in samples] for key in samples[0] if key not in without}
    return {
        key: default_collate(values) if isinstance(values[0], Tensor) else values
        for key, values in columns.items()
    }


collate_training = partial(collate, without=("valid",))
"""The same without the masks that only pictures need; labels say already what is learnt from."""


def pinned(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The loader, with batches in memory from which a GPU fetches them while it computes, if there is one."""
    loader.pin_memory = torch.cuda.is_available()
    return loader


def undisturbing(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The loader, drawing nothing from the generator that training draws from, so that scoring changes no run."""
    loader.generator = torch.Generator()
    return loader


def pinned_tensor(tensor: Tensor) -> Tensor:
    """The same of one tensor."""
    return tensor.pin_memory() if torch.cuda.is_available() else tensor
