"""Default batch size and number of reading threads of a machine."""

import os
from collections.abc import Sequence

import torch

from ..choices import Auto as Auto
from ..readers.block_cache import memory_bytes
from ..tiling import WindowGrid

#: Pixels of a batch on a GPU: 64 windows of 224. Larger batches are not faster on an H100.
_GPU_PIXELS = 64 * 224**2
_CPU_WINDOWS = 4
_MOST_THREADS = 12
#: Largest number of rows that a thread reads at a time, for files with blocks of usual size.
_ROWS = 512
#: Fraction of the memory for rows that are read ahead.
_SHARE = 8


def choose_batch_size(device: torch.device, window: int) -> int:
    """Number of windows in a batch that keeps the device busy."""
    return max(1, min(256, _GPU_PIXELS // window**2)) if device.type == "cuda" else _CPU_WINDOWS


def choose_num_workers(
    device: torch.device, plans: Sequence[WindowGrid], channels: int, processes: int = 1
) -> int:
    """Number of threads that read ahead: one for a model on the CPU, which needs the cores; else limited by memory.

    Args:
        device: Device of the model.
        plans: Windows of each scene.
        channels: Number of channels of a scene, of at most four bytes each.
        processes: Number of mapping processes on this machine.
    """
    if device.type != "cuda" or not plans:
        return 1
    share = memory_bytes() // _SHARE // processes
    chunk = 4 * channels * _ROWS * max(plan.columns.covered[1] - plan.columns.covered[0] for plan in plans)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_THREADS, cores // processes - 1, share // chunk))
