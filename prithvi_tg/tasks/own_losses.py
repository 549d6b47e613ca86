"""Losses by name or class path, and checks of what they return."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from ..class_paths import find_class
from ..errors import ConfigError, PrithviTGError
from ..targets import ClassTarget, ValueTarget, ignore_value


def build_loss(name: str, table: Mapping[str, Callable[..., nn.Module]], **arguments: Any) -> nn.Module:
    """Create a loss.

    Args:
        name: A key of `table`, or the path of a class.
        table: Losses by name.
        **arguments: Arguments of the loss.

    Raises:
        ConfigError: The name is unknown, or the loss needs other arguments or takes no class weights.
    """
    kind = find_class("loss", name, table, nn.Module)
    if "class_weights" in arguments and "class_weights" not in signature(kind).parameters:
        supported = ", ".join(
            key for key, loss in table.items() if "class_weights" in signature(loss).parameters
        )
        raise ConfigError(f"class_weights: not supported by the loss {name!r}; use one of {supported}")
    try:
        signature(kind).bind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"loss: {name}: {error}; it is created with {', '.join(arguments) or 'no arguments'}, so give others a "
            "default, or set criterion in configure_losses of your own task"
        ) from error
    loss: nn.Module = kind(**arguments)
    return loss


def is_own(criterion: Any) -> bool:
    """Whether a loss is from outside this package."""
    return not type(criterion).__module__.startswith(f"{__name__.partition('.')[0]}.")


def name_of(criterion: Any) -> str:
    """The name of a loss for messages: the path of its class, or of a function."""
    named = criterion if hasattr(criterion, "__qualname__") else type(criterion)
    return f"{named.__module__}.{named.__qualname__}"


def call_loss(criterion: Any, outputs: Tensor, labels: Tensor) -> Tensor:
    """The loss of outputs (B, K, ...) and labels (B, ...), a scalar.

    Raises:
        ConfigError: A loss from outside this package fails, or does not return one number, in training with a gradient.
    """
    if not is_own(criterion):
        loss: Tensor = criterion(outputs, labels)
        return loss
    name = name_of(criterion)
    try:
        result = criterion(outputs, labels)
    except (PrithviTGError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of the user's code
        ignored = f"{ignore_value(labels):g}"
        text = next(iter(str(error).strip().splitlines()), "")
        advice = f": pass ignore_index={ignored}" if f"Target {ignored} is out of bounds" in text else ""
        raise ConfigError(
            f"loss: {name}: {type(error).__name__}: {text.rstrip('.')}; it is called with outputs "
            f"{tuple(outputs.shape)} and labels {tuple(labels.shape)}, which are {ignored} where nothing is "
            f"labelled{advice}"
        ) from error
    if not isinstance(result, Tensor) or result.ndim:
        given = (
            f"a tensor of shape {tuple(result.shape)}"
            if isinstance(result, Tensor)
            else type(result).__name__
        )
        raise ConfigError(f"loss: {name} returned {given}; return one number, a tensor of shape ()")
    if torch.is_grad_enabled() and outputs.requires_grad and not result.requires_grad:
        raise ConfigError(
            f"loss: {name} returned a tensor without gradient; compute it from the outputs without detach, item or "
            "numpy, and return outputs.sum() * 0 for a batch without labels"
        )
    return result


def nan_cause(criterion: Any, outputs: Tensor, labels: Tensor) -> str | None:
    """Why a loss from outside this package is NaN although outputs and images are finite; ``None`` if it is unknown.

    Args:
        criterion: The loss.
        outputs: Outputs (B, K, ...) of the model.
        labels: Labels as the loss gets them.
    """
    if not is_own(criterion) or not outputs.isfinite().all():
        return None
    name = name_of(criterion)
    is_values = labels.is_floating_point()
    labelled = ValueTarget.is_labelled(labels) if is_values else ClassTarget.is_labelled(labels)
    if not labelled.any():
        return f"the batch has no labels, where {name} must return a number such as outputs.sum() * 0"
    if is_values and not labelled.all():
        return (
            f"labels are NaN where nothing is labelled, and {name} must skip these pixels: use "
            "outputs[~labels.isnan()] and labels[~labels.isnan()]"
        )
    return None
