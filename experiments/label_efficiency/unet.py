"""A U-Net of segmentation_models_pytorch in the place of Prithvi: the same recipe, data, losses and scores."""

from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from prithvi_tg import PrithviSegmentationTask


class UNet(nn.Module):
    """A U-Net with a ResNet-18, from scratch; dates are channels."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.net = smp.Unet("resnet18", encoder_weights=None, in_channels=channels, classes=classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, T, C, H, W)."""
        logits: Tensor = self.net(image.flatten(1, -3))
        return logits

    def forward_both(self, image: Tensor) -> tuple[Tensor, None]:
        """The same; there is no auxiliary head."""
        return self(image), None


class UNetTask(PrithviSegmentationTask):
    """The U-Net as this package's task; arguments that speak of Prithvi's encoder say nothing here."""

    def configure_models(self) -> None:
        """Build the U-Net."""
        channels = len(self.hparams["bands"]) * self.hparams["num_frames"]
        self.model: Any = UNet(channels, self.num_classes)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters, at one learning rate."""
        return [{"params": list(self.parameters())}]

    def coordinates(self, batch: Any) -> dict[str, Tensor]:
        """A U-Net takes neither time nor place."""
        return {}
