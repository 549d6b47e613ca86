"""Published results, and the distance of the scores of a run to them.

Results of hls-foundation-os (Jakubik et al. 2023, arXiv:2310.18660, and the model cards of its checkpoints).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from torch import Tensor

from ..datasets.chips.base import published_splits, split_list
from ..errors import ConfigError


@dataclass(frozen=True)
class ListedChips:
    """The chips of a split list in the package, by name.

    Attributes:
        data_set: Name of the list.
        split: Split of the list.
    """

    data_set: str
    split: str

    def difference(self, names: Sequence[str]) -> str | None:
        """The reason why the scored chips differ from these; ``None`` if they are equal."""
        listed = Counter(split_list(published_splits(self.data_set), self.split))
        scored = Counter(names)
        if scored == listed:
            return None
        others, missing = (
            sorted((one - other).elements()) for one, other in ((scored, listed), (listed, scored))
        )
        lines = [f"{listed.total()} chips are in the published list, {scored.total()} were scored"]
        if missing:
            lines.append(f"{len(missing)} of the list were not, such as {missing[0]}")
        if others:
            lines.append(f"{len(others)} are not in the list, or twice, such as {others[0]}")
        return "; ".join(lines)


@dataclass(frozen=True)
class CountedChips:
    """Chips of a published folder, known only by their number.

    Attributes:
        number: Number of chips.
        name_part: Common part of all names.
    """

    number: int
    name_part: str

    def difference(self, names: Sequence[str]) -> str | None:
        """The reason why the scored chips cannot be these; ``None`` if they may be."""
        others = sorted(name for name in names if self.name_part not in name)
        if len(names) != self.number or len(set(names)) != self.number:
            return f"{self.number} chips are in the published list, {len(set(names))} were scored"
        return f"{len(others)} scored chips are not in the list, such as {others[0]}" if others else None


@dataclass(frozen=True)
class PublishedResult:
    """A published result.

    Attributes:
        scores: Metric -> score, by MMSegmentation's definition; ``IoU/Water`` is a metric of one class.
        chips: The scored chips.
    """

    scores: dict[str, float]
    chips: ListedChips | CountedChips


#: Name in a configuration -> published result.
PUBLISHED = {
    "sen1floods11_test": PublishedResult(
        {"IoU/Water": 0.8046, "mIoU": 0.8868, "aAcc": 0.9725, "mAcc": 0.9437},
        ListedChips("sen1floods11", "test"),
    ),
    "sen1floods11_bolivia": PublishedResult(
        {"IoU/Water": 0.7795, "mIoU": 0.8666}, ListedChips("sen1floods11", "bolivia")
    ),
    # Of the 264 chips in the folder ``validation``.
    "burn_scars": PublishedResult({"IoU/Burn scar": 0.73}, CountedChips(264, "HLS.S30.")),
    "multi_temporal_crop": PublishedResult(
        {"mIoU": 0.4269, "aAcc": 0.6064, "mAcc": 0.6406}, ListedChips("multi_temporal_crop", "test")
    ),
}


def why_not_comparable(name: str, chips: Sequence[str], class_names: Sequence[str]) -> str | None:
    """The reason, in one line, why scores cannot be compared with a published result; ``None`` if they can.

    Args:
        name: A key of `PUBLISHED`.
        chips: Names of all chips that were scored, by all processes.
        class_names: Name of each class.
    """
    result = PUBLISHED[name]
    wanted = [metric.partition("/")[2] for metric in result.scores]
    unknown = [one for one in wanted if one and one not in class_names]
    reason = f"the classes lack {unknown[0]}" if unknown else result.chips.difference(chips)
    return None if reason is None else f"no distance to the published result {name}: {reason}"


def distance_table(name: str, scores: dict[str, Tensor], class_names: Sequence[str]) -> Table:
    """Table with one row per published metric: published, this run, difference, in per cent.

    Args:
        name: A key of `PUBLISHED`.
        scores: The result of `prithvi_tg.tasks.metrics.mmseg_scores`.
        class_names: Name of each class.
    """
    table = Table(title=f"distance to the published result {name}, per cent")
    for column in ("metric", "published", "this run", "difference"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for metric, published in PUBLISHED[name].scores.items():
        kind, _, class_name = metric.partition("/")
        values = scores[kind]
        score = float(values[list(class_names).index(class_name)] if class_name else values)
        table.add_row(
            metric, *(f"{100 * v:.2f}" for v in (published, score)), f"{100 * (score - published):+.2f}"
        )
    return table


def check_name(name: str | None) -> None:
    """Check the name of a published result.

    Raises:
        ConfigError: The name is not in `PUBLISHED`.
    """
    if name is not None and name not in PUBLISHED:
        raise ConfigError(f"published_result: {name!r} is unknown; known are {', '.join(PUBLISHED)}")
