"""Errors of methods that a user's dataset class overrides, and checks of what they return."""

import linecache
import sysconfig
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from numbers import Real
from pathlib import Path
from types import FrameType
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from ...errors import ConfigError, DataError, OwnMethodError, PrithviTGError, counted
from ...targets import IGNORE_INDEX
from .chip_files import Chip

_PACKAGE = __name__.partition(".")[0]
_LIBRARIES = tuple(
    f"{Path(folder).resolve()}/"
    for folder in (
        *(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")),
        str(Path(__file__).parents[2]),
    )
)
#: Modules of NumPy that read files; errors of its others are mistakes of the caller.
_NUMPY_READERS = ("npyio", "format")


def method_name(dataset: object, method: str) -> str:
    """Path of a method of a dataset, ``module.Class.method``, with the class that defines it."""
    owner = next(kind for kind in type(dataset).__mro__ if method in vars(kind))
    return f"{owner.__module__}.{owner.__qualname__}.{method}"


@contextmanager
def calling(dataset: object, method: str, path: Path | None = None) -> Iterator[None]:
    """A context that names method and line of code in errors of a method that a user's class overrides.

    Args:
        dataset: The dataset.
        method: Name of the method.
        path: The file that the method reads, if it reads one.

    Raises:
        OwnMethodError: Within, code of the user raised an exception that is not an error of this package.
    """
    try:
        yield
    except PrithviTGError:
        raise
    except Exception as error:
        name = method_name(dataset, method)
        frames = [one for one in traceback.walk_tb(error.__traceback__) if _is_users(one[0], name)]
        if not frames:
            raise
        frame, line = frames[-1]
        text = " ".join(str(error).split())
        raise OwnMethodError(
            f"{name}: {type(error).__name__}{text and f': {text}'} ({Path(frame.f_code.co_filename).name}, line "
            f"{line}){f', for {path}' if path else ''}"
        ) from error


@contextmanager
def reading_file(path: Path, dataset: object, method: str) -> Iterator[None]:
    """As `calling`, for a method that reads a file; errors of reading name the file.

    Raises:
        DataError: Within, the file could not be read.
        OwnMethodError: See `calling`.
    """
    with calling(dataset, method, path):
        try:
            yield
        except PrithviTGError:
            raise
        except Exception as error:
            if not _is_of_file(error, method_name(dataset, method)):
                raise
            raise DataError(
                f"{path}: cannot be read ({str(error).strip() or type(error).__name__})"
            ) from error


def _is_users(frame: FrameType, method: str) -> bool:
    """Whether a line is neither of this package nor of a library; `method` is the path of the user's method."""
    module, package = frame.f_globals.get("__name__", ""), method.partition(".")[0]
    if _PACKAGE != package == module.partition(".")[0]:
        return True  # also if it is installed
    file = frame.f_code.co_filename
    # Lines of compiled modules have no source.
    return bool(linecache.getline(file, frame.f_lineno)) and not str(Path(file).resolve()).startswith(
        (*_LIBRARIES, "<frozen")
    )


def _is_of_file(error: Exception, method: str) -> bool:
    """Whether an exception means that a file is missing or unreadable, and not that the code is wrong."""
    if isinstance(error, OSError | EOFError | BadZipFile | RasterioError):
        return True
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    package, _, module = frame.f_globals.get("__name__", "").partition(".")
    reads = package not in (_PACKAGE, "numpy") or any(word in module for word in _NUMPY_READERS)
    # A LookupError is about a name or number that the code asks for, such as an array that an .npz file lacks.
    return isinstance(error, ValueError) and reads and not _is_users(frame, method)


def checked_classes(classes: Any, stored: NDArray[np.int64], dataset: object) -> NDArray[Any]:
    """The classes that `to_classes` of a dataset returned for stored labels (H, W), as whole numbers; NaN becomes 255.

    Raises:
        ConfigError: It did not return an array of whole numbers, or NaN, of the same shape.
    """
    found = np.asarray(classes)
    name = method_name(dataset, "to_classes")
    if found.shape != stored.shape or found.dtype.kind not in "biuf":
        what = "None" if classes is None else f"an array {found.shape} of type {found.dtype}"
        raise ConfigError(
            f"{name}: returned {what}; return class numbers and 255 in the shape of the stored labels, {stored.shape}"
        )
    if found.dtype.kind != "f":
        return found
    found = np.where(np.isnan(found), IGNORE_INDEX, found)
    fractions = found[found != np.round(found)]
    if fractions.size:
        raise ConfigError(f"{name}: returned {fractions[0]:g}; return whole numbers: classes, and 255")
    return found.astype(np.int64)


#: Attribute of a dataset class -> whether a value is valid, and an example.
_ATTRIBUTES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "file_bands": (lambda value: _all_are(str, value), '("RED", "NIR_BROAD")'),
    "num_frames": (lambda value: isinstance(value, int) and value >= 1, "1"),
    "scale": (lambda value: isinstance(value, Real), "1e-4"),
    "nodata": (lambda value: _all_are(Real, value), "(-9999,)"),
    "class_names": (lambda value: _all_are(str, value), '("Water",)'),
    "class_colors": (lambda value: _all_are(str, value), '("#2166ac",)'),
}


def check_attributes(dataset_class: type) -> None:
    """Check the attributes that describe the files and classes of a dataset class.

    Raises:
        ConfigError: An attribute has a value that is not valid.
    """
    for name, (is_valid, example) in _ATTRIBUTES.items():
        value = getattr(dataset_class, name)
        if not is_valid(value):
            raise ConfigError(
                f"{dataset_class.__module__}.{dataset_class.__qualname__}.{name}: {value!r} is not valid; write, "
                f"for example, {name} = {example}"
            )


def _all_are(kind: type, values: Any) -> bool:
    return isinstance(values, tuple | list) and all(isinstance(one, kind) for one in values)


def check_dates(dates: Any, dataset: Any) -> None:
    """Check that `dates` of a dataset returned one date per frame.

    Raises:
        ConfigError: It returned something else.
    """
    is_list = isinstance(dates, list | tuple)
    if (
        not is_list
        or len(dates) != dataset.num_frames
        or any(day and not isinstance(day, date) for day in dates)
    ):
        raise ConfigError(
            f"{method_name(dataset, 'dates')}: returned {dates!r}; return a list with a datetime.date or None for each "
            f"of the {counted(dataset.num_frames, 'frame')}"
        )


def checked_chips(found: Any, dataset: Any) -> list[Chip]:
    """The chips that `find_chips` of a dataset returned, with their paths as `Path`.

    Raises:
        ConfigError: It did not return a list of `Chip`.
        DataError: It found no chips, or several of one name.
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
    if not (chips or dataset.root.exists()):
        raise DataError(f"root: {dataset.root}: no such folder")
    if not chips:
        raise DataError(
            f"{name}: found no chips of split {dataset.split} in {dataset.root}; check the folder, and how find_chips "
            "chooses the chips of a split"
        )
    (chip_name, count), *_ = Counter(chip.name for chip in chips).most_common(1)
    if count > 1:
        raise DataError(
            f"{name}: {count} chips of split {dataset.split} are named {chip_name}; give each chip a name of its own"
        )
    return [chip._replace(image=Path(chip.image), mask=Path(chip.mask)) for chip in chips]
