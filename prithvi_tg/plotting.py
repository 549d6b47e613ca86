"""Figures of images, classes and values, drawn with matplotlib."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from .colors import default_colors
from .spec import DataSpec, InputSpec
from .targets import IGNORE_INDEX, Target, ValueTarget

_UNKNOWN = "#ffffff"


def true_color(
    image: NDArray[np.floating[Any]],
    spec: InputSpec,
    valid: NDArray[np.bool_],
    limits: tuple[float, float] | None = None,
) -> NDArray[np.floating[Any]]:
    """One frame (C, H, W) as RGB (H, W, 3) in 0..1: red, green and blue, or the first bands without them.

    Grey where there is no data.

    Args:
        image: In the unit of the statistics.
        spec: Bands and statistics.
        valid: Where there is data, as the image.
        limits: Values of black and white; by default `color_limits` of the image.
    """
    return _stretched(image, _true_channels(spec), spec, valid, limits)


def color_limits(
    image: NDArray[np.floating[Any]], spec: InputSpec, valid: NDArray[np.bool_]
) -> tuple[float, float]:
    """The 2nd and 98th percentile of the colours of `true_color`, without clouds and snow."""
    channels = _true_channels(spec)
    return _limits(np.moveaxis(image[channels], 0, -1), np.logical_and.reduce(valid[channels]), spec)


def false_color(
    image: NDArray[np.floating[Any]], spec: InputSpec, valid: NDArray[np.bool_]
) -> NDArray[np.floating[Any]] | None:
    """As `true_color`: vegetation in red, from near infrared, red and green; ``None`` without these bands."""
    channels = _channels(("NIR_NARROW", "RED", "GREEN"), spec) or _channels(("NIR", "RED", "GREEN"), spec)
    return _stretched(image, channels, spec, valid) if channels else None


def _true_channels(spec: InputSpec) -> list[int]:
    last = len(spec.bands) - 1
    return _channels(("RED", "GREEN", "BLUE"), spec) or [min(channel, last) for channel in range(3)]


def _channels(names: Sequence[str], spec: InputSpec) -> list[int]:
    return [spec.bands.index(name) for name in names] if set(names) <= set(spec.bands) else []


def _limits(rgb: NDArray[np.floating[Any]], data: NDArray[np.bool_], spec: InputSpec) -> tuple[float, float]:
    if not data.any():
        return 0.0, 1.0
    # Pixels above 0.25 in all three bands are cloud or snow; with them, all others would be black.
    dark = data & ~(rgb > 0.25 * spec.reflectance_unit).all(axis=-1)
    low, high = np.percentile(rgb[dark if dark.sum() > 0.05 * data.sum() else data], (2, 98))
    return float(low), float(high)


def _stretched(
    image: NDArray[np.floating[Any]],
    channels: list[int],
    spec: InputSpec,
    valid: NDArray[np.bool_],
    limits: tuple[float, float] | None = None,
) -> NDArray[np.floating[Any]]:
    rgb = np.moveaxis(image[channels], 0, -1)
    data = np.logical_and.reduce(valid[channels])
    low, high = limits or _limits(rgb, data, spec)
    rgb = np.clip((rgb - low) / max(high - low, 1e-9), 0, 1)
    rgb[~data] = 0.5
    return rgb


def frame_pictures(
    frames: NDArray[np.floating[Any]], valid: NDArray[np.bool_], spec: InputSpec
) -> list[tuple[str, NDArray[np.floating[Any]]]]:
    """Title and picture (H, W, 3) of each date in true colour and, with the bands for it, in false colour.

    Args:
        frames: (T, C, H, W) in the unit of the statistics.
        valid: Where there is data, as the frames.
        spec: Bands and statistics.
    """
    pictures = []
    for number, (frame, data) in enumerate(zip(frames, valid, strict=True), start=1):
        date = "" if len(frames) == 1 else f", date {number}"
        for kind, draw in (("true colour", true_color), ("false colour", false_color)):
            if (rgb := draw(frame, spec, data)) is not None:
                pictures.append((f"{kind}{date}", rgb))
    return pictures


def class_colors(target: Target) -> list[str]:
    """A colour per class: those of the target, or else those of `default_colors`."""
    return [*target.colors, *default_colors(target.names)[len(target.colors) :]]


def draw_classes(axes: Axes, classes: NDArray[np.integer[Any]], target: Target) -> None:
    """Draw classes (H, W) in their colours; 255 is white."""
    colors = [*class_colors(target), _UNKNOWN]
    shown = np.where(target.is_labelled(classes), classes, len(colors) - 1)
    norm = BoundaryNorm(np.arange(len(colors) + 1) - 0.5, len(colors))
    axes.imshow(shown, cmap=ListedColormap(colors), norm=norm, interpolation="nearest")


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with a row of panels without axes."""
    # Not with pyplot: its global state grows with each figure of a long run.
    figure = Figure(figsize=(4.2 * count, 4.8), layout="constrained")
    axes = [figure.add_subplot(1, count, index + 1) for index in range(count)]
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def add_legend(figure: Figure, target: Target, fontsize: int | None = None) -> None:
    """Add class names and colours below the panels, by default in matplotlib's font size; as many columns as fit."""
    handles = [
        Patch(facecolor=color, edgecolor="black", linewidth=0.4, label=name)
        for color, name in zip([*class_colors(target), _UNKNOWN], [*target.names, "no data"], strict=True)
    ]
    for columns in range(min(7, len(handles)), 0, -1):
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=fontsize
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def plot_sample(
    sample: dict[str, Any], spec: DataSpec, show_titles: bool = True, suptitle: str | None = None
) -> Figure:
    """Draw each date of a sample in true colour, its mask, and its prediction if it has one.

    Args:
        sample: ``image`` (T, C, H, W), ``valid`` of the same shape or absent, ``mask`` and ``prediction``
            (H, W) or absent.
        spec: Bands and classes.
        show_titles: Add a title to each panel.
        suptitle: Title of the figure.
    """
    frames = np.asarray(sample["image"], dtype=np.float64).reshape(
        spec.input.num_frames, len(spec.input.bands), *sample["image"].shape[-2:]
    )
    valid = np.ones(frames.shape, bool) if "valid" not in sample else np.asarray(sample["valid"], bool)
    layers = [key for key in ("mask", "prediction") if key in sample]
    figure, axes = panels(len(frames) + len(layers))
    for number, (axis, frame, data) in enumerate(
        zip(axes, frames, valid.reshape(frames.shape), strict=False)
    ):
        axis.imshow(true_color(frame, spec.input, data))
        if show_titles:
            axis.set_title("image" if len(frames) == 1 else f"date {number + 1}")
    for axis, key in zip(axes[len(frames) :], layers, strict=True):
        draw_classes(axis, np.asarray(sample[key]), spec.target)
        if show_titles:
            axis.set_title(key)
    if layers:
        add_legend(figure, spec.target)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def plot_evaluation(sample: dict[str, Any], spec: DataSpec) -> Figure:
    """Draw each date of a scored sample in true and false colour, its label, its prediction, and their differences.

    Args:
        sample: ``image`` (T, C, H, W) in the unit of the statistics, ``mask`` and ``prediction`` (H, W), and
            ``valid`` as the image, or not.
        spec: Bands and classes.
    """
    frames = np.asarray(sample["image"], dtype=np.float64)
    valid = (
        np.asarray(sample["valid"], bool).reshape(frames.shape)
        if "valid" in sample
        else np.ones_like(frames, bool)
    )
    data = valid.reshape(-1, *frames.shape[-2:]).any(axis=0)
    label, prediction = np.asarray(sample["mask"]), np.asarray(sample["prediction"])
    prediction = np.where(data, prediction, IGNORE_INDEX)  # as in maps
    pictures = frame_pictures(frames, valid, spec.input)
    figure, axes = panels(len(pictures) + 3)
    large = 20  # font size, as rows of many panels are displayed small
    for axis, (title, rgb) in zip(axes, pictures, strict=False):
        axis.imshow(rgb)
        axis.set_title(title, fontsize=large)
    for axis, title, classes in zip(axes[-3:], ("label", "prediction"), (label, prediction), strict=False):
        draw_classes(axis, classes, spec.target)
        axis.set_title(title, fontsize=large)
    wrong = np.where(spec.target.is_labelled(label), label != prediction, np.nan)
    axes[-1].imshow(wrong, cmap="Reds", vmin=0, vmax=1.3, interpolation="nearest")
    axes[-1].set_title("errors", fontsize=large)
    add_legend(figure, spec.target, large)
    return figure


