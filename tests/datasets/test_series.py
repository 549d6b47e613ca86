"""Temporal composites: the dates that become the frames of a multi-temporal model."""

from datetime import date

import numpy as np
import pytest
import rasterio
import torch

from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.datasets.scenes.composites import TemporalComposite, compose_frames
from prithvi_tg.datasets.scenes.dataset import SceneDataset
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers.formats import find_inputs
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPEC = DataSpec(InputSpec(PRITHVI_BANDS, (0.2,) * 6, (0.1,) * 6, num_frames=2), ClassTarget())
CODES = {"S30": ("B02", "B03", "B04", "B8A", "B11", "B12"), "L30": ("B02", "B03", "B04", "B05", "B06", "B07")}


def granule(folder, sensor, day, value, cloudy=None, tile="T15SEH"):
    """A granule of one value, with clouds where `cloudy` is true."""
    folder.mkdir(exist_ok=True)
    prefix = f"HLS.{sensor}.{tile}.{day}T170901.v2.0"
    profile = {
        "driver": "GTiff", "height": 6, "width": 5, "count": 1, "crs": "EPSG:32615",
        "transform": rasterio.Affine(30, 0, 600000, 0, -30, 4200000),
    }  # fmt: skip
    for band, code in enumerate(CODES[sensor]):
        with rasterio.open(
            folder / f"{prefix}.{code}.tif", "w", dtype="int16", nodata=-9999, **profile
        ) as out:
            out.write(np.full((6, 5), value + band, "int16"), 1)
    fmask = np.zeros((6, 5), "uint8")
    if cloudy is not None:
        fmask[cloudy] = 0b10
    with rasterio.open(folder / f"{prefix}.Fmask.tif", "w", dtype="uint8", nodata=255, **profile) as out:
        out.write(fmask, 1)


def image_of(scene, qa_mask=("cloud",)):
    return SceneDataset(scene, SPEC, qa_mask=qa_mask)[slice(None), slice(None)]


@pytest.fixture
def archive(tmp_path):
    """Five dates of one tile, Sentinel-2 and Landsat mixed."""
    for sensor, day, value in (
        ("S30", 2020100, 1000), ("L30", 2020110, 2000), ("S30", 2020150, 3000), ("L30", 2020200, 4000),
        ("S30", 2020210, 5000),
    ):  # fmt: skip
        granule(tmp_path / "hls", sensor, day, value)
    return tmp_path / "hls"


def test_the_nearest_date_becomes_the_frame(archive):
    series = TemporalComposite(dates=("2020-04-20", "2020-07-25"))  # days 111 and 207
    (scene,) = compose_frames(find_inputs([archive]), SPEC, series)
    assert scene.dates == (date(2020, 4, 19), date(2020, 7, 28))
    assert scene.name == "T15SEH_20200419_20200728"
    sample = image_of(scene)
    expected = torch.tensor(
        [[0.2 + 1e-4 * band for band in range(6)], [0.5 + 1e-4 * band for band in range(6)]]
    )
    torch.testing.assert_close(sample["image"][:, :, 0, 0], expected)
    with pytest.raises(
        DataError, match="T15SEH: no date within 3 days of 2020-06-15; the nearest is 2020-05-29"
    ):
        compose_frames(
            find_inputs([archive]), SPEC, TemporalComposite(dates=("2020-04-20", "2020-06-15"), tolerance=3)
        )


def test_the_median_of_clear_pixels_becomes_the_frame(archive):
    granule(archive, "L30", 2020105, 9000, cloudy=np.s_[:3])  # clear in the lower half only
    series = TemporalComposite(periods=(("2020-04-01", "2020-04-30"), ("2020-05-01", "2020-12-31")))
    (scene,) = compose_frames(find_inputs([archive]), SPEC, series, qa_mask=("cloud",))
    image = image_of(scene)["image"][:, 0]
    assert image[0, 0, 0] == pytest.approx(np.median([0.1, 0.2]))
    assert image[0, 5, 0] == pytest.approx(np.median([0.1, 0.2, 0.9]))
    assert image[1, 0, 0] == pytest.approx(np.median([0.3, 0.4, 0.5]))


def test_a_pixel_that_is_never_clear_is_without_data(tmp_path):
    for day in (2020100, 2020110):
        granule(tmp_path / "hls", "S30", day, 1000, cloudy=np.s_[0])
    granule(tmp_path / "hls", "S30", 2020200, 3000)
    series = TemporalComposite(periods=(("2020-04-01", "2020-04-30"), ("2020-05-01", "2020-12-31")))
    (scene,) = compose_frames(find_inputs([tmp_path / "hls"]), SPEC, series, qa_mask=("cloud",))
    sample = image_of(scene)
    assert sample["valid"][0, 0].int().sum(dim=1).tolist() == [0, 5, 5, 5, 5, 5]
    assert sample["image"][0, 0, 0, 0] == pytest.approx(0.2)
    assert not sample["masked"].any()  # the other date has data


def test_every_tile_becomes_a_separate_scene(archive):
    for day in (2020101, 2020201):
        granule(archive, "S30", day, 100, tile="T16SEH")
    scenes = compose_frames(
        find_inputs([archive]), SPEC, TemporalComposite(dates=("2020-04-10", "2020-07-19"))
    )
    assert [scene.name[:6] for scene in scenes] == ["T15SEH", "T16SEH"]


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ({"periods": (("2020-04-01", "2020-04-30"), ("2021-01-01", "2021-02-01"))},
         "T15SEH: no date from 2021-01-01 to 2021-02-01; available dates: 2020-04-09, 2020-04-19"),
        ({"dates": ("2020-04-01",)}, "composite: gives 1 frame, but the model takes 2"),
    ],
)  # fmt: skip
def test_invalid_composites_are_errors(archive, series, words):
    with pytest.raises((DataError, ConfigError), match=words):
        compose_frames(find_inputs([archive]), SPEC, TemporalComposite(**series))


def test_a_period_without_clear_pixels_is_an_error(tmp_path):
    granule(tmp_path / "hls", "S30", 2020100, 1000, cloudy=np.s_[:])
    granule(tmp_path / "hls", "S30", 2020200, 1000)
    series = TemporalComposite(periods=(("2020-04-01", "2020-04-30"), ("2020-05-01", "2020-12-31")))
    with pytest.raises(DataError, match=r"no clear pixel from 2020-04-01 to 2020-04-30 in 1 date$"):
        compose_frames(find_inputs([tmp_path / "hls"]), SPEC, series, qa_mask=("cloud",))


def test_dates_must_have_the_form_of_dates():
    with pytest.raises(ConfigError, match="composite: '20-4-2020' is not a date; write it as YYYY-MM-DD"):
        TemporalComposite(dates=("20-4-2020",))
    with pytest.raises(ConfigError, match="composite: give dates, or periods"):
        TemporalComposite()
