"""Sizes and allocations: the example of Olofsson et al. 2014, section 5.1.1."""

import numpy as np
import pytest

from prithvi_tg.areas.allocation import ALLOCATIONS, allocate, expected_error, sample_size
from prithvi_tg.areas.sample import SampleOptions
from prithvi_tg.errors import ConfigError

PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
SHARES = PIXELS / PIXELS.sum()
ACCURACIES = np.array([0.7, 0.6, 0.9, 0.95])
DEVIATIONS = np.sqrt(ACCURACIES * (1 - ACCURACIES))


def test_the_size_for_a_standard_error_is_that_of_olofsson():
    assert sample_size(SHARES, DEVIATIONS, 0.01) == 641
    assert sample_size(SHARES, DEVIATIONS, 0.01, PIXELS.sum()) == 641
    assert sample_size(SHARES, DEVIATIONS, 0.01, 1000) < 641  # the finite-population factor


@pytest.mark.parametrize(
    ("name", "expected"), [("proportional", [13, 10, 205, 413]), ("equal", [161, 160, 160, 160])]
)
def test_allocations_are_those_of_olofsson(name, expected):
    # They give 160 points to each of equal strata, 640 of 641.
    assert allocate(641, ALLOCATIONS[name](SHARES, DEVIATIONS), PIXELS).tolist() == expected


def test_a_minimum_is_taken_from_the_other_strata():
    points = allocate(641, SHARES, PIXELS, minimum=75)
    assert points[:2].tolist() == [75, 75]
    assert points.sum() == 641
    assert points[3] / points[2] == pytest.approx(6.45 / 3.2, rel=0.01)


def test_the_sum_of_an_allocation_is_the_number_of_points():
    pixels = np.array([3000, 4000, 5000])
    # 27.5, 39.6 and 52.9 of 120.
    assert allocate(120, np.array([0.2292, 0.33, 0.4408]), pixels, minimum=20).tolist() == [27, 40, 53]
    assert allocate(120, np.array([0.2258, 0.3096, 0.4646]), pixels, minimum=20).sum() == 120
    assert allocate(10, np.ones(3), pixels).tolist() == [4, 3, 3]
    # The full second stratum gives points back, which the minimum of the first would otherwise keep from it.
    assert allocate(100, np.array([0.15, 0.85]), np.array([500, 70]), minimum=20).tolist() == [30, 70]
    for total in range(60, 160):
        assert allocate(total, np.array([0.2257, 0.3121, 0.4622]), pixels, minimum=20).sum() == total


def test_the_optimal_allocation_reaches_the_standard_error():
    points = allocate(641, ALLOCATIONS["optimal"](SHARES, DEVIATIONS), PIXELS)
    assert expected_error(SHARES, DEVIATIONS, points, PIXELS) == pytest.approx(0.01, rel=1e-3)
    others = allocate(641, ALLOCATIONS["equal"](SHARES, DEVIATIONS), PIXELS)
    assert expected_error(SHARES, DEVIATIONS, others, PIXELS) > 0.01


def test_a_stratum_gets_no_more_points_than_pixels():
    assert allocate(100, np.array([0.9, 0.1]), np.array([30, 500])).tolist() == [30, 70]
    assert allocate(100, np.array([0.5, 0.5]), np.array([1, 500]), minimum=50).tolist() == [1, 99]
    assert allocate(9, np.zeros(2), np.array([10, 10]), minimum=3).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "points: give the number of points"),
        ({"points": 9, "standard_error": 0.01}, "give only one of them"),
        ({"standard_error": 0.01}, "expected_accuracy: not given"),
        ({"points": 9, "allocation": "optimal"}, "expected_accuracy: not given"),
        ({"points": 9, "allocation": "even"}, "allocation: 'even' is unknown; choose from proportional, equal"),
        ({"points": 9, "expected_accuracy": {"water": 70}}, "expected_accuracy: water=70 is not a share"),
    ],
)  # fmt: skip
def test_options_that_contradict_one_another_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        SampleOptions(**options)