def draw_values(axes: Axes, values: NDArray[np.floating[Any]], target: ValueTarget, number: int = 0) -> Any:
    """Draw one value (H, W) in the colormap of the target, from mean - 2 std to mean + 2 std; NaN is white."""
    mean, std = target.mean[number], target.std[number]
    low, high = np.clip((mean - 2 * std, mean + 2 * std), *(target.valid_range or (None, None)))
    return axes.imshow(values, cmap=target.cmap, vmin=low, vmax=high, interpolation="nearest")


def plot_values(sample: dict[str, Any], spec: DataSpec) -> Figure:
    """Draw each date of a sample in true colour and, for each value, its label, its prediction and the error.

    Args:
        sample: ``image`` (T, C, H, W) in the unit of the statistics, ``mask`` (H, W) or (V, H, W), ``prediction`` of
            the same shape or absent, and ``valid`` as the image, or not.
        spec: Bands and values.
    """
    assert isinstance(spec.target, ValueTarget)
    frames = np.asarray(sample["image"], dtype=np.float64)
    frames = frames.reshape(spec.input.num_frames, len(spec.input.bands), *frames.shape[-2:])
    valid = np.ones(frames.shape, bool) if "valid" not in sample else np.asarray(sample["valid"], bool)
    layers = {
        key: np.asarray(sample[key], dtype=np.float64).reshape(-1, *frames.shape[-2:])
        for key in ("mask", "prediction")
        if key in sample
    }
    rows = len(spec.target.names)
    columns = len(frames) + len(layers) + ("prediction" in layers)
    figure = Figure(figsize=(4.2 * columns, 4.4 * rows), layout="constrained")
    for row, (name, unit) in enumerate(zip(spec.target.names, spec.target.units, strict=True)):
        axes = [figure.add_subplot(rows, columns, row * columns + k + 1) for k in range(columns)]
        for axis in axes:
            axis.set_axis_off()
        for axis, frame, data in zip(axes, frames, valid.reshape(frames.shape), strict=False):
            axis.imshow(true_color(frame, spec.input, data))
        label = f"{name} ({unit})" if unit else name
        for axis, (key, values) in zip(axes[len(frames) :], layers.items(), strict=False):
            shown = draw_values(axis, values[row], spec.target, row)
            axis.set_title(f"{'label' if key == 'mask' else key}: {label}")
            figure.colorbar(shown, ax=axis, shrink=0.7)
        if "prediction" in layers:
            spread = 2 * spec.target.std[row]
            error = layers["prediction"][row] - layers["mask"][row]
            shown = axes[-1].imshow(error, cmap="RdBu_r", vmin=-spread, vmax=spread, interpolation="nearest")
            axes[-1].set_title("error: prediction - label")
            figure.colorbar(shown, ax=axes[-1], shrink=0.7)
    return figure


