from collections import Counter

import kornia.augmentation as K
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prithvi_tg.augmentations import ChipAugmentation
from prithvi_tg.errors import ConfigError


def plain(channels, **arguments):
    """An augmentation with a normalisation that changes nothing."""
    return ChipAugmentation([0.0] * channels, [1.0] * channels, **arguments)


@settings(deadline=None, max_examples=40)
@given(
    frames=st.integers(1, 3),
    bands=st.integers(1, 6),
    height=st.integers(5, 70),
    width=st.integers(5, 70),
    crop=st.one_of(st.none(), st.integers(8, 64)),
    turns=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_all_frames_and_masks_share_one_geometry(frames, bands, height, width, crop, turns, seed):
    torch.manual_seed(seed)
    place = torch.arange(1, height * width + 1, dtype=torch.float32).reshape(height, width)
    if crop is None and turns:
        place = place[: min(height, width), : min(height, width)]  # a quarter turn keeps only squares
    image = place.expand(4, frames, bands, *place.shape) + 10000 * torch.arange(frames)[:, None, None, None]
    batch = {
        "image": image.clone(),
        "valid": (place % 3 != 0).expand(image.shape),
        "mask": (place % 200).long().expand(4, *place.shape),
        "name": ["a", "b", "c", "d"],
    }
    out = plain(frames * bands, crop_size=crop, random_flip_rot90=turns)(batch)
    first = out["image"][:, 0, 0]
    padding = first == 0
    for frame in range(frames):
        for band in range(bands):
            assert torch.equal(out["image"][:, frame, band][~padding], first[~padding] + 10000 * frame)
    assert torch.equal(out["mask"][~padding], (first[~padding] % 200).long())
    assert (out["mask"][padding] == 255).all()
    assert torch.equal(out["valid"][:, -1, -1], (first % 3 != 0) & ~padding)
    assert out["name"] == ["a", "b", "c", "d"]
    assert out["mask"].dtype == torch.int64
    assert out["valid"].dtype == torch.bool
    if crop is not None:
        assert out["image"].shape[-2:] == (crop, crop)


def test_flips_and_rotations_draw_each_of_the_eight_orientations_equally_often():
    torch.manual_seed(0)
    image = torch.arange(16.0).reshape(1, 1, 1, 4, 4).expand(4000, -1, -1, -1, -1)
    out = plain(1, random_flip_rot90=True)({"image": image})["image"]
    counts = Counter(tuple(sample.flatten().tolist()) for sample in out)
    assert len(counts) == 8
    assert all(count == pytest.approx(500, abs=100) for count in counts.values())  # five standard deviations


def test_each_sample_draws_its_own_crop():
    torch.manual_seed(0)
    image = torch.arange(4096.0).reshape(1, 1, 1, 64, 64).expand(50, -1, -1, -1, -1)
    out = plain(1, crop_size=8)({"image": image})["image"]
    assert len({float(sample[0, 0, 0, 0]) for sample in out}) > 25


def test_normalisation_is_per_frame_and_band():
    image = torch.tensor([3.0, 5.0, 7.0, 9.0]).reshape(1, 2, 2, 1, 1)
    out = ChipAugmentation([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0])({"image": image})["image"]
    torch.testing.assert_close(out.flatten(), torch.tensor([2.0, 2.0, 2.0, 2.0]))


def test_one_date_without_a_time_axis_keeps_its_layout():
    assert plain(6, crop_size=8)({"image": torch.zeros(2, 6, 20, 20)})["image"].shape == (2, 6, 8, 8)


def test_further_augmentations_do_not_change_the_mask():
    batch = {"image": torch.ones(2, 1, 6, 8, 8), "mask": torch.ones(2, 8, 8, dtype=torch.int64)}
    out = plain(6, extra=[K.RandomGaussianNoise(p=1.0)])(batch)
    assert not torch.equal(out["image"], batch["image"])
    assert torch.equal(out["mask"], batch["mask"])


def test_a_wrong_number_of_channels_is_an_error_that_counts_them():
    with pytest.raises(ConfigError, match=r"\(1, 3, 6, 8, 8\) has 18 channels .* the statistics have 6"):
        plain(6)({"image": torch.zeros(1, 3, 6, 8, 8)})


@pytest.mark.parametrize("values", [1, 2])
def test_flips_move_labels_and_valid_with_the_image_and_valid_is_optional(values):
    place = torch.arange(64.0).reshape(8, 8)
    image = place.expand(6, 2, 3, 8, 8).clone()
    image[0, 0, 0, 3, 3] = float("nan")
    shape = (6, 8, 8) if values == 1 else (6, 2, 8, 8)
    batch = {"image": image, "mask": place.where(place != 5, float("nan")).expand(shape)}
    whole = {"valid": torch.ones(image.shape, dtype=torch.bool)}
    torch.manual_seed(1)
    out = plain(6, random_flip_rot90=True)(batch)
    torch.manual_seed(1)
    again = plain(6, random_flip_rot90=True)(batch | whole)
    assert "valid" not in out
    assert (~again["valid"]).sum() == 1
    for key in ("image", "mask"):
        assert torch.equal(out[key].nan_to_num(-1), again[key].nan_to_num(-1))
    moved = out["image"][:, 1, 2]
    mask = out["mask"] if values == 1 else out["mask"][:, 1]
    assert torch.equal(mask.nan_to_num(-1), moved.where(moved != 5, -1))
    assert out["mask"].shape == shape


def test_flips_work_without_labels():
    out = plain(1, random_flip_rot90=True)({"image": torch.rand(3, 1, 1, 8, 8)})
    assert out.keys() == {"image"}
