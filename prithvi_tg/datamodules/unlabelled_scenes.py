"""Data module of scenes without labels: random windows for pre-training."""

from collections.abc import Sequence
from typing import Any

from kornia.augmentation import AugmentationBase2D
from torch import Tensor
from torchgeo.datasets import GeoDataset

from ..bands import PRITHVI_BANDS
from ..datasets.scenes.composites import TemporalComposite
from ..datasets.scenes.dataset import SceneDataset
from ..datasets.scenes.scored_windows import ScoredWindows
from ..readers.quality import QualityClass
from .labelled_scenes import LabelledScenesDataModule
from .loading import collate
from .scene_splits import BlockSplit, PolygonSplit, TimeSplit


class UnlabelledWindows(ScoredWindows):
    """Windows that cover a region of scenes without labels; each pixel is valid in only one of them."""

    def restricted(self, sample: dict[str, Any], scored: Tensor) -> dict[str, Any]:
        """``valid``, restricted to the pixels that are scored."""
        return {"valid": sample["valid"] & scored}


class UnlabelledScenesDataModule(LabelledScenesDataModule):
    """Scenes without labels, for pre-training: the windows and splits of `LabelledScenesDataModule`.

    Batches contain ``image`` and ``valid``, both (B, T, C, H, W).

    Args:
        images: Rasters, granules, ``.SAFE`` folders or folders of them, see `find_inputs`.
        split: How to split: by blocks, by polygons, or by time; by default blocks of four windows, a tenth of them for
            validation.
        mean: Mean per band in the unit of the model, after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band.
        window: Size of the windows in pixels.
        stride: Distance between neighbouring windows in validation and test, in pixels; the window size by default.
        windows_per_epoch: Number of training windows in an epoch, over all processes.
        batch_size: Number of windows in a batch.
        num_workers: Number of reading processes for each training process.
        bands: Bands to use, by name.
        num_frames: Number of dates of one image.
        composite: How to build `num_frames` frames from many dates, see `TemporalComposite`.
        qa_mask: Quality classes that count as nodata.
        file_bands: Names of the stored bands of one frame, for files without band descriptions.
        sensor: Naming scheme of the files' bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of the statistics, for files without scale tags. Tags that
            contradict it are an error.
        nodata: Stored values that mean nodata, besides the files' tags and NaN.
        random_flip_rot90: Flip training windows and rotate them by multiples of 90 degrees at random.
        augmentations: Further Kornia augmentations for training, see `ChipAugmentation`.
        metadata: Pass dates and locations to encoders that use them.
        format: Format of the images, see `InputOptions`.
        seed: The same seed draws the same windows.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: Images cannot be read.
    """

    windows_class = UnlabelledWindows
    collate_training = staticmethod(collate)

    def __init__(
        self,
        images: str | Sequence[str],
        split: BlockSplit | PolygonSplit | TimeSplit | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        window: int = 224,
        stride: int | None = None,
        windows_per_epoch: int = 1000,
        batch_size: int = 4,
        num_workers: int = 0,
        bands: Sequence[str] = PRITHVI_BANDS,
        num_frames: int = 1,
        composite: TemporalComposite | None = None,
        qa_mask: Sequence[QualityClass] = (),
        file_bands: Sequence[str] = (),
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        random_flip_rot90: bool = True,
        augmentations: Sequence[AugmentationBase2D] = (),
        metadata: bool = False,
        format: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            images,
            labels=(),
            classes="unlabelled",
            split=split or BlockSplit(4 * window, (0.9, 0.1, 0.0)),
            mean=mean,
            std=std,
            window=window,
            stride=stride,
            windows_per_epoch=windows_per_epoch,
            batch_size=batch_size,
            num_workers=num_workers,
            bands=bands,
            num_frames=num_frames,
            composite=composite,
            qa_mask=qa_mask,
            file_bands=file_bands,
            sensor=sensor,
            scale=scale,
            nodata=nodata,
            random_flip_rot90=random_flip_rot90,
            augmentations=augmentations,
            metadata=metadata,
            format=format,
            seed=seed,
        )

    def open_both(self) -> tuple[GeoDataset, SceneDataset]:
        """Open the images; there are no labels."""
        images = self.open_images()
        images.transforms = _without_masked
        return images, images


def _without_masked(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample without ``masked``, which only maps need."""
    return {key: value for key, value in sample.items() if key != "masked"}
