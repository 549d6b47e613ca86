"""Quicklooks: a scene and its map as one small picture."""

from pathlib import Path

import torch
from rasterio.enums import Resampling

from ...plotting import plot_sample
from ...readers.raster import open_raster
from ...readers.scene import Scene, SceneReader
from ...spec import DataSpec

_SIDE = 1024


def write_quicklook(map_path: Path, path: Path, scene: Scene, spec: DataSpec) -> None:
    """Draw a scene and its map, at most 1024 pixels wide or high each.

    Raises:
        DataError: One of them cannot be read.
        OSError: The picture cannot be written.
    """
    with SceneReader(scene, spec.input) as reader:
        pixels = reader.overview(_SIDE)
    with open_raster(map_path) as source:
        classes = source.read(1, out_shape=pixels.masked.shape, resampling=Resampling.nearest)
    shape = (spec.input.num_frames, len(spec.input.bands), *pixels.masked.shape)
    sample = {
        "image": torch.from_numpy(pixels.values.reshape(shape)),
        "valid": torch.from_numpy(pixels.valid.reshape(shape)),
        "prediction": classes,
    }
    plot_sample(sample, spec).savefig(path, dpi=110, format="png")
