"""Messages and warnings of the library, shown as plain lines while a command runs."""

import logging
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar

from .errors import with_options

#: Advice of libraries that a user of the commands cannot act on.
_ADVICE = (
    ".*args parameter is intended to run from within Python.*",
    ".*deprecated in v4.*|.*JsonargparseDeprecationWarning.*",
    ".*does not have many workers.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*sync_dist.*",
    ".*could not find the monitored key.*",  # BestCheckpoint reports it
    ".*in eval mode at the start of training.*",  # the layers of a frozen encoder
    ".*smaller than the logging interval.*",
    ".*dirpath has changed.*",  # of a resumed run; TrainingRecord reports it
    ".*Total length of `list`.*",  # of validation without chips; BestCheckpoint reports it
    ".*Total length of `WindowStream`.*",  # of unreadable scenes; MapWriter reports it
    ".*matrix is equal to Affine.identity.*",  # of maps of scenes without a CRS; the reader reports it
)
#: Messages of Lightning that tell a user nothing, or what callbacks report.
_NEEDLESS = (
    "Tip:",
    "Detected KeyboardInterrupt",
    "TPU available: False",
    "to estimate number of stepping batches",
    "`Trainer.fit` stopped",
    "Restoring states from the checkpoint",
    "Restored all states from the checkpoint",
    "Loaded model weights from",
)
_RANK_ZERO = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")


class _PlainLines(logging.Handler):
    """Errors have no prefix: they are the results of single scenes, or tell what remains of an interrupted run."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            message = with_options(message, options_of_command())
        if record.levelno == logging.WARNING:
            message = _as_warning(message)
        print(message, file=stream, flush=True)


@contextmanager
def shown_messages() -> Iterator[None]:
    """Print what the package logs: level INFO to the standard output, warnings and errors to the standard error.

    Nested blocks print every message once.
    """
    logger = logging.getLogger("prithvi_tg")
    if any(isinstance(handler, _PlainLines) for handler in logger.handlers):
        yield
        return
    handler, level = _PlainLines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class ShortWarnings:
    """A context in which warnings have one line, and advice that a user cannot act on is hidden.

    Args:
        given: List that collects every warning.
        options: Options of the command, which warnings name instead of arguments; by default those of the enclosing
            context.
    """

    # Not found by `warnings.formatwarning`, which Lightning replaces when it is imported.
    _active: ClassVar[list["ShortWarnings"]] = []

    def __init__(self, given: list[str], options: Collection[str] = ()) -> None:
        self.given = given
        self.options: Collection[str] = options or options_of_command()

    def __enter__(self) -> "ShortWarnings":
        self._active.append(self)
        self._filters = warnings.catch_warnings()
        self._filters.__enter__()
        self._format = warnings.formatwarning
        warnings.formatwarning = self._one_line
        for message in _ADVICE:
            warnings.filterwarnings("ignore", f"(?s)\\s*{message}")
        for name in _RANK_ZERO:
            logging.getLogger(name).addFilter(_is_of_use)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in _RANK_ZERO:
            logging.getLogger(name).removeFilter(_is_of_use)
        warnings.formatwarning = self._format
        self._filters.__exit__(kind, error, trace)
        self._active.remove(self)

    @classmethod
    def innermost(cls) -> "ShortWarnings | None":
        """The innermost active context of this process."""
        return cls._active[-1] if cls._active else None

    def _one_line(self, message: Warning | str, *_: Any, **__: Any) -> str:
        text = with_options(str(message), self.options)
        self.given.append(text)
        return f"{_as_warning(text)}\n"


def _as_warning(message: str) -> str:
    return f"prithvi-tg: warning: {message}"


def options_of_command() -> Collection[str]:
    """Options of the command that runs, as the innermost `ShortWarnings` knows them."""
    around = ShortWarnings.innermost()
    return () if around is None else around.options


def _is_of_use(record: logging.LogRecord) -> bool:
    """Whether a message says more than tips of Lightning and what callbacks of this package report."""
    return not any(text in record.getMessage() for text in _NEEDLESS)
