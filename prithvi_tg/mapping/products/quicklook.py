"""Quicklook: a small picture of a scene and its map."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rasterio.enums import Resampling

from ...plotting import NO_DATA, add_colorbar, add_legend, frame_pictures, mark, panels
from ...plotting import draw_classes as draw_class_panel
from ...readers.raster import open_raster
from ...readers.scene import Pixels, SceneReader
from ...spec import DataSpec
from ...targets import IGNORE_INDEX, ClassTarget, Target, ValueTarget
from .base import FinishedMap, OutputOptions, Product

_SIDE = 1024
_EMPTY = "map: no data"


class Quicklook(Product):
    """``NAME_pred.png``: the scene beside its map, each at most 1024 pixels wide or high; see `frame_pictures`."""

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
    """Draw a scene, and its classes in the class colours."""
    with open_raster(map_path) as source:
        classes = source.read(1, out_shape=pixels.masked.shape, resampling=Resampling.nearest)
    figure, (axis,) = _draw_scene(pixels, spec, 1)
    draw_class_panel(axis, classes, spec.target, no_data=True)
    axis.set_title("map" if (classes != IGNORE_INDEX).any() else _EMPTY)
    add_legend(figure, spec.target)
    return figure


def draw_values(map_path: Path, pixels: Pixels, spec: DataSpec) -> Figure:
    """Draw a scene, and each of its values in the target's colormap with a colour bar."""
    target: Any = spec.target
    with open_raster(map_path) as source:
        shape = (source.count, *pixels.masked.shape)
        values = source.read(out_shape=shape, resampling=Resampling.average, masked=True)
    figure, axes = _draw_scene(pixels, spec, len(values))
    for axis, band, name, unit in zip(axes, values, target.names, target.units, strict=True):
        if not band.count():
            axis.set_title(_EMPTY)
            continue
        drawn = axis.imshow(band, cmap=target.cmap, interpolation="nearest")
        mark(axis, np.ma.getmaskarray(band), NO_DATA)
        axis.set_title(name)
        add_colorbar(figure, axis, drawn, f"{name} ({unit})" if unit else name)
    add_legend(figure)
    return figure


#: Target -> function that draws its map beside the scene.
DRAWINGS: dict[type[Target], Callable[[Path, Pixels, DataSpec], Figure]] = {
    ClassTarget: draw_classes,
    ValueTarget: draw_values,
}


def _draw_scene(pixels: Pixels, spec: DataSpec, count: int) -> tuple[Figure, list[Axes]]:
    """Draw the pictures of each date, and return the figure and `count` further panels."""
    shape = (spec.input.num_frames, len(spec.input.bands), *pixels.masked.shape)
    pictures = frame_pictures(pixels.values.reshape(shape), pixels.valid.reshape(shape), spec.input)
    figure, axes = panels(len(pictures) + count, pixels.masked.shape)
    for axis, picture in zip(axes, pictures, strict=False):
        picture.draw(axis)
        axis.set_title(picture.title)
    return figure, axes[len(pictures) :]
