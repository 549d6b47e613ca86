"""``prithvi-tg stats``: statistics of a training set, as YAML for a configuration."""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..bands import PRITHVI_BANDS
from ..checks.own_classes import nodata_setting
from ..cli.lightning_parser import PrithviArgumentParser
from ..errors import ConfigError, DataError, MissingStatisticsError, own_error
from ..readers.fill_values import FillSearch
from ..spec import DataSpec, reflectance_unit
from .data_parser import data_parser, open_split, parse_data

# Plausible ranges of the largest band mean, of reflectance and of reflectance times 10000.
_LIKELY = ((0.005, 2.0), (50.0, 20_000.0))


def run(arguments: list[str]) -> int:
    """Read the training set of a configuration once and print the statistics."""
    parser = data_parser("stats")
    config = parse_data(parser, arguments)
    data, _ = create_data(parser, config)
    spec = getattr(data, "spec", None)
    if not isinstance(spec, DataSpec):
        raise ConfigError(
            f"data: {type(data).__name__} is not a data module of this package; stats needs one"
        )
    statistics = training_statistics(open_split(data, "train"), spec, data.num_workers)
    frequencies = statistics.pop("class_frequencies", {})
    of_model = {key: statistics[key] for key in statistics.keys() & {"class_weights"}}
    of_data = {key: value for key, value in statistics.items() if key not in of_model}
    sections = {"data": of_data, "model": of_model}
    settings = {section: {"init_args": keys} for section, keys in sections.items() if keys}
    if described := getattr(data, "described_bands", ""):
        print(f"# {described}")
    print("# Give this as a further --config, or copy its keys.")
    print(
        yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110),
        end="",
    )
    if frequencies:
        print(
            "# class_weights are inverse to the class frequencies, and 1 on average over the labelled pixels."
        )
        print("# Class frequencies, for information:")
    for name, frequency in frequencies.items():
        print(f"#   {name}: {frequency:g}")
    highest = max(map(abs, statistics["mean"]))
    if not any(low <= highest <= high for low, high in _LIKELY):
        print(
            f"prithvi-tg: warning: scale: with {spec.input.scale:g}, the largest band mean is {highest:g}; reflectance "
            "has means of about 0.01 to 1, or 100 to 10000 if it is stored times 10000. Check scale; a scale that "
            "converts to 0..1 is 1 for reflectance 0..1 and 1.0e-4 for reflectance times 10000",
            file=sys.stderr,
        )
    return 0


def create_data(parser: PrithviArgumentParser, config: Any) -> tuple[Any, bool]:
    """Create the data module of a configuration, with means of 0 and standard deviations of 1 if they are missing.

    Returns:
        The data module, and whether statistics are missing.
    """
    try:
        return parser.instantiate_classes(config).data, False
    except Exception as error:
        if not isinstance(own_error(error), MissingStatisticsError):
            raise
    _set_statistics(config.data.init_args)
    return parser.instantiate_classes(config).data, True


def _set_statistics(init_args: Any) -> None:
    lengths = dict.fromkeys(("mean", "std"), len(init_args.get("bands") or PRITHVI_BANDS))
    if init_args.get("values"):
        lengths |= dict.fromkeys(("value_mean", "value_std"), len(init_args["values"]))
    for key, length in lengths.items():
        if not init_args.get(key):
            init_args[key] = [0.0 if key.endswith("mean") else 1.0] * length


