"""Maps of values, in their unit, with styles and metadata for a GIS."""

import json
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import torch
from conftest import TINY
from rio_cogeo import cog_validate

from prithvi_tg import map_scene, map_strips
from prithvi_tg.datasets import Sen1Floods11
from prithvi_tg.errors import ConfigError
from prithvi_tg.mapping.products import OutputOptions, select_products
from prithvi_tg.mapping.products.quicklook import draw_values
from prithvi_tg.readers.scene import Pixels
from prithvi_tg.spec import DataSpec
from prithvi_tg.targets import ChipClassTarget, ImageTarget, ValueTarget
from prithvi_tg.tasks import PrithviPixelwiseRegressionTask

BIOMASS = ValueTarget(("biomass",), ("t/ha",), (120.0,), (45.0,), cmap="YlGn")
TWO = ValueTarget(("biomass", "height"), ("t/ha", "m"), (120.0, 11.0), (45.0, 4.0))


class OneTooMany(PrithviPixelwiseRegressionTask):
    """Returns one value more than it has names."""

    def forward(self, image, core_window=None, **coordinates):
        outputs = super().forward(image, core_window, **coordinates)
        return torch.cat([outputs, outputs[:, :1]], dim=1)


def task_of(target, kind=PrithviPixelwiseRegressionTask):
    torch.manual_seed(0)
    spec = DataSpec(Sen1Floods11.data_spec().input, target).to_dict()
    return kind(encoder="nano", encoder_args=TINY, head_channels=8, window=32, data_spec=spec).eval()


@pytest.fixture
def scene(flood_root, tmp_path):
    """A scene with a corner without data."""
    path = tmp_path / "holes.tif"
    with rasterio.open(flood_root / "scene.tif") as source:
        values = source.read()
        values[:, :40, :30] = -9999
        with rasterio.open(path, "w", **source.profile | {"nodata": -9999}) as out:
            out.write(values)
    return path


def expected_values(task, scene, target):
    rows = list(map_strips(task, scene))
    outputs = torch.cat([part.logits for part in rows], dim=1).numpy()
    mean, std = (np.array(part, np.float32)[:, None, None] for part in (target.mean, target.std))
    values = outputs * std + mean
    values[:, np.concatenate([part.masked for part in rows])] = np.nan
    return values


@pytest.mark.parametrize("target", [BIOMASS, TWO], ids=["one", "two"])
def test_a_map_of_values_is_in_their_unit(target, scene, tmp_path):
    task = task_of(target)
    path = map_scene(task, scene, tmp_path / "s_pred.tif")
    expected = expected_values(task, scene, target)
    assert cog_validate(path) == (True, [], [])
    with rasterio.open(path) as file, rasterio.open(scene) as source:
        values = file.read()
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert set(file.dtypes) == {"float32"}
        assert np.isnan(file.nodata)
        assert (file.descriptions, file.units) == (target.names, target.units)
        tags = [file.tags(band) for band in file.indexes]
    np.testing.assert_array_equal(values, expected)
    assert 0 < np.isnan(values).mean() < 1
    for band, found in zip(expected.astype(np.float64), tags, strict=True):
        numbers = (np.nanmin(band), np.nanmax(band), np.nanmean(band), np.nanstd(band))
        for key, number in zip(("MINIMUM", "MAXIMUM", "MEAN", "STDDEV"), numbers, strict=True):
            assert float(found[f"STATISTICS_{key}"]) == pytest.approx(number, rel=1e-6)


def test_a_picture_of_values_without_data_has_no_colour_bar(tmp_path):
    spec = DataSpec(Sen1Floods11.data_spec().input, BIOMASS)
    for fill, panels, title in ((np.nan, 0, "map: no data"), (120.0, 1, "biomass")):
        with rasterio.open(
            tmp_path / "m.tif",
            "w",
            driver="GTiff",
            height=8,
            width=8,
            count=1,
            dtype="float32",
            nodata=np.nan,
        ) as out:
            out.write(np.full((1, 8, 8), fill, "float32"))
        count = len(spec.input.bands) * spec.input.num_frames
        values = np.ones((count, 8, 8), "float32")
        pixels = Pixels(values, values > 0, np.zeros((8, 8), bool))
        axes = draw_values(tmp_path / "m.tif", pixels, spec).axes
        assert [axis.get_title() for axis in axes].count(title) == 1
        assert sum(axis.get_ylabel() == "biomass (t/ha)" for axis in axes) == panels


def test_a_map_of_values_has_a_style_and_an_item(flood_root, tmp_path):
    path = map_scene(task_of(TWO), flood_root / "scene.tif", tmp_path / "s_pred.tif", quicklook=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "s_pred.json", "s_pred.png", "s_pred.qml", "s_pred.tif", "s_pred_height.qml",
    ]  # fmt: skip
    with rasterio.open(path) as file:
        tags = [file.tags(band) for band in file.indexes]
    for number, name in ((2, "s_pred_height.qml"), (1, "s_pred.qml")):
        root = ElementTree.parse(tmp_path / name).getroot()
        assert root.find(".//rasterrenderer").get("band") == str(number)
        low, high = (float(tags[number - 1][f"STATISTICS_{key}"]) for key in ("MINIMUM", "MAXIMUM"))
        items = root.findall(".//colorrampshader/item")
        assert float(items[0].get("value")) == pytest.approx(low)
        assert float(items[-1].get("value")) == pytest.approx(high)
        assert (items[0].get("color"), items[-1].get("color")) == ("#440154", "#fde725")  # viridis
        legend = root.find(".//rampLegendSettings")
        told = (legend.get("prefix"), legend.get("suffix"))
        assert told == (("biomass ", " t/ha") if number == 1 else ("height ", " m"))
    item = json.loads((tmp_path / "s_pred.json").read_text())
    assert set(item["assets"]) == {"quicklook", "pred"}
    bands = item["assets"]["pred"]["bands"]
    assert [(band["name"], band["unit"], band["data_type"]) for band in bands] == [
        ("biomass", "t/ha", "float32"),
        ("height", "m", "float32"),
    ]
    assert bands[0]["statistics"]["minimum"] == pytest.approx(low)
    text = json.dumps(item)
    assert "classification" not in text
    assert "prithvi_tg:classes" not in text


