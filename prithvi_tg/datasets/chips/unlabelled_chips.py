"""UnlabelledChips: your own chips without labels, for pre-training."""

import csv
import re
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...errors import ConfigError, DataError, counted
from ...plotting import plot_sample
from ...spec import DataSpec
from ...targets import ImageTarget
from .base import Chip, Sample
from .chip_labels import ChipLabel, split_labels
from .pattern_chips import DescribedChips, describe_input
from .stored_chips import StoredChip


class UnlabelledChips(DescribedChips):
    """Your own chips without labels: any bands, any number of dates.

    A sample is as in `ChipDataset`, without ``mask``.

    Args:
        images: Pattern of the images; the name of a chip is what ``*`` stands for, or several separated by ``/``.
        bands: Bands to use, in the order of the channels, by name.
        mean: Mean per band after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band after scaling.
        splits: A CSV file with columns ``chip`` and ``split``; by default fractions.
        split_fractions: Shares of training, validation and test, if there is no list of splits. The split of a chip
            depends on a hash of its name.
        split: ``train``, ``val`` or ``test``.
        file_bands: Bands of one frame in the order of the files, by name; `bands` by default. The bands of the
            next frame follow.
        num_frames: Number of dates in a file.
        sensor: Naming scheme of the bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of `mean` and `std`, for files without scale tags. Tags that
            contradict it are an error.
        nodata: Stored values that mean nodata, besides the file's tag and NaN.
        dates: A CSV file with columns ``chip`` and ``date``: the date of each frame, YYYY-MM-DD, separated by ``;``.
            Dates of other chips are unknown.
        legacy_nodata: See `ChipDataset`.
        metadata: Add `dates` and locations to the samples, for encoders that use them.
        transforms: See `ChipDataset`.

    Raises:
        ConfigError: The pattern has no ``*`` or a ``**``, or the split has no chips.
        DataError: No file matches the pattern, a chip of the list of splits is missing, or a date cannot be read.
    """

    def __init__(
        self,
        images: str,
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        splits: str | Path | None = None,
        split_fractions: Sequence[float] = (0.9, 0.1, 0.0),
        split: str = "train",
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        dates: str | Path | None = None,
        legacy_nodata: bool = False,
        metadata: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.images = images
        self.split_fractions = tuple(split_fractions)
        self.sensor = sensor
        spec = self.data_spec(bands, mean, std, file_bands, num_frames, sensor, scale, nodata)
        self.known_dates = {} if dates is None else read_dates(dates, num_frames)
        root = Path(images.partition("*")[0])
        super().__init__(root, splits, spec, split, legacy_nodata, metadata, transforms)

    @classmethod
    def data_spec(  # type: ignore[override]  # all properties of the dataset are arguments
        cls,
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
    ) -> DataSpec:
        """Bands and statistics, from the arguments of the dataset.

        Raises:
            ConfigError: A band is unknown or not in the files, or the statistics do not match the bands.
        """
        inputs = describe_input(bands, mean, std, file_bands, num_frames, sensor, scale, nodata)
        return DataSpec(inputs, ImageTarget())

    @staticmethod
    def chips_by_split(
        images: str, splits: str | Path | None = None, split_fractions: Sequence[float] = (0.9, 0.1, 0.0)
    ) -> dict[str, list[Chip]]:
        """The chips of each split; for arguments and errors see the class."""
        if "*" not in images or "**" in images:
            raise ConfigError(
                f"images: {images!r} must contain a *, which stands for the name of a chip; ** is not supported"
            )
        fixed = Path(images.partition("*")[0] + "x").parent
        place = re.compile("([^/]*)".join(map(re.escape, str(Path(images)).split("*"))))
        found = {}
        for path in sorted(fixed.glob(str(Path(images).relative_to(fixed)))):
            matched = place.fullmatch(str(path))
            if matched is not None and not path.name.startswith("._"):  # of macOS
                found["/".join(matched.groups())] = path
        if not found:
            raise DataError(f"images: {images}: no file matches")
        named = [ChipLabel(name, path, ()) for name, path in found.items()]
        by_split = split_labels(named, splits, split_fractions, f"has no image {images}")
        return {
            split: [Chip(one.name, one.image, one.image) for one in chips]
            for split, chips in by_split.items()
        }

    def find_chips(self) -> list[Chip]:
        """The chips of the split; `Chip.mask` is the image, as there are no masks.

        Raises:
            ConfigError: The split has no chips.
        """
        return self.of_split(self.chips_by_split(self.images, self.splits, self.split_fractions))

    def dates(self, chip: Chip) -> list[date | None]:
        """The dates of the table."""
        return self.known_dates.get(chip.name, [None] * self.num_frames)

    def _read_label(self, chip: Chip, valid: NDArray[Any]) -> None:
        """``None``: there is no label."""

    def _target(self, chip: Chip, stored: StoredChip) -> Sample:
        return {}

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draw each date of a sample in true colour."""
        pixels: Sample = {key: sample[key] for key in ("image", "valid") if key in sample}
        return plot_sample(pixels, self.spec, show_titles, suptitle)


def read_dates(path: str | Path, num_frames: int) -> dict[str, list[date | None]]:
    """Dates of chips from a CSV file with columns ``chip`` and ``date``; several dates are separated by ``;``.

    Raises:
        DataError: The file cannot be read, lacks a column, or a chip has no date for each frame.
    """
    found: dict[str, list[date | None]] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                found[row["chip"]] = [date.fromisoformat(day.strip()) for day in row["date"].split(";")]
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"dates: {path}: needs columns chip and date, YYYY-MM-DD ({error})") from error
    for name, days in found.items():
        if len(days) != num_frames:
            raise DataError(
                f"dates: {path}: chip {name} has {counted(len(days), 'date')} for {counted(num_frames, 'frame')}"
            )
    return found
