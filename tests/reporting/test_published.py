"""The distance to a published result is given only for the published chips."""

import pytest
import torch
from lightning.pytorch import Trainer

from prithvi_tg import Sen1Floods11DataModule
from prithvi_tg.callbacks import ScoreReport
from prithvi_tg.cli.messages import shown_messages
from prithvi_tg.datasets.chips.base import published_splits, split_list
from prithvi_tg.reporting import published
from prithvi_tg.reporting.published import PUBLISHED, distance_table, why_not_comparable
from prithvi_tg.tasks.metrics import mmseg_scores

CLASSES = {
    "sen1floods11_test": ["No water", "Water"],
    "sen1floods11_bolivia": ["No water", "Water"],
    "burn_scars": ["Unburnt land", "Burn scar"],
    "multi_temporal_crop": ["Forest", "Corn"],
}
COUNTS = {"sen1floods11_test": 90, "sen1floods11_bolivia": 15, "burn_scars": 264, "multi_temporal_crop": 771}


def published_chips(name):
    if name == "burn_scars":
        return [f"subsetted_512x512_HLS.S30.T10SEH.{2018000 + number}.v1.4" for number in range(264)]
    data_set, _, split = name.partition("_") if name.startswith("sen1") else (name, "", "test")
    return split_list(published_splits(data_set), split)


@pytest.mark.parametrize("name", PUBLISHED)
def test_only_scores_of_the_published_chips_can_be_compared(name):
    chips, classes = published_chips(name), CLASSES[name]
    assert len(chips) == COUNTS[name]
    assert why_not_comparable(name, chips[::-1], classes) is None
    for scored in (
        chips[:2],
        chips[:-1],
        [],
        [*chips, "another"],
        [*chips, chips[0]],
        [*chips[1:], "another"],
    ):
        reason = why_not_comparable(name, scored, classes)
        assert reason is not None
        assert reason.startswith(f"no distance to the published result {name}: ")
        assert "\n" not in reason
    assert f"{COUNTS[name]} chips are in the published list, 2 were scored" in why_not_comparable(
        name, chips[:2], classes
    )


def test_other_classes_cannot_be_compared():
    reason = why_not_comparable("sen1floods11_test", published_chips("sen1floods11_test"), ["Land", "Flood"])
    assert reason == "no distance to the published result sen1floods11_test: the classes lack Water"


def test_the_distance_uses_the_scores_of_mmsegmentation():
    confusion = torch.tensor([[90, 10], [20, 80]])
    table = distance_table("sen1floods11_bolivia", mmseg_scores(confusion), ["No water", "Water"])
    assert list(table.columns[2].cells) == [f"{100 * 80 / 110:.2f}", f"{100 * (80 / 110 + 90 / 120) / 2:.2f}"]


def test_a_test_prints_the_distance_only_if_its_chips_are_the_published_ones(
    tiny_task, flood_root, tmp_path, capsys, monkeypatch
):
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", crop_size=32, batch_size=2)
    trainer = Trainer(
        accelerator="cpu", callbacks=[ScoreReport("sen1floods11_test")], logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    names = split_list(flood_root / "splits.csv", "test")
    with shown_messages():
        trainer.test(tiny_task, data, verbose=False)
    out = capsys.readouterr().out
    assert "distance to the published result sen1floods11_test, per cent" not in out
    assert (
        "no distance to the published result sen1floods11_test: 90 chips are in the published list, "
        f"{len(names)} were scored" in out
    )
    monkeypatch.setattr(published, "split_list", lambda *_: names)
    with shown_messages():
        trainer.test(tiny_task, data, verbose=False)
    assert "distance to the published result sen1floods11_test, per cent" in " ".join(
        capsys.readouterr().out.split()
    )
    # Two processes score one half each; the names of both are compared.
    monkeypatch.setattr("prithvi_tg.callbacks.records.gather", lambda found: [found, ["of another process"]])
    with shown_messages():
        trainer.test(tiny_task, data, verbose=False)
    assert (
        f"{len(names)} chips are in the published list, {len(names) + 1} were scored"
        in capsys.readouterr().out
    )
