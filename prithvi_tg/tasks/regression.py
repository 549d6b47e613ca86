"""PrithviPixelwiseRegressionTask: fine-tune an encoder to predict values of pixels, such as biomass or height."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from ..compat import PixelwiseRegressionTask
from ..targets import ValueTarget
from .data_checks import check_target
from .pixelwise import PixelwiseTask
from .segmentation import PrithviSegmentationTask
from .value_losses import create_value_loss
from .value_metrics import ValueDensity, ValueErrors, value_scores


class PrithviPixelwiseRegressionTask(PixelwiseTask, PixelwiseRegressionTask):
    """TorchGeo's pixelwise regression task with a foundation encoder, for one or several values per pixel.

    The model returns standardised values, (value - mean) / std with the statistics of its `ValueTarget`; scores,
    predictions and maps are in the unit. Labels are float32 (B, H, W), or (B, V, H, W), NaN = not labelled.

    Logged scores: ``val_RMSE``, ``val_MAE``, ``val_bias`` and ``val_R2``; with several values one of each per value,
    such as ``val_RMSE_biomass``, and the mean of R2, ``val_mR2``.

    To change one thing, subclass and override one method, as for `PrithviSegmentationTask`.

    Args:
        auxiliary_weight: Weight of the loss of the auxiliary head; 0 for no auxiliary head. Only the published
            necks have one.
        num_outputs: Number of values; the command line takes it from the data.
        loss: A name in `prithvi_tg.tasks.value_losses.VALUE_LOSSES`: ``mse``, ``mae``, ``huber``; or the path of a
            class.
        monitor: Logged metric that selects the best checkpoint. R2 is maximised and other metrics minimised, except
            for scores of `add_metrics` that define ``higher_is_better``.
    """

    counts = ("errors", "density")
    headlines = ("RMSE", "R2", "mR2")  # the mean, with several values
    target_kind = "values"
    ignore = (*(key for key in PrithviSegmentationTask.ignore if key != "num_outputs"), "num_classes")

    def __init__(
        self,
        *args: Any,
        auxiliary_weight: float = 0.0,
        num_outputs: int | None = None,
        loss: str = "mse",
        monitor: str = "val_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, auxiliary_weight=auxiliary_weight, monitor=monitor, **kwargs)

    def default_mode(self, monitor: str) -> str:
        """``max`` for R2, ``min`` for other metrics."""
        return "max" if "R2" in monitor else "min"

    @property
    def target(self) -> ValueTarget:
        """The values; without a description of the data, standardised values without names and units.

        Raises:
            ConfigError: The data have another kind of target.
        """
        spec = self.data_spec or self._run_spec
        if spec is None:
            return ValueTarget(tuple(f"value_{k}" for k in range(self.hparams["num_outputs"] or 1)))
        check_target(spec.target, self.target_kind, type(self).__name__)
        assert isinstance(spec.target, ValueTarget)
        return spec.target

    @property
    def num_outputs(self) -> int:
        """Number of values."""
        return self.target.num_outputs

    @property
    def output_names(self) -> list[str]:
        """Names of the values."""
        return list(self.target.names)

    # Methods to override in a subclass.

    def configure_losses(self) -> None:
        """Set `criterion`, called with standardised outputs and labels (B, V, H, W)."""
        self.criterion = create_value_loss(self.hparams["loss"])

    def configure_metrics(self) -> None:
        """Set the metrics of training, validation and test: errors, their density, and those of `add_metrics`."""
        self.set_metrics({"errors": ValueErrors(self.target), "density": ValueDensity(self.target)})

    def encode(self, labels: Tensor) -> Tensor:
        """Standardised labels (B, V, H, W) from labels in the unit (B, H, W) or (B, V, H, W)."""
        mean, std = self._statistics(labels)
        return (self.to_layers(labels).float() - mean) / std

    def decode(self, outputs: Tensor) -> Tensor:
        """Values in the unit (B, H, W), or (B, V, H, W) for several, from standardised outputs."""
        values = self.to_unit(outputs)
        return values[:, 0] if values.shape[1] == 1 else values

    def to_unit(self, outputs: Tensor) -> Tensor:
        """Convert standardised outputs (B, V, H, W) to the unit."""
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
        """Labels (B, V, H, W) from labels (B, H, W) or (B, V, H, W)."""
        return labels.unsqueeze(1) if labels.ndim == 3 else labels

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, labels: Tensor) -> None:
        """Add outputs and labels, as values in the unit.

        The task's own metrics get all pixels (B, V, H, W). Others get the labelled ones: (N,) for one value, else
        (N, V) of the pixels that have all values; they are not updated if there are none.
        """
        values, labels = self.to_unit(outputs), self.to_layers(labels)
        further = [metric for name, metric in metrics.items() if name not in self.counts]
        for name in self.counts:
            if name in metrics:
                metrics[name].update(values, labels)
        labelled = self.is_labelled(labels).all(dim=1)
        if further and labelled.any():
            pixels = [part.movedim(1, -1)[labelled].contiguous() for part in (values, labels)]
            for metric in further:
                metric.update(*(part.squeeze(1) for part in pixels))

    def compute_scores(self, computed: dict[str, Any]) -> dict[str, Tensor]:
        """See `value_scores`; scalars for one value."""
        scores = value_scores(computed["errors"])
        if self.num_outputs > 1:
            return scores
        return {name: values.reshape(()) for name, values in scores.items() if name != "mR2"}
