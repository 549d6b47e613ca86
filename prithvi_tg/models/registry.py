"""Encoders and decoders by name, by family, or by the path of a class."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from ..class_paths import find_class
from ..errors import ConfigError
from .decoders import conv_transpose_decoder, geospatial_decoder
from .encoders.base import Encoder
from .encoders.prithvi import VARIANTS, prithvi_encoder
from .encoders.timm import timm_encoder
from .encoders.torchgeo import torchgeo_encoder
from .pyramid import dpt_decoder, library_decoder, linear_decoder

#: Name -> ``factory(num_bands=, drop_path=, gradient_checkpointing=, **encoder_args)``.
ENCODERS: dict[str, Callable[..., Encoder]] = {name: partial(prithvi_encoder, name) for name in VARIANTS}

#: First part of ``FAMILY/NAME`` -> ``factory(NAME, num_bands=, drop_path=, gradient_checkpointing=, **encoder_args)``.
ENCODER_FAMILIES: dict[str, Callable[..., Encoder]] = {"timm": timm_encoder, "torchgeo": torchgeo_encoder}

#: Name -> ``factory(encoder, num_frames, channels, **decoder_args)``; see `create_decoder`.
DECODERS: dict[str, Callable[..., nn.Module]] = {
    "conv_transpose": conv_transpose_decoder,
    "geospatial": geospatial_decoder,
    "linear": linear_decoder,
    "unet": partial(library_decoder, "unet"),
    "fpn": partial(library_decoder, "fpn"),
    "upernet": partial(library_decoder, "upernet"),
    "segformer": partial(library_decoder, "segformer"),
    "dpt": dpt_decoder,
}


def create_encoder(
    name: str, drop_path: float = 0.0, gradient_checkpointing: bool = False, **arguments: Any
) -> Encoder:
    """An encoder with random weights.

    Args:
        name: A key of `ENCODERS`; ``timm/NAME``; ``torchgeo/WEIGHTS.MEMBER``; or the path of an `Encoder` class,
            ``package.module.Class``.
        drop_path: Highest stochastic depth rate.
        gradient_checkpointing: Recompute blocks in the backward pass instead of storing their activations.
        **arguments: ``num_bands`` and further arguments of the encoder; for Prithvi, changed fields of
            `EncoderVariant` (``depth=6, num_heads=8``).

    Raises:
        ConfigError: The name or an argument is unknown.
    """
    family, _, member = name.partition("/")
    factory: Callable[..., Encoder]
    if member and family in ENCODER_FAMILIES:
        factory = partial(ENCODER_FAMILIES[family], member)
    else:
        families = {f"{family}/NAME": factory for family, factory in ENCODER_FAMILIES.items()}
        factory = find_class("encoder", name, ENCODERS | families, Encoder)
    if drop_path:
        arguments["drop_path"] = drop_path
    if gradient_checkpointing:
        arguments["gradient_checkpointing"] = True
    _check_arguments("encoder_args", name, factory, arguments)
    return factory(**arguments)


def create_decoder(
    name: str, encoder: Encoder, num_frames: int = 1, channels: int = 256, **arguments: Any
) -> nn.Module:
    """A decoder for an encoder: a neck that turns features into a map, on which a head computes the logits.

    A neck of your own is a `torch.nn.Module`::

        class MyNeck(nn.Module):
            def __init__(self, encoder, num_frames, channels):
                super().__init__()
                self.out_channels = channels
                self.conv = nn.Conv2d(token_channels("MyNeck", encoder, num_frames), channels, 3, padding=1)

            def forward(self, tokens, grid):
                return self.conv(token_map(tokens, grid))

    `forward` takes the last feature of the encoder: tokens (B, 1 + T*h*w, D) of a `TokenEncoder`, which `token_map`
    turns into a map (B, D*T, h, w), or a map (B, C*T, h, w) of a `PyramidEncoder`; and the grid (T, h, w) of patches.
    It gives a map (B, out_channels, H', W') of any size; the logits are resized to the image.

    Attributes of a neck: ``out_channels``, required. ``encoder_layers``, indices of features: `forward` takes a list
    of these instead of the last one, see `Encoder.forward_intermediates`. ``head_convs`` and ``auxiliary_convs``,
    numbers of 3 x 3 convolutions of the heads, by default none and no auxiliary head. ``halo``, how many tokens beyond
    its own a pixel of the map depends on: maps with ``blending: crop`` then run the neck on a part of the tokens only.

    Args:
        name: A key of `DECODERS`, or the path of a class, ``package.module.Class``, that takes the arguments below.
        encoder: The encoder.
        num_frames: Dates in a sample.
        channels: Channels of the decoder, if they are variable; ``head_channels`` of a task.
        **arguments: Further arguments of the decoder; ``decoder_args`` of a task.

    Returns:
        The neck.

    Raises:
        ConfigError: The name or an argument is unknown, or the decoder does not fit the encoder.
    """
    factory = find_class("decoder", name, DECODERS, nn.Module)
    given: dict[str, Any] = {"encoder": encoder, "num_frames": num_frames, "channels": channels}
    try:
        inspect.signature(factory).bind_partial(**given)
    except TypeError as error:
        raise ConfigError(
            f"decoder: {name}: {error}; it is called with {', '.join(given)} and decoder_args"
        ) from error
    given |= arguments
    _check_arguments("decoder_args", name, factory, given)
    decoder = factory(**given)
    if not isinstance(getattr(decoder, "out_channels", None), int):
        raise ConfigError(
            f"decoder: {name} has no attribute out_channels, the channels of the map that it gives"
        )
    layers, depth = getattr(decoder, "encoder_layers", None) or (), len(encoder.num_features)
    if not all(-depth <= layer < depth for layer in layers):
        raise ConfigError(
            f"decoder: {name} has encoder_layers {list(layers)}, but the encoder has {depth} features, 0 to {depth - 1}"
        )
    return decoder


def _check_arguments(key: str, name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{key}: {name}: {error}") from error
