"""PrithviClassificationTask: fine-tune an encoder to classify whole chips."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection

from ..compat import ClassificationTask
from ..models import ChipClassifier, cached_weights
from ..targets import ChipClassTarget
from .chip_losses import create_chip_loss
from .chip_metrics import chip_metrics, chip_scores
from .classes import ClassTask
from .data_checks import check_loss
from .own_losses import nan_cause
from .segmentation import PrithviSegmentationTask


class PrithviClassificationTask(ClassTask, ClassificationTask):
    """TorchGeo's classification task with a foundation encoder: one class per chip, or several (multi-label).

    Labels are int64 (B,), 255 = not labelled; or, for several classes, (B, K) of 0 and 1. The model returns logits
    (B, K). The data module determines whether chips have one class or several.

    Logged scores: ``val_OA``, overall accuracy; ``val_BA``, balanced accuracy, the mean recall; ``val_mF1`` and
    ``val_mAP``, means over classes of F1 and average precision; and for each class ``val_Recall_NAME``,
    ``val_Precision_NAME``, ``val_F1_NAME`` and ``val_AP_NAME``; see `prithvi_tg.tasks.chip_metrics.chip_scores`.

    To change one thing, subclass and override one method, as for `PrithviSegmentationTask`.

    Args:
        pooling: A name in `prithvi_tg.models.POOLINGS`: ``mean``, the mean of all patches and dates; ``cls``, the class
            token; or ``attention`` with a learnt query; or the path of a class.
        num_classes: Number of classes; the command line takes it from the data.
        class_names: Name of each class, if the data module does not provide them.
        multilabel: Whether chips can have several classes, if the data module does not define it.
        loss: A name in `prithvi_tg.tasks.chip_losses.CHIP_LOSSES`, or the path of a class; by default ``ce`` for one
            class per chip and ``bce`` for several.
        class_weights: One factor per class.
        monitor: Logged metric that selects the best checkpoint; losses are minimised, other metrics maximised.
    """

    counts = ("confusion_matrix", "average_precision")
    target_kind = "chip_classes"
    headlines = ("mF1", "OA")
    label_key = "label"
    ignore = PrithviSegmentationTask.ignore
    model: ChipClassifier

    def __init__(
        self,
        *args: Any,
        pooling: str = "mean",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        multilabel: bool = False,
        loss: str | None = None,
        class_weights: Sequence[float] | None = None,
        monitor: str = "val_mF1",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, monitor=monitor, **kwargs)

    @property
    def multilabel(self) -> bool:
        """Whether chips can have several classes."""
        spec = self._run_spec or self.data_spec
        if spec is not None and isinstance(spec.target, ChipClassTarget):
            return spec.target.multilabel
        return bool(self.hparams["multilabel"])

    # Methods to override in a subclass.

    def configure_models(self) -> None:
        """Create `model` from encoder, pooling and head, and load the pre-trained weights.

        Raises:
            ConfigError: Settings contradict each other.
            CheckpointError: The weights do not fit the encoder.
        """
        encoder, hparams = self.create_encoder(), self.hparams
        self.model = ChipClassifier(
            encoder, encoder.embed_dim, self.num_classes, hparams["pooling"], hparams["freeze_encoder"]
        )

    def configure_losses(self) -> None:
        """Set `criterion`, called with logits (B, K) and labels (B,) or (B, K)."""
        self.criterion = create_chip_loss(self.hparams["loss"], self.multilabel, self.class_weights)

    def configure_metrics(self) -> None:
        """Set the metrics of training, validation and test, updated with probabilities (B, K) and labels."""
        self.set_metrics(chip_metrics(self.num_classes, self.multilabel))

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Probabilities (B, K) from logits, by softmax; with several classes per chip, by a sigmoid for each class."""
        return outputs.float().sigmoid() if self.multilabel else outputs.float().softmax(dim=1)

    def decode(self, outputs: Tensor) -> Tensor:
        """Classes (B,) from logits (B, K); with several classes, (B, K), 1 where the probability is above 0.5."""
        return (outputs > 0).long() if self.multilabel else outputs.argmax(dim=1)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, labels: Tensor) -> None:
        """Add a batch of logits (B, K) and labels."""
        metrics.update(self.probabilities(outputs), labels)

    def compute_scores(self, computed: dict[str, Any]) -> dict[str, Tensor]:
        """See `chip_scores`."""
        return chip_scores(computed["confusion_matrix"], computed["average_precision"])

    # Hooks of Lightning.

    def setup(self, stage: str) -> None:
        """Compare the data module's description of the data with the model, and set the loss for its labels.

        Raises:
            ConfigError: The data do not match the model.
        """
        super().setup(stage)
        self.configure_losses()

    def forward(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Logits (B, K) for normalised images (B, T, C, H, W) or (B, C, H, W) of any size."""
        logits: Tensor = self.model(image, **coordinates)
        return logits

    def forward_evaluation(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """As `forward`."""
        return self(image, **coordinates)

    def training_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Loss of a batch.

        Raises:
            DataError: The loss is not finite.
        """
        image, label = batch["image"], batch["label"]
        self._check_units(batch)
        logits = self(image, **self.coordinates(batch))
        loss = self.compute_loss(logits, label)
        self.update_metrics(self.train_metrics, logits.detach(), label)
        self.log("train_loss", loss, batch_size=len(image), prog_bar=True)
        cause = partial(nan_cause, self.criterion, logits, label)
        check_loss(loss, image, batch.get("name"), self.global_step, cause)
        return loss

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Probabilities (B, K) of a batch of normalised images, as TorchGeo's task returns them."""
        in_run = self.attached_trainer is not None and self.trainer.predicting
        with cached_weights(self._predict_cache if in_run else None):
            return self.probabilities(self(batch["image"], **self.coordinates(batch)))
