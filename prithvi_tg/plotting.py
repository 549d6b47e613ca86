"""Figures of images, classes and values, drawn with matplotlib."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from .colors import default_colors
from .spec import DataSpec, InputSpec
from .targets import IGNORE_INDEX, Target, ValueTarget

NOT_LABELLED, NO_DATA, NOT_SCORED = "not labelled", "no data", "not scored in this window"
NO_DATA_COLOR = "#808080"  # as in `true_color`
#: Pixels without a class: name in the legend -> colour and hatches. Classes may have the same colour, but no hatches.
_WITHOUT_CLASS = {
    NOT_LABELLED: ("#ffffff", "////"),
    NO_DATA: (NO_DATA_COLOR, "xxxx"),
    NOT_SCORED: ("#dfe8f1", ""),
}
_TRUE = ("RED", "GREEN", "BLUE")
_NIR = ("NIR_NARROW", "NIR_BROAD")
#: Bands of pictures in false colour; the first of which an image has all bands is drawn.
_FALSE = (
    *((nir, "RED", "GREEN") for nir in _NIR),
    *((swir, nir, "RED") for swir in ("SWIR_1", "SWIR_2") for nir in _NIR),
    *(("SWIR_2", "SWIR_1", band) for band in (*_NIR, "RED")),
)
_HATCHES = "#b0b0b0"
_COLUMNS = 5  # panels in a row, at most
_LARGE = 20  # font size, as rows of many panels are displayed small
#: Key of a sample -> title of its panel.
_LAYERS = {"mask": "label", "prediction": "prediction"}


def true_color(
    image: NDArray[np.floating[Any]],
    spec: InputSpec,
    valid: NDArray[np.bool_],
    limits: tuple[float, float] | None = None,
) -> NDArray[np.floating[Any]]:
    """One frame (C, H, W) as RGB (H, W, 3) in 0..1: in true colour or else in false colour or else the first band.

    Grey where there is no data.

    Args:
        image: In the unit of the statistics.
        spec: Bands and statistics.
        valid: Where there is data, as the image.
        limits: Values of black and white; by default `color_limits` of the image.
    """
    return _stretched(image, _first_channels(spec), spec, valid, limits)


def color_limits(
    image: NDArray[np.floating[Any]], spec: InputSpec, valid: NDArray[np.bool_]
) -> tuple[float, float]:
    """The 2nd and 98th percentile of the colours of `true_color`, without clouds and snow."""
    channels = _first_channels(spec)
    return _limits(np.moveaxis(image[channels], 0, -1), np.logical_and.reduce(valid[channels]), spec)


def _false_channels(spec: InputSpec) -> list[int]:
    return next((found for names in _FALSE if (found := _channels(names, spec))), [])


def _first_channels(spec: InputSpec) -> list[int]:
    """The channels of the first picture that the bands allow; three times the first band for shades of grey."""
    return _channels(_TRUE, spec) or _false_channels(spec) or [0, 0, 0]


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


class Picture(NamedTuple):
    """A frame in three colours, or in shades of grey.

    Attributes:
        title: Such as ``true colour, date 2``.
        rgb: The picture (H, W, 3) in 0..1.
        valid: Where all of its bands have data (H, W).
    """

    title: str
    rgb: NDArray[np.floating[Any]]
    valid: NDArray[np.bool_]

    def draw(self, axes: Axes) -> None:
        """Draw the picture, and hatch its pixels without data."""
        axes.imshow(self.rgb)
        mark(axes, ~self.valid, NO_DATA)


def frame_pictures(
    frames: NDArray[np.floating[Any]], valid: NDArray[np.bool_], spec: InputSpec, false_colors: bool = True
) -> list[Picture]:
    """Each date in true colour, with red, green and blue; and in false colour, with a near or short-wave infrared band.

    Without the bands for either, the first band is drawn in grey, and the title is its name. The title of false colours
    other than near infrared, red and green names the bands.

    Args:
        frames: (T, C, H, W) in the unit of the statistics.
        valid: Where there is data, as the frames.
        spec: Bands and statistics.
        false_colors: Also in false colour; if false, only without the bands for true colour.
    """
    kinds = {}
    if channels := _channels(_TRUE, spec):
        kinds["true colour"] = channels
    if (false_colors or not kinds) and (channels := _false_channels(spec)):
        names = [spec.bands[channel] for channel in channels]
        kinds["false colour" if names[1:] == ["RED", "GREEN"] else f"false colour: {', '.join(names)}"] = (
            channels
        )
    if not kinds:
        kinds[spec.bands[0]] = [0, 0, 0]
    return [
        Picture(
            kind if len(frames) == 1 else f"{kind}, date {number}",
            _stretched(frame, channels, spec, data),
            np.logical_and.reduce(data[channels]),
        )
        for number, (frame, data) in enumerate(zip(frames, valid, strict=True), start=1)
        for kind, channels in kinds.items()
    ]


def class_colors(target: Target) -> list[str]:
    """A colour per class: those of the target, or else those of `default_colors`."""
    return [*target.colors, *default_colors(target.names)[len(target.colors) :]]


def draw_classes(
    axes: Axes,
    classes: NDArray[np.integer[Any]],
    target: Target,
    no_data: NDArray[np.bool_] | bool = False,
    scored: NDArray[np.bool_] | bool = True,
) -> None:
    """Draw classes (H, W) in their colours; 255 is marked by its cause: see `mark_unlabelled`.

    Args:
        axes: The panel.
        classes: Class of each pixel.
        target: Names and colours.
        no_data: Where 255 means that there is no data (H, W); true for a map.
        scored: Where the pixel counts in this window (H, W).
    """
    without = ~target.is_labelled(classes)
    colors = class_colors(target)
    norm = BoundaryNorm(np.arange(len(colors) + 1) - 0.5, len(colors))
    shown = np.ma.masked_where(without, classes)
    axes.imshow(shown, cmap=ListedColormap(colors), norm=norm, interpolation="nearest")
    mark_unlabelled(axes, without, no_data, scored)


def mark_unlabelled(
    axes: Axes,
    without: NDArray[np.bool_],
    no_data: NDArray[np.bool_] | bool = False,
    scored: NDArray[np.bool_] | bool = True,
) -> None:
    """Mark pixels (H, W) without a label: as "no data", as "not scored in this window", or else as "not labelled"."""
    without, missing, counts = np.broadcast_arrays(without, no_data, scored)
    mark(axes, without & missing, NO_DATA)
    mark(axes, without & ~missing & ~counts, NOT_SCORED)
    mark(axes, without & ~missing & counts, NOT_LABELLED)


def mark(axes: Axes, where: NDArray[np.bool_], name: str) -> None:
    """Hatch those pixels (H, W) of a panel that have no class or value, for the legend under their name."""
    if not where.any():
        return
    color, hatches = _WITHOUT_CLASS[name]
    axes.imshow(np.ma.masked_where(~where, where), cmap=ListedColormap([color]), interpolation="nearest")
    # Padded, as contours end at the middle of the outermost pixels.
    height, width = where.shape
    grid = np.arange(-1, width + 1), np.arange(-1, height + 1)
    hatched = axes.contourf(*grid, np.pad(where, 1), levels=(0.5, 1.5), colors="none", hatches=[hatches])
    hatched.set(label=name, edgecolor=_HATCHES, linewidth=0)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def panels(count: int, shape: Sequence[int] = (1, 1)) -> tuple[Figure, list[Axes]]:
    """A figure of panels without ticks, in rows of at most five.

    Args:
        count: Number of panels.
        shape: Height and width of the images, to scale.
    """
    rows = math.ceil(count / _COLUMNS)
    columns = math.ceil(count / rows)
    # Not with pyplot: its global state grows with each figure of a long run.
    width, height = (4.2 * side / max(shape) for side in (shape[1], shape[0]))
    # Titles and legends need some width.
    size = max(2.1, width) * columns, (height + 0.3) * rows + 0.4
    figure = Figure(figsize=size, layout="constrained")
    axes = [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
    _frame(axes)
    return figure, axes


def _frame(axes: Sequence[Axes]) -> None:
    """Replace ticks by a thin frame, which shows where a white panel ends."""
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(color=_HATCHES, linewidth=0.6)


def add_legend(figure: Figure, target: Target | None = None, fontsize: int | None = None) -> None:
    """Add names and colours of classes, and those of marked pixels, below the panels; as many columns as fit.

    Args:
        figure: A figure with panels of `draw_classes` or `mark`.
        target: The classes; none for values.
        fontsize: By default that of matplotlib.
    """
    handles = [
        Patch(facecolor=color, label=name, edgecolor="black", linewidth=0.4)
        for color, name in (zip(class_colors(target), target.names, strict=True) if target else ())
    ]
    marked = {str(artist.get_label()) for axes in figure.axes for artist in axes.collections}
    handles += [
        Patch(facecolor=color, label=name, edgecolor=_HATCHES, linewidth=0.4, hatch=hatches)
        for name, (color, hatches) in _WITHOUT_CLASS.items()
        if name in marked
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
    """Draw each date of a sample in true colour, its label, and its prediction if it has one.

    Args:
        sample: ``image`` (T, C, H, W), ``valid`` of the same shape or absent, ``mask`` and ``prediction``
            (H, W) or absent.
        spec: Bands and classes.
        show_titles: Add a title to each panel.
        suptitle: Title of the figure.
    """
    frames, valid, no_data = _frames(sample, spec.input)
    layers = {key: title for key, title in _LAYERS.items() if key in sample}
    figure, axes = panels(len(frames) + len(layers), no_data.shape)
    pictures = frame_pictures(frames, valid, spec.input, false_colors=False)
    for number, (axis, picture) in enumerate(zip(axes, pictures, strict=False), start=1):
        picture.draw(axis)
        if show_titles:
            axis.set_title("image" if len(frames) == 1 else f"date {number}")
    for axis, (key, title) in zip(axes[len(frames) :], layers.items(), strict=True):
        draw_classes(axis, np.asarray(sample[key]), spec.target, no_data)
        if show_titles:
            axis.set_title(title)
    if layers or no_data.any():
        add_legend(figure, spec.target if layers else None)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def _frames(
    sample: dict[str, Any], spec: InputSpec
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The image of a sample (T, C, H, W), where it has data, and the pixels without any data (H, W)."""
    frames = np.asarray(sample["image"], dtype=np.float64)
    frames = frames.reshape(spec.num_frames, len(spec.bands), *frames.shape[-2:])
    valid = np.asarray(sample["valid"], bool) if "valid" in sample else np.ones(frames.shape, bool)
    valid = valid.reshape(frames.shape)
    no_data: NDArray[np.bool_] = ~np.logical_or.reduce(valid.reshape(-1, *frames.shape[-2:]))
    return frames, valid, no_data


