"""Reading of scenes: every block once, a few rows at a time, with warnings about units."""

import warnings
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp

from prithvi_tg.mapping.host_copy import CPU
from prithvi_tg.mapping.scene_windows import SceneDataModule
from prithvi_tg.readers.formats import InputOptions, find_inputs, resolve_scene
from prithvi_tg.readers.scene import SceneReader
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

SPEC = DataSpec(
    InputSpec(("RED", "GREEN", "BLUE"), (1000.0,) * 3, (500.0,) * 3), ClassTarget(("a", "b", "c"))
)
TRANSFORM = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)


def write(path, values, **profile):
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, count=len(values), height=values.shape[1],
        width=values.shape[2], crs="EPSG:32615", transform=TRANSFORM, compress="deflate", **profile,
    ) as out:  # fmt: skip
        out.write(values)
    return path


def noise(height, width, bands=3):
    return np.random.default_rng(0).integers(500, 1500, (bands, height, width)).astype(np.int16)


class CountingFile:
    """A file that counts which of its bytes are read."""

    def __init__(self, path, mode, reads):
        self.file = Path(path).open(mode)  # noqa: SIM115
        self.reads = reads

    def read(self, size=-1):
        self.reads.append((self.file.tell(), size))
        return self.file.read(size)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def only_batch(data):
    (read,) = data.stream()
    return data.windows_on(CPU).load(read)


def decoded(path, monkeypatch, **options):
    """Number of times that each block of a file is read while its windows are streamed."""
    with rasterio.open(path) as source:
        spans = {}
        for band in range(1, source.count + 1):
            for (row, column), _ in source.block_windows(band):
                name = f"BLOCK_OFFSET_{column}_{row}"
                offset = source.get_tag_item(name, "TIFF", bidx=band)
                spans[int(offset)] = (band, row, column)
    reads = []
    plain = rasterio.open
    monkeypatch.setattr(
        rasterio, "open", lambda name, *rest, **more: plain(
            name, *rest, opener=lambda path, mode="rb", **_: CountingFile(path, mode, reads), **more
        )
    )  # fmt: skip
    scene = resolve_scene(find_inputs([path])[0], SPEC)
    reads.clear()
    data = SceneDataModule([scene], SPEC, window=64, stride=32, **options)
    count = sum(len(batch.windows) for batch in data.stream())
    monkeypatch.undo()
    return count, Counter(spans[offset] for offset, _ in reads if offset in spans), set(spans.values())


