"""PrithviSegmentationTask: fine-tune a Prithvi encoder for semantic segmentation."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..bands import PRITHVI_BANDS
from ..checkpoints import find_weights, load_weights
from ..compat import SemanticSegmentationTask
from ..datamodules.resuming import ResumableLoader
from ..errors import ConfigError, DataError
from ..models import (
    ConvTransposeNeck,
    FCNHead,
    GeospatialNeck,
    PrithviSegmenter,
    PrithviViT,
    PyramidNeck,
    TokenMap,
    create_encoder,
    slide_inference,
)
from ..models.lora import add_lora
from ..processes import process_callbacks
from ..spec import DataSpec
from .losses import create_loss
from .metrics import ConfusionMatrix, score_log, segmentation_scores
from .monitoring import log_scores
from .schedules import poly_schedule


class PrithviSegmentationTask(SemanticSegmentationTask):
    """TorchGeo's semantic segmentation task with a Prithvi encoder, and the recipe of hls-foundation-os.

    To change one thing, subclass and override one method: `configure_models`, `configure_losses`,
    `configure_metrics`, `create_optimizer` or `create_schedule`.

    Args:
        encoder: A name in `prithvi_tg.models.VARIANTS`.
        encoder_args: Fields of the variant to change, such as ``{depth: 6, num_heads: 8}``.
        weights: Pre-trained weights for the encoder: a path, ``hf://OWNER/REPOSITORY/FILE``, or the name of a
            published encoder; ``None`` trains from random ones.
        first_blocks: Accept `weights` with more blocks than the encoder, and load the first ones.
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
        data_spec: Bands, statistics and classes of the data, as `DataSpec.to_dict` gives them. Taken from the
            data module when a run starts, and kept in checkpoints, so that they can map scenes on their own.
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
    model: PrithviSegmenter

    def __init__(
        self,
        encoder: str = "prithvi_eo_v1_100m",
        encoder_args: dict[str, Any] | None = None,
        weights: str | None = None,
        first_blocks: bool = False,
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
        self._loader_states: list[Any] = []
        self._units_judged = False
        self.monitor = monitor
        self.mode = "min" if "loss" in monitor else "max"
        super().__init__(weights=weights)
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
                first_blocks=hparams["first_blocks"],
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
        self.model = PrithviSegmenter(
            encoder, neck, decode_head, auxiliary_head, hparams["freeze_encoder"], hparams["fuse"]
        )

    def _create_neck(
        self, encoder: PrithviViT
    ) -> ConvTransposeNeck | GeospatialNeck | TokenMap | PyramidNeck:
        channels = encoder.width * self.hparams["num_frames"]
        name = self.hparams["decoder"]
        if name == "conv_transpose":
            return ConvTransposeNeck(channels)
        if name == "geospatial":
            return GeospatialNeck(channels)
        if name == "linear":
            return TokenMap(channels)
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

    def create_optimizer(self) -> Optimizer:
        """The optimiser over all parameters that are trained."""
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[self.hparams["optimizer"]]
        weight_decay = self.hparams["weight_decay"]
        return kind(self.parameter_groups(), lr=self.hparams["lr"], weight_decay=weight_decay)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters by learning rate: `layer_decay` lowers it from the encoder's last block to its first.

        Parameters that are never trained are left out.
        """
        later = self.hparams["unfreeze_epoch"] is not None
        decay = self.hparams["layer_decay"]
        groups: dict[float, list[Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad or (later and name.startswith("model.encoder.")):
                rate = self.hparams["lr"] * decay ** self._distance_from_head(name)
                groups.setdefault(rate, []).append(parameter)
        return [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]

    def _distance_from_head(self, name: str) -> int:
        depth = len(self.model.encoder.blocks)
        if not name.startswith("model.encoder.") or name.startswith("model.encoder.norm."):
            return 0
        block = re.match(r"model\.encoder\.blocks\.(\d+)\.", name)
        return depth - int(block.group(1)) if block else depth + 1

    def create_schedule(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        """The schedule, stepped after each of the run's `total_steps` optimiser steps."""
        return poly_schedule(optimizer, total_steps, self.hparams["warmup_steps"])

    # What Lightning calls.

    def configure_callbacks(self) -> list[Callback]:
        """What training in several processes needs, unless the trainer has it."""
        return process_callbacks(self.trainer.callbacks)

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule.

        Raises:
            ConfigError: The run has no step, or no end.
        """
        optimizer = self.create_optimizer()
        total_steps = self.trainer.estimated_stepping_batches
        if not 1 <= total_steps < float("inf"):
            raise ConfigError(
                f"max_epochs, limit_train_batches: give a run of {total_steps} optimiser steps; the learning rate "
                "needs one step or more, and an end"
            )
        schedule = self.create_schedule(optimizer, int(total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def setup(self, stage: str) -> None:
        """Take the description of the data from the data module, if it has one.

        Raises:
            ConfigError: Model and data do not fit together.
        """
        if stage == "fit":
            self._warn_of_random_encoder()
        encoder = self.hparams["encoder"]
        options = getattr(getattr(self.trainer, "datamodule", None), "kwargs", {})
        if options.get("metadata") and not self.model.encoder.variant.coordinates:
            raise ConfigError(
                f"metadata: the encoder {encoder} does not use dates or places; choose a *_tl encoder"
            )
        spec = getattr(getattr(self.trainer, "datamodule", None), "spec", None)
        if stage != "predict" and isinstance(spec, DataSpec):
            if len(spec.class_names) != self.num_classes:
                raise ConfigError(
                    f"num_classes: the model has {self.num_classes}, the data "
                    f"{len(spec.class_names)} ({', '.join(spec.class_names)})"
                )
            if list(spec.bands) != list(self.hparams["bands"]):
                raise ConfigError(
                    f"bands: the model has {' '.join(self.hparams['bands'])}, the data {' '.join(spec.bands)}"
                )
            if spec.num_frames != self.hparams["num_frames"]:
                raise ConfigError(
                    f"num_frames: the model has {self.hparams['num_frames']}, the data {spec.num_frames}"
                )
            self.hparams["data_spec"] = spec.to_dict()

    def _warn_of_random_encoder(self) -> None:
        kept = self.hparams["freeze_encoder"] and self.hparams["unfreeze_epoch"] is None
        if (kept or self.hparams["lora_rank"]) and self.weights is None and self.trainer.ckpt_path is None:
            rank_zero_warn("weights: not given, so the frozen encoder has random weights")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say which class can read the checkpoint, and keep what was counted of a training epoch."""
        checkpoint["task_class"] = self.class_path
        if isinstance(self.train_metrics, ConfusionMatrix) and self._trainer is not None:
            counts = self.train_metrics.confmat.clone()
            checkpoint["train_confusion"] = self.trainer.strategy.reduce(counts, reduce_op="sum").cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting where the checkpoint stopped."""
        counts = checkpoint.get("train_confusion")
        if counts is not None and isinstance(self.train_metrics, ConfusionMatrix) and self.global_rank == 0:
            self.train_metrics.confmat += counts.to(self.train_metrics.confmat)
        loop = checkpoint.get("loops", {}).get("fit_loop", {}).get("state_dict", {})
        self._loader_states = loop.get("combined_loader", [])

    def on_train_start(self) -> None:
        """Go on in the middle of an epoch, if the checkpoint was written there.

        Lightning does so itself, but not where the loader was needed before the state was read, as it is to
        know the number of steps.
        """
        loader = self.trainer.train_dataloader
        if self._loader_states and isinstance(loader, ResumableLoader):
            loader.load_state_dict(self._loader_states[0])
        self._loader_states = []
        self._unfreeze_encoder()  # Lightning calls no hook of the epoch that a run resumes in

    @property
    def backbone(self) -> PrithviViT:
        """The encoder, under the name that Lightning's BackboneFinetuning asks for."""
        return self.model.encoder

    @property
    def class_path(self) -> str:
        """Where the class can be imported from."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def on_train_epoch_start(self) -> None:
        """Unfreeze the encoder when its epoch has come."""
        self._unfreeze_encoder()

    def _unfreeze_encoder(self) -> None:
        epoch = self.hparams["unfreeze_epoch"]
        if epoch is not None and self.current_epoch >= epoch and self.model.freeze_encoder:
            self.model.freeze_encoder = False
            self.model.encoder.requires_grad_(True)
            self.model.train()

    def forward(
        self, image: Tensor, keep: tuple[int, int, int, int] | None = None, **coordinates: Tensor
    ) -> Tensor:
        """Logits (B, K, H, W) of normalised images (B, T, C, H, W) or (B, C, H, W), in one window.

        With `keep`, only of the pixels between a top, left, bottom and right.
        """
        if keep is None:
            return self.model(image, **coordinates)
        if isinstance(self.model, PrithviSegmenter):
            return self.model(image, keep, **coordinates)
        top, left, bottom, right = keep
        return self.model(image, **coordinates)[..., top:bottom, left:right]

    def forward_windows(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Logits (B, K, H, W) of normalised images of any size, by sliding windows."""
        window = self.hparams["window"]
        return slide_inference(
            self, image, window, self.hparams["stride"] or window // 2, coordinates=coordinates
        )

    def coordinates(self, batch: Any) -> dict[str, Tensor]:
        """Time and place of a batch, if it tells them and the encoder takes them."""
        if not self.model.encoder.variant.coordinates:
            return {}
        return {key: batch[key] for key in ("timestamps", "location") if key in batch}

    def unused_parameters(self, batch: Any) -> set[str]:
        """Names of parameters that get no gradient from a batch: those that encode dates or places it lacks."""
        if not self.model.encoder.variant.coordinates:
            return set()
        encodings = {"timestamps": "temporal_embed_enc", "location": "location_embed_enc"}
        missing = [f"model.encoder.{name}." for key, name in encodings.items() if key not in batch]
        return {name for name, _ in self.named_parameters() if name.startswith(tuple(missing))}

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
        if not torch.isfinite(loss):
            raise DataError(_not_finite(loss, image, batch.get("name"), self.global_step))
        return loss

    def _judge_units(self, image: Tensor) -> None:
        """Warn if the first batch, normalised (B, T, C, H, W), is far from what the statistics say."""
        self._units_judged = True
        spec = self.data_spec
        means = image.detach().float().reshape(len(image), -1, *image.shape[-2:]).mean(dim=(0, 2, 3)).tolist()
        if spec is None or len(means) != len(
            spec.channel_mean
        ):  # channels that a subclass adds have no statistics
            return
        given = zip(means, spec.channel_std, spec.channel_mean, strict=True)
        ratio = spec.unit_ratio([mean * std + center for mean, std, center in given])
        if spec.is_other_unit(ratio):
            rank_zero_warn(
                f"image: the values of the first batch {ratio.describe()} (mean "
                f"{' '.join(f'{value:.3g}' for value in spec.mean)}); run prithvi-tg check"
            )

    def on_train_epoch_end(self) -> None:
        """Log every metric of the epoch's training crops."""
        self._finish(self.train_metrics, "train")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Count the pixels of a batch and log its loss; ``prediction`` (B, H, W) is for callbacks."""
        return self._evaluate(batch, "val", self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log every metric of the whole validation set."""
        self._finish(self.val_metrics, "val")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Count the pixels of a batch and log its loss; ``prediction`` (B, H, W) is for callbacks."""
        return self._evaluate(batch, "test", self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log every metric of the whole test set."""
        self._finish(self.test_metrics, "test")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Logits (B, K, H, W) of a batch of normalised images of any size.

        A batch of windows of scenes, see `WindowStream`, is not cut any further, and of its windows only the
        part that is kept has logits.
        """
        if "log" not in batch:
            return self.forward_windows(batch["image"], **self.coordinates(batch))
        keep = {"keep": batch["keep"]} if "keep" in batch else {}
        return self(batch["image"], **keep, **self.coordinates(batch))

    def _evaluate(self, batch: Any, prefix: str, metrics: ConfusionMatrix) -> dict[str, Tensor]:
        logits = self.forward_windows(batch["image"], **self.coordinates(batch))
        prediction = logits.argmax(dim=1)
        metrics.update(prediction, batch["mask"])
        loss = self.criterion(logits, batch["mask"])
        self.log(f"{prefix}_loss", loss, batch_size=len(logits), on_epoch=True, sync_dist=True)
        return {"prediction": prediction}

    def _finish(self, metrics: ConfusionMatrix, prefix: str) -> None:
        confusion = metrics.compute()
        scores = segmentation_scores(confusion)
        log_scores(self, score_log(scores, self.class_names, prefix))
        metrics.reset()
        if prefix != "train" and not self.trainer.sanity_checking:
            self.confusion, self.scores = confusion, scores  # of the last validation or test, for reports

    # What the task knows of its classes and data.

    @property
    def num_classes(self) -> int:
        """Number of classes.

        Raises:
            ConfigError: Nothing tells it.
        """
        spec = self.hparams["data_spec"]
        names = self.hparams["class_names"] or (spec["class_names"] if spec else None)
        if names:
            return len(names)
        if self.hparams["num_classes"] is None:
            raise ConfigError(
                "num_classes: not known from the data module; set class_names, or num_classes in Python"
            )
        return int(self.hparams["num_classes"])

    @property
    def class_names(self) -> list[str]:
        """Class names: the task's own, the data's, or ``class_0`` and so on."""
        spec = self.hparams["data_spec"]
        names = self.hparams["class_names"] or (spec["class_names"] if spec else None)
        return list(names or [f"class_{index}" for index in range(self.num_classes)])

    @property
    def data_spec(self) -> DataSpec | None:
        """Bands, statistics and classes of the data that it was trained on, if known."""
        spec = self.hparams["data_spec"]
        return DataSpec.from_dict(spec) if spec else None


def _not_finite(loss: Tensor, image: Tensor, names: Sequence[str] | None, step: int) -> str:
    """What to say of a loss that is NaN or infinite."""
    who = f" on {', '.join(names)}" if names else ""
    cause = (
        "the images contain values that are not finite"
        if not torch.isfinite(image).all()
        else "the images are finite, so the training has diverged: lower lr, or raise warmup_steps"
    )
    return f"loss: {float(loss.detach())} at step {step}{who}; {cause}"
