"""StoredChip: a chip with the stored values of its files, and crops of chips."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...readers.raster import legacy_values
from ...readers.scaling import Scaling, apply_scaling
from ...spec import InputSpec
from ...targets import ignore_value


class CropPlace(NamedTuple):
    """Position of a crop in a chip of any size.

    Attributes:
        chip: Number of the chip.
        down: Rows above the crop, as a fraction of all rows outside the crop, in 0..1, 1 excluded.
        across: Columns left of the crop, as a fraction of all columns outside the crop.
    """

    chip: int
    down: float = 0.0
    across: float = 0.0

    def window(self, height: int, width: int, side: int | None) -> tuple[slice, slice]:
        """Rows and columns of a crop of `side` pixels; all positions have the same probability."""
        if side is None:
            return slice(0, height), slice(0, width)
        top = int(self.down * (max(0, height - side) + 1))
        left = int(self.across * (max(0, width - side) + 1))
        return slice(top, min(top + side, height)), slice(left, min(left + side, width))


@dataclass(frozen=True)
class StoredChip:
    """A chip with the stored values of its files.

    Attributes:
        values: Values (T*C, H, W) in their stored type.
        valid: One bit for each value, set for data, uint8 (T*C, H, ceil(W / 8)); ``None`` if all values are data.
        label: Classes uint8 (H, W), 255 = not labelled; or values float32 (H, W) or (V, H, W), NaN = not labelled;
            ``None`` if the label is a class of the whole chip.
        scalings: Scaling of each channel, see `apply_scaling`.
        has_data: Whether the whole chip has any data.
        meaningless: Number of values of the whole chip that are not finite or beyond 1e30.
        metadata: Dates and place, by name.
    """

    values: NDArray[Any]
    valid: NDArray[np.uint8] | None
    label: NDArray[Any] | None
    scalings: tuple[Scaling, ...]
    has_data: bool = True
    meaningless: int = 0
    metadata: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def crop(self, place: CropPlace, side: int | None) -> "StoredChip":
        """The part of the chip inside a crop, without padding."""
        height, width = self.values.shape[-2:]
        rows, columns = place.window(height, width, side)
        valid = None
        if self.valid is not None:
            part = _unpacked(self.valid[:, rows], width)[..., columns]
            valid = None if part.all() else packed(part)
        label = None if self.label is None else self.label[..., rows, columns]
        return replace(self, values=self.values[:, rows, columns], valid=valid, label=label)

    def in_unit(
        self, spec: InputSpec, mean: NDArray[np.float32], legacy: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Values (T*C, H, W) in the unit of the statistics, and a mask of data; ``None`` if all values are data.

        Args:
            spec: The input of the model.
            mean: Fill values (T*C,) for pixels without data.
            legacy: Replace -9999 as in hls-foundation-os.
        """
        with np.errstate(over="ignore"):  # values beyond the range of float32 are not valid
            values = self.values.astype(np.float32, order="C")
        if legacy:
            values = legacy_values(values, spec)
        apply_scaling(values, self.scalings)
        if self.valid is None:
            return values, None
        valid = _unpacked(self.valid, values.shape[-1])
        for band, has_data, fill in zip(values, valid, mean, strict=True):
            np.copyto(band, fill, where=~has_data)
        return values, valid


def packed(valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack a mask (..., W) into one bit per value, (..., ceil(W / 8))."""
    return np.packbits(valid, axis=-1)


def _unpacked(bits: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    return np.unpackbits(bits, axis=-1, count=width).view(bool)


def crop_sample(
    sample: dict[str, Any],
    place: CropPlace,
    side: int | None,
    mean: NDArray[np.float32],
    cropped: bool = False,
) -> dict[str, Any]:
    """Return a square crop of a sample; see `ChipDataset.crop`.

    Args:
        sample: A sample of a `ChipDataset`.
        place: Position of the crop in the chip.
        side: Side of the crop in pixels; ``None`` for the whole sample.
        mean: Fill values (T*C,) of the image in the padding.
        cropped: The sample is already cropped, and only needs padding.
    """
    image = sample["image"]
    height, width = image.shape[-2:]
    out = dict(sample)
    if side is not None and not cropped:
        rows, columns = place.window(height, width, side)
        for key, value in sample.items():
            if _is_map(value, height, width):
                out[key] = value[..., rows, columns].contiguous()
        image = out["image"]
    if "valid" in out and bool(out["valid"].all()):
        del out["valid"]
    height, width = image.shape[-2:]
    if side is None or (height, width) == (side, side):
        return out
    out.setdefault("valid", torch.ones(image.shape, dtype=torch.bool))
    means = torch.from_numpy(mean).reshape(*image.shape[:-2], 1, 1)
    for key, value in out.items():
        if _is_map(value, height, width):
            fill: Any = {"image": means, "valid": False}.get(key, ignore_value(value))
            padded = value.new_empty((*value.shape[:-2], side, side))
            padded[...] = fill
            padded[..., :height, :width] = value
            out[key] = padded
    return out


def _is_map(value: Any, height: int, width: int) -> bool:
    return isinstance(value, Tensor) and value.ndim >= 2 and tuple(value.shape[-2:]) == (height, width)
