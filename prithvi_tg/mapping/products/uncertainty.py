"""Uncertainty: entropy and margin of the probabilities, and the spread of members or views."""

import math

import torch
from torch import Tensor

from ...targets import ClassTarget, ValueTarget
from ..blending import BlendedRows
from .base import Layer, MapContext
from .probabilities import probability_layer, stored
from .rasters import RasterProduct, filled


class Entropy(RasterProduct):
    """``NAME_entropy.tif``: entropy of the probabilities divided by log K, stored like the confidence.

    It is 0 if one class is certain, and 1 if all classes are equally likely.
    """

    name = "entropy"
    files = {"entropy": "{stem}_entropy.tif"}
    targets = (ClassTarget,)

    def create_layer(self, context: MapContext) -> Layer:
        """One band."""
        return probability_layer(self.name, ("entropy",), context.options)

    def encode(self, rows: BlendedRows) -> Tensor:
        """The entropy (1, h, W) in its stored form."""
        entropy = None
        if rows.probabilities is not None:
            total = torch.special.entr(rows.probabilities).sum(dim=0, keepdim=True)
            entropy = (total / math.log(len(rows.probabilities))).clamp_(max=1)  # rounding can exceed 1
        return stored(entropy, rows, self.layer)


class Margin(RasterProduct):
    """``NAME_margin.tif``: the highest minus the second highest probability, stored like the confidence."""

    name = "margin"
    files = {"margin": "{stem}_margin.tif"}
    targets = (ClassTarget,)

    def create_layer(self, context: MapContext) -> Layer:
        """One band."""
        return probability_layer(self.name, ("highest minus second highest probability",), context.options)

    def encode(self, rows: BlendedRows) -> Tensor:
        """The margin (1, h, W) in its stored form."""
        margin = None
        if rows.probabilities is not None:
            first, second = rows.probabilities.topk(2, dim=0).values
            margin = (first - second)[None]
        return stored(margin, rows, self.layer)


class Spread(RasterProduct):
    """``NAME_std.tif``: standard deviation over the members of an ensemble, or over the views of a single model.

    For classes it is that of the probability of the mapped class, stored like the confidence; for values, that of each
    value in its unit, float32. The sum of squares is divided by the number of members or views.
    """

    name = "std"
    files = {"std": "{stem}_std.tif"}
    targets = (ClassTarget, ValueTarget)
    needs_parts = True

    def create_layer(self, context: MapContext) -> Layer:
        """One band for classes, a band per value for values."""
        target = context.spec.target
        if isinstance(target, ValueTarget):
            names = tuple(f"standard deviation of {name}" for name in target.names)
            return Layer(self.name, names, "float32", float("nan"))
        name = "standard deviation of the probability of the mapped class"
        return probability_layer(self.name, (name,), context.options)

    def encode(self, rows: BlendedRows) -> Tensor:
        """The standard deviation (bands, h, W) in its stored form."""
        target = self.context.spec.target
        if rows.parts is None:  # no window overlaps the rows
            return filled(None, rows, self.layer)
        if isinstance(target, ValueTarget):
            std = torch.tensor(target.std, device=rows.device)[:, None, None]
            return filled(rows.parts.std(dim=0, correction=0) * std, rows, self.layer)
        mapped = rows.classes.long().clamp_(max=rows.parts.shape[1] - 1)[None]  # nodata has no class
        members = torch.stack([part.softmax(dim=0).gather(0, mapped) for part in rows.parts])
        return stored(members.std(dim=0, correction=0), rows, self.layer)
