"""Values in another unit than the statistics are detected, for every kind of mistake."""

import numpy as np
import pytest

from prithvi_tg.bands import PRETRAINING_STATISTICS, PRITHVI_BANDS
from prithvi_tg.datasets import HLSBurnScars, MultiTemporalCropClassification, Sen1Floods11
from prithvi_tg.spec import LANDSAT_C2, SENTINEL2_OFFSET, DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPECS = {
    "v1": DataSpec(InputSpec(PRITHVI_BANDS, *PRETRAINING_STATISTICS["prithvi_eo_v1"]), ClassTarget()),
    "v2": DataSpec(InputSpec(PRITHVI_BANDS, *PRETRAINING_STATISTICS["prithvi_eo_v2"]), ClassTarget()),
    "floods": Sen1Floods11.data_spec(),
    "burn scars": HLSBurnScars.data_spec(),
    "crops": DataSpec(MultiTemporalCropClassification.data_spec().input.frame(0), ClassTarget()),
}
specs = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def reflectance(spec):
    return np.array(spec.input.mean) / spec.input.reflectance_unit


def judged(spec, stored, scale=None, lows=None):
    """The unit ratio of stored numbers that `scale` converts to the unit of the statistics."""
    scale = spec.input.scale if scale is None else scale
    ratio = spec.input.unit_ratio(stored * scale, None if lows is None else lows * scale, scale)
    return spec.input.is_other_unit(ratio), ratio


@specs
@pytest.mark.parametrize("form", [SENTINEL2_OFFSET, LANDSAT_C2], ids=["sentinel2", "landsat"])
def test_stored_formats_of_reflectance_are_recognised(spec, form):
    numbers = (reflectance(spec) - form.offset) / form.scale
    other, ratio = judged(spec, numbers, scale=1e-4 * spec.input.reflectance_unit)
    assert other
    assert ratio.mistaken_for is form
    assert form.name in ratio.describe()


@specs
@pytest.mark.parametrize("factor", [1e-4, 0.04, 30, 1e4])
def test_a_wrong_magnitude_is_another_unit(spec, factor):
    assert judged(spec, np.array(spec.input.mean) * factor / spec.input.scale)[0]


@specs
@pytest.mark.parametrize("shift", [-2.5, -1, 0, 1, 2.5])
def test_bright_or_dark_places_are_in_the_unit(spec, shift):
    uneven = np.array([0.5, 1, 0.7, 1, 0.6, 1]) * shift
    other, ratio = judged(spec, (np.array(spec.input.mean) + uneven * spec.input.std) / spec.input.scale)
    assert not other or ratio <= 1 / 20  # dark bands of small means may turn negative


@specs
@pytest.mark.parametrize("side", [-1, 1])
def test_all_bands_three_deviations_to_one_side_mean_another_unit(spec, side):
    values = np.array(spec.input.mean) + side * 3.5 * np.array(spec.input.std)
    assert judged(spec, values / spec.input.scale)[1].one_sided
    values[2] = spec.input.mean[2]
    assert not judged(spec, values / spec.input.scale)[1].one_sided


def test_the_darkest_pixels_show_the_offset_of_sentinel2():
    spec = SPECS["v1"]
    medians, lows = np.array([350, 600, 400, 3000, 1700, 800.0]), np.array([200, 350, 180, 1500, 700, 300.0])
    assert judged(spec, medians + 1000, lows=lows + 1000)[1].mistaken_for is SENTINEL2_OFFSET
    assert not judged(spec, medians, lows=lows)[0]
    desert = np.array([1300, 2000, 2700, 3400, 4200, 3800.0])
    assert not judged(spec, desert, lows=desert * 0.8)[0]


@pytest.mark.parametrize("lows", [None, np.array([131, 150, 190, 245.0])], ids=["unknown", "dark"])
def test_numbers_that_a_factor_converts_have_no_offset(lows):
    mean = (0.07274, 0.09023, 0.09148, 0.2347)
    spec = DataSpec(InputSpec(PRITHVI_BANDS[:4], mean, (0.03, 0.03, 0.04, 0.08)), ClassTarget())
    other, ratio = judged(spec, np.array([727.4, 902.3, 914.8, 2347]), lows=lows)
    assert other
    assert ratio.mistaken_for is None
    assert ratio.describe() == "are about 10000 times as large as the means in the statistics"


@pytest.mark.parametrize(
    ("factor", "scale", "fitting"),
    [(1e-4, 1e-4, 1), (1e4, 1, 1e-4), (0.0013, 1e-4, 0.1), (19, 1, None), (0.06, 1, None), (-30, 1, None)],
)
def test_the_scale_that_would_match_the_statistics_is_known(factor, scale, fitting):
    spec = InputSpec(("RED", "GREEN"), (0.07, 0.09), (0.3, 0.4), scale=scale)
    found = spec.fitting_scale(spec.unit_ratio(np.array(spec.mean) * factor))
    assert found == (None if fitting is None else pytest.approx(fitting))


def test_pixels_darker_than_an_offset_exclude_it():
    spec = SPECS["v1"]
    stored = np.array(spec.input.mean) + 1000
    assert judged(spec, stored, scale=1e-4)[1].mistaken_for is SENTINEL2_OFFSET
    assert judged(spec, stored, scale=1e-4, lows=np.full(6, 1010.0))[1].mistaken_for is SENTINEL2_OFFSET
    assert judged(spec, stored, scale=1e-4, lows=np.full(6, 150.0))[1].mistaken_for is None
