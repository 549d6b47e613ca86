"""ValueChipScores: scores of single chips with values as labels, a table and pictures."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ..files import finished_file
from ..plotting import plot_values
from ..spec import DataSpec
from ..targets import ValueTarget
from ..tasks.value_metrics import ValueErrors, value_scores
from .chips import denormalised, gather, save_picture

_COLUMNS = ("RMSE", "MAE", "bias")


@dataclass(frozen=True)
class ValueChips:
    """Sums of errors of chips, see `ValueErrors`.

    Attributes:
        names: Name of each chip.
        sums: Sums (N, 6, V).
    """

    names: tuple[str, ...]
    sums: NDArray[np.float64]

    def extremes(self, count: int) -> dict[str, str]:
        """Names of the chips with the highest and lowest RMSE, by rank (``worst_1``, ``best_1``)."""
        error = value_scores(torch.from_numpy(self.sums))["RMSE"].mean(dim=-1)
        ranked = [self.names[number] for number in error.argsort(descending=True).tolist()]
        count = min(count, (len(ranked) + 1) // 2)
        worst = {f"worst_{k + 1}": name for k, name in enumerate(ranked[:count])}
        return worst | {f"best_{k + 1}": name for k, name in enumerate(reversed(ranked[count:][-count:]))}


class ValueChipScores:
    """Accumulates the sums of scored chips, and keeps the best and worst chips to draw them.

    Args:
        target: The values.
        spec: Bands and statistics, needed to draw chips.
        num_extremes: Number of best chips and of worst chips to draw.
    """

    def __init__(self, target: ValueTarget, spec: DataSpec | None, num_extremes: int = 4) -> None:
        self.target = target
        self.spec = spec
        self.num_extremes = num_extremes
        self.sums: dict[str, NDArray[np.float64]] = {}
        self._samples: dict[str, tuple[float, dict[str, Tensor]]] = {}

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
                sample = {key: batch[key][number].cpu() for key in ("image", "valid", "mask") if key in batch}
                self._remember(name, sample | {"prediction": predictions[number].cpu()})

    def _remember(self, name: str, sample: dict[str, Tensor]) -> None:
        error = float(value_scores(torch.from_numpy(self.sums[name]))["RMSE"].mean())
        ranked = sorted(self._samples, key=lambda chip: self._samples[chip][0])
        if len(ranked) >= 2 * self.num_extremes:
            low, high = ranked[self.num_extremes - 1], ranked[self.num_extremes]
            if self._samples[low][0] <= error <= self._samples[high][0]:
                return
            del self._samples[low if error < self._samples[low][0] else high]
        self._samples[name] = (error, sample)

    def gathered(self) -> ValueChips:
        """Gather the chips of all processes, sorted by name."""
        sums = dict(sorted((name, values) for part in gather(self.sums) for name, values in part.items()))
        stacked = np.stack(list(sums.values())) if sums else np.zeros((0, 6, len(self.target.names)))
        return ValueChips(tuple(sums), stacked)

    def write_table(self, path: Path, chips: ValueChips) -> None:
        """Write ``chips.csv``: one row per chip with the scores and number of labelled pixels of each value."""
        scores = value_scores(torch.from_numpy(chips.sums))
        names = self.target.names
        with finished_file(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["chip", *(f"{key} {name}" for name in names for key in (*_COLUMNS, "pixels"))])
            for number, chip in enumerate(chips.names):
                cells: list[Any] = []
                for k in range(len(names)):
                    cells += [round(float(scores[key][number, k]), 6) for key in _COLUMNS]
                    cells.append(int(chips.sums[number, 0, k]))
                writer.writerow([chip, *cells])

    def write_pictures(self, folder: Path, chips: ValueChips) -> list[Path]:
        """Draw those of the best and worst chips that this process holds, as ``worst_1_NAME.png`` and so on."""
        written = []
        for rank, name in chips.extremes(self.num_extremes).items():
            if name in self._samples and (figure := self.plot(self._samples[name][1])) is not None:
                written.append(save_picture(folder, f"{rank}_{name}", figure, dpi=60))
        return written

    def plot(self, sample: dict[str, Any]) -> Figure | None:
        """Draw a normalised sample with its ``prediction``; ``None`` without `spec`."""
        return None if self.spec is None else plot_values(denormalised(sample, self.spec), self.spec)
