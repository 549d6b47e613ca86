"""``prithvi-tg area``: from a map to points, from labelled points to areas, and changes between maps."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio

from prithvi_tg.areas.change import count_transitions
from prithvi_tg.areas.design import Design, Stratum
from prithvi_tg.areas.maps import ClassMap
from prithvi_tg.areas.points import LEFT_OUT, write_points
from prithvi_tg.areas.results import estimate_areas
from prithvi_tg.files import shown

NAMES = ["deforestation", "forest gain", "stable forest", "stable non-forest"]
MATRIX = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
MAPPED = [200_000, 150_000, 3_200_000, 6_450_000]


def example(scale=1):
    """Design and references of the worked example of Olofsson et al. 2014."""
    cells = [
        (i, j) for i, row in enumerate(MATRIX) for j, count in enumerate(row) for _ in range(scale * count)
    ]
    mapped, reference = np.array(cells).T
    strata = tuple(
        Stratum(name, pixels, pixels * 900.0, name) for name, pixels in zip(NAMES, MAPPED, strict=True)
    )
    areas = np.array(MAPPED) * 900.0
    design = Design(
        tuple(NAMES), (0, 1, 2, 3), areas, strata, mapped, mapped, np.full(len(mapped), 900.0), {}
    )
    return design, reference


@pytest.fixture
def scene(write_map):
    """A map of land and water."""
    return write_map((np.indices((80, 90)).sum(axis=0) // 9) % 3 == 0)


@pytest.mark.parametrize("word", ["", "sample", "estimate", "change"])
def test_help_imports_nothing_heavy(word):
    code = (
        "import sys; from prithvi_tg.__main__ import main; assert main(sys.argv[1:]) == 0; "
        "assert not {'torch', 'numpy', 'rasterio', 'pandas'} & {*sys.modules}"
    )
    words = ["area", *([word] if word else []), "--help"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: prithvi-tg {' '.join(words[:-1])}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("area", "area: give one of its commands, sample, estimate, change"),
        ("area sampel", "unknown command 'sampel'; did you mean sample?"),
        ("area sample --points 9", "the following arguments are required: MAP, --output"),
        ("area sample a.tif --output a.gpkg --point 9", "are not abbreviated; write --points"),
        ("area sample a.tif --output a.shp --points 9", "a.shp is neither a GeoPackage"),
        ("area sample a.tif --output a.csv --expected_accuracy water", "'water' is not NAME=SHARE"),
        ("area sample a.tif --output a.csv --classes water=1", "'water=1' is not VALUE=NAME"),
        ("area sample a.tif --output a.csv", "points: give the number of points"),
        ("area estimate a.csv --output a.txt", "a.txt does not end with .json"),
        ("area change a.tif b.tif --output a.png", "a.png is neither a map"),
    ],
)
def test_errors_of_the_command_line_are_one_line(command, words, message):
    code, _, err = command(*words.split())
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def label(path, change=lambda table: None):
    """Give each point its map class as reference, and save."""
    frame = gpd.read_file(path, layer="points")
    frame["reference"] = frame["map_class"]
    change(frame)
    frame.to_file(path, layer="points")


def test_points_of_a_geopackage_carry_their_design(scene, command, tmp_path):
    points, areas = tmp_path / "points.gpkg", tmp_path / "areas.json"
    code, out, err = command("area", "sample", scene, "--output", points, "--points", 200, "--seed", 5)
    assert code == 0, err
    assert "sample of 200 points, proportional allocation, seed 5" in out
    frame = gpd.read_file(points, layer="points")
    assert frame.crs == "EPSG:4326"
    assert list(frame.columns) == [
        "id", "longitude", "latitude", "reference", "comment", "stratum", "map_code", "map_class", "map", "row",
        "column", "square_metres", "geometry",
    ]  # fmt: skip
    np.testing.assert_allclose(frame.geometry.x, frame["longitude"])
    assert frame["reference"].isna().all()
    assert not frame["stratum"].is_monotonic_increasing  # in random order

    def some_errors(table):
        table.loc[table.index[:9], "reference"] = "water"
        table.loc[table.index[9], "reference"] = "Uninterpretable"

    label(points, some_errors)
    code, out, err = command("area", "estimate", points, "--output", areas)
    assert code == 0, err
    assert "199 points; 1 could not be interpreted and is left out" in out
    result = json.loads(areas.read_text())
    assert (result["points"], result["uninterpretable"]) == (199, 1)
    assert sum(one["square_metres"]["value"] for one in result["classes"]) == pytest.approx(
        result["square_metres"]
    )
    assert result["design"]["seed"] == 5
    assert result["design"]["maps"][0]["name"] == str(shown(scene))
    assert len(result["design"]["maps"][0]["sha256"]) == 64
    mapped = sum(one["mapped_square_metres"] for one in result["classes"])
    assert mapped == pytest.approx(80 * 90 * 900, rel=2e-3)
    code, _, err = command("area", "estimate", points, "--output", areas)
    assert (code, "exists; add --overwrite" in err) == (2, True)
    assert command("area", "estimate", points, "--output", areas, "--overwrite")[0] == 0


def test_minimums_that_exceed_the_number_of_points_are_reported(scene, command, tmp_path):
    code, out, _ = command(
        "area", "sample", scene, "--output", tmp_path / "a.csv", "--points", 30, "--minimum", 20
    )
    assert code == 0
    assert "More than --points 30, as --minimum is 20 points in each stratum" in out


def test_maps_of_one_name_are_told_apart_by_their_folders(scene, command, tmp_path):
    other = tmp_path / "later" / scene.name
    other.parent.mkdir()
    shutil.copy(scene, other)
    code, out, _ = command("area", "change", scene, other, "--output", tmp_path / "a.json")
    assert code == 0
    assert f"Rows: {shown(scene)}\nColumns: {shown(other)}\n" in out
    record = json.loads((tmp_path / "a.json").read_text())
    assert [one["name"] for one in record["maps"]] == [str(shown(scene)), str(shown(other))]


def test_points_are_never_overwritten_unasked(scene, command, tmp_path):
    words = ("area", "sample", scene, "--points", 50, "--output")
    assert command(*words, tmp_path / "a.csv")[0] == 0
    first = (tmp_path / "a.csv").read_text()
    code, _, err = command(*words, tmp_path / "a.csv", "--seed", 1)
    assert (code, "a.csv exists; add --overwrite" in err) == (2, True)
    (tmp_path / "a.csv").unlink()
    code, _, err = command(*words, tmp_path / "b.gpkg", tmp_path / "a.csv")
    assert (code, "a.design.json exists; add --overwrite" in err) == (2, True)
    assert not (tmp_path / "b.gpkg").exists()
    assert command(*words, tmp_path / "a.csv", "--overwrite")[0] == 0
    assert (tmp_path / "a.csv").read_text() == first


def test_a_table_is_labelled_by_names_or_numbers(scene, command, tmp_path):
    points, package = tmp_path / "points.csv", tmp_path / "points.gpkg"
    assert (
        command("area", "sample", scene, "--output", points, package, "--points", 60, "--minimum", 20)[0] == 0
    )
    table = pd.read_csv(points)
    assert table.columns[:3].tolist() == ["id", "longitude", "latitude"]
    table["reference"] = table["map_code"]  # numbers, as a tool may store them
    table.sample(frac=1, random_state=0).to_csv(points, index=False)
    code, out, err = command("area", "estimate", points)
    assert code == 0, err
    assert "Overall accuracy in %: 100.0 †" in out
    assert "100.0 ± 0.0" not in out
    assert "† no interval: all points behind the figure agree" in out
    assert "* water: unreliable" in out  # no omission found among few points
    # Any table with ids and references will do, with the design of the GeoPackage.
    other = tmp_path / "other.csv"
    table[["id", "reference"]].to_csv(other, index=False, sep=";")
    code, _, err = command("area", "estimate", other)
    assert (code, "has no design of the sample, and other.design.json is not beside it" in err) == (1, True)
    code, again, err = command("area", "estimate", other, "--design", package)
    assert (code, again) == (0, out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.assign(reference=None), "60 of 60 points without a reference (the first is id 1); label"),
        (
            lambda table: table.assign(reference=["Watr", "lnd", "Watr", "lnd", *["lnd"] * 2, *table["reference"][6:]]),
            "reference 'Watr' of id 1, 3, 'lnd' of id 2, 4, 5 and 1 more are not a class; classes are land",
        ),
        (lambda table: table.iloc[1:], "59 points, but the sample of the design has 60; id 1 is missing"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "id 1 occurs twice"),
        (lambda table: table.drop(columns="reference"), "has no column reference"),
        (
            lambda table: table.assign(
                reference=[
                    "uninterpretable" if one == "water" and number > table["stratum"].eq("water").idxmax() else one
                    for number, one in enumerate(table["map_class"])
                ]
            ),
            "stratum water: only 1 of its points is labelled, but a variance needs at least 2",
        ),
    ],
)  # fmt: skip
def test_labels_that_are_not_complete_are_refused(scene, command, tmp_path, change, message):
    points = tmp_path / "points.csv"
    assert command("area", "sample", scene, "--output", points, "--points", 60, "--minimum", 20)[0] == 0
    table = pd.read_csv(points)
    change(table.assign(reference=table["map_class"])).to_csv(points, index=False)
    code, _, err = command("area", "estimate", points)
    assert code == 1
    assert message in err


def test_the_worked_example_has_its_figures_and_marks_rare_classes():
    result = estimate_areas(*example())
    areas = [one["square_metres"]["value"] / 1e4 for one in result["classes"]]
    np.testing.assert_allclose(areas, [21_158, 11_686, 285_770, 581_386], atol=0.5)
    halves = [1.96 * one["square_metres"]["standard_error"] / 1e4 for one in result["classes"]]
    np.testing.assert_allclose(
        halves, [6_158, 3_756, 15_510, 16_282], atol=1
    )  # the finite-population factor is 1
    assert [one["reliable"] for one in result["classes"]] == [False, False, True, True]
    assert result["classes"][1]["few_omissions_in"] == ["stable forest", "stable non-forest"]
    assert result["counts"] == MATRIX
    assert not any(one["users_accuracy"]["degenerate"] for one in result["classes"])
    assert not result["overall_accuracy"]["degenerate"]
    large = estimate_areas(*example(scale=10))
    assert [one["reliable"] for one in large["classes"]] == [True, True, True, True]


def test_an_accuracy_without_errors_has_no_interval_unless_all_pixels_are_sampled():
    design, reference = example()
    right = np.where(design.class_of == 1, 1, reference)
    users = [one["users_accuracy"]["degenerate"] for one in estimate_areas(design, right)["classes"]]
    assert users == [False, True, False, False]
    without_errors = estimate_areas(design, design.class_of)
    assert all(one["square_metres"]["degenerate"] for one in without_errors["classes"])
    sizes = np.bincount(design.stratum_of)
    strata = tuple(replace(one, pixels=int(size)) for one, size in zip(design.strata, sizes, strict=True))
    census = estimate_areas(replace(design, strata=strata), design.class_of)
    assert census["overall_accuracy"]["degenerate"] is False
    assert census["overall_accuracy"]["interval"] == pytest.approx([1, 1])


def test_few_omissions_are_named_in_words(tmp_path, command):
    design, reference = example()
    table = pd.DataFrame({"id": np.arange(1, design.size + 1), "reference": [NAMES[k] for k in reference]})
    write_points(tmp_path / "points.csv", table, design)
    _, out, _ = command("area", "estimate", tmp_path / "points.csv")
    assert "omissions were found in stable forest and stable non-forest, where" in " ".join(out.split())


def test_tables_fit_a_terminal_of_80_columns(tmp_path, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    design, reference = example()
    names = [f"a long name of a class, number {k}" for k in range(4)]
    strata = tuple(
        replace(one, name=name, mapped_class=name) for one, name in zip(design.strata, names, strict=True)
    )
    design = replace(design, classes=tuple(names), strata=strata)
    table = pd.DataFrame({"id": np.arange(1, design.size + 1), "reference": [names[k] for k in reference]})
    write_points(tmp_path / "points.csv", table, design)
    code, out, err = command("area", "estimate", tmp_path / "points.csv")
    assert code == 0, err
    assert max(map(len, out.split("Overall accuracy")[0].splitlines())) <= 80
    assert "…" not in out
    for figures in (
        "21,157.8 ± 6,157.4 │",
        "3,141.5 │",
        "92.7 ± 4.0",
        "┃    1 ┃    2 ┃     3 ┃     4 ┃ mapped",
    ):
        assert figures in out, out


def test_a_stratum_that_a_buffer_leaves_empty_is_named(write_map, command, tmp_path):
    classes = np.zeros((60, 60), int)
    classes[20:23, 5:50] = 1
    words = ("--output", tmp_path / "a.csv", "--points", 90, "--minimum", 9, "--boundary_buffer", 2)
    path = write_map(classes, names=("land", "water", "snow"))
    code, out, err = command(
        "area", "sample", path, *words, "--expected_accuracy", "LAND=0.9", "Boundary=0.7"
    )
    assert code == 0, err
    flat = " ".join(out.split())
    assert "without points: water (all of its pixels are in other strata), snow" in flat


def test_points_without_interpretation_are_counted_by_stratum():
    design, reference = example()
    reference[np.flatnonzero(design.stratum_of == 3)[:25]] = LEFT_OUT
    result = estimate_areas(design, reference)
    assert [one["uninterpretable"] for one in result["strata"]] == [0, 0, 0, 25]
    assert [one["points"] for one in result["strata"]] == [75, 75, 165, 300]


def test_changes_are_counted_by_mapped_area_and_mapped(write_map, command, tmp_path):
    before = np.zeros((60, 70), int)
    before[:, 40:] = 1
    after = before.copy()
    after[10:20, :30] = 1
    before[0], after[-1] = 255, 255
    first, second = write_map(before, "a_pred.tif"), write_map(after, "b_pred.tif")
    change, matrix = tmp_path / "change.tif", tmp_path / "change.json"
    code, out, err = command("area", "change", first, second, "--output", change, matrix)
    assert code == 0, err
    assert re.search(r"Changed: 27.0 ha of 365.\d ha mapped on both dates", out)
    assert "on one date only: 70 pixels of the first date, 70 pixels of the second" in out
    record = json.loads(matrix.read_text())
    assert record["pixels"] == [[58 * 40 - 300, 300], [0, 58 * 30]]
    assert record["mapped_square_metres"][0][1] == pytest.approx(300 * 900, rel=2e-3)
    with rasterio.open(change) as file:
        names = {
            "CLASS_0": "stable land",
            "CLASS_1": "land to water",
            "CLASS_2": "stable water",
        }
        assert file.tags(1).items() >= names.items()
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        pixels = file.read(1)
        assert (pixels == 255).sum() == 140
        assert (pixels[10:20, :30] == 1).all()
    # A map of changes is sampled as any other: the area of change has an interval.
    points = tmp_path / "points.gpkg"
    assert command("area", "sample", change, "--output", points, "--points", 150)[0] == 0
    label(points)
    code, out, err = command("area", "estimate", points)
    assert code == 0, err
    assert "land to water" in out
    code, _, err = command("area", "change", first, second, "--output", change)
    assert (code, "exists; add --overwrite" in err) == (2, True)


def test_maps_with_other_pixels_are_not_compared(write_map):
    first = write_map(np.zeros((20, 20)), "a_pred.tif")
    second = write_map(np.zeros((20, 21)), "b_pred.tif")
    third = write_map(np.zeros((20, 20)), "c_pred.tif", crs="EPSG:32616")
    from prithvi_tg.errors import DataError

    for other in (second, third):
        with pytest.raises(DataError, match="its pixels differ from those of"):
            count_transitions(ClassMap.open(first), ClassMap.open(other))


def test_maps_without_a_common_pixel_have_no_map_of_changes(write_map, command, tmp_path):
    first, second = np.zeros((20, 20)), np.zeros((20, 20))
    first[:10], second[10:] = 255, 255
    maps = write_map(first, "a_pred.tif"), write_map(second, "b_pred.tif")
    code, _, err = command("area", "change", *maps, "--output", tmp_path / "change.tif")
    assert (code, "no pixel has a class in both maps" in err) == (1, True), err


def test_maps_without_names_are_named_by_an_option(write_map, command, tmp_path):
    path = write_map(np.indices((30, 30))[0] // 5 % 2, names=(), dtype="int16", nodata=-1)
    words = ("area", "sample", path, "--output", tmp_path / "a.csv", "--points", 20, "--minimum", 5)
    code, _, err = command(*words)
    assert (code, "has no class names" in err) == (1, True)
    assert command(*words, "--classes", "0=land", "1=water")[0] == 0


def test_a_map_of_values_is_refused(write_map, command, tmp_path):
    path = write_map(np.random.default_rng(0).random((20, 20)), dtype="float32", nodata=None, names=())
    code, _, err = command("area", "sample", path, "--output", tmp_path / "a.csv", "--points", 20)
    assert code == 1
    assert "not a map of classes" in err
    assert "a map of values must be divided into classes first" in err


def test_the_design_of_another_sample_is_refused(scene, command, tmp_path):
    for seed in (1, 2):
        words = ("--points", "40", "--minimum", "5", "--seed", str(seed))
        assert command("area", "sample", scene, "--output", tmp_path / f"{seed}.csv", *words)[0] == 0
    table = pd.read_csv(tmp_path / "1.csv").assign(reference=lambda one: one["map_class"])
    table.to_csv(tmp_path / "1.csv", index=False)
    assert command("area", "estimate", tmp_path / "1.csv")[0] == 0
    code, _, err = command("area", "estimate", tmp_path / "1.csv", "--design", tmp_path / "2.design.json")
    assert code == 1
    assert "which belongs to another sample" in err
