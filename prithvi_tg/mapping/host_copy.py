"""Copies from the device to main memory that nothing waits for until they are needed."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

CPU = torch.device("cpu")


class HostCopy:
    """A tensor on its way to main memory, in pinned memory from CUDA.

    Args:
        values: A tensor on any device; what is in main memory already is not copied.
    """

    def __init__(self, values: Tensor) -> None:
        self._values, self._copied = values, None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(values.device))

    def numpy(self) -> NDArray[Any]:
        """The values, once they have arrived."""
        if self._copied is not None:
            self._copied.synchronize()
        array: NDArray[Any] = self._values.cpu().numpy()
        return array
