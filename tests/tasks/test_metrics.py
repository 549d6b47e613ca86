import json

import numpy as np
import pytest
import torch

from prithvi_tg.tasks.metrics import PER_CLASS, ConfusionMatrix, score_log, segmentation_scores

pytestmark = pytest.mark.version_independent


@pytest.mark.parametrize(
    ("case", "classes", "ignored"),
    [("floods", 2, 2), ("burn", 2, -1), ("crop", 13, 255), ("missing_class", 5, 255)],
)
def test_metrics_equal_the_golden_ones(golden, case, classes, ignored):
    arrays = np.load(golden / "metrics" / "metrics.npz")
    expected = json.loads((golden / "metrics" / "metrics_lr.json").read_text())[case]
    label = torch.tensor(arrays[f"{case}.gt"].astype(np.int64))
    label[label == ignored] = 255
    prediction = torch.tensor(arrays[f"{case}.pred"].astype(np.int64))
    matrix = ConfusionMatrix(classes)
    for one_prediction, one_label in zip(prediction, label, strict=True):
        matrix.update(one_prediction, one_label)
    scores = segmentation_scores(matrix.compute())
    assert set(scores) == {"aAcc", *PER_CLASS, *(f"m{name}" for name in PER_CLASS)}
    for name, values in scores.items():
        np.testing.assert_allclose(values, np.array(expected[name], float), rtol=0, atol=1e-9, err_msg=name)


def test_a_class_without_a_score_is_not_logged():
    confusion = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    log = score_log(segmentation_scores(confusion), ["a", "b", "c"], "val")
    assert log["val_IoU_a"] == 0.75
    assert "val_IoU_c" not in log
    assert log["val_mIoU"] == pytest.approx((0.75 + 0.8) / 2)
