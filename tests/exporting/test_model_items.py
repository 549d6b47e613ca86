"""The STAC item of an exported model reads back through pystac's classes."""

import hashlib

import pystac
import pytest
from exported_models import MODELS
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import AssetGeneralMLMExtension, MLMExtension, TaskType

from prithvi_tg.exporting import export_model, item_path


def read(path):
    item = pystac.Item.from_file(item_path(path))
    return item, MLMExtension.ext(item)


def test_the_item_of_a_program_reads_back(tmp_path):
    task = MODELS["published, places and dates"]()
    path = export_model(task, tmp_path / "water.pt2")
    item, model = read(path)
    assert (item.id, model.mlm_name) == ("water.pt2", "water")
    assert model.tasks == [TaskType.SEMANTIC_SEGMENTATION]
    assert model.framework == "PyTorch"
    assert model.total_parameters == sum(one.numel() for one in task.model.parameters())
    assert model.hyperparameters.to_dict()["encoder"] == "prithvi_eo_v2_tiny_tl"
    image, timestamps, location = model.input
    assert (image.name, image.bands) == ("image", ["BLUE", "GREEN", "RED"])
    assert image.input.shape == [-1, 2, 3, 32, 32]
    assert image.input.dim_order == ["batch", "time", "bands", "height", "width"]
    assert image.value_scaling is None
    assert "Do not normalise" in image.description
    assert "10000 = a reflectance of 1" in image.description
    assert (timestamps.input.shape, location.input.shape) == ([-1, 2, 2], [-1, 2])
    (output,) = model.output
    assert (output.name, output.result.shape) == ("logits", [-1, 3, 32, 32])
    assert [(one.value, one.name, one.color_hint) for one in output.classes] == [
        (0, "dry", "AA0000"), (1, "water", "0000FF"), (2, "cloud", "FFFFFF"),
    ]  # fmt: skip
    asset = item.assets["model"]
    assert asset.get_absolute_href() == str(path)
    assert asset.roles == ["mlm:model"]
    assert AssetGeneralMLMExtension.ext(asset).artifact_type == "torch.export.save"
    file = FileExtension.ext(asset)
    assert file.size == path.stat().st_size
    assert file.checksum == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert item.properties["prithvi_tg:window"] == 32


@pytest.mark.parametrize(
    ("name", "task", "shape", "words"),
    [
        ("values", TaskType.REGRESSION, [-1, 2, 32, 32], "height (m), biomass (t/ha)"),
        ("classes of chips", TaskType.SCENE_CLASSIFICATION, [-1, 2], "sigmoid to each class"),
    ],
)
def test_items_of_other_targets(name, task, shape, words, tmp_path):
    _, model = read(export_model(MODELS[name](), tmp_path / "model.pt2", window=32))
    (output,) = model.output
    assert (model.tasks, output.tasks, output.result.shape) == ([task], [task], shape)
    assert words in output.description


def test_the_item_of_weights_asks_to_normalise(tmp_path):
    item, model = read(export_model(MODELS["linear"](), tmp_path / "weights.safetensors"))
    assert "normalise with prithvi_tg:data_spec" in model.input[0].description
    artifact = AssetGeneralMLMExtension.ext(item.assets["model"]).artifact_type
    assert artifact == "safetensors.torch.save_file"


def test_each_format_of_one_model_in_one_folder_has_its_own_item(tmp_path):
    task = MODELS["linear"]()
    paths = [export_model(task, tmp_path / f"model{suffix}") for suffix in (".pt2", ".safetensors")]
    items = [read(path)[0] for path in paths]
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "model.pt2", "model.pt2.json", "model.safetensors", "model.safetensors.json",
    ]  # fmt: skip
    assert [item.id for item in items] == ["model.pt2", "model.safetensors"]
    assert [item.assets["model"].get_absolute_href() for item in items] == [str(path) for path in paths]
