"""Settings of a training that are valid and seldom meant; ``fit`` warns of them, ``check`` lists them."""

import math
from collections.abc import Iterator
from typing import Any

from ..errors import NO_VALIDATION, counted
from ..models import Encoder, EncoderDecoder, FCNHead
from .dependent_arguments import is_set

#: Below this learning rate, only pre-trained weights are fine-tuned.
FINE_TUNING_RATE = 1e-4
#: Arguments of encoders that decide whether published weights fit.
_ARCHITECTURE = ("width", "depth", "num_heads", "patch_size")


def training_advice(
    task: Any, total_steps: float, resumes: bool = False, validates: bool = True, epochs: float = math.inf
) -> Iterator[str]:
    """One line for each setting that does not suit the training.

    Args:
        task: A `PrithviTask`.
        total_steps: Optimiser steps of the run.
        resumes: Whether the weights come from a checkpoint that the run resumes.
        validates: Whether the run has a validation set.
        epochs: Epochs of the run.
    """
    hparams = task.hparams
    warm_up = (hparams["schedule_args"] or {}).get(
        "warmup_steps", hparams["warmup_steps"] if hparams["schedule"] == "poly" else 0
    )
    if warm_up and warm_up >= total_steps:
        yield (
            f"warmup_steps: {warm_up} must be smaller than the number of optimiser steps ({total_steps:g}), or the "
            f"full learning rate is never reached; set it to fewer steps, such as {int(total_steps) // 10}, or train "
            "longer"
        )
    if not validates:
        yield (
            f"monitor: {NO_VALIDATION}, so {task.monitor} is not computed; best.ckpt holds the weights of the last "
            "epoch"
        )
    later = hparams["unfreeze_epoch"]
    stays_frozen = bool(hparams["freeze_encoder"]) and (later is None or later >= epochs)
    if stays_frozen and later is not None:
        yield (
            f"unfreeze_epoch: {later} is not reached in {counted(math.ceil(epochs), 'epoch')}, counted from 0, so the "
            "encoder is never trained; set it to an earlier epoch, or train longer"
        )
    yield from _without_effect(task, stays_frozen)
    encoder = getattr(task.model, "encoder", None)
    if task.weights is not None or resumes or not isinstance(encoder, Encoder):  # a task may build any model
        return
    if hparams["freeze_encoder"] or hparams["lora_rank"] or hparams["prompt_tokens"]:
        weights = "weights of an encoder" if encoder.pretrained is None else "weights: pretrained"
        instead = "too" if later is None or stays_frozen else "from the start"
        yield (
            f"weights: not given, so the frozen encoder has random weights; give {weights}, or train the encoder "
            f"{instead}"
        )
    elif hparams["lr"] < FINE_TUNING_RATE:
        weights = "" if encoder.pretrained is None else "give weights, or "
        yield (
            f"lr: {hparams['lr']:g} is a rate for fine-tuning, but the encoder starts from random weights; {weights}"
            f"raise lr to {FINE_TUNING_RATE:g} or more"
        )
    name = hparams["encoder"]
    changed = [key for key in _ARCHITECTURE if key in (hparams["encoder_args"] or {})]
    if encoder.pretrained is not None and changed:
        yield (
            f"weights: those published for {name} may not fit with encoder_args {', '.join(changed)}, and the encoder "
            "starts from random weights; without these encoder_args, weights: pretrained loads them"
        )


def window_advice(task: Any, data: Any) -> Iterator[str]:
    """A line if windows of scores and maps differ in size from those of training.

    Args:
        task: A `PrithviTask`.
        data: Its data module.
    """
    window = task.hparams.get("window")
    key = "window" if hasattr(data, "window") else "crop_size"
    side = getattr(data, key, None)
    if window and side and window != side:
        yield (
            f"window: model.window is {window}, but data.{key} is {side}: maps use windows of another size than "
            f"training; set model.window: {side}, or data.{key}: {window}"
        )


def _without_effect(task: Any, stays_frozen: bool) -> Iterator[str]:
    """One line for each argument that another one makes ineffective."""
    hparams, model = task.hparams, task.model
    schedule = hparams["schedule"]
    reasons: dict[str, str] = {}
    if (
        schedule != "poly"
        and hparams["warmup_steps"]
        and "warmup_steps" not in (hparams["schedule_args"] or {})
    ):
        advice = "; give schedule_args: {warmup_steps: N}" if schedule == "cosine" else ""
        reasons["warmup_steps"] = f"with schedule {schedule}{advice}"
    if stays_frozen:
        reasons |= dict.fromkeys(("layer_decay", "drop_path"), "with a frozen encoder")
    if isinstance(model, EncoderDecoder):
        if model.auxiliary_head is None:
            reasons["auxiliary_weight"] = f"with decoder {hparams['decoder']}, which has no auxiliary head"
        if not isinstance(model.decode_head, FCNHead):
            reasons["head_dropout"] = f"with decoder {hparams['decoder']}, which has a head of its own"
    for key, reason in reasons.items():
        if hparams[key] and is_set(key, hparams, type(task)):
            yield f"{key}: has no effect {reason}" + ("" if ";" in reason else "; remove it")
