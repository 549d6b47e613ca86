"""Errors of methods that a user's dataset class overrides, and checks of what `find_chips` returns."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DataError, PrithviTGError
from .chip_files import Chip

_LIBRARIES = tuple(
    f"{Path(folder).resolve()}/"
    for folder in (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), Path(__file__).parents[2])
)


def method_name(dataset: object, method: str) -> str:
    """Path of a method of a dataset, ``module.Class.method``, with the class that defines it."""
    owner = next(kind for kind in type(dataset).__mro__ if method in vars(kind))
    return f"{owner.__module__}.{owner.__qualname__}.{method}"


@contextmanager
def calling(dataset: object, method: str) -> Iterator[None]:
    """A context that names method, file and line in errors of a method that a user's class overrides.

    Raises:
        ConfigError: Within, code of the user raised an exception that is not an error of this package.
    """
    try:
        yield
    except PrithviTGError:
        raise
    except Exception as error:
        frame = user_frame(error)
        if frame is None:
            raise
        text = " ".join(str(error).split())
        raise ConfigError(
            f"{method_name(dataset, method)}: {type(error).__name__}{text and f': {text}'} "
            f"({Path(frame.filename).name}, line {frame.lineno})"
        ) from error


def user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of code that is neither of this package nor of a library; ``None`` if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not str(Path(frame.filename).resolve()).startswith(_LIBRARIES)]
    return own[-1] if own else None


def checked_chips(found: Any, dataset: Any) -> list[Chip]:
    """The chips that `find_chips` of a dataset returned, with their paths as `Path`.

    Raises:
        ConfigError: It did not return a list of `Chip`.
        DataError: It found no chips.
    """
    name = method_name(dataset, "find_chips")
    advice = "return a list of Chip(name, image, mask)"
    if found is None or isinstance(found, str | dict) or not hasattr(found, "__iter__"):
        what = "None" if found is None else f"an object of type {type(found).__name__}"
        raise ConfigError(f"{name}: returned {what} for split {dataset.split}; {advice}")
    chips = list(found)
    for chip in chips:
        if not isinstance(chip, Chip):
            raise ConfigError(
                f"{name}: returned a list of {type(chip).__name__} for split {dataset.split}; {advice}"
            )
        for key, path in (("image", chip.image), ("mask", chip.mask)):
            if not isinstance(path, str | Path):
                raise ConfigError(
                    f"{name}: {key} of chip {chip.name} is {path!r}, not a path; {advice}, with the path of the "
                    "image also as mask if one file has both"
                )
    if not chips:
        raise DataError(
            f"{name}: found no chips of split {dataset.split} in {dataset.root}; check the folder, and how find_chips "
            "chooses the chips of a split"
        )
    return [chip._replace(image=Path(chip.image), mask=Path(chip.mask)) for chip in chips]
