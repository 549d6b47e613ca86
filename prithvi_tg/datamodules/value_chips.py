"""Data module of chips with values as labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bands import PRITHVI_BANDS
from ..datasets import ValueChipFolder
from ..errors import MissingStatisticsError
from .chips import ChipDataModule


class ValueChipFolderDataModule(ChipDataModule):
    """Batches of a `ValueChipFolder`: your own chips with values as labels.

    Args:
        images: Pattern of the images, with one ``*`` for the name of a chip.
        labels: Pattern of the value rasters, with one ``*`` for the same name; one band per value.
        splits: A CSV file with columns ``chip`` and ``split``: train, val (may be absent) or test.
        values: Name of each value.
        bands: Bands to use, in the order of the channels, by name.
        mean: Mean per band after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band after scaling.
        value_mean: Mean of each value in the training data, in its unit; ``prithvi-tg stats`` computes it.
        value_std: Standard deviation of each value.
        units: Unit of each value.
        valid_range: Lowest and highest valid value; labels outside cause an error.
        value_scale: Factor from stored values to the unit, for label files without scale tags.
        file_bands: Bands of one frame in the order of the files; `bands` by default.
        num_frames: Number of dates in a file.
        sensor: Naming scheme of the bands, needed where sensors disagree.
        scale: Factor from stored values of images to the unit of `mean` and `std`, for files without scale tags.
        nodata: Stored values of images that mean nodata, besides the file's tag and NaN.
        ignored_labels: Stored labels that mean "not labelled", besides the file's tag and NaN.
        dataset_class: Class of the dataset, if files are not rasters.
        **kwargs: Arguments of `ChipDataModule`.

    Raises:
        ConfigError: Statistics are missing.
    """

    def __init__(
        self,
        images: str,
        labels: str,
        splits: str | Path,
        values: Sequence[str],
        bands: Sequence[str] = PRITHVI_BANDS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        value_mean: Sequence[float] | None = None,
        value_std: Sequence[float] | None = None,
        units: Sequence[str] = (),
        valid_range: tuple[float, float] | None = None,
        value_scale: float = 1.0,
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        ignored_labels: Sequence[float] = (),
        dataset_class: type[ValueChipFolder] = ValueChipFolder,
        **kwargs: Any,
    ) -> None:
        if mean is None or std is None or value_mean is None or value_std is None:
            raise MissingStatisticsError(
                "mean, std, value_mean, value_std: all must be given; prithvi-tg stats computes them"
            )
        super().__init__(
            dataset_class,
            None,
            splits=splits,
            bands=bands,
            images=images,
            labels=labels,
            values=values,
            units=units,
            valid_range=valid_range,
            value_scale=value_scale,
            file_bands=file_bands,
            num_frames=num_frames,
            sensor=sensor,
            scale=scale,
            nodata=nodata,
            ignored_labels=ignored_labels,
            mean=mean,
            std=std,
            value_mean=value_mean,
            value_std=value_std,
            **kwargs,
        )
