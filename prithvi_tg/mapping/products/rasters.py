"""What a map consists of: layers of pixels, how they are encoded, and how they become GeoTIFFs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import rasterio
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from ...plotting import class_colors
from ...readers.grid import Grid
from ...spec import DataSpec
from ...targets import IGNORE_INDEX
from ..blending import BlendedRows

Profile = Literal["cog", "legacy"]
#: How probabilities are stored: 0 to 250 for 0 to 1, with that scale in the file; or as they are, in 32 bits or
#: rounded to 16.
ProbabilityType = Literal["uint8", "float32", "float16"]

_LEGACY_NODATA = -1
_STEPS = 250


@dataclass(frozen=True)
class Layer:
    """One raster of a map.

    Attributes:
        name: ``pred``, ``probabilities`` or ``confidence``; the file is ``NAME_pred.tif`` and so on.
        band_names: A name per band.
        dtype: Of the stored values.
        nodata: Stored value of pixels without data.
        bits: Bits of a stored value, where less than its type has.
        scale: From stored values to probabilities.
    """

    name: str
    band_names: tuple[str, ...]
    dtype: str = "uint8"
    nodata: float = IGNORE_INDEX
    bits: int | None = None
    scale: float = 1.0

    @property
    def is_classes(self) -> bool:
        """Whether the values are class numbers."""
        return self.name == "pred"

    def encode(self, rows: BlendedRows) -> NDArray[Any]:
        """Stored values (bands, h, W) of finished rows."""
        shape = (len(self.band_names), *rows.masked.shape)
        if self.is_classes:
            values = rows.classes.astype(self.dtype)
            values[rows.masked] = self.nodata
            return values[None]
        probabilities = rows.probabilities
        if probabilities is None:
            return np.full(shape, self.nodata, self.dtype)
        if self.name == "confidence":
            probabilities = probabilities.max(axis=0, keepdims=True)
        if self.dtype == "float32":
            return probabilities
        return np.where(np.isnan(probabilities), self.nodata, np.rint(probabilities * _STEPS)).astype(
            self.dtype
        )


def create_layers(
    spec: DataSpec,
    profile: Profile = "cog",
    probabilities: ProbabilityType | None = None,
    confidence: bool = False,
) -> tuple[Layer, ...]:
    """The layers of a map: classes and, if wanted, the probability of every class and the highest of them."""
    if profile == "legacy":
        layers = [Layer("pred", ("class",), "int16", _LEGACY_NODATA)]
    else:
        layers = [Layer("pred", ("class",))]
    stored: dict[str, Any] = {"scale": 1 / _STEPS}
    if probabilities in ("float32", "float16"):
        stored = {
            "dtype": "float32",
            "nodata": float("nan"),
            "bits": 16 if probabilities == "float16" else None,
        }
    if probabilities:
        layers.append(Layer("probabilities", tuple(spec.target.names), **stored))
    if confidence:
        layers.append(Layer("confidence", ("highest probability",), **stored))
    return tuple(layers)


def write_raster(
    path: Path,
    pieces: Iterable[tuple[int, NDArray[Any]]],
    layer: Layer,
    grid: Grid,
    spec: DataSpec,
    profile: Profile,
    tags: Mapping[str, str],
) -> None:
    """Write a layer from top to bottom, piece by piece.

    Args:
        path: The file; an intermediate file stands beside it while it is written.
        pieces: First row and stored values (bands, h, W).
        layer: What they are.
        grid: Where they lie.
        spec: Class names and colours.
        profile: ``cog``: cloud-optimised GeoTIFF, DEFLATE, blocks of 512, overviews; classes with colour
            table, and overviews by mode. ``legacy``: as hls-foundation-os, LZW, without further tags.
        tags: Tags of the file.

    Raises:
        RasterioError, OSError: The file cannot be written.
    """
    shape = {"height": grid.height, "width": grid.width, "count": len(layer.band_names)}
    base = {
        "crs": grid.crs,
        "transform": grid.transform,
        "dtype": layer.dtype,
        "nodata": layer.nodata,
        **shape,
    }
    if profile == "legacy" and layer.is_classes:
        with rasterio.open(path, "w", driver="GTiff", compress="lzw", **base) as out:
            _place(out, grid)
            _write_pieces(out, pieces)
        return
    plain = path.with_name(f"{path.stem}.plain.tif")
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    bits = {} if layer.bits is None else {"nbits": layer.bits}
    try:
        with rasterio.open(plain, "w", driver="GTiff", bigtiff="if_safer", **base, **options) as out:
            _place(out, grid)
            _write_pieces(out, pieces)
            out.update_tags(**tags)
            if layer.is_classes:
                out.write_colormap(1, colormap(spec))
                out.update_tags(1, **{f"CLASS_{index}": name for index, name in enumerate(spec.target.names)})
            else:
                out.descriptions = layer.band_names
                out.scales = (layer.scale,) * len(layer.band_names)
        resampling = "MODE" if layer.is_classes else "AVERAGE"
        # GDAL's sidecar file would hold nothing that is not in the file; class names are written apart.
        with rasterio.Env(GDAL_PAM_ENABLED="NO"):
            copy_raster(
                plain, path, driver="COG", compress="DEFLATE", blocksize=512, overview_resampling=resampling,
                bigtiff="IF_SAFER", **bits,
            )  # fmt: skip
    finally:
        plain.unlink(missing_ok=True)


def _place(out: Any, grid: Grid) -> None:
    """Keep the ground control points of a scene that has nothing else to place it."""
    if grid.control is not None:
        out.gcps = grid.control.gcps, grid.control.crs


def _write_pieces(out: Any, pieces: Iterable[tuple[int, NDArray[Any]]]) -> None:
    for top, values in pieces:
        out.write(values, window=Window(0, top, values.shape[2], values.shape[1]))


def colormap(spec: DataSpec) -> dict[int, tuple[int, int, int, int]]:
    """Colour table of a map: class -> RGBA in 0..255; nodata is transparent."""
    table = {
        index: (*(round(channel * 255) for channel in to_rgb(color)), 255)
        for index, color in enumerate(class_colors(spec.target))
    }
    return {**table, IGNORE_INDEX: (0, 0, 0, 0)}  # type: ignore[dict-item]


def category_names(spec: DataSpec) -> str:
    """Class names as GDAL's sidecar file ``.aux.xml`` holds them, which a GeoTIFF itself cannot."""
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    names = ElementTree.SubElement(band, "CategoryNames")
    for name in spec.target.names:
        ElementTree.SubElement(names, "Category").text = name
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
