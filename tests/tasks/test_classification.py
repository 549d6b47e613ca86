"""Classification of whole chips: models, losses, scores, runs from YAML, tables and coarse maps."""

import json
import re
import shutil

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
import yaml
from conftest import TINY

from prithvi_tg import load_task
from prithvi_tg.datasets.synthetic import write_classified_chips
from prithvi_tg.errors import ConfigError
from prithvi_tg.mapping.chip_classes import classify_scenes
from prithvi_tg.models import ChipClassifier, create_encoder
from prithvi_tg.tasks import PrithviClassificationTask
from prithvi_tg.tasks.chip_losses import create_chip_loss
from prithvi_tg.tasks.chip_metrics import chip_metrics, chip_scores

CLASSES = ["Water", "Forest", "Bare"]
CONFIG = """\
seed_everything: 0
model:
  class_path: PrithviClassificationTask
  init_args:
    encoder: nano
    encoder_args: {{width: 32, depth: 2, num_heads: 2}}
    lr: 5.0e-3
    warmup_steps: 2
data:
  class_path: ClassifiedChipsDataModule
  init_args:
    images: {root}/chips/*.tif
    labels: {root}/labels.csv
    classes: [Water, Forest, Bare]
    scale: 1.0e-4
    mean: [0.108, 0.111, 0.117, 0.175, 0.177, 0.133]
    std: [0.0358, 0.0399, 0.0663, 0.118, 0.150, 0.124]
    batch_size: 4
trainer:
  default_root_dir: {runs}
  max_epochs: 6
  accelerator: cpu
  enable_progress_bar: false
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Chips of 32 pixels and a scene of 96 x 128; read only."""
    return write_classified_chips(tmp_path_factory.mktemp("classified") / "data", chips=36, size=32)


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """Folder of a run of ``fit``; read only."""
    from prithvi_tg.__main__ import main

    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(CONFIG.format(root=root, runs=folder))
    assert main(["fit", "--config", str(folder / "config.yaml")]) == 0
    return folder / "version_0"


@pytest.fixture(scope="module")
def best(run):
    return run / "checkpoints" / "best.ckpt"


def images(batch=2, frames=1, size=32):
    return torch.randn(batch, frames, 6, size, size, generator=torch.Generator().manual_seed(0))


# The model.


@pytest.mark.parametrize("pooling", ["cls", "mean", "attention"])
@pytest.mark.parametrize("frames", [1, 3])
def test_poolings_give_one_row_of_logits_per_chip(pooling, frames):
    torch.manual_seed(0)
    model = ChipClassifier(create_encoder("nano", **TINY), 32, 5, pooling).eval()
    image = images(2, frames, 40)
    logits = model(image)
    assert logits.shape == (2, 5)
    torch.testing.assert_close(model(image[:1]), logits[:1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits[0], logits[1])


def test_mean_and_class_token_are_those_of_the_encoder():
    encoder = create_encoder("nano", **TINY).eval()
    image = images(frames=2)
    tokens = encoder(image)
    for pooling, expected in (("cls", tokens[:, 0]), ("mean", tokens[:, 1:].mean(dim=1))):
        model = ChipClassifier(encoder, 32, 3, pooling).eval()
        torch.testing.assert_close(model.forward_features(image), expected)


def test_maps_of_a_pyramid_are_pooled_over_places_and_dates():
    encoder = create_encoder("timm/test_resnet", num_bands=6).eval()
    image = images(2, frames=2, size=64)
    maps = encoder(image)
    model = ChipClassifier(encoder, encoder.embed_dim, 3, "mean").eval()
    expected = maps.unflatten(1, (encoder.embed_dim, 2)).mean(dim=(2, 3, 4))
    torch.testing.assert_close(model.forward_features(image), expected)


def test_an_error_names_an_unknown_pooling():
    with pytest.raises(ConfigError, match="pooling: 'max' is unknown; choose from cls, mean, attention"):
        ChipClassifier(create_encoder("nano", **TINY), 32, 3, "max")


def test_a_frozen_encoder_gets_no_gradient_and_stays_in_evaluation_mode():
    task = PrithviClassificationTask("nano", TINY, num_classes=3, freeze_encoder=True)
    task.train()
    assert not task.model.encoder.training
    task.criterion(task(images()), torch.tensor([0, 1])).backward()
    assert {name.split(".")[1] for name, one in task.named_parameters() if one.grad is not None} == {"head"}


def test_layer_decay_lowers_rates_of_early_blocks():
    task = PrithviClassificationTask("nano", TINY, num_classes=3, layer_decay=0.5, lr=1.0)
    rates = {group["lr"] for group in task.parameter_groups()}
    assert rates == {1.0, 0.5, 0.25, 0.125}


def test_only_adapters_and_the_head_are_trained():
    task = PrithviClassificationTask("nano", TINY, num_classes=3, lora_rank=2)
    trained = [name for name, parameter in task.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name or name.startswith("model.head.") for name in trained)
    assert any("lora_" in name for name in trained)


# Losses and scores.


def test_cross_entropy_ignores_chips_without_a_label():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    label = torch.tensor([0, 2, 255, 1])
    expected = torch.nn.functional.cross_entropy(logits[[0, 1, 3]], label[[0, 1, 3]])
    torch.testing.assert_close(create_chip_loss(None, False)(logits, label), expected)


def test_binary_cross_entropy_weighs_classes():
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    label = torch.tensor([[1, 0], [1, 1], [255, 255]])
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:2], label[:2].float(), reduction="none"
    )
    loss = create_chip_loss(None, True, [1.0, 3.0])(logits, label)
    torch.testing.assert_close(loss, (each * torch.tensor([1.0, 3.0])).mean())


