"""Styles of maps for QGIS."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ...plotting import class_colors
from ...targets import Target, ValueTarget

_COLORS = 9


def write_class_style(path: Path, target: Target) -> None:
    """Write a QGIS style with the colour and the name of each class; nodata stays transparent.

    Args:
        path: QGIS applies ``NAME_pred.qml`` to ``NAME_pred.tif``.
        target: The classes.
    """
    root, renderer = _style("paletted", 1)
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for number, (name, color) in enumerate(zip(target.names, class_colors(target), strict=True)):
        ElementTree.SubElement(
            palette, "paletteEntry", value=str(number), color=color, alpha="255", label=name
        )
    _write(root, path)


def write_value_style(path: Path, target: ValueTarget, band: int, statistics: dict[str, float]) -> None:
    """Write a QGIS style that colours a band by the colormap of the values, from its minimum to its maximum.

    Args:
        path: QGIS applies ``NAME_pred.qml`` to ``NAME_pred.tif``; other styles must be loaded by hand.
        target: The values; the legend shows name and unit of the band.
        band: Number of the band, from 1.
        statistics: Statistics of the band; without them, the colours range from 0 to 1.
    """
    name, unit = target.names[band - 1], target.units[band - 1]
    low, high = statistics.get("minimum", 0.0), statistics.get("maximum", 1.0)
    root, renderer = _style("singlebandpseudocolor", band)
    renderer.attrib |= {"classificationMin": f"{low:.9g}", "classificationMax": f"{high:.9g}"}
    shader = ElementTree.SubElement(renderer, "rastershader")
    ramp = ElementTree.SubElement(
        shader, "colorrampshader", colorRampType="INTERPOLATED", classificationMode="1", clip="0"
    )
    for share in np.linspace(0, 1, _COLORS):
        value = low + share * (high - low)
        color = to_hex(colormaps[target.cmap](float(share)))
        ElementTree.SubElement(
            ramp, "item", value=f"{value:.9g}", label=f"{value:.4g}", color=color, alpha="255"
        )
    prefix, suffix = f"{name} ", f" {unit}" if unit else ""
    ElementTree.SubElement(
        ramp, "rampLegendSettings", prefix=prefix, suffix=suffix, useContinuousLegend="1", minimumLabel="",
        maximumLabel="", orientation="2", direction="0",
    )  # fmt: skip
    _write(root, path)


def _style(kind: str, band: int) -> tuple[ElementTree.Element, ElementTree.Element]:
    """A style, and its renderer."""
    root = ElementTree.Element("qgis")
    pipe = ElementTree.SubElement(root, "pipe")
    options = {"type": kind, "band": str(band), "opacity": "1", "alphaBand": "-1"}
    return root, ElementTree.SubElement(pipe, "rasterrenderer", options)


def _write(root: ElementTree.Element, path: Path) -> None:
    ElementTree.indent(root)
    path.write_text(ElementTree.tostring(root, encoding="unicode") + "\n")