def training_statistics(
    dataset: Dataset[dict[str, Any]], spec: DataSpec, num_workers: int = 0
) -> dict[str, Any]:
    """Mean and standard deviation per band over valid pixels, and statistics of labels over labelled pixels.

    Reads one chip at a time, in double precision; dates of a band are pooled.

    Returns:
        ``mean``, ``std`` (in the order of the bands); for classes ``class_frequencies`` by name, and
        ``class_weights`` inverse to the frequencies, 1 on average over labelled pixels; for values ``value_mean``
        and ``value_std``.

    Raises:
        DataError: No pixel of a band is valid, or no pixel is labelled.
    """
    bands = [Moments() for _ in spec.input.bands]
    labels = LABEL_STATISTICS[spec.target.kind](spec)
    search = FillSearch()
    for sample in DataLoader(dataset, batch_size=None, num_workers=num_workers):
        for band, moments in enumerate(bands):
            moments.add(sample["image"][:, band][sample["valid"][:, band]])
        labels.add(sample)
        for frame, data in zip(sample["image"].numpy(), sample["valid"].numpy(), strict=True):
            search.add(frame, data)
    empty = [name for name, moments in zip(spec.input.bands, bands, strict=True) if moments.count == 0]
    if empty:
        raise DataError(f"{', '.join(empty)}: no valid pixel in the training set")
    unit = reflectance_unit([float(moments.mean) for moments in bands])  # the configuration may lack means
    if (fill := search.found(unit)) is not None:
        warnings.warn(
            f"nodata: {fill.describe(spec.input.scale)}, and count as data; if this value means nodata, "
            f"{nodata_setting(fill.stored(spec.input.scale), dataset)}",
            stacklevel=2,
        )
    return {
        "mean": [_rounded(moments.mean) for moments in bands],
        "std": [_rounded(moments.std) for moments in bands],
        **labels.result(),
    }


class Moments:
    """Count, mean and standard deviation of numbers in several parts (Chan, Golub, LeVeque 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.squares = self.mean.clone()

    def add(self, values: Tensor) -> None:
        """Add numbers of any shape."""
        values = values.double().flatten()
        if not len(values):
            return
        total = self.count + len(values)
        difference = values.mean() - self.mean
        squares = ((values - values.mean()) ** 2).sum()
        self.squares = self.squares + squares + difference**2 * self.count * len(values) / total
        self.mean = self.mean + difference * len(values) / total
        self.count = total

    @property
    def std(self) -> Tensor:
        """Standard deviation."""
        return (self.squares / self.count).sqrt()


class ClassStatistics:
    """Frequencies of classes."""

    def __init__(self, spec: DataSpec) -> None:
        self.target = spec.target
        self.names = spec.target.names
        self.labels = torch.zeros(len(self.names), dtype=torch.int64)

    def add(self, sample: Mapping[str, Any]) -> None:
        """Count the labels of a sample."""
        self.labels += self.target.count(sample)

    def result(self) -> dict[str, Any]:
        """``class_frequencies`` and ``class_weights``."""
        if not self.labels.any():
            raise DataError(
                "labels: no pixel of the training set is labelled, so classes have no frequencies or weights"
            )
        present = (self.labels > 0).sum()
        weights = self.labels.sum() / (present * self.labels.clamp(min=1)) * (self.labels > 0)
        shares = self.labels / self.labels.sum()
        return {
            "class_frequencies": dict(zip(self.names, [_rounded(share) for share in shares], strict=True)),
            "class_weights": [_rounded(weight) for weight in weights],
        }


class ValueStatistics:
    """Mean and standard deviation of values."""

    def __init__(self, spec: DataSpec) -> None:
        self.target, self.names = spec.target, spec.target.names
        self.moments = [Moments() for _ in self.names]

    def add(self, sample: Mapping[str, Any]) -> None:
        """Add the labels of a sample, (H, W) or (V, H, W)."""
        mask = sample["mask"]
        for values, moments in zip(mask.reshape(len(self.names), -1), self.moments, strict=True):
            moments.add(values[self.target.is_labelled(values)])

    def result(self) -> dict[str, Any]:
        """``value_mean`` and ``value_std``."""
        empty = [name for name, one in zip(self.names, self.moments, strict=True) if one.count == 0]
        if empty:
            raise DataError(f"labels: no pixel of the training set has a value of {', '.join(empty)}")
        return {
            "value_mean": [_rounded(one.mean) for one in self.moments],
            "value_std": [_rounded(one.std) for one in self.moments],
        }


class NoStatistics:
    """For images without labels."""

    def __init__(self, spec: DataSpec) -> None:
        pass

    def add(self, sample: Mapping[str, Any]) -> None:
        """Nothing to add."""

    def result(self) -> dict[str, Any]:
        """No statistics."""
        return {}


#: Kind of target -> statistics of its labels.
LABEL_STATISTICS: dict[str, Callable[[DataSpec], ClassStatistics | ValueStatistics | NoStatistics]] = {
    "classes": ClassStatistics,
    "chip_classes": ClassStatistics,
    "values": ValueStatistics,
    "images": NoStatistics,
}


def _rounded(value: Tensor) -> float:
    return float(f"{float(value):.6g}")
