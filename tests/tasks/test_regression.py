"""Pixelwise regression: losses and scores over labelled pixels, in the unit, from YAML to the record."""

import json
import re
import shutil
from base64 import b64decode
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
import yaml
from conftest import TINY_CONFIG
from matplotlib.figure import Figure

from prithvi_tg import load_task
from prithvi_tg.__main__ import main
from prithvi_tg.augmentations import ChipAugmentation
from prithvi_tg.checks import check_chips
from prithvi_tg.datamodules import ValueChipFolderDataModule
from prithvi_tg.datamodules.loading import collate_chips
from prithvi_tg.datasets import ValueChipFolder
from prithvi_tg.errors import ConfigError, DataError, ValueRangeError
from prithvi_tg.plotting import draw_values
from prithvi_tg.readers.labels import read_values
from prithvi_tg.reporting.curves import curves_svg
from prithvi_tg.reporting.runs import Run, read_runs
from prithvi_tg.reporting.values import write_density
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ValueTarget
from prithvi_tg.tasks import PrithviPixelwiseRegressionTask
from prithvi_tg.tasks.data_checks import differing_data
from prithvi_tg.tasks.value_losses import VALUE_LOSSES, create_value_loss
from prithvi_tg.tasks.value_metrics import BINS, DEVIATIONS, ValueErrors, value_scores

RED = InputSpec(("RED",), (0.1,), (0.1,))
TARGET = ValueTarget(("a", "b"), mean=(10.0, 0.0), std=(2.0, 1.0))


def write(path, values, dtype="float32", **profile):
    values = np.asarray(values, dtype)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), height=values.shape[1], width=values.shape[2], dtype=dtype,
        crs="EPSG:32615", transform=rasterio.Affine(10, 0, 500000, 0, -10, 4000000), **profile,
    ) as out:  # fmt: skip
        out.write(values)


@pytest.fixture(scope="session")
def value_root(tmp_path_factory):
    """Eighteen chips of two bands whose label is a linear function of them, with unlabelled pixels."""
    root, rng = tmp_path_factory.mktemp("values"), np.random.default_rng(0)
    (root / "chips").mkdir()
    lines = ["chip,split"]
    for number in range(18):
        coarse = rng.uniform(0.1, 0.5, (2, 4, 4))
        image = np.kron(coarse, np.ones((8, 8)))
        label = 100 * image[1] - 50 * image[0] + 20
        label[:3, :3] = -1
        write(root / "chips" / f"c{number:02}_image.tif", image)
        write(root / "chips" / f"c{number:02}_value.tif", label[None], nodata=-1)
        lines.append(f"c{number:02},{('train', 'train', 'train', 'train', 'val', 'test')[number % 6]}")
    (root / "splits.csv").write_text("\n".join(lines))
    return root


CONFIG = """\
seed_everything: 0
model:
  class_path: PrithviPixelwiseRegressionTask
  init_args:
    encoder: nano
    encoder_args: {{width: 32, depth: 2, num_heads: 2}}
    decoder: conv_transpose
    head_channels: 16
    lr: 3.0e-3
    warmup_steps: 1
    window: 32
data:
  class_path: ValueChipFolderDataModule
  init_args:
    images: {root}/chips/*_image.tif
    labels: {root}/chips/*_value.tif
    splits: {root}/splits.csv
    values: [biomass]
    units: [t/ha]
    value_mean: [35]
    value_std: [13]
    valid_range: [0, 100]
    bands: [RED, NIR_NARROW]
    mean: [0.3, 0.3]
    std: [0.12, 0.12]
    batch_size: 4
    crop_size: 32
trainer:
  default_root_dir: {runs}
  max_epochs: {epochs}
  accelerator: cpu
  enable_progress_bar: false
"""


@pytest.fixture(scope="session")
def value_run(value_root, tmp_path_factory):
    """Folder of a fit of values; read only."""
    folder = tmp_path_factory.mktemp("value_run")
    (folder / "config.yaml").write_text(CONFIG.format(root=value_root, runs=folder, epochs=3))
    assert main(["fit", "--config", str(folder / "config.yaml")]) == 0
    return folder / "version_0"


