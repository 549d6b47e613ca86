"""How much memory GDAL may keep decoded blocks in."""

import os
from pathlib import Path

from rasterio.env import set_gdal_config

_KEY = "GDAL_CACHEMAX"
#: Our last value, so that it is not taken for one of the user; processes that we start inherit both.
_OURS = "PRITHVI_TG_GDAL_CACHEMAX"
_MEGABYTE = 2**20
#: GDAL reads larger numbers as bytes.
_MOST_MEGABYTES = 99_999
#: Less holds no row of blocks of a scene.
_LEAST_MEGABYTES = 16
#: What all readers of a machine use together, as a part of the memory.
_SHARE = 5


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may use: that of the machine, or the limit of its container if that is lower.

    Args:
        root: Where ``proc`` and ``sys`` are found.
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
        # A group has at most what those above it have. Within a container, its own group may be the topmost.
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
    """Megabytes for each of several processes that read, so that all together use a fifth of the memory.

    Args:
        readers: Number of processes of this machine.
        memory: Bytes.
    """
    share = memory // _SHARE // max(1, readers) // _MEGABYTE
    return min(max(share, _LEAST_MEGABYTES), _MOST_MEGABYTES)


def limit_block_cache(readers: int = 1, most: int = _MOST_MEGABYTES) -> None:
    """Limit GDAL's block cache in this process and in those that it starts; by itself, GDAL takes a twentieth.

    A share of the memory would not do: GDAL reads that of the machine, whatever the limit of a container. A
    ``GDAL_CACHEMAX`` of the user's is left alone.

    Args:
        readers: Number of processes of this machine that read: training processes times their loaders.
        most: Megabytes that are enough.
    """
    given = os.environ.get(_KEY)
    if given is not None and given != os.environ.get(_OURS):
        return
    megabytes = min(block_cache_megabytes(readers, memory_bytes()), most)
    # Not rasterio.Env: it restores the old limit at its end, and does not reach the processes that load.
    os.environ[_KEY] = os.environ[_OURS] = str(megabytes)
    # GDAL reads the environment before its first block only, and this process may have read blocks.
    set_gdal_config(_KEY, megabytes * _MEGABYTE)