def plot_evaluation(sample: dict[str, Any], spec: DataSpec) -> Figure:
    """Draw each date of a scored sample in true and false colour, its label, its prediction, and their differences.

    Args:
        sample: ``image`` (T, C, H, W) in the unit of the statistics, ``mask`` and ``prediction`` (H, W), and
            ``valid`` as the image, or not.
        spec: Bands and classes.
    """
    frames, valid, no_data = _frames(sample, spec.input)
    label, prediction = np.asarray(sample["mask"]), np.asarray(sample["prediction"])
    scored = np.asarray(sample.get("scored", True), bool)
    prediction = np.where(no_data, IGNORE_INDEX, prediction)  # as in maps
    pictures = frame_pictures(frames, valid, spec.input)
    figure, axes = panels(len(pictures) + 3, no_data.shape)
    for axis, picture in zip(axes, pictures, strict=False):
        picture.draw(axis)
        axis.set_title(picture.title, fontsize=_LARGE)
    for axis, title, classes in zip(axes[-3:], _LAYERS.values(), (label, prediction), strict=False):
        draw_classes(axis, classes, spec.target, no_data, scored)
        axis.set_title(title, fontsize=_LARGE)
    labelled = spec.target.is_labelled(label)
    axes[-1].imshow(labelled & (label != prediction), cmap="Reds", vmin=0, vmax=1.3, interpolation="nearest")
    mark_unlabelled(axes[-1], ~labelled, no_data, scored)
    axes[-1].set_title("errors", fontsize=_LARGE)
    add_legend(figure, spec.target, _LARGE)
    return figure


