"""Temperature scaling, the expected calibration error, and the command calibrate."""

import json
import math
import re
import warnings

import numpy as np
import pytest
import rasterio
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torchmetrics.classification import MulticlassCalibrationError

from prithvi_tg import load_task
from prithvi_tg.checkpoints import read_checkpoint
from prithvi_tg.errors import CheckpointError, DataError
from prithvi_tg.tasks.calibration import (
    CALIBRATION,
    Calibration,
    PixelSample,
    fit_calibration,
    read_calibration,
)
from prithvi_tg.tasks.calibration_metrics import (
    BINS,
    CalibrationBins,
    expected_calibration_error,
    reliability,
)
from prithvi_tg.tasks.export import export_weights

pytestmark = pytest.mark.version_independent


def overconfident(count, classes=4, factor=3.0, seed=0):
    """Logits (N, K) and labels drawn from the probabilities of the logits divided by `factor`."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return factor * logits, labels


def error_of(logits, labels, temperature=1.0):
    bins = CalibrationBins(temperature)
    bins.update(logits, labels)
    return float(expected_calibration_error(bins.compute()))


# The error.


@pytest.mark.parametrize("classes", [2, 5])
def test_the_error_equals_that_of_torchmetrics(classes):
    logits, labels = overconfident(5000, classes, factor=1.0)
    labels[:900] = logits[:900].argmax(dim=1)
    logits, labels = logits.T.reshape(1, classes, 50, 100), labels.reshape(1, 50, 100)
    labels[:, :7, :9] = 255
    theirs = MulticlassCalibrationError(classes, n_bins=BINS, norm="l1", ignore_index=255)
    theirs.update(logits, labels)
    assert error_of(logits, labels) == pytest.approx(float(theirs.compute()), abs=1e-5)


def test_each_labelled_pixel_counts_once_whatever_the_batches():
    logits, labels = torch.randn(6, 3, 8, 9) * 30, torch.randint(0, 3, (6, 8, 9))
    labels[labels == 2] = 255
    whole, parts = CalibrationBins(), CalibrationBins()
    whole.update(logits, labels)
    for part in zip(logits.split(2), labels.split(2), strict=True):
        parts.update(*part)
    torch.testing.assert_close(whole.compute(), parts.compute())
    pixels, confidence, correct = whole.compute()
    labelled = labels != 255
    assert pixels.sum() == labelled.sum()
    assert correct.sum() == ((logits.argmax(1) == labels) & labelled).sum()
    assert float(confidence.sum()) == pytest.approx(
        float(logits.softmax(1).amax(1)[labelled].sum()), rel=1e-5
    )


def test_bins_without_pixels_have_no_means():
    logits = torch.tensor([[10.0, 0.0], [0.0, 20.0]])[..., None, None]
    bins = CalibrationBins()
    bins.update(logits, torch.tensor([0, 0])[:, None, None])
    found = reliability(bins.compute())
    assert found["pixels"] == [0] * (BINS - 1) + [2]
    assert found["confidence"][:-1] == [None] * (BINS - 1)
    assert found["accuracy"][-1] == 0.5
    unlabelled = CalibrationBins()
    unlabelled.update(logits, torch.full((2, 1, 1), 255))
    assert math.isnan(expected_calibration_error(unlabelled.compute()))


# The temperature.


def test_the_temperature_undoes_a_factor_and_lowers_the_error_of_other_pixels():
    found = fit_calibration(*overconfident(40_000, factor=3.0))
    assert found.temperature == pytest.approx(3.0, rel=0.03)
    assert found.nll_after < found.nll_before
    assert found.ece_after < found.ece_before / 5
    other = overconfident(40_000, factor=3.0, seed=1)
    assert error_of(*other, found.temperature) < error_of(*other) / 5


def test_the_temperature_has_the_lowest_likelihood():
    logits, labels = overconfident(2000, factor=0.4)
    found = fit_calibration(logits, labels)
    losses = [float(F.cross_entropy(logits / found.temperature / s, labels)) for s in (0.98, 1.0, 1.02)]
    assert losses[1] == min(losses)
    assert found.nll_after == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "labels", "reason"),
    [
        (torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]), "all 2 pixels .* predicted correctly"),
        (torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 0]), "no better than uniform ones"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "no pixel of the validation set is labelled"),
    ],
)
def test_a_set_without_a_best_temperature_is_refused(logits, labels, reason):
    with pytest.raises(DataError, match=reason):
        fit_calibration(logits, labels)


def test_the_sample_is_bounded_reproducible_and_independent_of_the_batch_size():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, 20, 20, generator=generator)
    labels = torch.randint(0, 3, (6, 20, 20), generator=generator)
    labels[:, 0] = 255
    samples = []
    for size in (1, 4):
        sample = PixelSample(500, seed=3)
        for part in zip(logits.split(size), labels.split(size), strict=True):
            sample.update(*part)
            assert len(sample.labels) <= 500
        samples.append(sample)
    for one in samples:
        assert (one.seen, tuple(one.logits.shape), len(one.labels)) == (6 * 19 * 20, (500, 3), 500)
    first, second = ({*map(tuple, one.logits.tolist())} for one in samples)
    assert first == second
    everything = PixelSample(10_000)
    everything.update(logits, labels)
    expected = logits.movedim(1, -1)[labels != 255]
    assert torch.equal(everything.logits, expected)
    assert torch.equal(everything.labels, labels[labels != 255])


# The command and the checkpoint.


@pytest.fixture(scope="module")
def overconfident_checkpoint(trained, tmp_path_factory):
    """The trained model with logits that are 30 times as large."""
    content = torch.load(trained, weights_only=True)
    for key in content["state_dict"]:
        if "decode_head.conv_seg" in key:
            content["state_dict"][key] *= 30
    path = tmp_path_factory.mktemp("overconfident") / "best.ckpt"
    torch.save(content, path)
    return path


@pytest.mark.pictures
def test_calibrate_lowers_the_error_of_the_test_set_and_changes_no_class(
    config, command, overconfident_checkpoint, flood_root, tmp_path
):
    source, output = overconfident_checkpoint, tmp_path / "new.ckpt"
    before = source.read_bytes()
    code, out, err = command("calibrate", "--config", config, "--ckpt_path", source, "--output", output)
    assert code == 0, err
    assert "labelled pixels of the validation set" in out
    assert re.search(r"^ECE 0\.\d+ before, 0\.\d+ after \(0 to 1\)$", out, re.MULTILINE)
    assert f"Written: {output}" in out
    assert source.read_bytes() == before
    found = read_calibration(read_checkpoint(output))
    assert found.temperature > 1
    assert found.nll_after < found.nll_before
    old, new = read_checkpoint(source), read_checkpoint(output)
    assert all(torch.equal(value, new.state_dict[key]) for key, value in old.state_dict.items())
    assert old.hyper_parameters == new.hyper_parameters

    code, out, err = command("test", "--config", config, "--ckpt_path", output)
    assert code == 0, err
    record = json.loads((tmp_path / "runs" / "version_0" / "metrics.json").read_text())
    assert record["overall"]["ECE_calibrated"] < record["overall"]["ECE"]
    assert set(record["reliability"]) == {"calibration", "calibrated"}
    labelled = sum(entry["labelled_pixels"] for entry in record["per_class"].values())
    for bins in record["reliability"].values():
        assert sum(bins["pixels"]) == labelled
    assert (tmp_path / "runs" / "version_0" / "reliability.png").stat().st_size > 5000

    scene = flood_root / "scene.tif"
    maps = {}
    for name, words in (("plain", ()), ("calibrated", ("--calibrated",))):
        code, _, err = command(
            "predict", "--ckpt_path", output, scene, "--output", tmp_path / name, "--confidence", *words,
            "--trainer.accelerator", "cpu",
        )  # fmt: skip
        assert code == 0, err
        with (
            rasterio.open(tmp_path / name / "scene_pred.tif") as classes,
            rasterio.open(tmp_path / name / "scene_confidence.tif") as confidence,
        ):
            maps[name] = classes.read(1), confidence.read(1), classes.tags()
    np.testing.assert_array_equal(maps["plain"][0], maps["calibrated"][0])
    assert maps["calibrated"][1].mean() < maps["plain"][1].mean()
    assert maps["calibrated"][2]["temperature"] == f"{found.temperature:.6g}"
    assert "temperature" not in maps["plain"][2]


def test_calibrate_overwrites_nothing_unasked(config, command, overconfident_checkpoint):
    words = ("calibrate", "--config", config, "--ckpt_path", overconfident_checkpoint)
    code, out, err = command(*words, "--pixels", 300)
    assert code == 0, err
    assert "fitted to 300 of " in out
    written = overconfident_checkpoint.with_name("best_calibrated.ckpt")
    assert written.exists()
    code, _, err = command(*words)
    assert code == 2
    assert "best_calibrated.ckpt exists; add --overwrite" in err
    code, _, err = command(*words, "--output", overconfident_checkpoint, "--overwrite")
    assert code == 2
    code, _, err = command(*words, "--overwrite", "--pixels", 300)
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("calibrate", 2, "data: not given; name a configuration"),
        ("calibrate --config {config}", 2, "ckpt_path: not given; calibrate needs trained weights"),
        ("calibrate --config {config} --ckpt_path gone.ckpt", 1, "gone.ckpt: no such file"),
        ("calibrate --config {config} --ckpt_path {trained} --pixels 0", 2, "pixels: 0 must be 1 or more"),
        ("calibrate --config {config} --ckpt_path {trained} --data.splits no_val.csv", 2, "move chips to val"),
        ("calibrate --config {config} --ckpt_path {trained} --output a.pt", 2, "must end in .ckpt"),
        ("predict --ckpt_path {trained} {scene} --calibrated", 1, "has no temperature; fit one with prithvi-tg"),
        ("predict --ckpt_path {trained} gone.ckpt {scene}", 1, "gone.ckpt: no such file"),
        ("predict --ckpt_path {trained} {trained}", 2, "scenes: none given"),
    ],
)  # fmt: skip
def test_errors_of_the_commands_have_one_line(
    words, code, message, command, config, trained, flood_root, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    listed = (flood_root / "splits.csv").read_text().splitlines()
    (tmp_path / "no_val.csv").write_text("\n".join(row for row in listed if not row.endswith(",val")))
    names = {"config": config, "trained": trained, "scene": flood_root / "scene.tif"}
    found, _, err = command(*words.format(**names).split())
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_a_temperature_survives_the_export_of_weights(trained, tmp_path):
    task = load_task(trained)
    task.calibration = Calibration(1.75, 10, 1.0, 0.5, 0.2, 0.1)
    path = export_weights(task, tmp_path / "weights.safetensors")
    assert load_task(path).calibration == task.calibration
    assert (
        CALIBRATION
        not in safe_open(export_weights(load_task(trained), tmp_path / "b.safetensors"), "pt").metadata()
    )


@pytest.mark.parametrize("record", [{"temperature": 0.0}, {"temperature": "x"}, {"t": 2.0}, 3, "no JSON"])
def test_a_damaged_temperature_is_refused(trained, tmp_path, record):
    content = torch.load(trained, weights_only=True) | {CALIBRATION: record}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a\.ckpt: calibration: "):
        load_task(tmp_path / "a.ckpt")


def test_an_ensemble_is_mapped_by_its_checkpoints(command, trained, flood_root, tmp_path):
    content = torch.load(trained, weights_only=True)
    content["state_dict"] = {key: value * 1.02 for key, value in content["state_dict"].items()}
    torch.save(content, tmp_path / "b.ckpt")
    scene = flood_root / "scene.tif"
    code, _, err = command(
        "predict", "--ckpt_path", trained, tmp_path / "b.ckpt", scene, "--output", tmp_path / "maps",
        "--products", "entropy", "margin", "std", "--tta", "d4", "--trainer.accelerator", "cpu",
    )  # fmt: skip
    assert code == 0, err
    for name in ("pred", "std", "entropy", "margin"):
        with rasterio.open(tmp_path / "maps" / f"scene_{name}.tif") as file:
            assert json.loads(file.tags()["members"])[1]["name"] == str(tmp_path / "b.ckpt")
            assert file.tags()["tta"] == "d4"


def test_weights_without_a_description_are_mapped_with_views_by_a_configuration(
    command, config, trained, flood_root, tmp_path
):
    weights = tmp_path / "weights.pth"
    tensors = {
        key.removeprefix("model."): value
        for key, value in torch.load(trained, weights_only=True)["state_dict"].items()
    }
    torch.save({"state_dict": tensors, "meta": {}}, weights)
    code, _, err = command(
        "predict", "--config", config, "--ckpt_path", weights, trained, flood_root / "scene.tif", "--output",
        tmp_path / "maps", "--tta", "d4", "--products", "std",
    )  # fmt: skip
    assert code == 0, err
    with rasterio.open(tmp_path / "maps" / "scene_std.tif") as file:
        assert file.read(1, masked=True).max() == 0  # both have the same weights


def test_an_underconfident_model_gets_a_small_temperature():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (500,), generator=generator)
    logits = 1e-4 * (F.one_hot(labels, 2) + torch.randn(500, 2, generator=generator))
    found = fit_calibration(logits, labels)
    assert found.temperature < 1e-3
    assert found.ece_after < found.ece_before


@pytest.mark.parametrize(
    ("factor", "cause"), [(0.1, "almost always right"), (8.0, "often wrong where it is sure"), (3.0, None)]
)
def test_a_temperature_far_from_1_is_reported_with_its_likely_cause(factor, cause):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        calibration = fit_calibration(*overconfident(5000, factor=factor))
    assert calibration.temperature == pytest.approx(factor, rel=0.15)
    messages = [str(one.message) for one in found]
    if cause is None:
        assert messages == []
    else:
        (message,) = messages
        assert "far from 1: on the 5000 labelled pixels" in message
        assert cause in message
