"""Published results with their sources and protocols, and the difference of the scores of a run from them.

The figures are in ``published.yaml``. A difference is computed only for the same protocol and the same chips.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml
from rich.table import Table
from torch import Tensor

from ..datasets.chips.base import published_splits, split_list
from ..datasets.chips.hls_burn_scars import tile_and_date
from ..errors import ConfigError, counted

#: Names of lists that name chips by something else than their file names -> the function from a name to that.
_KEYS: dict[str, Callable[[str], str]] = {"hls_burn_scars_non_overlapping": tile_and_date}


def _numbers(listed: int, scored: int) -> str:
    return f"the published list has {counted(listed, 'chip')}, but this run scored {scored}"


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
        key = _KEYS.get(self.data_set, str)
        listed = Counter(map(key, split_list(published_splits(self.data_set), self.split)))
        scored = Counter(map(key, names))
        if scored == listed:
            return None
        others, missing = (
            sorted((one - other).elements()) for one, other in ((scored, listed), (listed, scored))
        )
        lines = [_numbers(listed.total(), scored.total())]
        if missing:
            lines.append(f"not scored: {len(missing)}, such as {missing[0]}")
        if others:
            lines.append(f"not in the list, or scored twice: {len(others)}, such as {others[0]}")
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
            return _numbers(self.number, len(set(names)))
        return (
            f"scored chips that are not in the list: {len(others)}, such as {others[0]}" if others else None
        )


@dataclass(frozen=True)
class UnknownChips:
    """Chips whose list is not published."""

    def difference(self, names: Sequence[str]) -> str | None:
        """The reason why scores cannot be compared."""
        return "its list of chips is not published"


@dataclass(frozen=True)
class Protocol:
    """How a published result was obtained.

    Attributes:
        name: Name of the protocol.
        reference: The publication.
        files: Where the figures were read.
        description: Decoder, training and tuning, in words.
        seeds: Number of runs, in words.
        settings: Arguments of the task that a run must have; ``pretrained``, whether it has any weights.
        training: Settings of data and trainer that a training must have, by key, such as ``data.batch_size``.
    """

    name: str
    reference: str
    files: str
    description: str
    seeds: str
    settings: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)

    def difference(self, given_settings: Mapping[str, Any]) -> str | None:
        """The reason why a run with these settings follows another protocol; ``None`` if it follows this one.

        A checkpoint without the configuration of its training does not record its weights, data and trainer; they are
        not compared.
        """
        known = dict(given_settings)
        if "weights" in known:
            known["pretrained"] = known["weights"] is not None
        unrecorded = {"pretrained", *self.training} - known.keys()
        for key, wanted in {**self.settings, **self.training}.items():
            if key in unrecorded:
                continue
            given = known.get(key)
            if not _equal(given, wanted):
                return f"its protocol has {key} {_shown(wanted)}, but the run has {_shown(given)}"
        return None


@dataclass(frozen=True)
class PublishedResult:
    """A published result.

    Attributes:
        scores: Metric -> score, by MMSegmentation's definition; ``IoU/Water`` is a metric of one class.
        chips: The scored chips.
        protocol: How the scores were obtained.
        deviations: Metric -> standard deviation over runs, where it is published.
        runs: Number of runs with different seeds, if known.
        epochs: Mean number of epochs of a run, if known.
        rates: Further figures that are not scores, such as chips per second.
        encoder: Name of the encoder in `published.yaml`.
        tuning: Name of the tuning in `published.yaml`.
        test_set: Name of the test set in `published.yaml`.
    """

    scores: dict[str, float]
    chips: ListedChips | CountedChips | UnknownChips
    protocol: Protocol
    deviations: dict[str, float] = field(default_factory=dict)
    runs: int | None = None
    epochs: float | None = None
    rates: dict[str, float] = field(default_factory=dict)
    encoder: str = ""
    tuning: str = ""
    test_set: str = ""

    @property
    def lr(self) -> float | None:
        """The learning rate, if it is published."""
        return self.protocol.settings.get("lr")


def _equal(given: Any, wanted: Any) -> bool:
    """Equality of arguments; lists in any order, and nothing, 0 and false are equal."""
    if isinstance(wanted, list) and isinstance(given, list | tuple):
        return sorted(map(str, given)) == sorted(map(str, wanted))
    return bool((given or None) == (wanted or None))


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _read() -> dict[str, PublishedResult]:
    known = yaml.safe_load((files(__package__) / "published.yaml").read_text(encoding="utf-8"))
    return {row["name"]: _result(dict(row), known) for row in known["results"]}


def _result(row: dict[str, Any], known: dict[str, Any]) -> PublishedResult:
    protocol, test_set = known["protocols"][row["protocol"]], known["test_sets"][row["test_set"]]
    source = known["sources"][protocol["source"]]
    kinds = {"data_set": ListedChips, "number": CountedChips}
    kind = kinds.get(next(iter(test_set), ""), UnknownChips)
    settings = protocol["settings"] | known["encoders"][row["encoder"]] | known["tunings"][row["tuning"]]
    settings |= {key: row[key] for key in ("lr",) if key in row}
    figures = {key: value for key, value in row.items() if isinstance(value, list)}
    return PublishedResult(
        scores={key: value[0] / 100 for key, value in figures.items()},
        chips=kind(**test_set),
        protocol=Protocol(
            row["protocol"],
            source["reference"],
            source["files"],
            protocol["description"],
            protocol["seeds"],
            settings,
            protocol.get("training", {}),
        ),
        deviations={key: value[1] / 100 for key, value in figures.items() if len(value) > 1},
        runs=row.get("runs"),
        epochs=row.get("epochs"),
        rates={key: row[key] for key in ("chips_per_second",) if key in row},
        encoder=row["encoder"],
        tuning=row["tuning"],
        test_set=row["test_set"],
    )


#: Name in a configuration -> published result.
PUBLISHED: dict[str, PublishedResult] = _read()


def why_not_comparable(
    name: str, chips: Sequence[str], class_names: Sequence[str], settings: Mapping[str, Any] | None = None
) -> str | None:
    """The reason, in one line, why scores cannot be compared with a published result; ``None`` if they can.

    Args:
        name: A key of `PUBLISHED`.
        chips: Names of all chips that were scored, by all processes.
        class_names: Name of each class.
        settings: Arguments of the task that was scored, or all settings of its training as `compared_settings`
            returns them, to compare the protocol; ``None`` if they are unknown.
    """
    result = PUBLISHED[name]
    wanted = [metric.partition("/")[2] for metric in result.scores]
    unknown = [one for one in wanted if one and one not in class_names]
    reason = f"no class is named {unknown[0]}" if unknown else result.chips.difference(chips)
    if reason is None and settings is not None:
        reason = result.protocol.difference(settings)
    return None if reason is None else f"no comparison with the published result {name}: {reason}"


def compared_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run by the keys of protocols: ``lr`` of the task, ``data.batch_size``, ``trainer.max_epochs``.

    Args:
        settings: Flattened ``config.yaml``, with keys such as ``model.init_args.lr``.
    """
    return {key.replace(".init_args.", ".").removeprefix("model."): value for key, value in settings.items()}


