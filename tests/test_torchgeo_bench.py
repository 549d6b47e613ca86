"""The wrapper for torchgeo-bench returns the features of our encoder, with its bands, unit and statistics."""

import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from torch import nn

from prithvi_tg.bands import PRETRAINING_STATISTICS

FOLDER = Path(__file__).parents[1] / "experiments/torchgeo_bench"
TINY = {"width": 32, "depth": 2, "num_heads": 2}


class InputUnit(StrEnum):
    S2_DN = "s2_dn"


@dataclass(frozen=True)
class BandSpec:
    sensor: str
    name: str
    source_name: str
    mean: float
    std: float
    min: float
    max: float


class BenchModel(nn.Module):
    """The part of torchgeo-bench's class that a model relies on, for images in reflectance x 1e4."""

    expected_input_unit = None
    pretrain_mean = None
    pretrain_std = None

    def __init__(self, bands, normalization="bandspec_zscore", **_):
        super().__init__()
        self.bands, self.normalization = list(bands), normalization

    def normalize_inputs(self, images):
        given = {
            "model_native": (self.pretrain_mean, self.pretrain_std),
            "bandspec_zscore": ([b.mean for b in self.bands], [b.std for b in self.bands]),
        }
        mean, std = (torch.tensor(part).view(1, -1, 1, 1) for part in given[self.normalization])
        return (images - mean) / std

    def forward(self, images):
        return self._forward_patch_features(self.normalize_inputs(images))


@pytest.fixture
def bench(monkeypatch):
    """The module of the wrapper, and ``BandSpec``; with a substitute of torchgeo-bench where that is not installed."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "prithvi_bench", raising=False)
    if find_spec("torchgeo_bench") is None:
        contents = {"torchgeo_bench": {}, "torchgeo_bench.models": {}}
        contents["torchgeo_bench.models._input_units"] = {"InputUnit": InputUnit}
        contents["torchgeo_bench.models.interface"] = {"BenchModel": BenchModel}
        for name, members in contents.items():
            module = ModuleType(name)
            vars(module).update(members)
            monkeypatch.setitem(sys.modules, name, module)
        spec = BandSpec
    else:
        from torchgeo_bench.datasets.base import BandSpec as spec
    import prithvi_bench

    yield prithvi_bench, lambda name, sensor="s2": spec(sensor, name, name, 1500.0, 300.0, 0.0, 28000.0)
    sys.modules.pop("prithvi_bench", None)


SENTINEL_2 = [
    "coastal_aerosol",
    "blue",
    "green",
    "red",
    "red_edge_1",
    "nir",
    "red_edge_4",
    "swir_cirrus",
    "swir_1",
    "swir_2",
]


@pytest.mark.parametrize(
    ("encoder", "generation"), [("prithvi_eo_v1_100m", "v1"), ("prithvi_eo_v2_100m_tl", "v2")]
)
def test_embeddings_equal_those_of_our_encoder(bench, encoder, generation):
    module, band = bench
    model = module.PrithviBench(
        [band(name) for name in SENTINEL_2], encoder=encoder, encoder_args=TINY, weights=None, size=None
    )
    images = 4000 * torch.rand(2, len(SENTINEL_2), 32, 48)
    mean, std = (
        torch.tensor(part).view(1, 6, 1, 1) for part in PRETRAINING_STATISTICS[f"prithvi_eo_{generation}"]
    )
    six = images[
        :, [SENTINEL_2.index(name) for name in ("blue", "green", "red", "red_edge_4", "swir_1", "swir_2")]
    ]
    tokens = model.encoder((six - mean) / std)
    torch.testing.assert_close(model(images), tokens[:, 1:].mean(dim=1))
    model.pooling = "cls"
    torch.testing.assert_close(model(images), tokens[:, 0])
    model.size = 64
    assert model(images).shape == (2, 32)


def test_bands_are_found_by_the_names_of_their_sensor(bench):
    module, band = bench
    assert module.positions([band(name) for name in ("b12", "b02", "b08", "b8a")]) == {
        "BLUE": 1,
        "NIR_NARROW": 3,
        "SWIR_2": 0,
    }
    assert module.positions([band(name, "aerial") for name in ("red", "green", "blue", "nir")]) == {
        "BLUE": 2, "GREEN": 1, "RED": 0, "NIR_NARROW": 3,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"none of \['vv'\] is one of BLUE"):
        module.PrithviBench([band("vv", "s1")], encoder_args=TINY, weights=None)


def test_a_missing_band_has_its_mean(bench, caplog):
    module, band = bench
    bands = [band(name) for name in ("red", "green", "blue")]
    model = module.PrithviBench(bands, encoder_args=TINY, weights=None, size=None)
    assert "lacks NIR_NARROW, SWIR_1, SWIR_2" in caplog.text
    normalised = model.normalize_inputs(torch.full((1, 3, 16, 16), 1087.0))
    assert normalised.shape == (1, 6, 16, 16)
    assert normalised[0, :, 0, 0].tolist() == pytest.approx(
        [0, (1087 - 1342) / 2179, (1087 - 1433) / 2178, 0, 0, 0]
    )
    other = module.PrithviBench(bands, encoder_args=TINY, weights=None, normalization="bandspec_zscore")
    torch.testing.assert_close(
        other.normalize_inputs(torch.full((1, 3, 2, 2), 1800.0))[:, :3], torch.ones(1, 3, 2, 2)
    )


@pytest.mark.version_independent
@pytest.mark.parametrize("path", sorted((FOLDER / "conf/model").glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_name_an_encoder_and_arguments_of_the_wrapper(path, bench):
    module, band = bench
    settings = yaml.safe_load(path.read_text())
    module_name, _, class_name = settings.pop("_target_").partition(".")
    assert (module_name, class_name) == ("prithvi_bench", module.PrithviBench.__name__)
    assert settings["encoder"] == path.stem
    assert settings["name"] == f"prithvi_tg_{path.stem}"
    assert settings["weights"] == "pretrained"
    settings |= {"weights": None, "encoder_args": TINY}
    assert module.PrithviBench([band("red")], **settings)(torch.zeros(1, 1, 64, 64)).shape == (1, 32)
