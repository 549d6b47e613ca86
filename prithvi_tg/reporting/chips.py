"""ChipCounts and ChipScores: counts of single chips, bootstrap intervals, and the best and worst chips."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..files import finished_file
from ..plotting import plot_evaluation
from ..spec import DataSpec
from ..targets import ClassTarget
from ..tasks.metrics import class_scores

Value = TypeVar("Value")

_KINDS = ("hits", "labelled", "predicted")
TABLE, PICTURES = "chips.csv", "chips"
#: Scores that have intervals.
_SCORES = ("aAcc", "mIoU", "mAcc", "mFscore", "mPrecision", "IoU")
#: Name of a window of a scene, with its position.
_WINDOW = re.compile(r"(?:.*_)?row_(\d+)_column_(\d+)")
_WINDOWS_PER_BLOCK = 4  # along a side, if the side of a block is not recorded


@dataclass(frozen=True)
class ChipCounts:
    """Pixel counts of chips by class, from which all scores are computed.

    Attributes:
        names: Name of each chip.
        counts: Labelled pixels (3, N, K) with the class in both label and prediction, in the label, and in the
            prediction.
        block: Side of the blocks of ground that are resampled for windows of a scene, in pixels; 0 if it is not
            recorded. Not used for chips.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    block: int = 0

    def scores(self, weights: NDArray[np.int64] | None = None) -> dict[str, NDArray[np.float64]]:
        """``IoU`` (D, K), ``mIoU mAcc mFscore mPrecision`` and ``aAcc`` (D,) of the whole set.

        Args:
            weights: Number of times (D, N) that each chip is counted; once by default, with D = 1.
        """
        weights = np.ones((1, len(self.names)), np.int64) if weights is None else weights
        hits, labelled, predicted = (torch.from_numpy(weights @ counts) for counts in self.counts)
        scores = class_scores(hits, labelled, predicted)
        return {name: scores[name].numpy() for name in _SCORES}

    @cached_property
    def block_side(self) -> int | None:
        """Side of the blocks of ground that are resampled, in pixels; ``None`` if single chips are resampled."""
        places = self._places
        if places is None:
            return None
        if self.block:
            return self.block
        gaps = np.concatenate([np.diff(np.unique(axis)) for axis in places.T])
        # The last window of a row is shifted inwards, so the stride is the most frequent gap.
        distances, counts = np.unique(gaps, return_counts=True)
        return _WINDOWS_PER_BLOCK * int(distances[counts.argmax()]) if len(gaps) else 1

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Number of the resampled unit of each chip (N,): the chip itself, or its block of ground.

        A block contains its windows of all dates.
        """
        side = self.block_side
        if side is None or self._places is None:
            return np.arange(len(self.names))
        return np.unique(self._places // side, axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def num_units(self) -> int:
        """Number of resampled units: chips or blocks of ground."""
        return int(self.units.max(initial=-1)) + 1

    @cached_property
    def _places(self) -> NDArray[np.int64] | None:
        """Row and column (N, 2) of windows of a scene; ``None`` for chips."""
        matches = [_WINDOW.fullmatch(name) for name in self.names]
        places = [(int(match[1]), int(match[2])) for match in matches if match is not None]
        return np.array(places) if places and len(places) == len(matches) else None

    def intervals(self, draws: int = 1000, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Bootstrap intervals (Efron 1979): 2.5th and 97.5th percentile, first axis of each score.

        Whole chips are drawn with replacement, since pixels of one chip are not independent. For windows of a scene,
        blocks of ground are drawn (a block bootstrap, Lahiri 2003), since neighbouring windows are not independent
        either. The intervals describe the variation from the choice of chips or blocks, not from the seed of
        training.

        Args:
            draws: Number of bootstrap samples.
            seed: Seed of the draws.
        """
        return {name: _percentiles(values) for name, values in self._drawn(draws, seed).items()}

    def difference_intervals(
        self, other: "ChipCounts", draws: int = 1000, seed: int = 0
    ) -> dict[str, NDArray[np.float64]]:
        """Paired bootstrap intervals of the scores of another run on the same chips, minus these scores.

        Raises:
            ValueError: The runs scored different chips.
        """
        if self.names != other.names:
            raise ValueError("both runs must have scored the same chips")
        ours, theirs = self._drawn(draws, seed), other._drawn(draws, seed)
        return {name: _percentiles(theirs[name] - ours[name]) for name in ours}

    def _drawn(self, draws: int, seed: int) -> dict[str, NDArray[np.float64]]:
        count = self.num_units
        weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
        return self.scores(weights[:, self.units])

    def singly(self) -> dict[str, NDArray[np.float64]]:
        """Scores of each chip, one row per chip."""
        return self.scores(np.eye(len(self.names), dtype=np.int64))


