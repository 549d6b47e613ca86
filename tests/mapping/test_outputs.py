"""Models that give no logit per class are refused before any map is made."""

import pytest
import torch
from conftest import TINY
from torch import nn

from prithvi_tg import PrithviSegmentationTask, map_scene
from prithvi_tg.compat import SemanticSegmentationTask
from prithvi_tg.datasets import Sen1Floods11
from prithvi_tg.errors import ConfigError
from prithvi_tg.mapping.planning import map_strips

SPEC = Sen1Floods11.data_spec()


class Sigmoid(PrithviSegmentationTask):
    """Two classes by name, but one logit."""

    def configure_models(self):
        super().configure_models()
        self.model.decode_head.conv_seg = nn.Conv2d(8, 1, 1)


class Hidden(PrithviSegmentationTask):
    """Two classes by name, but one logit in `forward`, which the modules do not show."""

    def forward(self, image, core_window=None, **coordinates):
        return super().forward(image, core_window, **coordinates)[:, :1]


class Third(PrithviSegmentationTask):
    """A model with one logit too many."""

    def forward(self, image, core_window=None, **coordinates):
        logits = super().forward(image, core_window, **coordinates)
        return torch.cat([logits, logits[:, :1]], dim=1)


@pytest.mark.parametrize("kind", ["class_names", Sigmoid, Hidden])
def test_a_model_with_one_output_cannot_map(kind, flood_root, tmp_path):
    if kind == "class_names":
        spec = {**SPEC.to_dict(), "target": {"kind": "classes", "names": ["Water"]}}
        task = PrithviSegmentationTask(
            encoder="nano", encoder_args=TINY, head_channels=8, window=32, data_spec=spec
        )
    else:
        task = kind(encoder="nano", encoder_args=TINY, head_channels=8, window=32, data_spec=SPEC.to_dict())
    with pytest.raises(ConfigError, match="num_classes: the model has one output"):
        map_scene(task, flood_root / "scene.tif", tmp_path / "scene_pred.tif")
    assert not (tmp_path / "scene_pred.tif").exists()
    with pytest.raises(ConfigError, match="num_classes: the model has one output"):
        list(map_strips(task, flood_root / "scene.tif"))


def test_more_outputs_than_classes_are_refused(flood_root, tmp_path):
    task = Third(encoder="nano", encoder_args=TINY, head_channels=8, window=32, data_spec=SPEC.to_dict())
    with pytest.raises(ConfigError, match=r"the model has 3 outputs for 2 classes \(No water, Water\)"):
        map_scene(task, flood_root / "scene.tif", tmp_path / "scene_pred.tif")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("task: binary, loss: bce", "num_classes: the model has one output"),
        ("task: multilabel, num_labels: 2, loss: bce", "task: a map stores one class per pixel"),
    ],
)
def test_the_command_refuses_torchgeo_tasks_without_a_logit_per_class(
    flood_root, tmp_path, command, options, reason
):
    from lightning.pytorch import Trainer

    kind = f"{SemanticSegmentationTask.__module__}.{SemanticSegmentationTask.__qualname__}"
    config = tmp_path / "config.yaml"
    config.write_text(
        f"model: {{class_path: {kind}, init_args: {{model: unet, backbone: resnet18, in_channels: 6, {options}}}}}\n"
        f"data: {{class_path: Sen1Floods11DataModule, init_args: {{root: {flood_root}, fold_time: true, "
        f"splits: {flood_root}/splits.csv}}}}\n"
        "trainer: {accelerator: cpu, enable_progress_bar: false}\n"
    )
    arguments = {"task": "binary"} if "binary" in options else {"task": "multilabel", "num_labels": 2}
    task = SemanticSegmentationTask(model="unet", backbone="resnet18", in_channels=6, loss="bce", **arguments)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "task.ckpt")
    code, _, err = command(
        "predict", "--config", config, "--ckpt_path", tmp_path / "task.ckpt", flood_root / "scene.tif",
        "--output", tmp_path / "maps", "--window", 32,
    )  # fmt: skip
    assert (code, reason in err) == (2, True), err
    assert len(err.strip().splitlines()) == 1
    assert not list((tmp_path / "maps").glob("*"))
