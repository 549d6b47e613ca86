"""MultiTemporalCropClassification: crop types from three dates of Harmonized Landsat and Sentinel-2."""

import csv
from collections.abc import Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bands import PRITHVI_BANDS
from ...errors import ConfigError
from ...spec import DataSpec
from ...targets import IGNORE_INDEX
from .chip_files import Chip
from .folder_chips import FolderChipDataset


class MultiTemporalCropClassification(FolderChipDataset):
    """Multi-temporal crop classification.

    3854 chips of 224 x 224 pixels at 30 m in the contiguous United States, 2022, each with three dates of one
    growing season. The labels are from the Cropland Data Layer.

    * sensor: HLS, 18 bands = 3 dates x 6 bands, date by date, int16 reflectance x 1e4
    * classes: 13, stored as 1 to 13; 0 is no data
    * splits: train (folder ``training_chips``), val and, as published, the same chips again as test
      (``validation_chips``); the published lists, 3083 and 771 chips, with ``splits: published``
    * dates: columns ``first_image_date`` to ``third_image_date`` of a CSV file in the root
    * licence: CC BY 4.0

    Layout::

        root/training_chips/chip_257_266_merged.tif
        root/training_chips/chip_257_266.mask.tif
        root/validation_chips/...

    Cecil, Kordi, Li, Khallaghi, Alemohammad (2023): HLS multi temporal crop classification.

    Args:
        root: Folder of the dataset.
        split: ``train``, ``val`` or ``test``.
        legacy_channel_order: Use the mixed order of bands and dates in the training of hls-foundation-os, for its
            published checkpoint only: channel (date f, band i) is file band 3i + f (from 0), with the statistics of
            band (3i + f) mod 6.
        **kwargs: Arguments of `ChipDataset`.
    """

    folders = {"train": "training_chips", "val": "validation_chips", "test": "validation_chips"}
    source = "multi_temporal_crop"
    archives = ("training_chips.tgz", "validation_chips.tgz")
    split_lists = {"published": "multi_temporal_crop"}
    file_bands = PRITHVI_BANDS
    num_frames = 3
    # Statistics from the configuration of hls-foundation-os for this dataset.
    default_mean = (494.905781, 815.239594, 924.335066, 2968.881459, 2634.621962, 1739.579917)
    default_std = (284.925432, 357.84876, 575.566823, 896.601013, 951.900334, 921.407808)
    nodata = (-9999.0,)
    label_advice = "these are not the published labels; describe chips of your own with ChipFolderDataModule"
    class_names = (
        "Natural Vegetation",
        "Forest",
        "Corn",
        "Soybeans",
        "Wetlands",
        "Developed/Barren",
        "Open Water",
        "Winter Wheat",
        "Alfalfa",
        "Fallow/Idle Cropland",
        "Cotton",
        "Sorghum",
        "Other",
    )
    # Colours similar to those of the Cropland Data Layer.
    class_colors = (
        "#c7d79e",
        "#4e7f3c",
        "#ffd300",
        "#267000",
        "#7cafaf",
        "#9b9b9b",
        "#4970a3",
        "#a57000",
        "#ffa5e2",
        "#bfbf77",
        "#ff2626",
        "#ff9e0a",
        "#00af49",
    )

    def __init__(
        self, root: str | Path, split: str = "train", legacy_channel_order: bool = False, **kwargs: Any
    ) -> None:
        self.legacy_channel_order = legacy_channel_order
        super().__init__(root, split, **kwargs)

    def _spec(
        self, bands: Sequence[str], mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> DataSpec:
        return self.data_spec(bands, mean, std, self.legacy_channel_order)

    @classmethod
    def data_spec(
        cls,
        bands: Sequence[str] = PRITHVI_BANDS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        legacy_channel_order: bool = False,
    ) -> DataSpec:
        """See `ChipDataset.data_spec`; for `legacy_channel_order` see the class.

        Raises:
            ConfigError: `legacy_channel_order` is combined with a choice of bands.
        """
        spec = super().data_spec(bands, mean, std)
        if not legacy_channel_order:
            return spec
        if spec.input.bands != PRITHVI_BANDS:
            raise ConfigError("legacy_channel_order: needs all six bands of the file; remove bands")
        places = [3 * band + frame for frame in range(3) for band in range(6)]
        return spec.with_input(
            file_bands=tuple(place + 1 for place in places),
            mean=tuple(spec.input.mean[place % 6] for place in places),
            std=tuple(spec.input.std[place % 6] for place in places),
        )

    @cached_property
    def _dates(self) -> dict[str, list[date | None]]:
        columns = ("first_image_date", "second_image_date", "third_image_date")
        known: dict[str, list[date | None]] = {}
        for path in sorted(self.root.glob("*.csv")):
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    if {"chip_id", *columns} <= row.keys():
                        known[row["chip_id"]] = [date.fromisoformat(row[column][:10]) for column in columns]
        return known

    def dates(self, chip: Chip) -> list[date | None]:
        """Dates from the CSV file in the root."""
        return self._dates.get(chip.name, [None] * 3)

    def to_classes(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Convert stored labels 1 to 13 to classes 0 to 12; 0 is nodata."""
        return np.where(stored == 0, IGNORE_INDEX, stored - 1)
