"""Models: pure torch; they know no file, no dataset, no Lightning."""

from ..deprecated import old_names
from .decoders import ConvTransposeNeck, FCNHead, GeospatialNeck
from .encoder_decoder import EncoderDecoder
from .encoders import VARIANTS, EncoderVariant, PrithviViT, create_encoder
from .pyramid import PYRAMID_DECODERS, IdentityNeck, PyramidNeck
from .sliding import slide_inference
from .weight_cache import WeightCache, cached_weights

__all__ = [
    "PYRAMID_DECODERS",
    "VARIANTS",
    "ConvTransposeNeck",
    "EncoderDecoder",
    "EncoderVariant",
    "FCNHead",
    "GeospatialNeck",
    "IdentityNeck",
    "PrithviViT",
    "PyramidNeck",
    "WeightCache",
    "cached_weights",
    "create_encoder",
    "slide_inference",
]

__getattr__ = old_names(__name__)
