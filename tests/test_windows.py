import pytest
from hypothesis import given
from hypothesis import strategies as st

from prithvi_tg.errors import ConfigError
from prithvi_tg.tiling import window_starts

pytestmark = pytest.mark.version_independent


@given(length=st.integers(1, 3000), window=st.integers(1, 300), overlap=st.integers(0, 299))
def test_windows_cover_every_pixel_and_nothing_else(length, window, overlap):
    starts = window_starts(length, window, max(1, window - overlap))
    covered = set()
    for start in starts:
        covered |= set(range(start, start + window))
    assert set(range(length)) <= covered
    assert starts == sorted(set(starts))
    if length >= window:
        assert max(covered) == length - 1


def test_the_last_window_is_shifted_inwards():
    assert window_starts(150, 64, 32) == [0, 32, 64, 86]


@pytest.mark.parametrize("stride", [0, -1, 65])
def test_a_stride_that_leaves_gaps_is_an_error(stride):
    with pytest.raises(ConfigError, match="stride"):
        window_starts(150, 64, stride)
