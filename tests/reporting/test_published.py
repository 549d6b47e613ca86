"""The difference from a published result is given only for the published chips and protocol."""

import pytest
import torch
from lightning.pytorch import Trainer

from prithvi_tg import Sen1Floods11DataModule
from prithvi_tg.callbacks import ScoreReport
from prithvi_tg.cli.messages import shown_messages
from prithvi_tg.datasets.chips.base import published_splits, split_list
from prithvi_tg.errors import ConfigError, counted
from prithvi_tg.reporting import published
from prithvi_tg.reporting.published import (
    PUBLISHED,
    CountedChips,
    check_name,
    compared_settings,
    comparison_table,
    why_not_comparable,
)
from prithvi_tg.tasks.metrics import mmseg_scores

CLASSES = {
    "sen1floods11_test": ["No water", "Water"],
    "sen1floods11_bolivia": ["No water", "Water"],
    "burn_scars": ["Unburnt land", "Burn scar"],
    "multi_temporal_crop": ["Forest", "Corn"],
}
COUNTS = {
    "floods_test": 90, "floods_bolivia": 15, "burn_scars_validation": 264, "crops_validation": 771,
    "burn_scars_non_overlapping": 120,
}  # fmt: skip
#: A result with each known list of chips.
NAMES = {result.test_set: name for name, result in reversed(PUBLISHED.items()) if result.test_set in COUNTS}


def published_chips(name):
    chips = PUBLISHED[name].chips
    if isinstance(chips, CountedChips):
        return [f"subsetted_512x512_HLS.S30.T10SEH.{2018000 + number}.v1.4" for number in range(264)]
    listed = split_list(published_splits(chips.data_set), chips.split)
    if chips.data_set == "hls_burn_scars_non_overlapping":
        return [f"subsetted_512x512_HLS.S30.{chip}.4" for chip in listed]
    return listed


def test_every_list_of_chips_has_a_result():
    assert NAMES.keys() == COUNTS.keys()


@pytest.mark.parametrize("name", NAMES.values())
def test_only_scores_of_the_published_chips_can_be_compared(name):
    chips, count = published_chips(name), COUNTS[PUBLISHED[name].test_set]
    classes = CLASSES.get(name, ["Unburnt land", "Burn scar"])
    assert len(chips) == count
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
        assert reason.startswith(f"no comparison with the published result {name}: ")
        assert "\n" not in reason
    assert f"the published list has {count} chips, but this run scored 2" in why_not_comparable(
        name, chips[:2], classes
    )


def test_other_classes_cannot_be_compared():
    reason = why_not_comparable("sen1floods11_test", published_chips("sen1floods11_test"), ["Land", "Flood"])
    assert reason == "no comparison with the published result sen1floods11_test: no class is named Water"


def test_the_comparison_uses_the_scores_of_mmsegmentation():
    confusion = torch.tensor([[90, 10], [20, 80]])
    table = comparison_table("sen1floods11_bolivia", mmseg_scores(confusion), ["No water", "Water"])
    assert list(table.columns[2].cells) == [f"{100 * 80 / 110:.2f}", f"{100 * (80 / 110 + 90 / 120) / 2:.2f}"]


LORA = "peft_geofm/burn_scars/v2_300m/lora"


def test_figures_have_their_source_protocol_and_deviation():
    result = PUBLISHED[LORA]
    assert (result.scores, result.deviations) == ({"mIoU": 0.9333}, {"mIoU": 0.0064})
    assert (result.runs, result.epochs, result.lr) == (5, 26.8, 9.451e-4)
    assert "arXiv:2504.17397" in result.protocol.reference
    assert "IBM/peft-geofm" in result.protocol.files
    assert "ReduceLROnPlateau" in result.protocol.description
    assert result.protocol.settings["lora_targets"] == ["query", "value", "mlp"]
    assert PUBLISHED["torchgeo_bench/throughput/v2_600m"].rates == {"chips_per_second": 215}
    assert PUBLISHED["peft_geofm/floods_bolivia/v1_100m/lora"].scores == {"mIoU": 0.6125}
    assert all(result.protocol.reference and result.protocol.description for result in PUBLISHED.values())
    assert all(0 < score < 1 for result in PUBLISHED.values() for score in result.scores.values())


def test_results_whose_chips_are_not_published_are_never_compared():
    name = "geo_bench_2/burn_scars/v2_600m_tl"
    reason = why_not_comparable(name, published_chips(LORA), ["Unburnt land", "Burn scar"])
    assert reason == f"no comparison with the published result {name}: its list of chips is not published"


def test_a_run_with_another_protocol_cannot_be_compared():
    chips, classes = published_chips(LORA), ["Unburnt land", "Burn scar"]
    same = {**PUBLISHED[LORA].protocol.settings, "lora_targets": ("mlp", "value", "query"), "window": 512}
    assert why_not_comparable(LORA, chips, classes, same) is None
    for key, value, told in (
        ("decoder", "unet", "its protocol has decoder patch_linear, but the run has unet"),
        ("lora_rank", 0, "its protocol has lora_rank 16, but the run has 0"),
        ("encoder", "prithvi_eo_v1_100m", "encoder prithvi_eo_v2_300m, but the run has prithvi_eo_v1_100m"),
        ("lr", 1e-4, "lr 0.0009451, but the run has 0.0001"),
        ("class_weights", [0.3, 0.7], r"class_weights none, but the run has [0.3, 0.7]"),
    ):
        assert told in why_not_comparable(LORA, chips, classes, same | {key: value})


