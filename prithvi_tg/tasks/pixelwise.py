"""PixelwiseTask: base class of tasks with a prediction for each pixel."""

from functools import cached_property, partial
from typing import Any

from torch import Tensor

from ..models import Encoder, EncoderDecoder, FCNHead, cached_weights, create_decoder, slide_inference
from .data_checks import check_loss
from .memory import BatchSplitter
from .own_losses import nan_cause
from .scored import ScoredTask


class PixelwiseTask(ScoredTask):
    """A task with a model that returns outputs (B, K, H, W) for labels (B, H, W), in sliding windows.

    Args:
        decoder: A name in `prithvi_tg.models.DECODERS`: the published ``conv_transpose`` or ``geospatial`` neck, for
            ViTs; ``linear``, a 1 x 1 convolution; ``patch_linear``, a linear layer from a token of a ViT to all pixels
            of its patch, as in TerraTorch; ``unet``, ``fpn``, ``upernet``, ``segformer`` or ``dpt`` (for ViTs) of
            segmentation_models_pytorch; or the path of a class, see `prithvi_tg.models.create_decoder`.
        decoder_args: Further arguments of the decoder.
        head_channels: Channels of the heads' convolutions, or of a decoder of segmentation_models_pytorch.
        head_dropout: Dropout rate of whole channels before the last convolution of the heads.
        auxiliary_weight: Weight of the loss of the auxiliary head; 0 for no auxiliary head. Only the published
            necks have one.
        fuse: Compute the published ``conv_transpose`` decoder in a fused form in less than half the time; the
            logits are the same up to rounding. If false, compute it layer by layer.
        window: Side of the sliding window in validation, test and maps, in pixels.
        stride: Pixels from one window to the next; by default half a window.
        window_batch_size: Number of windows in a call of the model in validation and test, over all chips of a batch;
            reduced if the windows do not fit into the memory of the device.
    """

    model: EncoderDecoder

    def __init__(
        self,
        *args: Any,
        decoder: str = "conv_transpose",
        decoder_args: dict[str, Any] | None = None,
        head_channels: int = 256,
        head_dropout: float = 0.1,
        auxiliary_weight: float = 1.0,
        fuse: bool = True,
        window: int = 224,
        stride: int | None = None,
        window_batch_size: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)

    def configure_models(self) -> None:
        """Create `model` from encoder, neck and heads, and load the pre-trained weights.

        Raises:
            ConfigError: Settings contradict each other.
            CheckpointError: The weights do not fit the encoder.
        """
        encoder, hparams = self.create_encoder(), self.hparams
        neck = self._create_neck(encoder)
        channels, width, classes = int(neck.out_channels), hparams["head_channels"], self.num_outputs
        create_head = partial(FCNHead, channels, classes, width, dropout=hparams["head_dropout"])
        if hasattr(neck, "create_head"):
            decode_head = neck.create_head(classes)
        else:
            decode_head = create_head(num_convs=getattr(neck, "head_convs", 0))
        auxiliary_head = None
        auxiliary_convs = getattr(neck, "auxiliary_convs", None)
        if auxiliary_convs is not None and hparams["auxiliary_weight"]:
            auxiliary_head = create_head(num_convs=auxiliary_convs)
        self.model = EncoderDecoder(
            encoder, neck, decode_head, auxiliary_head, hparams["freeze_encoder"], hparams["fuse"]
        )

    def _create_neck(self, encoder: Encoder) -> Any:
        hparams = self.hparams
        arguments = hparams["decoder_args"] or {}
        return create_decoder(
            hparams["decoder"], encoder, hparams["num_frames"], hparams["head_channels"], **arguments
        )

    @cached_property
    def _batch_splitter(self) -> BatchSplitter:
        return BatchSplitter()

    # Hooks of Lightning.

    def forward(
        self, image: Tensor, core_window: tuple[int, int, int, int] | None = None, **coordinates: Tensor
    ) -> Tensor:
        """Outputs (B, K, H, W) for normalised images (B, T, C, H, W) or (B, C, H, W), in one window.

        `core_window`, the top, left, bottom and right of a part of the image, limits the outputs to this part.
        """
        if core_window is None:
            return self.model(image, **coordinates)
        if isinstance(self.model, EncoderDecoder):
            return self.model(image, core_window, **coordinates)
        top, left, bottom, right = core_window
        return self.model(image, **coordinates)[..., top:bottom, left:right]

    def forward_windows(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Outputs (B, K, H, W) for normalised images of any size, computed in sliding windows."""
        window = self.hparams["window"]
        stride = self.hparams["stride"] or window // 2
        size = self.hparams["window_batch_size"]

        def model(windows: Tensor, **coordinates: Tensor) -> Tensor:
            return self._batch_splitter(self, windows, coordinates)

        with cached_weights():
            return slide_inference(model, image, window, stride, batch_size=size, coordinates=coordinates)

    def training_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Loss of the decode head, plus the weighted loss of the auxiliary head.

        Raises:
            DataError: The loss is not finite.
        """
        image, mask = batch["image"], batch["mask"]
        self._check_units(batch)
        outputs, auxiliary = self.model.forward_both(image, **self.coordinates(batch))
        labels = self.encode(mask)
        loss = self.compute_loss(outputs, labels)
        self.update_metrics(self.train_metrics, outputs.detach(), mask)
        self.log("train_loss", loss, batch_size=len(image), prog_bar=True)  # of one head, as val_loss
        if auxiliary is not None:
            auxiliary_loss = self.compute_loss(auxiliary, labels)
            self.log("train_loss_auxiliary", auxiliary_loss, batch_size=len(image))
            loss = loss + self.hparams["auxiliary_weight"] * auxiliary_loss
        cause = partial(nan_cause, self.criterion, outputs, labels)
        check_loss(loss, image, batch.get("name"), self.global_step, cause)
        return loss

    def forward_evaluation(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """As `forward_windows`."""
        return self.forward_windows(image, **coordinates)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Outputs (B, K, H, W) for a batch of normalised images of any size.

        Windows of scenes from a `WindowStream` are not cut again; the outputs cover only their core.
        """
        in_run = self.attached_trainer is not None and self.trainer.predicting
        with cached_weights(self._predict_cache if in_run else None):
            if "events" not in batch:
                return self.forward_windows(batch["image"], **self.coordinates(batch))
            model = partial(self, core_window=batch["core_window"]) if "core_window" in batch else self
            return self._batch_splitter(model, batch["image"], self.coordinates(batch))
