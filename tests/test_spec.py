"""Descriptions of data: input and target, in checkpoints of this and the previous release."""

import json

import pytest
import torch

from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.errors import ConfigError, counted
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import TARGETS, ChipClassTarget, ClassTarget, ImageTarget, Target, ValueTarget

INPUT = InputSpec(("RED", "NIR_NARROW"), (0.1, 0.3, 0.2, 0.4), (0.5, 1.0, 2.0, 4.0), num_frames=2)
KINDS = [
    ClassTarget(("land", "water"), ("#aabbcc", "#112233")),
    ValueTarget(("biomass", "height"), ("t/ha", "m"), (80.0, 9.0), (40.0, 5.0), valid_range=(0, 900)),
    ChipClassTarget(("forest", "city"), multilabel=True),
    ImageTarget(),
]


@pytest.mark.parametrize("target", KINDS, ids=lambda target: target.kind)
def test_a_description_is_equal_after_a_checkpoint(target):
    spec = DataSpec(INPUT, target)
    stored = json.loads(json.dumps(spec.to_dict()))
    assert DataSpec.from_dict(stored) == spec


def test_every_kind_of_target_is_tested():
    known = {kind for kind, target in TARGETS.items() if target.__module__ == "prithvi_tg.targets"}
    assert {target.kind for target in KINDS} == known


def test_the_flat_description_of_earlier_checkpoints_is_read():
    flat = {
        "bands": ["RED"],
        "mean": [1.0],
        "std": [2.0],
        "class_names": ["a", "b"],
        "class_colors": ["#000000"],
    }
    spec = DataSpec.from_dict(flat)
    assert spec == DataSpec(InputSpec(("RED",), (1.0,), (2.0,)), ClassTarget(("a", "b"), ("#000000",)))


def test_flat_arguments_and_attributes_of_earlier_releases_are_accepted():
    with pytest.warns(FutureWarning, match="InputSpec"):
        spec = DataSpec(("RED",), (1.0,), std=(2.0,), class_names=("a", "b"))
    assert spec == DataSpec(InputSpec(("RED",), (1.0,), (2.0,)), ClassTarget(("a", "b")))
    with pytest.warns(FutureWarning, match=r"DataSpec\.target\.names"):
        assert spec.class_names == ("a", "b")
    with pytest.warns(FutureWarning, match=r"DataSpec\.input\.bands"):
        assert spec.bands == ("RED",)
    with pytest.raises(AttributeError, match="nothing"):
        _ = spec.nothing


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "colours"}, "target: kind 'colours' is unknown; choose from classes, values, chip_classes"),
        ({"kind": "classes", "cmap": "viridis"}, "target: .*cmap"),
    ],
)
def test_an_unknown_target_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Target.from_dict(values)


def test_the_number_of_statistics_must_match_the_values():
    with pytest.raises(ConfigError, match=r"^value_mean: 1 given for 2 values"):
        ValueTarget(("a", "b"), mean=(1.0,))
    with pytest.raises(ConfigError, match=r"^value_mean: 2 given for 1 value \(a\)"):
        ValueTarget(("a",), mean=(1.0, 2.0))
    with pytest.raises(ConfigError, match=r"^value_std: .* must be positive"):
        ValueTarget(std=(0.0,))


def test_the_lowest_value_of_a_valid_range_comes_first():
    with pytest.raises(
        ConfigError, match=r"valid_range: \[600, 0\]: the lowest value comes first; write \[0, 600\]"
    ):
        ValueTarget(valid_range=(600, 0))


def test_denormalize_inverts_normalize_by_frame_and_band():
    image = torch.rand(3, 2, 2, 4, 5)
    normalised = INPUT.normalize(image)
    expected = (image[:, 1, 0] - 0.2) / 2.0
    torch.testing.assert_close(normalised[:, 1, 0], expected)
    torch.testing.assert_close(INPUT.denormalize(normalised), image)


def test_statistics_for_other_bands_than_the_default_ask_for_bands():
    message = (
        r"mean: 4 values for 6 bands \(BLUE GREEN .* SWIR_2, the default\); set bands, or give one per band$"
    )
    with pytest.raises(ConfigError, match=message):
        InputSpec(PRITHVI_BANDS, (0.1,) * 4, (0.1,) * 4)
    message = r"std: 3 values for 1 band \(RED\) and 2 frames; give one per band, or one per frame and band$"
    with pytest.raises(ConfigError, match=message):
        InputSpec(("RED",), (0.1,), (0.1,) * 3, num_frames=2)
    assert [counted(number, "class", "classes") for number in (0, 1, 2)] == [
        "0 classes",
        "1 class",
        "2 classes",
    ]
