"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) on the attention of an encoder, through peft."""

from torch import nn

from ..errors import ConfigError
from .encoders.prithvi import PrithviViT


def add_lora(encoder: PrithviViT, rank: int) -> None:
    """Put adapters of a rank on every ``qkv`` and ``proj``; only they are trained from then on.

    Args:
        encoder: Changed in place.
        rank: Rank of the adapters; they are scaled by 2.

    Raises:
        ConfigError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("lora_rank: peft is not installed; pip install 'prithvi_tg[lora]'") from error
    attention = r"blocks\.\d+\.attn\.(qkv|proj)"
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=attention), encoder)


def merge_lora(module: nn.Module) -> None:
    """Add adapters to the weights that they adapt, in place; parameter names are the published ones again."""
    for child_name, child in list(module.named_children()):
        if hasattr(child, "base_layer") and hasattr(child, "merge"):
            child.merge()  # type: ignore[operator]
            setattr(module, child_name, child.base_layer)
        else:
            merge_lora(child)
