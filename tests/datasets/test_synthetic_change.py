import numpy as np
import rasterio

from prithvi_tg.datasets.synthetic_change import change_scene, write_change


def test_forest_loss_is_forest_before_and_none_after():
    bands, labels = change_scene(np.random.default_rng(0), 96, 96)
    red, infrared = bands[2::6].astype(float), bands[3::6].astype(float)
    before, after = (infrared - red) / (infrared + red)
    forest, loss = labels == 1, labels == 2
    assert {0, 1, 2} <= set(np.unique(labels))
    assert np.median(before[loss]) > np.median(before[labels == 0])
    assert abs(np.median(before[loss]) - np.median(before[forest])) < 0.05
    assert np.median(after[loss]) < np.median(after[forest]) - 0.2


def test_the_files_of_the_dates_are_the_scene(tmp_path):
    root = write_change(tmp_path / "change", chips=6, size=32)
    parts = []
    for name in ("before", "after"):
        with rasterio.open(root / f"{name}.tif") as file:
            parts.append(file.read())
    with rasterio.open(root / "scene.tif") as file:
        assert (file.read() == np.concatenate(parts)).all()
        assert file.descriptions[0] == "BLUE_20220615"
        assert file.descriptions[-1] == "SWIR_2_20230615"
    assert (
        len(list((root / "chips").glob("*_image.tif")))
        == len(list((root / "chips").glob("*_change.tif")))
        == 6
    )
