"""Errors of this package, with one base class, so that a caller can catch all of them.

A message is one line with the file or key, the value, and the correct form.
"""


class PrithviTGError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigError(PrithviTGError, ValueError):
    """An invalid setting, or one that contradicts another."""


class MissingStatisticsError(ConfigError):
    """A dataset has neither given nor published statistics."""


class DataError(PrithviTGError, ValueError):
    """A missing, unreadable or invalid file, band or label."""


class UnknownLabelError(DataError):
    """Stored labels without a class.

    Args:
        message: The message.
        counts: Pixels of each stored label.
    """

    def __init__(self, message: str, counts: dict[int, int] | None = None) -> None:
        super().__init__(message)
        self.counts = counts or {}


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
            ConfigError, MissingStatisticsError, DataError, UnknownLabelError, BandCountError, BandNameError,
            CheckpointError,
        ):  # fmt: skip
            name = f"{kind.__module__}.{kind.__name__}: "
            if last.startswith(name):
                return kind(last.removeprefix(name))
        error = error.__cause__
    return None
