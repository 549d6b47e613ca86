"""CacheChooser: the cache of decoded chips of a data module, in shared memory, in files, or none."""

import fcntl
import logging
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

from ..datasets import ChipDataset
from ..datasets.chips.chip_cache import ChipCache, settings_digest
from ..errors import ConfigError
from ..readers.block_cache import memory_bytes

_log = logging.getLogger(__name__)

CACHES = ("ram", "disk", "none")
#: Fraction of the memory for decoded chips, unless ``cache: ram`` is set.
_SHARE = 4
_SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "prithvi_tg-chips-"
_NEW = 60  # seconds after its creation in which a folder may have no lock


def check_cache(cache: str | None, cache_folder: str | Path | None) -> None:
    """Check the arguments of a cache.

    Raises:
        ConfigError: `cache` is not in `CACHES`, or a folder is given for another cache than ``disk``.
    """
    if cache is not None and cache not in CACHES:
        raise ConfigError(f"cache: {cache!r} is unknown; choose from {', '.join(CACHES)}")
    if cache_folder is not None and cache != "disk":
        raise ConfigError(
            f"cache_folder: {cache_folder} applies only to cache: disk; set that, or remove cache_folder"
        )


class CacheChooser:
    """Chooses the cache for the datasets of a data module.

    Args:
        cache: One of `CACHES`; by default ``ram`` if the decoded chips fit into a quarter of the memory that is
            available to this process, otherwise ``none``.
        folder: Folder for ``disk``; by default one beside the images.

    Raises:
        ConfigError: See `check_cache`.
    """

    def __init__(self, cache: str | None = None, folder: str | Path | None = None) -> None:
        check_cache(cache, folder)
        self.cache = cache
        self.folder = None if folder is None else Path(folder)
        self._temporary: Path | None = None
        self._choice: str | None = None

    def attach(self, datasets: Sequence[ChipDataset], repeated: bool, local_rank: int = 0) -> None:
        """Set the cache of datasets.

        Args:
            datasets: Datasets of a stage.
            repeated: Whether chips are read more than once; otherwise only a cache on the disk is useful.
            local_rank: Number of this process on its machine.

        Raises:
            ConfigError: The chips do not fit into the memory.
        """
        if self.cache != "disk" and not repeated:
            return
        if self._choice is None:
            self._choice = self.cache or self._choose(datasets)
        if self._choice == "none":
            return
        folder = self.folder if self._choice == "disk" else self._memory_folder(datasets, local_rank)
        for dataset in datasets:
            dataset.cache = ChipCache(folder, settings_digest(dataset))

    def _choose(self, datasets: Sequence[ChipDataset]) -> str:
        size, memory = sum(dataset.stored_bytes() for dataset in datasets), memory_bytes()
        if size > memory // _SHARE:
            _log_rank_zero(
                f"cache: none; the decoded chips, about {_as_text(size)}, are more than a quarter of the memory, "
                f"{_as_text(memory)}; cache: disk stores them in files"
            )
            return "none"
        if size > _free(_memory_parent()):
            _log_rank_zero(
                f"cache: none; {_memory_parent()} has {_as_text(_free(_memory_parent()))} for about "
                f"{_as_text(size)} of decoded chips; cache: disk stores them in files"
            )
            return "none"
        _log_rank_zero(f"cache: ram, about {_as_text(size)} of decoded chips")
        return "ram"

    def _memory_folder(self, datasets: Sequence[ChipDataset], local_rank: int) -> Path:
        if self._temporary is None:
            size = sum(dataset.stored_bytes() for dataset in datasets)
            # Containers often have little shared memory; the page cache also holds files of another folder in memory.
            parents = dict.fromkeys((_memory_parent(), Path(tempfile.gettempdir())))
            parent = next((one for one in parents if _free(one) >= size), None)
            if parent is None:
                available = " and ".join(f"{one} has {_as_text(_free(one))}" for one in parents)
                raise ConfigError(
                    f"cache: ram needs about {_as_text(size)}, but {available}; set cache: disk or none"
                )
            remove_abandoned(parent)
            self._temporary = _shared_name(parent)
            if local_rank == 0:
                self._temporary.mkdir(mode=0o700, exist_ok=True)
                weakref.finalize(self, _remove, self._temporary, _lock(self._temporary), os.getpid())
        return self._temporary


def _memory_parent() -> Path:
    return _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())


def _shared_name(parent: Path) -> Path:
    """Path of a new folder, the same in all training processes."""
    names = [tempfile.mktemp(prefix=f"{_PREFIX}{os.getuid()}-", dir=parent)]
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(names)
    return Path(names[0])


def _lock(folder: Path) -> int:
    """Lock a folder until this process and its loader processes end."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _remove(folder: Path, lock: int, process: int) -> None:
    if os.getpid() == process:  # not in a forked loader process
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the caches of killed runs of this user, which no process has locked."""
    for folder in parent.glob(f"{_PREFIX}{os.getuid()}-*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < _NEW and not (folder / "lock").exists():
                continue
            lock = os.open(folder / "lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _as_text(size: int) -> str:
    """A number of bytes in a unit that suits it."""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


@rank_zero_only
def _log_rank_zero(line: str) -> None:
    _log.info(line)
