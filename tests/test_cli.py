import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from conftest import TINY
from safetensors.torch import save_file

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11, __version__


@pytest.mark.pictures
def test_fit_test_and_predict_agree_from_one_file(config, command, trained, flood_root, tmp_path):
    code, out, err = command("test", "--config", config, "--ckpt_path", trained)
    assert code == 0, err
    assert "Water" in out
    record = json.loads((tmp_path / "runs" / "version_0" / "metrics.json").read_text())

    folder = flood_root / Sen1Floods11.folder
    scene = folder / "S2Hand" / "Synthetic_0001_S2Hand.tif"
    code, out, err = command(
        "predict", "--ckpt_path", trained, scene, "--output", tmp_path / "maps", "--quicklook"
    )
    assert code == 0, err
    with rasterio.open(tmp_path / "maps" / "Synthetic_0001_S2Hand_pred.tif") as file:
        classes = file.read(1)
        assert file.tags()["software"] == f"prithvi_tg {__version__}"
    with rasterio.open(folder / "LabelHand" / "Synthetic_0001_LabelHand.tif") as file:
        label = file.read(1)
    hit = ((classes == 1) & (label == 1)).sum()
    either = (((classes == 1) | (label == 1)) & (label >= 0)).sum()
    assert record["per_class"]["Water"]["IoU"] == pytest.approx(hit / either, abs=1e-12)
    assert np.sum(record["confusion_matrix"]["counts"]) == (label >= 0).sum()
    assert (tmp_path / "maps" / "Synthetic_0001_S2Hand_pred.png").stat().st_size > 1000
    written = [line.split()[-1] for line in out.splitlines() if line.startswith("Written:")]
    stem = "Synthetic_0001_S2Hand_pred"
    names = [f"{stem}.{end}" for end in ("png", "tif.aux.xml", "qml", "json", "tif")]
    assert sorted(Path(path).name for path in written[:-2]) == sorted(names[:-1])
    assert [Path(path).name for path in written[-2:]] == [
        names[-1],
        "index_EPSG_4326.vrt",
    ]  # the map comes last
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(
        [*names, "index_EPSG_4326.vrt"]
    )

    code, _, err = command("predict", "--ckpt_path", trained, scene, "--output", tmp_path / "maps")
    assert code == 2
    assert "exists; add --overwrite" in err


def test_validate_prints_a_table(config, command, trained):
    code, out, err = command("validate", "--config", config, "--ckpt_path", trained)
    assert code == 0, err
    assert "val, per cent" in out


def test_a_run_can_be_resumed_from_its_last_checkpoint(config, command, trained, tmp_path):
    last = trained.with_name("last.ckpt")
    code, _, err = command("fit", "--config", config, "--ckpt_path", last, "--trainer.max_epochs", 2)
    assert code == 0, err
    last_of_second = tmp_path / "runs" / "version_0" / "checkpoints" / "last.ckpt"
    assert torch.load(last_of_second, weights_only=True)["epoch"] == 1
    code, _, err = command("fit", "--config", config, "--ckpt_path", trained)
    assert code == 1
    assert "holds no optimiser state, so fit cannot resume from it" in err


def foreign_weights(tmp_path, kind):
    torch.manual_seed(0)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, window=32
    )
    if kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(task.model.state_dict(), path)
    else:
        path = tmp_path / "weights.pth"
        tensors = {k.replace("encoder.", "backbone.", 1): v for k, v in task.model.state_dict().items()}
        torch.save({"meta": {"CLASSES": (0, 1), "lr": np.float64(0.1)}, "state_dict": tensors}, path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "mmseg"])
def test_weights_of_other_projects_are_loaded_with_a_configuration(
    config, command, flood_root, tmp_path, kind
):
    weights = foreign_weights(tmp_path, kind)
    code, out, err = command("test", "--config", config, "--ckpt_path", weights)
    assert code == 0, err
    assert "weight tensors loaded" in out
    scene = flood_root / "scene.tif"
    code, out, err = command(
        "predict",
        "--config",
        config,
        "--ckpt_path",
        weights,
        scene,
        "--output",
        tmp_path,
        "--profile",
        "legacy",
    )
    assert code == 0, err
    with rasterio.open(tmp_path / "scene_pred.tif") as file, rasterio.open(scene) as source:
        assert (file.dtypes[0], file.nodata, file.compression.value) == ("int16", -1, "LZW")
        np.testing.assert_array_equal(file.read(1) == -1, (source.read() == 0).any(axis=0))
    code, _, err = command("predict", "--ckpt_path", weights, scene, "--output", tmp_path / "again")
    assert code == 1
    assert "does not describe its model; give the configuration" in err


