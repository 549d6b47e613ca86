"""Models in torch: encoders, decoders and classifiers, without files, datasets or Lightning."""

from ..deprecated import old_names
from .classifier import POOLINGS, ChipClassifier
from .decoders import ConvTransposeNeck, FCNHead, GeospatialNeck, token_channels, token_map
from .encoder_decoder import EncoderDecoder
from .encoders import VARIANTS, Encoder, EncoderVariant, PrithviViT, PyramidEncoder, TokenEncoder
from .mae import (
    DECODER_VARIANTS,
    DecoderVariant,
    MaskedAutoencoder,
    MaskedDecoder,
    Reconstruction,
    decoder_variant,
)
from .pyramid import IdentityNeck, MapNeck, PyramidNeck
from .registry import DECODERS, ENCODERS, create_decoder, create_encoder
from .sliding import slide_inference
from .weight_cache import WeightCache, cached_weights

__all__ = [
    "DECODERS",
    "DECODER_VARIANTS",
    "ENCODERS",
    "POOLINGS",
    "VARIANTS",
    "ChipClassifier",
    "ConvTransposeNeck",
    "DecoderVariant",
    "Encoder",
    "EncoderDecoder",
    "EncoderVariant",
    "FCNHead",
    "GeospatialNeck",
    "IdentityNeck",
    "MapNeck",
    "MaskedAutoencoder",
    "MaskedDecoder",
    "PrithviViT",
    "PyramidEncoder",
    "PyramidNeck",
    "Reconstruction",
    "TokenEncoder",
    "WeightCache",
    "cached_weights",
    "create_decoder",
    "create_encoder",
    "decoder_variant",
    "slide_inference",
    "token_channels",
    "token_map",
]

__getattr__ = old_names(__name__)
