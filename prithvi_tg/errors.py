"""Errors of this package, with one base class, so that a caller can catch all of them.

A message is one line with the file or key, the value, and the correct form.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


#: Endings of files of weights.
_WEIGHTS = (".ckpt", ".pth", ".pt", ".pt2", ".safetensors")
#: How messages name the absence of a validation set.
NO_VALIDATION = "there is no validation set"


class PrithviTGError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigError(PrithviTGError, ValueError):
    """An invalid setting, or one that contradicts another."""


class MissingStatisticsError(ConfigError):
    """A dataset has neither given nor published statistics."""


class OwnMethodError(ConfigError):
    """A mistake in a method of a user's dataset class."""


class DataError(PrithviTGError, ValueError):
    """A missing, unreadable or invalid file, band or label."""


class MissingFileError(DataError):
    """A file or folder that does not exist, or a pattern that matches none."""

    @classmethod
    def of(cls, word: str) -> "MissingFileError":
        """The error for a path or pattern."""
        is_pattern = any(character in word for character in "*?[")
        return cls(f"{word}: {'no file matches this pattern' if is_pattern else 'no such file or folder'}")


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Name the key of a configuration in errors about missing files."""
    try:
        yield
    except MissingFileError as error:
        raise MissingFileError(f"{key}: {error}") from error


class IncompleteChipError(DataError):
    """The image or the label file of a chip does not exist."""


class UnknownLabelError(DataError):
    """Stored labels without a class.

    Args:
        message: The message.
        counts: Pixels of each stored label.
        converted: Those of the labels that ``to_classes`` of a dataset changed -> its result.
    """

    def __init__(
        self, message: str, counts: dict[int, int] | None = None, converted: dict[int, int] | None = None
    ) -> None:
        super().__init__(message)
        self.counts = counts or {}
        self.converted = converted or {}


class ValueRangeError(DataError):
    """Labels with values outside their valid range.

    Args:
        message: The message, with advice.
        values: All values that were read (V, ...) in the unit; NaN where not labelled, and instead of `fill`.
        fill: Stored value that probably means "not labelled", if there is one.
        advice: What to do about `fill`, with ``FILE`` for the name of the file.
    """

    def __init__(
        self,
        message: str,
        values: "NDArray[np.float32] | None" = None,
        fill: float | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.values = values
        self.fill = fill
        self.advice = advice


class BandCountError(DataError):
    """Several chips have another number of bands than the configuration says."""


class BandNameError(DataError):
    """Bands of a file that no description and no option identifies.

    Args:
        message: The message.
        advice: What to do, which follows the message.

    Attributes:
        reason: The message without advice.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(f"{message}; {advice}" if advice else message)
        self.reason = message


class CheckpointError(PrithviTGError, RuntimeError):
    """Weights that are unreadable, unsafe or do not fit the model."""

    @classmethod
    def missing(cls, path: str | Path) -> "CheckpointError":
        """The error for a path that is not a file; it names checkpoints of the folder or of the run at the path."""
        if Path(path).is_dir():
            places = [
                f"{folder}*{ending}"
                for folder in ("", "checkpoints/", "*/checkpoints/")
                for ending in _WEIGHTS
            ]
            found = [one for place in places for one in sorted(Path(path).glob(place))]
            found.sort(key=lambda one: one.name != "best.ckpt")
            advice = (
                f"give a file in it: {first_of(map(str, found), 3)}" if found else "give a file of weights"
            )
            return cls(f"{path}: is a folder; {advice}")
        run = Path(path).parent / "checkpoints"
        near = [name for name in (Path(path).name, "best.ckpt") if (run / name).is_file()]
        return cls(f"{path}: no such file" + (f"; did you mean {run / near[0]}?" if near else ""))


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things for a message: ``1 chip``, ``2 chips``.

    Args:
        number: The number.
        noun: The thing, in the singular.
        plural: Its plural, if it does not just add an s.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names as in a sentence: ``a``, ``a and b``, ``a, b and c``.

    Args:
        names: The names.
        last: The word before the last name, ``and`` or ``or``.
    """
    return f" {last} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def first_of(words: Iterable[str], limit: int = 12) -> str:
    """The first words of a list for a message, and the number of others."""
    listed = list(words)
    more = [f"{len(listed) - limit} more"] if len(listed) > limit else []
    return ", ".join(listed[:limit] + more)


def own_error(error: BaseException | None) -> PrithviTGError | None:
    """The error of this package behind one of another, as when jsonargparse builds a class."""
    while error is not None:
        if isinstance(error, PrithviTGError):
            return error
        # PyTorch reports the error of a process that it started as text, which ends with the error.
        last = (
            str(error).strip().rsplit("\n", 1)[-1] if type(error).__name__ == "ProcessRaisedException" else ""
        )
        for kind in (
            ConfigError, MissingStatisticsError, DataError, UnknownLabelError, ValueRangeError, BandCountError,
            BandNameError, CheckpointError,
        ):  # fmt: skip
            name = f"{kind.__module__}.{kind.__name__}: "
            if last.startswith(name):
                return kind(last.removeprefix(name))
        error = error.__cause__
    return None
