"""ChipCache: decoded chips in files that processes map into memory."""

import functools
import hashlib
import inspect
import json
import logging
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...files import finished_file
from ...readers.fingerprint import fingerprint
from ...readers.scaling import Scaling
from .chip_files import Chip
from .stored_chips import StoredChip

if TYPE_CHECKING:
    from .base import ChipDataset

_log = logging.getLogger(__name__)

_MAGIC = b"PTGCHIP1"
_PREAMBLE = struct.Struct("<8sQ")
_ALIGNMENT = 64
#: Files beside a raster that GDAL reads with it.
_SIDECARS = ("", ".aux.xml", ".msk")
#: Attributes of a dataset that do not change how its files are decoded.
_NOT_SETTINGS = frozenset({"cache", "chips", "label_of", "root", "split", "splits", "transforms"})
#: Folder beside the chips.
FOLDER_NAME = ".prithvi_tg_cache"


class CacheEntry(NamedTuple):
    """File of a chip in the cache.

    Attributes:
        path: Path of the file.
        state: Hash that changes with the files of the chip.
    """

    path: Path
    state: str


class ChipCache:
    """Stores each decoded chip in a file; processes share the files through the page cache of the system.

    A file contains a `StoredChip`, and gets its final name when it is complete. The name depends on the chip and on the
    settings and code of the dataset. The header records the state (size and time) of the chip's files, so that a
    chip is decoded again after they change.

    Args:
        folder: Folder of the cache; ``None`` for a folder beside the images of the chips.
        settings: Hash of the dataset, see `settings_digest`.
    """

    def __init__(self, folder: Path | None, settings: str) -> None:
        self.folder = folder
        self.settings = settings
        self._entries: dict[Chip, CacheEntry] = {}
        self._full = False

    def entry(self, chip: Chip) -> CacheEntry:
        """The cache file of a chip; the state of the chip's files is determined once."""
        if chip not in self._entries:
            image, mask = chip.image.absolute(), chip.mask.absolute()
            name = _digest(self.settings, chip.name, str(image), str(mask))
            folder = image.parent / FOLDER_NAME if self.folder is None else self.folder
            self._entries[chip] = CacheEntry(
                folder / f"{name}.chip", _digest(*_states(image), *_states(mask))
            )
        return self._entries[chip]

    def load(self, entry: CacheEntry) -> StoredChip | None:
        """Map a chip into memory; ``None`` if it is not cached, or its files have changed."""
        try:
            with entry.path.open("rb") as file:
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            magic, length = _PREAMBLE.unpack_from(memory)
            start = _PREAMBLE.size
            header = json.loads(memory[start : start + length])
        except (
            OSError,
            ValueError,
            struct.error,
        ):  # missing, empty, or incomplete after a crash of the system
            return None
        if magic != _MAGIC or header["state"] != entry.state or header["size"] != len(memory):
            return None
        arrays = {
            name: np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)
            for name, dtype, shape, offset in header["arrays"]
        }
        return StoredChip(
            arrays.pop("values"),
            arrays.pop("valid", None),
            arrays.pop("label", None),
            tuple(Scaling(*scaling) for scaling in header["scalings"]),
            header["has_data"],
            header["meaningless"],
            arrays,
        )

    def store(self, entry: CacheEntry, chip: StoredChip) -> None:
        """Write a chip. After an error, no further chips are written, and they are decoded when needed."""
        if self._full:
            return
        try:
            entry.path.parent.mkdir(parents=True, exist_ok=True)
            with finished_file(entry.path) as partial, partial.open("wb") as file:
                for part in _parts(entry.state, chip):
                    file.write(part)
        except OSError as error:
            self._full = True
            _log.warning(
                f"cache: {entry.path.parent} cannot be written ({error}); further chips are decoded in every epoch"
            )


def settings_digest(dataset: "ChipDataset") -> str:
    """Hash of the settings of a dataset and of the code of its classes."""
    settings = {key: value for key, value in vars(dataset).items() if key not in _NOT_SETTINGS}
    sources = [_source(cls) for cls in type(dataset).__mro__ if cls.__module__ != "builtins"]
    return _digest(*sources, *(f"{key}={settings[key]!r}" for key in sorted(settings)))


@functools.cache  # inspect parses the whole module of a class
def _source(cls: type) -> str:
    """The code of a class, or its name if it was defined in a console."""
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return cls.__qualname__


def _states(path: Path) -> Iterator[str]:
    """Size and time of a raster and the files that GDAL reads with it; for a VRT, of its sources."""
    if path.suffix.lower() == ".vrt":
        yield json.dumps(fingerprint(str(path)))
        return
    for suffix in _SIDECARS:
        one = path.with_name(path.name + suffix)
        if one.exists():
            stat = one.stat()
            yield f"{suffix}:{stat.st_size}:{stat.st_mtime_ns}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _parts(state: str, chip: StoredChip) -> Iterator[bytes]:
    """The content of a file: preamble, header, and arrays at multiples of `_ALIGNMENT`."""
    optional = {"valid": chip.valid, "label": chip.label}
    arrays: dict[str, NDArray[Any]] = {
        "values": chip.values,
        **{name: array for name, array in optional.items() if array is not None},
        **chip.metadata,
    }
    header: dict[str, Any] = {
        "state": state,
        "size": 0,
        "scalings": chip.scalings,
        "has_data": chip.has_data,
        "meaningless": chip.meaningless,
        "arrays": [],
    }
    lines = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    # Reserve room for the header, as its offsets and size are not known yet.
    room = len(json.dumps(header | {"arrays": lines})) + 24 * (len(arrays) + 1)
    end = _aligned(_PREAMBLE.size + room)
    room = end - _PREAMBLE.size
    for line, array in zip(lines, arrays.values(), strict=True):
        header["arrays"].append([*line, end])
        end = _aligned(end + array.nbytes)
    header["size"] = end
    yield _PREAMBLE.pack(_MAGIC, room)
    yield json.dumps(header).ljust(room).encode()
    for array in arrays.values():
        yield array.tobytes().ljust(_aligned(array.nbytes), b"\0")


def _aligned(size: int) -> int:
    return size + -size % _ALIGNMENT
