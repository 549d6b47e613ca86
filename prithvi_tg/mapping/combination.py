"""Combination: how the outputs of an ensemble, or of the views of one model, become one map."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blending import BlendedRows


@dataclass(frozen=True)
class Combination:
    """What the channels of blended outputs are: K channels for each member, then K for each view of a single member.

    Members with classes are averaged in probability: the softmax of the blended logits of each member, divided by its
    temperature. Members with values are averaged as they are. The channels of a single member are the mean over its
    views already; its views are kept apart only for products that need them.

    Attributes:
        temperatures: Temperature of each member.
        views: Number of views whose channels follow those of the single member.
        in_probability: Whether the outputs are logits of classes.
    """

    temperatures: tuple[float, ...] = (1.0,)
    views: int = 0
    in_probability: bool = True

    @property
    def count(self) -> int:
        """Number of members and views: the outputs have ``count * K`` channels."""
        return len(self.temperatures) + self.views

    def rows(self, top: int, outputs: Tensor, nodata: NDArray[np.bool_], device: torch.device) -> BlendedRows:
        """Combine completed rows.

        Args:
            top: First row.
            outputs: (count * K, h, W) float32, blended.
            nodata: (h, W) in main memory.
            device: Device of the outputs.

        Returns:
            Rows with the logits of a single member as they are, or else with the logarithms of the mean probabilities
            of the members, whose softmax is that mean; for values, with the mean of the members.
        """
        parts = outputs.unflatten(0, (self.count, -1))
        if len(self.temperatures) == 1:
            (temperature,) = self.temperatures
            views = parts[1:] / temperature if self.views else None
            return BlendedRows(top, parts[0], nodata, device, temperature, views)
        if not self.in_probability:
            return BlendedRows(top, parts.mean(dim=0), nodata, device, parts=parts)
        parts = torch.stack([part / one for part, one in zip(parts, self.temperatures, strict=True)])
        logits = parts.log_softmax(dim=1).logsumexp(dim=0) - math.log(len(parts))
        return BlendedRows(top, logits, nodata, device, parts=parts)
