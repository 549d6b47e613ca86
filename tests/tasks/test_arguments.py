"""Arguments of tasks: a class declares its own, and its parents those that tasks share."""

import inspect

import pytest
import torch

from prithvi_tg.errors import CheckpointError
from prithvi_tg.tasks import (
    PrithviClassificationTask,
    PrithviPixelwiseRegressionTask,
    PrithviSegmentationTask,
    load_task,
)

TINY = {"width": 32, "depth": 1, "num_heads": 2}
SHARED = {
    "encoder", "encoder_args", "weights", "truncate_depth", "allow_new_bands", "freeze_encoder", "unfreeze_epoch",
    "lora_rank", "layer_decay", "drop_path", "gradient_checkpointing", "compile", "bands", "num_frames", "loss",
    "optimizer", "optimizer_args", "schedule", "schedule_args", "lr", "weight_decay", "warmup_steps", "monitor",
    "data_spec", "lora_targets", "lora_alpha", "lora_dropout", "prompt_tokens",
}  # fmt: skip
PIXELWISE = {
    "decoder",
    "decoder_args",
    "head_channels",
    "head_dropout",
    "auxiliary_weight",
    "fuse",
    "window",
    "stride",
    "window_batch_size",
}
CLASSES = {"num_classes", "class_names", "class_weights"}
ARGUMENTS = {
    PrithviSegmentationTask: SHARED | PIXELWISE | CLASSES,
    PrithviPixelwiseRegressionTask: SHARED | PIXELWISE | {"num_outputs"},
    PrithviClassificationTask: SHARED | CLASSES | {"pooling", "multilabel"},
}


class Smoothed(PrithviSegmentationTask):
    """A task with an argument of its own.

    Args:
        smoothing: Label smoothing.
    """

    def __init__(self, *args, smoothing: float = 0.1, **kwargs):
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize("task_class", ARGUMENTS)
def test_signature_and_checkpoint_list_every_argument(task_class):
    assert set(inspect.signature(task_class).parameters) == ARGUMENTS[task_class]
    kwargs = {} if task_class is PrithviPixelwiseRegressionTask else {"num_classes": 2}
    task = task_class("nano", TINY, lr=0.5, **kwargs)
    assert set(task.hparams) == ARGUMENTS[task_class] - {"weights"}
    assert (task.hparams["encoder"], task.hparams["encoder_args"], task.hparams["lr"]) == ("nano", TINY, 0.5)


@pytest.mark.parametrize("task_class", ARGUMENTS)
def test_help_describes_every_argument(task_class, command):
    code, out, _ = command("fit", "--model.help", f"prithvi_tg.tasks.{task_class.__name__}")
    assert code == 0
    for name in ARGUMENTS[task_class]:
        described = out.split(f"\n  --model.{name} ")[1].split("\n  --model.")[0].split("(type: ")[0]
        assert len(described.split()) > 2, name
    assert "--model.patience" not in out  # of TorchGeo's task


def test_arguments_of_a_subclass_are_recorded_with_the_shared_ones():
    task = Smoothed("nano", TINY, num_classes=2, smoothing=0.2)
    assert (task.hparams["smoothing"], task.hparams["monitor"]) == (0.2, "val_mIoU")
    assert set(inspect.signature(Smoothed).parameters) == ARGUMENTS[PrithviSegmentationTask] | {"smoothing"}


def test_a_checkpoint_with_arguments_of_another_task_is_refused(tmp_path):
    task = PrithviClassificationTask("nano", TINY, num_classes=2)
    checkpoint = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"not written by PrithviSegmentationTask .*pooling"):
        load_task(tmp_path / "last.ckpt", PrithviSegmentationTask)
