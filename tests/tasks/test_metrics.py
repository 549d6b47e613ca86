import json

import numpy as np
import pytest
import torch

from prithvi_tg.tasks.metrics import (
    MMSEG_MEANS,
    PER_CLASS,
    ConfusionMatrix,
    mmseg_scores,
    score_log,
    segmentation_scores,
)

pytestmark = pytest.mark.version_independent


@pytest.mark.parametrize(
    ("case", "classes", "ignored"),
    [("floods", 2, 2), ("burn", 2, -1), ("crop", 13, 255), ("missing_class", 5, 255)],
)
def test_metrics_of_mmsegmentation_equal_the_golden_results(golden, case, classes, ignored):
    arrays = np.load(golden / "metrics" / "metrics.npz")
    expected = json.loads((golden / "metrics" / "metrics_lr.json").read_text())[case]
    label = torch.tensor(arrays[f"{case}.gt"].astype(np.int64))
    label[label == ignored] = 255
    prediction = torch.tensor(arrays[f"{case}.pred"].astype(np.int64))
    matrix = ConfusionMatrix(classes)
    for one_prediction, one_label in zip(prediction, label, strict=True):
        matrix.update(one_prediction, one_label)
    theirs, scores = mmseg_scores(matrix.compute()), segmentation_scores(matrix.compute())
    names = ("IoU", "Acc", "Dice", "Fscore", "Precision", "Recall")
    assert set(theirs) == {"aAcc", *names, *(f"m{name}" for name in names)}
    for name, values in theirs.items():
        np.testing.assert_allclose(values, np.array(expected[name], float), rtol=0, atol=1e-9, err_msg=name)
    same = ("aAcc", "mIoU", "mAcc", "IoU", "Acc")  # of one definition
    beside = {f"mmseg_{name}": name for name in MMSEG_MEANS}
    for ours, name in {**dict(zip(same, same, strict=True)), **beside}.items():
        np.testing.assert_allclose(scores[ours], np.array(expected[name], float), atol=1e-9, err_msg=ours)


def test_every_metric_has_one_name():
    scores = segmentation_scores(torch.tensor([[30, 5, 1], [7, 40, 2], [3, 4, 50]]))
    assert set(scores) == {
        "aAcc", *PER_CLASS, *(f"m{name}" for name in PER_CLASS), *(f"mmseg_{name}" for name in MMSEG_MEANS)
    }  # fmt: skip
    columns = [tuple(scores[name].tolist()) for name in PER_CLASS]
    assert len(set(columns)) == len(columns)


CASES = {
    "labelled, never predicted": ([[8, 0, 0], [2, 0, 0], [0, 0, 5]], (0, 0, 0, 0)),
    "labelled and predicted, never right": ([[8, 1, 0], [2, 0, 0], [0, 0, 5]], (0, 0, 0, 0)),
    "predicted, never labelled": ([[8, 1, 0], [0, 0, 0], [0, 1, 5]], (0, None, None, 0)),
    "neither": ([[8, 0, 1], [0, 0, 0], [1, 0, 5]], (None, None, None, None)),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_and_means_of_a_class_without_hits_are_as_documented(case):
    counts, expected = CASES[case]
    scores = segmentation_scores(torch.tensor(counts))
    for name, value in zip(PER_CLASS, expected, strict=True):
        values = scores[name].tolist()
        assert np.array_equal(values[1], np.nan if value is None else value, equal_nan=True), name
        known = [one for one in values if one == one]
        assert len(known) == (2 if value is None else 3), name
        assert scores[f"m{name}"] == pytest.approx(np.mean(known)), name


def test_a_class_that_is_never_predicted_does_not_lower_means_of_mmsegmentation():
    scores = segmentation_scores(torch.tensor([[8, 0], [2, 0]]))
    assert scores["mFscore"] == pytest.approx(8 / 9 / 1 / 2, abs=1e-3)
    assert scores["mPrecision"] == pytest.approx(0.4)
    assert scores["mmseg_mFscore"] == pytest.approx(8 / 9, abs=1e-3)
    assert scores["mmseg_mPrecision"] == pytest.approx(0.8)


def test_a_class_without_a_score_is_not_logged():
    confusion = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    log = score_log(segmentation_scores(confusion), ["a", "b", "c"], "val")
    assert log["val_IoU_a"] == 0.75
    assert "val_IoU_c" not in log
    assert log["val_mIoU"] == pytest.approx((0.75 + 0.8) / 2)
