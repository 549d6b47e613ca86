"""Rows on the device: uploaded as stored, normalised once, cut into windows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prithvi_tg.mapping.device_windows import RowBuffer
from prithvi_tg.mapping.row_reader import Rows
from prithvi_tg.readers.scaling import Scaling
from prithvi_tg.readers.scene import StoredPixels

MEAN, STD = (10.0, -3.0), (2.0, 0.5)


def stored_pixels(rng, height, width, dtype, holes):
    values = rng.integers(0, 120, (2, height, width)).astype(dtype)
    valid = None if holes is None else rng.random(values.shape) >= holes
    masked = None if valid is None else ~valid.any(axis=0)
    return StoredPixels(values, valid, masked, (Scaling(0.3, 0.1), Scaling(1.0)))


def normalised(stored):
    """The same pixels, computed on the host with numpy."""
    values = replace(stored, values=stored.values.copy()).in_unit(MEAN).values
    mean, std = (np.array(part, np.float32)[:, None, None] for part in (MEAN, STD))
    return (values - mean) / std


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 33), st.integers(1, 30),
    st.sampled_from(("uint8", "int16", "uint16", "int32", "float32")), st.sampled_from((None, 0.0, 0.4, 1.0)),
    st.integers(0, 2**16),
)  # fmt: skip
def test_windows_are_the_normalised_pixels_for_any_chunks(chunks, width, window, dtype, holes, seed):
    rng = np.random.default_rng(seed)
    parts = [stored_pixels(rng, height, width, dtype, holes) for height in chunks]
    expected = np.concatenate([normalised(part) for part in parts], axis=1)
    buffer = RowBuffer(width, torch.tensor(MEAN), torch.tensor(STD))
    read, top, length = 0, 0, sum(chunks)
    remaining = iter(parts)
    while top < length:
        bottom = min(top + window, length)
        while read < bottom:
            part = next(remaining)
            buffer.append(Rows.of(read, part), needed_from=top)
            read += part.values.shape[1]
        found = buffer.window(top, bottom, width // 3, width).numpy()
        np.testing.assert_array_equal(found, expected[:, top:bottom, width // 3 :])
        top += max(1, window // 2)
    assert buffer.capacity <= window + 2 * max(chunks)


def test_rows_above_the_first_window_are_dropped():
    rng = np.random.default_rng(0)
    part = stored_pixels(rng, 20, 5, "int16", None)
    buffer = RowBuffer(5, torch.tensor(MEAN), torch.tensor(STD))
    buffer.append(Rows.of(100, part), needed_from=112)  # a strip that begins within a block of its file
    np.testing.assert_array_equal(buffer.window(112, 118, 0, 5), normalised(part)[:, 12:18])


def test_rows_without_data_use_no_memory_and_have_the_mean():
    part = stored_pixels(np.random.default_rng(0), 20, 5, "int16", 1.0)
    rows = Rows.of(0, part)
    assert rows.values is None
    assert rows.masked.strides == (0, 0)
    buffer = RowBuffer(5, torch.tensor(MEAN), torch.tensor(STD))
    buffer.append(rows, needed_from=0)
    assert (buffer.window(0, 20, 0, 5) == 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_a_cuda_device_holds_the_same_pixels(dtype):
    part = stored_pixels(np.random.default_rng(0), 20, 37, dtype, 0.3)
    buffers = [
        RowBuffer(37, *(torch.tensor(one, device=device) for one in (MEAN, STD)))
        for device in ("cpu", "cuda")
    ]
    for buffer in buffers:
        buffer.append(Rows.of(0, part), needed_from=0)
    cpu, cuda = (buffer.window(0, 20, 0, 37).cpu() for buffer in buffers)
    assert torch.equal(cpu, cuda)
