"""Whether data fit a model: bands, classes and statistics, units, and values that are not finite."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..spec import DataSpec
from ..targets import Target, ValueTarget


def check_model_takes(spec: DataSpec, num_outputs: int, bands: Sequence[str], num_frames: int) -> None:
    """Make sure that a model of these sizes can be run on the data.

    Args:
        spec: Of the data.
        num_outputs: Of the model, as for all that follow.
        bands: Names, in order.
        num_frames: Dates in a sample.

    Raises:
        ConfigError: It cannot.
    """
    if spec.target.num_outputs != num_outputs:
        names = ", ".join(spec.target.names)
        key = "num_outputs" if isinstance(spec.target, ValueTarget) else "num_classes"
        raise ConfigError(f"{key}: the model has {num_outputs}, the data {len(spec.target.names)} ({names})")
    if list(spec.input.bands) != list(bands):
        raise ConfigError(f"bands: the model has {' '.join(bands)}, the data {' '.join(spec.input.bands)}")
    if spec.input.num_frames != num_frames:
        raise ConfigError(f"num_frames: the model has {num_frames}, the data {spec.input.num_frames}")


def check_target(target: Target, kind: str, task: str) -> None:
    """Make sure that labels are of the kind that a task learns.

    Raises:
        ConfigError: They are not.
    """
    if target.kind != kind:
        raise ConfigError(
            f"data: its labels are {target.kind}, but {task} learns {kind}; use the task of these labels"
        )


def differing_data(known: DataSpec, data: DataSpec) -> tuple[str, Any, Any] | None:
    """The first trait in which data differ from those that a model was trained on, so that its scores are void.

    The scale of stored values is none of these: data of one unit can be stored in several ways.

    Returns:
        The trait's name, its value in training, and that of the data; ``None`` if all agree.
    """
    one, other = known.input, data.input
    if one.bands != other.bands:
        return "bands", list(one.bands), list(other.bands)
    if one.num_frames != other.num_frames:
        return "num_frames", one.num_frames, other.num_frames
    if one.channel_mean != other.channel_mean:
        return "mean", list(one.mean), list(other.mean)
    if one.channel_std != other.channel_std:
        return "std", list(one.std), list(other.std)
    if isinstance(known.target, ValueTarget) and isinstance(data.target, ValueTarget):
        for key in ("names", "units"):
            mine, theirs = getattr(known.target, key), getattr(data.target, key)
            if mine != theirs:
                return ("values" if key == "names" else key), list(mine), list(theirs)
        return None
    names, others = known.target.names, data.target.names
    if names != others and sorted(names) == sorted(others):
        return "class_names", list(names), list(others)
    return None


def other_unit_message(image: Tensor, spec: DataSpec) -> str | None:
    """What to say of a normalised batch (B, T, C, H, W) that is far from what the statistics say."""
    means = image.detach().float().reshape(len(image), -1, *image.shape[-2:]).mean(dim=(0, 2, 3)).tolist()
    if len(means) != len(spec.input.channel_mean):  # channels that a subclass adds have no statistics
        return None
    given = zip(means, spec.input.channel_std, spec.input.channel_mean, strict=True)
    ratio = spec.input.unit_ratio([mean * std + center for mean, std, center in given])
    if not spec.input.is_other_unit(ratio):
        return None
    factor = 10.0 ** -round(math.log10(abs(ratio) or 1))
    fitting = "" if factor == 1 or ratio.mistaken_for else f"; scale is {spec.input.scale:g}"
    if fitting:
        fitting += f", and {spec.input.scale * factor:g} would fit the statistics"
    return (
        f"image: the values of the first batch {ratio.describe()} (mean "
        f"{' '.join(f'{value:.3g}' for value in spec.input.mean)}){fitting}; run prithvi-tg check"
    )


def check_loss(loss: Tensor, image: Tensor, names: Sequence[str] | None, step: int) -> None:
    """Make sure that the loss of a training batch is a number.

    Raises:
        DataError: It is not; the chips are named.
    """
    if torch.isfinite(loss):
        return
    chips = f" on {', '.join(names)}" if names else ""
    cause = (
        "the images contain values that are not finite"
        if not torch.isfinite(image).all()
        else "the images are finite, so the training has diverged: lower lr, or raise warmup_steps"
    )
    raise DataError(f"loss: {float(loss.detach())} at step {step}{chips}; {cause}")


def check_logits(logits: Tensor, image: Tensor, names: Sequence[str] | None, place: str) -> None:
    """Make sure that the logits (B, K, H, W) of an evaluation are numbers; looks at the device once a batch.

    Args:
        logits: Of the batch.
        image: (B, ...), what they were computed from.
        names: Of the chips, if they have any.
        place: Where this is, for the message: ``validation, batch 3``.

    Raises:
        DataError: Some are not; their chips are named.
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
