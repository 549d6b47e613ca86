"""Colours of classes by their names: water is blue, vegetation green, burnt land dark red.

Readers with colour blindness can tell the colours of a legend apart, up to about eleven classes.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import is_color_like, to_hex, to_rgb
from numpy.typing import NDArray

from .errors import ConfigError, counted

#: Usual colours, and the words in class names that select them. They are at least 14 apart, see `color_distance`.
USUAL_COLORS = {
    "#1f78b4": ("water", "flood", "flooded", "river", "lake", "sea", "ocean", "wet"),
    "#33a02c": (
        *("vegetation", "veg", "forest", "tree", "trees", "woodland", "wood", "grass", "grassland", "green"),
        *("crop", "crops", "cropland", "shrub", "shrubland", "mangrove", "mangroves"),
    ),
    "#7b7b7b": (
        "built",
        "urban",
        "building",
        "buildings",
        "bldg",
        "settlement",
        "city",
        "road",
        "roads",
        "impervious",
    ),
    "#d9a85b": ("bare", "soil", "sand", "rock", "desert", "barren"),
    "#bfe3f2": ("snow", "ice", "glacier"),
    "#1a1a1a": ("shadow", "shadows"),
    "#ffffff": ("cloud", "clouds"),
    "#7f0000": ("burn", "burned", "burnt", "fire", "scar"),
}
#: Colours of classes whose usual colour another class has, and the words that select them.
_SECOND_COLORS = {
    "#0b4f1e": ("forest", "tree", "trees", "woodland", "wood", "mangrove", "mangroves"),
    "#c7e59b": ("grass", "grassland", "crop", "crops", "cropland", "shrub", "shrubland", "vegetation", "veg"),
    "#08306b": ("sea", "ocean", "lake", "river", "water"),
}
_LEAST_DISTANCE = 10  # see `color_distance`
#: Colour of the class that means "none of the others".
BACKGROUND_COLOR = "#e6dcc3"
_NEGATIONS = frozenset(
    (
        "no",
        "not",
        "non",
        "other",
        "others",
        "background",
        "none",
        "dry",
        "unburnt",
        "unburned",
        "unchanged",
        "same",
    )
)
#: Colours of classes whose name is unknown, or whose usual colour another class of the legend has.
_FURTHER_COLORS = (
    *(
        "#e69f00",
        "#6a3d9a",
        "#f0e442",
        "#cc79a7",
        "#00441b",
        "#b2df8a",
        "#e31a1c",
        "#08306b",
        "#fb9a99",
        "#00ced1",
    ),
    *("#8c510a", "#c7a0e8", "#ff7f00", "#4d4d00", "#01665e", "#ffd9b3"),
)

#: Simulation of colour blindness on linear RGB: Machado et al. 2009, doi 10.1109/TVCG.2009.113, severity 1.
_VISIONS = np.array(
    [
        np.eye(3),
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)  # D65


def hex_colors(colors: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Colours of classes as ``#rrggbb``; Matplotlib's names, such as ``navy``, are accepted.

    Args:
        colors: Colours of the first classes; may be empty.
        names: Name of each class.

    Raises:
        ConfigError: One is not a colour, or there are more than classes.
    """
    if len(colors) > len(names):
        raise ConfigError(f"class_colors: {len(colors)} given for {counted(len(names), 'class', 'classes')}")
    for color in colors:
        if not is_color_like(color):
            raise ConfigError(
                f"class_colors: {color!r} is not a colour; write '#rrggbb', or a name such as navy"
            )
    return tuple(map(to_hex, colors))


def default_colors(names: Sequence[str]) -> list[str]:
    """A colour ``#rrggbb`` for each class: the usual one of its name, or else one that differs most from the others."""
    return list(_default_colors(tuple(names)))


@lru_cache(256)
def _default_colors(names: tuple[str, ...]) -> tuple[str, ...]:
    colors: list[str | None] = []
    for name in names:
        usual = _usual_color(name)
        colors.append(None if usual in colors else usual)
    for number, name in enumerate(names):
        second = None if colors[number] else _color_of(name, _SECOND_COLORS)
        near = (color_distance(second, one) < _LEAST_DISTANCE for one in colors if second and one)
        colors[number] = colors[number] or (None if any(near) else second)
    palette = list(_FURTHER_COLORS)
    for number, color in enumerate(colors):
        if color is None:
            taken = [one for one in colors if one is not None]
            free = [one for one in palette if one not in taken]
            # With more classes than colours, names and legends have to tell them apart.
            colors[number] = (
                max(free, key=lambda one: min((color_distance(one, other) for other in taken), default=0.0))
                if free
                else to_hex(colormaps["tab20"](number % 20))
            )
    return tuple(color for color in colors if color is not None)


def _usual_color(name: str) -> str | None:
    words = _words(name)
    if _NEGATIONS.intersection(words):
        return BACKGROUND_COLOR
    return _color_of(name, USUAL_COLORS) or (BACKGROUND_COLOR if "land" in words else None)


def _color_of(name: str, colors: Mapping[str, Collection[str]]) -> str | None:
    """The colour that a word of a name selects, or none."""
    return next((color for color, known in colors.items() if {*known}.intersection(_words(name))), None)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", name.lower())


def color_distance(first: str, second: str) -> float:
    """Distance between two colours in CIE Lab: the smallest of normal, deutan, protan and tritan vision.

    Areas that do not touch cannot be told apart below about 10.
    """
    return float(np.linalg.norm(_seen(first) - _seen(second), axis=-1).min())


@lru_cache(256)
def _seen(color: str) -> NDArray[np.float64]:
    """CIE Lab (4, 3) of a colour in each vision."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(_VISIONS @ linear, 0, 1) @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