def test_a_regression_run_records_scores_in_the_unit(value_run, capsys):
    record = json.loads((value_run / "metrics.json").read_text())
    assert set(record["overall"]) == {"RMSE", "MAE", "bias", "R2"}
    assert record["per_value"]["biomass"]["labelled_pixels"] == 3 * (32 * 32 - 9)
    assert record["data_spec"]["target"]["units"] == ["t/ha"]
    assert 0 < record["overall"]["MAE"] <= record["overall"]["RMSE"] < 60
    assert (value_run / "scatter.png").exists()
    assert list((value_run / "chips").glob("worst_1_*.png"))
    assert (
        (value_run / "chips.csv")
        .read_text()
        .startswith(
            "chip,RMSE biomass,MAE biomass,bias biomass,pixels biomass,label mean biomass,label std biomass\n"
        )
    )


def test_a_line_per_epoch_shows_the_main_scores(value_run, tmp_path, capsys):
    words = ("fit", "--config", value_run.parent / "config.yaml", "--trainer.default_root_dir", tmp_path)
    assert main([*map(str, words)]) == 0
    line = next(one for one in capsys.readouterr().out.splitlines() if one.startswith("epoch 0"))
    names = [part.split()[0] for part in line.partition(": ")[2].split(", ")[:4]]
    assert names == ["train_loss", "val_loss", "val_RMSE", "val_R2"]


def test_scores_are_those_of_the_predicted_values(value_run, value_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    best, config = value_run / "checkpoints" / "best.ckpt", value_run.parent / "config.yaml"
    words = [
        "test",
        "--config",
        str(config),
        "--ckpt_path",
        str(best),
        "--trainer.default_root_dir",
        str(tmp_path),
    ]
    assert main(words) == 0
    assert "RMSE" in capsys.readouterr().out
    record = json.loads((tmp_path / "version_0" / "metrics.json").read_text())
    task = load_task(best)
    data = ValueChipFolder(
        f"{value_root}/chips/*_image.tif", f"{value_root}/chips/*_value.tif", value_root / "splits.csv", ["biomass"],
        ["RED", "NIR_NARROW"], [0.3, 0.3], [0.12, 0.12], [35], [13], split="test",
    )  # fmt: skip
    errors, labels = [], []
    for sample in data:
        image = data.spec.input.normalize(sample["image"])[None]
        with torch.no_grad():
            value = task.decode(task.predict_step({"image": image}, 0))[0]
        known = ~sample["mask"].isnan()
        errors.append((value - sample["mask"])[known].double())
        labels.append(sample["mask"][known].double())
    error, label = torch.cat(errors), torch.cat(labels)
    expected = {
        "RMSE": error.square().mean().sqrt(),
        "MAE": error.abs().mean(),
        "bias": error.mean(),
        "R2": 1 - error.square().sum() / (label - label.mean()).square().sum(),
    }
    assert record["overall"] == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-4
    )


def test_scores_are_those_of_the_maps_that_predict_writes(value_run, value_root, tmp_path):
    best, config = value_run / "checkpoints" / "best.ckpt", value_run.parent / "config.yaml"
    runs = ["--trainer.default_root_dir", str(tmp_path)]
    assert main(["test", "--config", str(config), "--ckpt_path", str(best), *runs]) == 0
    record = json.loads((tmp_path / "version_0" / "metrics.json").read_text())
    chips = [f"c{number:02}" for number in range(18) if number % 6 == 5]
    images = [str(value_root / "chips" / f"{chip}_image.tif") for chip in chips]
    assert main(["predict", "--ckpt_path", str(best), *images, "--output", str(tmp_path / "maps")]) == 0
    values, labels = [], []
    for chip in chips:
        with rasterio.open(tmp_path / "maps" / f"{chip}_image_pred.tif") as file:
            values.append(file.read(1))
        with rasterio.open(value_root / "chips" / f"{chip}_value.tif") as file:
            labels.append(file.read(1))
    label, value = (np.stack(part).astype(np.float64) for part in (labels, values))
    error, label = (value - label)[label != -1], label[label != -1]
    r2 = 1 - np.square(error).sum() / np.square(label - label.mean()).sum()
    assert record["overall"]["R2"] == pytest.approx(r2, abs=1e-5)
    assert record["overall"]["RMSE"] == pytest.approx(np.sqrt(np.square(error).mean()), rel=1e-5)


