"""The encoders with a weights enumeration in the style of TorchGeo."""

import pytest
import torch
from torch import nn
from torchgeo.models import DOFABase16_Weights
from torchvision.models._api import WeightsEnum

from prithvi_tg.bands import PRETRAINING_STATISTICS, PRITHVI_BANDS
from prithvi_tg.checkpoints import load_weights
from prithvi_tg.errors import ConfigError
from prithvi_tg.models import VARIANTS, create_encoder, prithvi_eo
from prithvi_tg.models.prithvi_eo import PrithviEO_Weights

TINY = {"width": 32, "depth": 2, "num_heads": 2}


def published(encoder, prefix="encoder."):
    """A state dict in the published layout: encoder, position table and decoder."""
    state = {f"{prefix}{name}": value for name, value in encoder.state_dict().items()}
    return state | {f"{prefix}pos_embed": torch.zeros(1, 5, 32), "decoder.mask_token": torch.zeros(1, 1, 8)}


@pytest.mark.parametrize("weights", PrithviEO_Weights, ids=str)
def test_each_member_has_a_builder_and_the_entries_of_torchgeo(weights):
    name = weights.meta["model"]
    assert callable(getattr(prithvi_eo, name))
    assert name in prithvi_eo.__all__
    assert weights.url == f"https://huggingface.co/{VARIANTS[name].repo}/resolve/main/{VARIANTS[name].file}"
    assert isinstance(weights, WeightsEnum)
    assert {"dataset", "model", "publication", "repo", "ssl_method"} <= weights.meta.keys()
    assert DOFABase16_Weights.DOFA_MAE.meta.keys() <= weights.meta.keys() | {"license"}
    assert (weights.meta["bands"], weights.meta["license"]) == (PRITHVI_BANDS, "Apache-2.0")
    assert weights.meta["in_chans"] == 6


def test_all_published_encoders_have_a_member():
    assert {weights.meta["model"] for weights in PrithviEO_Weights} == VARIANTS.keys() - {"nano"}


@pytest.mark.parametrize(
    ("member", "is_flat"), [("V1_100M", False), ("V1_100M", True), ("V2_100M_TL", False), ("V2_300M", False)]
)
def test_published_weights_give_the_features_of_our_encoder(member, is_flat, tmp_path, monkeypatch):
    weights = PrithviEO_Weights[member]
    name = weights.meta["model"]
    torch.manual_seed(0)
    state = published(create_encoder(name, **TINY))
    if is_flat:  # as in the first release
        state = {key.removeprefix("encoder.").removeprefix("decoder."): value for key, value in state.items()}
    torch.save(state, tmp_path / "weights.pt")
    asked = []

    def load(url, **options):
        asked.append(url)
        return torch.load(tmp_path / "weights.pt", weights_only=options["weights_only"])

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    model = getattr(prithvi_eo, name)(weights=weights, **TINY).eval()
    assert asked == [weights.url]
    assert isinstance(model, nn.Module)
    ours = create_encoder(name, **TINY).eval()
    load_weights(ours, tmp_path / "weights.pt")
    images = 3000 * torch.rand(2, 3, 6, 32, 48)
    mean, std = (torch.tensor(part)[:, None, None] for part in PRETRAINING_STATISTICS[name[:13]])
    with torch.inference_mode():
        tokens = model(weights.transforms(images))
        torch.testing.assert_close(tokens, ours((images - mean) / std))
    assert tokens.shape == (2, 1 + 3 * 2 * 3, 32)
    sample = weights.transforms({"image": images[:, 0], "mask": torch.zeros(2)})
    torch.testing.assert_close(sample["image"], (images[:, 0] - mean) / std)
    assert sample["mask"].shape == (2,)


def test_weights_of_another_encoder_are_refused():
    with pytest.raises(
        ConfigError, match="V2_300M are those of prithvi_eo_v2_300m, not of prithvi_eo_v1_100m"
    ):
        prithvi_eo.prithvi_eo_v1_100m(PrithviEO_Weights.V2_300M, **TINY)


def test_random_weights_are_the_default_and_sizes_are_those_of_the_table():
    with torch.device("meta"):
        model = prithvi_eo.prithvi_eo_v2_600m()
    assert (model.width, len(model.blocks), model.patch_size) == (1280, 32, 14)
