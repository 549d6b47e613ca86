"""Exported models: the function of a task in a file, equal to the task, with its description."""

import json
import re
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_models import CLASSES, MODELS, build, expected, inputs_of
from torch import nn

from prithvi_tg import load_task
from prithvi_tg.errors import ConfigError
from prithvi_tg.exporting import EXPORT_FORMATS, export_model, item_path
from prithvi_tg.models import token_map
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ChipClassTarget
from prithvi_tg.tasks import PrithviClassificationTask


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Path of the program of one of `MODELS`; read only."""

    @cache
    def path(name):
        return export_model(MODELS[name](), tmp_path_factory.mktemp("exported") / "model.pt2", window=32)

    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_program_equals_the_task_for_any_batch_size(name, exported):
    task = MODELS[name]()
    program = torch.export.load(exported(name)).module()
    for batch in (1, 2, 5):
        inputs = inputs_of(task, batch)
        torch.testing.assert_close(program(*inputs.values()), expected(task, inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.version_independent
@pytest.mark.parametrize("name", ["published, places and dates", "fpn", "values", "classes of chips"])
def test_onnx_equals_the_task_for_any_batch_size(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    task = MODELS[name]()
    path = export_model(task, tmp_path / "model.onnx", window=32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        inputs = inputs_of(task, batch)
        (outputs,) = session.run(None, {key: value.numpy() for key, value in inputs.items()})
        np.testing.assert_allclose(outputs, expected(task, inputs), atol=1e-4, rtol=1e-4)
    description = json.loads(session.get_modelmeta().custom_metadata_map["prithvi_tg.json"])
    assert DataSpec.from_dict(description["hyper_parameters"]["data_spec"]) == task.data_spec
    assert description["window"] == 32


@pytest.mark.parametrize("name", ["published, places and dates", "values", "classes of chips"])
def test_a_program_loads_as_a_task_that_predicts(name, exported):
    task = MODELS[name]()
    loaded = load_task(exported(name))
    assert isinstance(loaded, type(task))
    assert loaded.model.window == 32
    assert loaded.data_spec == task.data_spec
    assert loaded.target_kind == task.target_kind
    inputs = inputs_of(task, 3)
    batch = inputs | {"image": task.data_spec.input.normalize(inputs["image"]).nan_to_num(0)}
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.predict_step(batch, 0), task.predict_step(batch, 0), atol=1e-4, rtol=1e-4
        )


def test_unknown_places_and_dates_can_be_left_out_of_a_batch(exported):
    task = MODELS["published, places and dates"]()
    loaded = load_task(exported("published, places and dates"))
    image = torch.randn(2, 2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), task(image), atol=1e-4, rtol=1e-4)


def test_a_program_takes_images_of_its_window_only(tmp_path):
    loaded = load_task(export_model(MODELS["linear"](), tmp_path / "model.pt2"))
    with pytest.raises(ConfigError, match="32 x 32 pixels, not 48 x 48"):
        loaded(torch.zeros(1, 1, 3, 48, 48))


def test_a_program_runs_on_the_device_of_its_images(exported):
    loaded = load_task(exported("published, places and dates"))
    image = torch.zeros(3, 2, 3, 32, 32)
    assert loaded(image).device.type == "cpu"
    outputs = loaded.to("meta")(image.to("meta"))
    assert (outputs.device.type, outputs.shape) == ("meta", (3, 3, 32, 32))


def test_weights_without_a_description_of_data_have_no_item(tiny_task, tmp_path):
    export_model(tiny_task, tmp_path / "weights.safetensors")
    assert [one.name for one in tmp_path.iterdir()] == ["weights.safetensors"]
    (tmp_path / "other").touch()  # others may read the weights as any new file
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    with pytest.raises(ConfigError, match="no description of its data"):
        export_model(tiny_task, tmp_path / "model.pt2")


@pytest.mark.version_independent
@pytest.mark.parametrize(
    ("targets", "suffix"), [(["qkv", "proj"], ".pt2"), (["query", "value", "mlp"], ".onnx")]
)
def test_adapters_are_merged(targets, suffix, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime") if suffix == ".onnx" else None
    task = build(CLASSES, decoder="linear", lora_rank=2, lora_targets=targets)
    inputs = inputs_of(task, 2)
    without = expected(task, inputs)
    for name, parameter in task.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    adapted = expected(task, inputs)
    assert (adapted - without).abs().max() > 5e-3
    path = export_model(task, tmp_path / f"model{suffix}", window=32)
    if onnxruntime is None:
        program = torch.export.load(path)
        assert not any("lora" in name for name in program.state_dict)
        outputs = program.module()(*inputs.values()).numpy()
    else:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert b"lora" not in path.read_bytes().replace(b'"lora_', b"")  # the description names its arguments
        (outputs,) = session.run(None, {key: value.numpy() for key, value in inputs.items()})
    np.testing.assert_allclose(outputs, adapted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(expected(task, inputs), adapted)  # the task keeps its adapters


def test_a_program_does_not_name_files_of_the_machine(exported):
    with zipfile.ZipFile(exported("linear")) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".json"))
    assert re.findall(rb"[\w./-]*\.py\b", text) == []


def test_a_model_that_cannot_be_traced_is_a_clear_error(tmp_path):
    task = MODELS["linear"]()
    block = task.model.encoder.blocks[0]
    forward = block.forward
    block.forward = lambda tokens: forward(tokens) * (1 if tokens.sum() > 0 else 2)
    parts = r"\(PrithviSegmentationTask, encoder PrithviViT, decoder \w+\)"
    with pytest.raises(
        ConfigError, match=rf"torch.export does not support it {parts}: .*; export the weights"
    ):
        export_model(task, tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


class BranchingNeck(nn.Module):
    def __init__(self, encoder, num_frames, channels):
        super().__init__()
        self.out_channels = encoder.embed_dim * num_frames

    def forward(self, tokens, grid):
        features = token_map(tokens, grid)
        return features * 2 if features.mean() > 0 else features


def test_the_line_of_a_decoder_that_cannot_be_traced_is_named_without_a_listing_of_the_graph(tmp_path, capfd):
    task = build(CLASSES, decoder=f"{__name__}.BranchingNeck")
    with pytest.raises(ConfigError) as caught:
        export_model(task, tmp_path / "model.pt2", window=32)
    (line,) = str(caught.value).splitlines()
    assert "decoder BranchingNeck): " in line
    assert re.search(
        rf"at {Path(__file__).name}, line \d+ \(return features \* 2 if features.mean\(\) > 0 else features\);",
        line,
    )
    assert capfd.readouterr().err == ""


def test_a_batch_size_that_becomes_constant_is_an_error(tmp_path):
    task = MODELS["linear"]()
    block = task.model.encoder.blocks[0]
    forward = block.forward
    block.forward = lambda tokens: forward(tokens) * len(tokens)
    with pytest.raises(ConfigError, match=r"torch\.export does not support it"):
        export_model(task, tmp_path / "model.pt2")


@pytest.mark.parametrize("suffix", [".pt2", ".safetensors"])
def test_existing_files_are_not_replaced_unasked(suffix, tmp_path):
    task = MODELS["linear"]()
    path = tmp_path / f"model{suffix}"
    item_path(path).write_text("{}")
    with pytest.raises(ConfigError, match=r"\.json: exists; add overwrite=True"):
        export_model(task, path)
    assert not path.exists()
    export_model(task, path, overwrite=True)
    with pytest.raises(ConfigError, match="exists; add overwrite=True"):
        export_model(task, path)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([path.name, f"{path.name}.json"])


def test_an_unknown_suffix_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in .pt2, .onnx, .safetensors"):
        export_model(MODELS["linear"](), tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("image_size", "given", "side"), [(48, None, 48), (None, None, 224), (48, 32, 32), (48, 40, 40)]
)
def test_a_classifier_is_exported_for_the_size_of_its_training_chips_and_says_so(
    image_size, given, side, tmp_path, caplog, recwarn, monkeypatch
):
    sides = []

    def write(task, path, window):
        path.touch()
        sides.append(window)

    monkeypatch.setitem(EXPORT_FORMATS, ".pt2", replace(EXPORT_FORMATS[".pt2"], write=write))
    spec = DataSpec(
        InputSpec(("RED",), (0.1,), (0.1,), image_size=image_size), ChipClassTarget(("land", "water"))
    )
    task = PrithviClassificationTask(
        "nano", {"width": 32, "depth": 1, "num_heads": 2}, data_spec=spec.to_dict(), bands=["RED"]
    )
    with caplog.at_level("INFO", logger="prithvi_tg"):
        export_model(task, tmp_path / "model.pt2", window=given)
    assert sides == [side]
    assert f"Exporting for images of {side} x {side} pixels" in caplog.text
    assert any("not a multiple of the patch" in str(one.message) for one in recwarn) == (side == 40)
