"""Quicklook: a small picture of a scene and its map."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rasterio.enums import Resampling

from ...plotting import panels, plot_sample, true_color
from ...readers.raster import open_raster
from ...readers.scene import Pixels, SceneReader
from ...spec import DataSpec
from ...targets import ClassTarget, Target, ValueTarget
from .base import FinishedMap, OutputOptions, Product

_SIDE = 1024


class Quicklook(Product):
    """``NAME_pred.png``: the scene beside its map, each at most 1024 pixels wide or high."""

    name = "quicklook"
    files = {"quicklook": "{map}.png"}
    targets = (ClassTarget, ValueTarget)

    @classmethod
    def is_asked_for(cls, options: OutputOptions) -> bool:
        """By ``quicklook``."""
        return options.quicklook

    def finish(self, finished: FinishedMap) -> None:
        """Draw the scene and the map."""
        spec = self.context.spec
        with SceneReader(self.context.scene, spec.input) as reader:
            pixels = reader.overview(_SIDE)
        figure = DRAWINGS[type(spec.target)](finished.files["pred"], pixels, spec)
        figure.savefig(finished.files["quicklook"], dpi=110, format="png")


def draw_classes(map_path: Path, pixels: Pixels, spec: DataSpec) -> Figure:
    """Draw a scene beside its classes, in the class colours."""
    with open_raster(map_path) as source:
        classes = source.read(1, out_shape=pixels.masked.shape, resampling=Resampling.nearest)
    sample = {**_frames(pixels, spec), "prediction": classes}
    return plot_sample({key: torch.as_tensor(value) for key, value in sample.items()}, spec)


def draw_values(map_path: Path, pixels: Pixels, spec: DataSpec) -> Figure:
    """Draw a scene beside each of its values, in the target's colormap with a colour bar; nodata is white."""
    target: Any = spec.target
    with open_raster(map_path) as source:
        shape = (source.count, *pixels.masked.shape)
        values = source.read(out_shape=shape, resampling=Resampling.average, masked=True)
    frames = _frames(pixels, spec)
    figure, axes = panels(len(frames["image"]) + len(values))
    for axis, image, valid in zip(axes, frames["image"], frames["valid"], strict=False):
        axis.imshow(true_color(image, spec.input, valid))
    bands = zip(axes[len(frames["image"]) :], values, target.names, target.units, strict=True)
    for axis, band, name, unit in bands:
        drawn = axis.imshow(band, cmap=target.cmap, interpolation="nearest")
        axis.set_title(name)
        figure.colorbar(drawn, ax=axis, label=unit or name, shrink=0.7)
    return figure


#: Target -> function that draws its map beside the scene.
DRAWINGS: dict[type[Target], Callable[[Path, Pixels, DataSpec], Figure]] = {
    ClassTarget: draw_classes,
    ValueTarget: draw_values,
}


def _frames(pixels: Pixels, spec: DataSpec) -> dict[str, Any]:
    shape = (spec.input.num_frames, len(spec.input.bands), *pixels.masked.shape)
    return {
        "image": np.asarray(pixels.values).reshape(shape),
        "valid": np.asarray(pixels.valid).reshape(shape),
    }
