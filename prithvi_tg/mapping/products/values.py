"""Values: the map of a model that gives values in a unit, such as biomass."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DataError
from ...readers.raster import open_raster
from ...targets import ValueTarget
from ..blending import BlendedRows
from .base import FinishedMap, ItemFields, Layer, MapContext
from .rasters import Pieces, RasterProduct, filled

_COLORS = 9


class ValueMap(RasterProduct):
    """``NAME_pred.tif``: float32 with nodata NaN, a band per value in its unit.

    ``NAME_pred.qml`` is the style that QGIS opens it with: the first value in its colours. The style of each further
    value is ``NAME_pred_VALUE.qml``; load it in QGIS to colour that band instead.

    Attributes:
        statistics: Of each band: ``minimum``, ``maximum``, ``mean`` and ``stddev``; empty without data. Known when the
            raster is written.
    """

    name = "values"
    files = {"style": "{map}.qml", "pred": "{file}"}  # and the styles of further values, see `outputs`
    targets = (ValueTarget,)
    is_indexed = True
    statistics: list[dict[str, float]]

    def create_layer(self, context: MapContext) -> Layer:
        """A band per value."""
        return Layer("pred", tuple(context.spec.target.names), "float32", float("nan"))

    def encode(self, rows: BlendedRows) -> Tensor:
        """Values (V, h, W) in their units, NaN where masked: the model's outputs are standardised."""
        if rows.logits is None:
            return filled(None, rows, self.layer)
        target = self._target
        mean, std = (
            torch.tensor(part, device=rows.device)[:, None, None] for part in (target.mean, target.std)
        )
        return filled(rows.logits * std + mean, rows, self.layer)

    def pieces(self, finished: FinishedMap) -> Pieces:
        """Values, from top to bottom; their statistics are known at the end."""
        moments = [_Moments(mean) for mean in self._target.mean]
        for top, values in super().pieces(finished):
            for moment, band in zip(moments, values, strict=True):
                moment.add(band)
            yield top, values
        self.statistics = [moment.statistics for moment in moments]

    def decorate(self, raster: Any) -> None:
        """Add names, units and statistics, as GDAL calls them."""
        super().decorate(raster)
        raster.units = self._target.units
        for band, statistics in enumerate(self.statistics, start=1):
            tags = {f"STATISTICS_{key.upper()}": f"{value:.9g}" for key, value in statistics.items()}
            raster.update_tags(band, **tags)

    def finish(self, finished: FinishedMap) -> None:
        """Write the raster, and a style of each value beside it."""
        super().finish(finished)
        for band, key in enumerate(self._style_keys, start=1):
            write_style(finished.files[key], self._target, band, self.statistics[band - 1])

    def outputs(self) -> dict[str, Path]:
        """Final names: the raster, the style that QGIS opens it with, and a style of each further value."""
        found = super().outputs()
        path = self.context.path
        further = zip(self._style_keys[1:], self._target.names[1:], strict=True)
        return {**{key: _style_path(path, name) for key, name in further}, **found}

    @classmethod
    def earlier_outputs(cls, path: Path) -> set[Path]:
        """Also the styles of its further values, by the names of its bands."""
        found = super().earlier_outputs(path)
        if path.is_file():
            with suppress(DataError), open_raster(path) as earlier:  # what is no raster has no bands
                found |= {_style_path(path, name) for name in earlier.descriptions[1:] if name}
        return found

    @property
    def _style_keys(self) -> list[str]:
        """The key of the style of each value among the files."""
        return ["style", *(f"style_{band}" for band in range(2, len(self._target.names) + 1))]

    def item_fields(self, finished: FinishedMap) -> ItemFields:
        """Names, units and statistics, as STAC 1.1 describes bands."""
        bands = [
            {"name": name, "data_type": "float32", "nodata": "nan"}
            | ({"unit": unit} if unit else {})
            | ({"statistics": statistics} if statistics else {})
            for name, unit, statistics in self._described()
        ]
        return ItemFields(assets={"pred": {"bands": bands}})

    def summary(self, finished: FinishedMap) -> list[str]:
        """Mean and standard deviation of each value."""
        return [
            f"{name} {statistics['mean']:.4g} ± {statistics['stddev']:.4g} {unit}".rstrip()
            for name, unit, statistics in self._described()
            if statistics
        ]

    @property
    def _target(self) -> ValueTarget:
        target = self.context.spec.target
        assert isinstance(target, ValueTarget)
        return target

    def _described(self) -> Iterator[tuple[str, str, dict[str, float]]]:
        return zip(self._target.names, self._target.units, self.statistics, strict=True)


