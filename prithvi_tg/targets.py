"""Targets: what a label is, and what a model gives for it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .errors import ConfigError

#: Label of pixels and chips without a label, everywhere after the dataset boundary.
IGNORE_INDEX = 255
#: Classes that fit beside `IGNORE_INDEX` into a byte.
MOST_CLASSES = 255


def ignore_value(mask: Tensor) -> float:
    """What means "not labelled" in a mask: NaN where labels are values, `IGNORE_INDEX` where they are classes."""
    return float("nan") if mask.is_floating_point() else IGNORE_INDEX


def check_class_names(names: Mapping[Any, str] | Sequence[str]) -> None:
    """Refuse classes that cannot be segmented.

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
    if len(distinct) > MOST_CLASSES:
        raise ConfigError(f"classes: {len(distinct)} named; at most {MOST_CLASSES} fit into a map")


class Target(ABC):
    """What a label is: a description, and nothing that reads files or knows a model.

    A kind of target of your own is a frozen dataclass that derives from this one; `TARGETS` holds it by its `kind`.
    """

    kind: ClassVar[str]
    #: Where a sample holds its label.
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
        """Number of values that a model gives for each pixel or chip."""

    def is_labelled(self, sample: Mapping[str, Any]) -> bool:
        """Whether anything in a sample has a label."""
        return bool((sample[self.label_key] != IGNORE_INDEX).any())

    def count(self, sample: Mapping[str, Any]) -> Tensor:
        """How many pixels of a sample are of each class, int64 (K,)."""
        mask: Tensor = sample[self.label_key]
        return torch.bincount(mask[mask != IGNORE_INDEX], minlength=self.num_outputs)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, with the kind, fit for YAML and for a checkpoint that is read safely."""
        values = {key: _lists(value) for key, value in asdict(self).items()}  # type: ignore[call-overload]
        return {"kind": self.kind, **values}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Target":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: The kind is unknown, or a key does not belong to it.
        """
        kind = values.get("kind")
        if kind not in TARGETS:
            raise ConfigError(f"target: kind {kind!r} is unknown; known are {', '.join(TARGETS)}")
        try:
            return TARGETS[kind](**{key: value for key, value in values.items() if key != "kind"})
        except TypeError as error:
            raise ConfigError(f"target: {error}") from error


#: Kind of target -> its class.
TARGETS: dict[str, type[Target]] = {}


@dataclass(frozen=True)
class ClassTarget(Target):
    """A class of each pixel; int64 labels (H, W), `IGNORE_INDEX` = not labelled.

    Attributes:
        names: Name of each class.
        colors: ``#rrggbb`` of each class.
    """

    kind: ClassVar[str] = "classes"
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _freeze(self)

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.names)


@dataclass(frozen=True)
class ValueTarget(Target):
    """Values of each pixel; float32 labels (H, W), or (V, H, W) for several values, NaN = not labelled.

    Models learn standardised values, (value - mean) / std; maps and scores are in the unit.

    Attributes:
        names: Name of each value, such as ``biomass``.
        units: Unit of each value, such as ``t/ha``.
        mean: Mean of each value in the training data, in its unit.
        std: Standard deviation of each value in the training data.
        valid_range: Lowest and highest value that can be; labels outside are an error.
        scale: Factor from stored labels to the unit.
        cmap: Name of a colormap of Matplotlib, for maps and pictures.
    """

    kind: ClassVar[str] = "values"
    names: tuple[str, ...] = ("value",)
    units: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    valid_range: tuple[float, float] | None = None
    scale: float = 1.0
    cmap: str = "viridis"

    def __post_init__(self) -> None:
        _freeze(self)
        for key, default in (("units", ("",)), ("mean", (0.0,)), ("std", (1.0,))):
            if not getattr(self, key):
                object.__setattr__(self, key, default * len(self.names))
            if len(getattr(self, key)) != len(self.names):
                raise ConfigError(
                    f"{key}: {len(getattr(self, key))} given for {len(self.names)} values ({', '.join(self.names)})"
                )
        if any(not value > 0 for value in self.std):
            raise ConfigError(f"std: {list(self.std)} must be positive")

    @property
    def num_outputs(self) -> int:
        """Number of values."""
        return len(self.names)

    def is_labelled(self, sample: Mapping[str, Any]) -> bool:
        """Whether any pixel of a sample has a value."""
        return bool(self.count(sample).any())

    def count(self, sample: Mapping[str, Any]) -> Tensor:
        """How many pixels of a sample have each value, int64 (V,)."""
        mask: Tensor = sample[self.label_key]
        return (~mask.isnan()).reshape(len(self.names), -1).sum(dim=1)


@dataclass(frozen=True)
class ChipClassTarget(Target):
    """A class of a whole chip, int64; or, with `multilabel`, whether each class applies, (K,).

    Attributes:
        names: Name of each class.
        colors: ``#rrggbb`` of each class.
        multilabel: Whether several classes can apply to a chip.
    """

    kind: ClassVar[str] = "chip_classes"
    label_key: ClassVar[str] = "label"
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    multilabel: bool = False

    def __post_init__(self) -> None:
        _freeze(self)

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return len(self.names)

    def count(self, sample: Mapping[str, Any]) -> Tensor:
        """1 for each class of a chip, 0 for the others, int64 (K,)."""
        label: Tensor = sample[self.label_key]
        if self.multilabel:
            return label.where(label != IGNORE_INDEX, 0)
        return torch.bincount(label[label != IGNORE_INDEX].flatten(), minlength=self.num_outputs)


def _freeze(target: Target) -> None:
    """Turn lists, as YAML and checkpoints have them, into tuples."""
    for key, value in vars(target).copy().items():
        if isinstance(value, list):
            object.__setattr__(target, key, tuple(value))


def _lists(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
