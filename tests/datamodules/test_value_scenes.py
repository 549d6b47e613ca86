"""Training on scenes and a raster of values, from samples to the report."""

import json
import re

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
import yaml
from conftest import TINY
from rasterio.transform import from_origin

from prithvi_tg.checks import check_scenes
from prithvi_tg.chip_writing import write_chips
from prithvi_tg.datamodules import LabelledScenesDataModule
from prithvi_tg.datamodules.labelled_scenes import BlockSplit
from prithvi_tg.datasets.synthetic_values import write_biomass
from prithvi_tg.errors import ConfigError
from prithvi_tg.tasks import PrithviPixelwiseRegressionTask

pytestmark = pytest.mark.version_independent

SETTINGS = {
    "values": ["biomass"], "units": ["t/ha"], "valid_range": [0, 1000], "value_mean": [150.0], "value_std": [87.0],
    "bands": ["RED", "NIR_NARROW"], "scale": 1e-4, "mean": [0.1, 0.3], "std": [0.04, 0.014], "window": 32,
    "windows_per_epoch": 8, "batch_size": 4,
}  # fmt: skip
SPLIT = {"block": 48, "fractions": [0.5, 0.25, 0.25]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A synthetic scene of 148 x 192 pixels with its biomass, partly unlabelled and without data."""
    return write_biomass(tmp_path_factory.mktemp("biomass") / "data", chips=6, size=64)


@pytest.fixture(scope="module")
def known(root):
    """Biomass (H, W), NaN without a label or without data in the scene."""
    with rasterio.open(root / "scene.tif") as scene, rasterio.open(root / "scene_label.tif") as label:
        data = (scene.read([3, 4]) != -9999).any(axis=0)
        values = label.read(1)
    assert (values == -1).any()
    assert not data.all()
    return np.where(data & (values != -1), values, np.nan)


def module(root, **options):
    paths = {"images": str(root / "scene.tif"), "labels": str(root / "scene_label.tif")}
    return LabelledScenesDataModule(**paths | SETTINGS | {"split": BlockSplit(**SPLIT)} | options)


def test_training_windows_have_the_values_of_their_pixels(root, known):
    data = module(root)
    data.setup("fit")
    places = list(data.train_sampler.windows())
    samples = map(data.train_dataset.__getitem__, data.train_sampler)
    for sample, (row, column, _) in zip(samples, places, strict=True):
        assert sample["mask"].dtype == torch.float32
        np.testing.assert_array_equal(sample["mask"], known[row : row + 32, column : column + 32])


@pytest.mark.parametrize("stride", [32, 20])
def test_every_labelled_pixel_is_scored_once(root, known, stride):
    data = module(root, stride=stride)
    data.setup("test")
    scored = torch.cat([batch["mask"].flatten() for batch in data.test_dataloader()])
    boxes = data.split_regions.splits["test"].boxes
    expected = np.concatenate([known[top:bottom, left:right].ravel() for top, left, bottom, right in boxes])
    np.testing.assert_array_equal(
        np.sort(scored[~scored.isnan()].numpy()), np.sort(expected[~np.isnan(expected)])
    )


def test_labels_on_another_grid_are_means_of_the_pixels_they_cover(root, known, tmp_path):
    """Labels of 10 m for a scene of 30 m, in three parts that are scaled by a tag."""
    with rasterio.open(root / "scene_label.tif") as source:
        values, place = source.read(1), source.transform
    fine = np.kron(values, np.ones((3, 3))) + np.tile([[-1, 0, 1]] * 3, values.shape)
    stored = np.where(np.kron(values, np.ones((3, 3))) == -1, -1, 10 * fine).astype(np.int16)
    with rasterio.open(
        tmp_path / "fine.tif", "w", "GTiff", stored.shape[1], stored.shape[0], 1, "EPSG:32615",
        from_origin(place.c, place.f, 10, 10), "int16", nodata=-1,
    ) as out:  # fmt: skip
        out.write(stored, 1)
        out.scales = (0.1,)
    data = module(root, labels=str(tmp_path / "fine.tif"))
    data.setup("test")
    for number in range(len(data.test_dataset)):
        row, column, _ = data.test_dataset.windows[data.test_dataset.places[number][1]]
        mask = data.test_dataset[number]["mask"].numpy()
        expected = known[row : row + 32, column : column + 32]
        at = ~np.isnan(mask)
        assert not np.isnan(expected[at]).any()
        np.testing.assert_allclose(mask[at], expected[at], atol=0.11)


def test_several_values_keep_their_order_and_have_separate_unlabelled_pixels(root, known, tmp_path):
    with rasterio.open(root / "scene_label.tif") as source:
        values, profile = source.read(1), source.profile | {"count": 2}
    second = np.where(values == -1, -1, 1 + values)
    second[:40] = -1
    with rasterio.open(tmp_path / "two.tif", "w", **profile) as out:
        out.write(np.stack([values, second]))
    options = {"values": ["biomass", "height"], "units": (), "value_mean": [150, 151], "value_std": [87, 87]}
    data = module(root, labels=str(tmp_path / "two.tif"), **options)
    data.setup("fit")
    for sample, (row, column, _) in zip(
        map(data.train_dataset.__getitem__, data.train_sampler), data.train_sampler.windows(), strict=True
    ):
        expected = known[row : row + 32, column : column + 32]
        np.testing.assert_array_equal(sample["mask"][0], expected)
        rows = np.arange(row, row + 32)[:, None]
        np.testing.assert_array_equal(sample["mask"][1], np.where(rows < 40, np.nan, 1 + expected))
    batch = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, torch.device("cpu"), 0), 0)
    task = PrithviPixelwiseRegressionTask(
        encoder="nano", encoder_args=TINY, decoder="linear", num_outputs=2, bands=data.spec.input.bands, window=32,
        data_spec=data.spec.to_dict(),
    )  # fmt: skip
    assert task.criterion(task(batch["image"]), task.encode(batch["mask"])).isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": {0: "a", 1: "b"}}, "classes, values: give one of them"),
        ({"values": ()}, "classes, values: give one of them"),
        ({"value_std": None}, "value_mean, value_std: not given; prithvi-tg stats computes them"),
        (
            {"label_attribute": "height"},
            "label_attribute: 'height' is for classes, but the labels are values",
        ),
        ({"balanced": True}, "balanced: True is for classes, but the labels are values"),
        (
            {"ignored_labels": ["cloud"]},
            r"ignored_labels: \['cloud'\] must be numbers, as the labels are values",
        ),
        ({"split": None}, "split: not given"),
    ],
)
def test_settings_of_classes_are_refused_for_values(root, options, message):
    with pytest.raises(ConfigError, match=message):
        module(root, **options)


def test_polygons_of_values_and_chips_of_values_are_refused(root, tmp_path):
    plots = geopandas.GeoDataFrame({"height": [3.0]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32615")
    plots.to_file(tmp_path / "plots.gpkg")
    with pytest.raises(
        ConfigError, match=r"labels: .*plots\.gpkg contains polygons, but values are read from rasters"
    ):
        module(root, labels=str(tmp_path / "plots.gpkg")).open_labels()
    with pytest.raises(ConfigError, match="its labels are values; chips can only be cut for class labels"):
        write_chips(module(root), tmp_path / "chips")


def test_ignored_labels_of_a_scene_are_not_labelled(root):
    assert module(root, ignored_labels=[-9999]).spec.target.ignored_labels == (-9999,)


def test_values_outside_the_valid_range_of_a_scene_are_one_finding(root):
    findings = list(check_scenes(module(root, valid_range=[0, 200])))
    (found,) = [one for one in findings if one.severity == "error"]
    assert re.fullmatch(r"labels have values up to 2\d\d\.?\d*, outside valid_range, 0 to 200", found.message)
    assert found.advice.startswith("widen valid_range")
    assert len([one for one in findings if "labelled pixels, " in one.message]) == 3


def test_a_run_on_a_scene_with_values_from_statistics_to_report(root, known, tmp_path, command):
    missing = ("mean", "std", "value_mean", "value_std")
    settings = {
        "seed_everything": 0,
        "model": {
            "class_path": "PrithviPixelwiseRegressionTask",
            "init_args": {
                "encoder": "nano", "encoder_args": TINY, "decoder": "linear", "lr": 1e-2, "warmup_steps": 1,
                "window": 32,
            },
        },
        "data": {
            "class_path": "LabelledScenesDataModule",
            "init_args": {
                "images": str(root / "scene.tif"), "labels": str(root / "scene_label.tif"),
                "split": {
                    "class_path": "prithvi_tg.datamodules.labelled_scenes.BlockSplit", "init_args": SPLIT,
                },
                **{key: value for key, value in SETTINGS.items() if key not in missing},
            },
        },
        "trainer": {
            "default_root_dir": str(tmp_path / "runs"), "max_epochs": 2, "accelerator": "cpu",
            "enable_progress_bar": False, "enable_model_summary": False,
        },
    }  # fmt: skip
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    code, out, err = command("stats", "--config", config)
    assert code == 0, err
    statistics = yaml.safe_load(out)["data"]["init_args"]
    assert set(statistics) == set(missing)
    settings["data"]["init_args"] |= statistics
    config.write_text(yaml.safe_dump(settings))
    code, out, err = command("check", "--config", config)
    assert code == 0, err + out
    assert "labelled pixels" in " ".join(out.split())

    assert command("fit", "--config", config)[0] == 0
    run = tmp_path / "runs" / "version_0"
    best = run / "checkpoints" / "best.ckpt"
    code, out, err = command("test", "--config", config, "--ckpt_path", best)
    assert code == 0, err
    tested = tmp_path / "runs" / "version_1"
    record = json.loads((tested / "metrics.json").read_text())
    data = LabelledScenesDataModule(**settings["data"]["init_args"] | {"split": BlockSplit(**SPLIT)})
    data.setup("test")
    boxes = data.split_regions.splits["test"].boxes
    count = sum(int((~np.isnan(known[t:b, le:r])).sum()) for t, le, b, r in boxes)
    assert record["per_value"]["biomass"]["labelled_pixels"] == count
    assert record["overall"]["RMSE"] > 0
    assert record["bootstrap_block"] == 96

    code, out, err = command(
        "predict", "--ckpt_path", best, root / "scene.tif", "--output", tmp_path / "maps"
    )
    assert code == 0, err
    with rasterio.open(tmp_path / "maps" / "scene_pred.tif") as file:
        assert (file.dtypes[0], file.units[0]) == ("float32", "t/ha")
    code, out, err = command("report", run, tested, "--baseline", "--output", tmp_path / "report.html")
    assert code == 0, err
    page = (tmp_path / "report.html").read_text()
    assert page.count("Linear regression on ") == 2
    assert f"<b>{record['overall']['RMSE']:.4g}</b>" in page
