"""Batches that do not fit into the memory of a device."""

from collections.abc import Callable, Mapping

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor


class BatchSplitter:
    """Runs a model on a batch, in parts where the memory of the device does not hold all of it."""

    def __init__(self) -> None:
        self._most: int | None = None  # samples that fit

    def __call__(
        self, model: Callable[..., Tensor], image: Tensor, coordinates: Mapping[str, Tensor]
    ) -> Tensor:
        """Outputs (B, ...) for images (B, ...); what needed too much memory once is not tried again.

        Args:
            model: Takes an image and coordinates by name.
            image: The batch.
            coordinates: Further tensors (B, ...).

        Raises:
            torch.OutOfMemoryError: One sample does not fit.
        """
        while True:
            most = min(self._most or len(image), len(image))
            try:
                return self._in_parts(model, image, coordinates, most)
            except torch.OutOfMemoryError:
                if most == 1:
                    raise
            torch.cuda.empty_cache()
            self._most = most // 2
            rank_zero_warn(
                f"batch_size: {most} windows do not fit into the memory of the device; continuing with {self._most}"
            )

    @staticmethod
    def _in_parts(
        model: Callable[..., Tensor], image: Tensor, coordinates: Mapping[str, Tensor], most: int
    ) -> Tensor:
        parts = [
            model(image[k : k + most], **{key: value[k : k + most] for key, value in coordinates.items()})
            for k in range(0, len(image), most)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
