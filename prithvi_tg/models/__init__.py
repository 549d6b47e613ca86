"""Models: pure torch; they know no file, no dataset, no Lightning."""

from .decoders import ConvTransposeNeck, FCNHead, GeospatialNeck
from .segmenter import PrithviSegmenter
from .sliding import slide_inference
from .vit import VARIANTS, EncoderVariant, PrithviViT, create_encoder

__all__ = [
    "VARIANTS",
    "ConvTransposeNeck",
    "EncoderVariant",
    "FCNHead",
    "GeospatialNeck",
    "PrithviSegmenter",
    "PrithviViT",
    "create_encoder",
    "slide_inference",
]