def _percentiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values).any(axis=0)
    bounds = np.full((2, *values.shape[1:]), np.nan)
    bounds[:, known] = np.nanpercentile(values[:, known], (2.5, 97.5), axis=0)
    return bounds


class ChipScores:
    """Accumulates the counts of scored chips, and keeps the best and worst chips to draw them.

    Args:
        num_classes: Number of classes.
        spec: Bands and statistics, needed to draw chips.
        num_extremes: Number of best chips and of worst chips to draw.
        class_names: Class names for the table.
    """

    def __init__(
        self,
        num_classes: int,
        spec: DataSpec | None,
        num_extremes: int = 4,
        class_names: Sequence[str] = (),
    ) -> None:
        self.num_classes = num_classes
        self.class_names = list(class_names) or [f"class_{index}" for index in range(num_classes)]
        self.spec = spec
        self.num_extremes = num_extremes
        self.counts: dict[str, NDArray[np.int64]] = {}
        self._samples: dict[str, tuple[float, dict[str, Tensor]]] = {}

    def update(self, names: Sequence[str], batch: dict[str, Tensor], predictions: Tensor) -> None:
        """Add a batch.

        Args:
            names: Name of each chip.
            batch: Normalised ``image`` (B, T, C, H, W), ``mask`` (B, H, W), and optionally ``valid``.
            predictions: Classes (B, H, W).
        """
        size = self.num_classes
        for number, name in enumerate(names):
            label, prediction = batch["mask"][number], predictions[number]
            labelled = ClassTarget.is_labelled(label)
            if not labelled.any():
                continue
            pairs = torch.bincount(label[labelled] * size + prediction[labelled], minlength=size * size)
            matrix = pairs.reshape(size, size).cpu().numpy()
            self.counts[name] = np.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])
            if self.spec is not None:
                self._select(name, {key: batch[key][number] for key in ("image", "valid", "mask") if key in batch},
                           prediction)  # fmt: skip

    def _select(self, name: str, sample: dict[str, Tensor], prediction: Tensor) -> None:
        """Store the sample if it is among the best or worst chips so far."""
        score = float(ChipCounts((name,), self.counts[name][:, None]).scores()["mIoU"][0])
        ranked = sorted(self._samples, key=lambda chip: self._samples[chip][0])
        if len(ranked) >= 2 * self.num_extremes:
            low, high = ranked[self.num_extremes - 1], ranked[self.num_extremes]
            if self._samples[low][0] <= score <= self._samples[high][0]:
                return
            del self._samples[low if score < self._samples[low][0] else high]
        self._samples[name] = (
            score,
            {**{k: v.cpu() for k, v in sample.items()}, "prediction": prediction.cpu()},
        )

    def drawable(self, name: str) -> dict[str, Any] | None:
        """A stored chip, as input of `plot_evaluation`; ``None`` if this process does not hold it."""
        if name not in self._samples or self.spec is None:
            return None
        return denormalised(self._samples[name][1], self.spec)

    def write_table(self, path: Path, chips: ChipCounts) -> None:
        """Write ``chips.csv``, see `write_chip_table`."""
        write_chip_table(path, chips, self.class_names)

    def write_pictures(self, folder: Path, chips: ChipCounts) -> list[Path]:
        """Draw those of the best and worst chips that this process holds, as ``worst_1_NAME.png`` and so on."""
        return write_pictures(folder, self, chips)

    def plot(self, sample: dict[str, Any]) -> Figure | None:
        """Draw a normalised sample with its ``prediction``; ``None`` without `spec`."""
        return None if self.spec is None else plot_evaluation(denormalised(sample, self.spec), self.spec)

    def gathered(self, block: int = 0) -> ChipCounts:
        """Gather the chips of all processes, sorted by name; for `block` see `ChipCounts`."""
        counts = dict(sorted((name, values) for part in gather(self.counts) for name, values in part.items()))
        stacked = (
            np.stack(list(counts.values()), axis=1) if counts else np.zeros((3, 0, self.num_classes), int)
        )
        return ChipCounts(tuple(counts), stacked, block)


