"""Finding: one line of the table of ``prithvi-tg check``."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Literal

from ..errors import OwnMethodError

Severity = Literal["ok", "advice", "error"]

#: Advice about an `OwnMethodError`.
CORRECT_METHOD = "correct this method of your class"


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        severity: ``error`` if results would be wrong, ``advice`` if they may be.
        subject: The split, file or argument that was checked.
        message: The result of the check.
        advice: How to correct it.
    """

    severity: Severity
    subject: str
    message: str
    advice: str = ""

    @classmethod
    def of_error(cls, subject: str, error: Exception) -> "Finding":
        """The finding of an error, whose message ends with advice after a semicolon, or has none."""
        if isinstance(error, OwnMethodError):
            return cls("error", subject, str(error), CORRECT_METHOD)
        message, found, advice = str(error).rpartition("; ")
        return cls("error", subject, message, advice) if found else cls("error", subject, advice)


def count_chips(names: Sized) -> str:
    """The number of chips, in words: ``1 chip``, ``2 chips``."""
    return f"{len(names)} chip{'' if len(names) == 1 else 's'}"
