"""MaskedAutoencoder: the model of Prithvi's pre-training, which reconstructs masked patches.

Masked autoencoding is described by He et al. 2021 (arXiv:2111.06377), and for patches of several dates by Jakubik et
al. 2023 (arXiv:2310.18660) and Szwarcman et al. 2024 (arXiv:2412.02732).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from einops import rearrange
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..errors import ConfigError
from .encoder_model import EncoderModel
from .encoders.base import Encoder
from .encoders.prithvi import CoordinateEncoding, EncoderVariant, PrithviViT, add_coordinates, constant_table


@dataclass(frozen=True)
class DecoderVariant:
    """Sizes of the decoder of a masked autoencoder; the defaults are those of the published models.

    Attributes:
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads of a block.
    """

    width: int = 512
    depth: int = 8
    num_heads: int = 16


#: Decoders that differ from the published one, by name of the encoder.
DECODER_VARIANTS: dict[str, DecoderVariant] = {"nano": DecoderVariant(64, 2, 4)}


def decoder_variant(encoder: str, **sizes: Any) -> DecoderVariant:
    """The decoder for an encoder of `VARIANTS`, with some sizes replaced.

    Raises:
        ConfigError: A size is unknown, or they contradict each other.
    """
    try:
        variant = replace(DECODER_VARIANTS.get(encoder, DecoderVariant()), **sizes)
    except TypeError as error:
        known = ", ".join(DecoderVariant.__dataclass_fields__)
        raise ConfigError(f"decoder_args: {error}; choose from {known}") from error
    if variant.width % 16:
        raise ConfigError(f"decoder_args.width: {variant.width} must be a multiple of 16")
    if variant.width % variant.num_heads:
        raise ConfigError(
            f"decoder_args.num_heads: {variant.num_heads} heads do not divide a width of {variant.width}"
        )
    return variant


def sizes_of_decoder(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes of the decoder in the tensors of a file, by canonical name, for `decoder_variant`; empty without one.

    Tensors do not show the number of heads; a head has 32 channels, as in all published models.
    """
    token = state_dict.get("decoder.mask_token")
    if token is None:
        return {}
    width = token.shape[-1]
    blocks = {name.split(".")[2] for name in state_dict if name.startswith("decoder.decoder_blocks.")}
    return {"width": width, "depth": len(blocks), "num_heads": max(1, width // 32)}


class Masking(NamedTuple):
    """Which patches of a batch are masked.

    Attributes:
        visible: Numbers of the visible patches (B, K), int64.
        restore: Place of each patch in the order of the noise (B, L), int64; the first K places are visible.
        mask: Masked patches (B, L), bool.
    """

    visible: Tensor
    restore: Tensor
    mask: Tensor


def random_masking(noise: Tensor, mask_ratio: float) -> Masking:
    """Keep the ``int(L * (1 - mask_ratio))`` patches of each sample that have the lowest noise (B, L)."""
    count = int(noise.shape[1] * (1 - mask_ratio))
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    return Masking(order[:, :count], restore, restore >= count)


class Reconstruction(NamedTuple):
    """The result of a masked autoencoder.

    Attributes:
        loss: Mean over the counted patches, scalar.
        prediction: Values of all patches (B, L, p*q*C), in the form of `patchify`.
        mask: Masked patches (B, L), bool.
        counted: Masked patches with data (B, L), bool: those of the loss.
    """

    loss: Tensor
    prediction: Tensor
    mask: Tensor
    counted: Tensor


class MaskedDecoder(nn.Module):
    """The decoder: inserts mask tokens, and predicts the pixels of each patch. Parameter names are the published ones.

    Args:
        encoder: Sizes of the encoder.
        variant: Sizes of the decoder.
    """

    def __init__(self, encoder: EncoderVariant, variant: DecoderVariant) -> None:
        super().__init__()
        self.variant = variant
        self.first_day = encoder.first_day
        self.coordinates = encoder.coordinates
        self.decoder_embed = nn.Linear(encoder.width, variant.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, variant.width))
        if encoder.coordinates:
            self.temporal_embed_dec = CoordinateEncoding(variant.width)
            self.location_embed_dec = CoordinateEncoding(variant.width)
        norm_layer: Any = partial(nn.LayerNorm, eps=1e-5)
        self.decoder_blocks = nn.ModuleList(
            Block(variant.width, variant.num_heads, qkv_bias=True, norm_layer=norm_layer)
            for _ in range(variant.depth)
        )
        self.decoder_norm = nn.LayerNorm(variant.width, eps=1e-5)
        self.decoder_pred = nn.Linear(variant.width, encoder.patch_size**2 * encoder.num_bands)
        self._init_weights()

    def _init_weights(self) -> None:
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        tokens: Tensor,
        restore: Tensor,
        grid: tuple[int, int, int],
        timestamps: Tensor | None = None,
        location: Tensor | None = None,
    ) -> Tensor:
        """Predict the pixels of all patches.

        Args:
            tokens: Encoded class token and visible patches (B, 1 + K, D).
            restore: See `Masking`, (B, L).
            grid: Frames, rows and columns of patches.
            timestamps: (B, T, 2), year and day of year 1..366.
            location: (B, 2), latitude and longitude in degrees.

        Returns:
            (B, L, p*q*C), in the form of `patchify`.
        """
        tokens = self.decoder_embed(tokens)
        cls_token, visible = tokens[:, :1], tokens[:, 1:]
        masked = self.mask_token.expand(len(tokens), restore.shape[1] - visible.shape[1], -1)
        patches = torch.cat((visible, masked), dim=1)
        patches = patches.gather(1, restore[..., None].expand(-1, -1, patches.shape[2]))
        # Sums in float32 even under autocast: bfloat16 would round the positions.
        table = constant_table(self.variant.width, *grid, tokens.device)
        cls_token, patches = cls_token + table[:1], patches + table[1:]
        if self.coordinates:
            encodings = self.temporal_embed_dec, self.location_embed_dec
            patches = add_coordinates(patches, grid, *encodings, timestamps, location, self.first_day)
        tokens = torch.cat((cls_token, patches), dim=1)
        for block in self.decoder_blocks:
            tokens = block(tokens)
        prediction: Tensor = self.decoder_pred(self.decoder_norm(tokens))
        return prediction[:, 1:]


