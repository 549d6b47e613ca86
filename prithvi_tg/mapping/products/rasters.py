"""RasterProduct: products that assemble their strips into a GeoTIFF."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import rasterio
import torch
from numpy.typing import NDArray
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window
from torch import Tensor

from ...errors import ConfigError
from ...readers.grid import Grid
from ..blending import BlendedRows
from .base import FinishedMap, Layer, MapContext, Product

Pieces = Iterable[tuple[int, NDArray[Any]]]


class RasterProduct(Product):
    """A cloud-optimised GeoTIFF. The name of its layer is its key in `Product.files`.

    ``NAME_water.tif``, the probability of class 1::

        from prithvi_tg.mapping.products import Layer, RasterProduct, filled

        class Water(RasterProduct):
            name = "water"
            files = {"water": "{stem}_water.tif"}

            def create_layer(self, context):
                return Layer("water", ("probability of water",), "float32", float("nan"))

            def encode(self, rows):
                water = None if rows.probabilities is None else rows.probabilities[1:2]
                return filled(water, rows, self.layer)

    Attributes:
        resampling: GDAL's resampling of overviews.
        block: Size of a tile in pixels.
    """

    resampling: ClassVar[str] = "AVERAGE"
    block: ClassVar[int] = 512
    layer: Layer

    @abstractmethod
    def create_layer(self, context: MapContext) -> Layer:
        """Name, bands and type of the raster."""

    @abstractmethod
    def encode(self, rows: BlendedRows) -> Tensor | NDArray[Any]:
        """Stored values (bands, h, W) of completed rows, with nodata where ``rows.masked``; see `filled`."""

    def begin(self, context: MapContext) -> None:
        """Start the product of one scene. A subclass that overrides this method must call it first.

        Raises:
            ConfigError: The name of the layer is not a key of the product's files.
        """
        super().begin(context)
        self.layer = self.create_layer(context)
        if self.layer.name not in (keys := self.outputs()):
            raise ConfigError(
                f"products: {self.name}: files has the keys {', '.join(keys) or 'none'}, but the layer is named "
                f"{self.layer.name}; use one name for both"
            )

    def check_encoded(self, values: Any, rows: BlendedRows) -> None:
        """Check that the result of `encode` matches the layer.

        Raises:
            ConfigError: The shape differs, or the values are floats but the type of the layer is an integer.
        """
        super().check_encoded(values, rows)
        wanted = (len(self.layer.band_names), *rows.nodata.shape)
        if values is None or tuple(values.shape) != wanted:
            found = "None" if values is None else f"shape {tuple(values.shape)}"
            raise ConfigError(f"products: {self.name}.encode returns {found}, not (bands, h, W) = {wanted}")
        if "float" in str(values.dtype) and "int" in self.layer.dtype:
            raise ConfigError(
                f"products: {self.name}.encode returns {values.dtype} for a layer of {self.layer.dtype}; round and "
                "convert it, or choose float32"
            )

    def write(self, top: int, values: NDArray[Any], strip: Any) -> None:
        """Write the rows into the raster of their strip."""
        strip.write(self.layer, top, values)

    def pieces(self, finished: FinishedMap) -> Pieces:
        """Yield first row and stored values (bands, h, W), from top to bottom."""
        return finished.pieces(self.layer)

    def decorate(self, raster: Any) -> None:
        """Add descriptions, scales, colours and tags to an open raster, after its pixels are written."""
        raster.descriptions = self.layer.band_names
        raster.scales = (self.layer.scale,) * len(self.layer.band_names)

    def finish(self, finished: FinishedMap) -> None:
        """Assemble the strips."""
        context, path = self.context, finished.files[self.layer.name]
        pieces = self.pieces(finished)
        grid = context.scene.grid
        write_cog(path, pieces, self.layer, grid, context.tags, self.decorate, self.resampling, self.block)


def write_cog(
    path: Path,
    pieces: Pieces,
    layer: Layer,
    grid: Grid,
    tags: Mapping[str, str],
    decorate: Callable[[Any], None],
    resampling: str,
    block: int = 512,
) -> None:
    """Write a cloud-optimised GeoTIFF, tiled, with DEFLATE compression and overviews.

    Args:
        path: Path of the file; a temporary file is written beside it.
        pieces: First row and stored values (bands, h, W) of each piece, from top to bottom.
        layer: Bands and type of the raster.
        grid: Grid of the raster.
        tags: Tags of the file.
        decorate: Called with the open raster after its pixels are written.
        resampling: GDAL's resampling of overviews.
        block: Size of a tile in pixels.

    Raises:
        RasterioError, OSError: The file cannot be written.
    """
    plain = path.with_name(f"{path.stem}.plain.tif")
    tiles = {"tiled": True, "blockxsize": block, "blockysize": block}
    options = {**tiles, "compress": "deflate", "zlevel": 1, "num_threads": "ALL_CPUS"}
    bits = {} if layer.bits is None else {"nbits": layer.bits}
    try:
        with rasterio.open(
            plain, "w", driver="GTiff", bigtiff="if_safer", **raster_profile(layer, grid), **options
        ) as out:
            write_pieces(out, pieces, grid)
            out.update_tags(**tags)
            decorate(out)
        # GDAL's sidecar file would only repeat the file's metadata; class names are written separately.
        with rasterio.Env(GDAL_PAM_ENABLED="NO"):
            copy_raster(
                plain, path, driver="COG", compress="DEFLATE", blocksize=block, overview_resampling=resampling,
                bigtiff="IF_SAFER", num_threads="ALL_CPUS", **bits,
            )  # fmt: skip
    finally:
        plain.unlink(missing_ok=True)


def raster_profile(layer: Layer, grid: Grid) -> dict[str, Any]:
    """Profile of a layer for rasterio: CRS, transform, size and type."""
    return {
        "crs": grid.crs,
        "transform": grid.transform,
        "dtype": layer.dtype,
        "nodata": layer.nodata,
        "height": grid.height,
        "width": grid.width,
        "count": len(layer.band_names),
    }


def write_pieces(out: Any, pieces: Pieces, grid: Grid) -> None:
    """Write pieces, each a first row and stored values (bands, h, W), into an open raster."""
    if grid.control is not None:  # the scene is georeferenced only by ground control points
        out.gcps = grid.control.gcps, grid.control.crs
    for top, values in pieces:
        out.write(values, window=Window(0, top, values.shape[2], values.shape[1]))


def filled(values: Tensor | None, rows: BlendedRows, layer: Layer) -> Tensor:
    """Stored values (bands, h, W) in the type of a layer, with nodata where `rows` are masked.

    Args:
        values: Values (bands, h, W); ``None`` if no window overlaps the rows, which returns nodata everywhere.
        rows: The rows.
        layer: Type and nodata of the result.
    """
    dtype = torch_dtype(layer)
    if values is None:
        shape = (len(layer.band_names), *rows.nodata.shape)
        return torch.full(shape, layer.nodata, dtype=dtype, device=rows.device)
    return values.to(dtype).masked_fill(rows.masked, layer.nodata)


def torch_dtype(layer: Layer) -> torch.dtype:
    """The torch type of stored values."""
    dtype: torch.dtype = getattr(torch, layer.dtype)
    return dtype
