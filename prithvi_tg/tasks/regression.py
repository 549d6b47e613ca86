"""PrithviPixelwiseRegressionTask: fine-tune an encoder to predict values of pixels, such as biomass or height."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from ..bands import PRITHVI_BANDS
from ..compat import PixelwiseRegressionTask
from ..errors import ConfigError
from ..targets import ValueTarget
from .losses import LabelledMean
from .pixelwise import PixelwiseTask
from .segmentation import PrithviSegmentationTask
from .value_losses import create_value_loss
from .value_metrics import ValueDensity, ValueErrors, value_scores


class PrithviPixelwiseRegressionTask(PixelwiseTask, PixelwiseRegressionTask):
    """TorchGeo's pixelwise regression task with a foundation encoder, for one value of each pixel or several.

    The model gives standardised values, (value - mean) / std with the statistics of its `ValueTarget`; scores,
    predictions and maps are in the unit. Labels are float32 (B, H, W), or (B, V, H, W), NaN = not labelled.

    Logged scores: ``val_RMSE``, ``val_MAE``, ``val_bias`` and ``val_R2``; with several values one of each by its name,
    ``val_RMSE_biomass``, and the mean of R2, ``val_mR2``.

    To change one thing, subclass and override one method, as of `PrithviSegmentationTask`.

    Args:
        encoder: See `PrithviSegmentationTask`, as for all that is not described here.
        encoder_args: See `PrithviSegmentationTask`.
        weights: See `PrithviSegmentationTask`.
        truncate_depth: See `PrithviSegmentationTask`.
        allow_new_bands: See `PrithviSegmentationTask`.
        freeze_encoder: See `PrithviSegmentationTask`.
        unfreeze_epoch: See `PrithviSegmentationTask`.
        lora_rank: See `PrithviSegmentationTask`.
        layer_decay: See `PrithviSegmentationTask`.
        drop_path: See `PrithviSegmentationTask`.
        gradient_checkpointing: See `PrithviSegmentationTask`.
        decoder: See `PrithviSegmentationTask`.
        decoder_args: See `PrithviSegmentationTask`.
        head_channels: See `PrithviSegmentationTask`.
        auxiliary_weight: See `PrithviSegmentationTask`.
        fuse: See `PrithviSegmentationTask`.
        compile: See `PrithviSegmentationTask`.
        bands: See `PrithviSegmentationTask`.
        num_frames: See `PrithviSegmentationTask`.
        num_outputs: Number of values; the command line takes it from the data.
        loss: A name in `prithvi_tg.tasks.value_losses.VALUE_LOSSES`: ``mse``, ``mae``, ``huber``; or the path of a
            class.
        optimizer: See `PrithviSegmentationTask`.
        optimizer_args: See `PrithviSegmentationTask`.
        schedule: See `PrithviSegmentationTask`.
        schedule_args: See `PrithviSegmentationTask`.
        lr: Highest learning rate.
        weight_decay: Weight decay.
        warmup_steps: See `PrithviSegmentationTask`.
        monitor: Logged metric that names the best checkpoint; R2 is maximised, all else minimised.
        window: Side of the sliding window in validation, test and maps, in pixels.
        stride: Pixels from one window to the next; by default half a window.
        data_spec: Bands, statistics and values of the training data, as `DataSpec.to_dict` gives them.
    """

    counts = ("errors", "density")
    target_kind = "values"
    ignore = (*(key for key in PrithviSegmentationTask.ignore if key != "num_outputs"), "num_classes")

    def __init__(
        self,
        encoder: str = "prithvi_eo_v1_100m",
        encoder_args: dict[str, Any] | None = None,
        weights: str | None = None,
        truncate_depth: bool = False,
        allow_new_bands: bool = False,
        freeze_encoder: bool = False,
        unfreeze_epoch: int | None = None,
        lora_rank: int = 0,
        layer_decay: float = 1.0,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
        decoder: str = "conv_transpose",
        decoder_args: dict[str, Any] | None = None,
        head_channels: int = 256,
        auxiliary_weight: float = 0.0,
        fuse: bool = True,
        compile: bool = False,
        bands: Sequence[str] = PRITHVI_BANDS,
        num_frames: int = 1,
        num_outputs: int | None = None,
        loss: str = "mse",
        optimizer: str = "adamw",
        optimizer_args: dict[str, Any] | None = None,
        schedule: str = "poly",
        schedule_args: dict[str, Any] | None = None,
        lr: float = 1e-4,
        weight_decay: float = 0.05,
        warmup_steps: int = 500,
        monitor: str = "val_loss",
        window: int = 224,
        stride: int | None = None,
        data_spec: dict[str, Any] | None = None,
    ) -> None:
        self.monitor = monitor
        self.mode = "max" if "R2" in monitor else "min"
        super().__init__(weights=weights)
        self.val_loss, self.test_loss = LabelledMean(), LabelledMean()
        if compile:
            self.compile_model()

    @property
    def target(self) -> ValueTarget:
        """The values; standardised ones without names and units where nothing describes the data.

        Raises:
            ConfigError: The data have another kind of target.
        """
        spec = self.data_spec or self._run_spec
        if spec is None:
            return ValueTarget(tuple(f"value_{k}" for k in range(self.hparams["num_outputs"] or 1)))
        if not isinstance(spec.target, ValueTarget):
            raise ConfigError(
                f"data: its labels are {spec.target.kind}; {type(self).__name__} needs values, such as those of "
                "ValueChipFolderDataModule"
            )
        return spec.target

    @property
    def num_outputs(self) -> int:
        """Number of values."""
        return self.target.num_outputs

    @property
    def output_names(self) -> list[str]:
        """Names of the values."""
        return list(self.target.names)

    # What a subclass may change.

    def configure_losses(self) -> None:
        """Set `criterion`, called with standardised outputs and labels (B, V, H, W)."""
        self.criterion = create_value_loss(self.hparams["loss"])

    def configure_metrics(self) -> None:
        """Set the metrics of training, validation and test: errors, their density, and those of `add_metrics`."""
        self.set_metrics({"errors": ValueErrors(self.target), "density": ValueDensity(self.target)})

    def is_labelled(self, labels: Tensor) -> Tensor:
        """Which labels are values."""
        return ~labels.isnan()

    def encode(self, labels: Tensor) -> Tensor:
        """Standardised labels (B, V, H, W) of labels in the unit (B, H, W) or (B, V, H, W)."""
        mean, std = self._statistics(labels)
        return (self.to_layers(labels).float() - mean) / std

    def decode(self, outputs: Tensor) -> Tensor:
        """Values in the unit (B, H, W), or (B, V, H, W) for several, of standardised outputs."""
        values = self.to_unit(outputs)
        return values[:, 0] if values.shape[1] == 1 else values

    def to_unit(self, outputs: Tensor) -> Tensor:
        """Standardised outputs (B, V, H, W) in the unit."""
        mean, std = self._statistics(outputs)
        return outputs.float() * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        target = self.target
        mean, std = (
            like.new_tensor(values, dtype=torch.float32).reshape(-1, 1, 1)
            for values in (target.mean, target.std)
        )
        return mean, std

    @staticmethod
    def to_layers(labels: Tensor) -> Tensor:
        """Labels (B, V, H, W) of labels (B, H, W) or (B, V, H, W)."""
        return labels.unsqueeze(1) if labels.ndim == 3 else labels

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, labels: Tensor) -> None:
        """Count values in the unit (B, V, H, W)."""
        metrics.update(self.to_unit(outputs), self.to_layers(labels))

    def compute_scores(self, computed: dict[str, Any]) -> dict[str, Tensor]:
        """See `value_scores`; scalars for one value."""
        scores = value_scores(computed["errors"])
        if self.num_outputs > 1:
            return scores
        return {name: values.reshape(()) for name, values in scores.items() if name != "mR2"}
