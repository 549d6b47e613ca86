"""HLSBurnScars: burn scars in Harmonized Landsat and Sentinel-2 images."""

import re
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from ...bands import PRITHVI_BANDS
from ...targets import IGNORE_INDEX
from .chip_files import Chip
from .folder_chips import FolderChipDataset


class HLSBurnScars(FolderChipDataset):
    """HLS Burn Scars.

    804 chips of 512 x 512 pixels at 30 m in the contiguous United States, 2018 to 2021.

    * sensor: HLS S30, six bands, float32 reflectance 0..1, tagged nodata = -9999
    * classes: unburnt land, burn scar; -1 is missing
    * splits: train (folder ``training``), val and, as published, the same chips again as test
      (``validation``)
    * dates: year and day of year in the file names
    * licence: CC BY 4.0

    Layout::

        root/training/subsetted_512x512_HLS.S30.T10SDH.2020248.v1.4_merged.tif
        root/training/subsetted_512x512_HLS.S30.T10SDH.2020248.v1.4.mask.tif
        root/validation/...

    Phillips, Roy, Ankur, Ramachandran (2023): HLS Foundation Burnscars Dataset.
    """

    folders = {"train": "training", "val": "validation", "test": "validation"}
    source = "hls_burn_scars"
    archives = ("hls_burn_scars.tar.gz",)
    file_bands = PRITHVI_BANDS
    # Statistics from the configuration of hls-foundation-os for this data set.
    default_mean = (
        0.033349706741586264,
        0.05701185520536176,
        0.05889748132001316,
        0.2323245113436119,
        0.1972854853760658,
        0.11944914225186566,
    )
    default_std = (
        0.02269135568823774,
        0.026807560223070237,
        0.04004109844362779,
        0.07791732423672691,
        0.08708738838140137,
        0.07241979477437814,
    )
    nodata = (-9999.0,)
    label_advice = "these are not the published labels; describe chips of your own with ChipFolderDataModule"
    class_names = ("Unburnt land", "Burn scar")
    class_colors = ("#a8b88a", "#7f0000")

    def dates(self, chip: Chip) -> list[date | None]:
        """The date in the name of the chip, such as ``.2020248.``."""
        found = re.search(r"\.(\d{7})\.", chip.name)
        return [datetime.strptime(found.group(1), "%Y%j").date() if found else None]

    def to_classes(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Convert stored labels to classes; -1 means not labelled."""
        return np.where(stored == -1, IGNORE_INDEX, stored)
