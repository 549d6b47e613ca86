"""Kornia pipelines for batches of images (B, T, C, H, W) and masks."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from kornia.constants import DataKey, Resample
from torch import Tensor, nn

from .deprecated import accepts_old_arguments
from .errors import ConfigError, counted
from .readers.raster import LARGEST_VALUE
from .spec import reflectance_unit
from .targets import IGNORE_INDEX, ValueTarget, ignore_value

Batch = dict[str, Any]

_PHOTOGRAPHS = "is made for RGB photographs"
_MIXING = "mixes pixels of several places, whose labels, dates and locations differ"
_UNKNOWN = "is not known to keep labels right"

#: Kornia's augmentations that are defined on values of 0..1; most of them clamp to this range.
ON_REFLECTANCE = frozenset({
    "RandomAutoContrast", "RandomBrightness", "RandomClahe", "RandomContrast", "RandomEqualize", "RandomGamma",
    "RandomGaussianIllumination", "RandomInvert", "RandomLinearCornerIllumination", "RandomLinearIllumination",
    "RandomPlasmaBrightness", "RandomPlasmaContrast", "RandomPlasmaShadow", "RandomPosterize", "RandomSharpness",
    "RandomSolarize",
})  # fmt: skip
#: Kornia's augmentations that take values of any range, and the bases of augmentations of your own.
ON_NORMALISED = frozenset({
    "CenterCrop", "LongestMaxSize", "PadTo", "RandomAffine", "RandomBoxBlur", "RandomChannelDropout", "RandomCrop",
    "RandomElasticTransform", "RandomErasing", "RandomGaussianBlur", "RandomGaussianNoise", "RandomHorizontalFlip",
    "RandomMedianBlur", "RandomMotionBlur", "RandomPerspective", "RandomResizedCrop", "RandomRotation",
    "RandomRotation90", "RandomShear", "RandomTranslate", "RandomVerticalFlip", "Resize", "SmallestMaxSize",
    "GeometricAugmentationBase2D", "IntensityAugmentationBase2D", "RigidAffineAugmentationBase2D",
})  # fmt: skip
#: Kornia's augmentations that cannot be right for chips, and why.
REFUSED = {
    **dict.fromkeys(
        (
            "ColorJiggle", "ColorJitter", "RandomDissolving", "RandomGrayscale", "RandomHue", "RandomJPEG",
            "RandomPlanckianJitter", "RandomRGBShift", "RandomRain", "RandomSaltAndPepperNoise",
            "RandomSaturation", "RandomSnow",
        ),
        _PHOTOGRAPHS,
    ),
    "RandomChannelShuffle": "changes the order of the bands",
    "Normalize": "normalises images that are normalised already",
    "Denormalize": "undoes the normalisation that the model needs",
    "RandomFisheye": "does not move masks",
    "RandomThinPlateSpline": "does not move masks",
    "MixAugmentationBaseV2": _MIXING,
    "AugmentationBase3D": "takes volumes, not chips",
}  # fmt: skip


class RandomQuarterTurn(K.RandomRotation90):
    """Rotate square images by a random multiple of 90 degrees, others by 0 or 180; pixel values do not change.

    Kornia's own class resamples, and leaves empty corners in images that are not square.
    """

    def __init__(self) -> None:
        super().__init__((0, 3), resample="nearest", p=1.0)

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw the number of rotations by 90 degrees; an even number for images that are not square."""
        params: dict[str, Tensor] = super().generate_parameters(batch_shape)
        if batch_shape[-2] != batch_shape[-1]:
            params["times"] = 2.0 * (params["times"] >= 1.5)
        return params

    def apply_transform(
        self,
        input: Tensor,  # Kornia's name
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Rotate images or masks (B, C, H, W)."""
        times = params["times"].round().to(input.device, non_blocking=True)[:, None, None, None]
        turned = torch.where(times >= 2, input.flip(-2, -1), input)
        if input.shape[-2] != input.shape[-1]:
            return turned
        return torch.where(times % 2 == 1, turned.rot90(1, (-2, -1)), turned)


class Normalization(nn.Module):
    """Normalise the image of a batch, (B, T, C, H, W) or (B, T*C, H, W); other entries are unchanged.

    For windows of scenes: their reader has filled pixels without data with the band mean.

    Args:
        mean: Mean of each of the ``T * C`` channels, time-major.
        std: Standard deviation of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean), persistent=False)
        self.register_buffer("std", torch.as_tensor(std), persistent=False)

    def forward(self, batch: Batch) -> Batch:
        """Replace ``image``."""
        image = batch["image"]
        shape = (*image.shape[1:-2], 1, 1)
        # A data module is not an nn.Module, so its transforms are not moved to the device.
        mean, std = (value.to(image.device).reshape(shape) for value in (self.mean, self.std))
        return batch | {"image": (image - mean).div_(std)}


