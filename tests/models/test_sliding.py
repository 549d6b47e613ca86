import numpy as np
import pytest
import torch
from conftest import golden_input
from hypothesis import given, settings
from hypothesis import strategies as st

from prithvi_tg import slide_inference

pytestmark = pytest.mark.version_independent


@pytest.mark.parametrize("name", ["burn_scars_64", "crop_64"])
def test_sliding_inference_equals_the_golden_result(golden, golden_segmenter, name):
    arrays = np.load(golden / "models" / f"{name}.npz")
    with torch.inference_mode():
        image = golden_input(arrays, "slide_input_q")
        logits = slide_inference(golden_segmenter(name), image, int(arrays["tile"]), int(arrays["stride"]))
    np.testing.assert_allclose(logits, arrays["slide_logits"], atol=5e-5)
    np.testing.assert_allclose(logits.softmax(1)[..., ::7, ::7], arrays["slide_prob_sub"], atol=5e-5)
    np.testing.assert_array_equal(logits.argmax(1)[0], arrays["slide_argmax"])


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    window=st.integers(1, 40),
    overlap=st.integers(0, 39),
    batch_size=st.integers(1, 7),
)
def test_sliding_inference_of_an_identity_is_exact(height, width, window, overlap, batch_size):
    stride = max(1, window - overlap)
    image = torch.arange(2 * height * width, dtype=torch.float32).reshape(2, 1, 1, height, width)
    logits = slide_inference(lambda windows: windows[:, 0], image, window, stride, batch_size=batch_size)
    torch.testing.assert_close(logits, image[:, 0])


def test_logits_are_summed_in_float32_for_any_precision_of_the_model():
    image = torch.rand(1, 1, 1, 50, 50)
    logits = slide_inference(lambda windows: windows[:, 0].bfloat16(), image, 20, 10)
    assert logits.dtype == torch.float32
