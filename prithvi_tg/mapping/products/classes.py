"""ClassMap: the map of a model with one logit per class."""

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
from matplotlib.colors import to_hex, to_rgb
from numpy.typing import NDArray
from torch import Tensor

from ...errors import first_of
from ...plotting import class_colors
from ...spec import DataSpec
from ...targets import IGNORE_INDEX, ClassTarget, Target
from ..blending import BlendedRows
from .base import FinishedMap, ItemFields, Layer, MapContext
from .rasters import RasterProduct, filled, raster_profile, write_pieces
from .styles import write_class_style

_LEGACY_NODATA = -1
_CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"


class ClassMap(RasterProduct):
    """``NAME_pred.tif``: the most likely class of each pixel, uint8 with nodata 255, with colours and names.

    ``NAME_pred.qml`` is the style that QGIS applies when it opens the map.
    """

    name = "classes"
    files = {"names": "{file}.aux.xml", "style": "{map}.qml", "pred": "{file}"}
    targets = (ClassTarget,)
    resampling = "MODE"
    is_indexed = True

    def create_layer(self, context: MapContext) -> Layer:
        """One band of class numbers."""
        return Layer("pred", ("class",))

    def encode(self, rows: BlendedRows) -> Tensor:
        """Class numbers (1, h, W)."""
        return filled(rows.classes[None], rows, self.layer)

    def write(self, top: int, values: NDArray[Any], strip: Any) -> None:
        """Write classes, and count the pixels of each class and their mapped area."""
        super().write(top, values, strip)
        # One count per row, as the area of a pixel depends on its row.
        height, kinds = values.shape[1], IGNORE_INDEX + 1
        classes = np.where(values[0] == self.layer.nodata, IGNORE_INDEX, values[0]).astype(np.int32)
        keys = classes + kinds * np.arange(height, dtype=np.int32)[:, None]
        counts = np.bincount(keys.ravel(), minlength=kinds * height).reshape(height, kinds)
        counts[:, IGNORE_INDEX] = 0
        strip.count("pixels", counts.sum(axis=0))
        if self.context.areas is not None:
            strip.count("square_metres", self.context.areas[top : top + height] @ counts)

    def decorate(self, raster: Any) -> None:
        """Add the colour table, and class names as tags."""
        spec = self.context.spec
        raster.write_colormap(1, colormap(spec))
        raster.update_tags(1, **{f"CLASS_{index}": name for index, name in enumerate(spec.target.names)})

    def finish(self, finished: FinishedMap) -> None:
        """Write the raster, the class names in a sidecar file, and the style."""
        super().finish(finished)
        write_class_style(finished.files["style"], self.context.spec.target)
        finished.files["names"].write_text(category_names(self.context.spec))

    def item_fields(self, finished: FinishedMap) -> ItemFields:
        """Classes with their pixel counts and mapped areas."""
        mapped_areas = finished.total("square_metres")
        metres = None if mapped_areas is None else mapped_areas.tolist()
        return class_fields(self.context.spec, self._pixels(finished).tolist(), metres)

    def summary(self, finished: FinishedMap) -> list[str]:
        """Percentage of each class among the mapped pixels, and the classes without a pixel."""
        pixels = self._pixels(finished)
        if not pixels.any():
            return []
        shares = dict(zip(self.context.spec.target.names, pixels / pixels.sum(), strict=True))
        absent = [name for name, share in shares.items() if not share]
        present = [f"{name} {100 * share:.1f} %" for name, share in shares.items() if share]
        return [*present, f"no pixels: {first_of(absent)}"] if absent else present

    def _pixels(self, finished: FinishedMap) -> NDArray[np.int64]:
        pixels = finished.total("pixels")
        assert pixels is not None
        return pixels[: len(self.context.spec.target.names)]


class LegacyClassMap(ClassMap):
    """``NAME_pred.tif`` as hls-foundation-os wrote it: int16 with nodata -1, LZW, no further tags."""

    name = "legacy_classes"
    files = {"pred": "{file}"}
    is_indexed = False

    def create_layer(self, context: MapContext) -> Layer:
        """One band of class numbers."""
        return Layer("pred", ("class",), "int16", _LEGACY_NODATA)

    def finish(self, finished: FinishedMap) -> None:
        """Write the raster without a sidecar file."""
        grid = self.context.scene.grid
        profile = raster_profile(self.layer, grid)
        with rasterio.open(finished.files["pred"], "w", driver="GTiff", compress="lzw", **profile) as out:
            write_pieces(out, self.pieces(finished), grid)


def class_fields(spec: DataSpec, pixels: Sequence[int], mapped_areas: Sequence[float] | None) -> ItemFields:
    """Fields of a map of classes in a STAC item, by the extension classification 2.0.0.

    Args:
        spec: Class names and colours.
        pixels: Number of pixels of each class.
        mapped_areas: Mapped area of each class in square metres, if known.
    """
    metres = [None] * len(pixels) if mapped_areas is None else [float(area) for area in mapped_areas]
    names = spec.target.names
    counted = [
        {"value": value, "name": name, "pixels": int(count), "square_metres": area}
        for value, (name, count, area) in enumerate(zip(names, pixels, metres, strict=False))
    ]
    nodata = {"value": IGNORE_INDEX, "name": "nodata", "title": "No data", "nodata": True}
    raster = {
        "data_type": "uint8",
        "nodata": IGNORE_INDEX,
        "classification:classes": [*described_classes(spec.target), nodata],
    }
    return ItemFields({"prithvi_tg:classes": counted}, {"pred": raster}, (_CLASSIFICATION,))


def described_classes(target: Target) -> list[dict[str, Any]]:
    """Value, name and colour of each class, by the extension classification 2.0.0."""
    return [
        # The extension allows only letters, digits, "-" and "_" in a name.
        {
            "value": value,
            "name": re.sub(r"[^0-9A-Za-z_-]+", "_", name),
            "title": name,
            "color_hint": to_hex(color)[1:].upper(),
        }
        for value, (name, color) in enumerate(zip(target.names, class_colors(target), strict=True))
    ]


def colormap(spec: DataSpec) -> dict[int, tuple[int, int, int, int]]:
    """Colour table of a map: class -> RGBA in 0..255; nodata is transparent."""
    table = {
        index: (*(round(channel * 255) for channel in to_rgb(color)), 255)
        for index, color in enumerate(class_colors(spec.target))
    }
    return {**table, IGNORE_INDEX: (0, 0, 0, 0)}  # type: ignore[dict-item]


def category_names(spec: DataSpec) -> str:
    """Content of GDAL's sidecar file ``.aux.xml`` with the class names, which a GeoTIFF cannot store."""
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    names = ElementTree.SubElement(band, "CategoryNames")
    for name in spec.target.names:
        ElementTree.SubElement(names, "Category").text = name
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
