"""Pre-training: weights in and out, scores that do not depend on batches, nodata, dates and places."""

import copy
import json
import re
from base64 import b64decode

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from conftest import TINY
from lightning.pytorch import Trainer
from rasterio.transform import from_origin

from prithvi_tg import PrithviSegmentationTask, load_task
from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.datamodules import (
    LabelledScenesDataModule,
    UnlabelledChipsDataModule,
    UnlabelledScenesDataModule,
)
from prithvi_tg.datamodules.scene_splits import BlockSplit
from prithvi_tg.datasets import UnlabelledChips
from prithvi_tg.errors import CheckpointError, ConfigError, DataError
from prithvi_tg.models.encoders.prithvi import position_table
from prithvi_tg.reporting.reconstructions import ReconstructionScores
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ImageTarget
from prithvi_tg.tasks import PrithviPretrainingTask
from prithvi_tg.tasks.pretraining import cut, join

pytestmark = pytest.mark.version_independent

DECODER = {"width": 32, "depth": 1, "num_heads": 2}
STATISTICS = {"mean": [1000.0, 1500.0], "std": [100.0, 200.0], "bands": ["RED", "NIR_NARROW"]}


def make_task(**options):
    torch.manual_seed(0)
    return PrithviPretrainingTask("nano", TINY, **{"decoder_args": DECODER, "window": 32} | options)


def published(task, flat=False, table=True):
    """Tensors of a task in the form of a published file, with other values than any new model has."""
    generator = torch.Generator().manual_seed(5)
    tensors = {
        name: torch.randn(value.shape, generator=generator) for name, value in task.model.state_dict().items()
    }
    if table:
        tensors["encoder.pos_embed"] = position_table(32, 3, 14, 14)[None].clone()
        width = tensors["decoder.mask_token"].shape[-1]
        tensors["decoder.decoder_pos_embed"] = position_table(width, 3, 14, 14)[None].clone()
    if not flat:
        return tensors
    return {name.removeprefix("encoder.").removeprefix("decoder."): value for name, value in tensors.items()}


def write(path, values, scale=None):
    profile = {"driver": "GTiff", "dtype": values.dtype, "count": len(values), "nodata": -9999}
    height, width = values.shape[1:]
    with rasterio.open(
        path, "w", **profile, height=height, width=width, crs="EPSG:32633",
        transform=from_origin(500_000, 5_000_000, 30, 30),
    ) as file:  # fmt: skip
        file.write(values)
        for number, band in enumerate(STATISTICS["bands"], start=1):
            file.set_band_description(number, band)


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    """A folder of ten chips of two bands, of 48 x 48 pixels, the first partly without data."""
    folder = tmp_path_factory.mktemp("chips")
    generator = np.random.default_rng(0)
    for number in range(10):
        values = generator.normal(1000, 100, (2, 48, 48)).astype("float32")
        values[1] += 500
        if number == 0:
            values[:, :, 20:] = -9999
        write(folder / f"chip_{number}.tif", values)
    rows = [f"chip_{number},{'train' if number > 3 else 'val'}" for number in range(10)]
    (folder / "splits.csv").write_text("\n".join(["chip,split", *rows]))
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A scene of two bands with 160 x 160 pixels, without data in its right quarter."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    values = np.random.default_rng(1).normal(1000, 100, (2, 160, 160)).astype("float32")
    values[:, :, 120:] = -9999
    write(path, values)
    return path


def chip_data(chips, **options):
    arguments = {"images": f"{chips}/*.tif", "splits": chips / "splits.csv", "batch_size": 2, "crop_size": 32}
    return UnlabelledChipsDataModule(**STATISTICS | arguments | options)


def scene_data(scene, **options):
    arguments = {
        "images": str(scene),
        "split": BlockSplit(64, (0.6, 0.4, 0.0)),
        "window": 32,
        "windows_per_epoch": 6,
    }
    return UnlabelledScenesDataModule(**STATISTICS | arguments | {"batch_size": 2} | options)


def trainer(tmp_path, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(accelerator="cpu", default_root_dir=tmp_path, **quiet | {"max_epochs": 1} | options)


# Weights.


@pytest.mark.parametrize("flat", [False, True])
def test_encoder_and_decoder_of_a_published_file_load_bit_equal(tmp_path, flat, caplog):
    tensors = published(make_task(), flat)
    torch.save(tensors, tmp_path / "published.pt")
    task = make_task(decoder_args=None, weights=str(tmp_path / "published.pt"))
    expected = published(make_task(), table=False)
    assert task.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in task.model.state_dict().items())
    assert task.hparams["decoder_args"] == DECODER | {"num_heads": 1}  # 32 channels per head
    assert load_task_from(task, tmp_path).model.decoder.variant == task.model.decoder.variant


