"""Data module of chips without labels."""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..bands import PRITHVI_BANDS
from ..datasets import UnlabelledChips
from ..errors import MissingStatisticsError
from .chips import ChipDataModule


class UnlabelledChipsDataModule(ChipDataModule):
    """Batches of `UnlabelledChips`, for pre-training: random crops of chips, without labels.

    Args:
        images: Pattern of the images, with a ``*`` for the name of a chip, as in ``data/chips/*.tif``.
        splits: A CSV file with columns ``chip`` and ``split``; by default fractions.
        split_fractions: Shares of training, validation and test, if there is no list of splits; the split of a chip
            depends on a hash of its name.
        bands: Bands to use, in the order of the channels, by name.
        mean: Mean per band after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band after scaling.
        file_bands: Bands of one frame in the order of the files; `bands` by default.
        num_frames: Number of dates in a file.
        sensor: Naming scheme of the bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of `mean` and `std`, for files without scale tags. Tags that
            contradict it are an error.
        nodata: Stored values that mean nodata, besides the file's tag and NaN.
        dates: A CSV file with columns ``chip`` and ``date``: the date of each frame, YYYY-MM-DD, separated by ``;``;
            encoders that use dates need it and ``metadata: true``.
        **kwargs: Arguments of `ChipDataModule`.

    Raises:
        ConfigError: Statistics are missing.
    """

    optional_splits = ("val", "test")

    def __init__(
        self,
        images: str,
        splits: str | Path | None = None,
        split_fractions: Sequence[float] = (0.9, 0.1, 0.0),
        bands: Sequence[str] = PRITHVI_BANDS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        dates: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        if mean is None or std is None:
            raise MissingStatisticsError("mean, std: not given; prithvi-tg stats computes them")
        super().__init__(
            UnlabelledChips,
            None,
            splits=splits,
            bands=bands,
            mean=mean,
            std=std,
            images=images,
            split_fractions=split_fractions,
            file_bands=file_bands,
            num_frames=num_frames,
            sensor=sensor,
            scale=scale,
            nodata=nodata,
            dates=dates,
            **kwargs,
        )

    def listed_splits(self) -> Collection[str]:
        """The splits with chips."""
        keys = ("images", "splits", "split_fractions")
        with warnings.catch_warnings(), self._leaving_out(""):
            warnings.simplefilter("ignore")  # `open_split` warns about chips in two splits
            return UnlabelledChips.chips_by_split(**{key: self.kwargs[key] for key in keys})
