"""DataSpec: the description of the data of a model, which a checkpoint stores for maps of new scenes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .bands import PRITHVI_BANDS
from .deprecated import FlatDataSpec, flat_attribute, nested_spec
from .errors import ConfigError, counted
from .targets import Target

#: Ratio of values to the statistics, or of the statistics to values, from which on the unit is another one.
OTHER_UNIT = 20
#: If all bands lie more standard deviations to the same side of the mean, the unit is another one.
ONE_SIDED = 3


class StoredFormat(NamedTuple):
    """A format of stored reflectance: reflectance 0..1 = stored number * `scale` + `offset`."""

    name: str
    scale: float
    offset: float


SENTINEL2_OFFSET = StoredFormat(
    "Sentinel-2 digital numbers with the offset of +1000 (since 2022)", 1e-4, -0.1
)
LANDSAT_C2 = StoredFormat("Landsat Collection 2 Level 2 digital numbers", 2.75e-5, -0.2)
#: Not a mistake by itself: a factor is enough, which is `scale`.
_NO_OFFSET = StoredFormat("digital numbers without an offset", 1e-4, 0)
#: Reflectance of the darkest pixels below which an offset is impossible; atmospheric correction gives values below 0.
_LOWEST = -0.02


class UnitRatio(float):
    """Ratio of values to the statistics, with further signs of another unit.

    Attributes:
        mistaken_for: The stored format in which the values would match the statistics, if there is one.
        one_sided: Whether all bands lie more than three standard deviations to the same side of the mean.
    """

    mistaken_for: StoredFormat | None = None
    one_sided: bool = False

    def describe(self) -> str:
        """The predicate of a message: ``are about 0.01 times as large as the means in the statistics``."""
        if self.mistaken_for is not None:
            name, scale, offset = self.mistaken_for
            return f"look like {name} (reflectance = number * {scale:g} {offset:+g})"
        if self.one_sided and 1 / OTHER_UNIT < self < OTHER_UNIT:
            return (
                f"are more than {ONE_SIDED} standard deviations off the statistics in every band, to one side"
            )
        factor = np.format_float_positional(float(f"{float(self):.2g}"), trim="-")
        return f"are about {factor} times as large as the means in the statistics"


def reflectance_unit(mean: Sequence[float]) -> float:
    """The value of a reflectance of 1 in the unit of band means: 1 or 1e4."""
    # A mean reflectance cannot be above 10, so the unit of larger means is 1e-4.
    return 1e4 if max(abs(value) for value in mean) > 10 else 1.0


@dataclass(frozen=True)
class InputSpec:
    """Bands, units and statistics of images.

    Attributes:
        bands: Canonical band names in the order of the channels.
        mean: Mean per band after scaling, or per frame and band (``T * C`` values, time-major).
        std: Standard deviation, in the form of `mean`.
        num_frames: Number of dates ``T`` in a sample.
        scale: Factor from stored values to the unit of `mean` and `std`.
        nodata: Stored values that mean nodata, besides the tag of the file and NaN.
        legacy_fill: Value with which hls-foundation-os replaced stored -9999 before scaling; none by default.
        file_bands: Bands of a file, from 1, for the ``T * C`` channels, if the file has no band descriptions.
        file_count: Number of bands of such a file.
        file_descriptions: Band descriptions of the training files, if these name bands. A file with the same ones has
            its bands at `file_bands`.
        metadata: Whether the model was trained with dates and locations.
        pixel_size: Size of a pixel of the training data in metres, if known.
        image_size: Longest side of a training image in pixels, if whole images are classified and it is known.
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
    file_descriptions: tuple[str, ...] = ()
    metadata: bool = False
    pixel_size: float | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        wanted = {len(self.bands), len(self.bands) * self.num_frames}
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in wanted:
                is_default = self.bands == PRITHVI_BANDS
                frames = f" and {self.num_frames} frames" if self.num_frames > 1 else ""
                raise ConfigError(
                    f"{key}: {counted(len(getattr(self, key)), 'value')} for {counted(len(self.bands), 'band')} "
                    f"({' '.join(self.bands)}{', the default' if is_default else ''}){frames}; "
                    f"{'set bands, or ' if is_default else ''}give one per band"
                    f"{', or one per frame and band' if frames else ''}"
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
        """The value of a reflectance of 1 in the unit of the statistics: 1 or 1e4."""
        return reflectance_unit(self.mean)

    def unit_ratio(
        self, values: Sequence[float], lows: Sequence[float] | None = None, scale: float | None = None
    ) -> UnitRatio:
        """Ratio of values to the statistics: the median over channels; 1 if no value is known.

        Args:
            values: A mean or median per channel, in the unit of the statistics; NaN if unknown.
            lows: A low percentile per channel, if known; the darkest pixels show the offset of Sentinel-2.
            scale: Factor from stored values to `values`; that of the training data by default.
        """
        v, mean, std = (np.array(part, float) for part in (values, self.channel_mean, self.channel_std))
        known = np.isfinite(v)
        v, mean, std = v[known], mean[known], std[known]
        rated = mean != 0
        ratio = UnitRatio(np.median(v[rated] / mean[rated]) if rated.any() else 1.0)
        if not len(v):
            return ratio
        off = (v - mean) / std
        ratio.one_sided = bool((off > ONE_SIDED).all() or (off < -ONE_SIDED).all())
        stored = v / (self.scale if scale is None else scale)
        unit = self.reflectance_unit
        distance = {
            form: np.abs((stored * form.scale + form.offset) * unit - mean) / std
            for form in (SENTINEL2_OFFSET, LANDSAT_C2, _NO_OFFSET)
        }
        if self.is_other_unit(ratio):
            dark = [low for low in (lows if lows is not None else ()) if math.isfinite(low)]
            darkest = np.median(dark) / (self.scale if scale is None else scale) if dark else math.inf
            possible = [form for form in distance if darkest * form.scale + form.offset > _LOWEST]
            nearest = min(possible or [_NO_OFFSET], key=lambda form: distance[form].mean())
            if nearest is not _NO_OFFSET and distance[nearest].mean() < min(2, np.abs(off).mean() / 2):
                ratio.mistaken_for = nearest
        elif self._has_sentinel2_offset(v, mean, lows, distance[SENTINEL2_OFFSET] - np.abs(off)):
            ratio.mistaken_for = SENTINEL2_OFFSET
        return ratio

    def _has_sentinel2_offset(
        self,
        values: NDArray[np.float64],
        mean: NDArray[np.float64],
        lows: Sequence[float] | None,
        gain: NDArray[np.float64],
    ) -> bool:
        """Whether values of the right magnitude contain the offset of +1000, a reflectance of 0.1.

        `gain` is the increase of the distance of each channel from the mean without the offset, in standard deviations.
        """
        unit = self.reflectance_unit
        if lows is None:  # no surface has the same shift in all bands
            return bool((np.abs(values - mean - 0.1 * unit) < 0.03 * unit).all())
        # Shadow and water have a reflectance near 0, so the value of the darkest pixels is the offset.
        dark = np.array([low for low in lows if math.isfinite(low)]) / unit
        at_offset = len(dark) > 0 and (dark > 0.09).all() and np.mean(dark < 0.17) >= 0.5
        return bool(at_offset and gain.mean() < 0.25)

    def fitting_scale(self, ratio: UnitRatio, scale: float | None = None) -> float | None:
        """The order of magnitude of the scale with which values of another unit would match the statistics.

        Args:
            ratio: The `unit_ratio` of the values.
            scale: Their scale; that of the training data by default.

        Returns:
            The scale; ``None`` if another scale would not be enough, or the values are of the right magnitude.
        """
        if ratio <= 0 or 1 / OTHER_UNIT < ratio < OTHER_UNIT or ratio.mistaken_for is not None:
            return None
        return float((self.scale if scale is None else scale) / 10.0 ** round(math.log10(ratio)))

    def frame(self, number: int) -> "InputSpec":
        """The description of one of the frames."""
        span = slice(number * len(self.bands), (number + 1) * len(self.bands))
        return replace(
            self,
            mean=self.channel_mean[span],
            std=self.channel_std[span],
            num_frames=1,
            file_bands=(),
            file_count=0,
            file_descriptions=(),
        )

    @staticmethod
    def is_other_unit(ratio: float) -> bool:
        """Whether a `unit_ratio` indicates another unit."""
        if isinstance(ratio, UnitRatio) and (ratio.one_sided or ratio.mistaken_for is not None):
            return True
        return not 1 / OTHER_UNIT < ratio < OTHER_UNIT

    def normalize(self, image: Tensor) -> Tensor:
        """Subtract the mean from images (..., T, C, H, W) in the unit of the statistics; divide by the deviation."""
        mean, std = self._statistics(image)
        return (image - mean) / std

    def denormalize(self, image: Tensor) -> Tensor:
        """Convert normalised images (..., T, C, H, W) to the unit of the statistics."""
        mean, std = self._statistics(image)
        return image * std + mean

    def _statistics(self, image: Tensor) -> tuple[Tensor, Tensor]:
        shape = (self.num_frames, len(self.bands), 1, 1)
        mean, std = (
            image.new_tensor(values).reshape(shape) for values in (self.channel_mean, self.channel_std)
        )
        return mean, std


@dataclass(frozen=True)
class DataSpec(metaclass=FlatDataSpec):
    """Description of the input and the target of a model.

    Attributes:
        input: Bands, units and statistics of the images.
        target: Meaning of the labels: classes of pixels, values of pixels, or classes of chips.
    """

    input: InputSpec
    target: Target

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return flat_attribute(self, name)

    def with_input(self, **changes: Any) -> "DataSpec":
        """A copy with some attributes of the input changed."""
        return replace(self, input=replace(self.input, **changes))

    def to_dict(self) -> dict[str, Any]:
        """The attributes as plain lists and numbers, for YAML and for checkpoints that are read safely."""
        return {"input": _plain(asdict(self.input)), "target": self.target.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataSpec":
        """Create a description from the result of `to_dict`, or from the flat form of earlier releases.

        Raises:
            ConfigError: A key is unknown or a required one is missing.
        """
        parts = nested_spec(values)
        try:
            return cls(input=InputSpec(**parts["input"]), target=Target.from_dict(parts["target"]))
        except (TypeError, KeyError) as error:
            raise ConfigError(f"data_spec: {error}") from error


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
