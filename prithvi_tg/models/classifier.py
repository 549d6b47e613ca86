"""ChipClassifier: encoder, pooling and a linear head, to classify whole images."""

from collections.abc import Callable

import torch
from einops import rearrange
from timm.layers.attention_pool import AttentionPoolLatent
from torch import Tensor, nn

from ..class_paths import find_class
from .encoder_model import EncoderModel
from .encoders.base import Encoder, PyramidEncoder
from .weight_cache import Method, call_method


class ClassToken(nn.Module):
    """The class token."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, 1 + N, D), class token first -> (B, D)."""
        return tokens[:, 0]


class MeanPooling(nn.Module):
    """The mean over the patches of all frames."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, 1 + N, D), class token first -> (B, D)."""
        return tokens[:, 1:].mean(dim=1)


class AttentionPooling(nn.Module):
    """Attention of one learnt query to all tokens (Zhai et al. 2022, arXiv:2106.04560), from timm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        heads = width // 64 if width % 64 == 0 else 1
        self.attention = AttentionPoolLatent(width, num_heads=heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, 1 + N, D), class token first -> (B, D)."""
        return self.attention(tokens)


#: Pooling modules by name, created with the token width D; they map tokens (B, 1 + N, D) to (B, D).
POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "cls": ClassToken,
    "mean": MeanPooling,
    "attention": AttentionPooling,
}


class ChipClassifier(EncoderModel):
    """An encoder with pooling of its tokens and a linear layer.

    Args:
        encoder: Returns tokens (B, 1 + T*h*w, D) of images, class token first, or maps (B, D*T, h, w). For maps, the
            mean replaces the class token.
        width: Width D of a token.
        num_outputs: Number of classes.
        pooling: A name in `POOLINGS`, or the path of a class.
        freeze_encoder: Train only pooling and head; the encoder stays in evaluation mode.

    Raises:
        ConfigError: The pooling is unknown.
    """

    def __init__(
        self,
        encoder: Encoder,
        width: int,
        num_outputs: int,
        pooling: str = "mean",
        freeze_encoder: bool = False,
    ) -> None:
        super().__init__(encoder, freeze_encoder)
        self.pooling = find_class("pooling", pooling, POOLINGS, nn.Module)(width)
        self.head = nn.Linear(width, num_outputs)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward_features(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Pooled features (B, D); arguments as in `forward`."""
        image = self.pad_to_patches(image)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_is_frozen):
            method = Method(self.encoder, "__call__")
            features = self._run(call_method, image, method, None, **coordinates)
        if isinstance(self.encoder, PyramidEncoder):
            frames = image.shape[1] if image.ndim == 5 else 1
            features = rearrange(features, "b (c t) h w -> b (t h w) c", t=frames)
            features = torch.cat((features.mean(dim=1, keepdim=True), features), dim=1)
        pooled: Tensor = self.pooling(features)
        return pooled

    def forward(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Logits of whole images.

        Args:
            image: (B, T, C, H, W) or (B, C, H, W), normalised, of any size.
            **coordinates: ``timestamps`` (B, T, 2) and ``location`` (B, 2), for encoders that take them.

        Returns:
            (B, K).
        """
        logits: Tensor = self.head(self.forward_features(image, **coordinates))
        return logits
