"""Export of the weights of a task to a safetensors file that also contains its arguments."""

import copy
import json
from pathlib import Path

from ..checkpoints import save_tensors
from ..errors import ConfigError
from ..models.lora import merge_lora
from .base import PrithviTask
from .calibration import CALIBRATION
from .description import describe_task


def export_weights(task: PrithviTask, path: str | Path, overwrite: bool = False) -> Path:
    """Write a task's weights under the published parameter names; adapters are merged.

    Args:
        task: A trained task.
        path: The file to write, ``*.safetensors``; it gets this name when it is complete.
        overwrite: Replace the file if it exists.

    Returns:
        The path.

    Raises:
        ConfigError: The file exists, or has another suffix.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ConfigError(f"{path}: must end in .safetensors")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path}: exists; add overwrite=True to replace it")
    model = copy.deepcopy(task.model)
    merge_lora(model)
    description = describe_task(task)
    metadata = {
        "format": "pt",
        "hyper_parameters": json.dumps(description["hyper_parameters"]),
        "task_class": description["task_class"],
    }
    if task.calibration is not None:
        metadata[CALIBRATION] = json.dumps(task.calibration.to_dict())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_tensors(tensors, partial, metadata)
    partial.replace(path)
    return path