@pytest.mark.parametrize(
    ("name", "multilabel", "message"),
    [
        ("ce", True, "loss: ce is not for several classes per chip; use bce"),
        ("bce", False, "loss: bce is not for one class per chip; use ce"),
        ("mse", False, "loss: 'mse' is unknown; choose from ce, bce"),
    ],
)
def test_a_loss_of_other_labels_is_refused(name, multilabel, message):
    with pytest.raises(ConfigError, match=message):
        create_chip_loss(name, multilabel)


def average_precision(scores, hits):
    """Area under precision over recall, of one class."""
    order = np.argsort(-scores, kind="stable")
    hits = hits[order].astype(float)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


def test_scores_of_several_classes_are_those_of_their_definitions():
    generator = torch.Generator().manual_seed(3)
    probabilities = torch.rand(40, 3, generator=generator)
    label = (torch.rand(40, 3, generator=generator) < 0.4).long()
    metrics = chip_metrics(3, multilabel=True)
    for start in range(0, 40, 8):
        for metric in metrics.values():
            metric.update(probabilities[start : start + 8], label[start : start + 8])
    scores = chip_scores(*(metrics[key].compute() for key in ("confusion_matrix", "average_precision")))
    p, y = probabilities.numpy(), label.numpy()
    said = p > 0.5
    recall = (said & (y == 1)).sum(0) / (y == 1).sum(0)
    specificity = (~said & (y == 0)).sum(0) / (y == 0).sum(0)
    precision = (said & (y == 1)).sum(0) / said.sum(0)
    assert float(scores["OA"]) == pytest.approx((said == y).mean())
    assert float(scores["BA"]) == pytest.approx(((recall + specificity) / 2).mean())
    np.testing.assert_allclose(scores["F1"], 2 * precision * recall / (precision + recall))
    expected = [average_precision(p[:, k], y[:, k]) for k in range(3)]
    np.testing.assert_allclose(scores["AP"], expected, rtol=1e-5)
    assert float(scores["mAP"]) == pytest.approx(np.mean(expected), rel=1e-5)


def test_means_ignore_a_class_that_no_chip_has(recwarn):
    metrics = chip_metrics(3, multilabel=False)
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1]])
    for metric in metrics.values():
        metric.update(probabilities, torch.tensor([0, 1, 255]))
    scores = chip_scores(*(metrics[key].compute() for key in ("confusion_matrix", "average_precision")))
    assert [float(scores[key]) for key in ("OA", "BA", "mF1", "mAP")] == [1, 1, 1, 1]
    assert bool(scores["AP"][2].isnan())
    assert len(recwarn) == 0


# Runs.


