"""GDAL's block cache fits the memory that all readers of a machine or container have."""

import os
from functools import partial

import numpy as np
import pytest
import rasterio
import torch
from lightning.fabric.utilities.seed import pl_worker_init_function
from rasterio.env import get_gdal_config, set_gdal_config
from torch.utils.data import DataLoader, Dataset

from prithvi_tg.datamodules.loading import init_reading_worker
from prithvi_tg.readers import block_cache
from prithvi_tg.readers.block_cache import block_cache_megabytes, limit_block_cache, memory_bytes

GIGABYTE = 2**30
PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
NO_LIMIT = "9223372036854771712"


@pytest.fixture
def no_limit_of_the_user(monkeypatch):
    before = get_gdal_config("GDAL_CACHEMAX")
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    yield
    set_gdal_config("GDAL_CACHEMAX", before)


class CacheAndNumber(Dataset):
    """The block cache of the process that loads, in megabytes, and a random number."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return get_gdal_config("GDAL_CACHEMAX") // 2**20, int(np.random.randint(2**31))


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
def test_the_memory_limit_is_that_of_the_container(groups, files, limit, tmp_path):
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


def test_the_limit_holds_in_this_process_and_no_environment_is_written(no_limit_of_the_user, monkeypatch):
    monkeypatch.setattr(block_cache, "memory_bytes", lambda: 10 * GIGABYTE)
    environment = dict(os.environ)
    for readers, most, megabytes in ((8, 10_000, 256), (4, 10_000, 512), (4, 64, 64)):
        assert limit_block_cache(readers, most) == megabytes
        assert get_gdal_config("GDAL_CACHEMAX") == megabytes * 2**20
    assert dict(os.environ) == environment


def init_with_seeds(worker, **options):
    """As in a process that has the environment of this one, not that of the server of processes."""
    os.environ["PL_SEED_WORKERS"] = "1"
    init_reading_worker(worker, **options)


@pytest.mark.parametrize("start", ["fork", "forkserver"])  # a worker inherits what is set here, or nothing
def test_the_limit_holds_in_workers_which_are_seeded_as_lightning_does(
    start, no_limit_of_the_user, monkeypatch
):
    monkeypatch.setenv("PL_SEED_WORKERS", "1")
    init = partial(init_with_seeds, megabytes=64, rank=3)
    loader = DataLoader(CacheAndNumber(), num_workers=1, worker_init_fn=init, multiprocessing_context=start,
                        generator=torch.Generator().manual_seed(0), batch_size=None)  # fmt: skip
    caches, numbers = zip(*loader, strict=True)
    assert caches == (64, 64)
    lightnings = partial(pl_worker_init_function, rank=3)
    loader = DataLoader(CacheAndNumber(), num_workers=1, worker_init_fn=lightnings, batch_size=None,
                        generator=torch.Generator().manual_seed(0))  # fmt: skip
    assert tuple(number for _, number in loader) == numbers


def test_the_users_limit_is_not_changed(no_limit_of_the_user, monkeypatch):
    before = get_gdal_config("GDAL_CACHEMAX")
    monkeypatch.setenv("GDAL_CACHEMAX", "7%")
    assert limit_block_cache(8) is None
    assert get_gdal_config("GDAL_CACHEMAX") == before
    monkeypatch.delenv("GDAL_CACHEMAX")
    with rasterio.Env(GDAL_CACHEMAX=77 * 2**20):
        assert limit_block_cache(8) is None
        assert get_gdal_config("GDAL_CACHEMAX") == 77 * 2**20