def test_runs_with_different_values_are_not_compared(value_run, tmp_path):
    record = json.loads((value_run / "metrics.json").read_text())
    record["per_value"] = {"height": record["per_value"]["biomass"]}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.json").write_text(json.dumps(record))
    assert len(read_runs([value_run, value_run], ["one", "two"])) == 2
    with pytest.raises(ConfigError, match=r"has the values height, .* has biomass; they cannot be compared"):
        read_runs([value_run, tmp_path / "other"])


def test_the_colour_range_of_values_is_limited_to_the_valid_range():
    target = ValueTarget(("biomass",), mean=(50.0,), std=(40.0,), valid_range=(0, 1000))
    axes = Figure().add_subplot()
    assert draw_values(axes, np.ones((2, 2)), target).get_clim() == (0, 130)


def test_the_density_is_drawn_around_the_bins_with_pixels(tmp_path, monkeypatch):
    target = ValueTarget(("biomass",), mean=(0.0,), std=(1.0,))
    counts = torch.zeros(1, BINS, BINS, dtype=torch.int64)
    counts[0, 30, 34] = 5
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.append(figure) or path.touch())
    write_density(tmp_path, counts, target)
    width = 2 * DEVIATIONS / BINS
    expected = (-DEVIATIONS + 29 * width, -DEVIATIONS + 36 * width)
    assert drawn[0].axes[0].get_xlim() == pytest.approx(expected)
    assert drawn[0].axes[0].get_ylim() == pytest.approx(expected)


@pytest.mark.parametrize("name", VALUE_LOSSES)
def test_losses_use_labelled_pixels_only(name):
    outputs = torch.randn(2, 1, 4, 4, requires_grad=True)
    labels = torch.randn(2, 1, 4, 4)
    labels[:, :, 0] = float("nan")
    loss = create_value_loss(name)(outputs, labels)
    loss.backward()
    assert (outputs.grad[:, :, 0] == 0).all()
    functions = {"mse": torch.nn.MSELoss, "mae": torch.nn.L1Loss, "huber": torch.nn.SmoothL1Loss}
    expected = functions[name]()(outputs[:, :, 1:], labels[:, :, 1:])
    torch.testing.assert_close(loss, expected)
    assert create_value_loss(name)(outputs, torch.full_like(labels, float("nan"))) == 0


def test_scores_of_several_values_are_separate_and_cover_all_batches():
    metric = ValueErrors(TARGET)
    label = torch.randn(3, 2, 5, 5).double() * 2 + 10
    prediction = label + torch.tensor([1.0, -2.0])[:, None, None]
    label[0, 1] = float("nan")
    for one, other in zip(prediction, label, strict=True):
        metric.update(one[None], other[None])
    scores = value_scores(metric.compute())
    torch.testing.assert_close(scores["RMSE"], torch.tensor([1.0, 2.0]).double())
    torch.testing.assert_close(scores["bias"], torch.tensor([1.0, -2.0]).double())
    variance = label[:, 0].var(unbiased=False)
    torch.testing.assert_close(scores["R2"][0], 1 - 1 / variance)


