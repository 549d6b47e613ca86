"""HostCopy: asynchronous copies from the device to main memory."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

CPU = torch.device("cpu")


class HostCopy:
    """Starts an asynchronous copy of a tensor to main memory; pinned memory for a CUDA tensor.

    Args:
        values: A tensor on any device; a CPU tensor is not copied.
    """

    def __init__(self, values: Tensor) -> None:
        self._values, self._copied = values, None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(values.device))

    def numpy(self) -> NDArray[Any]:
        """Wait for the copy, and return the values."""
        if self._copied is not None:
            self._copied.synchronize()
        array: NDArray[Any] = self._values.cpu().numpy()
        return array
