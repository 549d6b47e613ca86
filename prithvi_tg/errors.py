"""Errors: one base class, so that a caller can catch anything of ours.

A message is one line that names the file, the key and the value, and says what would be right.
"""


class PrithviTGError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigError(PrithviTGError, ValueError):
    """A setting that cannot be, or that contradicts another one."""


class DataError(PrithviTGError, ValueError):
    """A file, band or label that is missing, unreadable or not what it should be."""


class CheckpointError(PrithviTGError, RuntimeError):
    """Weights that are unreadable, unsafe or do not fit the model."""


def own_error(error: BaseException | None) -> PrithviTGError | None:
    """The error of this package behind one of another, as when jsonargparse builds a class."""
    while error is not None:
        if isinstance(error, PrithviTGError):
            return error
        error = error.__cause__
    return None
