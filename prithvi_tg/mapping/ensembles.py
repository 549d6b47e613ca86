"""Ensemble: several models, or several views of one, behind the `predict_step` of a task."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor

from ..choices import Tta as Tta
from ..errors import CheckpointError, ConfigError
from ..files import file_hash
from ..spec import DataSpec
from ..targets import ClassTarget, ValueTarget
from ..tasks import PrithviTask
from ..tasks.pixelwise import PixelwiseTask
from .combination import Combination
from .model_checks import check_outputs, check_task
from .products import Product
from .provenance import describe, weights_hash

Box = tuple[int, int, int, int]


class View(NamedTuple):
    """A view of an image: quarter turns, then possibly a mirror image."""

    turns: int
    mirrored: bool

    def apply(self, image: Tensor) -> Tensor:
        """The view of images (..., H, W); odd turns exchange height and width."""
        turned = image.rot90(self.turns, (-2, -1))
        return (turned.flip(-1) if self.mirrored else turned).contiguous()

    def undo(self, outputs: Tensor) -> Tensor:
        """Outputs (..., h, w) of a view, turned back."""
        return (outputs.flip(-1) if self.mirrored else outputs).rot90(-self.turns, (-2, -1))

    def box(self, box: Box, size: tuple[int, int]) -> Box:
        """Top, left, bottom and right in the view, of a box in an image of a height and width."""
        (top, left, bottom, right), (height, width) = box, size
        for _ in range(self.turns):
            top, left, bottom, right = width - right, top, width - left, bottom
            height, width = width, height
        return (top, width - right, bottom, width - left) if self.mirrored else (top, left, bottom, right)

    def of_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The view of the images of a batch and of its ``core_window``; dates and places stay as they are."""
        image = batch["image"]
        seen = {**batch, "image": self.apply(image)}
        if "core_window" in batch:
            seen["core_window"] = self.box(batch["core_window"], image.shape[-2:])
        return seen


#: Name -> views of a window.
VIEWS: dict[str, tuple[View, ...]] = {
    "d4": tuple(View(turns, mirrored) for mirrored in (False, True) for turns in range(4))
}