def plot_reconstruction(sample: dict[str, Any], spec: InputSpec) -> Figure:
    """Draw each date of an image in true colour: as it is, with its masked patches in white, and reconstructed.

    The reconstruction shows visible patches as they are. All panels of a date have the colour limits of the image.

    Args:
        sample: ``image`` (T, C, H, W) in the unit of the statistics, ``prediction`` of the same shape, NaN in visible
            patches, and ``valid`` as the image, or not.
        spec: Bands and statistics.
    """
    frames, predictions = (np.asarray(sample[key], dtype=np.float64) for key in ("image", "prediction"))
    valid = (
        np.asarray(sample["valid"], bool).reshape(frames.shape) if "valid" in sample else np.isfinite(frames)
    )
    titles = ("image", "masked", "reconstruction")
    figure = Figure(figsize=(4.2 * len(titles), 4.8 * len(frames)), layout="constrained")
    for row, (frame, prediction, data) in enumerate(zip(frames, predictions, valid, strict=True)):
        visible = np.isnan(prediction)
        limits = color_limits(frame, spec, data)
        panels_of_date = (
            true_color(frame, spec, data, limits),
            np.where(visible[0, :, :, None], true_color(frame, spec, data, limits), 1.0),
            true_color(np.where(visible, frame, prediction), spec, data | ~visible, limits),
        )
        for column, (title, rgb) in enumerate(zip(titles, panels_of_date, strict=True)):
            axis = figure.add_subplot(len(frames), len(titles), row * len(titles) + column + 1)
            axis.set_axis_off()
            axis.imshow(rgb, interpolation="nearest")
            axis.set_title(title if len(frames) == 1 else f"{title}, date {row + 1}", fontsize=20)
    return figure
