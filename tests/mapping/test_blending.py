"""Streaming, windows and blending together, with a model whose logits are the pixels themselves."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prithvi_tg.mapping.blending import Blender
from prithvi_tg.mapping.scene_windows import SceneDataModule
from prithvi_tg.mapping.window_stream import WindowRead
from prithvi_tg.models import slide_inference
from prithvi_tg.readers.formats import find_inputs, resolve_scene
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget
from prithvi_tg.tiling import WindowGrid

SPEC = DataSpec(InputSpec(("RED", "GREEN", "BLUE"), (0.0,) * 3, (1.0,) * 3), ClassTarget(("a", "b", "c")))
TRANSFORM = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)


def write(path, values, nodata=-9.0, **profile):
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, count=len(values), height=values.shape[1],
        width=values.shape[2], nodata=nodata, crs="EPSG:32615", transform=TRANSFORM, **profile,
    ) as out:  # fmt: skip
        out.write(values)
    return path


def mapped(path, ranks=1, logits_of=None, **options):
    """Logits (K, H, W), masked (H, W) and the number of windows that were run."""
    scene = resolve_scene(find_inputs([path])[0], SPEC)
    data = SceneDataModule([scene], SPEC, **options)
    rows, run = [], 0
    for rank in range(ranks):
        stream, windows = data.stream(rank, ranks), data.windows_on(torch.device("cpu"))
        blender = None

        def update(log, logits, core_window):
            nonlocal blender
            position = 0
            for event in log.events:
                if blender is None or event.strip_range is not blender.strip_range:
                    blender = Blender(event.strip_range.plan, event.strip_range.top, event.strip_range.bottom)
                    blender.strip_range = event.strip_range
                one = None
                if isinstance(event, WindowRead):
                    one, position = logits[position], position + 1
                rows.extend(blender.update(event, one, core_window[:2]))

        for read in stream:
            batch = windows.load(read)
            core_window = batch.get("core_window", (0, 0, *batch["image"].shape[-2:]))
            image = batch["image"][:, 0]
            logits = image if logits_of is None else logits_of(image)
            run += len(image)
            update(
                read,
                logits[..., core_window[0] : core_window[2], core_window[1] : core_window[3]],
                core_window,
            )
        update(stream.trailing_events, None, (0, 0))
    assert [part.top for part in rows[1:]] == [part.bottom for part in rows[:-1]]
    assert (rows[0].top, rows[-1].bottom) == (0, scene.grid.height)
    masked = np.concatenate([part.nodata for part in rows])
    empty = [torch.zeros(3, *part.nodata.shape) if part.logits is None else part.logits for part in rows]
    return torch.cat(empty, dim=1).numpy(), masked, run


@st.composite
def scenes(draw):
    height, width = draw(st.integers(1, 700)), draw(st.integers(1, 300))
    if draw(st.booleans()):
        height, width = width, height
    window = draw(st.integers(8, 256))
    stride = draw(st.integers(max(1, window // 4), window))
    seed = draw(st.integers(0, 2**16))
    holes = draw(st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=3))
    return height, width, window, stride, seed, holes


@settings(max_examples=40, deadline=None)
@given(
    scenes(), st.sampled_from(("average", "hann", "crop")), st.integers(1, 9), st.sampled_from((0, 1, 2)),
    st.sampled_from((1, 2, 3)), st.sampled_from((1, 16)), st.sampled_from((None, 16, 64)),
)  # fmt: skip
def test_every_valid_pixel_keeps_its_value_and_all_others_are_nodata(
    case, blending, batch_size, workers, ranks, align, block
):
    height, width, window, stride, seed, holes = case
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 64, (3, height, width)).astype(np.float32)
    for top, left, bottom, right in holes:
        rows = slice(int(min(top, bottom) * height), int(max(top, bottom) * height) + 1)
        columns = slice(int(min(left, right) * width), int(max(left, right) * width) + 1)
        values[:, rows, columns] = -9
    values[1, rng.random((height, width)) < 0.05] = -9  # one band only: still mapped
    tiled = {} if block is None else {"tiled": True, "blockxsize": block, "blockysize": block}
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "scene.tif", values, **tiled)
        logits, masked, _ = mapped(
            path, ranks, window=window, stride=stride, blending=blending, align=align,
            batch_size=batch_size, num_workers=workers,
        )  # fmt: skip
    valid = values != -9
    np.testing.assert_array_equal(masked, ~valid.any(axis=0))
    expected = np.where(valid, values, 0)
    np.testing.assert_allclose(logits[:, ~masked], expected[:, ~masked], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 90), (90, 1), (31, 33), (70, 100), (129, 64)])
def test_average_blending_is_the_sliding_inference_of_the_seed(tmp_path, height, width):
    values = np.random.default_rng(0).normal(size=(3, height, width)).astype(np.float32)
    path = write(tmp_path / "scene.tif", values)
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 3, 5, padding=2)  # sees the edges of its window, as an encoder does
    with torch.inference_mode():
        logits, _, _ = mapped(path, window=32, stride=16, logits_of=model, batch_size=5)
        expected = slide_inference(model, torch.from_numpy(values)[None], 32, 16)[0].numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-6)


def test_windows_without_data_are_never_run(tmp_path):
    values = np.full((3, 200, 100), -9, np.float32)
    path = write(tmp_path / "empty.tif", values)
    logits, masked, run = mapped(path, window=32, stride=16)
    assert (run, masked.all()) == (0, True)
    values[0, 199, 99] = 5  # one band of one pixel, in the last corner
    write(tmp_path / "corner.tif", values)
    logits, masked, run = mapped(tmp_path / "corner.tif", window=32, stride=16)
    assert (run, masked.sum()) == (1, masked.size - 1)
    assert logits[0, 199, 99] == 5


def test_a_hann_window_gives_its_centre_more_weight(tmp_path):
    path = write(tmp_path / "scene.tif", np.ones((3, 16, 48), np.float32))

    def edges(image):  # wrong at the left and right of every window
        logits = image.clone()
        logits[..., :4] = logits[..., -4:] = 9
        return logits

    middle = slice(12, 36)  # where windows overlap
    worst = {
        blending: mapped(path, window=24, stride=12, blending=blending, logits_of=edges)[0][
            0, :, middle
        ].max()
        for blending in ("average", "hann", "crop")
    }
    assert worst["average"] > worst["hann"] > worst["crop"] == 1


def test_every_row_is_in_exactly_one_strip():
    for blending in ("average", "hann", "crop"):
        plan = WindowGrid.of((3000, 500), 224, 112, blending, 16)
        assert len(plan.strips) > 3
        assert [strip.top for strip in plan.strips[1:]] == [strip.bottom for strip in plan.strips[:-1]]
        for strip in plan.strips:
            reach = [
                i
                for i, (first, last) in enumerate(plan.rows.core)
                if last > strip.top and first < strip.bottom
            ]
            assert (reach[0], reach[-1]) == (strip.first, strip.last)
