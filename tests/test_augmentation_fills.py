"""No augmentation of Kornia turns a fill value into a label, a valid pixel or a clamped value."""

import inspect

import kornia.augmentation as K
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.augmentation.base import _BasicAugmentationBase

from prithvi_tg.augmentations import (
    ON_NORMALISED,
    ON_REFLECTANCE,
    REFUSED,
    ChipAugmentation,
    decode_labels,
    encode_labels,
)
from prithvi_tg.errors import ConfigError

SIDE = 64
MEAN = (0.12, 0.13, 0.12, 0.24, 0.18, 0.13)
STD = (0.04, 0.045, 0.064, 0.124, 0.125, 0.107)
#: Arguments of the classes that have no default for all of them; `p` is 1 where there is one.
ARGUMENTS = {
    "CenterCrop": {"size": (48, 48)},
    "LongestMaxSize": {"max_size": 48},
    "PadTo": {"size": (80, 80)},
    "RandomAffine": {"degrees": 30.0, "translate": (0.3, 0.3)},
    "RandomCrop": {"size": (80, 80), "pad_if_needed": True},
    "RandomGaussianBlur": {"kernel_size": (3, 3), "sigma": (0.1, 2.0)},
    "RandomMotionBlur": {"kernel_size": 3, "angle": 35.0, "direction": 0.5},
    "RandomResizedCrop": {"size": (48, 48)},
    "RandomRotation": {"degrees": 45.0},
    "RandomRotation90": {"times": (0, 3)},
    "RandomShear": {"shear": 20.0},
    "Resize": {"size": (40, 40)},
    "SmallestMaxSize": {"max_size": 48},
}
#: Written by hand for other fills than Kornia's default.
FILLS = {
    "erased with 1": lambda: K.RandomErasing(value=1.0, p=1.0),
    "padded with 1": lambda: K.PadTo((80, 80), pad_value=1),
    "padded with 5": lambda: K.PadTo((80, 80), pad_value=5),
    "cropped beyond, 1": lambda: K.RandomCrop((80, 80), padding=16, fill=1, p=1.0),
    "cropped beyond, 3": lambda: K.RandomCrop((80, 80), padding=16, fill=3, p=1.0),
    "cropped beyond, reflected": lambda: K.RandomCrop((80, 80), padding=16, padding_mode="reflect", p=1.0),
    "turned, border": lambda: K.RandomAffine(45.0, padding_mode="border", p=1.0),
    "turned, reflected": lambda: K.RandomAffine(45.0, padding_mode="reflection", p=1.0),
    "turned, bicubic": lambda: K.RandomAffine(45.0, resample="bicubic", p=1.0),
    "elastic, border": lambda: K.RandomElasticTransform(alpha=(5.0, 5.0), padding_mode="border", p=1.0),
    "sometimes": lambda: K.RandomRotation(45.0, p=0.5),
}


def kornia_classes():
    return [
        name
        for name, cls in vars(K).items()
        if inspect.isclass(cls) and issubclass(cls, _BasicAugmentationBase) and "Base" not in name
    ]


def made(name, p=1.0):
    cls = getattr(K, name)
    options = {"p": p} if "p" in inspect.signature(cls).parameters else {}
    return cls(**ARGUMENTS.get(name, {}), **options)


