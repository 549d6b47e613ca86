"""Sen1Floods11: hand-labelled floods."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...bands import SENSORS
from ...errors import DataError
from ...targets import IGNORE_INDEX
from ..download import SOURCES, download_files
from .base import Chip, ChipDataset, pair_by_stem, read_splits, split_list


class Sen1Floods11(ChipDataset):
    """Sen1Floods11, the hand-labelled part with Sentinel-2 images.

    446 chips of 512 x 512 pixels at 10 m from eleven flood events.

    * sensor: Sentinel-2 level 1C, 13 bands, int16 reflectance x 1e4, tagged nodata = 0 (-9999 occurs too)
    * classes: no water, water; -1 is not labelled
    * splits: train 252, val 89, test 90, and bolivia 15, a separate event
    * licence: CC BY 4.0

    Layout::

        root/v1.1/data/flood_events/HandLabeled/S2Hand/NAME_S2Hand.tif
        root/v1.1/data/flood_events/HandLabeled/LabelHand/NAME_LabelHand.tif

    Bonafilia, Tellman, Anderson, Issenberg (2020): Sen1Floods11, a georeferenced dataset to train and test
    deep learning flood algorithms for Sentinel-1. CVPR Workshops.
    """

    folder = Path("v1.1/data/flood_events/HandLabeled")
    file_bands = tuple(SENSORS["sentinel2"].values())
    sensor = "sentinel2"
    # Statistics and scale from the configuration of hls-foundation-os for this dataset.
    default_mean = (0.14245495, 0.13921481, 0.12434631, 0.31420089, 0.20743526, 0.12046503)
    default_std = (0.04036231, 0.04186983, 0.05267646, 0.0822221, 0.06834774, 0.05294205)
    scale = 0.0001
    nodata = (0.0, -9999.0)
    legacy_fill = 0.0
    label_advice = "these are not the published labels; describe chips of your own with ChipFolderDataModule"
    class_names = ("No water", "Water")
    class_colors = ("#e6dcc3", "#1f78b4")
    split_lists = {"published": "sen1floods11"}
    split_names = ("train", "val", "test", "bolivia")

    def download(self) -> None:
        """Download the missing chips of the published lists or of `splits`."""
        lists = read_splits(self.resolve_splits(self.splits or "published"))
        names = [
            f"{self.folder.as_posix()}/{kind}/{chip}_{kind}.tif"
            for chips in lists.values()
            for chip in chips
            for kind in ("S2Hand", "LabelHand")
        ]
        download_files(SOURCES["sen1floods11"], names, self.root)

    def find_chips(self) -> list[Chip]:
        """The chips of the split, from the published lists or `splits`.

        Raises:
            ConfigError: The split is unknown.
            DataError: The folder or a file is missing.
        """
        folder = self.root / self.folder
        if not any((folder / "S2Hand").glob("*_S2Hand.tif")):
            raise DataError(
                f"{folder / 'S2Hand'}: contains no chips (NAME_S2Hand.tif); set root to the folder that has v1.1/"
            )
        return pair_by_stem(
            split_list(self.resolve_splits(self.splits or "published"), self.split),
            image=lambda name: folder / "S2Hand" / f"{name}_S2Hand.tif",
            mask=lambda name: folder / "LabelHand" / f"{name}_LabelHand.tif",
        )

    def to_classes(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Convert stored labels to classes; -1 means not labelled."""
        return np.where(stored == -1, IGNORE_INDEX, stored)
