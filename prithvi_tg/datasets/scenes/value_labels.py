"""Values of scenes, such as biomass or height: rasters as a TorchGeo data set, to be joined to images."""

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

    A sample holds ``mask`` float32 (H, W), or (V, H, W) for several values, in the unit, NaN = not labelled, on the
    pixels of the query, ``bounds`` and ``crs``. Where a pixel of the query covers several of the raster, it has their
    mean; elsewhere values are bilinear. A pixel is labelled if its centre lies in a labelled pixel of the raster;
    pixels that are not labelled add nothing to others. Later files fill what earlier ones leave unlabelled.

    A subclass may set TorchGeo's ``filename_regex`` and ``date_format``; then only files of the images' time
    are used.

    Args:
        paths: Rasters with a band per value, or folders that hold them (``.tif``, ``.tiff``, ``.vrt``, ``.img``).
        target: The values, see `read_values`.
        transforms: Called with each sample.

    Raises:
        ConfigError: Scale tags contradict the scale of the target.
        DataError: A file is missing, unreadable, has no CRS or another number of bands, or no date in its name
            where there should be one. When read: a value lies outside the valid range.
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
        """Values of a file on a grid (V, H, W), NaN where there is none."""
        source = self._source(path)

        def read(window: Window, size: tuple[int, int]) -> Warped:
            values = read_mean_values(source, path, self.target, window, size)
            return Warped(values, self.target.is_labelled(values))

        values: Values = self._on_grid(
            source, grid, read, self.target.num_outputs, "float32", Resampling.bilinear, Resampling.average
        )
        return values
