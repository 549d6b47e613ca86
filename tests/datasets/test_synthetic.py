import numpy as np
import pytest
import rasterio

from prithvi_tg import Sen1Floods11
from prithvi_tg.datasets.synthetic import flood_scene, write_sen1floods11
from prithvi_tg.errors import ConfigError


def test_the_same_seed_gives_the_same_scene():
    first, second = (flood_scene(np.random.default_rng(3), 40, 50) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_synthetic_floods_are_plausible():
    """Water is dark in the short-wave infrared, plants bright in the near infrared."""
    bands, labels = flood_scene(np.random.default_rng(0), 128, 128)
    assert bands.shape == (13, 128, 128)
    assert set(np.unique(labels)) <= {-1, 0, 1}
    water, land = bands[:, labels == 1], bands[:, labels == 0]
    assert 0.1 < (labels == 1).mean() < 0.6
    assert np.median(water[11]) < 0.5 * np.median(land[11])
    assert np.median(land[8]) > 1500
    threshold = np.median(bands[11])
    assert ((bands[11] < threshold) != (labels == 1))[labels >= 0].any()


def test_a_swath_edge_has_no_data_and_no_label():
    for seed in range(20):
        bands, labels = flood_scene(np.random.default_rng(seed), 64, 64)
        outside = (bands == 0).any(axis=0)
        assert (labels[outside] == -1).all()
        assert (bands[:, outside] == 0).all()
        if outside.any():
            return
    pytest.fail("no swath edge in 20 scenes")


def test_the_layout_is_the_published_one(flood_root):
    lists = {
        split: len(Sen1Floods11(flood_root, split, flood_root / "splits.csv"))
        for split in Sen1Floods11.split_names
    }
    assert lists == {"train": 3, "val": 1, "test": 1, "bolivia": 1}
    with rasterio.open(flood_root / Sen1Floods11.folder / "S2Hand" / "Synthetic_0000_S2Hand.tif") as file:
        assert (file.count, file.dtypes[0], file.nodata) == (13, "int16", 0)
        assert file.crs.to_epsg() == 4326
        assert file.descriptions[8] == "B8A"


def test_existing_data_are_not_overwritten(flood_root, tmp_path):
    with pytest.raises(ConfigError, match="exists and is not empty"):
        write_sen1floods11(flood_root)
    with pytest.raises(ConfigError, match="chips: 5 are too few"):
        write_sen1floods11(tmp_path / "new", chips=5)
