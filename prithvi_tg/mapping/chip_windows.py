"""Batches of windows that are classified as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchgeo.datamodules import BaseDataModule

from ..augmentations import Normalization
from ..datasets.scenes.dataset import SceneDataset
from ..readers.quality import QualityClass
from ..readers.scene import NodataRule, Scene, SceneReader
from ..spec import DataSpec, InputSpec


@dataclass(frozen=True)
class ChipWindow:
    """A window of a scene that is classified as a whole.

    Attributes:
        scene: Number of the scene.
        top: First row.
        left: First column.
        height: Number of rows; the window may extend beyond the scene.
        width: Number of columns.
    """

    scene: int
    top: int
    left: int
    height: int
    width: int


class ChipBatches(Dataset[dict[str, Any]]):
    """Batches of windows of equal size.

    A batch contains ``image`` (B, T, C, H, W) in the unit of the statistics, ``index`` (B,), the numbers of the
    windows, ``data`` (B,), false for windows that are nodata throughout, and, for models trained with them,
    ``timestamps`` (B, T, 2) and ``location`` (B, 2).

    Args:
        scenes: The scenes.
        windows: Windows of the scenes.
        spec: Bands, units and statistics that the model expects.
        batch_size: Number of windows in a batch.
        nodata_rule: When a pixel is nodata.
        qa_mask: Quality classes that count as nodata.
        fold_time: Return images as (B, T*C, H, W), for TorchGeo's own tasks.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        windows: Sequence[ChipWindow],
        spec: InputSpec,
        batch_size: int,
        nodata_rule: NodataRule = "all",
        qa_mask: Sequence[QualityClass] = (),
        fold_time: bool = False,
    ) -> None:
        self.scenes = scenes
        self.windows = windows
        self.spec = spec
        self.nodata_rule = nodata_rule
        self.qa_mask = qa_mask
        self.fold_time = fold_time
        self.batches: list[list[int]] = []
        for _, group in groupby(range(len(windows)), lambda k: (windows[k].height, windows[k].width)):
            numbers = list(group)
            self.batches += [numbers[k : k + batch_size] for k in range(0, len(numbers), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        numbers = self.batches[index]
        images, has_data = [], []
        for scene, group in groupby(numbers, lambda k: self.windows[k].scene):
            with SceneReader(self.scenes[scene], self.spec, self.nodata_rule, self.qa_mask) as reader:
                for number in group:
                    image, found = self._read(reader, self.windows[number])
                    images.append(torch.from_numpy(image))
                    has_data.append(found)
        stacked = torch.stack(images)
        stacked = stacked.flatten(1, 2) if self.fold_time else stacked
        batch = {"image": stacked, "index": torch.tensor(numbers), "data": torch.tensor(has_data)}
        return batch | (self._coordinates(numbers) if self.spec.metadata else {})

    def _read(self, reader: SceneReader, window: ChipWindow) -> tuple[NDArray[np.float32], bool]:
        """Read an image (T, C, H, W), padded with band means, and whether any pixel is not nodata."""
        grid, spec = reader.scene.grid, self.spec
        bottom = min(window.top + window.height, grid.height)
        right = min(window.left + window.width, grid.width)
        pixels = reader.read(window.top, bottom, window.left, right)
        image = np.empty((len(spec.channel_mean), window.height, window.width), np.float32)
        image[:] = np.array(spec.channel_mean, np.float32)[:, None, None]
        image[:, : bottom - window.top, : right - window.left] = pixels.values
        shape = (spec.num_frames, len(spec.bands), window.height, window.width)
        return image.reshape(shape), not pixels.masked.all()

    def _coordinates(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        unknown = np.full((self.spec.num_frames, 2), np.nan, np.float32)
        days, places = [], []
        for window in (self.windows[number] for number in numbers):
            scene = self.scenes[window.scene]
            days.append(unknown if scene.timestamps is None else scene.timestamps)
            middle = window.top + window.height / 2, window.left + window.width / 2
            places.append(scene.grid.latitudes_and_longitudes([middle[0]], [middle[1]])[0])
        return {
            "timestamps": torch.from_numpy(np.stack(days)),
            "location": torch.from_numpy(np.stack(places)),
        }


class ChipBatchesDataModule(BaseDataModule):
    """Batches of `ChipBatches`, normalised on the device, for `Trainer.predict`."""

    def __init__(self, batches: ChipBatches, spec: DataSpec, batch_size: int, num_workers: int) -> None:
        super().__init__(SceneDataset, batch_size, num_workers)
        # With more processes than batches, some processes have no batch.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.batches = batches
        self.spec = spec
        self.mean = torch.tensor(spec.input.channel_mean)
        self.std = torch.tensor(spec.input.channel_std)
        self.normalize = self.aug = Normalization(self.mean, self.std)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Loader of the batches."""
        return DataLoader(self.batches, batch_size=None, num_workers=self.num_workers)
