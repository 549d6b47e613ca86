"""The model of a checkpoint and of a configuration: which one counts, and whether both fit."""

import warnings
from typing import Any

from ..checkpoints import Checkpoint, load_weights, read_checkpoint
from ..deprecated import current_arguments
from ..errors import CheckpointError
from ..spec import DataSpec
from ..tasks import PrithviTask
from ..tasks.data_checks import differing_data
from ..tasks.loading import task_class_of

#: Arguments of tasks that decide which tensors a model has, and what it computes with them.
_MODEL = (
    "encoder", "encoder_args", "lora_rank", "lora_targets", "lora_alpha", "prompt_tokens", "decoder", "decoder_args",
    "head_channels", "auxiliary_weight", "pooling",
)  # fmt: skip
#: Those that earlier releases lack, with the values of their models.
_ADDED: dict[str, Any] = {"lora_targets": ("qkv", "proj"), "lora_alpha": None, "prompt_tokens": 0}


def use_model_of(checkpoint: Checkpoint, init_args: Any) -> None:
    """Replace arguments of a configuration that describe another model than the checkpoint, with one warning.

    Args:
        checkpoint: The weights; those of other packages have no description, and change nothing.
        init_args: Arguments of the task; changed in place.
    """
    others = []
    for key, before, now in _differing_arguments(checkpoint, init_args):
        if before != now:  # equal values may have another effect, as lora_alpha: null with another lora_rank
            others.append(f"{key} {before}, not {now}")
        init_args[key] = before
    if others:
        warnings.warn(
            f"{checkpoint.path}: the model is that of the checkpoint, which differs from the configuration: "
            + "; ".join(others),
            stacklevel=2,
        )


def refuse_other_task(checkpoint: Checkpoint, task_class: type, advice: str = "") -> None:
    """Check that a checkpoint is of a task with the same kind of target as that of the configuration.

    Args:
        checkpoint: The weights. Those of other packages, and of tasks that are not found, are not checked.
        task_class: Class of the task of the configuration.
        advice: End of the error.

    Raises:
        CheckpointError: It is of another task.
    """
    if "task_class" not in checkpoint.meta or not issubclass(task_class, PrithviTask):
        return
    try:
        saved = task_class_of(checkpoint)
    except CheckpointError:
        return
    if saved.target_kind != task_class.target_kind:
        advice = (
            advice or f"give a checkpoint of {task_class.__name__}, or the configuration of {saved.__name__}"
        )
        raise CheckpointError(
            f"{checkpoint.path}: was written by {saved.__name__}, but the configuration has {task_class.__name__}; "
            f"{advice}"
        )


def check_resumable(path: str, task: Any) -> None:
    """Check that ``fit`` can resume from a checkpoint.

    Args:
        path: The checkpoint.
        task: The task of the configuration.

    Raises:
        CheckpointError: It is of another task or model, or has no state of an optimiser.
    """
    checkpoint = read_checkpoint(path)
    refuse_other_task(
        checkpoint,
        type(task),
        f"to start from its encoder, give --model.weights {path} instead of --ckpt_path",
    )
    if "optimizer_states" not in checkpoint.meta:
        raise CheckpointError(
            f"{path}: holds no optimiser state, so fit cannot resume from it; give a last.ckpt, or start from "
            "these weights with --model.weights"
        )
    if isinstance(task, PrithviTask):
        refuse_other_model(checkpoint, task, None)
        load_weights(task.model, checkpoint)  # an error of one line; Lightning's names every tensor


def refuse_other_model(checkpoint: Checkpoint, task: PrithviTask, data: Any) -> None:
    """Check for differences that a state dict does not show: attention heads, band order, statistics.

    Raises:
        CheckpointError: The checkpoint is of another model, or was trained on other data.
    """
    saved_arguments = checkpoint.hyper_parameters
    if not saved_arguments:
        _refuse_other_head(checkpoint, task)
        return
    saved = (saved_arguments.get("encoder"), saved_arguments.get("encoder_args") or {})
    given = (task.hparams["encoder"], task.hparams["encoder_args"] or {})
    if saved != given:
        raise CheckpointError(
            f"{checkpoint.path}: different architecture: its encoder is {saved[0]} {saved[1] or ''}, "
            f"but the configuration has {given[0]} {given[1] or ''}"
        )
    for key, before, now in _differing_arguments(checkpoint, task.hparams):
        raise CheckpointError(
            f"{checkpoint.path}: different architecture: model.init_args.{key} is {now} in the configuration, "
            f"but {before} in the checkpoint"
        )
    spec = getattr(data, "spec", None)
    if saved_arguments.get("data_spec") and isinstance(spec, DataSpec):
        difference = differing_data(DataSpec.from_dict(saved_arguments["data_spec"]), spec)
        if difference is not None:
            key, before, now = difference
            raise CheckpointError(
                f"{checkpoint.path}: trained with {key} {before}, but the configuration has {now}; give the "
                "configuration of the run, --config RUN/config.yaml, or that value"
            )


def _differing_arguments(checkpoint: Checkpoint, given: Any) -> list[tuple[str, Any, Any]]:
    """Arguments that describe another model than the checkpoint: key, value in the checkpoint, value given."""
    if not checkpoint.hyper_parameters:
        return []
    saved = _ADDED | current_arguments(checkpoint.hyper_parameters, warns=False)
    keys = [key for key in _MODEL if key in saved and key in given]
    if not saved.get("lora_rank"):
        keys = [key for key in keys if key == "lora_rank" or not key.startswith("lora_")]
    return [(key, saved[key], given[key]) for key in keys if _effect(key, saved) != _effect(key, given)]


def _effect(key: str, arguments: Any) -> Any:
    """An argument without the difference between empty values, null and defaults, and between lists and tuples."""
    value = arguments[key]
    if key == "lora_alpha" and value is None:
        return 2 * (arguments.get("lora_rank") or 0) or None
    return (tuple(value) if isinstance(value, list) else value) or None


def _refuse_other_head(checkpoint: Checkpoint, task: PrithviTask) -> None:
    """Compare the last layer of a segmentation head, whose size follows from keys of the configuration."""
    name = "decode_head.conv_seg.weight"
    saved, given = checkpoint.state_dict.get(name), task.model.state_dict().get(name)
    if saved is None or given is None or saved.ndim != given.ndim:
        return
    keys = ("data: the number of classes", "model.init_args.head_channels")
    for key, before, now in zip(keys, saved.shape, given.shape, strict=False):
        if before != now:
            raise CheckpointError(
                f"{checkpoint.path}: different architecture: {key} is {now} in the configuration, but {before} in the "
                "checkpoint"
            )
