"""Label layers: the target of labels of scenes, and the dataset of their files."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...targets import (
    ClassTarget,
    ImageTarget,
    Target,
    ValueTarget,
    check_class_names,
    check_ignored_labels,
)
from ..chips.multi_temporal_crop import MultiTemporalCropClassification
from .cdl import CDLLabels
from .label_dataset import VECTOR_SUFFIXES, LabelDataset, expand_patterns
from .labels import LabelPolygons, LabelRaster
from .value_labels import ValueRaster


class LabelLayer(ABC):
    """Base class of label layers: the target, and the dataset of the files."""

    target: Target

    @abstractmethod
    def open(self, paths: Sequence[str]) -> LabelDataset:
        """Open label files.

        Raises:
            ConfigError: The files are not of the kind of the layer.
            DataError: A file cannot be read.
        """


class ClassLayer(LabelLayer):
    """Rasters or polygons of classes; classes are numbered in the order in which their names first appear.

    Args:
        classes: Class name of each stored label, or of each value of `label_attribute`.
        class_colors: ``#rrggbb`` of each class.
        ignored_labels: Stored labels that mean "not labelled".
        label_attribute: Column of the polygons that holds the class.
        all_touched: Label every pixel that a polygon touches, not only those with their centre in it.

    Raises:
        ConfigError: There are fewer than two classes, or one has no name.
    """

    def __init__(
        self,
        classes: Mapping[int | str, str],
        class_colors: Sequence[str] = (),
        ignored_labels: Sequence[int | str] = (),
        label_attribute: str | None = None,
        all_touched: bool = False,
    ) -> None:
        check_class_names(classes)
        check_ignored_labels(classes, ignored_labels)
        self.target = ClassTarget(tuple(dict.fromkeys(classes.values())), tuple(class_colors))
        numbers = {value: self.target.names.index(name) for value, name in classes.items()}
        self.numbers: dict[Any, int | None] = {**numbers, **dict.fromkeys(ignored_labels)}
        self.label_attribute = label_attribute
        self.all_touched = all_touched

    def open(self, paths: Sequence[str]) -> LabelRaster | LabelPolygons:
        """Open vector files as polygons, and other files as rasters."""
        paths = expand_patterns(paths)
        if all(Path(path).suffix.lower() in VECTOR_SUFFIXES for path in paths):
            if self.label_attribute is None:
                raise ConfigError(
                    "label_attribute: not given; name the column of the polygons that holds the class"
                )
            return LabelPolygons(paths, self.label_attribute, self.numbers, self.all_touched)
        return LabelRaster(paths, {_number(value): number for value, number in self.numbers.items()})


class CDLLayer(LabelLayer):
    """The Cropland Data Layer in the 13 classes of the crop chips, see `CDLLabels`.

    Args:
        class_colors: ``#rrggbb`` of each class; by default those of the crop chips.
    """

    def __init__(self, class_colors: Sequence[str] = ()) -> None:
        crops = MultiTemporalCropClassification
        self.target = ClassTarget(crops.class_names, tuple(class_colors or crops.class_colors))

    def open(self, paths: Sequence[str]) -> CDLLabels:
        """Open rasters of the layer; their names contain the year."""
        return CDLLabels(paths)


class ValueLayer(LabelLayer):
    """Rasters of values, see `ValueRaster`.

    Args:
        target: Names, units, statistics and scale of the values.
    """

    def __init__(self, target: ValueTarget) -> None:
        self.target: ValueTarget = target

    def open(self, paths: Sequence[str]) -> ValueRaster:
        """Open rasters with one band per value."""
        for path in expand_patterns(paths):
            if Path(path).suffix.lower() in VECTOR_SUFFIXES:
                raise ConfigError(
                    f"labels: {path} contains polygons, but values are read from rasters; burn the attribute into one "
                    "(gdal_rasterize -a)"
                )
        return ValueRaster(paths, self.target)


class NoLayer(LabelLayer):
    """No labels, for pre-training.

    Args:
        class_colors: Not used.
    """

    def __init__(self, class_colors: Sequence[str] = ()) -> None:
        self.target = ImageTarget()

    def open(self, paths: Sequence[str]) -> LabelDataset:
        """There is nothing to open.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("labels: this data module has none")


#: Label layers by the name that replaces `classes` in a configuration: published ones, and none.
LABEL_LAYERS: dict[str, type[CDLLayer] | type[NoLayer]] = {"cdl": CDLLayer, "unlabelled": NoLayer}


def create_label_layer(
    classes: Mapping[int | str, str] | str | None,
    values: ValueTarget | None,
    balanced: bool = False,
    **options: Any,
) -> LabelLayer:
    """Create the label layer of a configuration.

    Args:
        classes: Class name of each stored label, or a name in `LABEL_LAYERS`.
        values: The target of labels that are values.
        balanced: Whether training windows are balanced by class.
        **options: Arguments of `ClassLayer`; a published layer only uses ``class_colors``.

    Raises:
        ConfigError: Both or none are given, or an option of classes is given for values.
    """
    if (classes is None) == (values is None):
        raise ConfigError("classes, values: give one of them, depending on the labels")
    if values is not None:
        for key, value in {"balanced": balanced, **options}.items():
            if value:
                raise ConfigError(f"{key}: {value!r} is for classes, but the labels are values; remove it")
        return ValueLayer(values)
    if isinstance(classes, str):
        return LABEL_LAYERS[classes](options["class_colors"])
    assert classes is not None
    return ClassLayer(classes, **options)


def _number(value: int | str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise ConfigError(f"classes: {value!r} is not a raster value; give numbers as stored") from error
