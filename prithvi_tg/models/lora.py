"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) for the attention layers of an encoder, with peft."""

import re

import torch
from torch import nn

from ..errors import ConfigError
from .encoders.base import Encoder

_ATTENTION = re.compile(r".*\.attn\.(qkv|q|k|v|kv|q_proj|k_proj|v_proj|proj)")


def add_lora(encoder: Encoder, rank: int) -> None:
    """Add adapters to the linear layers of every attention, and freeze all other parameters.

    Args:
        encoder: The encoder, changed in place. Its attention modules must be named ``attn`` and their layers ``qkv``
            (or ``q``, ``k`` and ``v``) and ``proj``, as in timm.
        rank: Rank of the adapters; their scale is 2.

    Raises:
        ConfigError: peft is not installed, or the encoder has no such layers or uses their weights without calling
            the layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("lora_rank: peft is not installed; pip install 'prithvi_tg[lora]'") from error
    layers = [
        name
        for name, layer in encoder.named_modules()
        if isinstance(layer, nn.Linear) and _ATTENTION.fullmatch(name)
    ]
    if not layers:
        raise ConfigError(
            f"lora_rank: {type(encoder).__name__} has no attention with linear layers qkv and proj to adapt; set "
            "lora_rank to 0, or choose a ViT"
        )
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers), encoder)
    _check_that_layers_are_called(encoder, layers)


def _check_that_layers_are_called(encoder: Encoder, layers: list[str]) -> None:
    """Check that the encoder calls its layers; if it only reads ``qkv.weight``, adapters would have no effect."""
    called = set()
    hooks = [
        encoder.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
        for name in layers
    ]
    was_training = encoder.training
    weight = next(encoder.parameters())
    with torch.no_grad():
        encoder.eval()(
            weight.new_zeros(1, 1, encoder.num_bands, 2 * encoder.patch_size, 2 * encoder.patch_size)
        )
    encoder.train(was_training)
    for hook in hooks:
        hook.remove()
    if missed := sorted(set(layers) - called):
        raise ConfigError(
            f"lora_rank: {type(encoder).__name__} does not call {missed[0]} (and {len(missed) - 1} more) as a layer, "
            "so adapters have no effect; set lora_rank to 0, or choose another encoder"
        )


def merge_lora(module: nn.Module) -> None:
    """Merge adapters into the weights, in place, and restore the published parameter names."""
    for child_name, child in list(module.named_children()):
        if hasattr(child, "base_layer") and hasattr(child, "merge"):
            child.merge()  # type: ignore[operator]
            setattr(module, child_name, child.base_layer)
        else:
            merge_lora(child)
