"""Files of a model of chip classes: windows with and without a class, replaced files, and tags."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from conftest import TINY
from lightning.pytorch import Trainer
from pyarrow import parquet
from rio_cogeo import cog_validate

from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.mapping import classify_scenes
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ChipClassTarget
from prithvi_tg.tasks import PrithviClassificationTask

CLASSES = ("Water", "Forest", "Bare soil")
SIDE = 32


def task_of(multilabel=False, **inputs):
    torch.manual_seed(0)
    target = ChipClassTarget(CLASSES, ("#0000ff", "#00aa00", "#aa8855"), multilabel)
    spec = DataSpec(InputSpec(PRITHVI_BANDS, (0.1,) * 6, (0.05,) * 6, **inputs), target)
    return PrithviClassificationTask("nano", TINY, data_spec=spec.to_dict()).eval()


def write_scene(path, west=600000, height=64, width=96, nodata=None):
    values = np.random.default_rng(west).normal(0.1, 0.05, (6, height, width)).astype("float32")
    if nodata is not None:
        values[nodata] = -9999
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=6, height=height, width=width, nodata=-9999,
        crs="EPSG:32615", transform=rasterio.Affine(30, 0, west, 0, -30, 4200000),
    ) as out:  # fmt: skip
        out.write(values)
    return path


def write_scl(path, cloudy):
    layer = np.full((64, 96), 4, np.uint8)
    layer[cloudy] = 9
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=64, width=96, crs="EPSG:32615",
        transform=rasterio.Affine(30, 0, 600000, 0, -30, 4200000),
    ) as out:  # fmt: skip
        out.write(layer, 1)
    return path


@pytest.fixture
def checkpoint(tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.strategy.connect(task_of())
    trainer.save_checkpoint(tmp_path / "tiny.ckpt", weights_only=True)
    return tmp_path / "tiny.ckpt"


@pytest.fixture
def predict(checkpoint, command):
    """``prithvi-tg predict`` with the tiny model on the processor."""

    def run(*words):
        return command("predict", *words, "--ckpt_path", checkpoint, "--trainer.accelerator", "cpu")

    return run


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_a_cloudy_window_gets_no_class(tmp_path, predict):
    scene = write_scene(tmp_path / "s.tif")
    clouds = write_scl(tmp_path / "s_SCL.tif", np.s_[:SIDE, : SIDE + 5])
    words = (scene, "--window", SIDE, "--output")
    assert predict(*words, tmp_path / "all")[0] == 0
    code, _, err = predict(*words, tmp_path / "clear", "--quality", clouds, "--qa_mask", "cloud")
    assert code == 0, err
    everywhere, clear = read(tmp_path / "all" / "s_pred.tif")[0], read(tmp_path / "clear" / "s_pred.tif")[0]
    assert (everywhere != 255).all()
    # A partly cloudy window has the class of its remaining pixels.
    np.testing.assert_array_equal(clear == 255, [[True, False, False], [False, False, False]])
    with rasterio.open(tmp_path / "clear" / "s_pred.tif") as file:
        assert file.tags()["masked_classes"] == "cloud"


def test_clouds_become_the_mean_of_the_band_for_the_model(tmp_path):
    scene = write_scene(tmp_path / "s.tif", height=SIDE, width=SIDE)
    clouded = write_scene(tmp_path / "n.tif", height=SIDE, width=SIDE, nodata=np.s_[:, :9])
    layer = np.full((SIDE, SIDE), 4, np.uint8)
    layer[:9] = 9
    with rasterio.open(scene) as source, rasterio.open(
        tmp_path / "SCL.tif", "w", **source.profile | {"count": 1, "dtype": "uint8", "nodata": None}
    ) as out:  # fmt: skip
        out.write(layer, 1)
    quality = {"quality": (str(tmp_path / "SCL.tif"),), "qa_mask": ("cloud",)}
    (masked, _), (missing, _) = (
        classify_scenes(task_of(), path, tmp_path / path.stem, **options)
        for path, options in ((scene, quality), (clouded, {}))
    )
    names = list(CLASSES)
    np.testing.assert_allclose(pd.read_csv(masked)[names], pd.read_csv(missing)[names], rtol=1e-5)


def test_qa_mask_needs_a_quality_layer(tmp_path):
    with pytest.raises(DataError, match="has no quality layer"):
        classify_scenes(task_of(), write_scene(tmp_path / "s.tif"), tmp_path / "o", qa_mask=("cloud",))


def test_a_missing_band_is_nodata_with_the_rule_any(tmp_path):
    scene = write_scene(tmp_path / "s.tif", nodata=np.s_[:1, :SIDE, :SIDE])
    for rule, lacking in (("all", 0), ("any", 1)):
        classify_scenes(task_of(), scene, tmp_path / rule, window=SIDE, nodata_rule=rule)
        assert (read(tmp_path / rule / "s_pred.tif") == 255).sum() == lacking


def test_existing_maps_are_skipped_and_stay_in_the_index(tmp_path, predict):
    first = write_scene(tmp_path / "a.tif")
    words = ("--window", SIDE, "--output", tmp_path / "out")
    assert predict(first, *words)[0] == 0
    before = (tmp_path / "out" / "a_pred.tif").stat().st_mtime_ns
    second = write_scene(tmp_path / "b.tif", west=600000 + 96 * 30)
    code, out, err = predict(first, second, *words, "--skip_existing")
    assert code == 0, err
    assert "Skipped, because it exists" in out
    assert (tmp_path / "out" / "a_pred.tif").stat().st_mtime_ns == before
    both = np.concatenate([read(tmp_path / "out" / f"{name}_pred.tif")[0] for name in "ab"], axis=1)
    np.testing.assert_array_equal(read(tmp_path / "out" / "index_EPSG_32615.vrt")[0], both)
    code, out, err = predict(first, second, *words, "--skip_existing")
    assert code == 0, err
    assert out.count("Skipped, because it exists") == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_pred.qml", "a_pred.tif", "a_pred.tif.aux.xml", "b_pred.qml", "b_pred.tif", "b_pred.tif.aux.xml",
        "index_EPSG_32615.vrt",
    ]  # fmt: skip


def test_a_coarse_map_has_the_form_of_other_class_maps(tmp_path, checkpoint, predict):
    code, _, err = predict(
        write_scene(tmp_path / "s.tif"), "--window", SIDE, "--output", tmp_path / "one.tif"
    )
    assert code == 0, err
    assert cog_validate(tmp_path / "one.tif")[0]
    with rasterio.open(tmp_path / "one.tif") as file:
        tags = file.tags()
        assert file.colormap(1)[1] == (0, 170, 0, 255)
        assert file.tags(1)["CLASS_2"] == "Bare soil"
        assert (file.shape, file.descriptions) == ((2, 3), ("class",))
    assert tags["software"].startswith("prithvi_tg ")
    assert tags["task"].endswith("PrithviClassificationTask")
    assert '"encoder": "nano"' in tags["model"]
    assert tags["windows"] == "window 32, side by side"
    assert {"checkpoint_sha256", "torch", "torchgeo", "precision", "nodata_rule"} <= set(tags)
    assert "<Category>Bare soil</Category>" in (tmp_path / "one.tif.aux.xml").read_text()


def test_the_file_of_outlines_records_software_task_and_windows(tmp_path, predict):
    scene = write_scene(tmp_path / "s.tif", height=SIDE, width=SIDE)
    code, _, err = predict(scene, "--output", tmp_path / "out")
    assert code == 0, err
    metadata = parquet.read_schema(tmp_path / "out" / "chip_classes.parquet").metadata
    assert b"geo" in metadata
    assert metadata[b"software"].startswith(b"prithvi_tg ")
    assert metadata[b"task"].endswith(b"PrithviClassificationTask")
    assert metadata[b"windows"] == b"whole files"


def test_several_classes_per_window_have_one_band_each(tmp_path):
    scene = write_scene(tmp_path / "s.tif", nodata=np.s_[:, :SIDE, :SIDE])
    classify_scenes(task_of(multilabel=True), scene, tmp_path / "m", window=SIDE)
    with rasterio.open(tmp_path / "m" / "s_pred.tif") as file:
        values = file.read()
        assert (file.descriptions, file.count) == (CLASSES, 3)
        assert "software" in file.tags()
    assert np.isnan(values[:, 0, 0]).all()
    assert np.isnan(values).sum() == 3


def test_a_table_is_replaced_only_with_overwrite(tmp_path):
    scene = write_scene(tmp_path / "s.tif", height=SIDE, width=SIDE)
    written = classify_scenes(task_of(), scene, tmp_path / "out")
    before = [path.read_bytes() for path in written]
    with pytest.raises(
        ConfigError, match=r"chip_classes\.\w+: exists; add overwrite=True to replace it, or choose"
    ):
        classify_scenes(task_of(), scene, tmp_path / "out")
    assert [path.read_bytes() for path in written] == before
    unplaced = tmp_path / "plain.tif"
    with (
        rasterio.open(scene) as source,
        rasterio.open(unplaced, "w", **source.profile | {"crs": None, "transform": None}) as out,
    ):
        out.write(source.read())
    with pytest.warns(UserWarning, match="has no georeference"):
        classify_scenes(task_of(), unplaced, tmp_path / "out", overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [
        "chip_classes.csv"
    ]  # no outlines of others


_LOCKED = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"


@pytest.mark.parametrize(("window", "name"), [(None, "chip_classes.csv"), (SIDE, "s_pred.tif")])
def test_files_that_another_process_is_writing_are_an_error_at_once(tmp_path, window, name):
    scene, out = write_scene(tmp_path / "s.tif"), tmp_path / "out"
    out.mkdir()
    lock = (out / f".{name}").with_suffix(".lock")
    holder = [sys.executable, "-c", _LOCKED, lock]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(DataError, match=rf"{name}: another process is writing this (map|table); wait"):
            classify_scenes(task_of(), scene, out, window=window)
        assert list(out.iterdir()) == [lock]
    classify_scenes(task_of(), scene, out, window=window)
    assert (out / name).exists()
    assert not lock.exists()


def test_no_incomplete_file_remains(tmp_path, monkeypatch):
    from prithvi_tg.mapping import chip_classes

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(chip_classes, "write_cog", fail)
    with pytest.raises(DataError, match=r"s_pred\.tif: cannot be written \(disk full\)"):
        classify_scenes(task_of(), write_scene(tmp_path / "s.tif"), tmp_path / "m", window=SIDE)
    assert not list((tmp_path / "m").glob("*.tif"))
    assert not list((tmp_path / "m").glob("*.partial"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--window", SIDE, "--stride", 16),
            "stride: windows that are classified as a whole are adjacent; remove it",
        ),
        (
            ("--window", SIDE, "--blending", "hann"),
            "blending: 'hann': windows that are classified as a whole do not overlap",
        ),
        (("--window", 0), "window: 0 must be 1 or more"),
        (("--batch_size", 0), "batch_size: 0 must be 1 or more"),
        (
            ("--profile", "legacy"),
            "profile: applies to maps of pixels, but this model classifies whole chips",
        ),
        (("--probabilities", "uint8"), "probabilities: applies to maps of pixels"),
        (("--confidence",), "confidence: applies to maps of pixels"),
        (("--vector", "Water"), "vector: applies to maps of pixels"),
        (("--quicklook",), "quicklook: applies to maps of pixels"),
        (("--products", "item"), "products: applies to maps of pixels"),
        (("--nodata_rule", "legacy"), "nodata_rule: 'legacy' applies to maps of pixels; use all or any"),
        (("--skip_existing",), "skip_existing: all chips share one table, chip_classes.csv; remove it"),
        (("--output", "classes.tif"), "output: classes.tif must be a folder, for chip_classes.csv"),
        (("--format", "hls"), "not a scene; expected HLS granules"),
    ],
    ids=lambda value: value[-2 if len(value) > 1 else 0] if isinstance(value, tuple) else "",
)
def test_options_without_effect_are_errors(words, message, tmp_path, predict, monkeypatch):
    scene = write_scene(tmp_path / "s.tif", height=SIDE, width=SIDE)
    monkeypatch.chdir(tmp_path)
    code, _, err = predict(scene, "--output", tmp_path / "out", *words)
    assert code != 0
    assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("trained", "warned"), [(SIDE, True), (64, False), (None, False)])
def test_a_scene_far_larger_than_the_training_chips_is_reported_with_the_window_for_a_map(
    tmp_path, recwarn, trained, warned
):
    classify_scenes(task_of(image_size=trained), write_scene(tmp_path / "s.tif"), tmp_path / "out")
    messages = [str(one.message) for one in recwarn if "classified as one chip" in str(one.message)]
    assert len(messages) == warned
    if warned:
        assert messages[0].endswith("for a map with one class per window, give window=32")
        assert "its 96 x 64 pixels" in messages[0]


def test_windows_that_the_model_pads_are_reported(tmp_path, recwarn):
    classify_scenes(task_of(), write_scene(tmp_path / "s.tif"), tmp_path / "out", window=40)
    (message,) = [str(one.message) for one in recwarn if "patch" in str(one.message)]
    assert message.startswith(
        "window: 40 is not a multiple of the patch, 16, so the model pads each window to 48"
    )
    assert message.endswith("use 32 or 48")
