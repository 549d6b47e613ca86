"""The encoders of Prithvi with a weights enumeration in the style of TorchGeo and torchvision.

Each function builds an encoder, a plain `torch.nn.Module`; ``weights`` selects published weights::

    weights = PrithviEO_Weights.V2_300M
    model = prithvi_eo_v2_300m(weights=weights).eval()
    tokens = model(weights.transforms(images))  # (B, 1 + T*h*w, D)

The module uses nothing of this package but the encoder, its table of variants and names of bands, so that it can be
offered to other libraries.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..bands import PRETRAINING_STATISTICS, PRITHVI_BANDS
from ..compat import Weights, WeightsEnum
from ..errors import ConfigError
from .encoders.prithvi import VARIANTS, PrithviViT, encoder_variant

__all__ = [
    "PrithviEO_Weights",
    "prithvi_eo_v1_100m",
    "prithvi_eo_v2_100m_tl",
    "prithvi_eo_v2_300m",
    "prithvi_eo_v2_300m_tl",
    "prithvi_eo_v2_600m",
    "prithvi_eo_v2_600m_tl",
    "prithvi_eo_v2_tiny_tl",
]


class NormalizeBands(nn.Module):
    """Subtracts the mean of each band and divides by its standard deviation.

    Args:
        mean: Mean of each band.
        std: Standard deviation of each band.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor | Mapping[str, Any]) -> Any:
        """Images (..., C, H, W), or a sample or batch with the key ``image``."""
        if isinstance(images, Mapping):
            return {**images, "image": self(images["image"])}
        return (images - self.mean.to(images.device)) / self.std.to(images.device)


def _weights(name: str) -> Weights:
    variant = VARIANTS[name]
    generation = name[: len("prithvi_eo_v1")]
    paper = {"prithvi_eo_v1": "2310.18660", "prithvi_eo_v2": "2412.02732"}[generation]
    return Weights(
        url=f"https://huggingface.co/{variant.repo}/resolve/main/{variant.file}",
        transforms=NormalizeBands(*PRETRAINING_STATISTICS[generation]),
        meta={
            "dataset": "HLS",
            "model": name,
            "in_chans": variant.num_bands,
            "bands": PRITHVI_BANDS,
            "num_frames": variant.num_frames,
            "patch_size": variant.patch_size,
            "unit": "reflectance x 1e4",
            "coordinates": variant.coordinates,
            "publication": f"https://arxiv.org/abs/{paper}",
            "repo": f"https://huggingface.co/{variant.repo}",
            "license": "Apache-2.0",
            "ssl_method": "mae",
        },
    )


class PrithviEO_Weights(WeightsEnum):  # noqa: N801  # the naming of torchvision and TorchGeo
    """Published weights of the encoders of Prithvi-EO.

    ``transforms`` normalises images (B, C, H, W) or (B, T, C, H, W) in reflectance x 1e4; ``meta`` has the bands, the
    licence, the publication and more.
    """

    V1_100M = _weights("prithvi_eo_v1_100m")
    V2_TINY_TL = _weights("prithvi_eo_v2_tiny_tl")
    V2_100M_TL = _weights("prithvi_eo_v2_100m_tl")
    V2_300M = _weights("prithvi_eo_v2_300m")
    V2_300M_TL = _weights("prithvi_eo_v2_300m_tl")
    V2_600M = _weights("prithvi_eo_v2_600m")
    V2_600M_TL = _weights("prithvi_eo_v2_600m_tl")

    def get_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The parameters of the encoder, from a download in the cache of `torch.hub`.

        The file also holds the decoder of the pre-training and a position table, which are omitted. Names of tensors
        may begin with ``encoder.`` or, as in the first release, directly with the layer.

        Args:
            *args: Arguments of `torch.hub.load_state_dict_from_url`.
            **kwargs: Further ones, such as ``progress``.
        """
        stored = super().get_state_dict(*args, **{"weights_only": True, "map_location": "cpu", **kwargs})
        tensors = {key.removeprefix("encoder."): value for key, value in stored.items()}
        omitted = ("decoder", "mask_token", "pos_embed")
        return {key: value for key, value in tensors.items() if not key.startswith(omitted)}


def _build(name: str, weights: PrithviEO_Weights | None, **overrides: Any) -> PrithviViT:
    if weights is not None and weights.meta["model"] != name:
        raise ConfigError(f"weights: {weights} are those of {weights.meta['model']}, not of {name}")
    model = PrithviViT(encoder_variant(name, **overrides))
    if weights is not None:
        model.load_state_dict(weights.get_state_dict())
    return model


def prithvi_eo_v1_100m(weights: PrithviEO_Weights | None = None, **overrides: Any) -> PrithviViT:
    """Prithvi-EO-1.0-100M (Jakubik et al. 2023, arXiv:2310.18660).

    Args:
        weights: Published weights; random ones by default.
        **overrides: Fields of `EncoderVariant` to replace.

    Returns:
        A module from images (B, T, C, H, W) or (B, C, H, W) to tokens (B, 1 + T*h*w, D), class token first.

    Raises:
        ConfigError: The weights are those of another encoder, or a field is unknown.
    """
    return _build("prithvi_eo_v1_100m", weights, **overrides)


def prithvi_eo_v2_tiny_tl(weights: PrithviEO_Weights | None = None, **overrides: Any) -> PrithviViT:
    """Prithvi-EO-2.0-tiny-TL (arXiv:2412.02732), with time and place; as `prithvi_eo_v1_100m`."""
    return _build("prithvi_eo_v2_tiny_tl", weights, **overrides)


def prithvi_eo_v2_100m_tl(weights: PrithviEO_Weights | None = None, **overrides: Any) -> PrithviViT:
    """Prithvi-EO-2.0-100M-TL (arXiv:2412.02732), with time and place; as `prithvi_eo_v1_100m`."""
    return _build("prithvi_eo_v2_100m_tl", weights, **overrides)


def prithvi_eo_v2_300m(weights: PrithviEO_Weights | None = None, **overrides: Any) -> PrithviViT:
    """Prithvi-EO-2.0-300M (arXiv:2412.02732); as `prithvi_eo_v1_100m`."""
    return _build("prithvi_eo_v2_300m", weights, **overrides)


def prithvi_eo_v2_300m_tl(weights: PrithviEO_Weights | None = None, **overrides: Any) -> PrithviViT:
    """Prithvi-EO-2.0-300M-TL (arXiv:2412.02732), with time and place; as `prithvi_eo_v1_100m`."""
    return _build("prithvi_eo_v2_300m_tl", weights, **overrides)


def prithvi_eo_v2_600m(weights: PrithviEO_Weights | None = None, **overrides: Any) -> PrithviViT:
    """Prithvi-EO-2.0-600M (arXiv:2412.02732), patches of 14 pixels; as `prithvi_eo_v1_100m`."""
    return _build("prithvi_eo_v2_600m", weights, **overrides)


def prithvi_eo_v2_600m_tl(weights: PrithviEO_Weights | None = None, **overrides: Any) -> PrithviViT:
    """Prithvi-EO-2.0-600M-TL (arXiv:2412.02732), with time and place; as `prithvi_eo_v1_100m`."""
    return _build("prithvi_eo_v2_600m_tl", weights, **overrides)
