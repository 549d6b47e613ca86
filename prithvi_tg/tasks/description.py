"""The description of a model in files of weights and exported models: the arguments of its task, as JSON."""

import json
from typing import Any

from .. import __version__
from .base import PrithviTask
from .calibration import CALIBRATION

#: Name of the description: an extra file of ``.pt2``, a key of the metadata of ``.onnx``.
DESCRIPTION = "prithvi_tg.json"


def describe_task(task: PrithviTask) -> dict[str, Any]:
    """Describe a task whose adapters are merged.

    Returns:
        ``hyper_parameters``, the arguments of the task, with its `DataSpec` as ``data_spec``; ``task_class``, the
        class of the task; ``version``, the version of this package; and ``calibration`` of a calibrated task.
    """
    arguments = {key: value for key, value in task.hparams.items() if not key.startswith("_")}
    return {
        "version": __version__,
        "task_class": task.class_path,
        "hyper_parameters": arguments | {"lora_rank": 0, "compile": False},
        **({} if task.calibration is None else {CALIBRATION: task.calibration.to_dict()}),
    }


def describe_as_text(task: PrithviTask, **more: Any) -> str:
    """The result of `describe_task` with further keys, as JSON."""
    return json.dumps(describe_task(task) | more)
