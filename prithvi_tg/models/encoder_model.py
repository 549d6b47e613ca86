"""EncoderModel: base class of the models that tasks train, with an encoder that can be frozen and compiled."""

from collections.abc import Callable
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from .compiling import CompiledCalls
from .encoders.base import Encoder


class EncoderModel(nn.Module):
    """A model with an encoder.

    Args:
        encoder: The encoder.
        freeze_encoder: Do not train the encoder; it stays in evaluation mode.
    """

    def __init__(self, encoder: Encoder, freeze_encoder: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        self._compiled_calls: CompiledCalls | None = None
        if freeze_encoder:
            self.encoder.requires_grad_(False)
            self.encoder.eval()  # Lightning does not change the mode of modules before a fit

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.encoder_is_frozen:
            self.encoder.eval()
        return self

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the parts of the model in place, when they are first called; see `CompiledCalls`.

        Args:
            *args: Arguments of `CompiledCalls`.
            **options: Arguments of `torch.compile`, such as ``mode``.
        """
        self._compiled_calls = CompiledCalls(*args, **options)

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether no parameter of the encoder is trained; a callback may unfreeze some later."""
        return not any(parameter.requires_grad for parameter in self.encoder.parameters())

    def pad_to_patches(self, image: Tensor) -> Tensor:
        """Pad the right and bottom of an image (..., H, W) to whole patches with zeros, the band means."""
        patch = self.encoder.patch_size
        height, width = image.shape[-2:]
        if height % patch == 0 and width % patch == 0:
            return image  # F.pad would copy it
        return F.pad(image, (0, -width % patch, 0, -height % patch))

    def _run(self, function: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
        """``function(x, *args, **kwargs)``, compiled after `compile`."""
        if self._compiled_calls is None:
            return function(x, *args, **kwargs)
        return self._compiled_calls(function, x, *args, **kwargs)
