"""The folder of a run, and the loggers that write to it."""

import re
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ..errors import ConfigError


def run_loggers(given: Any, folder: str, run: tuple[str, str] | None = None) -> Any:
    """CSV and TensorBoard loggers by default; a CSV logger is added to others, so that every run has curves.

    The folder of the first logger is the folder of the run.

    Args:
        given: Loggers of the configuration; ``False`` for none.
        folder: Folder of runs.
        run: Name of the run and of the command, for the folder ``NAME/COMMAND_N``; by default the folder is
            ``version_N``.

    Raises:
        ConfigError: The name is not the name of a folder, or the configuration has a CSV logger of its own.
    """
    if given is False:
        return False
    name, version = ("", None) if run is None else (run[0], free_folder(folder, run).name)
    # Flushed after each line, so that a killed run keeps its curves.
    curves = CSVLogger(folder, name=name, version=version, flush_logs_every_n_steps=1)
    if given in (None, True):
        board = TensorBoardLogger(folder, name=name, version=curves.version, default_hp_metric=False)
        return [curves, board]
    given = list(given) if isinstance(given, Iterable) else [given]
    if not any(isinstance(logger, CSVLogger) for logger in given):
        return [curves, *given]
    if run is not None:
        raise ConfigError(
            "name: the configuration has a CSVLogger; set name and version of that logger instead"
        )
    return given


def free_folder(folder: str, run: tuple[str, str] | None = None) -> Path:
    """The folder of a new run: the first of ``version_0``, ``version_1`` and so on that does not exist.

    Args:
        folder: Folder of runs.
        run: Name of the run and of the command, for ``NAME/COMMAND_0`` and so on.

    Raises:
        ConfigError: The name is not the name of a folder.
    """
    name, prefix = run or ("", "version")
    if run is not None and not re.fullmatch(r"\w[\w. -]*", name):
        raise ConfigError(
            f"name: {name!r} must be the name of a folder: letters, digits, '_', '-', '.' and spaces"
        )
    paths = (Path(folder) / name / f"{prefix}_{number}" for number in count())
    return next(path for path in paths if not path.exists())
