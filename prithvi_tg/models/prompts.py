"""Visual prompt tuning (Jia et al. 2022, arXiv:2203.12119): learnt tokens before each block of a frozen ViT."""

import math
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..errors import ConfigError
from .encoders.base import Encoder, TokenEncoder


def add_prompts(encoder: Encoder, num_tokens: int) -> None:
    """Add learnt tokens to the input of each block, remove them from its output, and freeze all other parameters.

    Each block has tokens of its own, the parameter ``prompts`` (1, P, D); the "deep" variant of the paper.

    Args:
        encoder: The encoder, changed in place.
        num_tokens: Number P of tokens.

    Raises:
        ConfigError: The encoder is not a plain ViT.
    """
    blocks = [module for module in encoder.modules() if isinstance(module, Block)]
    if not blocks or not isinstance(encoder, TokenEncoder):
        raise ConfigError(
            f"prompt_tokens: {type(encoder).__name__} is not a plain ViT with timm blocks; set it to 0, or choose a ViT"
        )
    encoder.requires_grad_(False)
    width, device = encoder.embed_dim, next(encoder.parameters()).device
    bound = math.sqrt(6 / (3 * encoder.patch_size**2 + width))  # as in the paper's code
    for block in blocks:
        block.prompts = nn.Parameter(torch.empty(1, num_tokens, width, device=device))
        nn.init.uniform_(block.prompts, -bound, bound)
        # Not a module around the block, so that parameters keep their published names.
        block.register_forward_pre_hook(_prepend_prompts)
        block.register_forward_hook(_remove_prompts)


def _prepend_prompts(block: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Tokens (B, N, D) -> (B, P + N, D)."""
    tokens, *others = arguments
    prompts = block.prompts.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
    return torch.cat([prompts, tokens], dim=1), *others


def _remove_prompts(block: Any, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
    """Tokens (B, P + N, D) -> (B, N, D)."""
    return output[:, block.prompts.shape[1] :]
