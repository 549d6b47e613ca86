"""Code and files of the previous release keep working: modules, names, arguments, configurations, checkpoints."""

import importlib
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from rasterio.transform import Affine

import prithvi_tg
from prithvi_tg import load_task, map_scene
from prithvi_tg.__main__ import main
from prithvi_tg.augmentations import ChipAugmentation
from prithvi_tg.deprecated import KEYS, MODULES, NAMES, current_record, current_words
from prithvi_tg.readers.grid import Grid
from prithvi_tg.samplers import RandomWindowGeoSampler
from prithvi_tg.tasks import PrithviSegmentationTask

BEFORE = Path(__file__).parent / "compatibility"


@pytest.mark.parametrize("old", MODULES)
def test_old_modules_are_imported_with_a_warning(old):
    with pytest.warns(FutureWarning, match=MODULES[old]):
        module = importlib.import_module(old)
    home = importlib.import_module(MODULES[old])
    public = next(
        name for name, value in vars(home).items() if getattr(value, "__module__", "") == home.__name__
    )
    assert getattr(module, public) is getattr(home, public)
    sys.modules.pop(old)


@pytest.mark.parametrize(("module", "old"), [(module, old) for module in NAMES for old in NAMES[module]])
def test_old_names_are_the_new_objects(module, old):
    home, _, new = NAMES[module][old].partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert getattr(importlib.import_module(module), old) is getattr(importlib.import_module(home), new)


def test_an_unknown_name_is_still_an_error():
    with pytest.raises(AttributeError, match="prithvi_tg"):
        prithvi_tg.nothing_of_this_name  # noqa: B018


def test_the_old_argument_of_the_window_sampler_sets_the_rois_of_periods():
    grid = Grid(None, Affine(1, 0, 0, 0, -1, 64), 64, 64)
    roi = shapely.box(0, 0, 64, 64)
    with pytest.warns(FutureWarning, match="use period_rois"):
        sampler = RandomWindowGeoSampler(grid, roi, 32, 4, grounds=[roi])
    assert sampler.period_rois.tolist() == [roi]


def test_old_arguments_of_classes_and_functions_are_accepted(tiny_task, flood_root, tmp_path):
    with pytest.warns(FutureWarning, match="flips_and_turns"):
        augmentation = ChipAugmentation([0.0], [1.0], flips_and_turns=True)
    assert augmentation.augment is not None
    with pytest.warns(FutureWarning, match="first_blocks"):
        task = PrithviSegmentationTask(
            encoder="nano",
            encoder_args={"width": 32, "depth": 1, "num_heads": 2},
            num_classes=2,
            first_blocks=True,
        )
    assert task.hparams["truncate_depth"] is True
    with (
        pytest.warns(FutureWarning, match="mask"),
        pytest.raises(prithvi_tg.PrithviTGError, match="data_spec"),
    ):
        map_scene(tiny_task, flood_root / "scene.tif", tmp_path / "map.tif", mask=())


class Further(PrithviSegmentationTask):
    """A subclass with an argument of its own."""

    def __init__(self, extra: int = 1, **kwargs: object) -> None:
        super().__init__(**kwargs)


def test_arguments_of_subclasses_are_still_collected():
    task = Further(
        extra=3, encoder="nano", encoder_args={"width": 32, "depth": 1, "num_heads": 2}, num_classes=2
    )
    assert task.hparams["extra"] == 3


@pytest.mark.parametrize("name", ["chips", "scenes", "scenes_last", "adapters"])
def test_checkpoints_written_before_give_the_same_logits(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        task = load_task(BEFORE / f"{name}.ckpt")
    image = torch.randn(1, 1, 6, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = task(image)[0].numpy()
    np.testing.assert_allclose(logits, np.load(BEFORE / "logits.npz")[name], atol=1e-5)
    assert task.class_names == ["No water", "Water"]


@pytest.mark.parametrize("name", ["chips", "scenes"])
def test_configurations_written_before_run(name, flood_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(flood_root)
    shutil.copy(BEFORE / f"{name}.yaml", tmp_path / "old.yaml")
    with pytest.warns(FutureWarning, match="random_flip_rot90"):
        assert main(["test", "--config", "old.yaml", "--ckpt_path", str(BEFORE / f"{name}.ckpt")]) == 0


def test_a_run_started_before_is_resumed(flood_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(flood_root)
    before = tmp_path / "runs_scenes" / "version_0" / "checkpoints"
    before.mkdir(parents=True)
    shutil.copy(BEFORE / "scenes.ckpt", before / "best.ckpt")
    shutil.copy(BEFORE / "scenes_last.ckpt", before / "last.ckpt")
    words = ["fit", "--config", str(BEFORE / "scenes.yaml"), "--ckpt_path", str(before / "last.ckpt")]
    assert main([*words, "--trainer.max_epochs", "2"]) == 0
    last = torch.load(tmp_path / "runs_scenes" / "version_1" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 1
    assert last["hyper_parameters"]["data_spec"]["target"]["kind"] == "classes"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data.flips_and_turns", "false"], ["--data.random_flip_rot90", "false"]),
        (["--model.init_args.first_blocks=true"], ["--model.init_args.truncate_depth=true"]),
        (["--mask", "cloud"], ["--qa_mask", "cloud"]),
        (["--data.mask=[cloud]"], ["--data.qa_mask=[cloud]"]),
        (["--output", "mask"], ["--output", "mask"]),
        (["--trainer.max_epochs", "1"], ["--trainer.max_epochs", "1"]),
    ],
)
def test_old_options_are_converted_to_new_ones(words, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert current_words(words) == expected


def test_every_old_key_has_a_new_one_that_differs():
    assert not set(KEYS) & set(KEYS.values())


def test_records_written_before_are_read_under_the_new_keys():
    record = {"run": {"training": {"epochs": 2, "goes_on": [{"folder": "version_0", "epoch": 1}]}}}
    training = current_record(record)["run"]["training"]
    assert training == {"epochs": 2, "resumed_from": [{"folder": "version_0", "epoch": 1}]}
