"""PrithviSegmentationTask: fine-tune an encoder, Prithvi by default, for semantic segmentation."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..compat import SemanticSegmentationTask
from ..models import EncoderDecoder
from .calibration_metrics import CalibrationBins, expected_calibration_error
from .classes import ClassTask
from .losses import create_loss
from .metrics import ConfusionMatrix, segmentation_scores
from .pixelwise import PixelwiseTask


class PrithviSegmentationTask(ClassTask, PixelwiseTask, SemanticSegmentationTask):
    """TorchGeo's semantic segmentation task with a Prithvi or other encoder, trained as in hls-foundation-os.

    To change one thing, subclass and override one method: `configure_models`, `configure_losses`,
    `configure_metrics`, `add_metrics`, `create_optimizer` or `create_schedule`.

    Args:
        num_classes: Number of classes; the command line takes it from the data.
        class_names: Name of each class, if the data module does not provide them.
        loss: A name in `prithvi_tg.tasks.losses.LOSSES`, such as ``ce``, ``dice``, ``focal`` or ``lovasz``, or
            the path of a class; both heads use it.
        class_weights: One factor per class, for ``ce`` and ``focal``.
        lr: Highest learning rate.
        warmup_steps: Steps of linear warm-up of the schedule ``poly``; its rate falls linearly to 0 over the whole
            run, also during the warm-up.
        monitor: Logged metric that selects the best checkpoint. Losses are minimised and other metrics maximised,
            except for scores of `add_metrics` that define ``higher_is_better``.
    """

    counts = ("confusion_matrix",)
    headlines = ("mIoU",)
    records = ("calibration", "calibrated")
    target_kind = "classes"

    # Not stored in checkpoints: the source of the first weights, and arguments that only TorchGeo's task uses.
    ignore = (
        "weights",
        "model",
        "backbone",
        "in_channels",
        "task",
        "num_labels",
        "num_outputs",
        "labels",
        "num_filters",
        "pos_weight",
        "ignore_index",
        "patience",
        "freeze_backbone",
        "freeze_decoder",
    )
    model: EncoderDecoder

    def __init__(
        self,
        *args: Any,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        loss: str = "ce",
        class_weights: Sequence[float] | None = None,
        lr: float = 1.5e-5,
        warmup_steps: int = 1500,
        monitor: str = "val_mIoU",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, lr=lr, warmup_steps=warmup_steps, monitor=monitor, **kwargs)

    # Methods to override in a subclass.

    def configure_losses(self) -> None:
        """Set `criterion`, called with logits (B, K, H, W) and labels (B, H, W)."""
        self.criterion = create_loss(self.hparams["loss"], self.class_weights)

    def configure_metrics(self) -> None:
        """Set the metrics of training, validation and test: a confusion matrix, and those of `add_metrics`.

        Validation and test also count pixels by confidence, with a temperature also by calibrated confidence.
        """
        evaluated = {"calibration": CalibrationBins()}
        if self.calibration is not None:
            evaluated["calibrated"] = CalibrationBins(self.calibration.temperature)
        self.set_metrics({"confusion_matrix": ConfusionMatrix(self.num_classes)}, evaluated)

    def decode(self, outputs: Tensor) -> Tensor:
        """The class with the highest logit (B, H, W)."""
        return outputs.argmax(dim=1)

    def compute_scores(self, computed: dict[str, Any]) -> dict[str, Tensor]:
        """See `segmentation_scores`; and the expected calibration error, with a temperature also the calibrated one."""
        names = {"calibration": "ECE", "calibrated": "ECE_calibrated"}
        errors = {
            score: expected_calibration_error(computed[name])
            for name, score in names.items()
            if name in computed
        }
        return segmentation_scores(computed["confusion_matrix"]) | errors

    # Hooks of Lightning.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the class of the task, and the confusion matrix of an unfinished training epoch."""
        super().on_save_checkpoint(checkpoint)
        if self.attached_trainer is not None and (matrix := self._train_confusion) is not None:
            counts = matrix.confmat.clone()
            checkpoint["train_confusion"] = self.trainer.strategy.reduce(counts, reduce_op="sum").cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the confusion matrix of an unfinished training epoch."""
        counts, matrix = checkpoint.get("train_confusion"), self._train_confusion
        if counts is not None and matrix is not None and self.global_rank == 0:
            matrix.confmat += counts.to(matrix.confmat)
        super().on_load_checkpoint(checkpoint)

    @property
    def _train_confusion(self) -> Any:
        """The confusion matrix of the training epoch; ``None`` if a subclass has replaced it."""
        metrics = self.train_metrics
        return metrics["confusion_matrix"] if "confusion_matrix" in metrics.keys() else None  # noqa: SIM118