def comparison_table(name: str, scores: dict[str, Tensor], class_names: Sequence[str]) -> Table:
    """Table with one row per published metric: published, this run, difference, in per cent.

    Where the published deviation over runs is known, the table has it and the difference in these deviations.

    Args:
        name: A key of `PUBLISHED`.
        scores: The result of `prithvi_tg.tasks.metrics.mmseg_scores`.
        class_names: Name of each class.
    """
    result = PUBLISHED[name]
    table = Table(
        title=f"comparison with the published result {name}, per cent", caption=_source(result.protocol)
    )
    columns = ["metric", "published", "this run", "difference"]
    columns += ["published std", "in std"] if result.deviations else []
    for column in columns:
        table.add_column(column, justify="left" if column == "metric" else "right")
    for metric, published in result.scores.items():
        kind, _, class_name = metric.partition("/")
        values = scores[kind]
        score = float(values[list(class_names).index(class_name)] if class_name else values)
        cells = [f"{100 * v:.2f}" for v in (published, score)] + [f"{100 * (score - published):+.2f}"]
        if std := result.deviations.get(metric):
            cells += [f"{100 * std:.2f}", f"{(score - published) / std:+.1f}"]
        table.add_row(metric, *cells)
    return table


def _source(protocol: Protocol) -> str:
    return f"{protocol.reference}; {protocol.description}; seeds: {protocol.seeds}"


def result_names(given: str | Sequence[str] | None) -> list[str]:
    """The names of published results: none, one or several."""
    return [given] if isinstance(given, str) else list(given or ())


def check_name(name: str | None) -> None:
    """Check the name of a published result.

    Raises:
        ConfigError: The name is not in `PUBLISHED`.
    """
    if name is not None and name not in PUBLISHED:
        near = difflib.get_close_matches(name, PUBLISHED, n=3) or list(PUBLISHED)[:4]
        raise ConfigError(
            f"published_result: {name!r} is unknown; choose from {', '.join(near)}, ...; "
            "prithvi_tg.reporting.published lists all"
        )
