"""Encoders: features from images."""

from .base import Encoder, PyramidEncoder, TokenEncoder
from .prithvi import VARIANTS, EncoderVariant, PrithviViT

__all__ = ["VARIANTS", "Encoder", "EncoderVariant", "PrithviViT", "PyramidEncoder", "TokenEncoder"]