class ChipAugmentation(nn.Module):
    """Normalise a batch, and draw the same random geometry for every frame, the mask and the valid mask.

    Kornia gets frames and bands as channels, (B, T*C, H, W), so that all of them share one draw; crops, flips and
    quarter turns are exact. Filled pixels (corners of a rotation, erased boxes, padding) have no data: label 255, or
    NaN for labels that are values, ``valid`` false, the band mean in the image. Augmentations never create labels.

    Values that are not finite, or larger than `LARGEST_VALUE`, count as pixels without data too.

    Augmentations that are defined on values of 0..1, such as ``RandomBrightness`` and ``RandomGamma``, run on
    reflectance in any unit: the image is denormalised for them and normalised again. They change values within 0..1;
    the excess over that range (bright clouds, slightly negative water) is added again afterwards. All others run on
    normalised images. `REFUSED` lists augmentations that are wrong for chips.

    Args:
        mean: Mean of each of the ``T * C`` channels, time-major.
        std: Standard deviation of each channel.
        crop_size: Side of a random crop in pixels; ``None`` for no crop.
        random_flip_rot90: Flip and turn by multiples of 90 degrees at random; images that are not square turn by
            180 degrees.
        extra: Further Kornia augmentations, applied last, in their order.

    Attributes:
        meaningless: Number of values since `reset_meaningless` that were not finite or too large, int64 on the
            device of the batches.

    Raises:
        ConfigError: An augmentation is wrong for chips, or needs reflectance and a channel is none.
    """

    @accepts_old_arguments
    def __init__(
        self,
        mean: Sequence[float] | Tensor,
        std: Sequence[float] | Tensor,
        crop_size: int | None = None,
        random_flip_rot90: bool = False,
        extra: Sequence[K.AugmentationBase2D] = (),
    ) -> None:
        super().__init__()
        mean, std = torch.as_tensor(mean), torch.as_tensor(std)
        self.normalize = K.Normalize(mean, std)
        unit = reflectance_unit(mean.tolist())
        self.to_reflectance = K.Denormalize(mean / unit, std / unit)
        self.from_reflectance = K.Normalize(mean / unit, std / unit)
        self.crop_size = crop_size
        self.extra = list(extra)
        self.meaningless = torch.zeros((), dtype=torch.int64)
        steps: list[K.AugmentationBase2D] = []
        if crop_size is not None:
            steps.append(K.RandomCrop((crop_size, crop_size), resample="nearest"))
        if random_flip_rot90:
            steps += [K.RandomHorizontalFlip(), K.RandomVerticalFlip(), RandomQuarterTurn()]
        steps += self.extra
        self.stages = nn.ModuleList()
        self.on_reflectance: list[bool] = []
        for on_reflectance, stage in groupby(steps, runs_on_reflectance):
            data_keys = ["input"] if on_reflectance else ["input", "mask"]
            nearest = {DataKey.MASK: {"resample": Resample.NEAREST}}
            self.stages.append(K.AugmentationSequential(*stage, data_keys=data_keys, extra_args=nearest))
            self.on_reflectance.append(on_reflectance)
        outside = [value for value in mean.flatten().tolist() if not 0 <= value / unit <= 1]
        if any(self.on_reflectance) and outside:
            names = ", ".join(type(step).__name__ for step in self.extra if runs_on_reflectance(step))
            raise ConfigError(
                f"augmentations: {names} needs reflectance, but a band has the mean {outside[0]:g}; remove it"
            )

    @property
    def augment(self) -> nn.Module | None:
        """Kornia's first pipeline, with crops, flips and rotations; ``None`` without augmentation."""
        return self.stages[0] if self.stages else None

    def reset_meaningless(self) -> None:
        """Start a new count."""
        self.meaningless = torch.zeros_like(self.meaningless)

    def forward(self, batch: Batch) -> Batch:
        """Normalise and augment.

        Args:
            batch: ``image`` (B, T, C, H, W) or (B, C, H, W); ``mask`` (B, H, W) and ``valid`` (as the image)
                may be absent. ``size``: height and width of each chip, where chips of unequal sizes are padded at
                their bottom and right to one size. ``meaningless`` (B, 1): values that were found when files were
                read. Other entries are unchanged.

        Returns:
            The batch with these entries replaced, in their layout and type, and without ``size`` and
            ``meaningless``.

        Raises:
            ConfigError: The numbers of channels of image and statistics differ, chips of unequal sizes are not
                cropped, or an augmentation fails or changes the number of chips or channels.
        """
        image = batch["image"]
        lead = image.shape[:-2]
        # Labels and means would not be exact in half precision.
        channels = image.flatten(1, -3).to(torch.promote_types(image.dtype, torch.float32))
        if self.crop_size is None and (sizes := batch.get("size")):
            smallest, largest = ("{} x {}".format(*size) for size in (min(sizes), max(sizes)))
            raise ConfigError(
                f"crop_size: null needs chips of one size, but a batch has chips of {smallest} and {largest} pixels; "
                "set crop_size, or batch_size: 1 (eval_batch_size: 1 for validation and test)"
            )
        expected = self.normalize.flags["mean"].numel()
        if channels.shape[1] != expected:
            raise ConfigError(
                f"image: batch of shape {tuple(image.shape)} has {counted(channels.shape[1], 'channel')} "
                f"(frames x bands), the statistics have {expected}"
            )
        meaningful = channels.abs() <= LARGEST_VALUE  # also false for NaN
        self.meaningless = self.meaningless.to(channels.device) + (~meaningful).sum()
        if "meaningless" in batch:
            self.meaningless += batch["meaningless"].sum()
        channels = torch.where(meaningful, self.normalize(channels), 0)
        valid = meaningful & batch["valid"].flatten(1, -3) if "valid" in batch else meaningful
        mask = batch.get("mask")
        if mask is not None:
            mask = _unlabel(mask, ~(meaningful.all(1) | valid.any(1)))
        if self.stages:
            if self.extra or self.crop_size is not None:
                channels, mask, valid = self._augment(channels, mask, valid, batch.get("size"))
            else:
                channels, mask, valid = self._turn(
                    channels, mask, valid if "valid" in batch else valid[:, :0]
                )
        out = {"image": channels.unflatten(1, lead[1:])}
        if image.is_floating_point():
            out["image"] = out["image"].to(image.dtype)
        if mask is not None:
            out["mask"] = mask
        if "valid" in batch:
            out["valid"] = valid.unflatten(1, lead[1:]).to(batch["valid"].dtype)
        return {key: value for key, value in batch.items() if key not in ("size", "meaningless")} | out

    def _turn(
        self, channels: Tensor, mask: Tensor | None, valid: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Run flips and rotations: without fill values, labels need no codes, and no pixel becomes invalid."""
        # Float32 represents classes exactly; values are only moved.
        labels = channels[:, :0]
        if mask is not None:
            labels = mask.to(channels).reshape(len(mask), -1, *mask.shape[-2:])
        channels, layers = self._run_stages(channels, torch.cat([labels, valid.to(channels)], dim=1))
        if mask is not None:
            moved = layers[:, : labels.shape[1]].to(mask.dtype)
            mask = moved.reshape(*mask.shape[:-2], *moved.shape[-2:])
        return channels, mask, layers[:, labels.shape[1] :] > 0.5

    def _augment(
        self, channels: Tensor, mask: Tensor | None, valid: Tensor, sizes: Sequence[tuple[int, int]] | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Run all stages on channels (B, T*C, H, W), mask (B, H, W) and valid (B, T*C, H, W)."""
        codes = encode_mask(mask, channels)
        layers = torch.cat([codes, valid.to(channels)], dim=1)
        if sizes is None:
            channels, layers = self._pad(channels, layers)
        else:
            channels, layers = self._crop_each(channels, layers, sizes)
        before = channels.shape[:2]
        try:
            channels, layers = self._run_stages(channels, layers)
        except (ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"augmentations: Kornia rejected a batch ({str(error).splitlines()[0]})"
            ) from error
        if channels.shape[:2] != before:
            raise ConfigError(
                f"augmentations: must keep the number of chips and channels, {tuple(before)}, but return "
                f"{tuple(channels.shape[:2])}"
            )
        labels, labelled = decode_mask(layers[:, : codes.shape[1]], mask)
        valid = (layers[:, codes.shape[1] :] > 0.5) & labelled[:, None]
        # Crops, flips and rotations keep the mean of pixels without data; other augmentations may change them.
        channels = torch.where(valid if self.extra else labelled[:, None], channels, 0)
        return channels, labels, valid

    def _run_stages(self, channels: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(channels.device.type, enabled=False):
            for stage, on_reflectance in zip(self.stages, self.on_reflectance, strict=True):
                if on_reflectance:
                    channels = self._on_reflectance(stage, channels)
                else:
                    channels, layers = stage(channels, layers)
        return channels, layers

    def _on_reflectance(self, stage: nn.Module, channels: Tensor) -> Tensor:
        reflectance = self.to_reflectance(channels)
        inside = reflectance.clamp(0, 1)
        augmented: Tensor = self.from_reflectance(stage(inside) + (reflectance - inside))
        return augmented

    def _pad(self, channels: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        height, width = channels.shape[-2:]
        side = self.crop_size or 0
        padding = (0, max(0, side - width), 0, max(0, side - height))
        if not any(padding):
            return channels, layers
        return F.pad(channels, padding), F.pad(layers, padding)

    def _crop_each(
        self, channels: Tensor, layers: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Crop each chip at random inside its size; Kornia would also crop in the padding of small chips."""
        assert self.crop_size is not None
        side = self.crop_size
        crops = []
        for number, (height, width) in enumerate(sizes):
            top = int(torch.randint(max(0, height - side) + 1, ()))
            left = int(torch.randint(max(0, width - side) + 1, ()))
            window = (slice(None), slice(top, min(top + side, height)), slice(left, min(left + side, width)))
            crops.append(self._pad(channels[number][window], layers[number][window]))
        images, masks = zip(*crops, strict=True)
        return torch.stack(images), torch.stack(masks)


def runs_on_reflectance(step: object) -> bool:
    """Whether an augmentation runs on reflectance, or on normalised images.

    Raises:
        ConfigError: It cannot be right for chips.
    """
    reason = "is not an augmentation of kornia.augmentation"
    if isinstance(step, K.AugmentationBase2D | K.AugmentationBase3D | K.MixAugmentationBaseV2):
        # A user's class is treated like its nearest base class of Kornia.
        kornia = [cls.__name__ for cls in type(step).__mro__ if cls.__module__.startswith("kornia.")]
        if kornia[0] in ON_REFLECTANCE:
            return True
        if kornia[0] in ON_NORMALISED:
            return False
        reason = next((REFUSED[cls] for cls in kornia if cls in REFUSED), _UNKNOWN)
    raise ConfigError(f"augmentations: {type(step).__name__} {reason}; remove it")


def _unlabel(mask: Tensor, where: Tensor) -> Tensor:
    """Remove the labels of some pixels (B, H, W) from a mask."""
    return mask.masked_fill(where if mask.ndim == 3 else where[:, None], ignore_value(mask))


def encode_mask(mask: Tensor | None, like: Tensor) -> Tensor:
    """Layers (B, L, H, W) that Kornia transforms instead of a mask, so that no fill value can become a label.

    Args:
        mask: Classes (B, H, W), values (B, H, W) or (B, V, H, W), or ``None``.
        like: The image (B, T*C, H, W), for device and type.
    """
    if mask is not None and not mask.is_floating_point():
        return encode_labels(mask.to(like))
    inside = encode_labels(torch.ones_like(like[:, 0]))
    if mask is None:
        return inside
    values = mask.to(like).reshape(len(mask), -1, *mask.shape[-2:])
    return torch.cat([inside, ValueTarget.is_labelled(values).to(like), values.nan_to_num()], dim=1)


def decode_mask(layers: Tensor, mask: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """The mask of transformed layers of `encode_mask`, and the pixels (B, H, W) that are not filled."""
    labels, inside = decode_labels(layers[:, :2])
    if mask is None:
        return None, inside
    if not mask.is_floating_point():
        return labels.to(mask.dtype), inside
    known, values = layers[:, 2:].chunk(2, dim=1)
    values = values.where((known > 0.5) & inside[:, None], float("nan"))
    return (values if mask.ndim == 4 else values[:, 0]).to(mask.dtype), inside


def encode_labels(labels: Tensor) -> Tensor:
    """Codes (B, 2, H, W) of labels (B, H, W), which differ from any fill value or blend of labels.

    The code of label k is (k + 2, (k + 2)^2). A fill is one value v in both channels, and v = v^2 only for 0 and
    1; a blend of different labels has a mean square above the square of its mean.
    """
    codes = labels + 2
    return torch.stack([codes, codes**2], dim=1)


def decode_labels(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B, H, W), 255 for codes (B, 2, H, W) of no label, and a mask of the codes of labels."""
    mean, mean_square = codes.unbind(1)
    code = mean.round()
    # A blend of other labels with this integer as mean has a variance of at least 1.
    labelled = (code >= 2) & ((mean - code).abs() < 0.01) & ((mean_square - mean**2).abs() < 0.5)
    return torch.where(labelled, code - 2, IGNORE_INDEX), labelled
