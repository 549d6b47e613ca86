"""What a trained model must know of its data, so that a checkpoint can map a scene on its own."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import ConfigError

#: Label of pixels without a label, everywhere after the dataset boundary.
IGNORE_INDEX = 255
#: Values so many times more or less than the statistics are in another unit, not of another place.
OTHER_UNIT = 20


@dataclass(frozen=True)
class DataSpec:
    """Bands, units, statistics and classes of a data set.

    Attributes:
        bands: Canonical band names in the order of the channels.
        mean: Mean per band after scaling, or per frame and band (``T * C`` values, time-major).
        std: Standard deviation, as `mean`.
        num_frames: Number of dates ``T`` in a sample.
        scale: Factor from stored values to the unit of `mean` and `std`.
        nodata: Stored values that mean "no data", beside a file's own tag and NaN.
        legacy_fill: What hls-foundation-os put in the place of stored -9999 before scaling; nothing by default.
        file_bands: 1-based bands of a file that hold the ``T * C`` channels, where it has no descriptions.
        file_count: Bands of such a file.
        class_names: Name of each class.
        class_colors: ``#rrggbb`` of each class.
        metadata: Whether the model was trained with dates and places.
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_frames: int = 1
    scale: float = 1.0
    nodata: tuple[float, ...] = ()
    legacy_fill: float | None = None
    file_bands: tuple[int, ...] = ()
    file_count: int = 0
    class_names: tuple[str, ...] = ()
    class_colors: tuple[str, ...] = ()
    metadata: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        wanted = {len(self.bands), len(self.bands) * self.num_frames}
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in wanted:
                raise ConfigError(
                    f"{key}: {len(getattr(self, key))} values for {len(self.bands)} bands and "
                    f"{self.num_frames} frames; give one per band, or one per frame and band"
                )
        if any(value <= 0 for value in self.std):
            raise ConfigError(f"std: {list(self.std)} must be positive")

    @property
    def channel_mean(self) -> tuple[float, ...]:
        """Mean of each of the ``T * C`` channels, time-major."""
        return self.mean * (self.num_frames if len(self.mean) == len(self.bands) else 1)

    @property
    def channel_std(self) -> tuple[float, ...]:
        """Standard deviation of each of the ``T * C`` channels, time-major."""
        return self.std * (self.num_frames if len(self.std) == len(self.bands) else 1)

    @property
    def reflectance_unit(self) -> float:
        """What a reflectance of 1 is in the unit of the statistics: 1, or 1e4 where the means tell so."""
        # No surface reflects ten times the light that falls on it, so larger means are in 1e4ths.
        return 1e4 if max(abs(value) for value in self.mean) > 10 else 1.0

    def unit_ratio(self, values: Sequence[float]) -> float:
        """How many times the statistics values are: the median over channels; 1 where nothing is known.

        Args:
            values: A mean or median per channel, in the unit of the statistics; NaN where unknown.
        """
        ratios = [
            value / mean
            for value, mean in zip(values, self.channel_mean, strict=True)
            if math.isfinite(value) and mean
        ]
        return float(statistics.median(ratios)) if ratios else 1.0

    def frame(self, number: int) -> "DataSpec":
        """The same of one frame alone."""
        span = slice(number * len(self.bands), (number + 1) * len(self.bands))
        return replace(
            self,
            mean=self.channel_mean[span],
            std=self.channel_std[span],
            num_frames=1,
            file_bands=(),
            file_count=0,
        )

    @staticmethod
    def is_other_unit(ratio: float) -> bool:
        """Whether a `unit_ratio` is so far from 1 that the unit must be another."""
        return not 1 / OTHER_UNIT < ratio < OTHER_UNIT

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, fit for YAML and for a checkpoint that is read safely."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataSpec":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: A key is unknown or a required one is missing.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"data_spec: {error}") from error