def test_augmentation_moves_labels_and_filled_pixels_are_not_labelled():
    values = torch.arange(64.0).reshape(1, 8, 8)
    values[0, 0, 0] = float("nan")
    batch = {
        "image": values.nan_to_num()[:, None, None],
        "valid": torch.ones(1, 1, 1, 8, 8, dtype=torch.bool),
        "mask": values,
    }
    augment = ChipAugmentation([0.0], [1.0], crop_size=12, random_flip_rot90=True)
    out = augment(batch)
    known = ~out["mask"].isnan()
    assert int(known.sum()) == 63
    torch.testing.assert_close(out["mask"][known], out["image"][:, 0, 0][known])
    assert out["mask"][known].unique().numel() == 63


def test_chips_of_unequal_sizes_are_padded_without_labels():
    samples = [{"image": torch.ones(1, 1, side, side), "mask": torch.ones(side, side)} for side in (3, 5)]
    batch = collate_chips(samples)
    assert int(batch["mask"].isnan().sum()) == 25 - 9


@pytest.mark.parametrize(
    ("bands", "values", "message"),
    [
        (1, 500, "value 500 in 1024 pixels lies outside valid_range, 0 to 100"),
        (2, 50, r"has 2 bands for 1 value \(biomass\)"),
    ],
)
def test_invalid_labels_are_refused(value_root, tmp_path, bands, values, message):
    write(tmp_path / "x_value.tif", np.full((bands, 32, 32), values))
    write(tmp_path / "x_image.tif", np.full((2, 32, 32), 0.2))
    (tmp_path / "splits.csv").write_text("chip,split\nx,train\n")
    data = ValueChipFolder(
        f"{tmp_path}/*_image.tif", f"{tmp_path}/*_value.tif", tmp_path / "splits.csv", ["biomass"],
        ["RED", "NIR_NARROW"], [0.3, 0.3], [0.12, 0.12], [35], [13], valid_range=(0, 100),
    )  # fmt: skip
    with pytest.raises(DataError, match=message):
        data[0]


def labels_of(chips):
    return sorted((chips / "chips").glob("*_value.tif"))


def rewrite_labels(paths, change):
    for path in paths:
        with rasterio.open(path) as source:
            values, known = source.read(), source.nodata
        changed = np.where(values == known, known, change(values))
        write(path, changed, nodata=known)


@pytest.fixture
def check(value_root, tmp_path):
    """Checks a data module with changed labels, as ``check`` does; returns the rows of its table."""
    root = tmp_path / "copy"
    shutil.copytree(value_root, root)

    def run(change=None, chips=slice(None), **keys):
        if change is not None:
            rewrite_labels(labels_of(root)[chips], change)
        settings = yaml.safe_load(CONFIG.format(root=root, runs=tmp_path, epochs=1))["data"]["init_args"]
        pairs = [["train", "val"], ["train", "test"], ["val", "test"]]  # all chips lie at one place
        data = ValueChipFolderDataModule(**settings | {"same_splits": pairs, **keys})
        return [[one.severity, one.subject, one.message, one.advice] for one in check_chips(data)]

    return run


def of_labels(rows, severity):
    return [row[2:] for row in rows if row[0] == severity and row[1].startswith("values")]


def test_a_valid_range_that_is_too_narrow_is_one_finding_of_all_chips(check):
    rows = check(valid_range=[0, 60])
    ((finding, advice),) = of_labels(rows, "error")
    assert finding == "4 of 18 chips have values up to 64.2, outside valid_range, 0 to 60"
    assert advice == "widen valid_range"
    assert [row[1:] for row in rows if row[0] == "error"] == [["values", finding, advice]]
    counted = [finding for finding, _ in of_labels(rows, "ok")]
    assert counted[0].startswith("biomass: 12,180 labelled pixels, ")
    assert len(counted) == 3


def test_check_prints_range_mean_and_unit_of_the_labels(check):
    rows = check(lambda values: np.where(np.arange(32)[:, None] < 16, 30, 50 + 0 * values))
    assert not [row for row in rows if row[0] != "ok"]
    assert of_labels(rows, "ok")[0][0].endswith("labelled pixels, 30 to 50 t/ha, mean 40.09")


def test_labels_that_fit_range_and_statistics_cause_no_doubt_about_their_unit(check):
    for keys in ({}, {"valid_range": None}, {"valid_range": [-1000, 1000]}, {"value_std": [20]}):
        assert not [row for row in check(**keys) if row[0] != "ok"], keys


