"""Validation and test in full batches: several chips at once, and their windows together."""

import pytest
import torch
from conftest import TINY
from lightning.pytorch import Trainer

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule


def scores(flood_root, chips, windows):
    """Counts and loss of the test, and the numbers of windows of each call of the model."""
    torch.manual_seed(0)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, window=32, warmup_steps=1,
        window_batch_size=windows,
    )  # fmt: skip
    calls = []
    task.model.register_forward_pre_hook(lambda _, arguments: calls.append(len(arguments[0])))
    # Every chip is a test chip, so that batches are full.
    splits = flood_root.parent / "all_test.csv"
    names = [row.split(",")[0] for row in (flood_root / "splits.csv").read_text().split()[1:]]
    splits.write_text("\n".join(["chip,split", *(f"{name},test" for name in dict.fromkeys(names))]))
    data = Sen1Floods11DataModule(flood_root, splits=splits, eval_batch_size=chips, cache="none")
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (logged,) = trainer.test(task, data, verbose=False)
    return task.confusion, logged, calls


@pytest.mark.parametrize(("chips", "windows"), [(4, 16), (3, 4), (1, 64)])
def test_scores_are_those_of_single_chips(flood_root, chips, windows):
    counts, logged, _ = scores(flood_root, 1, 1)
    assert counts.sum() > 0
    again, logged_again, calls = scores(flood_root, chips, windows)
    assert torch.equal(again, counts)
    assert logged_again["test_loss"] == pytest.approx(logged["test_loss"], rel=1e-5)
    # A chip of 64 pixels has nine windows of 32.
    assert max(calls) == min(windows, 9 * chips)
