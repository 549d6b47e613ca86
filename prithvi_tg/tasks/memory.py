"""BatchSplitter: split batches that do not fit into the memory of a device."""

from collections.abc import Callable, Mapping

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor


class BatchSplitter:
    """Runs a model on a batch, in parts if the whole batch does not fit into the memory of the device."""

    def __init__(self) -> None:
        self._limit: int | None = None  # number of samples that fit

    def __call__(
        self, model: Callable[..., Tensor], image: Tensor, coordinates: Mapping[str, Tensor]
    ) -> Tensor:
        """Outputs (B, ...) for images (B, ...). After an out-of-memory error, later batches are split at once.

        Args:
            model: Called with images and, by name, coordinates.
            image: Images (B, ...).
            coordinates: Further tensors (B, ...).

        Raises:
            torch.OutOfMemoryError: One sample does not fit.
        """
        while True:
            size = min(self._limit or len(image), len(image))
            try:
                return self._in_parts(model, image, coordinates, size)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            torch.cuda.empty_cache()
            self._limit = size // 2
            rank_zero_warn(
                f"batch_size: {size} windows do not fit into the memory of the device; continuing with {self._limit}"
            )

    @staticmethod
    def _in_parts(
        model: Callable[..., Tensor], image: Tensor, coordinates: Mapping[str, Tensor], size: int
    ) -> Tensor:
        parts = [
            model(image[k : k + size], **{key: value[k : k + size] for key, value in coordinates.items()})
            for k in range(0, len(image), size)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
