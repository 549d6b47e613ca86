"""Loading of a task from a checkpoint that contains its arguments."""

from importlib import import_module
from inspect import signature
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from ..checkpoints import Checkpoint, load_weights, read_checkpoint
from ..deprecated import current_arguments
from ..errors import CheckpointError
from ..hub import local_path
from .base import PrithviTask
from .calibration import read_calibration
from .exported import load_exported_task
from .segmentation import PrithviSegmentationTask


def load_task(path: str | Path, task_class: type[PrithviTask] | None = None) -> PrithviTask:
    """Load the task that wrote a checkpoint, with its weights, in evaluation mode.

    Args:
        path: A checkpoint or safetensors file of this package; or an exported program, ``.pt2``, as a task that can
            only predict. An address such as ``hf://OWNER/REPOSITORY`` is downloaded, see `local_path`.
        task_class: Class of the task; by default the one that wrote the file, which must be importable.

    Raises:
        CheckpointError: The file cannot be read safely, contains no arguments of a task, or names a class that
            cannot be imported or is not a `PrithviTask`.
    """
    path = local_path(path)
    if path.suffix == ".pt2":
        return load_exported_task(path)
    checkpoint = read_checkpoint(path)
    arguments = current_arguments(checkpoint.hyper_parameters, warns=False)
    if not arguments:
        raise CheckpointError(
            f"{path}: does not describe its model; give the configuration it was trained with: "
            "prithvi-tg COMMAND --config FILE"
        )
    task_class = task_class or task_class_of(checkpoint)
    arguments = {key: value for key, value in arguments.items() if not key.startswith("_")}
    try:
        signature(task_class).bind(**arguments)
    except TypeError as error:
        raise CheckpointError(f"{path}: not written by {task_class.__name__} ({error})") from error
    task = task_class(**arguments)
    rank_zero_info(str(load_weights(task.model, checkpoint)))
    task.calibration = read_calibration(checkpoint)
    return task.eval()


def task_class_of(checkpoint: Checkpoint) -> type[PrithviTask]:
    """The class of the task that wrote a checkpoint; that of segmentation, if the checkpoint has no name.

    Raises:
        CheckpointError: The class cannot be imported, or is not a `PrithviTask`.
    """
    class_path, path = checkpoint.meta.get("task_class"), checkpoint.path
    if class_path is None:
        return PrithviSegmentationTask
    module, _, name = str(class_path).rpartition(".")
    try:
        task_class = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: was written by {class_path}, which cannot be imported here; put its folder on "
            "PYTHONPATH, or load it in Python with load_task(path, task_class=...)"
        ) from error
    if not (isinstance(task_class, type) and issubclass(task_class, PrithviTask)):
        raise CheckpointError(f"{path}: its task {class_path} is not a task of this package")
    return task_class
