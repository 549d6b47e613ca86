"""Backbones of timm as encoders: CNNs and hierarchical transformers return pyramids, plain ViTs tokens.

Each date is encoded separately. Parameters have timm's names, with the prefix ``backbone``.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import timm
import torch
from einops import rearrange
from torch import Tensor, nn

from ...errors import ConfigError
from .base import Encoder, GroupMatcher, PyramidEncoder, TokenEncoder, Value

_BACKBONE = "backbone."

#: Arguments with which the families of timm's models accept images of any size.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class TimmEncoder(Encoder):
    """Base class of both kinds.

    Args:
        name: Name of the model in timm.
        backbone: The model without its head.
        num_bands: Number of bands of a frame.
    """

    def __init__(self, name: str, backbone: Any, num_bands: int) -> None:
        super().__init__()
        self.name = name
        self.num_bands = num_bands
        self.num_features = tuple(info["num_chs"] for info in backbone.feature_info)
        self.strides = tuple(info["reduction"] for info in backbone.feature_info)
        self.backbone = backbone
        config = backbone.pretrained_cfg
        first = config.get("first_conv") or ()
        layers = (first,) if isinstance(first, str) else tuple(first)
        self.input_weights = tuple(f"{_BACKBONE}{layer}.weight" for layer in layers)
        if config.get("hf_hub_id"):
            file = config.get("hf_hub_filename") or "model.safetensors"
            self.pretrained = f"hf://{config['hf_hub_id']}/{file}"
            self.pretrained_bands = ("RED", "GREEN", "BLUE")
            self.pretrained_statistics = tuple(config["mean"]), tuple(config["std"])
            self.pretrained_scale = 1 / 255

    def forward_frames(self, frames: Tensor, indices: Sequence[int], norm: bool = False) -> list[Tensor]:
        """Maps (N, C_i, h_i, w_i) by index, from frames (N, C, H, W).

        Raises:
            ConfigError: The model accepts images of one size only, and these have another size.
        """
        wanted = [index % len(self.strides) for index in indices]
        try:
            maps = self.backbone.forward_intermediates(
                frames, indices=sorted(set(wanted)), norm=norm, output_fmt="NCHW", intermediates_only=True
            )
        except AssertionError as error:
            height, width = frames.shape[-2:]
            raise ConfigError(
                f"encoder: timm/{self.name} does not take images of {height} x {width} ({error}); set "
                "encoder_args.img_size, crop_size and window to one size, or choose another encoder"
            ) from error
        by_index = dict(zip(sorted(set(wanted)), maps, strict=True))
        return [by_index[index] for index in wanted]

    def group_matcher(self) -> GroupMatcher:
        """The matcher of the model, for names with the prefix ``backbone.``."""
        matcher = self.backbone.group_matcher()
        if callable(matcher):
            return lambda name: (
                matcher(name.removeprefix(_BACKBONE)) if name.startswith(_BACKBONE) else torch.inf
            )
        return {group: _prefixed(patterns) for group, patterns in matcher.items() if patterns is not None}

    def rename_weights(self, state_dict: Mapping[str, Value]) -> Mapping[str, Value]:
        """Add the prefix ``encoder.backbone.`` to names of timm; names of our checkpoints already have it."""
        prefix = f"encoder.{_BACKBONE}"
        if any(key.startswith(prefix) for key in state_dict):
            return state_dict
        return {prefix + key.removeprefix("encoder."): value for key, value in state_dict.items()}


class TimmPyramid(TimmEncoder, PyramidEncoder):
    """A CNN or hierarchical transformer of timm."""


class TimmViT(TimmEncoder, TokenEncoder):
    """A plain ViT of timm, or another model with one scale. The class token is the mean of the patch tokens."""

    def __init__(self, name: str, backbone: Any, num_bands: int) -> None:
        super().__init__(name, backbone, num_bands)
        self.patch_size = self.strides[-1]

    def forward_features(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Normalised tokens (B, 1 + T*h*w, D)."""
        return self.forward_intermediates(image, [-1], norm=True)[0]

    def forward_intermediates(
        self, image: Tensor, indices: Sequence[int], norm: bool = False, **coordinates: Tensor
    ) -> list[Tensor]:
        """Tokens (B, 1 + T*h*w, D) after some of the blocks; see `Encoder.forward_intermediates`."""
        image = self.frames(image)
        maps = self.forward_frames(image.flatten(0, 1), indices, norm)
        patches = [rearrange(one, "(b t) d h w -> b (t h w) d", t=image.shape[1]) for one in maps]
        return [torch.cat([one.mean(dim=1, keepdim=True), one], dim=1) for one in patches]


def timm_encoder(
    name: str,
    num_bands: int = 6,
    drop_path: float = 0.0,
    gradient_checkpointing: bool = False,
    **arguments: Any,
) -> TimmEncoder:
    """Create a backbone of timm with random weights.

    Args:
        name: Name in timm (``resnet50``, ``convnext_tiny.fb_in22k``).
        num_bands: Number of bands of a frame.
        drop_path: Highest stochastic depth rate.
        gradient_checkpointing: Recompute layers in the backward pass instead of storing their activations.
        **arguments: Further arguments of ``timm.create_model``.

    Raises:
        ConfigError: The model is unknown, does not accept an argument, or returns no intermediate features.
    """
    backbone = _create_backbone(
        name, num_bands, {"drop_path_rate": drop_path} if drop_path else {}, arguments
    )
    if not hasattr(backbone, "forward_intermediates") or not hasattr(backbone, "prune_intermediate_layers"):
        raise ConfigError(f"encoder: timm/{name} returns no intermediate features; choose another backbone")
    if gradient_checkpointing:
        try:
            backbone.set_grad_checkpointing(True)
        except AssertionError as error:
            raise ConfigError(f"gradient_checkpointing: timm/{name} does not support it") from error
    strides = {info["reduction"] for info in backbone.feature_info}
    is_pyramid = len(strides) > 1
    # Unused layers would get no gradient, which DistributedDataParallel reports as an error.
    indices = list(range(len(backbone.feature_info)))
    backbone.prune_intermediate_layers(indices, prune_norm=is_pyramid, prune_head=True)
    return (TimmPyramid if is_pyramid else TimmViT)(name, backbone, num_bands)


def _create_backbone(name: str, num_bands: int, rates: dict[str, Any], arguments: dict[str, Any]) -> Any:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        close = get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; see timm.list_models()"
        raise ConfigError(f"encoder: timm has no model {name!r}{hint}")
    message = ""
    for options in _ANY_SIZE:
        known: dict[str, Any] = {"in_chans": num_bands, "num_classes": 0, "global_pool": ""}
        try:
            backbone: nn.Module = timm.create_model(
                name, pretrained=False, **(known | options | rates | arguments)
            )
        except TypeError as error:
            message = str(error)
        except RuntimeError as error:  # an unknown tag after the dot
            raise ConfigError(f"encoder: timm/{name}: {error}") from error
        else:
            return backbone
    given = ", ".join(["encoder_args", *(["drop_path"] if rates else [])])
    raise ConfigError(f"{given}: timm/{name} does not accept them: {message}")


def _prefixed(patterns: Any) -> Any:
    """A pattern of a group matcher, or a list of pairs of pattern and suffix, with the prefix ``backbone.``."""
    if isinstance(patterns, str):
        return rf"^backbone\.(?:{patterns.replace('^', '')})"
    return [(_prefixed(pattern), suffix) for pattern, suffix in patterns]
