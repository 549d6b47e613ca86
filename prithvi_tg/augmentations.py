"""Kornia pipelines on batches of (B, T, C, H, W) images with their masks."""

from collections.abc import Sequence
from typing import Any

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from kornia.augmentation.base import _AugmentationBase
from torch import Tensor, nn

from .errors import ConfigError
from .spec import IGNORE_INDEX

Batch = dict[str, Any]


class ChipAugmentation(nn.Module):
    """Normalise a batch, and draw the same random geometry for every frame, the mask and the valid mask.

    Kornia sees frames and bands as channels, (B, T*C, H, W), so that all of them share one draw; nearest
    resampling keeps crops, flips and quarter turns exact. Images smaller than the crop are padded with the
    band mean, unlabelled.

    Args:
        mean: Mean of each of the ``T * C`` channels, time-major.
        std: Standard deviation of each channel.
        crop_size: Side of a random crop in pixels; ``None`` leaves the size alone.
        flips_and_turns: Flip and turn by multiples of 90 degrees at random.
        extra: Further Kornia augmentations of normalised images, applied last.
    """

    def __init__(
        self,
        mean: Sequence[float] | Tensor,
        std: Sequence[float] | Tensor,
        crop_size: int | None = None,
        flips_and_turns: bool = False,
        extra: Sequence[_AugmentationBase] = (),
    ) -> None:
        super().__init__()
        self.normalize = K.Normalize(torch.as_tensor(mean), torch.as_tensor(std))
        self.crop_size = crop_size
        geometry: list[_AugmentationBase] = []
        if crop_size is not None:
            geometry.append(K.RandomCrop((crop_size, crop_size), resample="nearest"))
        if flips_and_turns:
            geometry += [
                K.RandomHorizontalFlip(),
                K.RandomVerticalFlip(),
                K.RandomRotation90((0, 3), p=1.0, resample="nearest"),
            ]
        steps = [*geometry, *extra]
        self.augment = K.AugmentationSequential(*steps, data_keys=["input", "mask"]) if steps else None

    def forward(self, batch: Batch) -> Batch:
        """Normalise and augment.

        Args:
            batch: ``image`` (B, T, C, H, W) or (B, C, H, W); ``mask`` (B, H, W) and ``valid`` (as the image)
                may be absent. Other entries are left alone.

        Returns:
            The batch with these entries replaced, in their layout and type.
        """
        image = batch["image"]
        lead = image.shape[:-2]
        channels = image.flatten(1, -3)
        expected = self.normalize.flags["mean"].numel()
        if channels.shape[1] != expected:
            raise ConfigError(
                f"image: batch of shape {tuple(image.shape)} has {channels.shape[1]} channels "
                f"(frames x bands), the statistics have {expected}"
            )
        channels = self.normalize(channels)
        if self.augment is None:
            return batch | {"image": channels.unflatten(1, lead[1:])}
        labels = [batch["mask"].unsqueeze(1).to(channels)] if "mask" in batch else []
        valid = [batch["valid"].flatten(1, -3).to(channels)] if "valid" in batch else []
        channels, labels, valid = self._pad(channels, labels, valid)
        layers = torch.cat([*labels, *valid, channels[:, :0]], dim=1)
        channels, layers = self.augment(channels, layers)
        augmented = {"image": channels.unflatten(1, lead[1:])}
        if labels:
            augmented["mask"] = layers[:, 0].to(batch["mask"].dtype)
        if valid:
            augmented["valid"] = layers[:, len(labels) :].unflatten(1, lead[1:]).to(batch["valid"].dtype)
        return batch | augmented

    def _pad(
        self, channels: Tensor, labels: list[Tensor], valid: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        height, width = channels.shape[-2:]
        side = self.crop_size or 0
        padding = (0, max(0, side - width), 0, max(0, side - height))
        if not any(padding):
            return channels, labels, valid
        return (
            F.pad(channels, padding),
            [F.pad(mask, padding, value=IGNORE_INDEX) for mask in labels],
            [F.pad(mask, padding) for mask in valid],
        )
