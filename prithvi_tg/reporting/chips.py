"""ChipCounts and ChipScores: counts of single chips with classes of pixels, a table and pictures."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, counted
from ..files import finished_file
from ..plotting import plot_evaluation
from ..spec import DataSpec
from ..targets import ClassTarget
from ..tasks.metrics import class_scores
from .scored_chips import ExtremeSamples, ScoredChips, extremes

Value = TypeVar("Value")

_KINDS = ("hits", "labelled", "predicted")
TABLE, PICTURES = "chips.csv", "chips"
#: Scores that have intervals.
_SCORES = ("aAcc", "mIoU", "mAcc", "mFscore", "mPrecision", "IoU")


@dataclass(frozen=True)
class ChipCounts(ScoredChips):
    """Pixel counts of chips by class, from which all scores are computed.

    Attributes:
        names: Name of each chip.
        counts: Labelled pixels (3, N, K) with the class in both label and prediction, in the label, and in the
            prediction.
        block: See `ScoredChips`.
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
        return _scores(np.stack([weights @ counts for counts in self.counts]))

    def singly(self) -> dict[str, NDArray[np.float64]]:
        """Scores of each chip, one row per chip."""
        return _scores(self.counts)

    @cached_property
    def qualities(self) -> NDArray[np.float64]:
        """Minus the wrong pixels of each chip (N,).

        The mIoU would put chips first that have a few labelled pixels, or a few pixels of a class. Equally good chips
        are ranked by their classes, then by their labelled pixels: both add less than a pixel.
        """
        hits, labelled, predicted = self.counts
        total = labelled.sum(axis=1)
        present = ((labelled > 0) | (predicted > 0)).sum(axis=1) + total / (total + 1)
        qualities: NDArray[np.float64] = hits.sum(axis=1) - total + present / (labelled.shape[1] + 1)
        return qualities

    def caption(self, number: int) -> str:
        """The wrong pixels of a chip, and its mIoU in per cent."""
        total = int(self.counts[1, number].sum())
        wrong = total - int(self.counts[0, number].sum())
        return f"{wrong} of {counted(total, 'pixel')} wrong, mIoU {100 * self.singly()['mIoU'][number]:.1f}"


def _scores(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    scores = class_scores(*map(torch.from_numpy, counts))
    return {name: scores[name].numpy() for name in _SCORES}


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
        self._kept = ExtremeSamples(num_extremes)

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
                chip = {"prediction": prediction}
                chip |= {
                    key: batch[key][number] for key in ("image", "valid", "mask", "scored") if key in batch
                }
                (quality,) = ChipCounts((name,), self.counts[name][:, None]).qualities.tolist()
                self._kept.add(quality, name, partial(on_cpu, chip))

    def drawable(self, name: str) -> dict[str, Any] | None:
        """A stored chip, as input of `plot_evaluation`; ``None`` if this process does not hold it."""
        if name not in self._kept.samples or self.spec is None:
            return None
        return denormalised(self._kept.samples[name], self.spec)

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


def on_cpu(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """A sample on the CPU."""
    return {key: values.cpu() for key, values in sample.items()}


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


def picture_name(name: str) -> str:
    """The name of a chip as part of the name of a file."""
    return re.sub(r"[^0-9A-Za-z_.-]+", "_", name)


def save_picture(folder: Path, name: str, figure: Figure, dpi: int = 70) -> Path:
    """Write a figure as a PNG named after a chip; characters that file names may not have become ``_``."""
    path = folder / f"{picture_name(name)}.png"
    with finished_file(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=dpi)
    return path


def write_chip_table(path: Path, chips: ChipCounts, class_names: Sequence[str]) -> None:
    """Write ``chips.csv``: one row per chip with its scores and counts."""
    with finished_file(path) as unfinished, unfinished.open("w", newline="") as file:
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


def write_pictures(folder: Path, scores: ChipScores, chips: ChipCounts) -> list[Path]:
    """Draw those of the best and worst chips that this process holds, as ``worst_1_NAME.png`` and so on."""
    written = []
    for rank, name in extremes(chips, scores.num_extremes).items():
        sample = scores.drawable(name)
        if sample is None or scores.spec is None:
            continue
        written.append(save_picture(folder, f"{rank}_{name}", plot_evaluation(sample, scores.spec)))
    return written