def gather(value: Value) -> list[Value]:
    """Gather the values of all processes in every process; all processes must call it."""
    if not torch.distributed.is_initialized():
        return [value]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, value)
    return parts


def denormalised(sample: dict[str, Tensor], spec: DataSpec) -> dict[str, Any]:
    """A normalised sample with its image (T, C, H, W) converted back to the unit of the statistics."""
    image = sample["image"].float().cpu()
    frames = image.reshape(spec.input.num_frames, -1, *image.shape[-2:])
    return {**sample, "image": spec.input.denormalize(frames)}


def save_picture(folder: Path, name: str, figure: Figure, dpi: int = 70) -> Path:
    """Write a figure as a PNG named after a chip; characters that file names may not have become ``_``."""
    path = folder / f"{re.sub(r'[^0-9A-Za-z_.-]+', '_', name)}.png"
    with finished_file(path) as partial:
        figure.savefig(partial, format="png", dpi=dpi)
    return path


def write_chip_table(path: Path, chips: ChipCounts, class_names: Sequence[str]) -> None:
    """Write ``chips.csv``: one row per chip with its scores and counts."""
    with finished_file(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["chip", "mIoU", "aAcc", *(f"{kind} {name}" for name in class_names for kind in _KINDS)]
        )
        singly = chips.singly()
        for number, name in enumerate(chips.names):
            scores = (round(float(singly[key][number]), 6) for key in ("mIoU", "aAcc"))
            writer.writerow([name, *scores, *chips.counts[:, number].T.ravel().tolist()])


def read_chip_table(path: Path, block: int = 0) -> ChipCounts:
    """Read the counts of a table written by `write_chip_table`.

    Args:
        path: The table.
        block: See `ChipCounts`; ``metrics.json`` of the run records it.

    Raises:
        DataError: The file is not such a table.
    """
    try:
        with path.open(newline="") as file:
            _, *rows = list(csv.reader(file))
        counts = np.array([row[3:] for row in rows], np.int64).reshape(len(rows), -1, len(_KINDS))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable table of chips ({error})") from error
    return ChipCounts(tuple(row[0] for row in rows), counts.transpose(2, 0, 1), block)


def extremes(chips: ChipCounts, num_extremes: int) -> dict[str, str]:
    """Names of the chips with the lowest and highest mIoU, by rank (``worst_1``, ``best_1``); no chip is in both."""
    scores = chips.singly()["mIoU"]
    ranked = [chips.names[number] for number in np.argsort(scores, kind="stable")]
    num_extremes = min(num_extremes, (len(ranked) + 1) // 2)
    worst = {f"worst_{k + 1}": name for k, name in enumerate(ranked[:num_extremes])}
    best = {f"best_{k + 1}": name for k, name in enumerate(reversed(ranked[num_extremes:][-num_extremes:]))}
    return worst | best


def write_pictures(folder: Path, scores: ChipScores, chips: ChipCounts) -> list[Path]:
    """Draw those of the best and worst chips that this process holds, as ``worst_1_NAME.png`` and so on."""
    written = []
    for rank, name in extremes(chips, scores.num_extremes).items():
        sample = scores.drawable(name)
        if sample is None or scores.spec is None:
            continue
        written.append(save_picture(folder, f"{rank}_{name}", plot_evaluation(sample, scores.spec)))
    return written
