"""Checks that data match a model: bands, classes, statistics and units; checks for values that are not finite."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from ..errors import ConfigError, DataError
from ..spec import DataSpec
from ..targets import TARGETS, Target, ValueTarget


def check_model_takes(spec: DataSpec, num_outputs: int, bands: Sequence[str], num_frames: int) -> None:
    """Check that a model has the inputs and outputs that the data require.

    Args:
        spec: Description of the data.
        num_outputs: Number of outputs of the model.
        bands: Band names of the model, in order.
        num_frames: Number of dates in a sample of the model.

    Raises:
        ConfigError: They differ.
    """
    if spec.target.num_outputs != num_outputs:
        names = ", ".join(spec.target.names)
        key = "num_outputs" if isinstance(spec.target, ValueTarget) else "num_classes"
        raise ConfigError(
            f"{key}: the model has {num_outputs}, but the data have {len(spec.target.names)} ({names})"
        )
    if list(spec.input.bands) != list(bands):
        raise ConfigError(
            f"bands: the model has {' '.join(bands)}, but the data have {' '.join(spec.input.bands)}"
        )
    if spec.input.num_frames != num_frames:
        raise ConfigError(
            f"num_frames: the model has {num_frames}, but the data have {spec.input.num_frames}"
        )


def check_target(target: Target, kind: str, task: str) -> None:
    """Check that labels are of the kind of a task.

    Raises:
        ConfigError: They are of another kind.
    """
    if target.kind != kind:
        wanted = TARGETS[kind].words if kind in TARGETS else kind
        advice = f"use {target.task} instead of {task}" if target.task else f"{task} does not learn them"
        raise ConfigError(f"data: the data have {target.words}, not {wanted}; {advice}")


def differing_data(known: DataSpec, data: DataSpec) -> tuple[str, Any, Any] | None:
    """The first difference between data and the training data of a model that makes the model's scores invalid.

    A different scale of stored values is allowed: data of one unit can be stored in several ways.

    Returns:
        The attribute, its value in training, and its value in the data; ``None`` if there is no difference.
    """
    trained, given = known.input, data.input
    if trained.bands != given.bands:
        return "bands", list(trained.bands), list(given.bands)
    if trained.num_frames != given.num_frames:
        return "num_frames", trained.num_frames, given.num_frames
    if trained.channel_mean != given.channel_mean:
        return "mean", list(trained.mean), list(given.mean)
    if trained.channel_std != given.channel_std:
        return "std", list(trained.std), list(given.std)
    if isinstance(known.target, ValueTarget) and isinstance(data.target, ValueTarget):
        for key in ("names", "units"):
            before, now = getattr(known.target, key), getattr(data.target, key)
            if before != now:
                return ("values" if key == "names" else key), list(before), list(now)
        return None
    names, others = known.target.names, data.target.names
    if names != others and sorted(names) == sorted(others):
        return "class_names", list(names), list(others)
    return None


def check_training_data(known: DataSpec, data: DataSpec) -> None:
    """Check that the scores of a model are valid for data, and warn if they are stored or named in another way.

    Args:
        known: Description of the training data of the model.
        data: Description of the data.

    Raises:
        ConfigError: They are not.
    """
    difference = differing_data(known, data)
    if difference is not None:
        key, before, now = difference
        raise ConfigError(
            f"{key}: the model was trained with {before}, but the data module has {now}; set it to the model's"
        )
    for key, before, now in (
        ("scale", known.input.scale, data.input.scale),
        ("class_names", known.target.names, data.target.names),
    ):
        if before != now:
            rank_zero_warn(f"{key}: the model was trained with {before}, but the data module has {now}")


def other_unit_message(batch: Mapping[str, Any], spec: DataSpec) -> str | None:
    """The warning about a batch in another unit than the statistics.

    Args:
        batch: Normalised ``image`` (B, T, C, H, W) or (B, T*C, H, W), and ``valid`` of the same shape. Without
            ``valid``, pixels of exactly 0 have no data: the band mean fills them.
        spec: Description of the data.

    Returns:
        The warning, empty if the unit is that of the statistics; ``None`` if the batch has no data.
    """
    image: Tensor = batch["image"].detach()
    valid: Tensor = batch["valid"].bool() if "valid" in batch else image != 0
    if not valid.any():
        return None
    image, valid = (one.reshape(len(one), -1, *one.shape[-2:]) for one in (image, valid))
    if image.shape[1] != len(spec.input.channel_mean):  # channels that a subclass adds have no statistics
        return ""
    means = torch.where(valid, image.float(), 0).sum(dim=(0, 2, 3)) / valid.sum(dim=(0, 2, 3))
    given = zip(means.tolist(), spec.input.channel_std, spec.input.channel_mean, strict=True)
    ratio = spec.input.unit_ratio([mean * std + center for mean, std, center in given])
    if not spec.input.is_other_unit(ratio):
        return ""
    scale, fitting = spec.input.scale, spec.input.fitting_scale(ratio)
    advice = (
        ""
        if fitting is None
        else f"scale is {scale:g}, but a scale of about {fitting:g} would match the statistics; "
    )
    return (
        f"image: the values of the first batch {ratio.describe()} (mean "
        f"{' '.join(f'{value:.3g}' for value in spec.input.mean)}); {advice}run prithvi-tg check"
    )


def check_loss(
    loss: Tensor,
    image: Tensor,
    names: Sequence[str] | None,
    step: int,
    known_cause: Callable[[], str | None] = lambda: None,
) -> None:
    """Check that the loss of a training batch is finite.

    Args:
        loss: The loss.
        image: Images of the batch.
        names: Names of the chips, if known.
        step: The optimiser step.
        known_cause: Called if the images are finite; returns a cause other than a divergence, if there is one.

    Raises:
        DataError: The loss is NaN or infinite; the message names the chips.
    """
    if torch.isfinite(loss):
        return
    chips = f" on {', '.join(names)}" if names else ""
    if not torch.isfinite(image).all():
        cause = "the images contain values that are not finite"
    else:
        diverged = "the images are finite, so the training has diverged: lower lr, or raise warmup_steps"
        cause = known_cause() or diverged
    raise DataError(f"loss: {float(loss.detach())} at step {step}{chips}; {cause}")


def check_logits(logits: Tensor, image: Tensor, names: Sequence[str] | None, place: str) -> None:
    """Check that the logits of an evaluation are finite; synchronises with the device once per batch.

    Args:
        logits: Logits (B, K, H, W).
        image: Images (B, ...) of the logits.
        names: Names of the chips, if known.
        place: Step and batch for the message: ``validation, batch 3``.

    Raises:
        DataError: Some logits are NaN or infinite; the message names their chips.
    """
    finite = logits.isfinite().flatten(1).all(dim=1)
    if finite.all():
        return
    bad = (~finite).nonzero().flatten().tolist()
    chips = ", ".join(str(names[k]) if names else f"sample {k}" for k in bad)
    cause = (
        "the images contain values that are not finite"
        if not image[bad].isfinite().all()
        else "the images are finite, so the weights are not, or the precision overflows"
    )
    raise DataError(f"logits: NaN or infinite in {place}, for {chips}; {cause}")
