"""predict, map_scene and other commands with an exported model instead of a checkpoint."""

import pickle

import numpy as np
import pytest
import rasterio
import torch

from prithvi_tg import load_task, map_scene
from prithvi_tg.cli.settings import WEIGHTS
from prithvi_tg.cli.spelling import exported_as_checkpoint
from prithvi_tg.exporting import export_model


@pytest.fixture(scope="module")
def program(trained, tmp_path_factory):
    return export_model(load_task(trained), tmp_path_factory.mktemp("program") / "model.pt2")


def read(path):
    with rasterio.open(path) as file:
        return file.read()


@pytest.mark.parametrize("blending", ["average", "crop"])
def test_maps_of_an_exported_model_equal_those_of_its_checkpoint(
    blending, program, trained, flood_root, tmp_path, command
):
    more = ("--blending", blending, "--probabilities", "float32", "--nodata_rule", "any")
    scene = flood_root / "scene.tif"
    assert command("predict", scene, "--model", program, "--output", tmp_path / "a", *more)[0] == 0
    assert command("predict", scene, f"--ckpt_path={trained}", "--output", tmp_path / "b", *more)[0] == 0
    np.testing.assert_array_equal(
        read(tmp_path / "a" / "scene_pred.tif"), read(tmp_path / "b" / "scene_pred.tif")
    )
    probabilities = [read(tmp_path / folder / "scene_probabilities.tif") for folder in "ab"]
    np.testing.assert_allclose(*probabilities, atol=1e-4)
    assert len(np.unique(probabilities[0])) > 100


def test_an_exported_model_maps_in_mixed_precision(program, trained, flood_root, tmp_path, command):
    more = ("--trainer.precision", "bf16-mixed", "--probabilities", "float32")
    found = []
    for folder, model in (("a", program), ("b", trained)):
        path = tmp_path / folder
        assert (
            command("predict", flood_root / "scene.tif", "--ckpt_path", model, "--output", path, *more)[0]
            == 0
        )
        found.append(read(path / "scene_probabilities.tif"))
    np.testing.assert_allclose(*found, atol=0.03)


def test_map_scene_takes_an_exported_model(program, trained, flood_root, tmp_path):
    maps = [
        map_scene(model, flood_root / "scene.tif", tmp_path / f"{number}.tif")
        for number, model in enumerate((program, trained))
    ]
    np.testing.assert_array_equal(*map(read, maps))


def test_other_windows_than_those_of_the_program_are_an_error(program, flood_root, command):
    code, _, err = command("predict", flood_root / "scene.tif", "--model", program, "--window", 64)
    assert code == 2
    assert "window: the exported model takes images of 32 x 32 pixels, not 64 x 64" in err


def test_an_exported_model_has_no_features(program, flood_root, tmp_path, command):
    code, _, err = command(
        "embed", flood_root / "scene.tif", "--output", tmp_path / "a.tif", "--ckpt_path", program
    )
    assert code == 2
    assert "is an exported model, which returns no features" in err


def test_an_exported_model_is_not_exported_again(program, tmp_path, command):
    code, _, err = command("export", program, tmp_path / "again.onnx")
    assert code == 2
    assert "is already an exported model" in err


def test_a_missing_model_is_an_error(flood_root, tmp_path, command):
    code, _, err = command("predict", flood_root / "scene.tif", "--model", tmp_path / "no.pt2")
    assert code == 1
    assert "no.pt2: no such file" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--model",),
            "is a file of weights, but fit needs the class of a task or a configuration, --config FILE",
        ),
        (("--ckpt_path",), "is an exported program, which only predicts; give the checkpoint"),
        (("--model.weights",), "is an exported program, which only predicts; give the checkpoint"),
    ],
)
def test_an_exported_model_is_not_trained(words, message, program, config, command):
    code, _, err = command("fit", "--config", config, *words, program)
    assert code in (1, 2)
    assert message in err


def test_an_exported_model_is_loaded_again_in_processes_that_are_spawned(program):
    task = load_task(program)
    again = pickle.loads(pickle.dumps(task))  # noqa: S301 (written here)
    image = torch.rand(1, 1, 6, 32, 32)
    torch.testing.assert_close(again.model(image), task.model(image))
    assert again.data_spec == task.data_spec


def test_an_exported_model_does_not_fit_a_configuration(program, config, command):
    code, _, err = command("test", "--config", config, "--ckpt_path", program)
    assert code == 1
    assert "is an exported program, which only predicts" in err


@pytest.mark.parametrize("option", ["--model", "--ckpt_path"])
def test_exported_weights_map_and_onnx_is_an_error_that_names_what_is_accepted(
    option, trained, program, flood_root, tmp_path, command
):
    weights = export_model(load_task(trained), tmp_path / "model.safetensors")
    scene = flood_root / "scene.tif"
    assert command("predict", scene, option, weights, "--output", tmp_path / "maps")[0] == 0
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    code, _, err = command("predict", scene, option, tmp_path / "model.onnx", "--output", tmp_path / "more")
    assert code == 1
    assert err.strip().endswith(
        "model.onnx: ONNX is for other programs; give a checkpoint (.ckpt), exported weights (.safetensors) or an "
        "exported program (.pt2)"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a.tif", "--model", "m.pt2"], ["a.tif", "--ckpt_path=m.pt2"]),
        (["--model=m.pt2", "a.tif"], ["--ckpt_path=m.pt2", "a.tif"]),
        (["--model", "m.safetensors"], ["--ckpt_path=m.safetensors"]),
        (["--model", "MyTask", "--model.help"], ["--model", "MyTask", "--model.help"]),
        (["--model", "MyTask", "a.pt2"], ["--model", "MyTask", "a.pt2"]),
    ],
)
def test_only_an_exported_model_replaces_the_checkpoint(words, expected):
    assert exported_as_checkpoint(words, WEIGHTS) == expected
