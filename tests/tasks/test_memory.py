"""Batches that do not fit into the memory of a device are computed in parts."""

import pytest
import torch

from prithvi_tg.tasks.memory import BatchSplitter


class SmallDevice:
    """Twice the image plus the date; runs out of memory with more than `most` samples."""

    def __init__(self, most):
        self.most, self.tried = most, []

    def __call__(self, image, dates):
        self.tried.append(len(image))
        if len(image) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 2 * image + dates[:, None]


def test_a_batch_is_halved_until_it_fits_with_one_warning():
    image, dates, model, run = (
        torch.arange(14.0).view(7, 2),
        torch.arange(7.0),
        SmallDevice(2),
        BatchSplitter(),
    )
    with pytest.warns(UserWarning, match="do not fit") as warned:
        found = run(model, image, {"dates": dates})
    assert torch.equal(found, 2 * image + dates[:, None])
    messages = [str(one.message) for one in warned]
    assert messages == [
        "batch_size: 7 windows do not fit into the memory of the device; continuing with 3",
        "batch_size: 3 windows do not fit into the memory of the device; continuing with 1",
    ]
    model.tried.clear()
    assert torch.equal(run(model, image, {"dates": dates}), found)
    assert model.tried == [1] * 7


def test_a_window_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="do not fit"):
        BatchSplitter()(SmallDevice(0), torch.zeros(2, 1), {"dates": torch.zeros(2)})