def test_weights_of_another_kind_cannot_be_compared():
    chips, classes = published_chips(LORA), ["Unburnt land", "Burn scar"]
    for name, weights, told in (
        (LORA, None, "its protocol has pretrained True, but the run has False"),
        (LORA, "weights.pt", None),
        (
            "peft_geofm/burn_scars/resnet50/unet",
            "weights.pt",
            "its protocol has pretrained False, but the run has True",
        ),
        ("peft_geofm/burn_scars/resnet50/unet", None, None),
    ):
        settings = {
            key: value for key, value in PUBLISHED[name].protocol.settings.items() if key != "pretrained"
        }
        assert (
            why_not_comparable(name, chips, classes, settings) is None
        )  # a checkpoint does not record weights
        reason = why_not_comparable(name, chips, classes, settings | {"weights": weights})
        assert reason is None if told is None else told in reason


def test_another_training_cannot_be_compared():
    chips, classes = published_chips(LORA), ["Unburnt land", "Burn scar"]
    task = {
        f"model.init_args.{key}": value
        for key, value in PUBLISHED[LORA].protocol.settings.items()
        if key != "pretrained"
    }
    training = {"data.init_args.batch_size": 8, "data.init_args.crop_size": None, "trainer.max_epochs": 100}
    same = task | training | {"model.init_args.weights": "pretrained"}
    assert why_not_comparable(LORA, chips, classes, compared_settings(same)) is None
    for key, value, told in (
        ("data.init_args.batch_size", 16, "its protocol has data.batch_size 8, but the run has 16"),
        ("data.init_args.crop_size", 224, "its protocol has data.crop_size none, but the run has 224"),
        ("trainer.max_epochs", 50, "its protocol has trainer.max_epochs 100, but the run has 50"),
        ("model.init_args.lr", 1e-4, "lr 0.0009451, but the run has 0.0001"),
        ("model.init_args.weights", None, "pretrained True, but the run has False"),
    ):
        assert told in why_not_comparable(LORA, chips, classes, compared_settings(same | {key: value}))


def test_the_difference_is_given_in_published_standard_deviations():
    confusion = torch.tensor([[95, 5], [5, 95]])
    table = comparison_table(LORA, mmseg_scores(confusion), ["Unburnt land", "Burn scar"])
    score = 95 / 105
    assert [column.header for column in table.columns][-2:] == ["published std", "in std"]
    assert list(table.columns[4].cells) == ["0.64"]
    assert list(table.columns[5].cells) == [f"{(score - 0.9333) / 0.0064:+.1f}"]
    assert "5 runs" in table.caption


def test_an_unknown_name_is_answered_with_similar_names():
    with pytest.raises(ConfigError, match=f"choose from {LORA}"):
        check_name("peft_geofm/burn_scars/v2_300m/lorra")


def test_a_test_prints_the_comparison_only_if_its_chips_are_the_published_ones(
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
    assert "comparison with the published result sen1floods11_test, per cent" not in out
    assert (
        "no comparison with the published result sen1floods11_test: the published list has 90 chips, "
        f"but this run scored {len(names)}" in out
    )
    monkeypatch.setattr(published, "split_list", lambda *_: names)
    with shown_messages():
        trainer.test(tiny_task, data, verbose=False)
    assert (
        "no comparison with the published result sen1floods11_test: its protocol has encoder prithvi_eo_v1_100m, but "
        "the run has nano" in capsys.readouterr().out
    )
    tiny_task.hparams["encoder"] = "prithvi_eo_v1_100m"
    with shown_messages():
        trainer.test(tiny_task, data, verbose=False)
    assert "comparison with the published result sen1floods11_test, per cent" in " ".join(
        capsys.readouterr().out.split()
    )
    # The configuration beside a checkpoint has the settings of its training.
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("model: {class_path: T, init_args: {decoder: fpn}}")
    trainer.save_checkpoint(checkpoint := tmp_path / "run" / "checkpoints" / "best.ckpt")
    with shown_messages():
        trainer.test(tiny_task, data, verbose=False, ckpt_path=checkpoint, weights_only=True)
    assert "its protocol has decoder conv_transpose, but the run has fpn" in " ".join(
        capsys.readouterr().out.split()
    )
    # Two processes score one half each; the names of both are compared.
    monkeypatch.setattr("prithvi_tg.callbacks.records.gather", lambda found: [found, ["of another process"]])
    with shown_messages():
        trainer.test(tiny_task, data, verbose=False)
    assert (
        f"the published list has {counted(len(names), 'chip')}, but this run scored {len(names) + 1}"
        in capsys.readouterr().out
    )
