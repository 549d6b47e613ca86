"""``prithvi-tg stats``: statistics of a training set, as YAML ready to paste."""

import sys
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..bands import PRITHVI_BANDS
from ..datamodules import ChipDataModule, LabelledScenesDataModule
from ..errors import ConfigError, DataError
from ..spec import DataSpec
from .data_parser import data_parser, parse_data

# Largest band means of reflectance, and of reflectance times 10000.
_LIKELY = ((0.005, 2.0), (50.0, 20_000.0))
#: Data modules of data of one's own, which have no published statistics.
_NEED_STATISTICS = ("ChipFolderDataModule", "ClassifiedChipsDataModule", "LabelledScenesDataModule")


def run(arguments: list[str]) -> int:
    """Build the data module of a configuration, read its training set once and print the statistics."""
    parser = data_parser(
        "stats",
        "Print band means and standard deviations, class frequencies and balanced class weights of a "
        "training set, as YAML.",
    )
    config = parse_data(parser, arguments)
    allow_missing_statistics(config.data)
    data = parser.instantiate_classes(config).data
    spec = getattr(data, "spec", None)
    if not isinstance(spec, DataSpec):
        raise ConfigError(
            f"data: {type(data).__name__} is not a data module of this package, which stats needs"
        )
    found = training_statistics(_training_set(data), spec, data.num_workers)
    frequencies = found.pop("class_frequencies")
    print("# Put mean and std under data.init_args, class_weights under model.init_args.")
    print(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), end="")
    print("# Class frequencies, for information:")
    for name, frequency in frequencies.items():
        print(f"#   {name}: {frequency:g}")
    highest = max(map(abs, found["mean"]))
    if not any(low <= highest <= high for low, high in _LIKELY):
        print(
            f"prithvi-tg: warning: scale: with {spec.input.scale:g}, the largest band mean is {highest:g}; reflectance "
            "has means of about 0.01 to 1, or 100 to 10000 if it is stored times 10000. Check scale; a scale that "
            "converts to 0..1 is 1 for reflectance 0..1 and 1.0e-4 for reflectance times 10000",
            file=sys.stderr,
        )
    return 0


def _training_set(data: Any) -> Dataset[dict[str, Any]]:
    """Every chip once, or every pixel of the training ground."""
    if isinstance(data, LabelledScenesDataModule):
        return data.scored_windows("train", *data.open_ground("validate"))
    assert isinstance(data, ChipDataModule)  # as its spec is a DataSpec
    return data.open_split("train")


def allow_missing_statistics(data: Any) -> bool:
    """Data of one's own need statistics, which are what this command is to find out; whether any were missing."""
    init_args = data.get("init_args", {})
    if not data.get("class_path", "").endswith(_NEED_STATISTICS):
        return False
    missing = [key for key in ("mean", "std") if not init_args.get(key)]
    for key in missing:
        init_args[key] = [0.0 if key == "mean" else 1.0] * len(init_args.get("bands") or PRITHVI_BANDS)
    return bool(missing)


def training_statistics(
    dataset: Dataset[dict[str, Any]], spec: DataSpec, num_workers: int = 0
) -> dict[str, Any]:
    """Mean and deviation per band over valid pixels, and frequencies over labelled pixels.

    Reads one chip at a time, in double precision; all dates of a band count together.

    Returns:
        ``mean``, ``std`` (in the order of the bands), ``class_frequencies`` by name, and ``class_weights``
        inverse to the frequencies, 1 on average over labelled pixels.

    Raises:
        DataError: No pixel of a band is valid, or no pixel is labelled.
    """
    bands, classes = len(spec.input.bands), len(spec.target.names)
    count = torch.zeros(bands, dtype=torch.float64)
    mean, squares = count.clone(), count.clone()
    labels = torch.zeros(classes, dtype=torch.int64)
    for sample in DataLoader(dataset, batch_size=None, num_workers=num_workers):
        for band in range(bands):
            values = sample["image"][:, band][sample["valid"][:, band]].double()
            if len(values):
                count[band], mean[band], squares[band] = _merged(
                    count[band], mean[band], squares[band], values
                )
        labels += spec.target.count(sample)
    if (count == 0).any():
        empty = [band for band, n in zip(spec.input.bands, count, strict=True) if n == 0]
        raise DataError(f"{', '.join(empty)}: no valid pixel in the training set")
    if not labels.any():
        raise DataError(
            "labels: no pixel of the training set is labelled, so classes have no frequencies or weights"
        )
    present = (labels > 0).sum()
    weights = labels.sum() / (present * labels.clamp(min=1)) * (labels > 0)
    return {
        "mean": [_rounded(value) for value in mean],
        "std": [_rounded(value) for value in (squares / count).sqrt()],
        "class_frequencies": dict(
            zip(spec.target.names, [_rounded(value) for value in labels / labels.sum()], strict=True)
        ),
        "class_weights": [_rounded(value) for value in weights],
    }


def _merged(count: Tensor, mean: Tensor, squares: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and sum of squared deviations after more values (Chan, Golub, LeVeque 1979)."""
    total = count + len(values)
    difference = values.mean() - mean
    own = ((values - values.mean()) ** 2).sum()
    merged = squares + own + difference**2 * count * len(values) / total
    return total, mean + difference * len(values) / total, merged


def _rounded(value: Tensor) -> float:
    return float(f"{float(value):.6g}")
