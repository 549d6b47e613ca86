"""The formats of exported models: how each is written, by suffix."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ..errors import ConfigError
from ..files import writing
from ..mapping.planning import window_and_stride
from ..mapping.products.stac import write_stac_item
from ..tasks import PrithviTask
from ..tasks.description import DESCRIPTION, describe_as_text
from ..tasks.export import export_weights
from ..tasks.exported import ExportedModel
from .function import ExportedFunction, example_inputs, trace
from .mlm import TASK_TYPES, ModelFile, model_item

_log = logging.getLogger(__name__)

_PROTOBUF_LIMIT = 1 << 30


@dataclass(frozen=True)
class ExportFormat(ModelFile):
    """A format of exported models.

    Attributes:
        write: Writes a task for images of `window` pixels to a path.
    """

    write: Callable[[PrithviTask, Path, int], None]


def _write_weights(task: PrithviTask, path: Path, window: int) -> None:
    export_weights(task, path)


def _write_program(task: PrithviTask, path: Path, window: int) -> None:
    """Write a program of ``torch.export``, with the description as an extra file."""
    function = ExportedFunction(task)
    program = trace(function, example_inputs(task, window, batch=2))
    extra = {DESCRIPTION: _description(task, function, window)}
    with warnings.catch_warnings():
        # A tensor that is a part of a larger one is stored without the rest, which torch reports.
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(program, path, extra_files=extra)


def _write_onnx(task: PrithviTask, path: Path, window: int) -> None:
    """Write ONNX, with the description in ``metadata_props``."""
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise ConfigError(f"{path.suffix}: needs onnx and onnxscript: pip install onnx onnxscript")
    function = ExportedFunction(task)
    program = trace(function, example_inputs(task, window, batch=2))
    model = torch.onnx.export(program, (), dynamo=True, verbose=False, output_names=[function.output_name])
    assert model is not None
    model.model.metadata_props[DESCRIPTION] = _description(task, function, window)
    # A protobuf is limited to 2 GiB; the weights of larger models are in a second file.
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    model.save(path, external_data=size > _PROTOBUF_LIMIT)


def _description(task: PrithviTask, function: ExportedFunction, window: int) -> str:
    patch_size = task.model.encoder.patch_size
    return describe_as_text(task, window=window, patch_size=patch_size, output=function.output_name)


#: Suffix -> format.
EXPORT_FORMATS: dict[str, ExportFormat] = {
    ".pt2": ExportFormat("torch.export.save", "application/zip", True, _write_program),
    ".onnx": ExportFormat("onnx", "application/octet-stream", True, _write_onnx),
    ".safetensors": ExportFormat(
        "safetensors.torch.save_file", "application/octet-stream", False, _write_weights
    ),
}


def item_path(path: Path) -> Path:
    """Path of the STAC item of an exported model: ``MODEL.pt2.json`` for ``MODEL.pt2``."""
    return path.with_name(f"{path.name}.json")


def export_model(
    task: PrithviTask, path: str | Path, window: int | None = None, overwrite: bool = False
) -> Path:
    """Write a task as an exported program, as ONNX, or its weights as safetensors, by the suffix of the path.

    Exported programs and ONNX contain the whole function: fill of nodata, normalisation, encoder and decoder, for any
    batch size and images of `window` x `window` pixels, see `ExportedFunction.forward`. Adapters are merged. A STAC
    item (extension machine-learning-model) describes the file, see `item_path`; weights of a task without a description
    of its data, and of a pre-training, have none.

    Args:
        task: A task with a description of its data.
        path: The file to write; a key of `EXPORT_FORMATS` is its suffix. Files get their names when they are complete.
        window: Height and width of the images; by default the window of the task; of a classifier, the size of its
            training chips; or else 224.
        overwrite: Replace the file and its item if they exist.

    Returns:
        The path.

    Raises:
        ConfigError: The suffix is unknown, a file exists, the task has no description of its data, or the format does
            not support the model.
        DataError: The file cannot be written.
    """
    path = Path(path)
    form = EXPORT_FORMATS.get(path.suffix)
    if form is None:
        raise ConfigError(f"{path}: must end in {', '.join(EXPORT_FORMATS)}")
    if isinstance(task.model, ExportedModel):
        raise ConfigError(f"{path}: the task is already an exported model; export its checkpoint")
    described = item_path(path)
    for one in (path, described):
        if one.exists() and not overwrite:
            raise ConfigError(f"{one}: exists; add overwrite=True to replace it")
    has_outputs = task.target_kind in TASK_TYPES
    if not has_outputs and form.has_function:
        raise ConfigError(
            f"{path}: a model from pretrain only reconstructs images; export its weights, .safetensors, or "
            "fine-tune it first"
        )
    if window is None and not task.hparams.get("window") and task.data_spec is not None:
        window = task.data_spec.input.image_size
    window, _ = window_and_stride(task, window, None)
    if form.has_function:
        _log.info(f"Exporting for images of {window} x {window} pixels")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{path.stem}.", suffix=".partial", dir=path.parent) as folder:
            form.write(task, Path(folder) / path.name, window)
            if task.data_spec is not None and has_outputs:
                item = model_item(task, Path(folder) / path.name, form, window)
                write_stac_item(item, Path(folder) / described.name)
            for made in sorted(Path(folder).iterdir(), reverse=True):
                made.replace(path.parent / made.name)
    return path