def test_an_integer_limit_is_not_converted_to_a_float(config, command, tmp_path):
    settings = yaml.safe_load(config.read_text())
    settings["trainer"]["limit_val_batches"] = 1
    settings["trainer"]["limit_train_batches"] = 1.0
    config.write_text(yaml.safe_dump(settings))
    assert command("fit", "--config", config)[0] == 0
    saved = yaml.safe_load((tmp_path / "runs" / "version_0" / "config.yaml").read_text())
    assert type(saved["trainer"]["limit_val_batches"]) is int
    assert type(saved["trainer"]["limit_train_batches"]) is float


def test_the_saved_configuration_runs_again_and_names_what_it_writes(command, trained_run, tmp_path):
    saved = trained_run / "config.yaml"
    code, out, err = command("fit", "--config", saved, "--trainer.default_root_dir", tmp_path)
    assert code == 0, err
    assert "Written:" in out
    assert str(tmp_path / "version_0" / "checkpoints" / "best.ckpt") in out


def assert_one_line(err, *words):
    lines = [line for line in err.splitlines() if line.startswith("prithvi-tg: error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--data.classes", "{0: A}", "classes: not accepted here; it is a key of ChipFolderDataModule"),
        ("--model.encoder.width", "3", "encoder: {width: '3'} is not text"),
        ("--model.zzz.width", "{0: A}", "zzz: unknown key; prithvi-tg fit --model.help CLASS"),
        ("--data.zzz", "{a: 3}", "zzz: unknown key; prithvi-tg fit --model.help CLASS"),
        ("--data.batch_size", "{a: 3}", "batch_size: {'a': 3} is not a whole number"),
        (
            "--data.split",
            "test",
            "split: not accepted here; did you mean test_split or splits? split is a key",
        ),
    ],
)
def test_an_option_for_a_key_of_a_class_names_the_key(config, command, option, value, message):
    code, _, err = command("check", "--config", config, option, value)
    assert code == 2
    assert_one_line(err, f"error: {message}")


class DiceShare(PrithviSegmentationTask):
    def __init__(self, *args, dice_share: float = 0.5, **kwargs):
        super().__init__(*args, **kwargs)