def test_styles_of_values_of_a_replaced_map_are_removed(flood_root, tmp_path):
    map_scene(task_of(TWO), flood_root / "scene.tif", tmp_path / "s_pred.tif")
    map_scene(task_of(BIOMASS), flood_root / "scene.tif", tmp_path / "s_pred.tif", overwrite=True)
    assert sorted(entry.name for entry in tmp_path.glob("*.qml")) == ["s_pred.qml"]


def test_several_scenes_of_values_have_an_index(flood_root, tmp_path, command):
    from lightning.pytorch import Trainer

    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.strategy.connect(task_of(TWO))
    trainer.save_checkpoint(tmp_path / "v.ckpt", weights_only=True)
    east = tmp_path / "east.tif"
    with rasterio.open(flood_root / "scene.tif") as source:
        moved = source.transform @ rasterio.Affine.translation(source.width, 0)
        with rasterio.open(east, "w", **source.profile | {"transform": moved}) as out:
            out.write(source.read())
    code, _, err = command(
        "predict", flood_root / "scene.tif", east, "--ckpt_path", tmp_path / "v.ckpt", "--output", tmp_path / "m",
        "--trainer.accelerator", "cpu",
    )  # fmt: skip
    assert code == 0, err
    with rasterio.open(tmp_path / "m" / "index_EPSG_4326.vrt") as file:
        assert (file.descriptions, file.units) == (TWO.names, TWO.units)
        both = file.read()
    maps = []
    for name in ("scene", "east"):
        with rasterio.open(tmp_path / "m" / f"{name}_pred.tif") as file:
            maps.append(file.read())
    np.testing.assert_array_equal(both, np.concatenate(maps, axis=2))


def test_a_scene_without_data_gives_a_map_of_nodata_values(flood_root, tmp_path):
    scene = tmp_path / "empty.tif"
    with rasterio.open(flood_root / "scene.tif") as source:
        profile = source.profile | {"nodata": 0}
        with rasterio.open(scene, "w", **profile) as out:
            out.write(np.zeros((source.count, *source.shape), source.dtypes[0]))
    path = map_scene(task_of(BIOMASS), scene, tmp_path / "s_pred.tif", quicklook=True)
    with rasterio.open(path) as file:
        assert np.isnan(file.read()).all()
        assert not [key for key in file.tags(1) if key.startswith("STATISTICS")]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"probabilities": "uint8"},
            r"probabilities: the model maps values \(biomass\); a model of classes is needed for",
        ),
        (
            {"confidence": True},
            r"confidence: the model maps values \(biomass\); a model of classes is needed for confidence",
        ),
        ({"vector": "Water"}, "^vector: the model maps values"),
        ({"profile": "legacy"}, "profile: 'legacy' has no map of values; use cog"),
    ],
)
def test_options_of_classes_are_refused(options, reason, flood_root, tmp_path):
    with pytest.raises(ConfigError, match=reason):
        map_scene(task_of(BIOMASS), flood_root / "scene.tif", tmp_path / "s_pred.tif", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_outputs_must_match_the_values(flood_root, tmp_path):
    with pytest.raises(ConfigError, match=r"the model has 3 outputs for 2 values \(biomass, height\)"):
        map_scene(task_of(TWO, OneTooMany), flood_root / "scene.tif", tmp_path / "s_pred.tif")


def test_classes_of_chips_cannot_be_mapped():
    spec = DataSpec(Sen1Floods11.data_spec().input, ChipClassTarget(("a", "b")))
    with pytest.raises(ConfigError, match="target: no map can be made of chip_classes"):
        select_products(spec, OutputOptions())


def test_a_checkpoint_of_pretraining_cannot_be_mapped():
    spec = DataSpec(Sen1Floods11.data_spec().input, ImageTarget())
    with pytest.raises(
        ConfigError, match=r"^ckpt_path: the checkpoint comes from pretrain and cannot make maps"
    ):
        select_products(spec, OutputOptions())


def test_the_command_maps_values_and_prints_a_summary(flood_root, tmp_path, command, monkeypatch):
    from prithvi_tg.callbacks import maps

    shown = []
    monkeypatch.setattr(maps, "map_table", lambda results: shown.extend(results) or "")
    from lightning.pytorch import Trainer

    task = task_of(BIOMASS)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "v.ckpt", weights_only=True)
    with warnings.catch_warnings():
        code, _, err = command(
            "predict", "--ckpt_path", tmp_path / "v.ckpt", flood_root / "scene.tif", "--output", tmp_path / "m",
            "--trainer.accelerator", "cpu",
        )  # fmt: skip
    assert code == 0, err
    (result,) = shown
    with rasterio.open(tmp_path / "m" / "scene_pred.tif") as file:
        mean = np.nanmean(file.read(1).astype(np.float64))
    assert len(result.summary) == 1
    assert result.summary[0].startswith(f"biomass: mean {mean:.4g}, SD ")
    assert result.summary[0].endswith(" t/ha")
    assert (tmp_path / "m" / "index_EPSG_4326.vrt").exists()
