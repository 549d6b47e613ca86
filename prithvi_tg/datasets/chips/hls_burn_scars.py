"""HLSBurnScars: burn scars in Harmonized Landsat and Sentinel-2 images."""

import re
import warnings
from collections.abc import Sequence
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from ...bands import PRITHVI_BANDS
from ...errors import DataError
from ...targets import IGNORE_INDEX
from .chip_files import Chip
from .folder_chips import FolderChipDataset
from .split_lists import read_splits

_TILE_AND_DATE = re.compile(r"(?:^|\.)(T\d{2}[A-Z]{3})\.(\d{7})(?:\.|$)")
_MOST_LISTED = 3  # chips in a message


def tile_and_date(name: str) -> str:
    """The tile and date in the name of a chip, ``T10SDH.2020248``; the name itself if it has none."""
    found = _TILE_AND_DATE.search(name)
    return name if found is None else ".".join(found.groups())


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_LISTED]) + (", ..." if len(names) > _MOST_LISTED else "")


class HLSBurnScars(FolderChipDataset):
    """HLS Burn Scars.

    804 chips of 512 x 512 pixels at 30 m in the contiguous United States, 2018 to 2021.

    * sensor: HLS S30, six bands, float32 reflectance 0..1, tagged nodata = -9999
    * classes: unburnt land, burn scar; -1 is missing
    * splits: train (folder ``training``), val and, as published, the same chips again as test
      (``validation``); some chips of these folders show the same ground. With ``splits: non_overlapping``, the lists
      of Marti-Escofet et al., 524, 160 and 120 chips of both folders that share no ground
    * dates: year and day of year in the file names
    * licence: CC BY 4.0

    Layout::

        root/training/subsetted_512x512_HLS.S30.T10SDH.2020248.v1.4_merged.tif
        root/training/subsetted_512x512_HLS.S30.T10SDH.2020248.v1.4.mask.tif
        root/validation/...

    Phillips, Roy, Ankur, Ramachandran (2023): HLS Foundation Burnscars Dataset. Split lists: Marti-Escofet et al.
    (2025), arXiv:2504.17397.
    """

    folders = {"train": "training", "val": "validation", "test": "validation"}
    split_lists = {"non_overlapping": "hls_burn_scars_non_overlapping"}
    source = "hls_burn_scars"
    archives = ("hls_burn_scars.tar.gz",)
    file_bands = PRITHVI_BANDS
    # Statistics from the configuration of hls-foundation-os for this dataset.
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

    def match_names(self, names: Sequence[str]) -> Sequence[str]:
        """The names of files of the chips of a list, which may name them by tile and date: ``T10SDH.2020248.v1``.

        Chips in the folders that are in no split of the list cause a warning.

        Raises:
            DataError: A chip has no image in the folders.
        """
        assert self.splits is not None
        paths = (self.root / folder for folder in dict.fromkeys(self.folders.values()))
        stems = [
            path.name.removesuffix(self.image_suffix)
            for folder in paths
            for path in sorted(folder.glob(f"*{self.image_suffix}"))
            if not path.name.startswith("._")
        ]
        by_key = {tile_and_date(stem): stem for stem in stems} | {stem: stem for stem in stems}
        found = [by_key.get(name) or by_key.get(tile_and_date(name)) for name in names]
        missing = [name for name, stem in zip(names, found, strict=True) if stem is None]
        if missing:
            raise DataError(
                f"{self.root}: {len(missing)} of the {len(names)} chips of {self.split} in the list {self.splits} have "
                f"no image (NAME{self.image_suffix}) in {' or '.join(dict.fromkeys(self.folders.values()))}: "
                f"{_first(missing)}"
            )
        parts = read_splits(self.resolve_splits(self.splits)).values()
        listed = {tile_and_date(name) for part in parts for name in part}
        unlisted = [stem for stem in stems if tile_and_date(stem) not in listed]
        if unlisted:
            warnings.warn(
                f"{self.root}: {len(unlisted)} of {len(stems)} chips are in no split of the list {self.splits}, so "
                f"they are not used: {_first(unlisted)}",
                stacklevel=2,
            )
        return [stem for stem in found if stem is not None]

    def dates(self, chip: Chip) -> list[date | None]:
        """The date in the name of the chip, such as ``.2020248.``."""
        found = re.search(r"\.(\d{7})\.", chip.name)
        return [datetime.strptime(found.group(1), "%Y%j").date() if found else None]

    def to_classes(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Convert stored labels to classes; -1 means not labelled."""
        return np.where(stored == -1, IGNORE_INDEX, stored)