def load_task_from(task, folder):
    run = trainer(folder)
    run.strategy.connect(task)
    run.save_checkpoint(folder / "own.ckpt")
    return load_task(folder / "own.ckpt")


def test_a_file_with_an_encoder_alone_loads_the_encoder(tmp_path):
    tensors = {name: value for name, value in published(make_task()).items() if name.startswith("encoder.")}
    torch.save(tensors, tmp_path / "encoder.pt")
    task = make_task(weights=str(tmp_path / "encoder.pt"))
    encoder = {f"encoder.{name}": value for name, value in task.model.encoder.state_dict().items()}
    assert all(torch.equal(value, tensors[name]) for name, value in encoder.items())
    assert torch.equal(task.model.decoder.decoder_pred.weight, make_task().model.decoder.decoder_pred.weight)


def test_a_decoder_of_another_size_or_position_table_is_refused(tmp_path):
    tensors = published(make_task())
    torch.save(tensors, tmp_path / "published.pt")
    with pytest.raises(CheckpointError, match=r"different architecture: decoder\.\S+ is .* the model's is"):
        make_task(decoder_args={"width": 64}, weights=str(tmp_path / "published.pt"))
    torch.save(published(make_task(decoder_args=DECODER | {"depth": 2})), tmp_path / "deeper.pt")
    with pytest.raises(CheckpointError, match=r"blocks that the model lacks \(decoder\.decoder_blocks\.1"):
        make_task(weights=str(tmp_path / "deeper.pt"))
    tensors["decoder.decoder_pos_embed"] = torch.zeros(1, 10, 48)
    torch.save(tensors, tmp_path / "table.pt")
    with pytest.raises(CheckpointError, match=r"decoder\.decoder_pos_embed is \(1, 10, 48\)"):
        make_task(weights=str(tmp_path / "table.pt"))


def test_bands_of_the_prediction_are_matched_by_name(tmp_path):
    tensors = published(make_task())
    torch.save(tensors, tmp_path / "published.pt")
    bands = ["RED", "BLUE", "YELLOW"]
    task = make_task(bands=bands, weights=str(tmp_path / "published.pt"), allow_new_bands=True)
    new = make_task(bands=bands).model
    rows = [PRITHVI_BANDS.index(band) for band in bands[:2]]
    for name in ("weight", "bias"):
        file = tensors[f"decoder.decoder_pred.{name}"].unflatten(0, (256, 6))
        found = getattr(task.model.decoder.decoder_pred, name).unflatten(0, (256, 3))
        random = getattr(new.decoder.decoder_pred, name).unflatten(0, (256, 3))
        assert torch.equal(found[:, :2], file[:, rows])
        assert torch.equal(found[:, 2], random[:, 2])
    kernel = tensors["encoder.patch_embed.proj.weight"]
    assert torch.equal(task.model.encoder.patch_embed.proj.weight[:, :2], kernel[:, rows])


def test_another_task_loads_the_encoder_bit_equal_and_lists_the_rest(tmp_path, chips, caplog):
    task = make_task(bands=STATISTICS["bands"])
    run = trainer(tmp_path)
    run.fit(task, chip_data(chips))
    run.save_checkpoint(tmp_path / "pretrained.ckpt")
    with caplog.at_level("INFO"):
        other = PrithviSegmentationTask(
            "nano", TINY, weights=str(tmp_path / "pretrained.ckpt"), num_classes=2, bands=STATISTICS["bands"]
        )
    assert re.search(
        r"only the encoder is loaded; \d+ tensors are left out, of the pre-training decoder", caplog.text
    )
    assert "unexpected" not in caplog.text
    for name, value in other.model.encoder.state_dict().items():
        assert torch.equal(value, task.model.encoder.state_dict()[name])


# Training and scores.


