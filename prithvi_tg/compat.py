"""Differences between versions of TorchGeo, and private names of other libraries: all of them here."""

from typing import Any

# GDAL's own errors: rasterio raises some of them unwrapped, and exports no name for them.
from rasterio._err import CPLE_BaseError as GDALError
from torchgeo.datasets import GeoDataset

try:  # TorchGeo 0.10 moved the tasks and dropped the suffix.
    from torchgeo.tasks import BaseTask
    from torchgeo.tasks import PixelwiseRegression as PixelwiseRegressionTask
    from torchgeo.tasks import SemanticSegmentation as SemanticSegmentationTask
except ImportError:
    from torchgeo.trainers import BaseTask, PixelwiseRegressionTask, SemanticSegmentationTask

__all__ = ["BaseTask", "GDALError", "PixelwiseRegressionTask", "SemanticSegmentationTask", "place_of"]


def place_of(dataset: GeoDataset, query: Any) -> dict[str, Any]:
    """What a sample tells of its place, so that samples of several data sets can be combined."""
    if hasattr(dataset, "_slice_to_tensor"):  # TorchGeo 0.10: tensors only
        return {"bounds": dataset._slice_to_tensor(query)}
    return {"bounds": query, "crs": dataset.crs}
