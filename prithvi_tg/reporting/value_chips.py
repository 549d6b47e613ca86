"""ValueChipScores: scores of single chips with values as labels, a table and pictures."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..files import finished_file
from ..plotting import plot_values
from ..spec import DataSpec
from ..targets import ValueTarget
from ..tasks.value_metrics import ValueErrors, value_scores
from .chips import denormalised, gather, on_cpu, save_picture
from .scored_chips import ExtremeSamples, ScoredChips, extremes

#: Columns of ``chips.csv`` for each value; the mean and standard deviation of the labels give R2 of several chips.
_COLUMNS = ("RMSE", "MAE", "bias", "pixels", "label mean", "label std")


@dataclass(frozen=True)
class ValueChips(ScoredChips):
    """Sums of errors of chips, see `ValueErrors`.

    Attributes:
        names: Name of each chip.
        sums: Sums (N, 6, V).
        target: The values.
        block: See `ScoredChips`.
    """

    names: tuple[str, ...]
    sums: NDArray[np.float64]
    target: ValueTarget
    block: int = 0

    def scores(self, weights: NDArray[np.int64] | None = None) -> dict[str, NDArray[np.float64]]:
        """``RMSE MAE bias R2`` (D, V) and ``mR2`` (D,) of the whole set.

        Args:
            weights: Number of times (D, N) that each chip is counted; once by default, with D = 1.
        """
        weights = np.ones((1, len(self.names)), np.int64) if weights is None else weights
        sums = np.einsum("dn,nsv->dsv", weights, self.sums)
        return {name: values.numpy() for name, values in value_scores(torch.from_numpy(sums)).items()}

    @cached_property
    def qualities(self) -> NDArray[np.float64]:
        """Minus the sum of the squared errors of each chip (N,), each in variances of its value.

        The RMSE would put chips with a few labelled pixels first.
        """
        qualities: NDArray[np.float64] = -(self.sums[:, 3] / np.square(self.target.std)).sum(axis=1)
        return qualities

    def caption(self, number: int) -> str:
        """The RMSE of a chip for each value, with its unit."""
        errors = value_scores(torch.from_numpy(self.sums[number]))["RMSE"].tolist()
        several = len(errors) > 1
        return ", ".join(
            f"{f'{name} ' if several else ''}RMSE {error:.3g}{f' {unit}' if unit else ''}"
            for name, unit, error in zip(self.target.names, self.target.units, errors, strict=True)
            if error == error
        )


class ValueChipScores:
    """Accumulates the sums of scored chips, and keeps the best and worst chips to draw them.

    Args:
        target: The values.
        spec: Bands and statistics, needed to draw chips.
        num_extremes: Number of best chips and of worst chips to draw.
    """

    chips_class: type[ValueChips] = ValueChips

    def __init__(self, target: ValueTarget, spec: DataSpec | None, num_extremes: int = 4) -> None:
        self.target = target
        self.spec = spec
        self.num_extremes = num_extremes
        self.sums: dict[str, NDArray[np.float64]] = {}
        self._kept = ExtremeSamples(num_extremes)

    def update(self, names: Sequence[str], batch: dict[str, Tensor], predictions: Tensor) -> None:
        """Add a batch.

        Args:
            names: Name of each chip.
            batch: Normalised ``image`` (B, T, C, H, W), ``mask`` (B, H, W) or (B, V, H, W), and optionally ``valid``.
            predictions: Values of the same shape as the mask, in the unit of the target.
        """
        for number, name in enumerate(names):
            label, prediction = (
                values[number].cpu().reshape(1, -1, *values.shape[-2:])
                for values in (batch["mask"], predictions)
            )
            errors = ValueErrors(self.target)
            errors.update(prediction, label)
            if not errors.sums[0].any():
                continue
            self.sums[name] = errors.sums.numpy()
            if self.spec is not None:
                keys = ("image", "valid", "mask", "scored")
                sample = {key: batch[key][number] for key in keys if key in batch}
                self._keep(name, sample | {"prediction": predictions[number]})

    def _keep(self, name: str, sample: dict[str, Tensor]) -> None:
        (quality,) = self.chips_class((name,), self.sums[name][None], self.target).qualities.tolist()
        self._kept.add(quality, name, partial(on_cpu, sample))

    def gathered(self) -> ValueChips:
        """Gather the chips of all processes, sorted by name."""
        sums = dict(sorted((name, values) for part in gather(self.sums) for name, values in part.items()))
        stacked = np.stack(list(sums.values())) if sums else np.zeros((0, 6, len(self.target.names)))
        return self.chips_class(tuple(sums), stacked, self.target)

    def write_table(self, path: Path, chips: ValueChips) -> None:
        """Write ``chips.csv``, see `write_value_table`."""
        write_value_table(path, chips)

    def write_pictures(self, folder: Path, chips: ValueChips) -> list[Path]:
        """Draw those of the best and worst chips that this process holds, as ``worst_1_NAME.png`` and so on."""
        written = []
        for rank, name in extremes(chips, self.num_extremes).items():
            sample = self._kept.samples.get(name)
            if sample is not None and (figure := self.plot(sample)) is not None:
                written.append(save_picture(folder, f"{rank}_{name}", figure, dpi=60))
        return written

    def plot(self, sample: dict[str, Any]) -> Figure | None:
        """Draw a normalised sample with its ``prediction``; ``None`` without `spec`."""
        return None if self.spec is None else plot_values(denormalised(sample, self.spec), self.spec)


def write_value_table(path: Path, chips: ValueChips) -> None:
    """Write ``chips.csv``: one row per chip, with scores, labelled pixels, mean and deviation of the labels.

    RMSE, MAE, bias, mean and deviation are in the unit of the value.
    """
    center = np.array(chips.target.mean)
    scores = value_scores(torch.from_numpy(chips.sums))
    count, label, squared_label = (chips.sums[:, row] for row in (0, 4, 5))
    with np.errstate(invalid="ignore", divide="ignore"):  # a chip without labels of a value
        mean = label / count
        deviation = np.sqrt(np.maximum(squared_label / count - mean**2, 0))
    columns = (*(scores[key].numpy() for key in _COLUMNS[:3]), count, mean + center, deviation)
    with finished_file(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["chip", *(f"{key} {name}" for name in chips.target.names for key in _COLUMNS)])
        for number, chip in enumerate(chips.names):
            cells = (column[number, k] for k in range(len(chips.target.names)) for column in columns)
            writer.writerow([chip, *(f"{value:.9g}" for value in cells)])


def read_value_table(path: Path, target: ValueTarget, block: int = 0) -> ValueChips:
    """Read a table written by `write_value_table`; R2 is NaN if a table of an earlier version has no labels.

    Raises:
        DataError: The file is not such a table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        names = tuple(table["chip"])
        scores = [
            [_column(table, f"{key} {name}", key in _COLUMNS[:4]) for name in target.names]
            for key in _COLUMNS
        ]
        rmse, mae, bias, count, mean, deviation = np.array(scores, np.float64).swapaxes(1, 2)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a readable table of chips ({error})") from error
    label = mean - np.array(target.mean)
    means = np.stack([np.ones_like(count), bias, mae, rmse**2, label, deviation**2 + label**2], axis=1)
    sums = np.where(count[:, None] > 0, means * count[:, None], 0)
    return ValueChips(names, sums, target, block)


def _column(table: pd.DataFrame, name: str, is_required: bool) -> NDArray[np.float64]:
    if name not in table and not is_required:
        return np.full(len(table), np.nan)
    return table[name].astype(float).to_numpy()
