"""ResumableLoader: resumes within an epoch, with the states of the random generators."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from ..errors import ConfigError
from ..samplers import ResumableSampler


class ResumableLoader(DataLoader[Any]):
    """A loader that resumes within an epoch, from the position and random states in a checkpoint of Lightning.

    The order of its sampler, a `ResumableSampler`, depends only on seed and epoch. Samples before the position are not
    read again. With several training processes, the random states of all processes are saved; they are restored if the
    number of processes is the same. Random states of loader processes are not saved; the datasets of this package use
    none.

    Raises:
        ConfigError: An epoch has no batch.
    """

    _num_batches = 0  # of this epoch so far
    _state: dict[str, Any] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if len(self) == 0:
            sampler: Any = self.sampler
            count, processes = len(sampler), getattr(sampler, "num_replicas", 1)
            share = f" for each of {processes} processes" if processes > 1 else ""
            raise ConfigError(
                f"batch_size: {self.batch_size} is larger than the number of samples in an epoch{share}, {count}, "
                f"and partial batches are dropped; lower it{' or use fewer devices' if share else ''}"
            )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator starts with the request for the first batch, after Lightning has set the epoch.
        state, self._state = self._state, None
        sampler: Any = self.sampler
        resumable = isinstance(sampler, ResumableSampler)
        resumes = state is not None and state["epoch"] == self._epoch and resumable
        self._num_batches = state["batches"] if state is not None and resumes else 0
        if resumable:
            sampler.skip_first(self._num_batches * (self.batch_size or 1))
        # The seeds of loader processes do not come from the generator of the training, as some epochs start none.
        seed = getattr(sampler, "seed", 0) * 1_000_003 + self._epoch
        seed += getattr(sampler, "rank", 0) * 1_000_000_007  # a different one for each process
        self.generator = torch.Generator().manual_seed(seed)
        batches = super().__iter__()
        if state is not None:
            _restore(state["random"])
        for batch in batches:
            self._num_batches += 1
            yield batch

    @property
    def _epoch(self) -> int:
        return int(getattr(self.sampler, "epoch", 0))

    def state_dict(self) -> dict[str, Any]:
        """The epoch, the number of its batches so far, and the random states; must be called in all processes."""
        states: list[Any] = [random_state()]
        if torch.distributed.is_initialized():
            states *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, random_state())
        return {"epoch": self._epoch, "batches": self._num_batches, "random": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from this state in the next iteration."""
        self._state = state


def random_state() -> dict[str, Any]:
    """State of the random generators of torch (also Kornia's), CUDA, NumPy and Python, as plain values and tensors."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, [int(key) for key in keys], *rest),
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore a state from `random_state`."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def _restore(states: list[dict[str, Any]]) -> None:
    distributed = torch.distributed.is_initialized()
    count = torch.distributed.get_world_size() if distributed else 1
    if len(states) != count:
        rank_zero_warn(
            f"ckpt_path: written by {len(states)} processes, resumed with {count}; the rest of the run will "
            "differ from an uninterrupted run"
        )
        return
    restore_random_state(states[torch.distributed.get_rank() if distributed else 0])
