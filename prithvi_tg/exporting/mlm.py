"""The STAC item of an exported model, by the extension machine-learning-model (MLM)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
import torch
from pystac.extensions.classification import Classification
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import (
    AssetGeneralMLMExtension,
    Hyperparameters,
    InputStructure,
    MLMExtension,
    ModelInput,
    ModelOutput,
    ResultStructure,
    TaskType,
)
from pystac.extensions.raster import DataType

from .. import __version__
from ..files import file_hash
from ..mapping.planning import known_spec
from ..mapping.products.classes import described_classes
from ..spec import DataSpec
from ..targets import ValueTarget
from ..tasks import PrithviTask
from ..tasks.description import describe_task

#: Kind of target -> task of the extension.
TASK_TYPES: dict[str, TaskType] = {
    "classes": TaskType.SEMANTIC_SEGMENTATION,
    "values": TaskType.REGRESSION,
    "chip_classes": TaskType.SCENE_CLASSIFICATION,
}
#: Start of a SHA-256 as a multihash: the code of the function, and the length of the digest.
_SHA256 = "1220"


@dataclass(frozen=True)
class ModelFile:
    """A kind of files of models.

    Attributes:
        artifact_type: ``mlm:artifact_type`` of the file.
        media_type: Media type of the file.
        has_function: Whether the file contains the whole function, with normalisation, and not only weights.
    """

    artifact_type: str
    media_type: str
    has_function: bool


def model_item(task: PrithviTask, path: Path, kind: ModelFile, window: int) -> pystac.Item:
    """Describe a file of a model as a STAC item, for the folder of the file.

    The item has no geometry, and the time of its creation, as a model can map any place and date.

    Args:
        task: The task in the file.
        path: The file.
        kind: Kind of the file.
        window: Height and width of the images in pixels.

    Raises:
        ConfigError: The task has no description of its data.
    """
    spec, hparams = known_spec(task), task.hparams
    arguments = describe_task(task)["hyper_parameters"]
    now = datetime.now(UTC)
    item = pystac.Item(
        path.name, None, None, now, {
            "created": pystac.utils.datetime_to_str(now),
            "description": f"{type(task).__name__} of prithvi_tg with encoder {hparams['encoder']}",
            "prithvi_tg:version": __version__,
            "prithvi_tg:task": task.class_path,
            "prithvi_tg:window": window,
            "prithvi_tg:data_spec": spec.to_dict(),
        },
    )  # fmt: skip
    kind_of_task = TASK_TYPES[spec.target.kind]
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=path.stem,
        architecture=architecture(task),
        tasks=[kind_of_task],
        input=_inputs(task, spec, kind, window),
        output=[_output(spec, kind_of_task, window)],
        framework="PyTorch",
        framework_version=torch.__version__,
        total_parameters=sum(parameter.numel() for parameter in task.model.parameters()),
        hyperparameters=Hyperparameters.create(
            **{key: value for key, value in arguments.items() if key != "data_spec" and value is not None}
        ),
    )
    if spec.target.kind != "values":
        item.stac_extensions.append("https://stac-extensions.github.io/classification/v2.0.0/schema.json")
    asset = pystac.Asset(path.name, title=path.name, media_type=kind.media_type, roles=["mlm:model"])
    item.add_asset("model", asset)
    AssetGeneralMLMExtension.ext(asset).apply(artifact_type=kind.artifact_type)
    FileExtension.ext(asset, add_if_missing=True).apply(
        checksum=_SHA256 + file_hash(path), size=path.stat().st_size
    )
    return item


def architecture(task: PrithviTask) -> str:
    """Encoder and decoder of a task in words."""
    decoder = task.hparams.get("decoder")
    head = f"decoder {decoder}" if decoder else f"pooling {task.hparams.get('pooling')}"
    return f"{type(task.model.encoder).__name__} ({task.hparams['encoder']}), {head}"


def _inputs(task: PrithviTask, spec: DataSpec, kind: ModelFile, window: int) -> list[ModelInput]:
    frames, bands = spec.input.num_frames, list(spec.input.bands)
    unit = f"{spec.input.reflectance_unit:g} = a reflectance of 1"
    inside = (
        "Do not normalise: the model subtracts the mean and divides by the standard deviation of each band itself, and "
        "replaces NaN, which means no data, by the mean."
        if kind.has_function
        else "The file has only weights: fill and normalise with prithvi_tg:data_spec before the model."
    )
    image = InputStructure.create(
        [-1, frames, len(bands), window, window],
        ["batch", "time", "bands", "height", "width"],
        DataType.FLOAT32,
    )
    inputs = [
        ModelInput.create(
            "image", bands, image, f"Images in the unit of the training data ({unit}). {inside}"
        )
    ]
    if task.model.encoder.coordinates:
        inputs += [
            ModelInput.create(name, [], InputStructure.create(shape, order, DataType.FLOAT32), description)
            for name, shape, order, description in (
                ("timestamps", [-1, frames, 2], ["batch", "time", "year_and_day"],
                 "Year and day of year, 1 to 366; NaN = unknown."),
                ("location", [-1, 2], ["batch", "latitude_and_longitude"],
                 "Latitude and longitude in degrees; NaN = unknown."),
            )
        ]  # fmt: skip
    return inputs


def _output(spec: DataSpec, kind: TaskType, window: int) -> ModelOutput:
    target = spec.target
    shape, order = [-1, target.num_outputs], ["batch", "value" if target.kind == "values" else "class"]
    if target.kind != "chip_classes":
        shape, order = [*shape, window, window], [*order, "height", "width"]
    described: dict[str, Any] = {}
    if isinstance(target, ValueTarget):
        values = ", ".join(f"{name} ({unit})" if unit else name for name, unit in
                           zip(target.names, target.units, strict=True))  # fmt: skip
        described["description"] = f"Values in their unit: {values}"
    else:
        described["classes"] = [Classification(one) for one in described_classes(target)]
        described["description"] = "Logits; apply a " + (
            "sigmoid to each class, as several can apply"
            if getattr(target, "multilabel", False)
            else "softmax over classes"
        )
    name = "values" if target.kind == "values" else "logits"
    result = ResultStructure.create(shape, order, DataType.FLOAT32)
    return ModelOutput.create(name, [kind], result, **described)