@dataclass(frozen=True)
class Member:
    """A task of an ensemble.

    Attributes:
        task: The task.
        source: Its checkpoint, if it is from a file.
    """

    task: Any
    source: Path | None = None

    @property
    def name(self) -> str:
        """Path of its checkpoint, or its class."""
        return type(self.task).__name__ if self.source is None else str(self.source)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its checkpoint, or of its weights."""
        return weights_hash(self.task) if self.source is None else file_hash(self.source)


class Ensemble(LightningModule):
    """Runs members and views on batches of windows.

    Args:
        members: The members; all of the same data.
        tta: Name of the views, see `VIEWS`; their outputs are averaged as logits.
        calibrated: Divide the logits of each member by the temperature in its checkpoint.
        spec: Bands, statistics and target of members that do not describe their data.

    Raises:
        ConfigError: The members were trained on different data, the views are unknown, or a task is not one of this
            package.
        CheckpointError: A member has no temperature, with `calibrated`.

    Attributes:
        keeps_views: Whether the outputs of a single member also contain those of its views.
    """

    def __init__(
        self,
        members: Sequence[Member],
        tta: Tta | None = None,
        calibrated: bool = False,
        spec: DataSpec | None = None,
    ) -> None:
        super().__init__()
        if tta is not None and tta not in VIEWS:
            raise ConfigError(f"tta: {tta!r} is unknown; choose from {', '.join(get_args(Tta))}")
        self.members = tuple(members)
        self.tta = tta
        self.calibrated = calibrated
        self.keeps_views = False
        self._spec = spec
        for number, member in enumerate(self.members):
            if not isinstance(member.task, PrithviTask):
                key = "tta" if tta is not None else "ckpt_path"
                raise ConfigError(f"{key}: {type(member.task).__name__} is not a task of this package")
            if not isinstance(member.task, PixelwiseTask):
                raise ConfigError(
                    f"{member.name}: tta, calibrated and ensembles apply to maps of pixels, but this model classifies "
                    "whole chips or windows"
                )
            self.add_module(f"member_{number}", member.task)
            _refuse_other_data(self.members[0], member, spec)
        self.temperatures = tuple(_temperature(member) if calibrated else 1.0 for member in self.members)

    @property
    def tasks(self) -> list[PrithviTask]:
        """The tasks of the members."""
        return [member.task for member in self.members]

    @property
    def data_spec(self) -> DataSpec | None:
        """Bands, statistics and target of the training data of all members."""
        return self.tasks[0].data_spec or self._spec

    @property
    def weights_sha256(self) -> str:
        """Hashes of the weights of all members, separated by spaces."""
        return " ".join(member.sha256 for member in self.members)

    # What maps record.

    @property
    def identity(self) -> dict[str, Any]:
        """What the pixels of a map depend on besides the first member."""
        members = [
            [member.sha256, member.task.class_path, dict(member.task.hparams)] for member in self.members
        ]
        return {
            "members": members,
            "tta": self.tta,
            "temperatures": list(self.temperatures),
            "keeps_views": self.keeps_views,
        }

    @property
    def tags(self) -> dict[str, str]:
        """Members, views and temperatures as tags of a map."""
        members = [{"name": one.name, "sha256": one.sha256} for one in self.members]
        return {
            "members": json.dumps(members),
            "tta": self.tta or "",
            "calibrated": "yes" if self.calibrated else "",
            "temperature": " ".join(f"{one:.6g}" for one in self.temperatures) if self.calibrated else "",
        }

    # Hooks of Lightning.

    def setup(self, stage: str) -> None:
        """Check the precision of the trainer."""
        for task in self.tasks:
            task.setup(stage)

    def configure_callbacks(self) -> list[Callback]:
        """The callbacks of the first member."""
        return self.tasks[0].configure_callbacks()

    def on_predict_start(self) -> None:
        """Cache derived weights of all members."""
        for task in self.tasks:
            task.on_predict_start()

    def on_predict_end(self) -> None:
        """Discard the caches."""
        for task in self.tasks:
            task.on_predict_end()

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Outputs (B, P * K, H, W) for a batch of normalised images: K channels for each member.

        With `keeps_views`, those of the single member are followed by those of each view. The outputs are those of the
        ``core_window`` of the batch, if it has one.

        Raises:
            ConfigError: The number of outputs of a member does not match the target.
        """
        outputs: list[Tensor] = []
        for task in self.tasks:
            outputs += self._outputs(task, batch, batch_idx)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _outputs(self, task: PrithviTask, batch: Any, batch_idx: int) -> list[Tensor]:
        """Outputs (B, K, H, W) of a member: the mean over its views, and possibly each of them."""
        if self.tta is None:
            return [self._checked(task.predict_step(batch, batch_idx))]
        seen: list[Tensor] = []

        def outputs_of(view: View) -> Tensor:
            outputs = view.undo(self._checked(task.predict_step(view.of_batch(batch), batch_idx))).float()
            if self.keeps_views:
                seen.append(outputs)
            return outputs

        return [_mean(outputs_of, VIEWS[self.tta]), *seen]

    def _checked(self, outputs: Any) -> Tensor:
        if self.data_spec is not None:
            check_outputs(outputs, self.data_spec)
        found: Tensor = outputs
        return found


def _mean(outputs_of: Callable[[View], Tensor], views: Sequence[View]) -> Tensor:
    """Mean over a power of two of views, by halves: the mean of equal outputs is exactly that output."""
    if len(views) == 1:
        return outputs_of(views[0])
    middle = len(views) // 2
    return (_mean(outputs_of, views[:middle]) + _mean(outputs_of, views[middle:])) / 2