def test_separable_classes_are_learnt_and_scores_match_the_predicted_table(
    root, run, best, tmp_path, command
):
    config = run.parent / "config.yaml"
    code, out, err = command(
        "test", "--config", config, "--ckpt_path", best, "--trainer.default_root_dir", tmp_path
    )
    assert code == 0, err
    assert "overall accuracy" in " ".join(out.split())
    found = json.loads((tmp_path / "version_0" / "metrics.json").read_text())
    assert found["split"] == "test"
    assert found["overall"]["OA"] > 0.9
    code, out, err = command("predict", root / "chips", "--ckpt_path", best, "--output", tmp_path / "out")
    assert code == 0, err
    table = pd.read_csv(tmp_path / "out" / "chip_classes.csv")
    assert list(table.columns) == ["chip", "class", *CLASSES, "path"]
    np.testing.assert_allclose(table[CLASSES].sum(axis=1), 1, rtol=1e-5)
    labels = pd.read_csv(root / "labels.csv").rename(columns={"class": "label"})
    joined = labels[labels.split == "test"].merge(table, on="chip")
    assert len(joined) == found["per_class"]["Water"]["labelled_chips"] * 3
    right = joined["label"] == joined["class"]
    recalls = [right[joined.label == name].mean() for name in CLASSES]
    f1 = [
        2 * (right & (joined.label == name)).sum()
        / ((joined.label == name).sum() + (joined["class"] == name).sum())
        for name in CLASSES
    ]  # fmt: skip
    ap = [average_precision(joined[name].to_numpy(), (joined.label == name).to_numpy()) for name in CLASSES]
    expected = {"OA": right.mean(), "BA": np.mean(recalls), "mF1": np.mean(f1), "mAP": np.mean(ap)}
    assert found["overall"] == pytest.approx(expected, rel=1e-5)
    chips = pd.read_csv(tmp_path / "version_0" / "chips.csv").merge(joined, on="chip")
    assert (chips["prediction"] == chips["class"]).all()
    assert len(chips) == len(joined)


def test_georeferenced_chips_have_outlines(root, best, tmp_path):
    written = classify_scenes(best, root / "chips", tmp_path)
    assert [path.name for path in written] == ["chip_classes.csv", "chip_classes.parquet"]
    outlines = geopandas.read_parquet(written[1])
    assert outlines.crs == "EPSG:4326"
    with rasterio.open(outlines["path"][0]) as source:
        bounds = source.bounds
    projected = outlines.to_crs("EPSG:32615").geometry[0].bounds
    np.testing.assert_allclose(projected, bounds, atol=1)


def test_a_scene_becomes_a_map_with_one_pixel_per_window(root, best, tmp_path, command):
    words = ("predict", root / "scene.tif", "--ckpt_path", best, "--window", 32, "--output", tmp_path)
    code, _, err = command(*words)
    assert code == 0, err
    with rasterio.open(root / "scene_label.tif") as source:
        expected, transform = source.read(1)[16::32, 16::32], source.transform
    with rasterio.open(tmp_path / "scene_pred.tif") as source:
        classes = source.read(1)
        assert source.transform == transform * rasterio.Affine.scale(32)
        assert source.nodata == 255
    assert classes.shape == (3, 4)
    assert (classes == expected).mean() > 0.9
    code, _, err = command(*words)
    assert code == 2
    assert "scene_pred.tif: exists; add --overwrite to replace it, --skip_existing to keep it" in err
    assert command(*words, "--overwrite")[0] == 0


def test_windows_beyond_the_edge_are_padded_and_windows_without_data_are_nodata(root, best, tmp_path):
    with rasterio.open(root / "scene.tif") as source:
        values, profile = source.read()[:, :40, :70], source.profile
    values[:, 32:, :32] = -1
    with rasterio.open(
        tmp_path / "s.tif", "w", **(profile | {"height": 40, "width": 70, "nodata": -1})
    ) as out:
        out.write(values)
    classify_scenes(best, tmp_path / "s.tif", tmp_path / "maps", window=32)
    with rasterio.open(tmp_path / "maps" / "s_pred.tif") as source:
        classes = source.read(1)
    assert classes.shape == (2, 3)
    assert classes[1, 0] == 255
    assert (classes == 255).sum() == 1


def test_a_checkpoint_describes_itself(best):
    task = load_task(best)
    assert isinstance(task, PrithviClassificationTask)
    assert task.class_names == CLASSES
    assert task.data_spec.target.kind == "chip_classes"
    assert torch.equal(task(images()), load_task(best)(images()))


def test_several_classes_per_chip_are_trained_and_predicted(root, tmp_path, command):
    labels = pd.read_csv(root / "labels.csv")
    labels["class"] = labels["class"].replace({"Water": "Wet", "Forest": "Green;Wet", "Bare": ""})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    settings = yaml.safe_load(CONFIG.format(root=root, runs=tmp_path / "runs"))
    changes = {"labels": str(tmp_path / "labels.csv"), "classes": ["Wet", "Green"], "multilabel": True}
    settings["data"]["init_args"] |= changes
    settings["trainer"]["max_epochs"] = 8
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    code, _, err = command("fit", "--config", tmp_path / "config.yaml")
    assert code == 0, err
    found = json.loads((tmp_path / "runs" / "version_0" / "metrics.json").read_text())
    assert found["overall"]["OA"] > 0.9
    assert np.shape(found["confusion_matrix"]["counts"]) == (2, 2, 2)
    best = tmp_path / "runs" / "version_0" / "checkpoints" / "best.ckpt"
    assert load_task(best).multilabel
    written = classify_scenes(best, root / "chips" / "chip_0001.tif", tmp_path / "out")
    assert (
        pd.read_csv(written[0])["class"][0] == "Green;Wet"
        or pd.read_csv(written[0])["class"][0] == "Wet;Green"
    )


