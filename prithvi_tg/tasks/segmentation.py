"""PrithviSegmentationTask: fine-tune a Prithvi encoder for semantic segmentation."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from ..bands import PRITHVI_BANDS
from ..checkpoints import find_weights, load_weights
from ..compat import SemanticSegmentationTask
from ..errors import ConfigError
from ..models import (
    ConvTransposeNeck,
    EncoderDecoder,
    FCNHead,
    GeospatialNeck,
    IdentityNeck,
    PrithviViT,
    PyramidNeck,
    cached_weights,
    create_encoder,
    slide_inference,
)
from ..models.lora import add_lora
from .base import PrithviTask
from .data_checks import check_logits, check_loss
from .losses import LabelledMean, create_loss
from .metrics import ConfusionMatrix, score_log, segmentation_scores
from .monitoring import log_scores


class PrithviSegmentationTask(PrithviTask, SemanticSegmentationTask):
    """TorchGeo's semantic segmentation task with a Prithvi encoder, and the recipe of hls-foundation-os.

    To change one thing, subclass and override one method: `configure_models`, `configure_losses`,
    `configure_metrics`, `create_optimizer` or `create_schedule`.

    Args:
        encoder: A name in `prithvi_tg.models.VARIANTS`.
        encoder_args: Fields of the variant to change, such as ``{depth: 6, num_heads: 8}``.
        weights: Pre-trained weights for the encoder: a path, ``hf://OWNER/REPOSITORY/FILE``, or the name of a
            published encoder; ``None`` trains from random ones.
        truncate_depth: Accept `weights` with more blocks than the encoder, and load the first ones.
        allow_new_bands: Accept bands that `weights` were not trained on; they start from random weights.
        freeze_encoder: Train the decoder only.
        unfreeze_epoch: With `freeze_encoder`, train the encoder too from this epoch on, counted from 0.
        lora_rank: Rank of low-rank adapters on the attention of the encoder, which is otherwise frozen; 0 for
            none. Needs ``pip install prithvi_tg[lora]``.
        layer_decay: Factor of the learning rate from each block of the encoder to the one before it.
        drop_path: Highest stochastic depth rate of the encoder.
        gradient_checkpointing: Recompute the encoder's blocks in the backward pass: less memory, more time.
        decoder: The published ``conv_transpose`` or ``geospatial`` neck; ``linear``, a linear probe; or
            ``unet``, ``fpn``, ``upernet``, ``segformer`` or ``dpt`` of segmentation_models_pytorch.
        head_channels: Channels of the heads' convolutions, or of the library's decoder.
        auxiliary_weight: Weight of the auxiliary head's loss; 0 leaves that head out. Only the published
            necks have one.
        fuse: Compute the published ``conv_transpose`` decoder in a fused form in less than half the time; the
            logits are the same up to rounding. False computes layer by layer.
        compile: Compile the encoder with ``torch.compile``; the results are the same up to rounding. Not kept
            in checkpoints.
        bands: Bands of a frame, by name; the command line takes them from the data.
        num_frames: Dates in a sample; the command line takes it from the data.
        num_classes: Number of classes; the command line takes it from the data.
        class_names: Name of each class, if the data module does not provide them.
        loss: ``ce``, ``dice``, ``dice_legacy``, ``focal`` or ``lovasz``; used for both heads.
        class_weights: Factor per class, for ``ce`` and ``focal``.
        optimizer: ``adamw``, or ``adam`` (whose weight decay is an L2 penalty).
        lr: Highest learning rate.
        weight_decay: Weight decay.
        warmup_steps: Steps of linear warm-up; the rate falls linearly to 0 over the whole run.
        monitor: Logged metric that names the best checkpoint; losses are minimised, all else maximised.
        window: Side of the sliding window in validation, test and maps, in pixels.
        stride: Pixels from one window to the next; by default half a window.
        data_spec: Bands, statistics and classes of the training data, as `DataSpec.to_dict` gives them. A fit
            takes them from its data module; they are kept in checkpoints, which so can map scenes on their own.
    """

    # Not kept in checkpoints: where the first weights came from, whether a run was compiled, and what only
    # TorchGeo's task takes.
    ignore = (
        "weights",
        "compile",
        "model",
        "backbone",
        "in_channels",
        "task",
        "num_labels",
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
        decoder: Literal[
            "conv_transpose", "geospatial", "linear", "unet", "fpn", "upernet", "segformer", "dpt"
        ] = "conv_transpose",
        head_channels: int = 256,
        auxiliary_weight: float = 1.0,
        fuse: bool = True,
        compile: bool = False,
        bands: Sequence[str] = PRITHVI_BANDS,
        num_frames: int = 1,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        loss: Literal["ce", "dice", "dice_legacy", "focal", "lovasz"] = "ce",
        class_weights: Sequence[float] | None = None,
        optimizer: Literal["adamw", "adam"] = "adamw",
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
        self.val_loss = LabelledMean()
        self.test_loss = LabelledMean()
        if compile:
            self.model.encoder.compile()

    # What a subclass may change.

    def configure_models(self) -> None:
        """Build `model`: encoder, neck and heads; load the pre-trained weights.

        Raises:
            ConfigError: Settings contradict each other.
            CheckpointError: The weights do not fit the encoder.
        """
        hparams = self.hparams
        encoder = create_encoder(
            hparams["encoder"],
            hparams["drop_path"],
            hparams["gradient_checkpointing"],
            **{"num_bands": len(hparams["bands"]), **(hparams["encoder_args"] or {})},
        )
        if self.weights is not None:
            report = load_weights(
                encoder,
                find_weights(self.weights),
                truncate_depth=hparams["truncate_depth"],
                bands=hparams["bands"],
                allow_new_bands=hparams["allow_new_bands"],
            )
            rank_zero_info(f"weights: {report}")
        if hparams["lora_rank"]:
            if hparams["freeze_encoder"]:
                raise ConfigError(
                    "lora_rank: adapters cannot train in a frozen encoder; remove freeze_encoder"
                )
            add_lora(encoder, hparams["lora_rank"])
        neck = self._create_neck(encoder)
        published = isinstance(neck, ConvTransposeNeck | GeospatialNeck)
        width, classes = hparams["head_channels"], self.num_classes
        decode_head = FCNHead(neck.out_channels, classes, width, num_convs=1 if published else 0)
        auxiliary_head = None
        if published and hparams["auxiliary_weight"]:
            auxiliary_head = FCNHead(neck.out_channels, classes, width, num_convs=2)
        self.model = EncoderDecoder(
            encoder, neck, decode_head, auxiliary_head, hparams["freeze_encoder"], hparams["fuse"]
        )

    def _create_neck(
        self, encoder: PrithviViT
    ) -> ConvTransposeNeck | GeospatialNeck | IdentityNeck | PyramidNeck:
        channels = encoder.width * self.hparams["num_frames"]
        name = self.hparams["decoder"]
        if name == "conv_transpose":
            return ConvTransposeNeck(channels)
        if name == "geospatial":
            return GeospatialNeck(channels)
        if name == "linear":
            return IdentityNeck(channels)
        return PyramidNeck(name, channels, len(encoder.blocks), self.hparams["head_channels"])

    def configure_losses(self) -> None:
        """Set `criterion`, called with logits (B, K, H, W) and labels (B, H, W)."""
        weights = self.hparams["class_weights"]
        if weights is not None and len(weights) != self.num_classes:
            raise ConfigError(f"class_weights: {len(weights)} weights for {self.num_classes} classes")
        self.criterion = create_loss(self.hparams["loss"], weights)

    def configure_metrics(self) -> None:
        """Set the confusion matrices of training, validation and test."""
        self.train_metrics = ConfusionMatrix(self.num_classes)
        self.val_metrics = ConfusionMatrix(self.num_classes)
        self.test_metrics = ConfusionMatrix(self.num_classes)

    # What Lightning calls.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say which class can read the checkpoint, and keep what was counted of a training epoch."""
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.train_metrics, ConfusionMatrix) and self._trainer is not None:
            counts = self.train_metrics.confmat.clone()
            checkpoint["train_confusion"] = self.trainer.strategy.reduce(counts, reduce_op="sum").cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting where the checkpoint stopped."""
        counts = checkpoint.get("train_confusion")
        if counts is not None and isinstance(self.train_metrics, ConfusionMatrix) and self.global_rank == 0:
            self.train_metrics.confmat += counts.to(self.train_metrics.confmat)
        super().on_load_checkpoint(checkpoint)

    def forward(
        self, image: Tensor, core_window: tuple[int, int, int, int] | None = None, **coordinates: Tensor
    ) -> Tensor:
        """Logits (B, K, H, W) of normalised images (B, T, C, H, W) or (B, C, H, W), in one window.

        With `core_window`, only of the pixels between a top, left, bottom and right.
        """
        if core_window is None:
            return self.model(image, **coordinates)
        if isinstance(self.model, EncoderDecoder):
            return self.model(image, core_window, **coordinates)
        top, left, bottom, right = core_window
        return self.model(image, **coordinates)[..., top:bottom, left:right]

    def forward_windows(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Logits (B, K, H, W) of normalised images of any size, by sliding windows."""
        window = self.hparams["window"]
        stride = self.hparams["stride"] or window // 2
        with cached_weights():
            return slide_inference(self, image, window, stride, coordinates=coordinates)

    def training_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Loss of the decode head, plus the weighted loss of the auxiliary head.

        Raises:
            DataError: The loss is not finite.
        """
        image, mask = batch["image"], batch["mask"]
        if not self._units_judged:
            self._judge_units(image)
        logits, auxiliary = self.model.forward_both(image, **self.coordinates(batch))
        loss: Tensor = self.criterion(logits, mask)
        self.train_metrics.update(logits.detach().argmax(dim=1), mask)
        if auxiliary is not None:
            decode_loss = loss
            auxiliary_loss = self.criterion(auxiliary, mask)
            loss = decode_loss + self.hparams["auxiliary_weight"] * auxiliary_loss
            parts = {"train_loss_decode": decode_loss, "train_loss_auxiliary": auxiliary_loss}
            self.log_dict(parts, batch_size=len(image))
        self.log("train_loss", loss, batch_size=len(image), prog_bar=True)
        check_loss(loss, image, batch.get("name"), self.global_step)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log every metric of the epoch's training crops."""
        self._finish(self.train_metrics, "train")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Count the pixels of a batch and its loss; ``prediction`` (B, H, W) is for callbacks.

        Raises:
            DataError: Logits are not finite.
        """
        place = f"validation, batch {batch_idx}"
        return self._evaluate(batch, place, self.val_metrics, self.val_loss)

    def on_validation_epoch_end(self) -> None:
        """Log loss and every metric of the whole validation set."""
        self._finish(self.val_metrics, "val", self.val_loss)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Count the pixels of a batch and its loss; ``prediction`` (B, H, W) is for callbacks.

        Raises:
            DataError: Logits are not finite.
        """
        return self._evaluate(batch, f"test, batch {batch_idx}", self.test_metrics, self.test_loss)

    def on_test_epoch_end(self) -> None:
        """Log loss and every metric of the whole test set."""
        self._finish(self.test_metrics, "test", self.test_loss)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Logits (B, K, H, W) of a batch of normalised images of any size.

        A batch of windows of scenes, see `WindowStream`, is not cut any further, and of its windows only the
        part that is kept has logits.
        """
        in_run = self._trainer is not None and self.trainer.predicting
        with cached_weights(self._predict_cache if in_run else None):
            if "events" not in batch:
                return self.forward_windows(batch["image"], **self.coordinates(batch))
            core_window = {"core_window": batch["core_window"]} if "core_window" in batch else {}
            return self(batch["image"], **core_window, **self.coordinates(batch))

    def _evaluate(
        self, batch: Any, place: str, metrics: ConfusionMatrix, mean_loss: LabelledMean
    ) -> dict[str, Tensor]:
        image, mask = batch["image"], batch["mask"]
        fits = self._trainer is None or self.trainer.state.fn == TrainerFn.FITTING
        if not (fits or self._units_judged):
            self._judge_units(image)
        logits = self.forward_windows(image, **self.coordinates(batch))
        check_logits(logits, image, batch.get("name"), place)
        prediction = logits.argmax(dim=1)
        metrics.update(prediction, mask)
        # Chip by chip, so that the mean over labelled pixels does not depend on the size of a batch.
        for one, labels in zip(logits.split(1), mask.split(1), strict=True):
            mean_loss.update(self.criterion(one, labels), labels)
        return {"prediction": prediction}

    def _finish(self, metrics: ConfusionMatrix, prefix: str, mean_loss: LabelledMean | None = None) -> None:
        confusion = metrics.compute()
        scores = segmentation_scores(confusion)
        log_scores(self, score_log(scores, self.class_names, prefix))
        if mean_loss is not None:
            self.log(f"{prefix}_loss", mean_loss.compute())  # over all processes
        # A trainer's test runs in inference mode, whose tensors a later fit could not count in.
        with torch.inference_mode(False):
            metrics.reset()
            if mean_loss is not None:
                mean_loss.reset()
        if prefix != "train" and not self.trainer.sanity_checking:
            self.confusion, self.scores = confusion, scores  # of the last validation or test, for reports
