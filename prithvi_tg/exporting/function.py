"""ExportedFunction: the whole function of a task, from stored values to logits, as a module that can be traced."""

import copy
import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from traceback import extract_tb
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..mapping.planning import known_spec
from ..models.fusion import can_fuse, fused_logits, fused_weights
from ..models.lora import merge_lora
from ..targets import ValueTarget
from ..tasks import PrithviTask


class FusedDecoder(nn.Module):
    """The published decoder and its head with fused weights, as constants.

    Args:
        neck: A `ConvTransposeNeck` in evaluation mode.
        head: An `FCNHead` in evaluation mode.
    """

    def __init__(self, neck: Any, head: Any) -> None:
        super().__init__()
        with torch.no_grad():
            self.weights = fused_weights(neck, head, head.conv_seg.weight)

    def forward(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Tokens (B, 1 + T*h*w, D) to logits (B, K, 16 h, 16 w)."""
        return fused_logits(tokens, grid, self.weights)


class ExportedFunction(nn.Module):
    """Fills nodata, normalises, and computes the outputs of a task.

    It has a copy of the model in evaluation mode on the CPU, with merged adapters and the fused decoder.

    Args:
        task: A task with a description of its data.

    Attributes:
        output_name: ``values`` for regression, else ``logits``.
        parts: Classes of task, encoder and decoder, for messages.

    Raises:
        ConfigError: The task has no description of its data.
    """

    mean: Tensor
    std: Tensor
    value_mean: Tensor
    value_std: Tensor

    def __init__(self, task: PrithviTask) -> None:
        super().__init__()
        spec = known_spec(task)
        neck = getattr(task.model, "neck", None)
        self.parts = f"{type(task).__name__}, encoder {type(task.model.encoder).__name__}"
        self.parts += f", decoder {type(neck).__name__}" if neck is not None else ""
        self.model = _plain_model(task)
        self.takes_coordinates = bool(self.model.encoder.coordinates)
        shape = (spec.input.num_frames, len(spec.input.bands), 1, 1)
        self.register_buffer("mean", torch.tensor(spec.input.channel_mean).reshape(shape))
        self.register_buffer("std", torch.tensor(spec.input.channel_std).reshape(shape))
        self.output_name = "logits"
        if isinstance(spec.target, ValueTarget):
            self.output_name = "values"
            self.register_buffer("value_mean", torch.tensor(spec.target.mean).reshape(-1, 1, 1))
            self.register_buffer("value_std", torch.tensor(spec.target.std).reshape(-1, 1, 1))
        self.eval()

    def forward(
        self, image: Tensor, timestamps: Tensor | None = None, location: Tensor | None = None
    ) -> Tensor:
        """Logits (B, K, H, W) of classes of pixels, values (B, V, H, W) in their unit, or logits (B, K) of chips.

        Args:
            image: (B, T, C, H, W) float32 in the unit of the statistics, NaN = nodata.
            timestamps: (B, T, 2), year and day of year, NaN = unknown; only for encoders with coordinates.
            location: (B, 2), latitude and longitude in degrees, NaN = unknown.
        """
        image = (image - self.mean) / self.std
        image = torch.where(image.isnan(), 0.0, image)  # the normalised mean
        coordinates: dict[str, Any] = {}
        if self.takes_coordinates:
            coordinates = {"timestamps": timestamps, "location": location}
        outputs: Tensor = self.model(image, **coordinates)
        if self.output_name == "values":
            outputs = outputs * self.value_std + self.value_mean
        return outputs


def example_inputs(task: PrithviTask, window: int, batch: int) -> dict[str, Tensor]:
    """Random inputs of an `ExportedFunction` by name, with some nodata pixels.

    Args:
        task: The task.
        window: Height and width in pixels.
        batch: Number of images.
    """
    spec = known_spec(task).input
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, spec.num_frames, len(spec.bands), window, window, generator=generator)
    image = spec.denormalize(image)
    image[..., : window // 4, : window // 8] = float("nan")
    inputs = {"image": image}
    if task.model.encoder.coordinates:
        day = torch.tensor([2020.0, 180.0]).expand(batch, spec.num_frames, 2).clone()
        inputs |= {"timestamps": day, "location": torch.rand(batch, 2, generator=generator) * 40}
    return inputs


def trace(function: ExportedFunction, inputs: dict[str, Tensor]) -> torch.export.ExportedProgram:
    """Trace the function for any batch size and the height and width of the inputs.

    Args:
        function: The function.
        inputs: Inputs by name, with a batch of at least 2.

    Raises:
        ConfigError: `torch.export` does not support the model, or its batch size is not dynamic.
    """
    batch = torch.export.Dim("batch", min=1)
    shapes = {name: {0: batch} for name in inputs}
    with torch.no_grad():
        function(*inputs.values())  # tables that the model caches must not be computed while it is traced
        try:
            with _quiet_failures():
                program = torch.export.export(function, tuple(inputs.values()), dynamic_shapes=shapes)
        except Exception as error:  # torch raises errors of many classes, its own and those of the model
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
            raise ConfigError(
                f"model: torch.export does not support it ({function.parts}): {reason}{_place(error)}; export the "
                "weights instead, to a .safetensors file"
            ) from error
    _simplify(program)
    return program


@contextmanager
def _quiet_failures() -> Iterator[None]:
    """Discard what torch prints and logs about a failure: a listing of the whole graph."""
    printed, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stderr(printed):
            yield
    finally:
        logging.disable(level)
    sys.stderr.write(printed.getvalue())  # warnings, if there is no failure


def _place(error: Exception) -> str:
    """The last line of code outside installed libraries that an error passed."""
    libraries = Path(torch.__file__).parents[1]
    frames = [
        frame for frame in extract_tb(error.__traceback__) if libraries not in Path(frame.filename).parents
    ]
    own = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    return f", at {Path(own[-1].filename).name}, line {own[-1].lineno} ({own[-1].line})" if own else ""


def _simplify(program: torch.export.ExportedProgram) -> None:
    """Remove what a file must not contain, in place: example inputs, code, paths of this machine, checks of types."""
    program.example_inputs = None  # a reader would need pickle for them
    program._guards_code = []
    for part in program.graph_module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in list(part.graph.nodes):
            node.meta.pop("stack_trace", None)
            if str(node.target) == "aten._assert_tensor_metadata.default":
                part.graph.erase_node(node)  # types differ under autocast
        part.recompile()


def _plain_model(task: PrithviTask) -> Any:
    """A copy of the model on the CPU, without adapters, auxiliary head, compiled code and gradients."""
    model = copy.deepcopy(task.model).cpu().eval().requires_grad_(False)
    merge_lora(model)
    model._compiled_calls = None
    if getattr(model, "auxiliary_head", None) is not None:
        model.auxiliary_head = None
    if getattr(model, "fuse", False) and can_fuse(model.neck, [model.decode_head]):
        model.neck, model.decode_head = FusedDecoder(model.neck, model.decode_head), nn.Identity()
    return model
