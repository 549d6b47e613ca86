"""Data module of scenes to be mapped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchgeo.datamodules import BaseDataModule

from ..augmentations import ChipAugmentation
from ..datasets.scenes import SceneDataset
from ..spec import DataSpec


class SceneDataModule(BaseDataModule):
    """One scene after another, normalised on the device, for `Trainer.predict`.

    Args:
        scenes: Raster files.
        spec: Bands, units and statistics that the model expects.
        bands: Bands of the files, see `SceneDataset`.
        sensor: Whose band names the files use.
        scale: See `SceneDataset`.
        legacy: See `SceneDataset`.
    """

    def __init__(
        self,
        scenes: Sequence[str | Path],
        spec: DataSpec,
        bands: Sequence[int | str] = (),
        sensor: str | None = None,
        scale: float | None = None,
        legacy: bool = False,
    ) -> None:
        super().__init__(SceneDataset)
        self.spec = spec
        self.mean = torch.tensor(spec.channel_mean)
        self.std = torch.tensor(spec.channel_std)
        self.aug = ChipAugmentation(self.mean, self.std)
        self.predict_dataset = SceneDataset(scenes, spec, bands, sensor, scale, legacy)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Scenes in the order given, one at a time."""
        assert self.predict_dataset is not None
        return DataLoader(self.predict_dataset, batch_size=1)
