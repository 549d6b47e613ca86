"""Tasks with an exported program instead of a model: they predict, and nothing else."""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.export import passes

from ..deprecated import current_arguments
from ..errors import CheckpointError, ConfigError
from ..spec import DataSpec
from ..targets import ValueTarget
from .base import PrithviTask
from .calibration import CALIBRATION, parse_calibration
from .classification import PrithviClassificationTask
from .program_checks import check_program
from .regression import PrithviPixelwiseRegressionTask
from .segmentation import PrithviSegmentationTask

#: Kind of target -> task of an exported model.
EXPORTED_TASKS: dict[str, type[PrithviTask]] = {
    task.target_kind: task
    for task in (PrithviSegmentationTask, PrithviPixelwiseRegressionTask, PrithviClassificationTask)
}
#: Arguments of training, which may be class paths that cannot be imported here.
_OF_TRAINING = ("loss", "optimizer", "schedule")


class ExportedModel(nn.Module):
    """The model of a task that calls an exported program.

    A program takes images in the unit of the statistics and normalises them; a model takes normalised images. Values of
    a program have their unit; those of a model are standardised.

    Args:
        program: The program.
        spec: Description of its data.
        window: Height and width of its images.
        patch_size: Patch of the encoder in pixels.
    """

    def __init__(
        self, program: torch.export.ExportedProgram, spec: DataSpec, window: int, patch_size: int
    ) -> None:
        super().__init__()
        self.program = program
        self.spec = spec
        self.window = window
        self.inputs = tuple(program.graph_signature.user_inputs)
        # Of the encoder, callers use only these.
        self.encoder = SimpleNamespace(
            patch_size=patch_size, coordinates={key: key for key in self.inputs[1:] if isinstance(key, str)}
        )
        self.function = program.module()
        self.device = torch.device("cpu")

    def train(self, mode: bool = True) -> Self:
        """Do nothing: a program is always in evaluation mode, and torch raises an error for any other."""
        return self

    def check_size(self, height: int, width: int) -> None:
        """Check that the program takes images of this size.

        Raises:
            ConfigError: It takes another size.
        """
        if (height, width) != (self.window, self.window):
            raise ConfigError(
                f"window: the exported model takes images of {self.window} x {self.window} pixels, not "
                f"{height} x {width}; use windows of {self.window}, or export the model with window={width}"
            )

    def forward(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Outputs (B, K, H, W) or (B, K) for normalised images (B, T, C, H, W).

        Raises:
            ConfigError: The images have another size than the program.
        """
        image = image.unsqueeze(1) if image.ndim == 4 else image
        self.check_size(*image.shape[-2:])
        if image.device != self.device:
            self.function = passes.move_to_device_pass(self.program, image.device).module()
            self.device = image.device
        unknown = {"timestamps": image.new_full((*image.shape[:2], 2), float("nan"))}
        unknown["location"] = image.new_full((image.shape[0], 2), float("nan"))
        more = [coordinates.get(key, unknown[key]).float() for key in self.encoder.coordinates]
        outputs: Tensor = self.function(self.spec.input.denormalize(image.float()), *more)
        target = self.spec.target
        if isinstance(target, ValueTarget):
            mean, std = (outputs.new_tensor(one).reshape(-1, 1, 1) for one in (target.mean, target.std))
            outputs = (outputs - mean) / std
        return outputs


def load_exported_task(path: Path) -> PrithviTask:
    """Load a program of ``prithvi-tg export`` as a task that predicts.

    Args:
        path: A ``.pt2`` file.

    Raises:
        CheckpointError: The file cannot be read, could run code, or was not exported by this package.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    description = check_program(path)
    try:
        arguments = current_arguments(description["hyper_parameters"], warns=False)
        window, patch_size = int(description["window"]), int(description["patch_size"])
        spec = DataSpec.from_dict(arguments["data_spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its description is incomplete ({error!r})") from error
    try:
        program = torch.export.load(path)
    except (RuntimeError, AssertionError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise CheckpointError(
            f"{path}: torch {torch.__version__} cannot load the program ({reason})"
        ) from error
    model = ExportedModel(program, spec, window, patch_size)
    task = _exported_task(EXPORTED_TASKS[spec.target.kind], model, {**arguments, "window": window}, path)
    task.calibration = parse_calibration(description.get(CALIBRATION), path)
    return task


def _exported_task(
    kind: type[PrithviTask], model: ExportedModel, arguments: Mapping[str, Any], path: Path
) -> PrithviTask:
    class ExportedTask(kind):  # type: ignore[misc, valid-type]
        """A task whose model is an exported program."""

        __qualname__ = f"Exported{kind.__name__}"  # its name in tags of maps

        def configure_models(self) -> None:
            """Set the program as the model."""
            self.model = model

        def __reduce__(self) -> Any:
            """Load the file again where the task is unpickled, as in the processes of strategy ddp_spawn."""
            return load_exported_task, (path.absolute(),)

    known = signature(kind).parameters
    given = {key: value for key, value in arguments.items() if key in known and key not in _OF_TRAINING}
    task: PrithviTask = ExportedTask(**given)
    return task.eval()
