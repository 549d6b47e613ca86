"""Reporting pre-training: errors of reconstructed bands, and pictures of reconstructions."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..files import finished_file
from ..plotting import plot_reconstruction
from ..spec import DataSpec
from ..targets import ValueTarget
from ..tasks.value_metrics import ValueErrors, value_scores
from .chips import denormalised, gather
from .scored_chips import ScoredChips
from .value_chips import ValueChips, ValueChipScores
from .values import plain_value_scores

_COLUMNS = ("RMSE", "R2")


@dataclass(frozen=True)
class ReconstructedChips(ValueChips):
    """Sums of errors of the masked values of chips, in standard deviations of the bands."""

    @cached_property
    def qualities(self) -> NDArray[np.float64]:
        """Minus the mean squared error of each chip (N,), of all bands."""
        return -self.sums[:, 3].sum(axis=1) / self.sums[:, 0].sum(axis=1)


@dataclass(frozen=True)
class ChipErrors(ScoredChips):
    """Errors of chips as in a table of `ReconstructionScores`.

    Attributes:
        names: Name of each chip.
        errors: Mean squared error of the normalised masked values (N,).
        block: See `ScoredChips`.
    """

    no_intervals: ClassVar[str] = "not computed for pre-training"

    names: tuple[str, ...]
    errors: NDArray[np.float64]
    block: int = 0

    def scores(self, weights: NDArray[np.int64] | None = None) -> dict[str, NDArray[np.float64]]:
        """None: the table lacks the sums."""
        return {}

    @property
    def qualities(self) -> NDArray[np.float64]:
        """Minus the errors (N,)."""
        return -self.errors

    def caption(self, number: int) -> str:
        """The error of a chip; it has no unit."""
        return f"MSE {self.errors[number]:.3g}"


def read_error_table(path: Path, block: int = 0) -> ChipErrors:
    """Read a table written by `ReconstructionScores.write_table`.

    Raises:
        DataError: The file is not such a table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return ChipErrors(tuple(table["chip"]), table["MSE"].astype(float).to_numpy(), block)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a readable table of chips ({error})") from error


class ReconstructionScores(ValueChipScores):
    """Accumulates the errors of the masked pixels of chips, and keeps the best and worst chips to draw them.

    Errors are in units of the standard deviation of a band, so that bands count alike.

    Args:
        bands: Names of the bands.
        spec: Bands and statistics, needed to draw chips.
        num_extremes: Number of best chips and of worst chips to draw.
        scored_size: Returns the height and width of the scored part of a chip of a height and width, from its first
            pixel; only that part is drawn. By default, chips are scored as a whole.
    """

    chips_class = ReconstructedChips

    def __init__(
        self,
        bands: Sequence[str],
        spec: DataSpec | None,
        num_extremes: int = 4,
        scored_size: Callable[[Sequence[int]], Sequence[int]] = tuple,
    ) -> None:
        super().__init__(ValueTarget(tuple(bands)), spec, num_extremes)
        self.scored_size = scored_size
        self._squares: dict[str, NDArray[np.float64]] = {}  # sums of squared errors in the unit of the bands

    def update(self, names: Sequence[str], batch: dict[str, Tensor], predictions: Tensor) -> None:
        """Add a batch.

        Args:
            names: Name of each chip.
            batch: Normalised ``image`` (B, T, C, H, W), and optionally ``valid``.
            predictions: Normalised images (B, T, C, H, W), NaN in visible patches.
        """
        for number, name in enumerate(names):
            sample = {key: batch[key][number].cpu() for key in ("image", "valid") if key in batch}
            prediction = predictions[number].cpu()
            image = sample["image"].reshape(prediction.shape)
            counted = (
                ~prediction.isnan() & sample.get("valid", torch.ones_like(image)).reshape(image.shape).bool()
            )
            errors = ValueErrors(self.target)
            errors.update(prediction, image.where(counted, float("nan")))
            if not errors.sums[0].any():
                continue
            self.sums[name] = errors.sums.numpy()
            error = (self._in_unit(prediction) - self._in_unit(image)).double().where(counted, 0)
            self._squares[name] = error.square().sum(dim=(0, 2, 3)).numpy()
            if self.spec is not None:
                self._keep(name, sample | {"prediction": prediction})

    def _in_unit(self, image: Tensor) -> Tensor:
        """An image in the unit of the statistics, if they are known."""
        return image if self.spec is None else self.spec.input.denormalize(image)

    def gathered(self) -> ValueChips:
        """Gather the chips of all processes, sorted by name."""
        self._squares = {name: sums for part in gather(self._squares) for name, sums in part.items()}
        return super().gathered()

    def write_table(self, path: Path, chips: ValueChips) -> None:
        """Write ``chips.csv``, one row per chip: the mean squared error of normalised values, and errors of each band.

        RMSE of a band is in the unit of the statistics.
        """
        scores = value_scores(torch.from_numpy(chips.sums))
        count = chips.sums[:, 0].sum(axis=1)
        squares = np.stack([self._squares[name] for name in chips.names])
        scores["RMSE"] = torch.from_numpy(squares / chips.sums[:, 0]).sqrt()
        columns = [f"{key} {band}" for band in self.target.names for key in _COLUMNS]
        with finished_file(path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["chip", "MSE", "masked values", *columns])
            for number, chip in enumerate(chips.names):
                cells = [
                    round(float(scores[key][number, k]), 6)
                    for k in range(len(self.target.names))
                    for key in _COLUMNS
                ]
                writer.writerow([chip, round(-chips.qualities[number], 6), int(count[number]), *cells])

    def plot(self, sample: dict[str, Any]) -> Figure | None:
        """Draw a normalised sample with its ``prediction``; ``None`` without `spec`."""
        if self.spec is None:
            return None
        height, width = self.scored_size(sample["image"].shape[-2:])
        sample = {key: values[..., :height, :width] for key, values in sample.items()}
        prediction = denormalised({"image": sample["prediction"]}, self.spec)["image"]
        shown = denormalised(sample, self.spec) | {"prediction": np.asarray(prediction)}
        return plot_reconstruction(shown, self.spec.input)


def reconstruction_record(task: Any) -> dict[str, Any]:
    """Scores in the form of metrics.json: ``overall`` with the loss, and ``per_value`` for each band."""
    return plain_value_scores(task.scores, task.computed["errors"], task.target, counted="masked_values")
