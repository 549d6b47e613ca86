"""Lists of the chips of each split."""

import csv
import warnings
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from ...errors import ConfigError, DataError, counted

_OTHER_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval"),
    "test": ("test", "testing"),
}


def split_list(splits: str | Path, split: str) -> list[str]:
    """The chips of one split of a list, see `read_splits`.

    Raises:
        ConfigError: The split is not in the list.
    """
    lists = read_splits(splits)
    if split not in lists:
        raise ConfigError(f"{splits}: has no split {split!r}; it has {', '.join(lists)}")
    return lists[split]


def names_of_test_splits(given: str | Sequence[str], known: Sequence[str] | None, owner: str) -> list[str]:
    """Names of test splits, from one name or several.

    Args:
        given: The name, or several.
        known: Splits that exist; ``None`` to accept any name.
        owner: What has these splits.

    Raises:
        ConfigError: There is no name, or one is given twice or does not exist.
    """
    names = [given] if isinstance(given, str) else list(given)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"test_split: {names}: give one split, or several different ones")
    for name in names:
        if known is not None and name not in known:
            raise ConfigError(f"test_split: {name!r} is not in {owner}; it has {', '.join(known)}")
    return names


def refuse_misspelt_splits(source: str | Path, names: Iterable[str]) -> None:
    """Refuse ``validation`` and the like where there is no ``val``: any other name is that of a further test set.

    Raises:
        DataError: A name is another word for a split that has no chips.
    """
    known = {*names}
    for name in known:
        meant = next((split for split, words in _OTHER_WORDS.items() if name.lower() in words), None)
        if meant is not None and meant not in known:
            raise DataError(f"{source}: has a split {name!r}, but none called {meant}; rename it to {meant}")


def published_splits(name: str) -> Path:
    """Path of the published split lists of a dataset, which are part of this package."""
    return Path(str(files(__package__) / "splits" / f"{name}.csv"))


def read_splits(path: str | Path) -> dict[str, list[str]]:
    """Read split lists from a CSV file in UTF-8 with a row per chip and the columns ``chip`` and ``split``.

    Blank lines, spaces around names and a byte-order mark are ignored.

    Returns:
        Chips of each split, in the order of the file.

    Raises:
        DataError: The file is missing, lacks a column, has no row, a row lacks its chip or split, or a split is
            misspelt, see `refuse_misspelt_splits`.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte-order mark
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file; splits is a CSV file with the header chip,split and a row per chip"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable list of splits ({error})") from error
    header, *rows = [row for row in rows if any(row)] or [[]]
    if not {"chip", "split"} <= {*header}:
        found = f"the first row is {','.join(header)!r}" if header else "is empty"
        raise DataError(f"{path}: {found}; must be CSV with the header chip,split and a row per chip")
    if not rows:
        raise DataError(f"{path}: has a header, but no rows; give a row per chip")
    splits: dict[str, list[str]] = {}
    for row in rows:
        cells = dict(zip(header, row, strict=False))
        if not cells.get("chip") or not cells.get("split"):
            raise DataError(f"{path}: row {','.join(row)!r} must name a chip and its split")
        splits.setdefault(cells["split"], []).append(cells["chip"])
    refuse_misspelt_splits(path, splits)
    for split in ("val", "test"):
        shared = sorted({*splits.get("train", ())} & {*splits.get(split, ())})
        if shared:
            warnings.warn(
                f"{path}: {counted(len(shared), 'chip')} in both train and {split}, such as {shared[0]}; scores on "
                "shared chips do not measure performance on unseen data",
                stacklevel=2,
            )
    return splits
