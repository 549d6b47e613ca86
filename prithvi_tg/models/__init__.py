"""Models: pure torch; they know no file, no dataset, no Lightning."""

from .decoders import ConvTransposeNeck, FCNHead, GeospatialNeck
from .pyramid import PYRAMID_DECODERS, PyramidNeck, TokenMap
from .segmenter import PrithviSegmenter
from .sliding import slide_inference
from .vit import VARIANTS, EncoderVariant, PrithviViT, create_encoder
from .weight_cache import WeightCache, cached_weights

__all__ = [
    "PYRAMID_DECODERS",
    "VARIANTS",
    "ConvTransposeNeck",
    "EncoderVariant",
    "FCNHead",
    "GeospatialNeck",
    "PrithviSegmenter",
    "PrithviViT",
    "PyramidNeck",
    "TokenMap",
    "WeightCache",
    "cached_weights",
    "create_encoder",
    "slide_inference",
]
