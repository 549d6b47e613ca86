"""Scores of single chips: they add up to the scores of the set, and intervals have the right coverage."""

import numpy as np
import pytest
import torch

from prithvi_tg.errors import DataError
from prithvi_tg.reporting.chips import (
    ChipCounts,
    ChipScores,
    read_chip_table,
    write_chip_table,
    write_pictures,
)
from prithvi_tg.reporting.scored_chips import extremes
from prithvi_tg.reporting.value_chips import (
    ValueChips,
    ValueChipScores,
    read_value_table,
    write_value_table,
)
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget, ValueTarget
from prithvi_tg.tasks.metrics import ConfusionMatrix, segmentation_scores

pytestmark = [pytest.mark.version_independent, pytest.mark.pictures]

SPEC = DataSpec(
    InputSpec(("BLUE", "GREEN", "RED", "NIR_NARROW"), (0.1,) * 4, (0.05,) * 4), ClassTarget(("Land", "Water"))
)


def scored(chips=7, classes=2, spec=None, num_extremes=4, seed=0):
    """Chips with random labels; predictions are better for chips with higher numbers."""
    rng = torch.Generator().manual_seed(seed)
    scores, matrix = ChipScores(classes, spec, num_extremes), ConfusionMatrix(classes)
    for number in range(chips):
        mask = torch.randint(0, classes, (1, 16, 16), generator=rng)
        wrong = torch.rand(mask.shape, generator=rng) < 0.6 - 0.6 * number / chips
        prediction = torch.where(wrong, (mask + 1) % classes, mask)
        mask[:, :2] = 255
        batch = {"image": torch.randn(1, 1, 4, 16, 16, generator=rng), "mask": mask}
        scores.update([f"chip {number}"], batch, prediction)
        matrix.update(prediction, mask)
    return scores, matrix.compute()


@pytest.mark.parametrize("classes", [2, 5])
def test_counts_of_chips_add_up_to_the_scores_of_the_set(classes):
    scores, confusion = scored(classes=classes)
    whole = segmentation_scores(confusion)
    added = scores.gathered().scores()
    np.testing.assert_allclose(added["IoU"][0], whole["IoU"])
    np.testing.assert_allclose(added["mIoU"][0], whole["mIoU"])
    np.testing.assert_allclose(added["aAcc"][0], whole["aAcc"])


def test_intervals_repeat_with_the_seed_contain_the_score_and_narrow_with_more_chips():
    few, many = (scored(chips=count)[0].gathered() for count in (8, 128))
    assert np.array_equal(few.intervals()["mIoU"], few.intervals()["mIoU"])
    assert not np.array_equal(few.intervals()["mIoU"], few.intervals(seed=1)["mIoU"])
    for chips in (few, many):
        low, high = chips.intervals()["mIoU"]
        assert low < chips.scores()["mIoU"][0] < high
    width = [np.diff(chips.intervals()["mIoU"])[0] for chips in (few, many)]
    assert width[1] < 0.5 * width[0]


def test_intervals_of_equal_chips_have_no_width_and_of_absent_classes_are_nan():
    counts = np.tile(np.array([[[40, 0]], [[50, 0]], [[60, 0]]]), (1, 9, 1))
    bounds = ChipCounts(tuple("abcdefghi"), counts).intervals()
    np.testing.assert_allclose(bounds["IoU"][:, 0], 40 / 70)
    assert np.isnan(bounds["IoU"][:, 1]).all()
    np.testing.assert_allclose(bounds["mIoU"], 40 / 70)


def test_a_written_table_is_read_unchanged(tmp_path):
    chips = scored()[0].gathered()
    write_chip_table(tmp_path / "chips.csv", chips, SPEC.target.names)
    again = read_chip_table(tmp_path / "chips.csv")
    assert again.names == chips.names
    assert np.array_equal(again.counts, chips.counts)
    assert (
        (tmp_path / "chips.csv")
        .read_text()
        .startswith("chip,mIoU,aAcc,hits Land,labelled Land,predicted Land")
    )
    (tmp_path / "chips.csv").write_text("chip,mIoU,aAcc,hits Land\na,1,1,many\n")
    with pytest.raises(DataError, match=r"chips\.csv: not a readable table of chips"):
        read_chip_table(tmp_path / "chips.csv")


def test_the_best_and_worst_chips_are_drawn_once(tmp_path):
    scores, _ = scored(chips=11, spec=SPEC, num_extremes=2)
    chips = scores.gathered()
    wanted = extremes(chips, 2)
    ranked = np.argsort(chips.qualities)
    assert wanted["worst_1"] == chips.names[ranked[0]]
    assert wanted["best_1"] == chips.names[ranked[-1]]
    written = [path.name for path in write_pictures(tmp_path, scores, chips)]
    assert sorted(written) == sorted(f"{rank}_{name.replace(' ', '_')}.png" for rank, name in wanted.items())
    assert list(extremes(scored(chips=1)[0].gathered(), 4)) == ["worst_1"]
    assert len(set(extremes(scored(chips=3)[0].gathered(), 4).values())) == 3


