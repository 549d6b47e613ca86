"""Targets: the meaning of a label, and the number of outputs that a model needs for it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .colors import hex_colors
from .errors import ConfigError, counted

#: Label of pixels and chips without a label, in every sample and batch.
IGNORE_INDEX = 255
#: Highest number of classes that fit into a byte beside `IGNORE_INDEX`.
MAX_CLASSES = 255

#: Labels as an array or a tensor.
Labels = TypeVar("Labels", Tensor, NDArray[Any])


def ignore_value(mask: Tensor) -> float:
    """The value that means "not labelled" in a mask: NaN for values (float), `IGNORE_INDEX` for classes (int)."""
    return float("nan") if mask.is_floating_point() else IGNORE_INDEX


def check_ignored_labels(classes: Mapping[Any, str] | Sequence[str], ignored_labels: Sequence[Any]) -> None:
    """Check that no stored value, or name, is both a class and ignored.

    Raises:
        ConfigError: One is.
    """
    names = classes if isinstance(classes, Mapping) else dict(zip(classes, classes, strict=True))
    for label in ignored_labels:
        if label in names:
            raise ConfigError(
                f"ignored_labels: {label} is also a class ({names[label]}); remove it from one of both"
            )


def check_class_names(names: Mapping[Any, str] | Sequence[str]) -> None:
    """Check that classes can be segmented.

    Args:
        names: Name of the class of each stored value, or names of the classes.

    Raises:
        ConfigError: A class has no name, or there are fewer than 2 or more than 255 classes.
    """
    named = (names if isinstance(names, Mapping) else dict(enumerate(names))).items()
    for value, name in named:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"classes: {value!r} has no name ({name!r}); give one")
    distinct = list(dict.fromkeys(name for _, name in named))
    if len(distinct) < 2:
        raise ConfigError(
            f"classes: {len(distinct)} named ({', '.join(distinct)}); segmentation needs at least two, such as a class "
            "and its background"
        )
    if len(distinct) > MAX_CLASSES:
        raise ConfigError(f"classes: {len(distinct)} named; at most {MAX_CLASSES} fit into a map")


class Target(ABC):
    """The description of a label; it reads no files and does not depend on a model.

    To add a kind of target, derive a frozen dataclass from this class; `TARGETS` registers it under its `kind`.
    """

    kind: ClassVar[str]
    #: The labels in words, for messages, and the name of the task of this package that learns them.
    words: ClassVar[str] = "other labels"
    task: ClassVar[str] = ""
    #: Key of a sample that holds the label.
    label_key: ClassVar[str] = "mask"
    names: tuple[str, ...]
    colors: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in vars(cls):
            TARGETS[cls.kind] = cls

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """Number of outputs of a model for each pixel or chip."""

    @classmethod
    def is_labelled(cls, labels: Labels) -> Labels:
        """Which labels are labelled: bool, with the shape of `labels`, an array or a tensor."""
        return labels != IGNORE_INDEX

    def has_label(self, sample: Mapping[str, Any]) -> bool:
        """Whether a sample has at least one labelled pixel, or its chip has a label."""
        labels: Tensor = sample[self.label_key]
        return bool(self.is_labelled(labels).any())

    def count(self, sample: Mapping[str, Any]) -> Tensor:
        """Number of pixels of each class in a sample, int64 (K,)."""
        mask: Tensor = sample[self.label_key]
        return torch.bincount(mask[self.is_labelled(mask)], minlength=self.num_outputs)

    def to_dict(self) -> dict[str, Any]:
        """The kind and attributes as plain lists and numbers, for YAML and for checkpoints that are read safely."""
        values = {key: _lists(value) for key, value in asdict(self).items()}  # type: ignore[call-overload]
        return {"kind": self.kind, **values}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Target":
        """Create a target from the result of `to_dict`.

        Raises:
            ConfigError: The kind is unknown, or has no attribute of the name of a key.
        """
        kind = values.get("kind")
        if kind not in TARGETS:
            raise ConfigError(f"target: kind {kind!r} is unknown; choose from {', '.join(TARGETS)}")
        try:
            return TARGETS[kind](**{key: value for key, value in values.items() if key != "kind"})
        except TypeError as error:
            raise ConfigError(f"target: {error}") from error


#: Kind of target -> its class.
TARGETS: dict[str, type[Target]] = {}


@dataclass(frozen=True)
class ClassTarget(Target):
    """A class for each pixel: int64 labels (H, W), `IGNORE_INDEX` = not labelled.

    Attributes:
        names: Name of each class.
        colors: ``#rrggbb`` of each class; other notations of Matplotlib are converted.
    """

    kind: ClassVar[str] = "classes"
    words: ClassVar[str] = "classes of pixels"
    task: ClassVar[str] = "PrithviSegmentationTask"
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _freeze(self)
        object.__setattr__(self, "colors", hex_colors(self.colors, self.names))

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.names)


@dataclass(frozen=True)
class ValueTarget(Target):
    """One or several values for each pixel: float32 labels (H, W) or (V, H, W), NaN = not labelled.

    Models learn standardised values, (value - mean) / std; maps and scores are in the unit.

    Attributes:
        names: Name of each value, such as ``biomass``.
        units: Unit of each value, such as ``t/ha``.
        mean: Mean of each value in the training data, in its unit.
        std: Standard deviation of each value in the training data.
        valid_range: Lowest and highest possible value; labels outside this range are an error.
        scale: Factor from stored labels to the unit.
        cmap: Name of a Matplotlib colormap, for maps and figures.
        ignored_labels: Stored labels that mean "not labelled", besides the tags of the files and NaN.
    """

    kind: ClassVar[str] = "values"
    words: ClassVar[str] = "values of pixels"
    task: ClassVar[str] = "PrithviPixelwiseRegressionTask"
    names: tuple[str, ...] = ("value",)
    units: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    valid_range: tuple[float, float] | None = None
    scale: float = 1.0
    cmap: str = "viridis"
    ignored_labels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _freeze(self)
        for key, default in (("units", ("",)), ("mean", (0.0,)), ("std", (1.0,))):
            if not getattr(self, key):
                object.__setattr__(self, key, default * len(self.names))
            if len(getattr(self, key)) != len(self.names):
                values = f"{counted(len(self.names), 'value')} ({', '.join(self.names)})"
                name = key if key == "units" else f"value_{key}"  # as data modules call them
                raise ConfigError(f"{name}: {len(getattr(self, key))} given for {values}")
        if any(not value > 0 for value in self.std):
            raise ConfigError(f"value_std: {list(self.std)} must be positive")
        if self.valid_range is not None and self.valid_range[0] > self.valid_range[1]:
            low, high = self.valid_range[::-1]
            raise ConfigError(
                f"valid_range: {list(self.valid_range)}: the lowest value comes first; write [{low:g}, {high:g}]"
            )

    def is_outside(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Mask of values outside the valid range; NaN is not."""
        low, high = self.valid_range or (-np.inf, np.inf)
        found: NDArray[np.bool_] = (values < low) | (values > high)
        return found

    @property
    def num_outputs(self) -> int:
        """Number of values."""
        return len(self.names)

    @classmethod
    def is_labelled(cls, labels: Labels) -> Labels:
        """Which labels are not NaN: bool, with the shape of `labels`, an array or a tensor."""
        return ~labels.isnan() if isinstance(labels, Tensor) else ~np.isnan(labels)

    def count(self, sample: Mapping[str, Any]) -> Tensor:
        """Number of pixels of a sample that have each value, int64 (V,)."""
        mask: Tensor = sample[self.label_key]
        return self.is_labelled(mask).reshape(len(self.names), -1).sum(dim=1)