def batch_of(unit=1.0):
    """Blocks of bright, dark and slightly negative reflectance; only pixels with label 3 have data."""
    torch.manual_seed(0)
    blocks = torch.randn(4, 1, 6, SIDE // 8, SIDE // 8) * 2
    normalised = blocks.repeat_interleave(8, -1).repeat_interleave(8, -2)
    image = normalised * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    mask = torch.full((4, SIDE, SIDE), 3)
    mask[:, 20:40] = 7
    mask[:, 50:, 30:] = 255
    valid = (mask == 3)[:, None, None].expand_as(image)
    image = torch.where(valid, image, torch.tensor(MEAN)[:, None, None])
    return {"image": image * unit, "mask": mask, "valid": valid}


def augmentation(*extra, unit=1.0):
    mean, std = ([value * unit for value in values] for values in (MEAN, STD))
    return ChipAugmentation(mean, std, extra=extra)


def assert_nothing_is_invented(out):
    assert set(out["mask"].unique().tolist()) <= {3, 7, 255}
    assert out["mask"].shape[1:] == out["image"].shape[-2:]
    assert torch.equal(out["valid"], (out["mask"] == 3)[:, None, None].expand_as(out["valid"]))
    assert (out["image"][~out["valid"]] == 0).all()


@pytest.mark.parametrize("name", kornia_classes())
def test_each_augmentation_of_kornia_is_correct_for_chips_or_refused_by_name(name):
    if name not in ON_REFLECTANCE | ON_NORMALISED:
        with pytest.raises(ConfigError, match=f"augmentations: {name} (?!is not known).*; remove it"):
            augmentation(getattr(K, name).__new__(getattr(K, name)))  # some need more to be built
        return
    out = augmentation(made(name))(batch_of())
    assert_nothing_is_invented(out)
    values = out["image"][out["valid"]]
    assert values.min() < -0.5
    assert values.max() > 1.5


def test_the_tables_of_augmentations_do_not_overlap():
    assert not ON_REFLECTANCE & ON_NORMALISED
    assert not (ON_REFLECTANCE | ON_NORMALISED) & REFUSED.keys()


@pytest.mark.parametrize("fill", FILLS)
def test_no_fill_value_becomes_a_label(fill):
    assert_nothing_is_invented(augmentation(FILLS[fill]())(batch_of()))


@pytest.mark.parametrize("label", [0, 1, 254])
def test_corners_filled_by_a_rotation_are_not_labelled(label):
    batch = {"image": torch.ones(2, 6, 32, 32), "mask": torch.full((2, 32, 32), label)}
    out = augmentation(K.RandomRotation((45.0, 45.0), p=1.0))(batch)["mask"]
    assert set(out.unique().tolist()) == {label, 255}
    assert (out[:, 0, 0] == 255).all()


def test_a_rotation_without_a_mask_marks_its_corners_as_nodata():
    batch = {"image": torch.ones(2, 1, 6, 32, 32), "valid": torch.ones(2, 1, 6, 32, 32, dtype=torch.bool)}
    out = augmentation(K.RandomRotation((45.0, 45.0), p=1.0))(batch)
    assert "mask" not in out
    assert not out["valid"][..., 0, 0].any()
    assert out["valid"][..., 16, 16].all()


@settings(deadline=None, max_examples=100)
@given(
    labels=st.lists(st.integers(0, 255), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.001, 1), min_size=4, max_size=4),
    fill=st.floats(-1000, 1000, width=32),
)
def test_codes_of_blends_and_fills_are_no_labels(labels, weights, fill):
    codes = encode_labels(torch.tensor(labels, dtype=torch.float32)[:, None, None])
    decoded, labelled = decode_labels(codes)
    assert decoded.flatten().tolist() == labels
    assert labelled.all()
    shares = torch.tensor(weights[: len(labels)])
    blend = (codes * (shares / shares.sum())[:, None, None, None]).sum(0, keepdim=True)
    assert int(decode_labels(blend)[0]) in {*labels, 255}
    assert int(decode_labels(torch.full((1, 2, 1, 1), fill))[0]) == 255


def test_labels_are_exact_with_images_of_half_precision():
    batch = batch_of()
    batch["mask"] = torch.arange(SIDE).expand(4, SIDE, SIDE) + 190
    batch["image"] = batch["image"].half()
    out = augmentation(K.RandomHorizontalFlip(p=1.0))(batch | {"valid": torch.ones_like(batch["valid"])})
    assert torch.equal(out["mask"], batch["mask"].flip(-1))
    assert out["image"].dtype == torch.float16


@pytest.mark.parametrize("name", sorted(ON_REFLECTANCE))
def test_augmentations_on_reflectance_change_only_the_drawn_chips(name):
    batch = batch_of()
    batch["image"][0, 0, :, 0, 0] = torch.tensor([1.5, 1.1, 2.0, -0.01, -0.3, 0.5])
    out = augmentation(made(name, p=0.0))(batch)["image"]
    torch.testing.assert_close(out, augmentation()(batch)["image"])


@pytest.mark.parametrize("name", sorted(ON_REFLECTANCE))
def test_augmentations_on_reflectance_have_the_same_effect_in_both_units(name):
    outs = []
    for unit in (1.0, 1e4):
        augment = augmentation(made(name), unit=unit)
        torch.manual_seed(1)
        outs.append(augment(batch_of(unit)))
    # Discrete steps, as in posterising, can differ for values at a rounding limit.
    close = torch.isclose(outs[0]["image"], outs[1]["image"], atol=1e-3)
    assert close.float().mean() > 0.99


def test_a_brightness_augmentation_changes_reflectance_and_keeps_what_is_above_one():
    batch = {"image": torch.tensor([0.2, 0.5, 1.5, -0.1]).reshape(4, 1, 1, 1, 1).expand(4, 1, 6, 2, 2)}
    out = augmentation(K.RandomBrightness((1.1, 1.1), p=1.0))(batch)["image"][:, 0, 0, 0, 0]
    torch.testing.assert_close(out * STD[0] + MEAN[0], torch.tensor([0.3, 0.6, 1.5, 0.0]))


