"""Data module of labelled scenes: random windows for training, each pixel once for scores."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from typing import Any, Literal

import pandas as pd
import shapely
import torch
from kornia.augmentation import AugmentationBase2D
from torch.utils.data import DataLoader
from torchgeo.datamodules import GeoDataModule
from torchgeo.datasets import GeoDataset, IntersectionDataset

from ..augmentations import ChipAugmentation
from ..bands import PRITHVI_BANDS, check_stored, resolve_band
from ..datasets.scenes.composites import TemporalComposite
from ..datasets.scenes.dataset import SceneDataset
from ..datasets.scenes.footprints import Roi
from ..datasets.scenes.label_dataset import LabelDataset
from ..datasets.scenes.label_index import index_labels
from ..datasets.scenes.label_layers import create_label_layer
from ..datasets.scenes.scored_windows import ScoredWindows, area_in_period
from ..datasets.scenes.splits import Region, Regions, split_by_blocks, split_by_polygons, whole_region
from ..deprecated import OldArguments
from ..errors import NO_VALIDATION, ConfigError, DataError, MissingStatisticsError, counted, naming
from ..readers.block_cache import limit_block_cache
from ..readers.formats import InputOptions
from ..readers.quality import QualityClass
from ..readers.scene import NodataRule
from ..samplers import RandomWindowGeoSampler, UnrepeatedSampler
from ..spec import DataSpec, InputSpec
from ..targets import ValueTarget, ignore_value
from .loading import collate, collate_training, for_scoring, init_reading_worker, pinned
from .resuming import ResumableLoader
from .scene_splits import BlockSplit, PolygonSplit, TimeSplit, warn_of_images_in_no_split

_SPLIT_ADVICE = (
    "write split: {class_path: BlockSplit, init_args: {block: 256}}, a PolygonSplit or a TimeSplit"
)

_log = logging.getLogger(__name__)


class LabelledScenesDataModule(GeoDataModule, metaclass=OldArguments):
    """Scenes and a label layer, combined as TorchGeo's ``images & labels``; splits share no pixels.

    Training draws random windows. Validation and test score each labelled pixel once, with any number of
    processes. A checkpoint stores `spec`, the description of the data, for maps of new scenes.

    Args:
        images: Rasters, granules, ``.SAFE`` folders or folders of them, see `find_inputs`.
        labels: Rasters or polygons of labels, patterns or folders of them, see `LabelRaster` and `LabelPolygons`; or
            value rasters, see `ValueRaster`.
        classes: Class name of each stored label, or of each value of `label_attribute`; classes are numbered in
            the order in which their names first appear. ``cdl``: the labels are the Cropland Data Layer, in the 13
            classes of the crop chips, see `CDLLabels`. None if the labels are `values`.
        split: How to split: by blocks, by polygons, or by time.
        mean: Mean per band in the unit of the model, after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band.
        window: Size of the windows in pixels.
        stride: Distance between neighbouring windows in validation and test, in pixels; the window size by default.
        windows_per_epoch: Number of training windows in an epoch, over all processes.
        balanced: Centre half of the windows on a class that is drawn with equal probability, so that rare classes
            appear more often.
        batch_size: Number of windows in a batch.
        num_workers: Number of reading processes for each training process. Together they cache decoded blocks in up
            to a fifth of the memory of the machine or container; ``GDAL_CACHEMAX`` in the environment overrides this.
        bands: Bands to use, by name.
        num_frames: Number of dates of one image.
        composite: How to build `num_frames` frames from many dates: ``{dates: [...], tolerance: 15}`` takes the
            nearest dates, ``{periods: [[first, last], ...]}`` the median of clear pixels; see `TemporalComposite`.
        qa_mask: Quality classes that count as nodata.
        file_bands: Names of the stored bands of one frame, for files without band descriptions. A file stores all
            bands of the first date, then of the second.
        sensor: Naming scheme of the files' bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of the statistics, for files without scale tags. Tags that
            contradict it are an error.
        nodata: Stored values that mean nodata, besides the files' tags and NaN.
        nodata_rule: Ignore pixels where all bands are nodata (``all``), or where any band is (``any``).
        ignored_labels: Stored labels that mean "not labelled".
        label_attribute: Column of the polygons that holds the class.
        all_touched: Label every pixel that a polygon touches, not only those whose centre it covers.
        class_colors: ``#rrggbb`` of each class.
        values: Names of the values, such as ``biomass``, in place of `classes`; `labels` holds a band per value.
        value_mean: Mean of each value in the training data, in its unit; ``prithvi-tg stats`` computes it.
        value_std: Standard deviation of each value.
        units: Unit of each value.
        valid_range: Lowest and highest valid value; labels outside cause an error.
        value_scale: Factor from stored values to the unit, for label files without scale tags.
        random_flip_rot90: Flip training windows and rotate them by multiples of 90 degrees at random.
        augmentations: Further Kornia augmentations for training, see `ChipAugmentation`.
        metadata: Pass dates and locations to encoders that use them.
        format: Format of the images, see `InputOptions`.
        fold_time: Return images as (B, T*C, H, W), for TorchGeo's own tasks.
        seed: The same seed draws the same windows.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: Images or labels cannot be read, or do not overlap.
    """

    #: Class of the windows that are scored, and function that combines training samples to a batch.
    windows_class: type[ScoredWindows] = ScoredWindows
    #: Which bands of the files are read; empty until the scenes are opened.
    described_bands = ""
    collate_training: Callable[..., dict[Any, Any]] = staticmethod(collate_training)

    def __init__(
        self,
        images: str | Sequence[str],
        labels: str | Sequence[str],
        classes: Mapping[int | str, str] | Literal["cdl", "unlabelled"] | None = None,
        split: BlockSplit | PolygonSplit | TimeSplit | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        window: int = 224,
        stride: int | None = None,
        windows_per_epoch: int = 1000,
        balanced: bool = False,
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
        nodata_rule: Literal["all", "any"] = "all",
        ignored_labels: Sequence[int | str] = (),
        label_attribute: str | None = None,
        all_touched: bool = False,
        class_colors: Sequence[str] = (),
        values: Sequence[str] = (),
        value_mean: Sequence[float] | None = None,
        value_std: Sequence[float] | None = None,
        units: Sequence[str] = (),
        valid_range: tuple[float, float] | None = None,
        value_scale: float = 1.0,
        random_flip_rot90: bool = True,
        augmentations: Sequence[AugmentationBase2D] = (),
        metadata: bool = False,
        format: str | None = None,
        fold_time: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(SceneDataset, batch_size, window, windows_per_epoch, num_workers)
        self.collate_fn = collate
        self.images = [images] if isinstance(images, str) else list(images)
        self.labels = [labels] if isinstance(labels, str) else list(labels)
        if split is None:
            raise ConfigError(f"split: not given; {_SPLIT_ADVICE}")
        self.classes = classes
        self.layer = create_label_layer(
            classes, _value_target(values, units, value_mean, value_std, valid_range, value_scale, ignored_labels),
            balanced, class_colors=class_colors, ignored_labels=() if values else ignored_labels,
            label_attribute=label_attribute, all_touched=all_touched,
        )  # fmt: skip
        self.split, self.window, self.stride = split, window, stride or window
        self.windows_per_epoch, self.balanced = windows_per_epoch, balanced
        self.composite = composite
        self.qa_mask = tuple(qa_mask)
        self.nodata_rule: NodataRule = nodata_rule
        self.fold_time, self.seed = fold_time, seed
        self._cache_megabytes: int | None = None
        if mean is None or std is None:
            raise MissingStatisticsError("mean, std: not given; prithvi-tg stats computes them")
        if composite is not None and composite.num_frames != num_frames:
            raise ConfigError(
                f"composite: gives {counted(composite.num_frames, 'frame')}, but num_frames is {num_frames}"
            )
        wanted = tuple(resolve_band(band, sensor) for band in bands)
        places = _places(wanted, file_bands, sensor, num_frames)
        self.reading = InputOptions(
            places if composite is None else places[: len(wanted)], sensor, nodata=tuple(nodata), training=True,
            format=format,
        )  # fmt: skip
        inputs = InputSpec(
            wanted, tuple(mean), tuple(std), num_frames, scale, tuple(nodata),
            file_bands=places, file_count=len(file_bands) * num_frames, metadata=metadata,
        )  # fmt: skip
        self._configured = inputs  # without what the opened files add to `spec`
        self.spec = DataSpec(inputs, self.layer.target)
        self.mean, self.std = torch.tensor(inputs.channel_mean), torch.tensor(inputs.channel_std)
        self.train_aug = ChipAugmentation(self.mean, self.std, None, random_flip_rot90, augmentations)
        self.aug = ChipAugmentation(self.mean, self.std)

    @property
    def bootstrap_block(self) -> int:
        """Side in pixels of the blocks that are resampled for intervals of scores.

        Neighbouring windows are not independent. With a split by blocks, the side is the smallest multiple of the
        block of the split with room for two windows; otherwise it is four windows.
        """
        if isinstance(self.split, BlockSplit):
            return self.split.block * math.ceil(2 * self.window / self.split.block)
        return 4 * self.window

    # Data.

    def open_images(self) -> SceneDataset:
        """Open the images without the labels."""
        with naming("data.images"):
            return SceneDataset.open(
                self.images, self._configured, self.reading, self.composite, self.nodata_rule, self.qa_mask
            )

    def open_labels(self) -> LabelDataset:
        """Open the labels without the images."""
        with naming("data.labels"):
            return self.layer.open(self.labels)

    def open_both(self) -> tuple[GeoDataset, SceneDataset]:
        """Open images and labels as one dataset; return it and the images.

        Raises:
            DataError: They do not overlap, in space or time.
        """
        images, labels = self.open_images(), self.open_labels()
        labels.clip_to(images)
        area = labels.area()  # in the CRS of the labels
        try:
            with redirect_stdout(
                StringIO()
            ):  # TorchGeo prints conversions; the standard output of stats is YAML
                both = IntersectionDataset(images, labels, transforms=_unlabel_nodata)
        except RuntimeError as error:
            if images.grid.crs is not None and "no spatial intersection" in str(error):
                raise DataError(area.apart_from(images.grid, ", ".join(self.images))) from error
            raise DataError(
                f"labels: {', '.join(self.labels)} and images {', '.join(self.images)} do not overlap ({error})"
            ) from error
        return both, images

    def regions(self, images: SceneDataset, roi: Any) -> Regions:
        """The area of each split inside the overlap of images and labels."""
        split, grid = self.split, images.grid
        outlines = images.index.geometry.to_numpy()
        footprints = list(outlines[shapely.intersects(outlines, roi)])
        if isinstance(split, TimeSplit):
            warn_of_images_in_no_split(split, images)
            return Regions(grid, dict.fromkeys(split.names, whole_region(grid, roi, footprints)))
        if isinstance(split, PolygonSplit):
            roi = None if images.crs is None else Roi.of(images)
            with naming("data.split.path"):
                return split_by_polygons(grid, split.path, split.attribute, self.window, footprints, roi)
        return split_by_blocks(
            grid, split.block, self.window, split.fractions, split.buffer, split.seed, footprints
        )

    def periods(self, split: str, images: SceneDataset) -> list[pd.Interval]:
        """Periods of the images of a split; each sample belongs to one of them."""
        times = list(dict.fromkeys(images.index.index))
        if not isinstance(self.split, TimeSplit):
            return times
        chosen = [time for time in times if self.split.holds(split, time)]
        if not chosen:
            first, last = self.split.period(split)
            raise DataError(f"split: no image from {first:%Y-%m-%d} to {last:%Y-%m-%d} ({split})")
        return chosen

    # TorchGeo's hooks.

    def setup(self, stage: str) -> None:
        """Open the datasets of a stage.

        Raises:
            ConfigError: No window fits into a split, or there is no validation set to validate.
            DataError: Images or labels cannot be read, or do not overlap.
        """
        if stage == "predict":
            return
        if stage == "validate" and not self.validates:
            raise ConfigError(
                f"data: {NO_VALIDATION}; score the test set with prithvi-tg test, or give val a share in split"
            )
        known = self.described_bands
        both, images = self.open_and_split(stage)
        if self.trainer is not None and self.trainer.is_global_zero and self.described_bands != known:
            _log.info(self.described_bands)
        roi = shapely.union_all(list(both.index.geometry))
        if stage == "fit":
            self._draw_windows(both, images, roi)
        for split, stages in (("val", ("fit", "validate")), ("test", ("test",))):
            if stage in stages and (stage != "fit" or self.validates):
                scored = self.scored_windows(split, both, images)
                setattr(self, f"{split}_dataset", scored)
                setattr(self, f"{split}_sampler", UnrepeatedSampler(scored))

    def open_and_split(self, stage: str) -> tuple[GeoDataset, SceneDataset]:
        """Open images and labels for a stage, and split the area of their overlap.

        Raises:
            ConfigError: The area cannot be split.
            DataError: Images or labels cannot be read, or do not overlap.
        """
        processes = self.trainer.num_devices if self.trainer else 1
        loaders = self.num_workers * (2 if stage == "fit" else 1)  # training and validation have their own
        self._cache_megabytes = limit_block_cache(processes * max(1, loaders))
        both, images = self.open_both()
        origins = [*dict.fromkeys(scene.origin for scene in images.scenes)]
        more = "; other scenes differ, prithvi-tg check lists them" if origins[1:] else ""
        self.described_bands = f"Bands of {images.scenes[0].name}: {origins[0]}{more}"
        self.spec = self.spec.with_input(pixel_size=images.grid.pixel_size, **images.stored_bands())
        roi = shapely.union_all(list(both.index.geometry))
        self.split_regions = self.regions(images, roi)
        return both, images

    @property
    def validates(self) -> bool:
        """Whether there is a validation split."""
        return "val" in self.split.names

    def _draw_windows(self, both: GeoDataset, images: SceneDataset, roi: Any) -> None:
        """Prepare the random windows of training."""
        region = self._region("train")
        inside = shapely.intersection(region.roi, roi)
        balanced_boxes = None
        if self.balanced and isinstance(both, IntersectionDataset):
            balanced_boxes = index_labels(both.datasets[1], images.grid, region, self.window)
        periods = self.periods("train", images)
        rois = [area_in_period(both, period) for period in periods]
        if not shapely.covers(shapely.union_all(rois), inside):
            inside = shapely.intersection(inside, shapely.union_all(rois))
        self.train_dataset = both
        self.train_sampler = RandomWindowGeoSampler(
            images.grid,
            inside,
            self.window,
            self.windows_per_epoch,
            periods,
            balanced_boxes,
            locality_groups=4 * self.batch_size,
            seed=self.seed,
            period_rois=None if all(one.equals(rois[0]) for one in rois) else rois,
        )

    def scored_windows(self, split: str, both: GeoDataset, images: SceneDataset) -> ScoredWindows:
        """Windows of a split, in which each labelled pixel has its label once; call `setup` first."""
        region, periods = self._region(split), self.periods(split, images)
        return self.windows_class(both, images.grid, region, self.window, self.stride, periods)

    def _region(self, split: str) -> Region:
        splits = self.split_regions.splits
        if split not in splits:
            raise ConfigError(
                f"split: no region for {split}; it has {', '.join(splits)}; give {split} a share in fractions, a "
                "polygon or a period"
            )
        return splits[split]

    def train_dataloader(self) -> DataLoader[Any]:
        """Loader of random windows."""
        assert self.train_dataset is not None
        loader = ResumableLoader(
            self.train_dataset,
            batch_size=self.batch_size,
            sampler=self.train_sampler,
            num_workers=self.num_workers,
            collate_fn=self.collate_training,
            drop_last=True,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=self._worker_init,
        )
        return pinned(loader)

    def val_dataloader(self) -> Any:
        """Loader with each labelled pixel once, over all processes; an empty list without validation."""
        if not self.validates:
            return []
        return self._scoring_loader(super().val_dataloader())

    def test_dataloader(self) -> DataLoader[Any]:
        """Loader with each labelled pixel once, over all processes."""
        return self._scoring_loader(super().test_dataloader())

    def _scoring_loader(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        loader.worker_init_fn = self._worker_init
        return for_scoring(pinned(loader))

    @property
    def _worker_init(self) -> Callable[[int], None]:
        rank = self.trainer.global_rank if self.trainer else 0
        return partial(init_reading_worker, megabytes=self._cache_megabytes, rank=rank)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the tensors of a batch to the device, without bounds and CRS."""
        keys = ("image", "mask", "valid", "timestamps", "location", "meaningless", "scored")
        moved = {key: batch[key].to(device, non_blocking=True) for key in keys if key in batch}
        return moved | ({"name": batch["name"]} if "name" in batch else {})

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Normalise and augment on the device; with `fold_time`, merge frames and channels."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        if self.fold_time:
            batch = {"image": batch["image"].flatten(1, 2), "mask": batch["mask"]}
        return batch


