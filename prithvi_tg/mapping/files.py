"""Files that appear under their final names only when they are complete."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """A name to write to in the folder of `path`; renamed to `path` on success, removed on failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
