"""Probabilities: the softmax of the blended logits."""

import torch
from torch import Tensor

from ...targets import ClassTarget
from ..blending import BlendedRows
from .base import Layer, MapContext, OutputOptions
from .rasters import RasterProduct, filled

#: Steps from probability 0 to 1 in uint8.
STEPS = 250


class Probabilities(RasterProduct):
    """``NAME_probabilities.tif``: one band per class, of the type `OutputOptions.probabilities`."""

    name = "probabilities"
    files = {"probabilities": "{stem}_probabilities.tif"}
    targets = (ClassTarget,)

    @classmethod
    def is_asked_for(cls, options: OutputOptions) -> bool:
        """By ``probabilities``."""
        return options.probabilities is not None

    def create_layer(self, context: MapContext) -> Layer:
        """A band per class."""
        return probability_layer(self.name, tuple(context.spec.target.names), context.options)

    def encode(self, rows: BlendedRows) -> Tensor:
        """Probabilities (K, h, W) in their stored form."""
        return stored(rows.probabilities, rows, self.layer)


class Confidence(RasterProduct):
    """``NAME_confidence.tif``: the highest probability, stored like probabilities."""

    name = "confidence"
    files = {"confidence": "{stem}_confidence.tif"}
    targets = (ClassTarget,)

    @classmethod
    def is_asked_for(cls, options: OutputOptions) -> bool:
        """By ``confidence``."""
        return options.confidence

    def create_layer(self, context: MapContext) -> Layer:
        """One band."""
        return probability_layer(self.name, ("highest probability",), context.options)

    def encode(self, rows: BlendedRows) -> Tensor:
        """The highest probability (1, h, W) in its stored form."""
        probabilities = rows.probabilities
        highest = None if probabilities is None else probabilities.amax(dim=0, keepdim=True)
        return stored(highest, rows, self.layer)


def probability_layer(name: str, band_names: tuple[str, ...], options: OutputOptions) -> Layer:
    """A layer of numbers from 0 to 1, stored in the type `OutputOptions.probabilities`, by default ``uint8``."""
    if options.probabilities in ("float32", "float16"):
        bits = 16 if options.probabilities == "float16" else None
        return Layer(name, band_names, "float32", float("nan"), bits)
    return Layer(name, band_names, scale=1 / STEPS)


def stored(probabilities: Tensor | None, rows: BlendedRows, layer: Layer) -> Tensor:
    """Probabilities (bands, h, W) in the type of a layer; ``None`` if no window overlaps the rows."""
    if probabilities is not None and layer.dtype == "uint8":
        probabilities = torch.round(torch.nan_to_num(probabilities) * STEPS)
    return filled(probabilities, rows, layer)