def test_a_misspelt_key_of_a_users_class_is_corrected_from_its_own_keys(config, command):
    code, _, err = command(
        "fit", "--config", config, "--model", f"{__name__}.DiceShare", "--model.dice_shar", 1
    )
    assert code == 2
    assert_one_line(err, "dice_shar: unknown key; did you mean dice_share? It is a key of DiceShare")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lr:", "lrr:", ("lrr: unknown key; did you mean lr? It is a key of PrithviSegmentationTask",)),
        ("lr:", "learning_rate:", ("learning_rate: unknown key; did you mean lr? It is a key of Prithvi",)),
        ("lr:", "zzz:", ("zzz: unknown key; prithvi-tg fit --model.help CLASS and --data.help CLASS list",)),
        (
            "batch_size: 2",
            "class_frequencies: {Dry land: 1}",
            ('"Dry land": unknown key; keys have no spaces',),
        ),
        ("batch_size: 2", "bands: [NIR]", ("did you mean NIR_BROAD or NIR_NARROW?",)),
        ("max_epochs:", "max_epocs:", ("trainer.max_epocs: unknown key", "did you mean max_epochs?")),
        ("data:", "daat:", ("daat", "did you mean data?")),
        ("max_epochs: 1", "max_epochs: many", ("trainer.max_epochs: many is not a whole number",)),
        ("lr: 1.0e-3", "lr: fast", ("lr: fast is not a number",)),
        ("lr: 1.0e-3", "optimizer: sgd", ("optimizer: 'sgd' is unknown; choose from adamw, adam",)),
        (
            "PrithviSegmentationTask",
            "PrithviSegmentation",
            ("model: unknown class 'PrithviSegmentation'", "PrithviSegmentationTask"),
        ),
        ("encoder: nano", "encoder: pico", ("encoder: 'pico' is unknown; choose from nano",)),
        ("batch_size: 2", "bands: [BLUE, B99]", ("bands: 'B99' is unknown", "choose from")),
        ("batch_size: 2", "scale: 2", ("scale: not accepted here; it is a key of ", "ChipFolderDataModule")),
        (
            "batch_size: 2",
            "split: train",
            ("split: not accepted here; did you mean test_split or splits? split is a key of ",),
        ),
        (
            "batch_size: 2",
            "classes: {0: A}",
            ("error: classes: not accepted here; it is a key of ChipFolder",),
        ),
        ("batch_size: 2", "batch_size: {a: 2}", ("error: batch_size: {'a': 2} is not a whole number",)),
        ("batch_size: 2", "batch_size: ''", ("error: batch_size: nothing is not a whole number",)),
        (
            "lr:",
            "lora:",
            ("lora: unknown key; did you mean lora_rank? It is a key of PrithviSegmentationTask",),
        ),
        (
            "lr:",
            "lora_targets: qkv,proj\n    lr:",
            ("lora_targets: qkv,proj is not a list; write '[qkv,proj]'",),
        ),
        ("batch_size: 2", "batch_size: 9", ("batch_size: 9 is larger than",)),
        (
            "batch_size: 2",
            "window: 9",
            ("window: not accepted here; the key of Sen1Floods11DataModule is crop_size",),
        ),
        ("batch_size: 2", "windows_per_epoch: 9", ("Sen1Floods11DataModule is crops_per_chip",)),
    ],
)
def test_an_invalid_configuration_gives_one_line_and_exit_code_2(config, command, old, new, words):
    config.write_text(config.read_text().replace(old, new, 1))
    code, _, err = command("fit", "--config", config)
    assert code == 2
    assert_one_line(err, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fit",), ("error: data, model: not given; give a configuration, --config FILE",)),
        (("fit", "--config", "gone.yaml"), ("config: ", "gone.yaml: no such file")),
        (
            ("fit", "--data", "ChipDataModule", "--data.dataset_class", "pathlib.Path"),
            ("pathlib.Path is not a ChipDataset; derive it from prithvi_tg.datasets.ChipDataset",),
        ),
        (
            ("fit", "--data", "pathlib.Path"),
            ("pathlib.Path is not a BaseDataModule; derive it from torchgeo.datamodules",),
        ),
        (
            ("fit", "--data.help", "TemporalComposite"),
            ("unknown class 'TemporalComposite'", "choose from Chip"),
        ),
        (("predict",), ("scenes: none given; name one or more",)),
        (("predict", "scene.tif"), ("ckpt_path: not given; predict needs trained weights",)),
        (("synthetic",), ()),
        (("train",), ("unknown command 'train'",)),
    ],
)
def test_an_invalid_command_line_gives_exit_code_2(command, arguments, words):
    code, _, err = command(*arguments)
    assert code == 2
    assert all(word in err for word in words)
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_help_shows_no_code_and_explains_ckpt_path_of_the_command(command, name):
    code, out, _ = command(name, "--help")
    assert code == 0
    assert "functools" not in out
    assert "__main__.py" not in out
    assert "previous trainer" not in out
    assert ("The last.ckpt of a run to resume" if name == "fit" else "in any published format") in out


def test_help_of_check_and_synthetic_states_what_they_do(command):
    _, out, _ = command("check", "--help")
    assert "--skip_bad Skip chips that cannot be read" in " ".join(out.split())
    assert "not used" not in out
    assert "at least 6" in command("synthetic", "--help")[1]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("PolygonSplit", "{path: absent.gpkg}"),
        ("TimeSplit", "{train: [2018-01-01, 2018-12-31], val: [2019-01-01, 2019-12-31]}"),
    ],
)
def test_every_kind_of_split_can_be_named_in_a_configuration(command, tmp_path, kind, arguments):
    path = tmp_path / "split.yaml"
    path.write_text(
        "data: {init_args: {split: {class_path: prithvi_tg.datamodules.scene_splits."
        f"{kind}, init_args: {arguments}}}, images: absent.tif}}}}"
    )
    shipped = Path(__file__).parents[1] / "configs" / "scenes.yaml"
    runs = f"--trainer.default_root_dir={tmp_path / 'runs'}"
    code, _, err = command("fit", "--config", shipped, "--config", path, runs)
    assert code == 1
    assert_one_line(err, "absent.tif", "no such file")


def damage_mask(folder):
    (folder / "LabelHand" / "Synthetic_0003_LabelHand.tif").unlink()


def damage_bands(folder):
    path = folder / "S2Hand" / "Synthetic_0003_S2Hand.tif"
    with rasterio.open(path) as source:
        values, profile = source.read([1, 2, 3]), source.profile | {"count": 3}
    with rasterio.open(path, "w", **profile) as out:
        out.write(values)


