"""PrithviPretrainingTask: pre-train an encoder of Prithvi by masked autoencoding, from scratch or continued."""

import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torchmetrics import MetricCollection

from ..checkpoints import Checkpoint
from ..compat import BaseTask
from ..datamodules import ChipDataModule
from ..errors import ConfigError
from ..models import Encoder, MaskedAutoencoder
from ..models.mae import Reconstruction, decoder_variant, sizes_of_decoder
from ..spec import DataSpec
from ..targets import ImageTarget, ValueTarget
from ..tiling import multiples_around
from .data_checks import check_logits, check_loss
from .losses import LabelledMean
from .scored import ScoredTask
from .value_metrics import ValueErrors, value_scores


class MaskedAutoencodingTask(BaseTask):
    """A task in the form of TorchGeo's, which has none for masked autoencoding.

    Args:
        weights: Pre-trained weights, as a task of TorchGeo keeps them.
    """

    def __init__(self, weights: Any = None) -> None:
        self.weights = weights
        super().__init__()


class PrithviPretrainingTask(ScoredTask, MaskedAutoencodingTask):
    """Masked autoencoding of Prithvi as published: random patches are masked, and a decoder reconstructs them.

    The model is a `MaskedAutoencoder`. It does not use labels. The other tasks accept its checkpoints as `weights` and
    load the encoder. With `weights` that contain a decoder, such as the published ones, encoder and decoder start from
    them; otherwise the decoder starts from random weights.

    Pixels without data are filled with the band mean. They do not count in the loss: the loss of a patch is that of its
    values with data, and a masked patch without any data is left out.

    Logged scores: ``val_loss``, the mean over masked patches of the mean squared error of normalised values; for each
    band ``val_RMSE_BAND`` and ``val_R2_BAND`` over all masked pixels, in the unit of the statistics; and ``val_mR2``,
    the mean of R2 over the bands: 0 if the model only predicts the mean of a band, 1 if it predicts each pixel. With
    `norm_pix_loss` the model does not predict the mean and the standard deviation of a patch; the scores then take them
    from the masked patch itself, so they are too good to compare with those of other models.

    To change one thing, subclass and override one method, as for `PrithviSegmentationTask`.

    Args:
        decoder_args: Sizes of the decoder, ``width``, ``depth`` and ``num_heads``. By default those of the decoder in
            `weights`, otherwise the published ones: 512, 8 and 16. The encoder ``nano`` has 64, 2 and 4. The number of
            heads is not stored in published files; one head per 32 channels is assumed, as in all published models.
        mask_ratio: Share of the patches that are masked, over all frames.
        norm_pix_loss: Reconstruct patches that are each standardised by their own mean and standard deviation.
        mask_seed: Seed of the masks in validation and test, which depend only on it and on the name of a chip.
        window: Side of the images in validation and test, in pixels, reduced to whole patches. Larger chips are cut
            into such images; a remainder at the right or bottom is not used.
        window_batch_size: Number of images in a call of the model in validation and test.
        monitor: Logged metric that selects the best checkpoint. Losses and RMSE are minimised, R2 maximised.
    """

    counts = ("errors",)
    headlines = ("mR2",)
    target_kind = "images"
    label_key = "image"
    # Not stored in checkpoints: the source of the first weights, and arguments that only tasks with labels use.
    ignore = ("weights", "in_channels", "num_classes", "num_outputs")
    model: MaskedAutoencoder

    def __init__(
        self,
        *args: Any,
        decoder_args: dict[str, Any] | None = None,
        mask_ratio: float = 0.75,
        norm_pix_loss: bool = False,
        mask_seed: int = 0,
        window: int = 224,
        window_batch_size: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)

    def default_mode(self, monitor: str) -> str:
        """``max`` for R2, ``min`` for other metrics."""
        return "max" if "R2" in monitor else "min"

    @property
    def num_outputs(self) -> int:
        """0: the model has no outputs for labels."""
        return 0

    @property
    def output_names(self) -> list[str]:
        """Names of the bands."""
        return list(self.hparams["bands"])

    @property
    def target(self) -> ValueTarget:
        """The values of the bands, as if they were labels; standardised if the statistics are not known."""
        names, spec = tuple(self.output_names), self.run_spec
        if spec is None:
            return ValueTarget(names)
        mean = spec.input.mean[: len(names)]
        return ValueTarget(names, mean=mean, std=spec.input.std[: len(names)])

    # Methods to override in a subclass.

    def check_options(self, data: Any) -> None:
        """As in `PrithviTask`; and that training crops or windows are whole patches.

        Raises:
            ConfigError: They are not.
        """
        super().check_options(data)
        patch = self.backbone.patch_size
        sides = {f"data.{key}": getattr(data, key, None) for key in ("crop_size", "window")}
        for key, side in (sides | {"model.window": self.hparams["window"]}).items():
            if isinstance(side, int) and side % patch:
                raise ConfigError(
                    f"{key}: {side} is not a multiple of the patch of {patch} pixels; set it to "
                    f"{multiples_around(side, patch)}"
                )

    def used_data(self, spec: DataSpec) -> DataSpec:
        """The description of the images; labels are ignored.

        Raises:
            ConfigError: The batches of the data module do not mark the pixels without data.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # a connector sets it
        if spec.target.kind != self.target_kind and not isinstance(data, ChipDataModule):
            raise ConfigError(
                f"data: {type(data).__name__} does not mark pixels without data in training, which the loss must "
                "leave out; use UnlabelledScenesDataModule with the same images"
            )
        return replace(spec, target=ImageTarget())

    def configure_models(self) -> None:
        """Create `model` from encoder and decoder, and load the pre-trained weights.

        Raises:
            ConfigError: Settings contradict each other.
            CheckpointError: The weights do not fit the model.
        """
        self.model = None  # type: ignore[assignment]  # weights decide about the decoder
        encoder = self.create_encoder()
        if self.model is None:
            self.model = self.create_autoencoder(encoder, {})

    def create_autoencoder(self, encoder: Encoder, sizes: dict[str, int]) -> MaskedAutoencoder:
        """Create the model.

        Args:
            encoder: The encoder.
            sizes: Sizes of the decoder of `weights`, which arguments of the task replace; others are recorded.
        """
        hparams = self.hparams
        name = hparams["encoder"]
        decoder = decoder_variant(name, **sizes | (hparams["decoder_args"] or {}))
        if decoder != decoder_variant(name):
            hparams["decoder_args"] = asdict(decoder)
        return MaskedAutoencoder(
            encoder, decoder, hparams["mask_ratio"], hparams["norm_pix_loss"], hparams["freeze_encoder"]
        )

    def load_pretrained(self, model: nn.Module, checkpoint: Checkpoint) -> None:
        """Load pre-trained weights into the encoder and, if they contain one, into the decoder; log the report.

        Raises:
            CheckpointError: The weights do not fit.
        """
        recorded = checkpoint.hyper_parameters.get("decoder_args") or {}
        sizes = sizes_of_decoder(checkpoint.state_dict)
        if sizes and "num_heads" in recorded:
            sizes["num_heads"] = recorded["num_heads"]
        assert isinstance(model, Encoder)
        self.model = self.create_autoencoder(model, sizes)
        super().load_pretrained(self.model if sizes else model, checkpoint)

    def configure_metrics(self) -> None:
        """Set the metrics of validation and test: errors per band, and those of `add_metrics`."""
        self.set_metrics({}, {"errors": ValueErrors(self.target)})

    def compute_scores(self, computed: dict[str, Any]) -> dict[str, Tensor]:
        """See `value_scores`."""
        return value_scores(computed["errors"])

    def decode(self, outputs: Tensor) -> Tensor:
        """Values in the unit of the statistics from normalised images (B, T, C, H, W)."""
        spec = self.run_spec
        return outputs.float() if spec is None else spec.input.denormalize(outputs.float())

    def unused_parameters(self, batch: Any) -> set[str]:
        """Names of parameters without a gradient, see `PrithviTask.unused_parameters`; also those of the decoder."""
        missing = super().unused_parameters(batch)
        return missing | {name.replace("encoder.", "decoder.").replace("_enc.", "_dec.") for name in missing}

    # Hooks of Lightning.

    def forward(self, image: Tensor, **arguments: Tensor) -> Reconstruction:
        """See `MaskedAutoencoder.forward`."""
        result: Reconstruction = self.model(image, **arguments)
        return result

    def training_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Loss of a batch.

        Raises:
            ConfigError: The crops are not whole patches.
            DataError: The loss is not finite.
        """
        image = batch["image"]
        self._check_units(batch)
        loss = self.model(image, batch.get("valid"), **self.coordinates(batch)).loss
        self.log("train_loss", loss, batch_size=len(image), prog_bar=True)
        check_loss(loss, image, batch.get("name"), self.global_step)
        return loss

    def on_train_epoch_end(self) -> None:
        """Nothing to do: training has no scores but its loss."""

    def finish_scores(
        self, metrics: MetricCollection, prefix: str, mean_loss: LabelledMean | None = None
    ) -> None:
        """As in `ScoredTask`; the loss is also one of the `scores`."""
        loss = None if mean_loss is None else mean_loss.compute()
        super().finish_scores(metrics, prefix, mean_loss)
        if loss is not None and not self.trainer.sanity_checking:
            self.scores = {"loss": loss, **self.scores}

    def scored_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Height and width of the part of a chip that validation and test score, for those of the chip."""
        images = [side * self.backbone.patch_size for side in self._image_size(size)]
        return tuple(
            side // image * image if image else side for side, image in zip(size, images, strict=True)
        )

    def _image_size(self, size: Sequence[int]) -> list[int]:
        """Height and width, in patches, of the images that a chip is cut into."""
        return [min(self.hparams["window"], side) // self.backbone.patch_size for side in size]

    def _evaluate(
        self, batch: Any, place: str, metrics: MetricCollection, mean_loss: LabelledMean
    ) -> dict[str, Tensor]:
        image = batch["image"] if batch["image"].ndim == 5 else batch["image"].unsqueeze(1)
        valid = batch.get("valid", torch.ones_like(image, dtype=torch.bool)).reshape(image.shape)
        self._check_units(batch)
        names = batch.get("name") or [f"{place}, {number}" for number in range(len(image))]
        sides = self._image_size(image.shape[-2:])
        if not all(sides):
            raise ConfigError(
                f"window: {self.hparams['window']} pixels of a chip of {image.shape[-2]} x {image.shape[-1]} have no "
                f"whole patch of {self.backbone.patch_size}"
            )
        images, known = (
            cut(one, [side * self.backbone.patch_size for side in sides]) for one in (image, valid)
        )
        count = len(images) // len(image)
        noise = self._noise(names, (count, image.shape[1] * sides[0] * sides[1])).to(image.device)
        coordinates = {
            key: value.repeat_interleave(count, dim=0) for key, value in self.coordinates(batch).items()
        }
        parts = []
        for part in torch.arange(len(images), device=image.device).split(self.hparams["window_batch_size"]):
            further = {key: value[part] for key, value in coordinates.items()}
            result = self.model(images[part], known[part], noise[part], **further)
            check_logits(result.prediction, images[part], [names[k // count] for k in part.tolist()], place)
            mean_loss.update(result.loss, result.counted.sum())
            parts.append(self.model.reconstruct(images[part], result, known[part]))
        prediction = join(torch.cat(parts), image)
        labels = self.decode(image).where(valid & ~prediction.isnan(), float("nan"))
        self.update_metrics(metrics, self.decode(prediction).flatten(0, 1), labels.flatten(0, 1))
        return {"prediction": prediction}

    def _noise(self, names: Sequence[str], shape: tuple[int, int]) -> Tensor:
        """The noise of the masks of chips (B * count, L), for `shape` (count, L), on the CPU."""
        seeds = [zlib.crc32(f"{self.hparams['mask_seed']} {name}".encode()) for name in names]
        return torch.cat([torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def cut(image: Tensor, sides: Sequence[int]) -> Tensor:
    """Cut images (B, T, C, H, W) into as many of a height and width as fit, (B*n*m, T, C, h, w), without the rest."""
    (height, width), (rows, columns) = sides, image.shape[-2:]
    inside = image[..., : rows // height * height, : columns // width * width]
    return rearrange(inside, "b t c (n h) (m w) -> (b n m) t c h w", h=height, w=width)


def join(parts: Tensor, like: Tensor) -> Tensor:
    """Images of the shape of `like` from the result of `cut`; NaN in the rest."""
    rows, columns = (side // part for side, part in zip(like.shape[-2:], parts.shape[-2:], strict=True))
    joined = rearrange(parts, "(b n m) t c h w -> b t c (n h) (m w)", n=rows, m=columns)
    rest = [side - part for side, part in zip(like.shape[-2:], joined.shape[-2:], strict=True)]
    return F.pad(joined, (0, rest[1], 0, rest[0]), value=float("nan"))
