"""Backbones with weights in TorchGeo, as encoders: ``torchgeo/ResNet50_Weights.SENTINEL2_ALL_MOCO``.

The name of the weights selects the architecture and the band names, so that weights for 13 bands can be used with six
of them. The weights are loaded only with ``weights: pretrained``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
import timm
import torchvision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from ...bands import SENSORS
from ...errors import ConfigError
from .base import Encoder, GroupMatcher, PyramidEncoder, Value
from .timm import timm_encoder

_LANDSAT_5_7 = {
    "B1": "BLUE",
    "B2": "GREEN",
    "B3": "RED",
    "B4": "NIR_BROAD",
    "B5": "SWIR_1",
    "B6": "THERMAL_1",
    "B7": "SWIR_2",
    "B8": "PANCHROMATIC",
}

#: Prefix of a member of the weights -> canonical name of each band name of its sensor.
_BAND_NAMES: dict[str, Mapping[str, str]] = {
    "SENTINEL2": SENSORS["sentinel2"],
    "LANDSAT_TM": _LANDSAT_5_7,
    "LANDSAT_ETM": _LANDSAT_5_7,
    "LANDSAT": SENSORS["landsat8"],
    "": {"R": "RED", "G": "GREEN", "B": "BLUE"},
}


class TorchvisionSwin(PyramidEncoder):
    """A Swin transformer of torchvision, as in TorchGeo's ``swin_*``; returns maps at strides 4, 8, 16 and 32.

    Args:
        name: Name in torchvision (``swin_v2_t``).
        num_bands: Number of bands of a frame.
        drop_path: Highest stochastic depth rate.
        gradient_checkpointing: Recompute each stage in the backward pass instead of storing its activations.
        **arguments: Further arguments of torchvision's function.
    """

    input_weights = ("backbone.0.0.weight",)

    def __init__(
        self,
        name: str,
        num_bands: int = 6,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.num_bands = num_bands
        self.gradient_checkpointing = gradient_checkpointing
        try:
            self.backbone = torchvision.models.get_model(name, weights=None, **arguments).features
        except TypeError as error:
            raise ConfigError(f"encoder_args: torchvision's {name}: {error}") from error
        # torchvision sets a rate of 0.2 or more.
        drops = [part for part in self.backbone.modules() if isinstance(part, StochasticDepth)]
        for block, drop in enumerate(drops):
            drop.p = drop_path * block / max(1, len(drops) - 1)
        embedding = self.backbone[0][0]
        self.backbone[0][0] = nn.Conv2d(
            num_bands, embedding.out_channels, embedding.kernel_size, embedding.stride
        )
        stages = len(self.backbone) // 2  # each has a patch embedding or merging, then its blocks
        self.num_features = tuple(embedding.out_channels * 2**stage for stage in range(stages))
        self.strides = tuple(embedding.stride[0] * 2**stage for stage in range(stages))

    def forward_frames(self, frames: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Maps (N, C_i, H / stride_i, W / stride_i) by index, from frames (N, C, H, W)."""
        wanted = [index % len(self.strides) for index in indices]
        maps = {}
        x = frames
        for stage in range(max(wanted) + 1):
            x = self.backbone[2 * stage](x)
            blocks = self.backbone[2 * stage + 1]
            x = checkpoint(blocks, x, use_reentrant=False) if self.gradient_checkpointing else blocks(x)
            maps[stage] = x.permute(0, 3, 1, 2)
        return [maps[index] for index in wanted]

    def group_matcher(self) -> GroupMatcher:
        """Groups: the patch embedding, then each block; patch merging belongs to the next stage."""
        return {
            "stem": r"^backbone\.0",
            "blocks": [(r"^backbone\.(\d+)\.(\d+)\.", None), (r"^backbone\.(\d+)", (0,))],
        }

    def rename_weights(self, state_dict: Mapping[str, Value]) -> Mapping[str, Value]:
        """Replace the prefix ``features.`` of torchvision by ``encoder.backbone.``."""
        return {re.sub(r"^features\.", "encoder.backbone.", key): value for key, value in state_dict.items()}


#: Architectures of TorchGeo that are from torchvision; all others are from timm.
_TORCHVISION = ("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b")


def torchgeo_encoder(name: str, num_bands: int = 6, **arguments: Any) -> Encoder:
    """Create the architecture of weights of TorchGeo, with random weights.

    Args:
        name: ``WEIGHTS.MEMBER``, as for ``torchgeo.models.get_weight``.
        num_bands: Number of bands of a frame.
        **arguments: Arguments of `timm_encoder` or `TorchvisionSwin`.

    Raises:
        ConfigError: The weights are unknown, or their architecture is not supported.
    """
    weights, architecture = _find_weights(name)
    build: Callable[..., Encoder]
    if architecture in _TORCHVISION:
        build = partial(TorchvisionSwin, architecture)
    elif timm.is_model(architecture):
        build = partial(timm_encoder, architecture)
        if "img_size" in weights.meta:  # of the position embedding
            arguments = {"img_size": weights.meta["img_size"], **arguments}
    else:
        raise ConfigError(
            f"encoder: the architecture of torchgeo/{name}, {architecture}, is not supported; supported are ResNet, "
            "ViT and Swin weights"
        )
    encoder = build(num_bands=num_bands, **arguments)
    encoder.pretrained = weights.url
    encoder.pretrained_bands = _band_names(name.partition(".")[2], weights.meta.get("bands") or ())
    encoder.pretrained_statistics = _statistics(weights.transforms, len(encoder.pretrained_bands))
    encoder.pretrained_scale = 1.0
    return encoder


def _find_weights(name: str) -> tuple[Any, str]:
    """A member of TorchGeo's weights, and the name of its architecture."""
    from torchgeo.models import get_model_weights, list_models  # this import takes a second

    members: dict[str, tuple[Any, str]] = {}
    for architecture in list_models():
        try:
            members |= {str(member): (member, architecture) for member in get_model_weights(architecture)}
        except KeyError:  # a model without weights
            continue
    if name not in members:
        close = get_close_matches(name, members, n=3) or ["ResNet50_Weights.SENTINEL2_ALL_MOCO"]
        raise ConfigError(f"encoder: TorchGeo has no weights {name!r}; did you mean {' or '.join(close)}?")
    return members[name]


def _statistics(transforms: Any, count: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation of `count` bands with the same effect as the transforms of weights.

    ``None`` if the transforms do more than normalise. Resizing and cropping are ignored, as they do not change units.
    """
    mean, std = np.zeros(count), np.ones(count)
    for step in transforms if isinstance(transforms, nn.Sequential) else [transforms]:
        kind = type(step).__name__
        if kind == "Normalize":  # ((x - mean) / std - m) / s = (x - (mean + std * m)) / (std * s)
            m, s = (np.asarray(part, float).ravel() for part in (step.mean, step.std))
            if m.size not in (1, count) or s.size not in (1, count):
                return None
            mean, std = mean + std * m, std * s
        elif kind not in ("Resize", "CenterCrop"):
            return None
    return tuple(mean.tolist()), tuple(std.tolist())


def _band_names(member: str, codes: Sequence[str]) -> tuple[str, ...]:
    """Canonical names of bands; a band without one has its original name."""
    names = next(names for start, names in _BAND_NAMES.items() if member.startswith(start))
    return tuple(_band_name(code, names) for code in codes)


def _band_name(code: str, names: Mapping[str, str]) -> str:
    code = code.upper().removeprefix("SR_")
    padded = f"B0{code[1:]}" if code[1:].isdigit() and len(code) == 2 else code
    return names.get(code) or names.get(padded) or code
