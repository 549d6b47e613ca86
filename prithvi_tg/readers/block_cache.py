"""The limit of GDAL's cache of decoded blocks."""

import os
from pathlib import Path

from rasterio.env import getenv, hasenv, set_gdal_config

_KEY = "GDAL_CACHEMAX"
_MEGABYTE = 2**20
#: GDAL reads larger numbers as bytes.
_MOST_MEGABYTES = 99_999
#: Less holds no row of blocks of a scene.
_LEAST_MEGABYTES = 16
#: All readers of a machine together use at most a fifth of its memory.
_SHARE = 5


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory of the machine, or the limit of this process's container if that is lower, in bytes.

    Args:
        root: Folder with ``proc`` and ``sys``.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        lines = []
    for line in lines:
        number, controllers, group = line.split(":", 2)
        if number == "0" and not controllers:  # version 2
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):  # version 1
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # The limits of parent groups apply, too. Within a container, its own group may be the topmost.
        parts = Path(group.lstrip("/")).parts
        for depth in range(len(parts) + 1):
            limits += _limit(top.joinpath(*parts[:depth], name))
    return min(limits)


def _limit(path: Path) -> list[int]:
    try:
        text = path.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []  # "max" is no limit


def block_cache_megabytes(readers: int, memory: int) -> int:
    """Megabytes for each of several processes, which together use a fifth of the memory.

    Args:
        readers: Number of processes of this machine that read.
        memory: Memory of the machine in bytes.
    """
    share = memory // _SHARE // max(1, readers) // _MEGABYTE
    return min(max(share, _LEAST_MEGABYTES), _MOST_MEGABYTES)


def limit_block_cache(readers: int = 1, max_megabytes: int = _MOST_MEGABYTES) -> int | None:
    """Limit GDAL's block cache in this process; GDAL's own default is a twentieth of the machine's memory.

    GDAL has one cache for all threads of a process, so the limit holds until the process ends. Processes that are not
    forked from this one need `set_block_cache`. A ``GDAL_CACHEMAX`` of the user, in the environment or in an active
    `rasterio.Env`, is not changed.

    Args:
        readers: Number of processes of this machine that read: training processes times their loaders.
        max_megabytes: Upper limit in megabytes.

    Returns:
        The limit in megabytes, ``None`` if the user has set one.
    """
    if _KEY in os.environ or (hasenv() and _KEY in getenv()):
        return None
    megabytes = min(block_cache_megabytes(readers, memory_bytes()), max_megabytes)
    set_block_cache(megabytes)
    return megabytes


def set_block_cache(megabytes: int) -> None:
    """Set the limit of GDAL's block cache of this process.

    Args:
        megabytes: The limit; blocks beyond it are discarded.
    """
    # Not rasterio.Env: it belongs to one thread, but would change the cache of all threads when it begins and ends.
    set_gdal_config(_KEY, megabytes * _MEGABYTE)
