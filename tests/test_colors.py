"""Classes have the colours that their names suggest, and the colours of a legend can be told apart."""

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from prithvi_tg.colors import BACKGROUND_COLOR, USUAL_COLORS, color_distance, default_colors
from prithvi_tg.datasets import HLSBurnScars, Sen1Floods11
from prithvi_tg.errors import ConfigError
from prithvi_tg.mapping.products.styles import write_class_style
from prithvi_tg.plotting import (
    add_legend,
    class_colors,
    draw_classes,
    panels,
    plot_evaluation,
    plot_sample,
    plot_values,
    true_color,
)
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ChipClassTarget, ClassTarget, ValueTarget

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
        (("Veg", "bldg."), (VEGETATION, "#7b7b7b")),
        (("No veg.", "Low veg."), (BACKGROUND_COLOR, VEGETATION)),
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


def test_classes_of_one_kind_have_related_colors():
    assert default_colors(["Grass", "Forest", "Water"]) == [VEGETATION, "#0b4f1e", WATER]
    assert default_colors(["Forest", "Grassland", "Sea", "Lake"]) == [VEGETATION, "#c7e59b", WATER, "#08306b"]
    legends = ["Forest", "Grass", "Crops", "Shrub", "Water", "Lake", "Burn scar", "Snow"]
    colors = default_colors(legends)
    assert min(color_distance(first, second) for first, second in combinations(colors, 2)) >= 10


def test_unchanged_land_is_the_background():
    assert default_colors(["Same", "Changed"])[0] == BACKGROUND_COLOR


def test_own_colors_come_first():
    assert class_colors(ClassTarget(("Water", "Forest"), ("#ff0000", "#00ff00"))) == ["#ff0000", "#00ff00"]


def test_named_colors_are_stored_as_hexadecimal_numbers():
    assert ClassTarget(("Water", "Forest"), ("navy", "#0F0")).colors == ("#000080", "#00ff00")
    assert ChipClassTarget(("Water", "Forest"), ("navy",)).colors == ("#000080",)


@pytest.mark.parametrize(
    ("colors", "message"),
    [
        (("watery",), "class_colors: 'watery' is not a colour; write '#rrggbb', or a name such as navy"),
        (("red", "green", "blue"), "class_colors: 3 given for 2 classes"),
    ],
)
def test_wrong_colors_are_an_error_of_the_configuration(colors, message):
    with pytest.raises(ConfigError, match=message):
        ClassTarget(("Water", "Forest"), colors)


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


def chip(size=16):
    """An image without data in its first rows, an area without labels below, and classes 0 and 1."""
    image = np.random.default_rng(0).uniform(0.05, 0.2, (1, 4, size, size))
    valid = np.ones_like(image, bool)
    valid[..., :3, :] = False
    mask = np.zeros((size, size), int)
    mask[:3], mask[5:8], mask[8:] = 255, 255, 1
    return {"image": image, "valid": valid, "mask": mask, "prediction": np.ones_like(mask)}


INPUT = InputSpec(("BLUE", "GREEN", "RED", "NIR_NARROW"), (0.1,) * 4, (0.05,) * 4)


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def hatched(axes):
    """The names of the marks of a panel."""
    return {str(artist.get_label()) for artist in axes.collections}


def test_pixels_without_labels_and_without_data_have_their_own_marks():
    spec = DataSpec(INPUT, ClassTarget(("Land", "Water")))
    figure = plot_evaluation(chip(), spec)
    assert legend_of(figure) == ["Land", "Water", "not labelled", "no data"]
    marks = {axis.get_title(): hatched(axis) for axis in figure.axes}
    assert marks == {
        "true colour": {"no data"},
        "false colour": {"no data"},
        "label": {"not labelled", "no data"},
        "prediction": {"no data"},
        "errors": {"not labelled", "no data"},
    }
    whole = {**chip(), "valid": np.ones((1, 4, 16, 16), bool)}
    assert legend_of(plot_evaluation(whole, spec)) == ["Land", "Water", "not labelled"]
    whole["mask"] = np.zeros((16, 16), int)
    assert legend_of(plot_evaluation(whole, spec)) == ["Land", "Water"]


