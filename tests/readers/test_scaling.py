"""Scale and offset tags mean the same in training and in mapping."""

import numpy as np
import pytest
import rasterio

from prithvi_tg.datasets import ChipFolder, SceneDataset
from prithvi_tg.errors import ConfigError
from prithvi_tg.readers.formats import InputOptions

PLACE = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)


def chips(folder, scales=(1.0, 1.0), offsets=(0.0, 0.0), scale=1.0, mean=(0.2, 0.2), **options):
    profile = {"driver": "GTiff", "height": 2, "width": 3, "crs": "EPSG:32615", "transform": PLACE}
    with rasterio.open(folder / "im_a.tif", "w", count=2, dtype="uint16", **profile) as out:
        out.write(np.full((2, 2, 3), 3000, "uint16"))
        out.scales, out.offsets = scales, offsets
    with rasterio.open(folder / "lb_a.tif", "w", count=1, dtype="uint8", **profile) as out:
        out.write(np.zeros((1, 2, 3), "uint8"))
    (folder / "splits.csv").write_text("chip,split\na,train\n")
    return ChipFolder(
        str(folder / "im_*.tif"), str(folder / "lb_*.tif"), folder / "splits.csv", {0: "a", 1: "b"},
        ["RED", "GREEN"], list(mean), [0.1, 0.1], scale=scale, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scales", "offsets", "scale", "mean", "expected"),
    [
        ((1e-4, 1e-4), (-0.1, -0.1), 1.0, (0.2, 0.2), [0.2, 0.2]),
        ((1e-4, 1e-4), (-0.1, -0.1), 1e-4, (0.2, 0.2), [0.2, 0.2]),
        ((1e-4, 1e-4), (-0.1, -0.1), 1.0, (2000, 2000), [2000, 2000]),
        ((1e-4, 2e-4), (0.0, -0.1), 1.0, (0.2, 0.2), [0.3, 0.5]),
        ((1.0, 1.0), (0.0, 0.0), 1e-4, (0.2, 0.2), [0.3, 0.3]),
        ((2.75e-5, 2.75e-5), (-0.2, -0.2), 1.0, (0.2, 0.2), [-0.1175, -0.1175]),
    ],
)
def test_a_file_has_the_same_values_as_a_chip_and_as_a_scene(
    tmp_path, scales, offsets, scale, mean, expected
):
    dataset = chips(tmp_path, scales, offsets, scale, mean)
    chip = dataset[0]["image"]
    scene = SceneDataset.open(str(tmp_path / "im_a.tif"), dataset.spec)[:, :, :]["image"]
    assert np.allclose(chip[0, :, 0, 0], expected, rtol=1e-5)
    assert (chip == scene).all()


def test_tags_that_contradict_the_configured_scale_are_an_error_that_names_both(tmp_path):
    dataset = chips(tmp_path, (2e-4, 2e-4), scale=1e-4)
    message = r"scale: 0\.0001 is configured, but band 1 of .*im_a\.tif has the tags scale 0\.0002"
    with pytest.raises(ConfigError, match=message):
        dataset[0]
    with pytest.raises(ConfigError, match=message):
        SceneDataset.open(str(tmp_path / "im_a.tif"), dataset.spec, InputOptions(training=True))


def test_the_legacy_rule_ignores_tags(tmp_path):
    dataset = chips(tmp_path, (2e-4, 2e-4), (-0.1, -0.1), scale=1e-4, legacy_nodata=True)
    assert np.allclose(dataset[0]["image"], 0.3)
    scene = SceneDataset.open(
        str(tmp_path / "im_a.tif"), dataset.spec, InputOptions(legacy=True), nodata_rule="legacy"
    )
    assert np.allclose(scene[:, :, :]["image"], 0.3)
