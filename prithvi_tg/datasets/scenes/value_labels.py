"""ValueRaster: rasters of values, such as biomass or height, as a TorchGeo dataset, combined with images by ``&``."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ...readers.grid import Grid
from ...readers.labels import check_value_raster, read_mean_values
from ...readers.warp import Warped
from ...targets import ValueTarget
from .label_dataset import Paths, RasterLabels, Transform

Values = NDArray[np.float32]


class ValueRaster(RasterLabels):
    """Rasters of values, in any CRS and resolution.

    A sample contains ``mask`` float32 (H, W), or (V, H, W) for several values, in the unit, NaN = not labelled, on the
    pixels of the query, ``bounds`` and ``crs``. A pixel of the query that covers several pixels of the raster has their
    mean; otherwise values are interpolated bilinearly. A pixel is labelled if its centre lies in a labelled pixel of
    the raster; pixels without a label are ignored. If a pixel has no label in one file, the next file in the list is
    used.

    A subclass may set TorchGeo's ``filename_regex`` and ``date_format``; then each image uses only files of its
    period.

    Args:
        paths: Rasters with one band per value, or folders of them (``.tif``, ``.tiff``, ``.vrt``, ``.img``).
        target: The values, see `read_values`.
        transforms: Called with each sample.

    Raises:
        ConfigError: Scale tags contradict the scale of the target.
        DataError: A file is missing, unreadable, has no CRS or another number of bands, or its name does not match
            `filename_regex`. When read: a value lies outside the valid range.
    """

    def __init__(self, paths: Paths, target: ValueTarget, transforms: Transform | None = None) -> None:
        self.target = target
        self.transforms = transforms
        self._find_rasters(paths)

    def _check(self, source: DatasetReader, path: str) -> None:
        check_value_raster(source, path, self.target)

    def _labels(self, grid: Grid, files: Sequence[int]) -> Values:
        values = np.full((self.target.num_outputs, grid.height, grid.width), np.nan, np.float32)
        for number in files:
            unlabelled = ~self.target.is_labelled(values)
            if unlabelled.any():
                np.copyto(values, self._read(self.files[number], grid), where=unlabelled)
        return values[0] if len(values) == 1 else values

    def _read(self, path: str, grid: Grid) -> Values:
        """Values of a file on a grid (V, H, W), NaN for pixels without a value."""
        source = self._source(path)

        def read(window: Window, size: tuple[int, int]) -> Warped:
            values = read_mean_values(source, path, self.target, window, size)
            return Warped(values, self.target.is_labelled(values))

        values: Values = self._on_grid(
            source, grid, read, self.target.num_outputs, "float32", Resampling.bilinear, Resampling.average
        )
        return values
