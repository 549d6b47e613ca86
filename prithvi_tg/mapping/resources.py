"""How many windows to compute at a time and how many threads read, by the machine."""

import os
from collections.abc import Sequence
from typing import Literal

import torch

from ..readers.block_cache import memory_bytes
from ..tiling import WindowGrid

Auto = Literal["auto"]

#: Pixels of a batch on a GPU: 64 windows of 224. Larger ones are no faster on an H100.
_GPU_PIXELS = 64 * 224**2
_CPU_WINDOWS = 4
_MOST_THREADS = 12
#: Rows that a thread reads at a time, at most, of files with usual blocks.
_ROWS = 512
#: Part of the memory that rows which are read ahead may take.
_SHARE = 8


def choose_batch_size(device: torch.device, window: int) -> int:
    """Windows in a batch: as many as keep the device busy."""
    return max(1, min(256, _GPU_PIXELS // window**2)) if device.type == "cuda" else _CPU_WINDOWS


def choose_num_workers(
    device: torch.device, plans: Sequence[WindowGrid], channels: int, processes: int = 1
) -> int:
    """Threads that read ahead: one beside a model on the CPU, which needs the cores; else as many as memory allows.

    Args:
        device: Where the model computes.
        plans: The windows of each scene.
        channels: Channels of a scene, of at most four bytes.
        processes: Processes that map on this machine.
    """
    if device.type != "cuda" or not plans:
        return 1
    share = memory_bytes() // _SHARE // processes
    chunk = 4 * channels * _ROWS * max(plan.columns.length for plan in plans)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_THREADS, cores // processes - 1, share // chunk))