def test_pixels_that_another_window_scores_are_not_called_not_labelled():
    scored = np.ones((16, 16), bool)
    scored[5:8] = False
    figure = plot_evaluation({**chip(), "scored": scored}, DataSpec(INPUT, ClassTarget(("Land", "Water"))))
    assert legend_of(figure) == ["Land", "Water", "no data", "not scored in this window"]
    values = chip() | {"scored": scored}
    values["mask"] = np.where(values["mask"] == 255, np.nan, 100.0)
    values["prediction"] = np.full((16, 16), 500.0)
    figure = plot_values(values, DataSpec(INPUT, ValueTarget(("biomass",), ("t/ha",), (100.0,), (50.0,))))
    assert legend_of(figure) == ["no data", "not scored in this window"]


def test_pictures_of_values_name_units_and_pixels_without_values():
    sample = chip()
    sample["mask"] = np.where(sample["mask"] == 255, np.nan, 100.0)
    sample["prediction"] = np.full((16, 16), 500.0)
    target = ValueTarget(("biomass",), ("t/ha",), (100.0,), (50.0,))
    figure = plot_values(sample, DataSpec(INPUT, target))
    panels_of_chip, scales = figure.axes[:4], figure.axes[4:]
    titles = ["true colour", "label", "prediction", "error: prediction - label"]
    assert [axis.get_title() for axis in panels_of_chip] == titles
    assert [scale.get_ylabel() for scale in scales] == ["biomass (t/ha)"] * 3
    assert legend_of(figure) == ["not labelled", "no data"]
    assert hatched(panels_of_chip[2]) == {"no data"}  # no prediction without data, as in maps


@pytest.mark.parametrize(
    ("bands", "titles"),
    [
        (("BLUE", "GREEN", "RED"), ["true colour"]),
        (("BLUE", "GREEN", "RED", "NIR_BROAD"), ["true colour", "false colour"]),
        (("GREEN", "RED", "NIR_NARROW"), ["false colour"]),
        (("RED", "NIR_BROAD", "SWIR_1"), ["false colour: SWIR_1, NIR_BROAD, RED"]),
        (("RED", "SWIR_1", "SWIR_2"), ["false colour: SWIR_2, SWIR_1, RED"]),
        (("NIR_NARROW", "RED_EDGE_1", "SWIR_1"), ["NIR_NARROW"]),
        (("VV", "VH"), ["VV"]),
    ],
)
def test_an_image_is_drawn_in_the_colours_that_its_bands_allow(bands, titles):
    count = len(bands)
    spec = DataSpec(InputSpec(bands, (0.1,) * count, (0.05,) * count), ClassTarget(("Land", "Water")))
    image = np.random.default_rng(0).uniform(0.05, 0.2, (1, count, 16, 16))
    sample = {**chip(), "image": image, "valid": np.ones_like(image, bool)}
    figure = plot_evaluation(sample, spec)
    assert [axis.get_title() for axis in figure.axes] == [*titles, "label", "prediction", "errors"]
    rgb = figure.axes[0].images[0].get_array()
    is_grey = bool((rgb == rgb[..., :1]).all())
    assert is_grey == (titles == [bands[0]])
    np.testing.assert_array_equal(true_color(image[0], spec.input, image[0] > 0), rgb)
    assert len(plot_sample(sample, spec).axes) == 3


def test_many_dates_are_drawn_in_several_rows():
    _, axes = panels(9)
    assert len(axes) == 9
    assert {axis.get_subplotspec().rowspan.start for axis in axes} == {0, 1}
    assert {axis.get_subplotspec().get_gridspec().ncols for axis in axes} == {5}


def test_the_style_of_a_map_names_and_colors_its_classes(tmp_path):
    write_class_style(tmp_path / "map.qml", ClassTarget(("Dry", "Flooded")))
    entries = ElementTree.parse(tmp_path / "map.qml").findall(
        "pipe/rasterrenderer[@type='paletted']//paletteEntry"
    )
    assert [(entry.get("value"), entry.get("label"), entry.get("color")) for entry in entries] == [
        ("0", "Dry", BACKGROUND_COLOR),
        ("1", "Flooded", WATER),
    ]