def test_a_missing_value_without_a_tag_is_to_be_marked_as_nodata(check):
    rows = check(lambda values: np.where(np.arange(32) < 4, -9999, values), chips=slice(3, 5))
    assert [row[2:] for row in rows if row[0] == "error"] == [[
        "2 of 18 chips have the value -9999, outside valid_range, 0 to 100",
        "it usually means not labelled: set ignored_labels: [-9999], or mark it as nodata in each file: rio edit-info "
        "--nodata -9999 FILE",
    ]]  # fmt: skip
    assert "-9999" not in " ".join(finding for finding, _ in of_labels(rows, "ok"))
    ((finding, advice),) = [row[2:] for row in check(valid_range=None) if row[0] == "error"]
    assert finding == "2 of 18 chips have the value -9999"
    assert not [row for row in check(ignored_labels=[-9999]) if row[0] == "error"]
    assert advice.endswith("--nodata -9999 FILE; otherwise set a valid_range that contains it")


@pytest.mark.parametrize(
    ("dtype", "missing", "is_refused"),
    [
        ("int16", -9999, True),
        ("uint16", 65535, True),
        ("float32", 1e30, True),
        ("int16", -99, False),
        ("uint8", 255, False),
    ],
)
def test_usual_marks_of_missing_values_are_refused_without_a_valid_range(
    tmp_path, dtype, missing, is_refused
):
    values = np.linspace(0, 100, 64).reshape(1, 8, 8)
    values[0, :2, :6] = missing
    write(tmp_path / "x.tif", values, dtype)
    with rasterio.open(tmp_path / "x.tif") as source:
        if not is_refused:
            read_values(source, "x.tif", ValueTarget())
            return
        with pytest.raises(ValueRangeError, match=r"in 12 pixels; it usually means not labelled: ") as caught:
            read_values(source, "x.tif", ValueTarget())
        assert np.isnan(caught.value.values[0, :2, :6]).all()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"value_scale": 10}, ("outside valid_range, 0 to 100", "set value_scale: 1")),
        (
            {"value_scale": 10, "valid_range": None},
            ("about 10 times value_mean, 35, and value_std", "set value_scale: 1;"),
        ),
        ({"value_scale": 0.001, "valid_range": None}, ("about 0.001 times value_mean, 35", "set value_scale: 1;")),
        ({"value_scale": 0.01}, ("t/ha only, a tiny part of valid_range, 0 to 100", "such as 1;")),
        ({"value_mean": [90]}, ("far from value_mean, 90", "compute the statistics")),
    ],
)  # fmt: skip
def test_labels_in_another_unit_are_one_finding(check, keys, words):
    ((finding, advice),) = [row[2:] for row in check(**keys) if row[0] != "ok"]
    assert all(word in f"{finding} {advice}" for word in words), finding


@pytest.mark.parametrize(
    ("dtype", "missing", "message"),
    [
        (
            "int16",
            -9999,
            "value -9999 in 12 pixels lies outside valid_range, 0 to 100; it usually means not labelled",
        ),
        ("int16", -32768, "--nodata -32768 "),
        ("uint16", 65535, "--nodata 65535 "),
        ("uint8", 255, "--nodata 255 "),
        ("float32", -1e25, "it usually means not labelled"),
        (
            "float32",
            -1,
            r"value -1 in 12 pixels .*; if it means not labelled, .* --nodata -1 .*; otherwise widen",
        ),
    ],
)
def test_only_missing_values_are_proposed_as_nodata(tmp_path, dtype, missing, message):
    values = np.linspace(0, 100, 64).reshape(1, 8, 8)
    values[0, :2, :6] = missing
    write(tmp_path / "x.tif", values, dtype)
    with rasterio.open(tmp_path / "x.tif") as source:
        with pytest.raises(ValueRangeError, match=message) as caught:
            read_values(source, "x.tif", ValueTarget(valid_range=(0, 100)))
        assert caught.value.fill == pytest.approx(missing)
        assert np.isnan(caught.value.values[0, :2, :6]).all()
        assert not np.isnan(caught.value.values[0, 2:]).any()
        with pytest.raises(ValueRangeError) as caught:
            read_values(source, "x.tif", ValueTarget(valid_range=(min(missing, 20), max(missing, 90))))
    assert caught.value.fill is None
    assert "widen valid_range" in str(caught.value)
    assert "nodata" not in str(caught.value)


