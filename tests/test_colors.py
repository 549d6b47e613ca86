"""Classes have the colours that their names suggest, and the colours of a legend can be told apart."""

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from prithvi_tg.colors import BACKGROUND_COLOR, USUAL_COLORS, color_distance, default_colors
from prithvi_tg.datasets import HLSBurnScars, Sen1Floods11
from prithvi_tg.mapping.products.styles import write_class_style
from prithvi_tg.plotting import add_legend, class_colors, draw_classes, panels
from prithvi_tg.targets import ClassTarget

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
WATER, VEGETATION, BURNT = "#1f78b4", "#33a02c", "#7f0000"


def shipped_legends():
    """Class names and colours of datasets and configurations, without crops, which have the colours of their layer."""
    legends = {cls.__name__: (cls.class_names, cls.class_colors) for cls in (Sen1Floods11, HLSBurnScars)}
    for path in CONFIGS:
        data = yaml.safe_load(path.read_text()).get("data", {}).get("init_args", {})
        classes = data.get("classes")
        if classes and not isinstance(classes, str):
            names = list(classes.values() if isinstance(classes, dict) else classes)
            legends[path.stem] = (names, data.get("class_colors", ()))
    return legends


@pytest.mark.parametrize("name", shipped_legends())
def test_colors_of_shipped_legends_differ_in_each_vision(name):
    names, colors = shipped_legends()[name]
    shown = class_colors(ClassTarget(tuple(names), tuple(colors)))
    assert min(color_distance(first, second) for first, second in combinations(shown, 2)) >= 10


def test_the_usual_colors_are_fourteen_apart():
    pairs = combinations([*USUAL_COLORS, BACKGROUND_COLOR], 2)
    nearest = min(pairs, key=lambda pair: color_distance(*pair))
    assert color_distance(*nearest) == pytest.approx(14.2, abs=0.05)
    assert set(nearest) == {"#bfe3f2", "#ffffff"}


def test_the_distance_is_that_of_the_least_able_vision():
    tree, built = "#006400", "#fa0000"  # WorldCover's colours, nearly equal for protan eyes
    assert color_distance(tree, built) == pytest.approx(2.1, abs=0.1)
    assert color_distance(tree, tree) == 0


@pytest.mark.parametrize(
    ("names", "colors"),
    [
        (("No water", "Water"), (BACKGROUND_COLOR, WATER)),
        (("Dry", "Flooded"), (BACKGROUND_COLOR, WATER)),
        (("unburnt land", "burnt land"), (BACKGROUND_COLOR, BURNT)),
        (("Cloud shadow", "thin cloud"), ("#1a1a1a", "#ffffff")),
        (("Land", "Lake"), (BACKGROUND_COLOR, WATER)),
    ],
)
def test_names_suggest_colors(names, colors):
    assert tuple(default_colors(names)) == colors


def test_classes_of_one_usual_color_differ():
    forest, grass, _ = default_colors(["forest", "grass", "water"])
    assert forest == VEGETATION
    assert color_distance(forest, grass) >= 10


@pytest.mark.parametrize("count", [2, 5, 11])
def test_up_to_eleven_unknown_classes_can_be_told_apart(count):
    colors = default_colors([f"class {number}" for number in range(count)])
    assert min(color_distance(first, second) for first, second in combinations(colors, 2)) >= 10


def test_every_class_has_a_color():
    assert len(default_colors([f"class {number}" for number in range(255)])) == 255


def test_own_colors_come_first():
    assert class_colors(ClassTarget(("Water", "Forest"), ("#ff0000", "#00ff00"))) == ["#ff0000", "#00ff00"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_legend_fits_its_figure(count):
    target = ClassTarget(tuple(f"A class with a rather long name, number {number}" for number in range(13)))
    figure, axes = panels(count)
    draw_classes(axes[0], np.zeros((8, 8), np.uint8), target)
    add_legend(figure, target)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y0 >= 0


def test_the_style_of_a_map_names_and_colors_its_classes(tmp_path):
    write_class_style(tmp_path / "map.qml", ClassTarget(("Dry", "Flooded")))
    entries = ElementTree.parse(tmp_path / "map.qml").findall(
        "pipe/rasterrenderer[@type='paletted']//paletteEntry"
    )
    assert [(entry.get("value"), entry.get("label"), entry.get("color")) for entry in entries] == [
        ("0", "Dry", BACKGROUND_COLOR),
        ("1", "Flooded", WATER),
    ]
