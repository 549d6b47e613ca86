"""Encoders: features from images."""

from .prithvi import VARIANTS, EncoderVariant, PrithviViT, create_encoder

__all__ = ["VARIANTS", "EncoderVariant", "PrithviViT", "create_encoder"]
