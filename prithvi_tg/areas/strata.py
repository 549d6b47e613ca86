"""Stratifications: which stratum each pixel of a map belongs to. To add one, subclass `Stratification`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..errors import ConfigError, DataError, counted
from ..readers.grid import Grid
from ..readers.raster import open_raster, read_stored
from .maps import OUTSIDE, MapReader

Strata = NDArray[np.int16]


class Stratification(ABC):
    """Divides the pixels of maps into strata.

    Attributes:
        kind: Its name, recorded in the design.
        classes: Names of the classes.
    """

    kind: ClassVar[str]

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """A name for each stratum."""

    @abstractmethod
    def assign(self, reader: MapReader, window: Window, classes: Strata) -> Strata:
        """Stratum of each pixel of a window (h, w); -1 for nodata.

        Args:
            reader: The open map.
            window: Pixels of the map.
            classes: Their classes (h, w), -1 for nodata.

        Raises:
            DataError: The map, or a file beside it, cannot be read.
        """

    def class_of(self, stratum: int) -> str | None:
        """The class that all pixels of a stratum are mapped as, if there is one."""
        return self.classes[stratum]

    def described(self) -> dict[str, object]:
        """Its kind and settings."""
        return {"kind": self.kind}


class ClassStrata(Stratification):
    """The classes of the map."""

    kind = "classes"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.classes

    def assign(self, reader: MapReader, window: Window, classes: Strata) -> Strata:
        """Class of each pixel of a window (h, w)."""
        return classes.copy()


class BoundaryStrata(Stratification):
    """The classes of the map, and one stratum of all pixels near a boundary between classes.

    A pixel belongs to the stratum ``boundary`` if a pixel of another class is at most `pixels` rows and columns away in
    the same map. Edges of nodata are not boundaries.

    Args:
        classes: Names of the classes.
        pixels: Width of the buffer on each side of a boundary.
    """

    kind = "boundary"

    def __init__(self, classes: Sequence[str], pixels: int) -> None:
        super().__init__(classes)
        if pixels < 1:
            raise ConfigError(f"boundary_buffer: {pixels} is not positive; give a number of pixels such as 2")
        if "boundary" in classes:
            raise ConfigError("boundary_buffer: a class of the map is named 'boundary'; rename it")
        self.pixels = pixels

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, and ``boundary``."""
        return (*self.classes, "boundary")

    def assign(self, reader: MapReader, window: Window, classes: Strata) -> Strata:
        """Stratum of each pixel of a window (h, w)."""
        (top, bottom), (left, right) = window.toranges()
        grid, margin = reader.map.grid, self.pixels
        first_row, first_column = max(0, top - margin), max(0, left - margin)
        last_row, last_column = min(grid.height, bottom + margin), min(grid.width, right + margin)
        around = reader.classes(
            Window(first_column, first_row, last_column - first_column, last_row - first_row)
        )
        highest = _extreme(np.maximum, around, margin)
        lowest = _extreme(np.minimum, np.where(around == OUTSIDE, len(self.classes), around), margin)
        core = np.s_[top - first_row : bottom - first_row, left - first_column : right - first_column]
        near = (highest != lowest) & (around != OUTSIDE)
        return np.where(near, len(self.classes), around)[core].astype(np.int16)

    def class_of(self, stratum: int) -> str | None:
        """The class of a stratum; none for ``boundary``."""
        return self.classes[stratum] if stratum < len(self.classes) else None

    def described(self) -> dict[str, object]:
        """Its kind and the width of the buffer."""
        return {"kind": self.kind, "pixels": self.pixels}


def _extreme(function: np.ufunc, values: NDArray[np.int16], margin: int) -> NDArray[np.int16]:
    """Maximum or minimum in squares of ``2 * margin + 1`` pixels, cut at the edges."""
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        found = values.copy()
        for shift in range(1, min(margin, len(values) - 1) + 1):
            function(found[shift:], values[:-shift], out=found[shift:])
            function(found[:-shift], values[shift:], out=found[:-shift])
        values = np.moveaxis(found, 0, axis)
    return values


class ConfidenceStrata(Stratification):
    """The classes of the map, each divided into bands of the confidence in ``NAME_confidence.tif`` beside the map.

    Args:
        classes: Names of the classes.
        edges: Edges between bands, increasing, such as 0.5, 0.8. A value on an edge belongs to the band above.
    """

    kind = "confidence"

    def __init__(self, classes: Sequence[str], edges: Sequence[float]) -> None:
        super().__init__(classes)
        if not edges or not all(0 < edge < 1 for edge in edges) or sorted({*edges}) != [*edges]:
            raise ConfigError(
                f"confidence_bands: {' '.join(f'{edge:g}' for edge in edges) or 'none'}; give increasing shares "
                "between 0 and 1, such as 0.5 0.8"
            )
        self.edges = tuple(edges)

    @property
    def names(self) -> tuple[str, ...]:
        """Class and band, such as ``water 0.5-0.8``."""
        bands = [f"{low:g}-{high:g}" for low, high in pairwise((0, *self.edges, 1))]
        return tuple(f"{name} {band}" for name in self.classes for band in bands)

    def assign(self, reader: MapReader, window: Window, classes: Strata) -> Strata:
        """Stratum of each pixel of a window (h, w).

        Raises:
            DataError: The file of confidences is missing, has other pixels, or lacks a pixel of the map.
        """
        path = reader.map.path.with_name(f"{reader.map.path.stem.removesuffix('_pred')}_confidence.tif")
        if not path.exists():
            raise DataError(
                f"{path}: no such file; confidence_bands needs the confidence beside the map, as prithvi-tg predict "
                "--confidence writes it"
            )
        with open_raster(path) as source:
            if Grid.of(source) != reader.map.grid:
                raise DataError(
                    f"{path}: its pixels differ from those of {reader.map.name()}; map the scene again"
                )
            stored, valid, _ = read_stored(source, [1], window=window)
            confidence = stored[0] * source.scales[0]
        if (missing := (classes != OUTSIDE) & ~valid[0]).any():
            raise DataError(
                f"{path}: lacks {counted(missing.sum(), 'pixel')} of {reader.map.name()}; map the scene again"
            )
        bands = np.digitize(confidence, self.edges)
        return np.where(classes == OUTSIDE, OUTSIDE, classes * (len(self.edges) + 1) + bands).astype(np.int16)

    def class_of(self, stratum: int) -> str | None:
        """The class of a stratum."""
        return self.classes[stratum // (len(self.edges) + 1)]

    def described(self) -> dict[str, object]:
        """Its kind and the edges of the bands."""
        return {"kind": self.kind, "edges": list(self.edges)}
