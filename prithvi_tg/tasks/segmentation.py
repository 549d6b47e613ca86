"""PrithviSegmentationTask: fine-tune an encoder, Prithvi by default, for semantic segmentation."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..bands import PRITHVI_BANDS
from ..compat import SemanticSegmentationTask
from ..errors import ConfigError
from ..models import EncoderDecoder
from ..targets import IGNORE_INDEX
from .losses import LabelledMean, create_loss
from .metrics import ConfusionMatrix, segmentation_scores
from .pixelwise import PixelwiseTask


class PrithviSegmentationTask(PixelwiseTask, SemanticSegmentationTask):
    """TorchGeo's semantic segmentation task with a Prithvi or other encoder, and the recipe of hls-foundation-os.

    To change one thing, subclass and override one method: `configure_models`, `configure_losses`,
    `configure_metrics`, `add_metrics`, `create_optimizer` or `create_schedule`.

    Args:
        encoder: A name in `prithvi_tg.models.ENCODERS`; ``timm/NAME``, a backbone of timm; ``torchgeo/WEIGHTS.MEMBER``,
            the architecture of weights of TorchGeo; or the path of an `Encoder` class.
        encoder_args: Further arguments of the encoder; for Prithvi, fields of the variant to change, such as
            ``{depth: 6, num_heads: 8}``.
        weights: Pre-trained weights for the encoder: a path; ``pretrained`` for those published with it;
            ``hf://OWNER/REPOSITORY/FILE``; a URL; or the name of a published encoder. ``None`` trains from random ones.
        truncate_depth: Accept `weights` with more blocks than the encoder, and load the first ones.
        allow_new_bands: Accept bands that `weights` were not trained on; they start from random weights.
        freeze_encoder: Train the decoder only.
        unfreeze_epoch: With `freeze_encoder`, train the encoder too from this epoch on, counted from 0.
        lora_rank: Rank of low-rank adapters on the attention of the encoder, which is otherwise frozen; 0 for
            none. Needs ``pip install prithvi_tg[lora]``.
        layer_decay: Factor of the learning rate from each layer of the encoder to the one before it.
        drop_path: Highest stochastic depth rate of the encoder.
        gradient_checkpointing: Recompute the encoder's blocks in the backward pass: less memory, more time.
        decoder: A name in `prithvi_tg.models.DECODERS`: the published ``conv_transpose`` or ``geospatial`` neck, for
            ViTs; ``linear``, a linear probe; ``unet``, ``fpn``, ``upernet``, ``segformer`` or ``dpt`` (for ViTs) of
            segmentation_models_pytorch; or the path of a class, see `prithvi_tg.models.create_decoder`.
        decoder_args: Further arguments of the decoder.
        head_channels: Channels of the heads' convolutions, or of the library's decoder.
        auxiliary_weight: Weight of the auxiliary head's loss; 0 leaves that head out. Only the published
            necks have one.
        fuse: Compute the published ``conv_transpose`` decoder in a fused form in less than half the time; the
            logits are the same up to rounding. False computes layer by layer.
        compile: Compile encoder, neck and heads with ``torch.compile`` in fit, test and predict; the results are the
            same up to rounding. The first batches take a minute or more, less where torch's cache has the code.
            Worth it on a GPU; without a C++ compiler the model runs as it is.
        bands: Bands of a frame, by name; the command line takes them from the data.
        num_frames: Dates in a sample; the command line takes it from the data.
        num_classes: Number of classes; the command line takes it from the data.
        class_names: Name of each class, if the data module does not provide them.
        loss: A name in `prithvi_tg.tasks.losses.LOSSES`, such as ``ce``, ``dice``, ``focal`` or ``lovasz``, or
            the path of a class; used for both heads.
        class_weights: Factor per class, for ``ce`` and ``focal``.
        optimizer: ``adamw``, ``adam`` (whose weight decay is an L2 penalty), or the path of a class, such as
            ``torch.optim.SGD``.
        optimizer_args: Further arguments of the optimiser.
        schedule: A name in `prithvi_tg.tasks.schedules.SCHEDULES`, such as ``poly`` or ``constant``, or the path
            of a class of ``torch.optim.lr_scheduler``; stepped after each optimiser step.
        schedule_args: Arguments of the schedule.
        lr: Highest learning rate.
        weight_decay: Weight decay.
        warmup_steps: Steps of linear warm-up of the schedule ``poly``; its rate falls linearly to 0 over the run.
        monitor: Logged metric that names the best checkpoint; losses are minimised, all else maximised.
        window: Side of the sliding window in validation, test and maps, in pixels.
        stride: Pixels from one window to the next; by default half a window.
        data_spec: Bands, statistics and classes of the training data, as `DataSpec.to_dict` gives them. A fit
            takes them from its data module; checkpoints record them, so that a checkpoint alone can map scenes.
    """

    counts = ("confusion_matrix",)
    target_kind = "classes"

    # Not kept in checkpoints: where the first weights came from, and what only TorchGeo's task takes.
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
        auxiliary_weight: float = 1.0,
        fuse: bool = True,
        compile: bool = False,
        bands: Sequence[str] = PRITHVI_BANDS,
        num_frames: int = 1,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        loss: str = "ce",
        class_weights: Sequence[float] | None = None,
        optimizer: str = "adamw",
        optimizer_args: dict[str, Any] | None = None,
        schedule: str = "poly",
        schedule_args: dict[str, Any] | None = None,
        lr: float = 1.5e-5,
        weight_decay: float = 0.05,
        warmup_steps: int = 1500,
        monitor: str = "val_mIoU",
        window: int = 224,
        stride: int | None = None,
        data_spec: dict[str, Any] | None = None,
    ) -> None:
        self.monitor = monitor
        self.mode = "min" if "loss" in monitor else "max"
        super().__init__(weights=weights)
        self.val_loss, self.test_loss = LabelledMean(), LabelledMean()
        if compile:
            self.compile_model()

    # What a subclass may change.

    def configure_losses(self) -> None:
        """Set `criterion`, called with logits (B, K, H, W) and labels (B, H, W)."""
        weights = self.hparams["class_weights"]
        if weights is not None and len(weights) != self.num_classes:
            raise ConfigError(f"class_weights: {len(weights)} weights for {self.num_classes} classes")
        self.criterion = create_loss(self.hparams["loss"], weights)

    def configure_metrics(self) -> None:
        """Set the metrics of training, validation and test: a confusion matrix, and those of `add_metrics`."""
        self.set_metrics({"confusion_matrix": ConfusionMatrix(self.num_classes)})

    def is_labelled(self, labels: Tensor) -> Tensor:
        """Which labels are those of a class."""
        return labels != IGNORE_INDEX

    def decode(self, outputs: Tensor) -> Tensor:
        """The class of the highest logit (B, H, W)."""
        return outputs.argmax(dim=1)

    def compute_scores(self, computed: dict[str, Any]) -> dict[str, Tensor]:
        """See `segmentation_scores`."""
        return segmentation_scores(computed["confusion_matrix"])

    @property
    def num_classes(self) -> int:
        """Number of classes.

        Raises:
            ConfigError: Nothing tells it.
        """
        spec = self.data_spec
        names = self.hparams["class_names"] or (spec.target.names if spec else None)
        if names:
            return len(names)
        if self.hparams["num_classes"] is None:
            raise ConfigError(
                "num_classes: not known from the data module; set class_names, or num_classes in Python"
            )
        return int(self.hparams["num_classes"])

    @property
    def class_names(self) -> list[str]:
        """Class names: the task's own, those of its data or of the run's, or ``class_0`` and so on."""
        spec = self.data_spec or self._run_spec
        names = self.hparams["class_names"] or (spec.target.names if spec else None)
        return list(names or [f"class_{index}" for index in range(self.num_classes)])

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        return self.num_classes

    @property
    def output_names(self) -> list[str]:
        """Class names."""
        return self.class_names

    @property
    def confusion(self) -> Tensor:
        """Counts (K, K) of the last validation or test; rows are labels, columns are predictions."""
        confusion: Tensor = self.computed["confusion_matrix"]
        return confusion

    # What Lightning calls.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say which class can read the checkpoint, and keep what was counted of a training epoch."""
        super().on_save_checkpoint(checkpoint)
        if self.attached_trainer is not None and (matrix := self._train_confusion) is not None:
            counts = matrix.confmat.clone()
            checkpoint["train_confusion"] = self.trainer.strategy.reduce(counts, reduce_op="sum").cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue to count where the checkpoint stopped."""
        counts, matrix = checkpoint.get("train_confusion"), self._train_confusion
        if counts is not None and matrix is not None and self.global_rank == 0:
            matrix.confmat += counts.to(matrix.confmat)
        super().on_load_checkpoint(checkpoint)

    @property
    def _train_confusion(self) -> Any:
        """The confusion matrix of the training epoch; ``None`` if a subclass counts something else."""
        metrics = self.train_metrics
        return metrics["confusion_matrix"] if "confusion_matrix" in metrics.keys() else None  # noqa: SIM118
