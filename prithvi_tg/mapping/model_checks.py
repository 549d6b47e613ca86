"""Checks that a model has one output for each class or value of the target, and of the size of its windows."""

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..errors import ConfigError, counted
from ..models import EncoderDecoder, FCNHead
from ..spec import DataSpec
from ..tiling import multiples_around

_ONE = "the model has one output, so the highest logit is always that of class 0; train it with two classes"


def check_task(task: Any, spec: DataSpec) -> None:
    """Check, before mapping, that the settings of a task match the target.

    Args:
        task: A task of this package or of TorchGeo.
        spec: Description of the data, with the target.

    Raises:
        ConfigError: The outputs of the task do not match the target.
    """
    if spec.target.kind in TASK_CHECKS:
        TASK_CHECKS[spec.target.kind](task, spec)


def warn_of_padding(task: Any, window: int) -> None:
    """Warn if a model pads windows of this size, as they are no whole number of patches."""
    encoder = getattr(getattr(task, "model", None), "encoder", None)
    patch = getattr(encoder, "patch_size", 1)
    if window % patch:
        larger = window + -window % patch
        warnings.warn(
            f"window: {window} is not a multiple of the patch, {patch}, so the model pads each window to {larger} "
            f"pixels with the band means; use {multiples_around(window, patch)}",
            stacklevel=3,
        )


def check_outputs(outputs: Tensor, spec: DataSpec, parts: int = 1) -> None:
    """Check that outputs (B, parts * K, h, w) or (B, K) have one channel for each class or value of the target.

    Raises:
        ConfigError: The number of channels differs.
    """
    number = outputs.shape[1] // parts if outputs.ndim in (2, 4) else 1
    OUTPUT_CHECKS.get(spec.target.kind, _check_values)(number, spec)


def _check_class_task(task: Any, spec: DataSpec) -> None:
    hparams = dict(getattr(task, "hparams", {}))
    kind = hparams.get("task", "multiclass")  # of TorchGeo's tasks
    if kind == "multilabel":
        raise ConfigError(
            "task: a map stores one class per pixel, but a multilabel model predicts several; use multiclass"
        )
    model = getattr(task, "model", None)
    if isinstance(model, EncoderDecoder) and isinstance(model.decode_head, FCNHead):
        outputs = model.decode_head.conv_seg.out_channels
    elif kind == "binary":
        outputs = 1
    else:
        outputs = hparams.get("num_classes") or len(spec.target.names)
    if outputs == 1 or len(spec.target.names) == 1:
        raise ConfigError(f"num_classes: {_ONE}")


def _check_classes(outputs: int, spec: DataSpec) -> None:
    if outputs == 1:
        raise ConfigError(f"num_classes: {_ONE}")
    if outputs != len(spec.target.names):
        raise ConfigError(
            f"num_classes: the model has {counted(outputs, 'output')} for {len(spec.target.names)} classes "
            f"({', '.join(spec.target.names)})"
        )


def _check_values(outputs: int, spec: DataSpec) -> None:
    target = spec.target
    if outputs != target.num_outputs:
        raise ConfigError(
            f"target: the model has {counted(outputs, 'output')} for {target.num_outputs} {target.kind} "
            f"({', '.join(target.names[:5])})"
        )


#: Kind of target -> check of a task before mapping; for other kinds, only the outputs are checked.
TASK_CHECKS: dict[str, Callable[[Any, DataSpec], None]] = {"classes": _check_class_task}
#: Kind of target -> check of the number of outputs of a model.
OUTPUT_CHECKS: dict[str, Callable[[int, DataSpec], None]] = {
    "classes": _check_classes,
    "chip_classes": _check_classes,
    "values": _check_values,
}