def create_map_model(
    members: Sequence[Member],
    tta: Tta | None = None,
    calibrated: bool = False,
    spec: DataSpec | None = None,
) -> Any:
    """The task of a single member if it is all that a map needs, or else an `Ensemble`; for errors see there."""
    if len(members) == 1 and tta is None and not calibrated:
        return members[0].task
    return Ensemble(members, tta, calibrated, spec)


def tasks_of(model: Any) -> list[Any]:
    """The tasks of a model of maps: those of an ensemble, or the model itself."""
    return model.tasks if isinstance(model, Ensemble) else [model]


def combination_of(model: Any, spec: DataSpec, products: Sequence[Product] = ()) -> Combination | None:
    """How the outputs of a model combine; ``None`` for the outputs of one task.

    Args:
        model: A result of `create_map_model`; it keeps its views if a product needs them.
        spec: Description of the data.
        products: Products of the map.

    Raises:
        ConfigError: The outputs of a task do not match the target, or a product needs several members or views.
    """
    for task in tasks_of(model):
        check_task(task, spec)
    needing = [product.name for product in products if product.needs_parts]
    members = model.members if isinstance(model, Ensemble) else ()
    views = VIEWS[model.tta] if len(members) == 1 and model.tta is not None and needing else ()
    if needing and not views and len(members) < 2:
        raise ConfigError(f"products: {needing[0]} needs several checkpoints, or the views of tta='d4'")
    if not isinstance(model, Ensemble):
        return None
    model.keeps_views = bool(views)
    return Combination(model.temperatures, len(views), isinstance(spec.target, ClassTarget))


def describe_model(model: Any, *arguments: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The result of `describe` for a task, with members, views and temperatures for an ensemble.

    Args:
        model: A result of `create_map_model`.
        *arguments: Further arguments of `describe`.
    """
    identity, tags = describe(tasks_of(model)[0], *arguments)
    if not isinstance(model, Ensemble):
        return identity, tags
    return identity | model.identity, tags | {key: value for key, value in model.tags.items() if value}


def patch_of(model: Any) -> int:
    """Pixels that windows are aligned with: the least common multiple of the patch sizes of the encoders."""
    return math.lcm(
        *(task.model.encoder.patch_size for task in tasks_of(model) if isinstance(task, PrithviTask))
    )


def _temperature(member: Member) -> float:
    calibration = member.task.calibration
    if calibration is None:
        raise CheckpointError(
            f"{member.name}: has no temperature; fit one with prithvi-tg calibrate, or omit calibrated=True"
        )
    return float(calibration.temperature)


def _refuse_other_data(first: Member, other: Member, spec: DataSpec | None) -> None:
    """Check that two members have the same input and output.

    Raises:
        ConfigError: They differ; the message has the file and the key.
    """
    specs = []
    for member in (first, other):
        known = member.task.data_spec or spec
        if known is None:
            raise ConfigError(f"{member.name}: data_spec: has no description of its data; members need one")
        specs.append(known)
    inputs, targets = [spec.input for spec in specs], [spec.target for spec in specs]
    keys: list[tuple[str, Sequence[Any], str]] = [
        ("target", targets, "kind"),
        *((key, inputs, key) for key in ("bands", "num_frames")),
        *((key, inputs, f"channel_{key}") for key in ("mean", "std")),
        ("metadata", inputs, "metadata"),
        ("class_names" if isinstance(targets[0], ClassTarget) else "values", targets, "names"),
    ]
    if isinstance(targets[0], ValueTarget):
        keys += [("units", targets, "units"), ("value_mean", targets, "mean"), ("value_std", targets, "std")]
    for key, owners, attribute in keys:
        one, two = (getattr(owner, attribute, None) for owner in owners)
        if one != two:
            shown = [list(value) if isinstance(value, tuple) else value for value in (two, one)]
            raise ConfigError(
                f"{other.name}: {key} {shown[0]}, but {first.name} has {shown[1]}; members of an ensemble must be "
                "trained on the same data"
            )