def test_equally_good_chips_are_drawn_too(tmp_path):
    scores = ChipScores(2, SPEC, 2)
    for number in (5, 3, 8, 0, 6, 2, 7):
        mask = torch.zeros(1, 8, 8, dtype=torch.long)
        scores.update([f"chip {number}"], {"image": torch.randn(1, 1, 4, 8, 8), "mask": mask}, mask)
    written = [path.stem for path in write_pictures(tmp_path, scores, scores.gathered())]
    assert written == ["worst_1_chip_0", "worst_2_chip_2", "best_1_chip_8", "best_2_chip_7"]


def test_a_chip_without_labels_is_not_scored():
    scores = ChipScores(2, None)
    batch = {"image": torch.zeros(1, 1, 4, 8, 8), "mask": torch.full((1, 8, 8), 255)}
    scores.update(["empty"], batch, torch.zeros(1, 8, 8, dtype=torch.long))
    assert scores.gathered().names == ()


def test_the_interval_of_a_paired_difference_is_narrower():
    generator = np.random.default_rng(1)
    hits = generator.integers(10, 90, (30, 2))
    one = ChipCounts(tuple(f"{k:02d}" for k in range(30)), np.stack([hits, hits * 0 + 100, hits * 0 + 100]))
    better = ChipCounts(one.names, np.stack([hits + 5, hits * 0 + 100, hits * 0 + 100]))
    (low, high) = one.difference_intervals(better)["mIoU"]
    own_low, own_high = one.intervals()["mIoU"]
    assert 0 < low < (better.scores()["mIoU"] - one.scores()["mIoU"])[0] < high
    assert high - low < (own_high - own_low) / 5
    assert np.allclose(one.difference_intervals(one)["IoU"], 0)
    with pytest.raises(ValueError, match="both runs must have scored the same chips"):
        one.difference_intervals(ChipCounts(one.names[::-1], one.counts))


