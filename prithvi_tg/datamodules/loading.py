"""How batches travel to the device."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader


def pinned(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The loader, with batches in memory from which a GPU fetches them while it computes, if there is one."""
    loader.pin_memory = torch.cuda.is_available()
    return loader


def pinned_tensor(tensor: Tensor) -> Tensor:
    """The same of one tensor."""
    return tensor.pin_memory() if torch.cuda.is_available() else tensor