@pytest.mark.parametrize("kind", ["chips", "scenes"])
def test_training_lowers_the_loss_of_both_kinds_of_data(kind, chips, scene, tmp_path):
    data = chip_data(chips) if kind == "chips" else scene_data(scene)
    task = make_task(bands=STATISTICS["bands"], lr=1e-2, schedule="constant")
    run = trainer(tmp_path, max_epochs=0)
    before = run.validate(task, data, verbose=False)[0]["val_loss"]
    run = trainer(tmp_path, max_epochs=8)
    run.fit(task, data)
    after = run.validate(task, data, verbose=False)[0]
    assert after["val_loss"] < 0.9 * before
    spec = load_task_from(task, tmp_path).data_spec
    assert (spec.target.kind, spec.input.bands) == ("images", tuple(STATISTICS["bands"]))
    assert {"val_mR2", "val_RMSE_RED", "val_R2_NIR_NARROW"} <= after.keys()


def test_validation_masks_depend_on_the_seed_and_the_name_alone(chips, tmp_path):
    scores = []
    for options, batch, windows in (({}, 1, 16), ({}, 4, 3), ({"mask_seed": 1}, 1, 16)):
        task = make_task(bands=STATISTICS["bands"], window_batch_size=windows, **options)
        torch.manual_seed(batch)  # has no effect
        scores.append(
            trainer(tmp_path).validate(task, chip_data(chips, eval_batch_size=batch), verbose=False)[0]
        )
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert scores[0]["val_loss"] != pytest.approx(scores[2]["val_loss"], rel=1e-5)


def test_scores_are_those_of_the_masked_pixels_with_data(chips, tmp_path):
    task = make_task(bands=STATISTICS["bands"], norm_pix_loss=True)
    data = chip_data(chips)
    seen = []

    def update(metrics, outputs, labels):
        seen.append((outputs, labels))
        metrics.update(outputs, labels)

    task.update_metrics = update
    found = trainer(tmp_path).validate(task, data, verbose=False)[0]
    outputs, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    counted = ~labels.isnan()
    error = (outputs[:, 0] - labels[:, 0])[counted[:, 0]]
    assert found["val_RMSE_RED"] == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)
    assert abs(labels[:, 1][counted[:, 1]].mean() - 1500) < 20  # in the unit of the statistics
    assert counted[0, 0, :32, 20:].sum() == 0  # no data
    assert counted[:, :, 32:].sum() == counted[:, :, :, 32:].sum() == 0  # beyond the window


def test_chips_are_drawn_and_listed_in_the_unit_where_they_are_scored(tmp_path):
    task = make_task(bands=STATISTICS["bands"], window=32)
    assert task.scored_size((48, 70)) == (32, 64)
    spec = DataSpec(InputSpec(tuple(STATISTICS["bands"]), (1000, 1500), (100, 200)), ImageTarget())
    scores = ReconstructionScores(STATISTICS["bands"], spec, scored_size=task.scored_size)
    prediction = torch.full((1, 1, 2, 48, 70), float("nan"))
    prediction[..., :32, :64] = 0.5  # of the standard deviation
    scores.update(["a"], {"image": torch.zeros(1, 1, 2, 48, 70)}, prediction)
    scores.write_table(tmp_path / "chips.csv", scores.gathered())
    (row,) = pd.read_csv(tmp_path / "chips.csv").to_dict("records")
    assert (row["MSE"], row["RMSE RED"], row["RMSE NIR_NARROW"]) == (0.25, 50, 100)
    figure = scores.plot({"image": torch.zeros(1, 2, 48, 70), "prediction": prediction[0]})
    assert [axis.images[0].get_array().shape[:2] for axis in figure.axes] == [(32, 64)] * 3


@pytest.mark.parametrize("sides", [(48, 64), (32, 32), (37, 70)])
def test_images_are_cut_and_joined_again(sides):
    image = torch.arange(2 * 3 * sides[0] * sides[1]).reshape(2, 3, 1, *sides).float()
    parts = cut(image, (32, 32))
    rows, columns = sides[0] // 32, sides[1] // 32
    assert parts.shape == (2 * rows * columns, 3, 1, 32, 32)
    assert torch.equal(parts[columns - 1], image[0, ..., :32, 32 * (columns - 1) : 32 * columns])
    joined = join(parts, image)
    inside = joined[..., : 32 * rows, : 32 * columns]
    assert torch.equal(inside, image[..., : 32 * rows, : 32 * columns])
    assert joined.isnan().sum() == joined.numel() - inside.numel()


# Data.


