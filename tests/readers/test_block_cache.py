"""GDAL's block cache fits the memory that all readers of a machine or container have."""

import os
import subprocess
import sys

import pytest
from rasterio.env import get_gdal_config

from prithvi_tg.readers import block_cache
from prithvi_tg.readers.block_cache import block_cache_megabytes, limit_block_cache, memory_bytes

GIGABYTE = 2**30
PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
NO_LIMIT = "9223372036854771712"


@pytest.fixture
def no_limit_of_the_user(monkeypatch):
    before = get_gdal_config("GDAL_CACHEMAX")
    for key in ("GDAL_CACHEMAX", block_cache._OURS):
        monkeypatch.setenv(key, "")  # so that it is restored
        monkeypatch.delenv(key)
    yield
    block_cache.set_gdal_config("GDAL_CACHEMAX", before)


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        pytest.param("0::/job/step", {"job/step/memory.max": "1073741824"}, GIGABYTE, id="v2"),
        pytest.param("0::/job/step", {"job/memory.max": "1073741824", "job/step/memory.max": "max"}, GIGABYTE,
                     id="v2, of the group above"),
        pytest.param("0::/", {"memory.max": "1073741824"}, GIGABYTE, id="v2, within a container"),
        pytest.param("5:cpu:/x\n4:memory:/job", {"memory/job/memory.limit_in_bytes": "1073741824"}, GIGABYTE, id="v1"),
        pytest.param("4:memory:/docker/4f2", {"memory/memory.limit_in_bytes": "1073741824"}, GIGABYTE,
                     id="v1, within a container"),
        pytest.param("4:memory:/", {"memory/memory.limit_in_bytes": NO_LIMIT}, PHYSICAL, id="v1, without a limit"),
        pytest.param("0::/", {"memory.max": "max"}, PHYSICAL, id="v2, without a limit"),
        pytest.param(None, {}, PHYSICAL, id="no groups"),
    ],
)  # fmt: skip
def test_memory_is_that_of_the_container(groups, files, limit, tmp_path):
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert memory_bytes(tmp_path) == limit


def test_all_readers_together_use_a_fifth_of_the_memory():
    for readers in (1, 2, 8, 64):
        assert block_cache_megabytes(readers, 100 * GIGABYTE) == 20 * 1024 // readers
    assert block_cache_megabytes(64, GIGABYTE) == 16
    assert block_cache_megabytes(1, 4096 * GIGABYTE) < 100_000  # from here on GDAL reads bytes


def test_the_limit_holds_here_and_in_processes_that_start_later(no_limit_of_the_user, monkeypatch):
    monkeypatch.setattr(block_cache, "memory_bytes", lambda: 10 * GIGABYTE)
    for readers, most, megabytes in ((8, 10_000, 256), (4, 10_000, 512), (4, 64, 64)):
        limit_block_cache(readers, most)
        assert get_gdal_config("GDAL_CACHEMAX") == megabytes * 2**20
    code = "from rasterio.env import get_gdal_config; print(get_gdal_config('GDAL_CACHEMAX') // 2**20)"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == "64"


def test_the_users_limit_is_left_alone(no_limit_of_the_user, monkeypatch):
    before = get_gdal_config("GDAL_CACHEMAX")
    monkeypatch.setenv("GDAL_CACHEMAX", "7%")
    limit_block_cache(8)
    assert os.environ["GDAL_CACHEMAX"] == "7%"
    assert get_gdal_config("GDAL_CACHEMAX") == before
