"""Scores of single chips: a table of their counts, intervals of scores from it, and which are best and worst."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..files import finished_file
from ..plotting import plot_evaluation
from ..spec import IGNORE_INDEX, DataSpec

_KINDS = ("hits", "labelled", "predicted")
TABLE, PICTURES = "chips.csv", "chips"


@dataclass(frozen=True)
class ChipCounts:
    """Pixels of chips by class; every score follows from them.

    Attributes:
        names: One per chip.
        counts: (3, N, K): pixels that are of a class in label and prediction, in the label, in the prediction;
            unlabelled pixels left out.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]

    def scores(self, weights: NDArray[np.int64] | None = None) -> dict[str, NDArray[np.float64]]:
        """``IoU`` (D, K), ``mIoU`` (D,) and ``aAcc`` (D,) of the whole set.

        Args:
            weights: How often each chip counts, (D, N); once by default, which gives one row.
        """
        weights = np.ones((1, len(self.names)), np.int64) if weights is None else weights
        hits, labelled, predicted = (weights @ counts for counts in self.counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = hits / (labelled + predicted - hits)
            accuracy = hits.sum(axis=1) / labelled.sum(axis=1)
        return {"IoU": iou, "mIoU": _mean(iou), "aAcc": accuracy}

    def intervals(self, draws: int = 1000, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Bootstrap intervals over chips (Efron 1979): 2.5th and 97.5th percentile, first axis of each score.

        Chips are drawn with replacement, as pixels of one chip are far from independent. They tell how much a
        score hangs on which chips were tested, not how much on the seed of the training.

        Args:
            draws: Sets of chips that are drawn.
            seed: The same seed gives the same intervals.
        """
        return {name: _percentiles(values) for name, values in self._drawn(draws, seed).items()}

    def difference_intervals(
        self, other: "ChipCounts", draws: int = 1000, seed: int = 0
    ) -> dict[str, NDArray[np.float64]]:
        """The same of the scores of another run on the same chips minus these: both are drawn together.

        Raises:
            ValueError: The chips are others.
        """
        if self.names != other.names:
            raise ValueError("both runs must have scored the same chips")
        ours, theirs = self._drawn(draws, seed), other._drawn(draws, seed)
        return {name: _percentiles(theirs[name] - ours[name]) for name in ours}

    def _drawn(self, draws: int, seed: int) -> dict[str, NDArray[np.float64]]:
        count = len(self.names)
        weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
        return self.scores(weights)

    def singly(self) -> dict[str, NDArray[np.float64]]:
        """Scores of every chip by itself, a row each."""
        return self.scores(np.eye(len(self.names), dtype=np.int64))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of the last axis, NaN left out."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=-1)
    count = known.sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _percentiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values).any(axis=0)
    bounds = np.full((2, *values.shape[1:]), np.nan)
    bounds[:, known] = np.nanpercentile(values[:, known], (2.5, 97.5), axis=0)
    return bounds


class ChipScores:
    """Collects the counts of chips as they are scored, and keeps the best and the worst to draw them.

    Args:
        num_classes: Number of classes.
        spec: Bands and statistics, to draw chips; without them none is drawn.
        keep: How many of the best and of the worst are drawn.
    """

    def __init__(self, num_classes: int, spec: DataSpec | None, keep: int = 4) -> None:
        self.num_classes = num_classes
        self.spec = spec
        self.keep = keep
        self.counts: dict[str, NDArray[np.int64]] = {}
        self._kept: dict[str, tuple[float, dict[str, Tensor]]] = {}

    def update(self, names: Sequence[str], batch: dict[str, Tensor], predictions: Tensor) -> None:
        """Count a batch.

        Args:
            names: One per chip.
            batch: ``image`` (B, T, C, H, W), normalised, ``mask`` (B, H, W), and ``valid`` or not.
            predictions: Classes (B, H, W).
        """
        size = self.num_classes
        for number, name in enumerate(names):
            label, prediction = batch["mask"][number], predictions[number]
            known = label != IGNORE_INDEX
            if not known.any():
                continue
            pairs = torch.bincount(label[known] * size + prediction[known], minlength=size * size)
            matrix = pairs.reshape(size, size).cpu().numpy()
            self.counts[name] = np.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])
            if self.spec is not None:
                self._keep(name, {key: batch[key][number] for key in ("image", "valid", "mask") if key in batch},
                           prediction)  # fmt: skip

    def _keep(self, name: str, sample: dict[str, Tensor], prediction: Tensor) -> None:
        score = float(ChipCounts((name,), self.counts[name][:, None]).scores()["mIoU"][0])
        ranked = sorted(self._kept, key=lambda kept: self._kept[kept][0])
        if len(ranked) >= 2 * self.keep:
            low, high = ranked[self.keep - 1], ranked[self.keep]
            if self._kept[low][0] <= score <= self._kept[high][0]:
                return
            del self._kept[low if score < self._kept[low][0] else high]
        self._kept[name] = (
            score,
            {**{k: v.cpu() for k, v in sample.items()}, "prediction": prediction.cpu()},
        )

    def drawable(self, name: str) -> dict[str, Any] | None:
        """A chip that was kept, as `plot_evaluation` takes it."""
        if name not in self._kept or self.spec is None:
            return None
        return denormalised(self._kept[name][1], self.spec)

    def gathered(self) -> ChipCounts:
        """The chips of all processes, in the order of their names."""
        parts = [self.counts]
        if torch.distributed.is_initialized():
            parts = [{}] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self.counts)
        counts = dict(sorted((name, values) for part in parts for name, values in part.items()))
        stacked = (
            np.stack(list(counts.values()), axis=1) if counts else np.zeros((3, 0, self.num_classes), int)
        )
        return ChipCounts(tuple(counts), stacked)


def denormalised(sample: dict[str, Tensor], spec: DataSpec) -> dict[str, Any]:
    """A sample of a batch with its image (T, C, H, W) in the unit of the statistics."""
    image = sample["image"].float().cpu()
    image = image.reshape(-1, *image.shape[-2:])
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.channel_mean, spec.channel_std))
    return {**sample, "image": (image * std + mean).reshape(spec.num_frames, -1, *image.shape[-2:])}


def write_chip_table(path: Path, chips: ChipCounts, class_names: Sequence[str]) -> None:
    """Write ``chips.csv``: a row per chip with its scores, and the counts that they come from."""
    with finished_file(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["chip", "mIoU", "aAcc", *(f"{kind} {name}" for name in class_names for kind in _KINDS)]
        )
        singly = chips.singly()
        for number, name in enumerate(chips.names):
            scores = (round(float(singly[key][number]), 6) for key in ("mIoU", "aAcc"))
            writer.writerow([name, *scores, *chips.counts[:, number].T.ravel().tolist()])


def read_chip_table(path: Path) -> ChipCounts:
    """The counts of a table that `write_chip_table` wrote.

    Raises:
        DataError: It is no such table.
    """
    try:
        with path.open(newline="") as file:
            _, *rows = list(csv.reader(file))
        counts = np.array([row[3:] for row in rows], np.int64).reshape(len(rows), -1, len(_KINDS))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable table of chips ({error})") from error
    return ChipCounts(tuple(row[0] for row in rows), counts.transpose(2, 0, 1))


def extremes(chips: ChipCounts, keep: int) -> dict[str, str]:
    """Names of the worst and the best chips by mIoU of the chip: ``worst_1`` and so on; no chip is both."""
    scores = chips.singly()["mIoU"]
    ranked = [chips.names[number] for number in np.argsort(scores, kind="stable")]
    keep = min(keep, (len(ranked) + 1) // 2)
    worst = {f"worst_{k + 1}": name for k, name in enumerate(ranked[:keep])}
    best = {f"best_{k + 1}": name for k, name in enumerate(reversed(ranked[keep:][-keep:]))}
    return worst | best


def write_pictures(folder: Path, scores: ChipScores, chips: ChipCounts) -> list[Path]:
    """Draw the best and worst chips that this process holds, ``worst_1_NAME.png`` and so on."""
    written = []
    for rank, name in extremes(chips, scores.keep).items():
        sample = scores.drawable(name)
        if sample is None or scores.spec is None:
            continue
        path = folder / f"{rank}_{re.sub(r'[^0-9A-Za-z_.-]+', '_', name)}.png"
        figure = plot_evaluation(sample, scores.spec)
        with finished_file(path) as partial:
            figure.savefig(partial, format="png", dpi=70)
        written.append(path)
    return written
