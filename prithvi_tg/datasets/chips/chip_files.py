"""Chip: the files of a sample, and functions that find them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import DataError, IncompleteChipError
from ...readers.raster import open_raster

_TOLERANCE = 0.01  # pixels


#: Within `leaving_out_incomplete`: the split, and the error of each incomplete chip.
_left_out: ContextVar[tuple[str | None, dict[str, str]] | None] = ContextVar("left_out", default=None)


class Chip(NamedTuple):
    """The files of one sample."""

    name: str
    image: Path
    mask: Path


@contextmanager
def leaving_out_incomplete(split: str | None = None) -> Iterator[dict[str, str]]:
    """A context in which chips without their image or label are left out of a dataset, and cause no error.

    Args:
        split: The split whose chips are collected; by default those of all splits.

    Yields:
        The error of each of these chips, by name; filled within.
    """
    found: dict[str, str] = {}
    token = _left_out.set((split, found))
    try:
        yield found
    finally:
        _left_out.reset(token)


def leave_out(errors: Mapping[str, str], split: str | None = None) -> bool:
    """Record the errors of incomplete chips, of one split if it is known; false outside of `leaving_out_incomplete`."""
    if (context := _left_out.get()) is None:
        return False
    wanted, found = context
    if split is None or wanted in (None, split):
        found.update(errors)
    return True


def is_misaligned(image: Path, mask: Path) -> bool:
    """Whether image and mask are rasters with a CRS, and their CRS or transforms differ."""
    with suppress(DataError), open_raster(image) as one, open_raster(mask) as other:
        if one.crs is None or other.crs is None:
            return False
        pixel = abs(one.transform.a)
        apart = np.abs(np.subtract(tuple(one.transform)[:6], tuple(other.transform)[:6])).max() / pixel
        return bool(one.crs != other.crs or apart > _TOLERANCE)
    return False


def pair_by_stem(
    names: Iterable[str], image: Callable[[str], Path], mask: Callable[[str], Path]
) -> list[Chip]:
    """Chips with these names, after a check that all files exist; see also `leaving_out_incomplete`.

    Raises:
        IncompleteChipError: A file is missing; the message names the first one and the number of others.
        DataError: All images, or all label files, are missing.
    """
    chips = [Chip(name, image(name), mask(name)) for name in names]
    listings: dict[Path, set[str]] = {}
    for chip in chips:
        for path in (chip.image, chip.mask):
            if path.parent not in listings:
                folder = path.parent
                listings[folder] = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    missing = [
        (chip, kind, path)
        for chip in chips
        for kind, path in (("image", chip.image), ("label file", chip.mask))
        if path.name not in listings[path.parent]
    ]
    if missing:
        chip, kind, path = missing[0]
        if len([one for _, other, one in missing if other == kind]) == len(chips) > 1:
            raise DataError(
                f"{path}: no such file; none of the {len(chips)} {kind}s exists: check folder, pattern, and the names "
                f"of chips in the list of splits, such as {chip.name}"
            )
        errors = {
            one.name: f"{file}: no such file; the {what} of chip {one.name} is missing"
            for one, what, file in missing
        }
        complete = [one for one in chips if one.name not in errors]
        if complete and leave_out(errors):
            return complete
        others = len(missing) - 1
        more = f" ({others} other file{'s are' if others > 1 else ' is'} missing too)" if others else ""
        raise IncompleteChipError(f"{path}: no such file; the {kind} of chip {chip.name} is missing{more}")
    return chips


def chips_in_folder(folder: Path, image_suffix: str, mask_suffix: str) -> list[Chip]:
    """All chips of a folder, sorted by name, without the ``._`` files of macOS.

    Raises:
        DataError: The folder has no images, or the image or mask of a chip is missing.
    """
    names: dict[str, set[str]] = {image_suffix: set(), mask_suffix: set()}
    for suffix, found in names.items():
        paths = folder.glob(f"*{suffix}")
        found |= {path.name.removesuffix(suffix) for path in paths if not path.name.startswith("._")}
    if not names[image_suffix]:
        raise DataError(f"{folder}: contains no chips (NAME{image_suffix}); set root to the folder above it")
    return pair_by_stem(
        sorted(names[image_suffix] | names[mask_suffix]),
        image=lambda name: folder / f"{name}{image_suffix}",
        mask=lambda name: folder / f"{name}{mask_suffix}",
    )
