"""Threads beside the model: rows that are read ahead, jobs that are run in order, copies from the device."""

import threading
import time

import numpy as np
import pytest
import rasterio
import torch

from prithvi_tg.errors import DataError
from prithvi_tg.mapping import resources
from prithvi_tg.mapping.background import BackgroundThread
from prithvi_tg.mapping.host_copy import CPU
from prithvi_tg.mapping.resources import choose_batch_size, choose_num_workers
from prithvi_tg.mapping.row_reader import RowReader
from prithvi_tg.mapping.scene_windows import SceneDataModule
from prithvi_tg.readers.formats import find_inputs, resolve_scene
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget
from prithvi_tg.tiling import WindowGrid

SPEC = DataSpec(InputSpec(("RED", "GREEN", "BLUE"), (1000.0,) * 3, (500.0,) * 3), ClassTarget(("a", "b")))


@pytest.fixture
def data(tmp_path):
    """Five scenes of two chunks of rows each."""
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"s{number}.tif")
        with rasterio.open(
            paths[-1], "w", driver="GTiff", dtype="int16", count=3, height=400, width=16, blockysize=200,
            crs="EPSG:32615", transform=rasterio.Affine(30, 0, 600000, 0, -30, 4200000),
        ) as out:  # fmt: skip
            out.write(np.full((3, 400, 16), number + 1, "int16"))
    scenes = [resolve_scene(one, SPEC) for one in find_inputs(paths)]
    return SceneDataModule(scenes, SPEC, window=16, stride=16)


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_threads_read_ahead_up_to_the_next_scenes(data):
    read = []

    def open_scene(scene):
        reader = data.open_scene(scene)
        plain = reader.read_stored
        reader.read_stored = lambda *span: read.append((scene.name, *span)) or plain(*span)
        return reader

    ranges = data.stream().strip_ranges
    reader = RowReader(ranges, open_scene, num_workers=3)
    try:
        next(iter(reader.rows(ranges[0])))
        wait_until(lambda: len(read) == 4)  # the one handed out, and as many ahead as there are threads
        time.sleep(0.05)
        assert sorted(read) == [("s0", 0, 200), ("s0", 200, 400), ("s1", 0, 200), ("s1", 200, 400)]
    finally:
        reader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_discarded_scenes_are_skipped_and_all_files_are_closed(data, workers):
    opened = []

    def open_scene(scene):
        opened.append(data.open_scene(scene))
        return opened[-1]

    ranges = data.stream().strip_ranges
    reader = RowReader(ranges, open_scene, workers)
    for strip_range in (ranges[0], ranges[3]):
        rows = list(reader.rows(strip_range))
        assert [one.top for one in rows] == [0, 200]
        assert (rows[0].values == int(strip_range.scene.name[1:]) + 1).all()
    reader.close()
    assert opened
    assert all(source.closed for one in opened for source in one._sources.values())


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_unreadable_scene_does_not_affect_the_next_ones(data, workers):
    def open_scene(scene):
        reader = data.open_scene(scene)
        if scene.name == "s1":
            reader.read_stored = _raise
        return reader

    def _raise(*span):
        raise DataError("s1.tif: not a readable raster")

    ranges = data.stream().strip_ranges
    reader = RowReader(ranges, open_scene, workers)
    found = {}
    for strip_range in ranges:
        try:
            found[strip_range.scene.name] = len(list(reader.rows(strip_range)))
        except DataError:
            found[strip_range.scene.name] = "failed"
    reader.close()
    assert found == {"s0": 2, "s1": "failed", "s2": 2, "s3": 2, "s4": 2}


def test_jobs_run_in_order_and_the_queue_is_short():
    thread, gate, done = BackgroundThread(most=2), threading.Event(), []
    thread.submit(gate.wait)
    thread.submit(lambda: done.append(1))
    blocked = threading.Thread(target=lambda: thread.submit(lambda: done.append(2)))
    blocked.start()
    blocked.join(0.05)
    assert blocked.is_alive()
    gate.set()
    blocked.join(10)
    thread.wait()
    thread.close()
    assert done == [1, 2]


def test_no_job_runs_after_an_error():
    thread, gate, done = BackgroundThread(most=4), threading.Event(), []
    thread.submit(gate.wait)
    thread.submit(lambda: 1 / 0)
    thread.submit(lambda: done.append(1))
    gate.set()
    with pytest.raises(ZeroDivisionError):
        thread.wait()
    thread.close()
    assert done == []


def test_batch_size_and_threads_depend_on_the_device(monkeypatch):
    monkeypatch.setattr(resources, "memory_bytes", lambda: 2**33)
    cuda, plan = torch.device("cuda"), WindowGrid.of((1000, 10980), 224, 112)
    assert choose_batch_size(CPU, 224) == 4
    assert choose_batch_size(cuda, 224) == 64
    assert choose_batch_size(cuda, 4000) == 1
    assert choose_num_workers(CPU, [plan], 6) == 1
    assert 1 <= choose_num_workers(cuda, [plan], 6) <= 12
    wide = WindowGrid.of((1000, 10**6), 224, 112)
    assert choose_num_workers(cuda, [wide], 6) == 1