def windows(rows, columns, side=32, dates=("",), seed=0):
    """Windows of a scene with similar hits in neighbouring windows."""
    rng = np.random.default_rng(seed)
    field = np.kron(rng.integers(10, 90, (rows // 4, columns // 4)), np.ones((4, 4), int))
    names = [
        f"{date}row_{side * r:05d}_column_{side * c:05d}"
        for date in dates
        for r in range(rows)
        for c in range(columns)
    ]
    hits = np.tile(field.ravel(), len(dates))
    counts = np.stack(
        [np.stack([hits, 100 - hits], 1), np.full((len(names), 2), 100), np.full((len(names), 2), 100)]
    )
    return tuple(names), counts


def test_windows_of_a_scene_are_resampled_in_blocks_of_ground():
    names, counts = windows(16, 16)
    blocks = ChipCounts(names, counts, block=128)
    chips = ChipCounts(tuple(f"chip {number}" for number in range(len(names))), counts)
    assert (blocks.block_side, blocks.num_units) == (128, 16)
    assert (chips.block_side, chips.num_units) == (None, 256)
    for units in (blocks.units[[0, 1, 3, 16, 51]], blocks.units[[4, 7, 20]]):
        assert len(set(units)) == 1
    assert len(set(blocks.units[[0, 4, 64]])) == 3
    wide, narrow = (np.diff(one.intervals()["IoU"][:, 0])[0] for one in (blocks, chips))
    assert wide > 2.5 * narrow  # 4 times as wide, were all windows of a block the same
    assert blocks.scores()["mIoU"] == chips.scores()["mIoU"]


def test_windows_of_one_place_at_several_dates_are_one_block():
    names, counts = windows(8, 8, dates=("2022-05-01_", "2022-08-01_2_", "undated_"))
    blocks = ChipCounts(names, counts, block=64)
    assert blocks.num_units == 16
    assert np.array_equal(blocks.units[:64], blocks.units[64:128])
    assert np.array_equal(blocks.units[:64], blocks.units[128:])


def test_chips_with_the_most_wrong_pixels_are_the_worst():
    labelled = np.array([[4000, 5], [3, 0], [3000, 1000], [4000, 0], [2000, 2000]])
    hits = np.array([[4000, 0], [1, 0], [2600, 900], [4000, 0], [2000, 2000]])
    predicted = hits + (labelled - hits)[:, ::-1]
    names = ("rare class", "hardly labelled", "many errors", "one class", "two classes")
    chips = ChipCounts(names, np.stack([hits, labelled, predicted]))
    assert chips.singly()["mIoU"].argmin() == 1
    assert extremes(chips, 2) == {
        "worst_1": "many errors", "worst_2": "rare class", "best_1": "two classes", "best_2": "one class",
    }  # fmt: skip
    assert chips.caption(2) == "500 of 4000 pixels wrong, mIoU 74.1"


def test_values_with_the_largest_sum_of_squared_errors_are_the_worst():
    scores = ValueChipScores(ValueTarget(("height",), ("m",), mean=(0.0,), std=(2.0,)), None)
    for name, pixels, error in (("few", 1, 4.0), ("many", 256, 2.0), ("good", 256, 0.1)):
        label = torch.full((1, 16, 16), float("nan"))
        label.view(-1)[:pixels] = 0
        scores.update([name], {"mask": label}, torch.full((1, 16, 16), error))
    chips = scores.gathered()
    assert [name for _, name in sorted(zip(chips.qualities, chips.names, strict=True))] == [
        "many",
        "few",
        "good",
    ]
    assert chips.qualities[chips.names.index("many")] == pytest.approx(-256)


def test_windows_of_several_scenes_are_in_blocks_of_their_own_ground():
    names, counts = windows(8, 8)
    dated, _ = windows(8, 8, dates=("2022-05-01_", "2022-08-01_2_"))
    several = tuple(f"s{scene}_{name}" for scene in (1, 2) for name in names)
    assert ChipCounts(several, np.tile(counts, (1, 2, 1)), block=64).num_units == 32
    of_dates = tuple(f"s1_{name}" for name in dated)
    assert ChipCounts(of_dates, np.tile(counts, (1, 2, 1)), block=64).num_units == 16
    outside = tuple(name.replace("row_00000", "row_-0003") for name in names)
    assert ChipCounts(outside, counts, block=64).block_side == 64


def test_blocks_of_an_older_table_are_four_windows_wide(tmp_path):
    names, counts = windows(8, 8, side=20)
    names = (*names[:-1], "row_00133_column_00133")  # the last is shifted inwards
    write_chip_table(tmp_path / "chips.csv", ChipCounts(names, counts), SPEC.target.names)
    assert read_chip_table(tmp_path / "chips.csv").block_side == 80
    assert read_chip_table(tmp_path / "chips.csv", block=40).block_side == 40


def test_differences_of_scenes_are_resampled_in_blocks():
    names, counts = windows(16, 16)
    rng = np.random.default_rng(3)
    gain = np.kron(rng.integers(-5, 9, (4, 4)), np.ones((4, 4), int)).ravel()[:, None]
    better = counts + np.stack([np.concatenate([gain, gain], 1), 0 * counts[1], 0 * counts[2]])
    chips = tuple(f"chip {number}" for number in range(len(names)))
    wide, narrow = (
        np.diff(ChipCounts(one, counts, 128).difference_intervals(ChipCounts(one, better, 128))["mIoU"])[0]
        for one in (names, chips)
    )
    assert wide > 2.5 * narrow


VALUES = ValueTarget(("biomass", "height"), ("t/ha", "m"), mean=(100.0, 10.0), std=(50.0, 5.0))


def chips_of_values(target, count=12, seed=0):
    """Sums of errors of chips with random labels; errors shrink with the number of the chip."""
    rng = torch.Generator().manual_seed(seed)
    scores = ValueChipScores(target, None)
    mean, std = (torch.tensor(one)[:, None, None] for one in (target.mean, target.std))
    for number in range(count):
        noise = torch.randn(2, 1, len(target.names), 16, 16, generator=rng)
        label = mean + std * noise[0]
        prediction = label + std * noise[1] * (count - number) / count
        label[:, :, 0] = float("nan")
        scores.update([f"chip {number:02d}"], {"mask": label}, prediction)
    return scores.gathered()


def test_a_written_table_of_values_gives_the_scores_of_the_set(tmp_path):
    chips = chips_of_values(VALUES)
    write_value_table(tmp_path / "chips.csv", chips)
    again = read_value_table(tmp_path / "chips.csv", VALUES)
    assert again.names == chips.names
    np.testing.assert_allclose(again.sums, chips.sums, rtol=1e-6, atol=1e-6)
    bounds = again.intervals()
    for name, values in again.scores().items():
        low, high = bounds[name]
        assert (low < values[0]).all()
        assert (values[0] < high).all()
    rows = [line.split(",") for line in (tmp_path / "chips.csv").read_text().splitlines()]
    keep = [k for k, name in enumerate(rows[0]) if not name.startswith("label ")]  # as in earlier versions
    (tmp_path / "old.csv").write_text("\n".join(",".join(row[k] for k in keep) for row in rows))
    old = read_value_table(tmp_path / "old.csv", VALUES).intervals()
    np.testing.assert_allclose(old["RMSE"], bounds["RMSE"], rtol=1e-6)
    assert np.isnan(old["R2"]).all()
    (tmp_path / "chips.csv").write_text("chip,RMSE biomass\na,1\n")
    with pytest.raises(DataError, match=r"chips\.csv: not a readable table of chips"):
        read_value_table(tmp_path / "chips.csv", VALUES)


def test_chips_of_several_values_are_ranked_in_standard_deviations():
    chips = chips_of_values(VALUES)
    assert extremes(chips, 1) == {"worst_1": "chip 00", "best_1": "chip 11"}
    words = chips.caption(0).replace(",", "").split()
    assert words[::4] == ["biomass", "height"]
    assert words[3::4] == ["t/ha", "m"]
    partly = chips.sums.copy()
    partly[3, :, 1] = 0  # no label of the second value
    ranked = ValueChips(chips.names, partly, VALUES)
    assert np.isfinite(ranked.qualities).all()
    assert "height" not in ranked.caption(3)
