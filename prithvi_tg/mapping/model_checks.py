"""Which models a map of classes can be made with: those with one logit for each of two classes or more."""

from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..models import EncoderDecoder, FCNHead
from ..spec import DataSpec

_ONE = "the model has one output, so the highest logit is always that of class 0; train it with two classes"


def check_task(task: Any, spec: DataSpec) -> None:
    """Refuse, before any work, a task that is known to give no logit per class.

    Args:
        task: Ours or TorchGeo's.
        spec: Its classes.

    Raises:
        ConfigError: It has one output, or labels that do not exclude each other.
    """
    hparams = dict(getattr(task, "hparams", {}))
    kind = hparams.get("task", "multiclass")  # of TorchGeo's tasks
    if kind == "multilabel":
        raise ConfigError(
            "task: a map holds one class per pixel, a multilabel model gives several; use multiclass"
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


def check_outputs(logits: Tensor, spec: DataSpec) -> None:
    """Refuse what a model gave if it is not a logit per class, (B, K, h, w).

    Raises:
        ConfigError: It has one output, or not as many as there are classes.
    """
    outputs = logits.shape[1] if logits.ndim == 4 else 1
    if outputs == 1:
        raise ConfigError(f"num_classes: {_ONE}")
    if outputs != len(spec.target.names):
        raise ConfigError(
            f"num_classes: the model has {outputs} outputs for {len(spec.target.names)} classes "
            f"({', '.join(spec.target.names)})"
        )
