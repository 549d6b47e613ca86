"""Settings of a training that are valid and seldom meant; ``fit`` warns of them, ``check`` lists them."""

from collections.abc import Iterator
from typing import Any

from ..models import Encoder

#: Below this learning rate, only pre-trained weights are fine-tuned.
FINE_TUNING_RATE = 1e-4
#: Arguments of encoders that decide whether published weights fit.
_ARCHITECTURE = ("width", "depth", "num_heads", "patch_size")


def training_advice(
    task: Any, total_steps: float, resumes: bool = False, validates: bool = True
) -> Iterator[str]:
    """One line for each setting that does not suit the training.

    Args:
        task: A `PrithviTask`.
        total_steps: Optimiser steps of the run.
        resumes: Whether the weights come from a checkpoint that the run resumes.
        validates: Whether the run has a validation set.
    """
    hparams = task.hparams
    warm_up = (hparams["schedule_args"] or {}).get(
        "warmup_steps", hparams["warmup_steps"] if hparams["schedule"] == "poly" else 0
    )
    if warm_up and warm_up >= total_steps:
        yield (
            f"warmup_steps: {warm_up} steps do not fit into a run of {total_steps:g} steps; the full learning rate is "
            "never reached"
        )
    if not validates:
        yield (
            f"monitor: there is no validation set, so {task.monitor} is not computed; best.ckpt is that of the last "
            "epoch"
        )
    encoder = getattr(task.model, "encoder", None)
    if task.weights is not None or resumes or not isinstance(encoder, Encoder):  # a task may build any model
        return
    if (
        (hparams["freeze_encoder"] and hparams["unfreeze_epoch"] is None)
        or hparams["lora_rank"]
        or hparams["prompt_tokens"]
    ):
        yield "weights: not given, so the frozen encoder has random weights"
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
