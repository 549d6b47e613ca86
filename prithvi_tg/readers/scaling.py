"""Scale and offset of stored values, from tags of the file or from the configuration."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from torch import Tensor

from ..errors import ConfigError
from ..spec import InputSpec


class Scaling(NamedTuple):
    """Value in the unit of the statistics = stored value * `scale` + `offset`."""

    scale: float
    offset: float = 0.0


def tagged_scaling(source: DatasetReader, index: int) -> Scaling | None:
    """Scale and offset tags of a band, counted from 1; ``None`` for a band without them."""
    tags = Scaling(source.scales[index - 1], source.offsets[index - 1])
    return None if tags == Scaling(1.0) else tags


def band_scaling(
    source: DatasetReader, index: int, spec: InputSpec, legacy: bool = False, strict: bool = False
) -> Scaling:
    """Scale and offset of a band: the one rule for chips and scenes.

    Tags of the file convert to reflectance 0..1, which is then converted to the unit of the statistics. A band without
    tags has the scale of the configuration.

    Args:
        source: An open raster.
        index: A band, counted from 1.
        spec: Unit of the statistics, and configured scale.
        legacy: The rule of hls-foundation-os: tags are ignored.
        strict: The configured scale is meant for this file, so it must agree with the tags. A scale of 1, the default,
            agrees with any.

    Raises:
        ConfigError: Tags contradict the configured scale.
    """
    tags = None if legacy else tagged_scaling(source, index)
    if tags is None:
        return Scaling(spec.scale)
    scale, offset = tags
    unit = spec.reflectance_unit
    if strict and spec.scale != 1 and not math.isclose(scale * unit, spec.scale, rel_tol=1e-4):
        raise ConfigError(
            f"scale: {spec.scale:g} is configured, but band {index} of {source.name} has the tags scale {scale:g} and "
            f"offset {offset:g}; remove scale from the configuration if the tags are right, or the tags from the files "
            "(gdal_edit.py -unsetscale -unsetoffset) if they are wrong"
        )
    return Scaling(scale * unit, offset * unit)


def apply_scaling(values: NDArray[np.float32] | Tensor, scalings: Sequence[Scaling]) -> None:
    """Convert stored values (C, H, W), float32 in memory or on a device, to the unit of the statistics, in place."""
    for channel, (scale, offset) in zip(values, scalings, strict=True):
        if scale != 1:
            channel *= scale
        if offset:
            channel += offset
