"""Images of a window: images with adjacent, overlapping or unknown dates, and splits by time."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from prithvi_tg.checks import check_scenes
from prithvi_tg.datamodules import LabelledScenesDataModule
from prithvi_tg.datamodules.labelled_scenes import BlockSplit, TimeSplit
from prithvi_tg.datasets.scenes.dataset import SceneDataset
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers import InputOptions, find_inputs
from prithvi_tg.readers.formats import resolve_scene
from prithvi_tg.readers.scene import BandFile, Grid, Scene
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPEC = DataSpec(InputSpec(("RED",), (0.0,), (1.0,), num_frames=2), ClassTarget())
SIDE = 32
DAY = date(2020, 6, 30)


def write(path, value, column=0, descriptions=None, bands=2):
    place = from_origin(600000 + 30 * column, 4200000, 30, 30)
    with rasterio.open(
        path, "w", "GTiff", SIDE, SIDE, bands, "EPSG:32615", place, "uint8", nodata=0
    ) as out:  # fmt: skip
        out.write(np.full((bands, SIDE, SIDE), value, np.uint8))
        out.descriptions = descriptions or [None] * bands
    return path


def scene(folder, number, dates, column=0):
    """A scene whose pixels all have its number."""
    path = write(folder / f"{number}.tif", number, column)
    with rasterio.open(path) as source:
        grid = Grid.of(source)
    return Scene(f"{number}", grid, (BandFile(str(path), 1), BandFile(str(path), 2)), dates=dates)


def window_of(dataset, number):
    """The whole area in the period of a scene."""
    left, bottom, right, top = dataset.index.total_bounds
    period = dataset.index.index[number]
    return slice(left, right, 30), slice(bottom, top, 30), slice(period.left, period.right)


days = st.integers(0, 3).map(lambda count: DAY + timedelta(days=count))
dates = st.one_of(st.just((None, None)), st.tuples(days, days))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(dates, st.integers(0, SIDE)), min_size=2, max_size=5))
def test_a_window_of_a_period_has_pixels_of_its_images_only(tmp_path, scenes):
    dataset = SceneDataset([scene(tmp_path, k + 1, *one) for k, one in enumerate(scenes)], SPEC)
    for number, (own, column) in enumerate(scenes):
        sample = dataset[window_of(dataset, number)]
        seen = set(np.unique(sample["image"][sample["valid"]]).astype(int).tolist())
        assert number + 1 in seen
        for other in seen - {number + 1}:  # a mosaic
            assert sorted(map(str, scenes[other - 1][0])) == sorted(map(str, own))
            assert SIDE - abs(scenes[other - 1][1] - column) <= 0.2 * SIDE


def test_a_query_without_a_time_shows_images_of_any_time(tmp_path):
    dataset = SceneDataset([scene(tmp_path, 1, (None, None)), scene(tmp_path, 2, (DAY, DAY), SIDE)], SPEC)
    assert set(np.unique(dataset[slice(None), slice(None)]["image"])) == {1, 2}


def module(folder, images, split, **options):
    folder.mkdir(exist_ok=True)
    label = write(folder / "label.tif", 1, bands=1)
    return LabelledScenesDataModule(
        images=[str(path) for path in images], labels=str(label), classes={1: "Land", 2: "Sea"}, split=split,
        mean=[0.0],
        std=[1.0], bands=["RED"], window=16, windows_per_epoch=20, random_flip_rot90=False, **options,
    )  # fmt: skip


def test_overlapping_images_of_one_day_are_drawn_and_scored_separately(tmp_path):
    images = [write(tmp_path / f"{k}.tif", k, descriptions=["RED_20200630"], bands=1) for k in (1, 2)]
    data = module(tmp_path, images, BlockSplit(16))
    data.setup("fit")
    drawn = [np.unique(data.train_dataset[query]["image"]) for query in data.train_sampler]
    assert {tuple(values) for values in drawn} == {(1,), (2,)}
    windows = data.scored_windows("train", *data.open_both())
    names = [windows.name(number) for number in range(len(windows))]
    assert len(set(names)) == len(names) == 2 * len(data.split_regions.splits["train"].boxes)
    assert {tuple(np.unique(windows[number]["image"])) for number in range(len(windows))} == {(1,), (2,)}


def dated(folder, *names):
    """Files of two frames, named after their two days: ``0629_0630``."""
    return [
        write(folder / f"{name}.tif", 1, descriptions=[f"RED_2020{day}" for day in name.split("_")])
        for name in names
    ]


HALVES = TimeSplit(("2020-01-01", "2020-06-30"), ("2020-07-01", "2020-12-31"))


def test_an_image_belongs_to_the_split_with_all_its_days(tmp_path):
    images = dated(tmp_path, "0101_0630", "0629_0630", "0630_0701", "0701_0702", "0701_1231")
    data = module(tmp_path / "l", images, HALVES, num_frames=2)
    with pytest.warns(
        UserWarning, match=r"split: 1 image in no split, .*: 0630_0701.tif; change the periods"
    ):
        data.setup("fit")
    held = {
        split: [f"{time.left:%m%d}_{time.right:%m%d}" for time in data.periods(split, data.open_images())]
        for split in ("train", "val")
    }
    assert held == {"train": ["0101_0630", "0629_0630"], "val": ["0701_0702", "0701_1231"]}


def test_an_image_without_a_date_belongs_to_no_split_by_time(tmp_path):
    undated = write(tmp_path / "a.tif", 1, bands=1, descriptions=["RED"])
    with pytest.raises(
        DataError, match=r"needs the dates of the images, but none is known: a.tif; dates are read from"
    ):
        module(tmp_path, [undated], HALVES).setup("fit")
    others = [
        write(tmp_path / f"{day}.tif", 1, bands=1, descriptions=[f"RED_2020{day}"])
        for day in ("0101", "0701")
    ]
    data = module(tmp_path, [undated, *others], HALVES)
    with pytest.warns(
        UserWarning, match=r"unknown or do not all lie in one period: a.tif; dates are read from"
    ):
        data.setup("fit")
    with pytest.warns(UserWarning, match="in no split"):
        (finding,) = [
            one for one in check_scenes(data) if one.severity == "advice" and one.subject == "split"
        ]
    assert finding.message.endswith("period: a.tif")
    assert "B02_20200630" in finding.advice


def test_a_split_without_images_is_an_error(tmp_path):
    data = module(tmp_path, [write(tmp_path / "a.tif", 1, bands=1, descriptions=["RED_20200701"])], HALVES)
    with pytest.raises(DataError, match=r"split: no image from 2020-01-01 to 2020-06-30 \(train\)"):
        data.setup("fit")


def test_descriptions_that_differ_in_dates_only_are_the_same(tmp_path):
    def bands_of(number, descriptions):
        path = write(tmp_path / f"{number}.tif", 1, bands=len(descriptions), descriptions=descriptions)
        return resolve_scene(find_inputs(str(path))[0], trained, InputOptions()).origin

    trained = InputSpec(
        ("RED",),
        (0.0,),
        (1.0,),
        file_bands=(2,),
        file_count=2,
        file_descriptions=("x_20200630", "B04_20200630"),
    )
    same = "RED=2 (same descriptions and positions as in the training data)"
    assert bands_of(1, ["x_20200630", "B04_20200630"]) == bands_of(2, ["x_20210630", "B04_20210630"]) == same
    assert bands_of(3, ["B04_20210630", "x_20210630"]) == "RED=1 (by the file's descriptions)"


def test_check_names_the_scenes_of_each_order_of_bands(tmp_path):
    images = [
        write(tmp_path / f"{day}.tif", 1, descriptions=[f"{name}_2020{day}" for name in names])
        for day, names in (("0101", ["RED", "x"]), ("0701", ["x", "RED"]))
    ]
    found = [one.message for one in check_scenes(module(tmp_path, images, HALVES)) if one.subject == "bands"]
    how = "(by the file's descriptions): 1 scene"
    assert found == [f"RED=1 {how}: 0101", f"RED=2 {how}: 0701"]


@pytest.mark.parametrize(
    ("periods", "words"),
    [
        ((("2020-01-01", "2020-06-30"), ("2020-06-30", "2020-12-31")), "train and val share 2020-06-30"),
        ((("2020-07-01", "2020-07-31"), ("2020-01-01", "2020-12-31")), "val and train share 2020-07-01"),
        (
            (("2019-01-01", "2019-12-31"), ("2020-01-01", "2020-12-31"), ("2020-05-01", "2020-05-02")),
            "val and test share 2020-05-01",
        ),
        (
            (("2020-06-30", "2020-01-01"), ("2021-01-01", "2021-12-31")),
            "ends on 2020-01-01, before it begins",
        ),
        (
            (("2020-06-30", "soon"), ("2021-01-01", "2021-12-31")),
            r"train is .*'soon'.*; give its first and last",
        ),
    ],
)
def test_overlapping_or_unreadable_periods_are_errors(periods, words):
    with pytest.raises(ConfigError, match=words):
        TimeSplit(*periods)


def test_a_period_lasts_to_the_end_of_its_last_day():
    split = TimeSplit(("2020-06-30", "2020-06-30"), ("2020-07-01", "2020-07-01"))
    whole = pd.Interval(pd.Timestamp("2020-06-30"), pd.Timestamp("2020-06-30 23:59:59.999999"), closed="both")
    assert split.holds("train", whole)
    assert not split.holds("val", whole)
