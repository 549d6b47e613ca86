"""Encoders: models that compute features of images."""

from .base import Encoder, PyramidEncoder, TokenEncoder
from .prithvi import VARIANTS, EncoderVariant, PrithviViT

__all__ = ["VARIANTS", "Encoder", "EncoderVariant", "PrithviViT", "PyramidEncoder", "TokenEncoder"]