def test_a_large_scene_is_not_accepted_as_a_chip(root, best, tmp_path, monkeypatch):
    monkeypatch.setattr("prithvi_tg.mapping.chip_classes.LARGEST_CHIP", 64)
    with pytest.raises(ConfigError, match="window: not given, but scene has 128 x 96 pixels"):
        classify_scenes(best, root / "scene.tif", tmp_path)


def test_the_report_shows_a_run_of_chips(run, tmp_path):
    from prithvi_tg.__main__ import main

    page = tmp_path / "report.html"
    assert main(["report", str(run), "--output", str(page)]) == 0
    text = page.read_text()
    assert all(f"<th>{name}</th>" in text for name in CLASSES)
    assert 'alt="confusion"' in text
    told = re.sub(r"(<[^>]+>|\s)+", " ", text)
    overall = json.loads((run / "metrics.json").read_text())["overall"]
    assert f" OA {100 * overall['OA']:.2f} " in told
    assert re.search(r"validation, \d+ chips", told)


def test_chip_classes_have_no_baseline_of_pixels(run, tmp_path, capsys):
    from prithvi_tg.__main__ import main

    assert main(["report", str(run), "--output", str(tmp_path / "report.html"), "--baseline"]) == 2
    assert (
        "has classes of chips; a per-pixel baseline needs classes or values of pixels"
        in capsys.readouterr().err
    )


def test_wrong_and_right_chips_are_drawn_wrong_ones_first(run, tmp_path):
    from prithvi_tg.reporting.chip_classes import ClassifiedChipScores
    from prithvi_tg.reporting.runs import read_run

    spec = read_run(run).spec
    scores = ClassifiedChipScores(CLASSES, spec)
    batch = {"image": torch.zeros(6, 1, 6, 8, 8), "label": torch.tensor([0, 1, 2, 0, 1, 2])}
    scores.update(list("abcdef"), batch, torch.tensor([0, 2, 2, 0, 1, 2]))
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "chips")
    (copy / "chips").mkdir()
    scores.write_pictures(copy / "chips", scores.gathered())
    assert list(read_run(copy).pictures) == [
        "wrong: b",
        "correct: a",
        "correct: c",
        "correct: d",
        "correct: e",
    ]


def test_pictures_of_validation_show_label_and_prediction(monkeypatch):
    from types import SimpleNamespace

    from lightning.pytorch.trainer.states import TrainerFn

    from prithvi_tg.callbacks import ChipReport, chip_reports
    from prithvi_tg.spec import DataSpec, InputSpec
    from prithvi_tg.targets import ChipClassTarget

    spec = DataSpec(
        InputSpec(("RED", "GREEN", "BLUE"), (0.1,) * 3, (0.1,) * 3), ChipClassTarget(tuple(CLASSES))
    )
    task = PrithviClassificationTask("nano", TINY, bands=spec.input.bands, data_spec=spec.to_dict())
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.FITTING), global_rank=0, global_step=1, is_global_zero=True,
        sanity_checking=False, testing=False, loggers=[None],
    )  # fmt: skip
    titles, legends = [], []

    def look_at(figure):
        titles.append(figure.get_suptitle())
        legends.extend(figure.legends)

    monkeypatch.setattr(chip_reports, "takes_pictures", lambda logger: True)
    monkeypatch.setattr(chip_reports, "rendered", look_at)
    monkeypatch.setattr(chip_reports, "log_picture", lambda *_: None)
    report = ChipReport()
    report.on_validation_epoch_start(trainer, task)
    batch = {"image": torch.zeros(2, 1, 3, 8, 8), "label": torch.tensor([0, 2]), "name": ["a", "b"]}
    report.on_validation_batch_end(trainer, task, {"prediction": torch.tensor([1, 2])}, batch, 0)
    report.on_validation_end(trainer, task)
    assert titles == ["label: Water\nprediction: Forest", "label: Bare\nprediction: Bare"]
    assert legends == []  # no pixel has the colour of a class
