"""Files that appear under their final names only when they are complete."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from rasterio.errors import RasterioError

from .compat import GDALError
from .errors import DataError


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """A name to write to in the folder of `path`; renamed to `path` on success, removed on failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A context that names the file in errors of writing.

    Raises:
        DataError: Within, the system or GDAL could not write.
    """
    try:
        yield
    except (RasterioError, GDALError, OSError) as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock a file within the context, at the latest until this process ends, however it ends.

    Forked processes do not have the lock. The file, and its folder if it is new and empty, are removed at the end.

    Yields:
        Whether this process has the lock; if not, another one has it.
    """
    is_new = not path.parent.exists()
    file = _open_locked(path)
    try:
        yield file is not None
    finally:
        if file is not None:
            path.unlink(missing_ok=True)  # before another process can have the lock
            file.close()
            if is_new:
                with suppress(OSError):  # it holds other files
                    path.parent.rmdir()


def _open_locked(path: Path) -> IO[bytes] | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("ab")
        except FileNotFoundError:  # the process that had the lock has just removed the folder
            continue
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            return None
        except OSError:  # the file system has no locks
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # of a process that has just ended


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    with finished_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def relative_path(path: Path, folder: Path) -> str:
    """Where a file is, as seen from a folder."""
    # Folders are resolved, as ".." leads elsewhere behind a link; a linked file keeps the name it was given.
    return Path(os.path.relpath(path.parent.resolve() / path.name, folder.resolve())).as_posix()


def shown(path: Path) -> Path:
    """A path as it is printed: from the current folder, if it lies there."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
