"""Estimators: the worked examples of Olofsson et al. 2014 and Stehman 2014, and the coverage of intervals."""

import numpy as np
import pytest

from prithvi_tg.areas.estimation import SampleCounts, estimate

#: Olofsson et al. 2014, table 8: deforestation, forest gain, stable forest, stable non-forest.
MATRIX = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED = np.array([200_000, 150_000, 3_200_000, 6_450_000])  # pixels of 0.09 ha

#: Stehman 2014: ten points, map/reference, of each stratum.
POINTS = {
    "A": "AA AA AA AA AA AC AB BA BB BC",
    "B": "AA BB BB BB BB BB BA BA BB BB",
    "C": "BC BC CC CC CC CD CD CB BB BA",
    "D": "DD DD DD DD DD DD DD DC DC DB",
}
SIZES = np.array([40_000, 30_000, 20_000, 10_000])


def by_map(counts):
    """Counts (..., H, K, K) of strata that are the classes of the map, from (..., K, K)."""
    found = np.zeros((*counts.shape[:-1], *counts.shape[-2:]))
    for stratum in range(counts.shape[-1]):
        found[..., stratum, stratum, :] = counts[..., stratum, :]
    return found


def stehman():
    strata, mapped, reference = (
        np.array(part)
        for part in zip(
            *(
                ("ABCD".index(stratum), "ABCD".index(word[0]), "ABCD".index(word[1]))
                for stratum, words in POINTS.items()
                for word in words.split()
            ),
            strict=True,
        )
    )
    return SampleCounts.from_points(
        strata, mapped, reference, np.full(40, 900.0), 4, SIZES * 900.0, SIZES * 1.0
    )


def test_strata_that_are_classes_give_the_figures_of_olofsson():
    found = estimate(SampleCounts.from_counts(by_map(MATRIX), MAPPED))
    expected = [[0.0176, 0, 0.0013, 0.0011], [0, 0.0110, 0.0016, 0.0024], [0.0019, 0, 0.2967, 0.0213],
                [0.0040, 0.0020, 0.0179, 0.6212]]  # fmt: skip
    np.testing.assert_allclose(found.matrix, expected, atol=5e-5)
    share = found.proportions
    np.testing.assert_allclose(share.value, [0.023509, 0.012985, 0.317522, 0.645985], atol=5e-7)
    pixels = MAPPED.sum()
    np.testing.assert_allclose(share.value * pixels, [235_086, 129_846, 3_175_221, 6_459_846], atol=0.5)
    np.testing.assert_allclose(share.standard_error * pixels, [34_907, 21_292, 87_924, 92_300], atol=0.5)
    np.testing.assert_allclose(share.half_width * pixels * 0.09, [6_158, 3_756, 15_510, 16_282], atol=0.5)
    np.testing.assert_allclose(found.users.value, [0.880, 0.733, 0.927, 0.963], atol=5e-4)
    np.testing.assert_allclose(found.users.half_width, [0.074, 0.101, 0.040, 0.021], atol=5e-4)
    np.testing.assert_allclose(found.producers.value, [0.749, 0.847, 0.935, 0.962], atol=5e-4)
    np.testing.assert_allclose(found.producers.half_width, [0.213, 0.254, 0.034, 0.018], atol=5e-4)
    assert found.overall.value == pytest.approx(0.9465, abs=5e-5)
    assert found.overall.half_width == pytest.approx(0.0185, abs=5e-5)


def test_strata_that_are_not_classes_give_the_figures_of_stehman():
    found = estimate(stehman())
    np.testing.assert_allclose(found.proportions.value, [0.35, 0.34, 0.20, 0.11], atol=1e-12)
    np.testing.assert_allclose(found.proportions.standard_error, [0.0822, 0.0759, 0.0643, 0.0307], atol=5e-5)
    assert found.overall.value == pytest.approx(0.63)
    assert found.overall.standard_error == pytest.approx(0.0846, abs=5e-5)
    np.testing.assert_allclose(found.users.value, [0.7419, 0.5745, 0.5, 0.7], atol=5e-5)
    np.testing.assert_allclose(found.users.standard_error, [0.1645, 0.1248, 0.2151, 0.1527], atol=5e-5)
    np.testing.assert_allclose(found.producers.value, [0.6571, 0.7941, 0.3, 0.6364], atol=5e-5)
    np.testing.assert_allclose(found.producers.standard_error, [0.1477, 0.1165, 0.1504, 0.1623], atol=5e-5)
    expected = [[0.23, 0.04, 0.04, 0], [0.12, 0.27, 0.08, 0], [0, 0.02, 0.06, 0.04], [0, 0.01, 0.02, 0.07]]
    np.testing.assert_allclose(found.matrix, expected, atol=1e-12)