def test_windows_of_scenes_mark_pixels_without_data_in_training_and_count_each_pixel_once(scene):
    data = scene_data(scene, stride=24)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert all(batch["image"].shape == batch["valid"].shape == (2, 1, 2, 32, 32) for batch in batches)
    assert {"mask", "masked"}.isdisjoint(batches[0])
    windows = data.val_dataset
    with rasterio.open(scene) as file:
        has_data = file.read(1) != -9999
    counted = sum(int(windows[number]["valid"][0, 0].sum()) for number in range(len(windows)))
    boxes = data.split_regions.splits["val"].boxes
    assert counted == sum(has_data[top:bottom, left:right].sum() for top, left, bottom, right in boxes) > 0
    batch = data.on_after_batch_transfer(batches[0], 0)
    assert (batch["image"][~batch["valid"]] == 0).all()  # the band mean


def test_dates_and_places_reach_encoders_that_use_them(chips, tmp_path):
    (tmp_path / "dates.csv").write_text("chip,date\nchip_5,2018-02-01\n")
    data = chip_data(chips, metadata=True, dates=tmp_path / "dates.csv")
    data.setup("fit")
    samples = {sample["name"]: sample for sample in data.train_dataset}
    assert samples["chip_5"]["timestamps"].tolist() == [[2018, 32]]
    assert samples["chip_6"]["timestamps"].isnan().all()
    assert samples["chip_6"]["location"].tolist() == pytest.approx([45.15, 15.01], abs=0.01)
    task = PrithviPretrainingTask(
        "nano", TINY | {"coordinates": True}, bands=STATISTICS["bands"], decoder_args=DECODER, window=32
    )
    before = copy.deepcopy(task.model.state_dict())
    run = trainer(tmp_path, max_epochs=2)
    run.fit(task, data)
    for name in ("encoder.temporal_embed_enc", "encoder.location_embed_enc", "decoder.temporal_embed_dec"):
        assert task.model.state_dict()[f"{name}.scale"] != before[f"{name}.scale"]
    unused = {"encoder.temporal_embed_enc", "encoder.location_embed_enc"}
    unused |= {name.replace("encoder", "decoder").replace("_enc", "_dec") for name in unused}
    assert task.unused_parameters({}) == {f"model.{name}.scale" for name in unused}


