"""Splits of labelled scenes into training, validation and test: by blocks, by polygons, or by time."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd

from ..datasets.scenes.dataset import SceneDataset
from ..datasets.scenes.splits import read_split_polygons
from ..datasets.split_fractions import SPLITS
from ..errors import ConfigError, DataError, counted, first_of
from ..nulls import set_defaults

_DATES = (
    "dates are read from band descriptions such as B02_20200630, HLS and Sentinel-2 names, and STAC items"
)


@dataclass(frozen=True)
class BlockSplit:
    """Square blocks, each assigned to one split; see `split_by_blocks`.

    Attributes:
        block: Side of a block in pixels.
        fractions: Shares of training, validation and test; with no share for validation, as in ``[0.8, 0, 0.2]``,
            training runs without validation.
        buffer: Pixels between training windows and the blocks of other splits.
        seed: The same seed gives the same blocks.
    """

    block: int
    fractions: Sequence[float] = (0.6, 0.2, 0.2)
    buffer: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        set_defaults(self)
        object.__setattr__(self, "fractions", tuple(self.fractions))

    @property
    def names(self) -> list[str]:
        """The splits with a share."""
        return [name for name, share in zip(SPLITS, self.fractions, strict=False) if share > 0]


@dataclass(frozen=True)
class PolygonSplit:
    """Polygons with an attribute for the split of their area; see `split_by_polygons`.

    Attributes:
        path: A vector file that GeoPandas can read.
        attribute: Column with ``train``, ``val`` or ``test``.
    """

    path: str
    attribute: str = "split"

    def __post_init__(self) -> None:
        set_defaults(self)

    @property
    def names(self) -> list[str]:
        """The splits with a polygon."""
        found = set(read_split_polygons(self.path, self.attribute)[self.attribute])
        return [name for name in SPLITS if name in found]


@dataclass(frozen=True)
class TimeSplit:
    """Periods of training, validation and test, on the same area.

    An image belongs to a split if its first and last date lie in the period. Images with dates inside and outside a
    period, and images without a date, belong to no split.

    Attributes:
        train: First and last day, ``YYYY-MM-DD``, both included.
        val: Like `train`; periods must not overlap. ``None``, the default, means training without validation.
        test: Like `train`; no test set by default.

    Raises:
        ConfigError: A day cannot be read, a period ends before it begins, or two share a day.
    """

    train: tuple[str, str]
    val: tuple[str, str] | None = None
    test: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        set_defaults(self)
        periods = sorted((self.period(name), name) for name in self.names)
        for ((_, last), name), ((first, _), other) in pairwise(periods):
            if first <= last:
                raise ConfigError(
                    f"split: the periods of {name} and {other} share {first:%Y-%m-%d}; periods must not overlap"
                )

    @property
    def names(self) -> list[str]:
        """The splits with a period."""
        return [name for name in SPLITS if getattr(self, name) is not None]

    def period(self, split: str) -> tuple[pd.Timestamp, pd.Timestamp]:
        """The first moment of a split's first day and the last moment of its last day."""
        days = getattr(self, split)
        try:
            first, last = (pd.Timestamp(str(day)).normalize() for day in days)
        except ValueError as error:
            raise ConfigError(
                f"split: {split} is {days!r}; give its first and last day, YYYY-MM-DD"
            ) from error
        if last < first:
            raise ConfigError(f"split: {split} ends on {days[1]}, before it begins on {days[0]}")
        return first, last + pd.Timedelta(days=1) - pd.Timedelta(nanoseconds=1)

    def holds(self, split: str, time: pd.Interval) -> bool:
        """Whether all dates of an image lie in the period of a split."""
        first, last = self.period(split)
        return bool(first <= time.left and time.right <= last)


def images_in_no_split(split: TimeSplit, images: SceneDataset) -> str:
    """A message about images with dates inside and outside a period, and about images without a date, or none.

    Raises:
        DataError: No image has a date.
    """
    periods = [pd.Interval(*split.period(name), closed="both") for name in split.names]
    paths = dict(enumerate(Path(path).name for path in images.index["filepath"]))
    undated = [paths[k] for k, time in enumerate(images.index.index) if time.left == pd.Timestamp.min]
    if len(undated) == len(paths):
        raise DataError(
            f"split: a split by time needs the dates of the images, but none is known: {first_of(undated, 5)}; {_DATES}"
        )
    left_out = [
        paths[k]
        for k, time in enumerate(images.index.index)
        if any(time.overlaps(period) for period in periods)
        and not any(split.holds(name, time) for name in split.names)
    ]
    if not left_out:
        return ""
    advice = _DATES if undated else "change the periods, or remove these images"
    return (
        f"split: {counted(len(left_out), 'image')} in no split, as dates are unknown or do not all lie in one period: "
        f"{first_of(left_out, 5)}; {advice}"
    )


def warn_of_images_in_no_split(split: TimeSplit, images: SceneDataset) -> None:
    """Warn about images in no split, see `images_in_no_split`."""
    if message := images_in_no_split(split, images):
        warnings.warn(message, stacklevel=3)
