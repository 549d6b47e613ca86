"""Tables of encoders and decoders, and functions that create one by name or class path."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from ..class_paths import check_name, find_class
from ..errors import ConfigError
from .decoders import conv_transpose_decoder, geospatial_decoder
from .encoders.base import Encoder
from .encoders.prithvi import VARIANTS, prithvi_encoder
from .encoders.timm import timm_encoder
from .encoders.torchgeo import torchgeo_encoder
from .pyramid import dpt_decoder, library_decoder, linear_decoder, patch_linear_decoder

#: Name -> ``factory(num_bands=, drop_path=, gradient_checkpointing=, **encoder_args)``.
ENCODERS: dict[str, Callable[..., Encoder]] = {name: partial(prithvi_encoder, name) for name in VARIANTS}

#: First part of ``FAMILY/NAME`` -> ``factory(NAME, num_bands=, drop_path=, gradient_checkpointing=, **encoder_args)``.
ENCODER_FAMILIES: dict[str, Callable[..., Encoder]] = {"timm": timm_encoder, "torchgeo": torchgeo_encoder}

#: Name -> ``factory(encoder, num_frames, channels, **decoder_args)``; see `create_decoder`.
DECODERS: dict[str, Callable[..., nn.Module]] = {
    "conv_transpose": conv_transpose_decoder,
    "geospatial": geospatial_decoder,
    "linear": linear_decoder,
    "patch_linear": patch_linear_decoder,
    "unet": partial(library_decoder, "unet"),
    "fpn": partial(library_decoder, "fpn"),
    "upernet": partial(library_decoder, "upernet"),
    "segformer": partial(library_decoder, "segformer"),
    "dpt": dpt_decoder,
}


def create_encoder(
    name: str, drop_path: float = 0.0, gradient_checkpointing: bool = False, **arguments: Any
) -> Encoder:
    """Create an encoder with random weights.

    Args:
        name: A key of `ENCODERS`; ``timm/NAME``; ``torchgeo/WEIGHTS.MEMBER``; or the path of an `Encoder` class,
            ``package.module.Class``.
        drop_path: Highest stochastic depth rate.
        gradient_checkpointing: Recompute blocks in the backward pass instead of storing their activations.
        **arguments: ``num_bands`` and further arguments of the encoder; for Prithvi, fields of `EncoderVariant`
            (``depth=6, num_heads=8``).

    Raises:
        ConfigError: The name or an argument is unknown.
    """
    check_name("encoder", name)
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
    """Create a decoder for an encoder: a neck that converts features to a map, from which a head computes the logits.

    To add a neck, write a `torch.nn.Module`::

        class MyNeck(nn.Module):
            def __init__(self, encoder, num_frames, channels):
                super().__init__()
                self.out_channels = channels
                self.conv = nn.Conv2d(token_channels("MyNeck", encoder, num_frames), channels, 3, padding=1)

            def forward(self, tokens, grid):
                return self.conv(token_map(tokens, grid))

    `forward` has two arguments: the last feature of the encoder, and the grid (T, h, w) of patches. The feature is
    tokens (B, 1 + T*h*w, D) of a `TokenEncoder`, which `token_map` converts to a map (B, D*T, h, w), or a map
    (B, C*T, h, w) of a `PyramidEncoder`. `forward` returns a map (B, out_channels, H', W') of any size; the logits are
    resized to the image.

    A neck has these attributes. ``out_channels`` is required. ``encoder_layers`` are indices of features; if it is set,
    the first argument of `forward` is a list of these features, see `Encoder.forward_intermediates`. ``head_convs`` and
    ``auxiliary_convs`` are numbers of 3 x 3 convolutions of the heads; by default, the head has none and there is no
    auxiliary head. ``create_head(num_classes)``, if there is one, creates another head than `FCNHead`. ``halo`` is the
    distance, in tokens, up to which tokens influence a pixel of the map; with it, maps with ``blending: crop`` run the
    neck only on the tokens that they need.

    Args:
        name: A key of `DECODERS`, or the path of a class, ``package.module.Class``, with the arguments below.
        encoder: The encoder.
        num_frames: Number of dates in a sample.
        channels: Channels of the decoder, if it allows a choice; ``head_channels`` of a task.
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
            f"decoder: {name} has no attribute out_channels, the number of channels of its output"
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