def draw_values(axes: Axes, values: NDArray[np.floating[Any]], target: ValueTarget, number: int = 0) -> Any:
    """Draw one value (H, W) in the colormap of the target, from mean - 2 std to mean + 2 std; NaN is left out."""
    mean, std = target.mean[number], target.std[number]
    low, high = np.clip((mean - 2 * std, mean + 2 * std), *(target.valid_range or (None, None)))
    return axes.imshow(values, cmap=target.cmap, vmin=low, vmax=high, interpolation="nearest")


def add_colorbar(figure: Figure, axes: Axes, shown: Any, label: str, fontsize: int = 10) -> None:
    """Add the scale of a panel; its ends are pointed if values lie beyond them."""
    values, (low, high) = np.ma.masked_invalid(shown.get_array()).compressed(), shown.get_clim()
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    beyond = ends[bool((values < low).any()), bool((values > high).any())]
    scale = figure.colorbar(shown, ax=axes, shrink=0.7, extend=beyond)
    scale.set_label(label, fontsize=fontsize)
    scale.ax.tick_params(labelsize=fontsize)


def plot_values(sample: dict[str, Any], spec: DataSpec) -> Figure:
    """Draw each date of a sample in true colour and, for each value, its label, its prediction and the error.

    Args:
        sample: ``image`` (T, C, H, W) in the unit of the statistics, ``mask`` (H, W) or (V, H, W), ``prediction`` of
            the same shape or absent, and ``valid`` as the image, or not.
        spec: Bands and values.
    """
    assert isinstance(spec.target, ValueTarget)
    frames, valid, no_data = _frames(sample, spec.input)
    scored = np.asarray(sample.get("scored", True), bool)
    layers = {
        title: np.asarray(sample[key], dtype=np.float64).reshape(-1, *frames.shape[-2:])
        for key, title in _LAYERS.items()
        if key in sample
    }
    if "prediction" in layers:
        layers["prediction"] = np.where(no_data, np.nan, layers["prediction"])  # as in maps
        layers["error: prediction - label"] = layers["prediction"] - layers["label"]
    pictures = frame_pictures(frames, valid, spec.input, false_colors=False)
    rows, columns = len(spec.target.names), len(pictures) + len(layers)
    figure = Figure(figsize=(4.2 * columns, 4.0 * rows + 0.4), layout="constrained")
    for row, (name, unit) in enumerate(zip(spec.target.names, spec.target.units, strict=True)):
        axes = [figure.add_subplot(rows, columns, row * columns + k + 1) for k in range(columns)]
        _frame(axes)
        for axis, picture in zip(axes, pictures, strict=False):
            picture.draw(axis)
            axis.set_title(picture.title, fontsize=_LARGE)
        for axis, (title, values) in zip(axes[len(pictures) :], layers.items(), strict=True):
            if title.startswith("error"):
                spread = 2 * spec.target.std[row]
                shown = axis.imshow(
                    values[row], cmap="RdBu_r", vmin=-spread, vmax=spread, interpolation="nearest"
                )
            else:
                shown = draw_values(axis, values[row], spec.target, row)
            mark_unlabelled(axis, np.isnan(values[row]), no_data, scored)
            axis.set_title(title, fontsize=_LARGE)
            add_colorbar(figure, axis, shown, f"{name} ({unit})" if unit else name, fontsize=15)
    add_legend(figure, fontsize=_LARGE)
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
            _frame([axis])
            axis.imshow(rgb, interpolation="nearest")
            axis.set_title(title if len(frames) == 1 else f"{title}, date {row + 1}", fontsize=_LARGE)
    return figure