def test_dates_that_cannot_be_used_are_errors(chips, tmp_path):
    for text, message in (
        ("chip,day\nchip_5,2018-02-01\n", "needs columns chip and date"),
        ("chip,date\nchip_5,February\n", "needs columns chip and date"),
        ("chip,date\nchip_5,2018-02-01;2018-03-01\n", "chip chip_5 has 2 dates for 1 frame$"),
    ):
        (tmp_path / "dates.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            UnlabelledChips(f"{chips}/*.tif", **STATISTICS, dates=tmp_path / "dates.csv")


def test_chips_are_found_by_pattern_and_split_by_list_or_by_fractions(chips, tmp_path):
    listed = UnlabelledChips(f"{chips}/*.tif", **STATISTICS, splits=chips / "splits.csv", split="val")
    assert [chip.name for chip in listed.chips] == [f"chip_{number}" for number in range(4)]
    assert listed[0].keys() == {"image", "valid", "name", "meaningless"}
    folders = UnlabelledChips.chips_by_split(f"{chips}/ch*p_*.tif", None, (0.5, 0.5, 0.0))
    assert sum(map(len, folders.values())) == 10
    assert all(chip.name.startswith("i/") for part in folders.values() for chip in part)
    with pytest.raises(DataError, match="no file matches"):
        UnlabelledChips.chips_by_split(f"{tmp_path}/*.tif")
    with pytest.raises(ConfigError, match=r"must contain a \*"):
        UnlabelledChips.chips_by_split(f"{tmp_path}/one.tif")
    with pytest.raises(ConfigError, match=r"\*\* is not supported"):
        UnlabelledChips.chips_by_split(f"{tmp_path}/**/*.tif")
    (tmp_path / "splits.csv").write_text("chip,split\ngone,train\n")
    with pytest.raises(DataError, match="chip gone of train has no image"):
        UnlabelledChips.chips_by_split(f"{chips}/*.tif", tmp_path / "splits.csv")


def test_labelled_scenes_are_refused_as_their_training_does_not_mark_nodata(scene, tmp_path):
    arguments = {
        "window": 32,
        "windows_per_epoch": 2,
        "split": BlockSplit(64, (1.0, 0.0, 0.0)),
        "batch_size": 1,
    }
    labels = tmp_path / "labels.tif"
    with rasterio.open(scene) as file:
        profile = file.profile | {"count": 1, "dtype": "uint8", "nodata": None}
    with rasterio.open(labels, "w", **profile) as file:
        file.write(np.ones((1, 160, 160), "uint8"))
    data = LabelledScenesDataModule(
        str(scene), str(labels), {0: "no", 1: "yes"}, **STATISTICS, **arguments
    )  # fmt: skip
    with pytest.raises(ConfigError, match="use UnlabelledScenesDataModule with the same images"):
        trainer(tmp_path).fit(make_task(bands=STATISTICS["bands"]), data)


# The command.

CONFIG = """\
model:
  class_path: PrithviPretrainingTask
  init_args: {{encoder: nano, encoder_args: {tiny}, decoder_args: {decoder}, window: 32, lr: 1.0e-3}}
data:
  class_path: UnlabelledChipsDataModule
  init_args: {{images: "{chips}/*.tif", splits: {chips}/splits.csv, bands: [RED, NIR_NARROW], mean: [1000, 1500],
    std: [100, 200], batch_size: 2, crop_size: 32}}
trainer: {{default_root_dir: {runs}, max_epochs: 2, accelerator: cpu, enable_progress_bar: false}}
"""


@pytest.fixture
def config(chips, tmp_path):
    path = tmp_path / "pretrain.yaml"
    path.write_text(
        CONFIG.format(chips=chips, runs=tmp_path / "runs", tiny=json.dumps(TINY), decoder=json.dumps(DECODER))
    )
    return path


def test_the_command_trains_reports_and_resumes(config, command, tmp_path):
    code, out, err = command("pretrain", "--config", config, "--name", "mae")
    assert code == 0, err
    folder = tmp_path / "runs" / "mae" / "pretrain_0"
    assert "epoch 1/1: train_loss " in out
    assert "samples/s" in out
    (heading,) = [line for line in out.splitlines() if "RMSE" in line]
    assert heading.replace("┃", " ").split() == ["band", "RMSE", "MAE", "bias", "R2"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["run"]["command"] == "pretrain"
    assert metrics["overall"].keys() == {"loss", "mR2"}
    assert metrics["per_value"]["RED"]["masked_values"] > 0
    assert sorted(path.name for path in (folder / "chips").glob("*.png"))[0].startswith("best_1_chip_")
    header = (folder / "chips.csv").read_text().splitlines()[0]
    assert header.startswith("chip,MSE,masked values,RMSE RED,R2 RED")
    code, out, err = command("report", folder)
    assert code == 0, err
    page = (folder / "report.html").read_text()
    assert "· nano · pretrain · " in page
    assert "Reconstructions" in page
    assert "mIoU" not in page.partition("<script>")[0]
    assert "no intervals: not computed for pre-training" in page
    assert re.search(r"worst 1: chip_\w+, MSE [\d.]+<", page)
    last = folder / "checkpoints" / "last.ckpt"
    code, out, err = command(
        "pretrain", "--config", config, "--name", "mae", "--ckpt_path", last, "--trainer.max_epochs", "3"
    )
    assert code == 0, err
    again = json.loads((tmp_path / "runs" / "mae" / "pretrain_1" / "metrics.json").read_text())
    assert again["run"]["training"]["epochs"] == 3
    assert [part["epoch"] for part in again["run"]["training"]["resumed_from"]] == [2]


def test_the_report_of_a_run_without_validation_has_no_empty_panel_and_no_advice(config, command, tmp_path):
    words = ("--trainer.limit_val_batches", "0", "--trainer.log_every_n_steps", "1")
    assert command("pretrain", "--config", config, *words)[0] == 0
    folder = tmp_path / "runs" / "version_0"
    code, _, err = command("report", folder)
    assert code == 0, err
    page = (folder / "report.html").read_text()
    assert "nothing: there is no validation set<" in page
    assert "prithvi-tg test" not in page
    curves = b64decode(re.search(r'id="curves">.*?base64,([^"]+)"', page, re.DOTALL)[1]).decode()
    assert "<!-- loss (dotted: training) -->" in curves
    assert "mR2" not in curves


def test_its_checkpoint_can_be_fine_tuned_and_maps_nothing_itself(
    config, command, flood_root, tmp_path, scene, chips
):
    assert command("pretrain", "--config", config, "--trainer.max_epochs", 1)[0] == 0
    best = tmp_path / "runs" / "version_0" / "checkpoints" / "best.ckpt"
    code, _, err = command("predict", "--ckpt_path", best, scene, "--output", tmp_path / "maps")
    assert (code, "fine-tune it first" in err) == (2, True), err
    assert command("export", best, tmp_path / "model.safetensors")[0] == 0
    code, _, err = command("export", best, tmp_path / "model.pt2")
    assert "only reconstructs images" in err
    floods = tmp_path / "floods.yaml"
    floods.write_text(
        f"""\
model:
  class_path: PrithviSegmentationTask
  init_args: {{encoder: nano, encoder_args: {json.dumps(TINY)}, head_channels: 8, window: 32, lr: 0.0,
    warmup_steps: 1, weight_decay: 0}}
data:
  class_path: Sen1Floods11DataModule
  init_args: {{root: {flood_root}, splits: {flood_root}/splits.csv, bands: [RED, NIR_NARROW], mean: [0.1, 0.2],
    std: [0.1, 0.1], batch_size: 2, crop_size: 32}}
trainer: {{default_root_dir: {tmp_path / "fine"}, max_epochs: 1, accelerator: cpu, enable_progress_bar: false}}
"""
    )
    for weights in (best, tmp_path / "model.safetensors"):
        code, _, err = command("fit", "--config", floods, "--model.weights", weights)
        assert code == 0, err
    tensors = torch.load(best, weights_only=True)["state_dict"]
    tuned = torch.load(tmp_path / "fine" / "version_1" / "checkpoints" / "best.ckpt", weights_only=True)[
        "state_dict"
    ]
    names = [name for name in tensors if name.startswith("model.encoder.")]
    assert names
    assert all(torch.equal(tensors[name], tuned[name]) for name in names)  # the rate is 0


def test_pre_training_without_validation_has_no_advice_that_needs_labels(config, command, chips, tmp_path):
    (tmp_path / "all.csv").write_text("chip,split\n" + "".join(f"chip_{n},train\n" for n in range(10)))
    words = ("--config", config, "--data.splits", tmp_path / "all.csv")
    code, out, err = command("pretrain", *words)
    assert code == 0, err
    assert "metrics.json, without scores: there is no validation set\n" in out
    assert "prithvi-tg test" not in out + err
    code, out, err = command("check", *words)
    assert code == 0, err
    assert re.search(r"ok +│ val +│ there is no", out), out
    assert "no chips" not in out


def test_crops_that_are_not_whole_patches_are_found_before_data_are_read(config, command, chips):
    line = "data.crop_size: 40 is not a multiple of the patch of 16 pixels; set it to 32 or 48"
    words = ("--config", config, "--data.crop_size", 40, "--data.images", chips / "gone_*.tif")
    code, _, err = command("pretrain", *words)
    assert (code, err) == (2, f"prithvi-tg: error: --{line}\n")
    code, out, _ = command("check", "--config", config, "--data.crop_size", 40)
    assert code == 1
    assert "data.crop_size: 40 is not a multiple" in " ".join(out.replace("│", " ").split())


def test_validation_windows_that_are_not_whole_patches_are_found_before_training(config, command):
    line = "model.window: 60 is not a multiple of the patch of 16 pixels; set it to 48 or 64"
    code, _, err = command("pretrain", "--config", config, "--model.window", 60)
    assert (code, err) == (2, f"prithvi-tg: error: --{line}\n")


def test_windows_that_are_not_whole_patches_are_refused(scene, tmp_path):
    data = UnlabelledScenesDataModule(
        str(scene), **STATISTICS, window=40, windows_per_epoch=2, split=BlockSplit(64, (1.0, 0.0, 0.0))
    )
    with pytest.raises(ConfigError, match=r"data.window: 40 is not a multiple of the patch of 16 pixels"):
        trainer(tmp_path).fit(make_task(bands=STATISTICS["bands"]), data)


def test_only_a_pre_training_can_be_run(config, command, trained_run):
    code, _, err = command("pretrain", "--config", trained_run / "config.yaml")
    assert code == 2
    assert "PrithviPretrainingTask" in err


@pytest.mark.pictures
def test_statistics_and_checks_need_no_labels(config, command):
    code, out, err = command("stats", "--config", config)
    assert code == 0, err
    assert "class" not in out
    code, out, err = command("check", "--config", config)
    assert code == 0, out
    assert "label" not in out
