"""Encoder: base class of all encoders.

There are two kinds. A `TokenEncoder` (a plain ViT) has one scale and returns tokens; a `PyramidEncoder` (a CNN or a
hierarchical transformer) returns maps at several strides. To add an encoder, subclass one of them, and give its class
path (``encoder: my_package.MyEncoder``) or add a line to `prithvi_tg.models.registry.ENCODERS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar

from einops import rearrange
from timm.models import group_parameters
from torch import Tensor, nn

from ...errors import ConfigError, counted

Value = TypeVar("Value")

#: Argument of timm's ``group_parameters``: regular expressions by group, or a function from name to ordinal.
GroupMatcher = Mapping[str, Any] | Callable[[str], Any]


class Encoder(nn.Module, ABC):
    """Computes features of images.

    The constructor has an argument ``num_bands``, and ``drop_path`` and ``gradient_checkpointing`` if the encoder
    supports them. ``encoder_args`` gives further arguments.

    Attributes:
        num_bands: Number of bands of a frame.
        patch_size: Height and width of an image must be multiples of this: the patch of a ViT, or the largest stride of
            a pyramid, in pixels. `EncoderDecoder` pads other images.
        num_features: Channels of each intermediate feature, per frame.
        strides: Pixels of the image per pixel of each intermediate feature.
        coordinates: Keys of a batch that the encoder uses, ``timestamps`` and ``location``, and for each the name of
            the submodule that encodes it; empty for encoders that use neither.
        input_weights: Names of the parameters with the bands on axis 1; pre-trained ones are matched by band name.
        pretrained: Source of published weights, for ``weights: pretrained``: ``hf://OWNER/REPOSITORY/FILE`` or a URL.
        pretrained_bands: Names of the bands of the published weights, in order.
        pretrained_statistics: Mean and standard deviation of each of these bands in pre-training; for Prithvi, see
            `prithvi_tg.bands.PRETRAINING_STATISTICS`.
        pretrained_scale: Factor from stored values of the pre-training data to the unit of the statistics.
    """

    num_bands: int
    patch_size: int
    num_features: tuple[int, ...]
    strides: tuple[int, ...]
    coordinates: Mapping[str, str] = MappingProxyType({})
    input_weights: tuple[str, ...] = ()
    pretrained: str | None = None
    pretrained_bands: tuple[str, ...] = ()
    pretrained_statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    pretrained_scale: float = 1.0

    @property
    def embed_dim(self) -> int:
        """Channels of the last feature, per frame."""
        return self.num_features[-1]

    @abstractmethod
    def forward_features(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """The last feature of images (B, T, C, H, W) or (B, C, H, W); for its shape see the two kinds."""

    @abstractmethod
    def forward_intermediates(
        self, image: Tensor, indices: Sequence[int], norm: bool = False, **coordinates: Tensor
    ) -> list[Tensor]:
        """Features by index, counted from 0 or, if negative, from the end.

        Args:
            image: (B, T, C, H, W) or (B, C, H, W), normalised; H and W multiples of `patch_size`.
            indices: Indices of features, as of `num_features`.
            norm: Apply the final norm of a ViT to each feature.
            **coordinates: ``timestamps`` (B, T, 2) and ``location`` (B, 2), for encoders with `coordinates`.

        Returns:
            One feature per index, in the order given.
        """

    def forward(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """As `forward_features`."""
        return self.forward_features(image, **coordinates)

    def group_matcher(self) -> GroupMatcher:
        """Parameters by layer, from the input on, for layer-wise learning rates; as timm's `group_matcher`."""
        return {}

    def rename_weights(self, state_dict: Mapping[str, Value]) -> Mapping[str, Value]:
        """Rename the tensors of a file to the parameters of this encoder; all names start with ``encoder.``."""
        return state_dict

    def layer_distances(self) -> dict[str, int]:
        """Number of layers between each parameter and the decoder; 0 for parameters that match no group.

        Raises:
            ConfigError: The encoder does not group its parameters.
        """
        matcher = self.group_matcher()
        if not matcher:
            raise ConfigError(
                f"layer_decay: {type(self).__name__} has no group_matcher; set layer_decay to 1"
            )
        # timm puts parameters that match no group, such as those of the decoder, after all groups.
        names = [*(name for name, _ in self.named_parameters()), "decoder"]
        module: Any = SimpleNamespace(named_parameters=lambda: [(name, None) for name in names])
        layers = group_parameters(module, matcher, reverse=True)
        return {name: layers["decoder"] - layers[name] for name in names[:-1]}

    def frames(self, image: Tensor) -> Tensor:
        """Images as (B, T, C, H, W).

        Raises:
            ConfigError: Their number of bands is not that of the encoder.
        """
        image = image.unsqueeze(1) if image.ndim == 4 else image
        if image.shape[2] != self.num_bands:
            raise ConfigError(
                f"image: {counted(image.shape[2], 'band')} in a batch of shape {tuple(image.shape)} (B, T, C, H, W); "
                f"the encoder takes {self.num_bands}"
            )
        return image

    def grid(self, image: Tensor) -> tuple[int, int, int]:
        """Frames, rows and columns of patches of an image.

        Raises:
            ConfigError: Height or width is not a multiple of the patch.
        """
        *_, height, width = image.shape
        if height % self.patch_size or width % self.patch_size:
            raise ConfigError(f"image: {height} x {width} is not a multiple of the patch, {self.patch_size}")
        frames = image.shape[1] if image.ndim == 5 else 1
        return frames, height // self.patch_size, width // self.patch_size


class TokenEncoder(Encoder):
    """A plain ViT. Its features are tokens (B, 1 + T*h*w, D): the class token, then patches in order t, h, w."""


class PyramidEncoder(Encoder):
    """A CNN or hierarchical transformer. Its features are maps (B, C_i * T, H / stride_i, W / stride_i).

    Each frame is encoded separately. A subclass sets `num_bands`, `num_features` and `strides`, and implements
    `forward_frames`.
    """

    @property
    def patch_size(self) -> int:  # type: ignore[override]
        """The largest stride."""
        return max(self.strides)

    @abstractmethod
    def forward_frames(self, frames: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Maps (N, C_i, H / stride_i, W / stride_i) by index, from frames (N, C, H, W)."""

    def forward_features(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """The last map (B, C * T, h, w)."""
        return self.forward_intermediates(image, [-1], False, **coordinates)[0]

    def forward_intermediates(
        self, image: Tensor, indices: Sequence[int], norm: bool = False, **coordinates: Tensor
    ) -> list[Tensor]:
        """Maps (B, C_i * T, h_i, w_i) by index; channel = c*T + t."""
        image = self.frames(image)
        maps = self.forward_frames(image.flatten(0, 1), indices)
        return [rearrange(one, "(b t) c h w -> b (c t) h w", t=image.shape[1]) for one in maps]