def _style_path(path: Path, name: str) -> Path:
    """Where the style of a further value of a map is."""
    return path.with_name(f"{path.stem}_{re.sub(r'[^0-9A-Za-z_.-]+', '_', name)}.qml")


class _Moments:
    """Statistics of values that come piece by piece; sums are of differences from `origin`, which lose no digits."""

    def __init__(self, origin: float) -> None:
        self.origin = origin
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: NDArray[Any]) -> None:
        """Count values; NaN is left out."""
        known = values[np.isfinite(values)].astype(np.float64)
        if known.size:
            self.low, self.high = min(self.low, known.min()), max(self.high, known.max())
            known -= self.origin
            self.count += known.size
            self.total += known.sum()
            self.squares += np.square(known).sum()

    @property
    def statistics(self) -> dict[str, float]:
        """Minimum, maximum, mean and standard deviation; empty without a value."""
        if not self.count:
            return {}
        mean = self.total / self.count
        found = {
            "minimum": self.low,
            "maximum": self.high,
            "mean": mean + self.origin,
            "stddev": max(0.0, self.squares / self.count - mean**2) ** 0.5,
        }
        return {key: float(value) for key, value in found.items()}


def write_style(path: Path, target: ValueTarget, band: int, statistics: dict[str, float]) -> None:
    """Write a style of QGIS that colours a band by the colormap of the values, from its minimum to its maximum.

    Args:
        path: QGIS applies ``NAME_pred.qml`` to ``NAME_pred.tif``; other names are loaded by hand.
        target: The values; name and unit of the band stand in the legend.
        band: Number of the band, from 1.
        statistics: Of the band; 0 to 1 is coloured without any.
    """
    name, unit = target.names[band - 1], target.units[band - 1]
    low, high = statistics.get("minimum", 0.0), statistics.get("maximum", 1.0)
    root = ElementTree.Element("qgis")
    pipe = ElementTree.SubElement(root, "pipe")
    limits = {"classificationMin": f"{low:.9g}", "classificationMax": f"{high:.9g}"}
    kind = {"type": "singlebandpseudocolor", "band": str(band), "opacity": "1", "alphaBand": "-1"}
    renderer = ElementTree.SubElement(pipe, "rasterrenderer", {**kind, **limits})
    shader = ElementTree.SubElement(renderer, "rastershader")
    ramp = ElementTree.SubElement(
        shader, "colorrampshader", colorRampType="INTERPOLATED", classificationMode="1", clip="0"
    )
    for share in np.linspace(0, 1, _COLORS):
        value = low + share * (high - low)
        color = to_hex(colormaps[target.cmap](float(share)))
        ElementTree.SubElement(
            ramp, "item", value=f"{value:.9g}", label=f"{value:.4g}", color=color, alpha="255"
        )
    prefix, suffix = f"{name} ", f" {unit}" if unit else ""
    ElementTree.SubElement(
        ramp, "rampLegendSettings", prefix=prefix, suffix=suffix, useContinuousLegend="1", minimumLabel="",
        maximumLabel="", orientation="2", direction="0",
    )  # fmt: skip
    ElementTree.indent(root)
    path.write_text(ElementTree.tostring(root, encoding="unicode") + "\n")