def test_the_finite_population_factor_makes_a_census_exact():
    counts = by_map(np.array([[6, 2], [1, 9]]))
    few, half = (estimate(SampleCounts.from_counts(counts, [8, 10], pixels)) for pixels in (np.inf, [16, 20]))
    np.testing.assert_allclose(half.proportions.standard_error, few.proportions.standard_error * np.sqrt(0.5))
    census = estimate(SampleCounts.from_counts(counts, [8, 10], [8, 10]))
    np.testing.assert_array_equal(census.proportions.standard_error, 0)
    np.testing.assert_array_equal(census.producers.standard_error, 0)
    np.testing.assert_allclose(census.proportions.value, [7 / 18, 11 / 18])


def test_a_class_that_is_neither_mapped_nor_found_has_no_accuracy():
    counts = np.zeros((2, 3, 3))
    counts[0, 0, 0], counts[1, 1, 1], counts[1, 1, 0] = 9, 8, 2
    found = estimate(SampleCounts.from_counts(counts, [1, 3]))
    assert found.proportions.value[2] == 0
    assert np.isnan(found.users.value[2])
    assert np.isnan(found.producers.value[2])
    assert np.isfinite(found.producers.standard_error[:2]).all()


def coverage(sizes, draws=20_000):
    """Share of the intervals of area that hold the truth, with the worked example as truth."""
    rng = np.random.default_rng(0)
    shares = MATRIX / MATRIX.sum(axis=1, keepdims=True)
    counts = np.stack(
        [rng.multinomial(size, row, draws) for size, row in zip(sizes, shares, strict=True)], axis=1
    )
    found = estimate(SampleCounts.from_counts(by_map(counts), MAPPED, MAPPED)).proportions
    truth = MAPPED / MAPPED.sum() @ shares
    return (abs(found.value - truth) <= found.half_width).mean(axis=0)


def test_intervals_of_a_large_sample_hold_the_truth_in_95_of_100_samples():
    found = coverage((300, 300, 1200, 3000))
    np.testing.assert_allclose(found, [0.946, 0.941, 0.949, 0.950], atol=5e-3)
    assert ((found >= 0.93) & (found <= 0.97)).all()


def test_intervals_of_rare_classes_are_too_short_with_few_points_in_large_strata():
    np.testing.assert_allclose(coverage((75, 75, 165, 325)), [0.886, 0.721, 0.951, 0.953], atol=0.01)


def test_points_of_pixels_of_other_areas_count_by_their_area():
    # A stratum of 100 pixels, half of them three times as large; only large ones are water.
    rng = np.random.default_rng(0)
    sizes = np.repeat([1.0, 3.0], 50)
    water = np.arange(100) >= 70
    shares, errors = [], []
    for _ in range(2000):
        drawn = rng.choice(100, 40, replace=False)
        sample = SampleCounts.from_points(
            np.zeros(40, int), np.zeros(40, int), water[drawn].astype(int), sizes[drawn], 2, np.array([200.0]),
            np.array([100.0]),
        )  # fmt: skip
        found = estimate(sample).proportions
        shares.append(found.value[1])
        errors.append(found.standard_error[1])
    shares, errors = np.array(shares), np.array(errors)
    assert shares.mean() == pytest.approx(0.45, abs=0.005)  # by number of pixels it would be 0.3
    assert errors.mean() == pytest.approx(shares.std(), rel=0.05)
    assert (abs(shares - 0.45) < 1.96 * errors).mean() == pytest.approx(0.95, abs=0.02)
