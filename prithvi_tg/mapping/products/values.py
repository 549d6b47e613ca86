"""ValueMap: the map of a regression model, such as of biomass."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DataError
from ...readers.raster import open_raster
from ...targets import ValueTarget
from ..blending import BlendedRows
from .base import FinishedMap, ItemFields, Layer, MapContext
from .rasters import Pieces, RasterProduct, filled
from .styles import write_value_style


class ValueMap(RasterProduct):
    """``NAME_pred.tif``: float32 with nodata NaN, one band per value in its unit.

    ``NAME_pred.qml`` is the style that QGIS applies when it opens the map; it colours the first value. The style of
    each further value is ``NAME_pred_VALUE.qml``; load it in QGIS to colour that band instead.

    Attributes:
        statistics: ``minimum``, ``maximum``, ``mean`` and ``stddev`` of each band, available after the raster is
            written; empty without data.
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
        """Convert standardised outputs to values (V, h, W) in their units, NaN where masked."""
        if rows.logits is None:
            return filled(None, rows, self.layer)
        target = self._target
        mean, std = (
            torch.tensor(part, device=rows.device)[:, None, None] for part in (target.mean, target.std)
        )
        return filled(rows.logits * std + mean, rows, self.layer)

    def pieces(self, finished: FinishedMap) -> Pieces:
        """Yield values from top to bottom, and compute their statistics."""
        moments = [_Moments(mean) for mean in self._target.mean]
        for top, values in super().pieces(finished):
            for moment, band in zip(moments, values, strict=True):
                moment.add(band)
            yield top, values
        self.statistics = [moment.statistics for moment in moments]

    def decorate(self, raster: Any) -> None:
        """Add names, units and statistics of bands, by GDAL's conventions."""
        super().decorate(raster)
        raster.units = self._target.units
        for band, statistics in enumerate(self.statistics, start=1):
            tags = {f"STATISTICS_{key.upper()}": f"{value:.9g}" for key, value in statistics.items()}
            raster.update_tags(band, **tags)

    def finish(self, finished: FinishedMap) -> None:
        """Write the raster, and a style for each value."""
        super().finish(finished)
        for band, key in enumerate(self._style_keys, start=1):
            write_value_style(finished.files[key], self._target, band, self.statistics[band - 1])

    def outputs(self) -> dict[str, Path]:
        """Final paths of the raster, of its default style, and of a style for each further value."""
        found = super().outputs()
        path = self.context.path
        further = zip(self._style_keys[1:], self._target.names[1:], strict=True)
        return {**{key: _style_path(path, name) for key, name in further}, **found}

    @classmethod
    def earlier_outputs(cls, path: Path) -> set[Path]:
        """Also the styles of further values, found by the band names of the earlier map."""
        found = super().earlier_outputs(path)
        if path.is_file():
            with (
                suppress(DataError),
                open_raster(path) as earlier,
            ):  # a file that is not a raster has no bands
                found |= {_style_path(path, name) for name in earlier.descriptions[1:] if name}
        return found

    @property
    def _style_keys(self) -> list[str]:
        """Key of each value's style in `outputs`."""
        return ["style", *(f"style_{band}" for band in range(2, len(self._target.names) + 1))]

    def item_fields(self, finished: FinishedMap) -> ItemFields:
        """Names, units and statistics of bands, as fields of STAC 1.1."""
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
            f"{name}: mean {statistics['mean']:.4g}, SD {statistics['stddev']:.4g} {unit}".rstrip()
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
    """Path of the style of a further value."""
    return path.with_name(f"{path.stem}_{re.sub(r'[^0-9A-Za-z_.-]+', '_', name)}.qml")


class _Moments:
    """Running statistics of values. Sums are relative to `origin`, which avoids cancellation."""

    def __init__(self, origin: float) -> None:
        self.origin = origin
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: NDArray[Any]) -> None:
        """Add values; NaN is ignored."""
        known = values[np.isfinite(values)].astype(np.float64)
        if known.size:
            self.low, self.high = min(self.low, known.min()), max(self.high, known.max())
            known -= self.origin
            self.count += known.size
            self.total += known.sum()
            self.squares += np.square(known).sum()

    @property
    def statistics(self) -> dict[str, float]:
        """Minimum, maximum, mean and standard deviation; empty without values."""
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
