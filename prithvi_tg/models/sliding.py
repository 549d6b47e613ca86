"""Sliding-window inference for images in memory: the mean of the logits of overlapping windows."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tiling import window_starts


def slide_inference(
    model: Callable[..., Tensor],
    image: Tensor,
    window: int,
    stride: int,
    *,
    batch_size: int = 4,
    coordinates: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Compute the logits of an image of any size.

    `window_starts` places the windows. An image smaller than a window is padded at its right and bottom with zeros
    (the band mean, after normalisation), and the logits are cropped.

    Args:
        model: Returns logits (B, K, window, window) for images (B, T, C, window, window).
        image: (B, T, C, H, W) or (B, C, H, W), normalised.
        window: Size of a window in pixels, a multiple of the patch.
        stride: Distance between neighbouring windows in pixels.
        batch_size: Number of windows per call of the model.
        coordinates: Further arguments of the model with one row per image, such as ``timestamps``.

    Returns:
        (B, K, H, W), float32 for any precision of the model.
    """
    height, width = image.shape[-2:]
    image = F.pad(image, (0, max(0, window - width), 0, max(0, window - height)))
    rows = window_starts(image.shape[-2], window, stride)
    columns = window_starts(image.shape[-1], window, stride)
    places = [(b, row, column) for b in range(len(image)) for row in rows for column in columns]
    total: Tensor | None = None
    count = image.new_zeros(image.shape[-2:])
    for row in rows:
        for column in columns:
            count[row : row + window, column : column + window] += 1
    for first in range(0, len(places), batch_size):
        group = places[first : first + batch_size]
        windows = torch.stack([image[b, ..., r : r + window, c : c + window] for b, r, c in group])
        images = [b for b, _, _ in group]
        logits = model(windows, **{key: value[images] for key, value in (coordinates or {}).items()}).float()
        if total is None:
            total = logits.new_zeros(len(image), logits.shape[1], *image.shape[-2:])
        for (b, r, c), values in zip(group, logits, strict=True):
            total[b, :, r : r + window, c : c + window] += values
    assert total is not None
    return (total / count)[..., :height, :width]