def test_augmentations_on_reflectance_are_refused_for_other_bands():
    with pytest.raises(ConfigError, match="RandomGamma needs reflectance, but a band has the mean -12"):
        ChipAugmentation([-12.0, -18.0], [3.0, 3.0], extra=[K.RandomGamma()])


def test_an_augmentation_new_in_kornia_is_refused_until_it_is_classified():
    new = type("RandomNew", (K.IntensityAugmentationBase2D,), {"__module__": "kornia.augmentation.new"})
    with pytest.raises(ConfigError, match="augmentations: RandomNew is not known to keep labels right"):
        augmentation(new())


def test_a_user_defined_augmentation_runs_on_normalised_images():
    class Darker(K.IntensityAugmentationBase2D):
        def apply_transform(self, input, params, flags, transform=None):
            return input - 1

    batch = batch_of()
    out = augmentation(Darker(p=1.0))(batch)
    torch.testing.assert_close(out["image"], torch.where(out["valid"], augmentation()(batch)["image"] - 1, 0))


@pytest.mark.parametrize(
    "container", [K.ImageSequential(K.RandomRotation(30.0)), torch.nn.Identity(), K.VideoSequential()]
)
def test_objects_that_are_not_single_augmentations_are_refused_by_name(container):
    with pytest.raises(
        ConfigError, match=f"{type(container).__name__} is not an augmentation of kornia.augmentation"
    ):
        augmentation(container)


def test_an_error_of_kornia_has_one_line():
    with pytest.raises(ConfigError, match=r"^augmentations: Kornia rejected a batch \(.*\)$"):
        augmentation(K.RandomClahe(grid_size=(100, 100), p=1.0))(batch_of())


def test_an_augmentation_that_adds_channels_is_refused():
    class Twice(K.IntensityAugmentationBase2D):
        def apply_transform(self, input, params, flags, transform=None):
            return torch.cat([input, input], dim=1)

    with pytest.raises(
        ConfigError, match=r"must keep the number of chips and channels, \(4, 6\), but .* \(4, 12\)"
    ):
        augmentation(Twice(p=1.0))(batch_of())


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 150), width=st.integers(1, 150), square=st.booleans(), seed=st.integers(0, 1000))
def test_flips_and_rotations_only_move_pixels(height, width, square, seed):
    torch.manual_seed(seed)
    width = height if square else width
    place = torch.arange(1, height * width + 1).reshape(height, width)
    image = place.float().expand(6, 1, 2, height, width)
    out = ChipAugmentation([0.0] * 2, [1.0] * 2, random_flip_rot90=True)(
        {"image": image, "mask": (place % 255).expand(6, height, width)}
    )
    assert out["image"].shape == image.shape
    assert torch.equal(out["image"].flatten(-2).sort().values, image.flatten(-2))
    assert torch.equal(out["mask"], out["image"][:, 0, 1].long() % 255)


def test_chips_that_are_not_square_reach_all_four_orientations():
    torch.manual_seed(0)
    image = torch.arange(12.0).reshape(1, 1, 1, 3, 4).expand(100, -1, -1, -1, -1)
    out = ChipAugmentation([0.0], [1.0], random_flip_rot90=True)({"image": image})["image"]
    assert len({tuple(sample.flatten().tolist()) for sample in out}) == 4


def test_rotations_of_squares_equal_those_of_kornia():
    image = torch.rand(32, 2, 17, 17)
    torch.manual_seed(3)
    out = ChipAugmentation([0.0] * 2, [1.0] * 2, random_flip_rot90=True)({"image": image})["image"]
    torch.manual_seed(3)
    nearest = K.RandomRotation90((0, 3), p=1.0, resample="nearest")
    turned = K.AugmentationSequential(K.RandomHorizontalFlip(), K.RandomVerticalFlip(), nearest)(image)
    assert torch.equal(out, turned)


def test_values_that_are_not_finite_are_pixels_without_data():
    batch = batch_of()
    batch |= {"valid": torch.ones_like(batch["valid"]), "mask": torch.ones_like(batch["mask"])}
    image = batch["image"]
    image[0, 0, 0, 0, 0] = float("nan")
    image[1, 0, :, 0, 0] = torch.tensor([float("inf"), -float("inf"), float("nan"), 2e30, -3e38, 1e31])
    augment = augmentation()
    out = augment(batch)
    broken = torch.zeros_like(out["valid"])
    broken[0, 0, 0, 0, 0] = broken[1, 0, :, 0, 0] = True
    assert torch.equal(out["valid"], ~broken)
    assert (out["image"][broken] == 0).all()
    assert out["image"].isfinite().all()
    assert (out["mask"] == 255).nonzero().tolist() == [[1, 0, 0]]
    augment(batch)
    assert int(augment.meaningless) == 14