def damage_file(folder):
    (folder / "S2Hand" / "Synthetic_0003_S2Hand.tif").write_bytes(b"II*\0 and then nothing")


def damage_label(folder):
    path = folder / "LabelHand" / "Synthetic_0003_LabelHand.tif"
    with rasterio.open(path, "r+") as file:
        file.write(np.full((1, *file.shape), 5, "int16"))


def damage_all(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_mask, ("Synthetic_0003_LabelHand.tif: no such file", "the label file of chip")),
        (damage_bands, ("Synthetic_0003_S2Hand.tif: has 3 bands, but 13 are expected",)),
        (damage_file, ("Synthetic_0003_S2Hand.tif: not a readable raster",)),
        (damage_label, ("Synthetic_0003_LabelHand.tif: label 5 (4096 pixels) is not one of the 2 classes",)),
        (damage_all, ("S2Hand: contains no chips",)),
    ],
)
def test_bad_data_give_one_line_and_exit_code_1(
    config, command, flood_root, tmp_path, damage, words, workers
):
    root = shutil.copytree(flood_root, tmp_path / "damaged")
    damage(root / Sen1Floods11.folder)
    # A batch of all three training chips, so that the damaged one is among them.
    data = ("--data.root", root, "--data.num_workers", workers, "--data.batch_size", 3)
    code, _, err = command("fit", "--config", config, *data)
    assert code == 1
    assert_one_line(err, *words)


def test_a_corrupt_scene_gives_one_line_and_exit_code_1(command, trained, tmp_path):
    (tmp_path / "scene.tif").write_bytes(b"II*\0 and then nothing")
    code, _, err = command(
        "predict", "--ckpt_path", trained, tmp_path / "scene.tif", "--output", tmp_path / "maps"
    )
    assert code == 1
    assert_one_line(err, "scene.tif: not a readable raster")
    assert not list(tmp_path.glob("maps/*"))


def test_a_checkpoint_of_other_data_is_an_error_of_one_line(config, command, trained):
    bands = ("--data.bands", "[GREEN, BLUE, RED, NIR_NARROW, SWIR_1, SWIR_2]")
    code, _, err = command("test", "--config", config, "--ckpt_path", trained, *bands)
    assert code == 1
    assert_one_line(err, "best.ckpt", "trained with bands", "GREEN")


def test_weights_of_another_architecture_are_an_error_of_one_line(config, command, tmp_path):
    weights = foreign_weights(tmp_path, "mmseg")
    code, _, err = command(
        "test", "--config", config, "--ckpt_path", weights, "--model.encoder_args", "{width: 64, depth: 2}"
    )
    assert code == 1
    assert_one_line(err, "weights.pth: different architecture", "(1, 1, 32)", "(1, 1, 64)")


@pytest.mark.parametrize(
    "arguments",
    [["-m", "prithvi_tg", "--help"], ["-m", "prithvi_tg", "--version"], ["-c", "import prithvi_tg"]],
)
def test_help_version_and_import_take_less_than_a_second(arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, as other tests run at the same time.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    if "--help" in arguments:
        assert all(word in out for word in ("fit", "test", "predict"))
    if "--version" in arguments:
        assert out.strip() == f"prithvi-tg {__version__}"


def test_importing_the_package_is_light_keeps_precision_and_resolves_every_name():
    code = (
        "import sys, prithvi_tg; "
        "assert not {'torch', 'lightning', 'torchgeo', 'numpy'} & set(sys.modules); "
        "import torch; before = torch.get_float32_matmul_precision(), torch.get_default_dtype(); "
        "[getattr(prithvi_tg, name) for name in prithvi_tg.__all__]; "
        "import prithvi_tg.cli.lightning, prithvi_tg.tasks, prithvi_tg.mapping, prithvi_tg.datamodules; "
        "assert before == (torch.get_float32_matmul_precision(), torch.get_default_dtype()), before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_installed_command_runs():
    out = subprocess.run(["prithvi-tg", "--version"], check=True, capture_output=True, text=True).stdout
    assert __version__ in out


@pytest.mark.parametrize("name", ["fit", "stats"])
def test_the_help_of_a_class_names_its_command_and_is_plain_text(command, monkeypatch, name):
    words = (name, "--data.help", "ChipFolderDataModule")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/__main__.py", *words])
    code, out, err = command(*words)
    assert code == 0, err
    assert out.startswith(f"usage: prithvi-tg {name} ")
    assert "val (may be absent)" in " ".join(out.split())
    assert "``" not in out