class MaskedAutoencoder(EncoderModel):
    """The encoder with the decoder of its pre-training; tensors have the published names ``encoder.*``, ``decoder.*``.

    Args:
        encoder: The encoder.
        decoder: Sizes of the decoder.
        mask_ratio: Share of the patches that are masked, over all frames.
        norm_pix_loss: Reconstruct patches that are standardised each by its own mean and standard deviation.
        freeze_encoder: Train only the decoder.

    Raises:
        ConfigError: The encoder is no `PrithviViT`, or the mask ratio is not between 0 and 1.
    """

    #: Names of the parameters whose rows are the predicted values, bands last.
    output_weights = ("decoder.decoder_pred.weight", "decoder.decoder_pred.bias")
    encoder: PrithviViT

    def __init__(
        self,
        encoder: Encoder,
        decoder: DecoderVariant,
        mask_ratio: float = 0.75,
        norm_pix_loss: bool = False,
        freeze_encoder: bool = False,
    ) -> None:
        if not isinstance(encoder, PrithviViT):
            raise ConfigError(
                f"encoder: {type(encoder).__name__} cannot encode a subset of its patches; masked autoencoding needs "
                "an encoder of Prithvi"
            )
        if not 0 < mask_ratio < 1:
            raise ConfigError(
                f"mask_ratio: {mask_ratio} must be above 0 and below 1; published models have 0.75"
            )
        super().__init__(encoder, freeze_encoder)
        self.decoder = MaskedDecoder(encoder.variant, decoder)
        self.mask_ratio = mask_ratio
        self.norm_pix_loss = norm_pix_loss

    def patchify(self, image: Tensor) -> Tensor:
        """(B, T, C, H, W) -> (B, L, p*q*C), patches in order t, h, w; values in order row, column, band."""
        side = self.encoder.patch_size
        return rearrange(image, "b t c (h p) (w q) -> b (t h w) (p q c)", p=side, q=side)

    def unpatchify(self, patches: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, L, p*q*C) -> (B, T, C, H, W), for a grid of frames, rows and columns of patches."""
        t, h, w = grid
        side = self.encoder.patch_size
        pattern = "b (t h w) (p q c) -> b t c (h p) (w q)"
        return rearrange(patches, pattern, t=t, h=h, w=w, p=side, q=side)

    def forward(
        self,
        image: Tensor,
        valid: Tensor | None = None,
        noise: Tensor | None = None,
        **coordinates: Tensor,
    ) -> Reconstruction:
        """Mask patches, and reconstruct them.

        The loss of a patch is the mean squared error of its values with data, and the loss of the batch is the mean
        over the masked patches with any data; 0 if there is none.

        Args:
            image: (B, T, C, H, W) or (B, C, H, W), normalised; H and W multiples of the patch. Values without data
                must be filled.
            valid: Values with data, bool, as the image; all by default.
            noise: (B, L), from which the masks follow; random by default.
            **coordinates: ``timestamps`` (B, T, 2) and ``location`` (B, 2), for encoders that take them.

        Raises:
            ConfigError: The image is smaller than the smallest number of patches of which one is visible, or its size
                is not a multiple of the patch.
        """
        image = self.encoder.frames(image)
        grid = self.encoder.grid(image)
        length = grid[0] * grid[1] * grid[2]
        if int(length * (1 - self.mask_ratio)) < 1:
            raise ConfigError(
                f"mask_ratio: {self.mask_ratio} masks all {length} patches of an image of {image.shape[-2]} x "
                f"{image.shape[-1]} pixels; enlarge the crops, or lower it"
            )
        if noise is None:
            noise = torch.rand(len(image), length, device=image.device)
        masking = random_masking(noise, self.mask_ratio)
        prediction = self._run(_predict, image, self, masking, grid, **coordinates)
        known = None if valid is None else self.patchify(valid.reshape(image.shape))
        target = self.patchify(image).float()
        if self.norm_pix_loss:
            mean, std = patch_statistics(target, known)
            target = (target - mean) / std
        error = (prediction.float() - target) ** 2
        if known is None:
            error, counted = error.mean(dim=-1), masking.mask
        else:
            error = error.where(known, 0).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
            counted = masking.mask & known.any(dim=-1)
        loss = error.where(counted, 0).sum() / counted.sum().clamp(min=1)
        return Reconstruction(loss, prediction, masking.mask, counted)

    def reconstruct(self, image: Tensor, result: Reconstruction, valid: Tensor | None = None) -> Tensor:
        """The predicted patches as an image, normalised as `image`; NaN in visible patches.

        With `norm_pix_loss`, the mean and standard deviation of a patch are those of the image.

        Args:
            image: (B, T, C, H, W), the argument of `forward`.
            result: Its result.
            valid: As in `forward`.
        """
        prediction = result.prediction.float()
        if self.norm_pix_loss:
            known = None if valid is None else self.patchify(valid)
            mean, std = patch_statistics(self.patchify(image).float(), known)
            prediction = prediction * std + mean
        masked = prediction.where(result.mask[..., None], float("nan"))
        return self.unpatchify(masked, self.encoder.grid(image))


def _predict(
    image: Tensor,
    model: MaskedAutoencoder,
    masking: Masking,
    grid: tuple[int, int, int],
    **coordinates: Tensor,
) -> Tensor:
    encoder = model.encoder
    with torch.set_grad_enabled(torch.is_grad_enabled() and not model.encoder_is_frozen):
        tokens = encoder.embed(image, **coordinates)
        index = masking.visible[..., None].expand(-1, -1, tokens.shape[2])
        visible = torch.cat((tokens[:, :1], tokens[:, 1:].gather(1, index)), dim=1)
        encoded = encoder.forward_tokens(visible)
    prediction: Tensor = model.decoder(encoded, masking.restore, grid, **coordinates)
    return prediction


def patch_statistics(patches: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, L, 1) of the values with data of each patch (B, L, p*q*C).

    The variance is that of a sample, with 1e-6 added, as in the published code.
    """
    if valid is None:
        return patches.mean(dim=-1, keepdim=True), (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    count = valid.sum(dim=-1, keepdim=True)
    mean = patches.where(valid, 0).sum(dim=-1, keepdim=True) / count.clamp(min=1)
    squares = ((patches - mean) ** 2).where(valid, 0).sum(dim=-1, keepdim=True)
    return mean, (squares / (count - 1).clamp(min=1) + 1e-6).sqrt()
