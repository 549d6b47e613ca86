"""Embeddings: tokens of an encoder as a raster with one pixel per patch, as points, and as a picture."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pyarrow
import shapely
from matplotlib.image import imsave
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor

from ...choices import EmbeddingType as EmbeddingType
from ...errors import ConfigError
from ...readers.crs import to_pyproj
from ...targets import Target
from ..blending import BlendedRows
from .base import FinishedMap, ItemFields, Layer, MapContext, Product
from .rasters import Pieces, RasterProduct, filled, write_cog

_INT8_NODATA, _INT8_STEPS = -128, 127
#: Number of tokens that the principal components are computed from.
_SAMPLE = 20_000
_PICTURE_SIDE = 512


@dataclass(frozen=True)
class TokenTarget(Target):
    """Features of patches: the output of an encoder without a head. There are no labels for this target.

    Attributes:
        names: Name of each feature.
    """

    kind: ClassVar[str] = "tokens"
    names: tuple[str, ...] = ()

    @property
    def num_outputs(self) -> int:
        """Number of features."""
        return len(self.names)


class Embeddings(RasterProduct):
    """Raster with one band per feature on the grid of patches; a patch is nodata if all its pixels are.

    Args:
        dtype: ``float16`` or ``float32`` with nodata NaN; ``int8`` with nodata -128 and a scale per band, computed
            from the band's largest absolute value.

    Raises:
        ConfigError: The type is unknown.
    """

    name = "embeddings"
    files = {"pred": "{file}"}
    targets = (TokenTarget,)
    block = 64  # with hundreds of bands, tiles of 512 pixels would need gigabytes of memory

    def __init__(self, dtype: EmbeddingType = "float16") -> None:
        if dtype not in get_args(EmbeddingType):
            raise ConfigError(
                f"dtype: {dtype!r} is unknown; choose from {', '.join(get_args(EmbeddingType))}"
            )
        self.dtype = dtype
        self._scales: NDArray[np.float64] | None = None

    def create_layer(self, context: MapContext) -> Layer:
        """One band per feature, in float32 until the range of all tokens is known."""
        bits = 16 if self.dtype == "float16" else None
        return Layer("pred", tuple(context.spec.target.names), "float32", float("nan"), bits)

    def encode(self, rows: BlendedRows) -> Tensor:
        """Features (D, h, w)."""
        return filled(rows.logits, rows, self.layer)

    def decorate(self, raster: Any) -> None:
        """Add names and scales of the features."""
        super().decorate(raster)
        if self._scales is not None:
            raster.scales = tuple(self._scales.tolist())

    def finish(self, finished: FinishedMap) -> None:
        """Write the raster; ``int8`` is scaled by the range of each feature."""
        if self.dtype != "int8":
            super().finish(finished)
            return
        highest = np.zeros(len(self.layer.band_names))
        for _, values in finished.pieces(self.layer):
            highest = np.fmax(highest, np.fmax.reduce(np.abs(values), axis=(1, 2)))
        self._scales = np.where(highest > 0, highest, 1) / _INT8_STEPS
        stored = Layer("pred", self.layer.band_names, "int8", _INT8_NODATA)
        write_cog(
            finished.files["pred"], self._steps(finished), stored, self.context.scene.grid, self.context.tags,
            self.decorate, self.resampling, self.block,
        )  # fmt: skip

    def _steps(self, finished: FinishedMap) -> Pieces:
        assert self._scales is not None
        for top, values in finished.pieces(self.layer):
            steps = np.rint(values / self._scales[:, None, None])
            yield top, np.where(np.isnan(steps), _INT8_NODATA, steps).astype(np.int8)

    def item_fields(self, finished: FinishedMap) -> ItemFields:
        """Type and number of the features."""
        fields: dict[str, Any] = {"data_type": self.dtype, "nodata": "nan"}
        if self.dtype == "int8":
            fields["nodata"] = _INT8_NODATA
        return ItemFields({"prithvi_tg:features": len(self.layer.band_names)}, {"pred": fields})


class TokenPoints(Product):
    """A GeoParquet file with a point at the centre of each valid patch, and its features as a list.

    Args:
        path: The file, ``.parquet``.

    Raises:
        ConfigError: It has another ending.
    """

    name = "points"
    targets = (TokenTarget,)

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in (".parquet", ".geoparquet"):
            raise ConfigError(f"points: {path} must be a GeoParquet file, .parquet")
        self.path = path

    def outputs(self) -> dict[str, Path]:
        """The file."""
        return {"points": self.path}

    def finish(self, finished: FinishedMap) -> None:
        """Write one row group for each piece of the raster."""
        grid, layer = self.context.scene.grid, _features(finished)
        crs = None if grid.ground_crs is None else to_pyproj(grid.ground_crs).to_json_dict()
        column = {"encoding": "WKB", "geometry_types": ["Point"], "crs": crs}
        geo = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}
        kind = pyarrow.list_(pyarrow.float32(), len(layer.band_names))
        schema = pyarrow.schema(
            [("row", pyarrow.int32()), ("column", pyarrow.int32()), ("embedding", kind),
             ("geometry", pyarrow.binary())],
            metadata={"geo": json.dumps(geo)},
        )  # fmt: skip
        with parquet.ParquetWriter(finished.files["points"], schema) as writer:
            for rows, columns, tokens in _tokens(finished):
                points = shapely.points(*grid.xy(rows + 0.5, columns + 0.5))
                flat = pyarrow.array(tokens.ravel(), pyarrow.float32())
                lists = pyarrow.FixedSizeListArray.from_arrays(flat, type=kind)
                values = [rows.astype(np.int32), columns.astype(np.int32), lists, shapely.to_wkb(points)]
                writer.write_table(pyarrow.table(values, schema=schema))


class PrincipalComponents(Product):
    """``NAME.png``: the first three principal components of the features as red, green and blue."""

    name = "principal_components"
    files = {"picture": "{map}.png"}
    targets = (TokenTarget,)

    def finish(self, finished: FinishedMap) -> None:
        """Compute the components from a sample, and draw all patches."""
        grid = self.context.scene.grid
        picture = np.zeros((grid.height, grid.width, 4), np.float32)  # transparent without data
        step = max(1, grid.height * grid.width // _SAMPLE)
        parts = [tokens[::step] for _, _, tokens in _tokens(finished)]
        sample = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
        if len(sample):
            middle = sample.mean(axis=0)
            components = np.linalg.svd(sample - middle, full_matrices=False)[2][:3]
            low, high = np.percentile((sample - middle) @ components.T, (2, 98), axis=0)
            for rows, columns, tokens in _tokens(finished):
                shown = ((tokens - middle) @ components.T - low) / np.maximum(high - low, 1e-9)
                picture[rows, columns, : shown.shape[1]] = np.clip(shown, 0, 1)
                picture[rows, columns, 3] = 1
        scale = max(1, _PICTURE_SIDE // max(grid.height, grid.width))
        imsave(finished.files["picture"], np.kron(picture, np.ones((scale, scale, 1))), format="png")


def _features(finished: FinishedMap) -> Layer:
    layer = next(product.layer for product in finished.products if product.name == Embeddings.name)
    assert layer is not None
    return layer


def _tokens(
    finished: FinishedMap,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Yield rows (N,), columns (N,) and features (N, D) of the valid patches, piece by piece."""
    for top, values in finished.pieces(_features(finished)):
        rows, columns = np.nonzero(~np.isnan(values[0]))
        if len(rows):
            yield rows + top, columns, values[:, rows, columns].T
