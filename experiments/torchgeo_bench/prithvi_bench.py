"""PrithviBench: an encoder of this package as a model of torchgeo-bench."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchgeo_bench.models._input_units import InputUnit
from torchgeo_bench.models.interface import BenchModel

from prithvi_tg.bands import PRETRAINING_STATISTICS, PRITHVI_BANDS, SENSORS
from prithvi_tg.checkpoints import load_weights
from prithvi_tg.hub import find_weights
from prithvi_tg.models import create_encoder

_log = logging.getLogger(__name__)

#: Names of bands in torchgeo-bench -> names of this package. Broad near infrared only replaces a missing narrow band.
_NAMES = {
    "blue": "BLUE",
    "green": "GREEN",
    "red": "RED",
    "nir_narrow": "NIR_NARROW",
    "red_edge_4": "NIR_NARROW",  # B8A of Sentinel-2 in GEO-Bench
    "nir": "NIR_BROAD",
    "swir1": "SWIR_1",
    "swir_1": "SWIR_1",
    "swir2": "SWIR_2",
    "swir_2": "SWIR_2",
}
_SENSORS = {"s2": "sentinel2", "sentinel2": "sentinel2", "landsat": "landsat8", "landsat8": "landsat8"}


def canonical(band: Any) -> str | None:
    """The name of a ``BandSpec`` in this package; ``None`` for bands that it does not know."""
    name = band.name.lower()
    if name in _NAMES:
        return _NAMES[name]
    return SENSORS.get(_SENSORS.get(band.sensor, ""), {}).get(name.upper())


def positions(bands: Sequence[Any]) -> dict[str, int]:
    """Positions of those bands of Prithvi that a dataset has.

    Raises:
        ValueError: It has none of them.
    """
    names = [canonical(band) for band in bands]
    found = {name: names.index(name) for name in PRITHVI_BANDS if name in names}
    if "NIR_NARROW" not in found and "NIR_BROAD" in names:
        found["NIR_NARROW"] = names.index("NIR_BROAD")
    if not found:
        raise ValueError(
            f"bands: none of {[band.name for band in bands]} is one of {', '.join(PRITHVI_BANDS)}"
        )
    return {name: found[name] for name in PRITHVI_BANDS if name in found}


class PrithviBench(BenchModel):
    """Image embeddings (B, D): the mean of the patch tokens, or the class token.

    With ``normalization: model_native``, images are converted to reflectance x 1e4, then normalised with statistics of
    the pre-training on HLS. A missing band has its mean, that is 0 after normalisation.

    Args:
        bands: Bands of the dataset.
        encoder: A Prithvi encoder in `prithvi_tg.models.VARIANTS`.
        encoder_args: Fields of `EncoderVariant` to replace.
        weights: ``pretrained``, a file, or ``None`` for random weights.
        pooling: ``mean`` or ``cls``.
        size: Side to which images are resized; ``None`` to keep theirs, which must be a multiple of the patch.
        normalization: See `BenchModel`.
        **others: Further keys of the configuration, such as ``name``.

    Raises:
        ValueError: No band of the dataset is one of Prithvi's, or the pooling is unknown.
    """

    expected_input_unit = InputUnit.S2_DN

    def __init__(
        self,
        bands: list[Any],
        *,
        encoder: str = "prithvi_eo_v2_300m",
        encoder_args: dict[str, Any] | None = None,
        weights: str | None = "pretrained",
        pooling: str = "mean",
        size: int | None = 224,
        normalization: str = "model_native",
        **others: object,
    ) -> None:
        if pooling not in ("mean", "cls"):
            raise ValueError(f"pooling: {pooling!r} is neither mean nor cls")
        found = positions(bands)
        generation = "prithvi_eo_v1" if "_v1_" in encoder else "prithvi_eo_v2"
        mean, std = PRETRAINING_STATISTICS[generation]
        self._slots = [PRITHVI_BANDS.index(name) for name in found]
        self._positions = list(found.values())
        self.pretrain_mean = [mean[slot] for slot in self._slots]
        self.pretrain_std = [std[slot] for slot in self._slots]
        super().__init__(bands=[bands[one] for one in self._positions], normalization=normalization)
        if missing := [name for name in PRITHVI_BANDS if name not in found]:
            _log.warning(f"bands: the dataset lacks {', '.join(missing)}; they have their mean")
        self.pooling, self.size = pooling, size
        self.encoder = create_encoder(encoder, **(encoder_args or {})).eval().requires_grad_(False)
        if weights is not None:
            _log.info(f"weights: {load_weights(self.encoder, find_weights(weights, self.encoder))}")

    def normalize_inputs(self, images: Tensor) -> Tensor:
        """Select and normalise the bands of Prithvi.

        Args:
            images: (B, C, H, W), all bands of the dataset, as stored.

        Returns:
            (B, 6, H, W).
        """
        known = super().normalize_inputs(images[:, self._positions])
        whole = known.new_zeros(len(images), len(PRITHVI_BANDS), *images.shape[-2:])
        whole[:, self._slots] = known
        return whole

    @torch.no_grad()
    def _forward_patch_features(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) of normalised images (B, 6, H, W)."""
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        tokens: Tensor = self.encoder(images)
        return tokens[:, 0] if self.pooling == "cls" else tokens[:, 1:].mean(dim=1)