@pytest.mark.parametrize("name", ["fit", "check"])
@pytest.mark.parametrize(
    ("data", "task", "message"),
    [
        ("classes", "PrithviPixelwiseRegressionTask", "classes of pixels, not values of pixels; use PrithviSegmentat"),
        ("classes", "PrithviClassificationTask", "classes of pixels, not classes of whole chips; use PrithviSegmentat"),
        ("values", "PrithviSegmentationTask", "values of pixels, not classes of pixels; use PrithviPixelwiseRegressi"),
        ("values", "PrithviClassificationTask", "values of pixels, not classes of whole chips; use PrithviPixelwiseR"),
    ],
)  # fmt: skip
def test_a_task_for_other_labels_than_those_of_the_data_is_an_error_that_names_the_right_one(
    flood_root, value_root, tmp_path, capsys, monkeypatch, name, data, task, message
):
    monkeypatch.setenv("COLUMNS", "400")
    data_of = {
        "classes": TINY_CONFIG.format(root=flood_root, runs=tmp_path),
        "values": CONFIG.format(root=value_root, runs=tmp_path, epochs=1),
    }
    settings = yaml.safe_load(data_of[data])
    settings["model"] = {"class_path": task, "init_args": {"encoder": "nano"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert main([name, "--config", str(tmp_path / "config.yaml")]) == (2 if name == "fit" else 1)
    found = "".join(capsys.readouterr())
    if name == "fit":
        assert f"prithvi-tg: error: data: the data have {message}" in found
    else:
        finding, _, advice = message.partition("; ")
        (row,) = [line for line in found.splitlines() if f"data: the data have {finding}" in line]
        assert advice in row


def test_errors_name_unknown_losses():
    with pytest.raises(
        ConfigError, match=r"loss: 'rmse' is unknown; did you mean mse\? Choose from mse, mae, huber"
    ):
        PrithviPixelwiseRegressionTask(
            encoder="nano",
            encoder_args={"width": 32, "depth": 1, "num_heads": 2},
            decoder="linear",
            loss="rmse",
        )


def test_stats_and_check_support_values(value_root, tmp_path, capsys):
    text = CONFIG.format(root=value_root, runs=tmp_path, epochs=1)
    lines = [line for line in text.splitlines() if not line.strip().startswith(("value_mean", "value_std"))]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    assert main(["stats", "--config", str(tmp_path / "config.yaml")]) == 0
    printed = capsys.readouterr().out
    found = yaml.safe_load(printed)["data"]["init_args"]
    assert set(found) == {"mean", "std", "value_mean", "value_std"}
    with rasterio.open(value_root / "chips" / "c00_value.tif") as source:
        assert source.nodata == -1
    labels = []
    for number in range(18):
        if number % 6 < 4:
            with rasterio.open(value_root / "chips" / f"c{number:02}_value.tif") as source:
                values = source.read(1)
            labels.append(values[values != -1])
    assert found["value_mean"] == pytest.approx([np.concatenate(labels).mean()], rel=1e-4)
    (tmp_path / "config.yaml").write_text(text)
    assert main(["check", "--config", str(tmp_path / "config.yaml")]) == 0
    assert "biomass: 12,180" in " ".join(capsys.readouterr().out.split())


def test_the_report_shows_scores_density_and_chips(value_run, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert main(["report", str(value_run), "--output", str(page)]) == 0
    told = re.sub(r"(<[^>]+>|\s)+", " ", page.read_text())
    assert "validation, 3 chips no intervals: fewer than 5 chips" in told
    assert all(f" {name} (t/ha) " in told for name in ("RMSE", "MAE", "bias"))
    assert re.search(r"worst 1: c\d\d, RMSE [\d.]+ t/ha", told)
    copy = shutil.copytree(value_run, tmp_path / "run")
    header, *rows = (copy / "chips.csv").read_text().splitlines()
    (copy / "chips.csv").write_text("\n".join([header, *rows, *(f"again_{row}" for row in rows)]))
    assert main(["report", str(copy)]) == 0
    told = re.sub(r"(<[^>]+>|\s)+", " ", (copy / "report.html").read_text())
    assert "validation, 6 chips RMSE" in told
    assert "Ranges are 95 % bootstrap intervals over chips" in told
    assert re.search(r"RMSE \(t/ha\) [\d.]+ [\d.]+ to [\d.]+ ", told)
    text = page.read_text()
    record = json.loads((value_run / "metrics.json").read_text())
    assert f"<b>{record['overall']['RMSE']:.4g}</b>" in text
    assert 'alt="scatter"' in text
    assert "<th>biomass (t/ha)</th>" in text
    assert "<td>3,045</td>" in text
    svg = b64decode(text.split("data:image/svg+xml;base64,")[1].split('"')[0]).decode()
    assert "loss (dotted" in svg
    assert "learning rate" in svg  # also of a run that is shorter than the logging interval
    assert text.index("worst 1: ") < text.index("best 1: ")


def test_the_curves_of_several_values_show_their_mean_r2():
    curves = pd.DataFrame({"step": [1, 2], "val_loss": [2.0, 1.0], "val_mR2": [0.1, 0.2]})
    metrics = {"overall": {"mR2": 0.2}, "per_value": {}, "data_spec": DataSpec(RED, TARGET).to_dict()}
    run = Run("run", Path(), metrics, None, curves, {}, {})
    text = curves_svg([run]).decode()
    assert re.findall(r"<!-- (loss|R2|mR2|learning rate).* -->", text) == ["loss", "mR2"]


@pytest.mark.parametrize(("key", "drawn"), [("train_loss", ["loss", "mR2"]), ("other", None)])
def test_a_training_of_one_epoch_has_points_and_a_validation_has_no_curves(key, drawn):
    curves = pd.DataFrame({"step": [3], "val_loss": [2.0], "val_mR2": [0.1], key: [1.5]})
    metrics = {"overall": {"mR2": 0.1}, "per_value": {}, "data_spec": DataSpec(RED, TARGET).to_dict()}
    found = curves_svg([Run("run", Path(), metrics, None, curves, {}, {})])
    if drawn is None:
        assert found is None
        return
    text = found.decode()
    assert re.findall(r"<!-- (loss|R2|mR2|learning rate).* -->", text) == drawn
    assert text.count("<use xlink:href") > 0  # markers


def test_scale_tags_of_labels_are_used_and_must_match_the_configuration(tmp_path):
    write(tmp_path / "x.tif", np.full((1, 4, 4), 50), "int16")
    with rasterio.open(tmp_path / "x.tif", "r+") as out:
        out.scales, out.offsets = (0.5,), (1.0,)
    with rasterio.open(tmp_path / "x.tif") as source:
        assert (read_values(source, "x.tif", ValueTarget()) == 26).all()
        with pytest.raises(
            ConfigError, match=r"value_scale: 2 is configured, but x\.tif has the tags scale 0\.5"
        ):
            read_values(source, "x.tif", ValueTarget(scale=2.0))


def test_values_in_another_unit_are_not_scored():
    inputs = InputSpec(("RED",), (0.1,), (0.1,))
    tons, kilos = (DataSpec(inputs, ValueTarget(("biomass",), (unit,))) for unit in ("t/ha", "kg/ha"))
    assert differing_data(tons, kilos) == ("units", ["t/ha"], ["kg/ha"])
    assert differing_data(tons, tons) is None
