"""The synthetic benchmark: its scenes have the truth that they claim, and all of its models run."""

import importlib
import itertools
import json
import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import save_a_pixel
from documents import TOP
from matplotlib.figure import Figure

from prithvi_tg.colors import color_distance, default_colors

pytestmark = pytest.mark.version_independent

pytest.importorskip("sklearn", reason="the extra benchmark is not installed")
FOLDER = TOP / "experiments/synthetic_benchmark"
MODULES = (
    "scenes",
    "chips",
    "benchmark_tasks",
    "networks",
    "pixels",
    "plan",
    "pretraining",
    "page",
    "pictures",
)


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a module of the benchmark."""
    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def scenes(benchmark):
    return benchmark("scenes")


@pytest.fixture
def plain(scenes):
    """Conditions in which an image is exactly a linear mixture."""
    sensor = scenes.Sensor(noise=0.0)
    return scenes.Conditions(sensor=sensor, relief=0.0, variation=0.0, clouds=False, swath_edge=False)


def test_fractions_sum_to_one_and_the_cover_is_the_dominant_endmember(scenes):
    scene = scenes.make_scene(3, scenes.Conditions(scenes.Region.draw(1)), size=64)
    assert scene.fractions.min() >= 0
    np.testing.assert_allclose(scene.fractions.sum(axis=0), 1)
    largest = np.take_along_axis(scene.fractions, scene.cover[None], axis=0)[0]
    np.testing.assert_array_equal(largest, scene.fractions.max(axis=0))
    assert len(np.unique(scene.cover)) == len(scenes.ENDMEMBERS)
    assert len(np.unique(scene.land_use)) == len(scenes.LAND_USES)


def test_a_linear_regression_of_single_pixels_recovers_fractions_of_plain_scenes(scenes, plain):
    scene = scenes.make_scene(3, plain, size=64)
    mixture = np.einsum("ec,ehw->chw", plain.region.endmembers(plain.day), scene.fractions)
    np.testing.assert_allclose(scene.image, mixture)
    pixels, fractions = scene.image.reshape(6, -1).T, scene.fractions.reshape(5, -1).T
    half = len(pixels) // 2
    weights = np.linalg.lstsq(pixels[:half], fractions[:half], rcond=None)[0]
    np.testing.assert_allclose(pixels[half:] @ weights, fractions[half:], atol=1e-6)
    hazy = scenes.make_scene(3, replace(plain, relief=0.12), size=64)
    assert np.abs(hazy.image.reshape(6, -1).T @ weights - fractions).max() > 0.05


def test_the_same_seed_gives_the_same_scene_and_another_seed_another_one(scenes):
    conditions = scenes.Conditions(scenes.Region.draw(1))
    one, again, other = (scenes.make_scene(seed, conditions, size=64) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.fractions, again.fractions)
    assert (one.cover != other.cover).mean() > 0.3


def test_shifts_change_only_what_they_name(scenes, benchmark):
    shifts = benchmark("chips").SHIFTS
    home = scenes.Conditions(scenes.Region.draw(0), day=200.0)
    made = {name: scenes.make_scene(3, shift(home, 7), size=64) for name, shift in shifts.items()}
    same = made["same"]
    for name in ("sensor", "season", "region"):
        np.testing.assert_array_equal(made[name].opacity, same.opacity)
        np.testing.assert_array_equal(made[name].valid, same.valid)
        assert np.abs(made[name].image - same.image).mean() > 0.005, name
    np.testing.assert_array_equal(made["sensor"].fractions, same.fractions)
    np.testing.assert_array_equal(made["season"].land_use, same.land_use)
    trees = scenes.ENDMEMBERS.index("trees")
    np.testing.assert_array_equal(made["season"].fractions[trees], same.fractions[trees])
    assert (made["season"].fractions != same.fractions).any(), "crops do not grow in winter"
    assert (made["region"].land_use != same.land_use).mean() > 0.2
    edges = {name: (np.diff(scene.land_use) != 0).mean() for name, scene in made.items()}
    assert edges["fragments"] > 5 * edges["same"]


def test_a_sensor_applies_response_gain_offset_and_noise_to_the_same_ground(scenes, plain):
    other = replace(scenes.Sensor.draw(5), noise=0.0)
    one = scenes.make_scene(3, plain, size=32).image
    two = scenes.make_scene(3, replace(plain, sensor=other), size=32).image
    np.testing.assert_allclose(other.response.sum(axis=1), 1)
    broad = np.einsum("bc,chw->bhw", other.response, one)
    np.testing.assert_allclose(two, other.gain[:, None, None] * broad + other.offset[:, None, None])
    noisy = scenes.make_scene(3, replace(plain, sensor=scenes.Sensor(noise=0.01)), size=64).image
    assert (noisy - scenes.make_scene(3, plain, size=64).image).std() == pytest.approx(0.01, rel=0.05)


def test_leaves_change_the_spectra_of_trees_and_herbs_alone(scenes):
    region = scenes.Region()
    summer, winter = region.endmembers(200), region.endmembers(20)
    changed = np.abs(summer - winter).max(axis=1) > 0.02
    assert [name for name, one in zip(scenes.ENDMEMBERS, changed, strict=True) if one] == ["trees", "herbs"]


def test_patterns_have_one_distribution_of_pixels_and_differ_in_their_neighbourhood(scenes, plain):
    trees = {use: [] for use in scenes.PATTERNS}
    steps = {use: [] for use in scenes.PATTERNS}
    for seed in range(12):
        scene = scenes.make_scene(seed, plain, size=128)
        cover = scene.fractions[scenes.ENDMEMBERS.index("trees")]
        for name in scenes.PATTERNS:
            inside = scene.land_use == scenes.LAND_USES.index(name)
            trees[name] += cover[inside].tolist()
            both = inside[:, 1:] & inside[:, :-1]
            steps[name] += np.abs(np.diff(cover))[both].tolist()
    levels = np.linspace(0.05, 0.95, 19)
    rows, scattered, groves = (np.quantile(trees[name], levels) for name in scenes.PATTERNS)
    assert np.abs(rows - scattered).max() < 0.06
    assert np.abs(rows - groves).max() < 0.06
    assert np.mean(steps["groves"]) < 0.75 * np.mean(steps["scattered trees"])


def test_noisy_labels_are_wrong_in_whole_parcels(scenes, benchmark, plain):
    chips = benchmark("chips")
    scene = scenes.make_scene(3, plain, size=128)
    wrong = chips.noisy_labels(scene.cover, scene.parcels, 1) != scene.cover
    assert 0.15 < wrong.mean() < 0.6
    shares = [wrong[scene.parcels == parcel].mean() for parcel in np.unique(scene.parcels)]
    assert max(shares) > 0.9
    assert min(shares) < 0.4


def test_training_sets_are_nested_and_share_no_scene_with_tests(benchmark, tmp_path):
    chips, tasks = benchmark("chips"), benchmark("benchmark_tasks")
    world = chips.write_world(tmp_path / "world", 1, 28, test_scenes=1)
    found = {}
    for size in (4, 8):
        path = tasks.write_splits(tmp_path / f"{size}.csv", world, tasks.TASKS["patterns"], size)
        lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
        found[size] = {
            part: [chip for chip, split, _ in lines if split == part] for part in ("train", "same")
        }
    assert found[4]["train"] == found[8]["train"][:4]
    numbers = [{chip.split("_")[1] for chip in part} for part in found[8].values()]
    assert numbers[0].isdisjoint(numbers[1])
    with pytest.raises(ValueError, match="have labels for patterns, not 800"):
        tasks.write_splits(tmp_path / "800.csv", world, tasks.TASKS["patterns"], 800)


def test_pictures_have_the_usual_colours_that_can_be_told_apart(benchmark):
    pictures = benchmark("pictures")
    assert pictures.COVER[0] == pictures.LAND_USE[0] == default_colors(["water"])[0]
    for colors in (pictures.COVER, pictures.LAND_USE):
        assert min(color_distance(one, other) for one, other in itertools.combinations(colors, 2)) > 10


def test_an_interval_is_that_of_student(benchmark):
    mean, deviation, half = benchmark("page").interval([1.0, 2.0, 3.0])
    assert (mean, deviation) == (2.0, 1.0)
    assert half == pytest.approx(4.302653 / 3**0.5, abs=1e-5)
    assert np.isnan(benchmark("page").interval([1.0])[2])


@pytest.mark.pictures
def test_all_models_run_at_a_small_size_and_a_second_run_computes_nothing(
    benchmark, tmp_path, monkeypatch, capsys
):
    words = ["run.py", "--small", "--seeds", "0", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    pixels = benchmark("pixels")
    for name in ("RandomForestClassifier", "RandomForestRegressor"):
        forest = getattr(pixels, name)
        monkeypatch.setattr(pixels, name, lambda _, forest=forest, **options: forest(5, **options))
    runpy.run_path(str(FOLDER / "run.py"), run_name="__main__")
    results = json.loads((tmp_path / "results.json").read_text())
    plan, tasks = benchmark("plan"), benchmark("benchmark_tasks")
    clean = [run for run in results["runs"] if run["labels"] == "true"]
    assert {(run["task"], run["model"]) for run in clean} == {
        (task, model) for task in tasks.TASKS for model in plan.MODELS
    }
    assert all(set(run["scores"]) == set(tasks.TASKS[run["task"]].shifts) for run in results["runs"])
    assert results["pretraining"][0]["scores"]["loss"] > 0
    page = (tmp_path / "README.md").read_text()
    assert "| patterns (mIoU) | region | 8 | 1 |" in page
    assert (tmp_path / "scores.png").stat().st_size > 20_000
    capsys.readouterr()
    monkeypatch.setattr(benchmark("page"), "write_page", lambda *_: None)
    monkeypatch.setattr(benchmark("pictures"), "draw_scenes", Figure)
    monkeypatch.setattr(Figure, "savefig", save_a_pixel)
    runpy.run_path(str(FOLDER / "run.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "25 of 25 runs are complete" in out
    assert "mIoU" not in out
    assert json.loads((tmp_path / "results.json").read_text())["runs"] == results["runs"]