@pytest.mark.parametrize(
    "layout",
    [
        {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel"},
        {"tiled": True, "blockxsize": 128, "blockysize": 128, "interleave": "band"},
        {"blockysize": 7, "interleave": "pixel"},
    ],
)
def test_every_block_is_decoded_once(tmp_path, monkeypatch, layout):
    path = write(tmp_path / "scene.tif", noise(900, 333), **layout)
    windows, counts, blocks = decoded(path, monkeypatch, num_workers=0)
    assert windows == 28 * 10
    assert set(counts) == blocks
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_threads_read_whole_blocks_that_do_not_overlap(tmp_path, monkeypatch, workers):
    path = write(tmp_path / "scene.tif", noise(900, 333), tiled=True, blockxsize=64, blockysize=64)
    spans = []
    read = SceneReader.read_stored
    monkeypatch.setattr(
        SceneReader, "read_stored", lambda self, *span: spans.append(span) or read(self, *span)
    )
    scene = resolve_scene(find_inputs([path])[0], SPEC)
    list(SceneDataModule([scene], SPEC, window=64, stride=32, num_workers=workers).stream())
    spans.sort()
    assert [span[0] for span in spans[1:]] == [span[1] for span in spans[:-1]]
    assert (spans[0][0], spans[-1][1]) == (0, 900)
    assert all(span[0] % 64 == 0 for span in spans)


def test_rows_are_discarded_when_no_window_needs_them(tmp_path):
    """The memory does not grow with the height of a scene."""
    path = write(tmp_path / "scene.tif", noise(3000, 40), blockysize=50)
    scene = resolve_scene(find_inputs([path])[0], SPEC)
    data = SceneDataModule([scene], SPEC, window=64, stride=32, num_workers=0)
    windows, held = data.windows_on(CPU), []
    for read in data.stream():
        windows.load(read)
        held.append(windows.rows_held)
    assert len(held) > 10
    assert max(held) <= 64 + 250


def test_the_buffer_of_rows_has_its_final_size_from_the_first_batch(tmp_path):
    """Growing would allocate, copy and touch the memory of all rows again."""
    path = write(tmp_path / "scene.tif", noise(3000, 40), blockysize=50)
    scene = resolve_scene(find_inputs([path])[0], SPEC)
    data = SceneDataModule([scene], SPEC, window=64, stride=32, num_workers=0)
    windows, held = data.windows_on(CPU), set()
    for read in data.stream():
        windows.load(read)
        held.add(windows.rows_held)
    assert held == {64 + 250}


@pytest.mark.parametrize(
    ("factor", "warned"), [(1, False), (1e-4, True), (1e4, True), (6, True), (0.5, False)]
)
def test_a_scene_in_another_unit_gives_a_warning(tmp_path, factor, warned):
    path = write(tmp_path / "scene.tif", (noise(300, 300) * factor).astype(np.float32))
    scene = resolve_scene(find_inputs([path])[0], SPEC)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        list(SceneDataModule([scene], SPEC, window=64, stride=64).stream())
    messages = [str(one.message) for one in said if "trained on" in str(one.message)]
    assert len(messages) == warned
    if warned:
        assert f"{path}: its values (median of each band " in messages[0]
        about = {1e-4: "10000", 1e4: "0.0001"}.get(factor)
        whole = f"if the file has another unit, try scale={about}"
        assert messages[0].endswith("and give its scale if it differs" if about is None else whole)


@pytest.mark.parametrize(("bands", "warned"), [((3, 2, 1), True), ((1, 2, 3), False), ((), False)])
def test_bands_in_another_order_give_a_warning(tmp_path, bands, warned):
    spec = DataSpec(
        InputSpec(("RED", "GREEN", "NIR_NARROW"), (500.0, 800.0, 2500.0), (200.0,) * 3), SPEC.target
    )
    values = (noise(300, 300) - 1000 + np.reshape([500, 800, 2500], (3, 1, 1))).astype(np.int16)
    scene = resolve_scene(find_inputs([write(tmp_path / "scene.tif", values)])[0], spec, InputOptions(bands))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        list(SceneDataModule([scene], spec, window=64, stride=64).stream())
    expected = "if what is read as RED GREEN NIR_NARROW is NIR_NARROW GREEN RED; check bands"
    assert any(expected in str(one.message) for one in said) == warned
    assert any("may be in another order" in str(one.message) for one in said) == warned


def test_clouds_and_small_negative_values_give_no_warning(tmp_path):
    values = noise(300, 300)
    values[:, :100] = 14000  # a third under cloud
    values[:, 100:120] = -30
    path = write(tmp_path / "scene.tif", values)
    scene = resolve_scene(find_inputs([path])[0], SPEC)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(SceneDataModule([scene], SPEC, window=64, stride=64).stream())


def test_strips_are_divided_between_processes_without_gap_or_overlap(tmp_path):
    paths = [write(tmp_path / f"{name}.tif", noise(*size)) for name, size in
             (("a", (1500, 100)), ("b", (30, 30)), ("c", (2100, 200)))]  # fmt: skip
    scenes = [resolve_scene(one, SPEC) for one in find_inputs(paths)]
    data = SceneDataModule(scenes, SPEC, window=64, stride=32)
    everything = [(s.scene.name, strip.number) for s in data.stream().strip_ranges for strip in s.strips]
    for size in (2, 3, 5, 20):
        shares = [
            [(s.scene.name, strip.number) for s in data.stream(rank, size).strip_ranges for strip in s.strips]
            for rank in range(size)
        ]
        assert list(chain.from_iterable(shares)) == everything
    data.select_strips({"c": [1, 3]})
    assert [(s.scene.name, [strip.number for strip in s.strips]) for s in data.stream().strip_ranges] == [
        ("c", [1]), ("c", [3]),
    ]  # fmt: skip


def test_dates_and_places_reach_models_that_were_trained_with_them(tmp_path):
    path = write(tmp_path / "scene.tif", noise(100, 100))
    scene = resolve_scene(find_inputs([path])[0], SPEC, InputOptions(dates=("2020-12-31",)))
    for metadata in (False, True):
        data = SceneDataModule(
            [scene], SPEC.with_input(metadata=metadata), window=64, stride=36, batch_size=4
        )
        batch = only_batch(data)
        assert ("timestamps" in batch) == ("location" in batch) == metadata
    assert batch["timestamps"].tolist() == [[[2020, 366]]] * 4
    # The middle of each window, from the corner of the scene: 32 and 68 pixels of 30 m.
    longitudes, latitudes = rasterio.warp.transform(
        "EPSG:32615", "EPSG:4326", [600960, 602040, 600960, 602040], [4199040, 4199040, 4197960, 4197960]
    )
    np.testing.assert_allclose(batch["location"], np.stack([latitudes, longitudes], axis=1), rtol=1e-6)
    undated = resolve_scene(find_inputs([path])[0], SPEC)
    batch = only_batch(SceneDataModule([undated], SPEC.with_input(metadata=True), window=128, stride=128))
    assert batch["timestamps"].isnan().all()


def test_scenes_of_different_sizes_share_a_batch(tmp_path):
    """Small scenes fill a batch together."""
    paths = [write(tmp_path / f"{name}.tif", noise(20 + k, 30)) for k, name in enumerate("abc")]
    scenes = [resolve_scene(one, SPEC) for one in find_inputs(paths)]
    batch = only_batch(SceneDataModule(scenes, SPEC, window=64, stride=32, batch_size=8))
    assert batch["image"].shape == (3, 1, 3, 64, 64)
    assert (batch["image"][:, :, :, 40:] == 0).all()  # filled up with the mean


def test_a_stream_has_as_many_batches_as_its_length(tmp_path):
    path = write(tmp_path / "scene.tif", noise(1300, 200))
    scene = resolve_scene(find_inputs([path])[0], SPEC)
    data = SceneDataModule([scene], SPEC, window=64, stride=32, batch_size=4)
    assert len(data.plans[scene.name].strips) == 3
    for rank, world_size in ((0, 1), (0, 2), (1, 2)):
        stream = data.stream(rank, world_size)
        assert len(stream) == sum(1 for _ in stream) > 5