def _places(
    wanted: Sequence[str], file_bands: Sequence[str], sensor: str | None, num_frames: int
) -> tuple[int, ...]:
    """Indexes, from 1, of the wanted bands in a file, frame by frame; empty without `file_bands`."""
    if not file_bands:
        return ()
    stored = [resolve_band(band, sensor, "file_bands") for band in file_bands]
    check_stored(wanted, stored)
    return tuple(
        frame * len(stored) + stored.index(band) + 1 for frame in range(num_frames) for band in wanted
    )


def _unlabel_nodata(sample: dict[str, Any]) -> dict[str, Any]:
    """Remove the labels of pixels without data."""
    masked = sample.pop("masked")
    mask = sample["mask"]
    return {**sample, "mask": mask.masked_fill(masked, ignore_value(mask))}


def _value_target(
    values: Sequence[str],
    units: Sequence[str],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    valid_range: tuple[float, float] | None,
    scale: float,
    ignored: Sequence[Any],
) -> ValueTarget | None:
    """The target of labels with values; ``None`` for classes."""
    if not values:
        return None
    if mean is None or std is None:
        raise MissingStatisticsError("value_mean, value_std: not given; prithvi-tg stats computes them")
    try:
        numbers = tuple(float(label) for label in ignored)
    except ValueError as error:
        raise ConfigError(
            f"ignored_labels: {[*ignored]} must be numbers, as the labels are values"
        ) from error
    return ValueTarget(
        tuple(values), tuple(units), tuple(mean), tuple(std), valid_range, scale, ignored_labels=numbers
    )
