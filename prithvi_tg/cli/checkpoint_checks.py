"""Checks that a checkpoint fits a configuration."""

from typing import Any

from ..checkpoints import Checkpoint
from ..errors import CheckpointError
from ..spec import DataSpec
from ..tasks import PrithviTask
from ..tasks.data_checks import differing_data


def refuse_other_model(checkpoint: Checkpoint, task: PrithviTask, data: Any) -> None:
    """Check for differences that a state dict does not show: attention heads, band order, statistics.

    Raises:
        CheckpointError: The checkpoint is of another model, or was trained on other data.
    """
    saved_arguments = checkpoint.hyper_parameters
    if not saved_arguments:
        return
    saved = (saved_arguments.get("encoder"), saved_arguments.get("encoder_args") or {})
    given = (task.hparams["encoder"], task.hparams["encoder_args"] or {})
    if saved != given:
        raise CheckpointError(
            f"{checkpoint.path}: different architecture: its encoder is {saved[0]} {saved[1] or ''}, "
            f"the configuration has {given[0]} {given[1] or ''}"
        )
    spec = getattr(data, "spec", None)
    if saved_arguments.get("data_spec") and isinstance(spec, DataSpec):
        difference = differing_data(DataSpec.from_dict(saved_arguments["data_spec"]), spec)
        if difference is not None:
            key, before, now = difference
            raise CheckpointError(
                f"{checkpoint.path}: trained with {key} {before}, but the configuration has {now}"
            )