@dataclass(frozen=True)
class ChipClassTarget(Target):
    """A class for each chip, int64 (); with `multilabel`, 1 for each class that applies and 0 for the others, (K,).

    Attributes:
        names: Name of each class.
        colors: ``#rrggbb`` of each class; other notations of Matplotlib are converted.
        multilabel: Whether several classes can apply to a chip.
    """

    kind: ClassVar[str] = "chip_classes"
    words: ClassVar[str] = "classes of whole chips"
    task: ClassVar[str] = "PrithviClassificationTask"
    label_key: ClassVar[str] = "label"
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    multilabel: bool = False

    def __post_init__(self) -> None:
        _freeze(self)
        object.__setattr__(self, "colors", hex_colors(self.colors, self.names))

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.names)

    def count(self, sample: Mapping[str, Any]) -> Tensor:
        """1 for each class of a chip and 0 for the others, int64 (K,)."""
        label: Tensor = sample[self.label_key]
        labelled = self.is_labelled(label)
        if self.multilabel:
            return label.where(labelled, 0)
        return torch.bincount(label[labelled].flatten(), minlength=self.num_outputs)


@dataclass(frozen=True)
class ImageTarget(Target):
    """No labels: a model learns to reconstruct masked patches of the images themselves."""

    kind: ClassVar[str] = "images"
    words: ClassVar[str] = "images without labels"
    task: ClassVar[str] = "PrithviPretrainingTask"
    label_key: ClassVar[str] = "image"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _freeze(self)

    @property
    def num_outputs(self) -> int:
        """0, as there are no labels."""
        return 0

    def has_label(self, sample: Mapping[str, Any]) -> bool:
        """Whether a sample has any value with data."""
        return "valid" not in sample or bool(sample["valid"].any())

    def count(self, sample: Mapping[str, Any]) -> Tensor:
        """An empty tensor, as there are no labels."""
        return torch.zeros(0, dtype=torch.int64)


def _freeze(target: Target) -> None:
    """Convert the lists of YAML and checkpoints to tuples."""
    for key, value in vars(target).copy().items():
        if isinstance(value, list):
            object.__setattr__(target, key, tuple(value))


def _lists(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
