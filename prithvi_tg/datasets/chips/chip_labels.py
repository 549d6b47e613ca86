"""Classes of whole chips, from a table or from folders of classes, and their splits."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...errors import ConfigError, DataError
from ..split_fractions import SPLITS, check_fractions
from .chip_files import leave_out
from .split_lists import read_splits, refuse_misspelt_splits

#: Separator of several classes in a cell of a table.
SEPARATOR = ";"


class ChipLabel(NamedTuple):
    """The classes of a chip.

    Attributes:
        name: Name of the chip.
        image: Path of the image.
        classes: Class names as stored; exactly one, unless chips can have several classes.
        split: Split of the chip, if the table has that column.
    """

    name: str
    image: Path
    classes: tuple[str, ...]
    split: str | None = None


def _read_csv(path: Path) -> pd.DataFrame:
    # "None" and "NA" may be classes; spreadsheets write a byte-order mark.
    return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)


#: Suffix of a table -> its reader.
TABLE_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".parquet": pd.read_parquet,
}


def read_label_table(path: str | Path, images: str, multilabel: bool = False) -> list[ChipLabel]:
    """Read labels from a CSV or Parquet table with a row per chip and the columns ``chip`` and ``class``.

    A column ``split`` is optional. With `multilabel`, a cell contains any number of classes, separated by ``;`` (or a
    list, in Parquet).

    Args:
        path: The table.
        images: Pattern of the images, with one ``*`` for the name of a chip.
        multilabel: Whether a chip can have several classes.

    Raises:
        ConfigError: The pattern does not contain exactly one ``*``.
        DataError: The table is missing, lacks a column or a cell, or has two rows for a chip.
    """
    path = Path(path)
    if images.count("*") != 1:
        raise ConfigError(f"images: {images!r} must contain one *, which stands for the name of a chip")
    if path.suffix.lower() not in TABLE_READERS:
        raise ConfigError(f"labels: {path} must be a table of one of these kinds: {', '.join(TABLE_READERS)}")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        table = TABLE_READERS[path.suffix.lower()](path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a readable table of labels ({str(error).strip().splitlines()[0]})"
        ) from error
    missing = [column for column in ("chip", "class") if column not in table.columns]
    if missing:
        raise DataError(
            f"{path}: lacks the column {' and '.join(missing)}; it has {', '.join(map(str, table.columns))}"
        )
    splits = table["split"] if "split" in table.columns else [None] * len(table)
    labels: dict[str, ChipLabel] = {}
    for chip, cell, split in zip(table["chip"], table["class"], splits, strict=True):
        name, classes = _text(chip), _classes(cell, multilabel)
        if not name or not (classes or multilabel):
            raise DataError(f"{path}: row {name!r}, {cell!r} must name a chip and its class")
        if name in labels:
            raise DataError(f"{path}: chip {name} has two rows; give each chip one")
        labels[name] = ChipLabel(name, Path(images.replace("*", name)), classes, _text(split) or None)
    if not labels:
        raise DataError(f"{path}: has no row; give one per chip")
    return list(labels.values())


def _text(cell: Any) -> str:
    return "" if cell is None or pd.isna(cell) else str(cell).strip()


def _classes(cell: Any, multilabel: bool) -> tuple[str, ...]:
    if isinstance(cell, list | tuple | np.ndarray):
        names = [str(name) for name in cell]
    else:
        names = _text(cell).split(SEPARATOR) if multilabel else [_text(cell)]
    return tuple(name.strip() for name in names if name.strip())


def labels_of_folders(images: str) -> list[ChipLabel]:
    """Read labels from folders that are named after classes; the name of a chip is ``CLASS/STEM``.

    Args:
        images: Pattern of the images, with two ``*``, the first for the class and the second for the chip, as in
            ``data/chips/*/*.tif``.

    Raises:
        ConfigError: The pattern does not have this form.
        DataError: No file matches.
    """
    before, _, after = images.partition("/*/")
    if not after or images.count("*") != 2:
        raise ConfigError(
            f"images: {images!r} must be ROOT/*/*.tif, one * for the class and one for the chip; or give labels, a "
            "table of the classes"
        )
    # macOS adds files with the prefix ._
    paths = sorted(path for path in Path(before).glob(f"*/{after}") if not path.name.startswith("._"))
    if not paths:
        raise DataError(f"images: {images}: no file matches; images must be in a folder per class")
    depth = len(Path(before).parts)
    classes = [path.parts[depth] for path in paths]
    return [
        ChipLabel(f"{name}/{path.stem}", path, (name,)) for name, path in zip(classes, paths, strict=True)
    ]


def split_labels(
    labels: Iterable[ChipLabel],
    splits: str | Path | None = None,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    lacks: str = "has no label",
) -> dict[str, list[ChipLabel]]:
    """Assign labels to splits: by a list of splits, or else by the column of the table, or else by fractions.

    With fractions, the split of a chip depends on a hash of its name, so that adding or removing other chips does not
    change it.

    Args:
        labels: Labels of all chips.
        splits: A CSV file with columns ``chip`` and ``split``. Chips that are not listed are omitted.
        fractions: Shares of training, validation and test.
        lacks: What is wrong with a chip of the list that is not among `labels`.

    Raises:
        ConfigError: The fractions do not add up to 1.
        DataError: The list names a chip without a label, or only some rows of a table have a split, or a split is
            misspelt, see `refuse_misspelt_splits`.
    """
    labels = list(labels)
    if splits is not None:
        known = {label.name: label for label in labels}
        found: dict[str, list[ChipLabel]] = {}
        for split, names in read_splits(splits).items():
            errors = {
                name: f"{splits}: chip {name} of {split} {lacks}" for name in names if name not in known
            }
            complete = [known[name] for name in names if name in known]
            if errors and not (complete and leave_out(errors, split)):
                raise DataError(f"{next(iter(errors.values()))}; add it, or remove the row of the chip")
            found[split] = complete
        return found
    without = [label.name for label in labels if label.split is None]
    if without and len(without) < len(labels):
        raise DataError(f"labels: chip {without[0]} has no split, but others do; give each chip a split")
    refuse_misspelt_splits("labels", [label.split for label in labels if label.split is not None])
    check_fractions("split_fractions", fractions)
    found = {}
    for label in labels:
        found.setdefault(label.split or _split_of(label.name, fractions), []).append(label)
    return found


def _split_of(name: str, fractions: Sequence[float]) -> str:
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    number = int(np.searchsorted(np.cumsum(fractions)[:-1], place, side="right"))
    return SPLITS[number]
