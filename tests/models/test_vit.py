import numpy as np
import pytest
import torch
from conftest import golden_input

from prithvi_tg import create_encoder
from prithvi_tg.errors import ConfigError
from prithvi_tg.models.encoders.prithvi import position_table

pytestmark = pytest.mark.version_independent


@pytest.mark.parametrize(("width", "grid"), [(64, (1, 4, 4)), (64, (3, 4, 4)), (32, (2, 3, 5))])
def test_the_position_table_equals_the_published_one(golden, width, grid):
    table = np.load(golden / "pos_embed.npz")[f"e{width}_t{grid[0]}_h{grid[1]}_w{grid[2]}"]
    np.testing.assert_allclose(position_table(width, *grid), table, atol=1e-6)


@pytest.mark.parametrize("name", ["burn_scars_64", "crop_64"])
def test_tokens_equal_the_golden_tokens(golden, golden_segmenter, name):
    arrays = np.load(golden / "models" / f"{name}.npz")
    with torch.inference_mode():
        tokens = golden_segmenter(name).encoder(golden_input(arrays, "input_q"))
    np.testing.assert_allclose(tokens, arrays["backbone"], atol=5e-5)


def test_one_frame_may_have_no_time_axis():
    encoder = create_encoder("nano", width=32, depth=1, num_heads=2).eval()
    image = torch.randn(2, 6, 32, 48)
    torch.testing.assert_close(encoder(image), encoder(image.unsqueeze(1)))


def test_the_last_intermediate_layer_with_norm_equals_the_tokens():
    encoder = create_encoder("nano", width=32, depth=3, num_heads=2).eval()
    image = torch.randn(1, 2, 6, 32, 32)
    first, last = encoder.forward_intermediates(image, (0, -1))
    assert first.shape == last.shape == (1, 1 + 2 * 4, 32)
    torch.testing.assert_close(encoder.norm(last), encoder(image))
    assert not torch.equal(first, last)


def test_a_block_out_of_range_is_an_error():
    with pytest.raises(ConfigError, match=r"encoder of 1 block$"):
        create_encoder("nano", depth=1).forward_intermediates(torch.zeros(1, 6, 16, 16), (3,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "prithvi"}, "encoder: 'prithvi' is unknown; choose from nano"),
        ({"name": "nano", "layers": 3}, "encoder_args.*layers.*choose from width, depth"),
        ({"name": "nano", "num_heads": 5}, "5 heads do not divide a width of 128"),
        ({"name": "nano", "width": 100}, "100 must be a multiple of 16"),
    ],
)
def test_wrong_encoder_arguments_name_the_key(arguments, message):
    with pytest.raises(ConfigError, match=message):
        create_encoder(**arguments)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 5, 32, 32), "5 bands"), ((1, 6, 30, 32), "30 x 32 is not a multiple of the patch, 16")],
)
def test_wrong_images_are_refused(shape, message):
    with pytest.raises(ConfigError, match=message):
        create_encoder("nano", depth=1)(torch.zeros(shape))


def test_position_tables_computed_in_prediction_work_in_training():
    position_table.cache_clear()
    encoder = create_encoder("nano", width=32, depth=1, num_heads=2)
    with torch.inference_mode():
        encoder(torch.zeros(1, 6, 16, 16))
    encoder(torch.zeros(1, 6, 16, 16)).sum().backward()
    assert encoder.cls_token.grad is not None
