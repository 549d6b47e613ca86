"""ChipFolder: your own chips, described by a configuration alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bands import resolve_band
from ...errors import ConfigError
from ...spec import DataSpec, InputSpec
from ...targets import IGNORE_INDEX, ClassTarget, check_class_names
from .base import Chip, ChipDataset, Sample, pair_by_stem, split_list


class ChipFolder(ChipDataset):
    """Chips of your own: any bands, any number of dates, any classes.

    Args:
        images: Pattern of the images, with one ``*`` that stands for the name of a chip.
        labels: Pattern of the masks, with one ``*`` that stands for the same name.
        splits: A CSV file with columns ``chip`` and ``split``.
        classes: Name of the class of each stored label; classes are numbered in this order, and those of one name
            are one.
        bands: Bands to use, in the order of the channels, by name.
        mean: Mean per band after scaling; ``prithvi-tg stats`` computes it.
        std: Standard deviation per band after scaling.
        split: ``train``, ``val`` or ``test``.
        file_bands: Bands of one frame as the files hold them, by name; `bands` by default. Frame follows upon
            frame.
        num_frames: Dates in a file.
        sensor: Naming scheme of the bands, needed where sensors disagree.
        scale: Factor from stored values to the unit of `mean` and `std`, for files without scale tags. Tags that
            contradict it are an error.
        nodata: Stored values that mean nodata, besides the file's tag and NaN.
        ignored_labels: Stored labels that mean "not labelled".
        class_colors: ``#rrggbb`` of each class.
        legacy_nodata: See `ChipDataset`.
        metadata: See `ChipDataset`; only places are known.
        transforms: See `ChipDataset`.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: A chip of the list, or the partner of one, is missing.
    """

    def __init__(
        self,
        images: str,
        labels: str,
        splits: str | Path,
        classes: Mapping[int, str],
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        split: str = "train",
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        ignored_labels: Sequence[int] = (),
        class_colors: Sequence[str] = (),
        legacy_nodata: bool = False,
        metadata: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        for key, pattern in (("images", images), ("labels", labels)):
            if pattern.count("*") != 1:
                raise ConfigError(
                    f"{key}: {pattern!r} must contain one *, which stands for the name of a chip"
                )
        self.images = images
        self.labels = labels
        self.sensor = sensor
        self.classes = dict(classes)
        self.ignored_labels = list(ignored_labels)
        self.spec = self.data_spec(
            classes, bands, mean, std, file_bands, num_frames, sensor, scale, nodata, class_colors
        )
        self.num_frames = num_frames
        self.scale = scale
        self.nodata = tuple(nodata)
        self.class_names = self.spec.target.names
        super().__init__(
            Path(images).parent,
            split,
            splits,
            bands,
            mean,
            std,
            legacy_nodata,
            metadata,
            transforms=transforms,
        )

    def _spec(self, *_: Any) -> DataSpec:
        return self.spec

    @classmethod
    def data_spec(  # type: ignore[override]  # everything that a data set knows of itself is given here
        cls,
        classes: Mapping[int, str],
        bands: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        file_bands: Sequence[str] | None = None,
        num_frames: int = 1,
        sensor: str | None = None,
        scale: float = 1.0,
        nodata: Sequence[float] = (),
        class_colors: Sequence[str] = (),
    ) -> DataSpec:
        """Bands, statistics and classes, from the arguments of the data set.

        Raises:
            ConfigError: A band is unknown or not in the files, or the statistics do not fit the bands.
        """
        check_class_names(classes)
        names = tuple(resolve_band(band, sensor) for band in bands)
        held = [resolve_band(band, sensor) for band in file_bands] if file_bands else list(names)
        for name in names:
            if name not in held:
                raise ConfigError(f"bands: {name} is not among file_bands, {', '.join(held)}")
        inputs = InputSpec(
            bands=names,
            mean=tuple(mean),
            std=tuple(std),
            num_frames=num_frames,
            scale=scale,
            nodata=tuple(nodata),
            file_bands=tuple(
                1 + f * len(held) + held.index(name) for f in range(num_frames) for name in names
            ),
            file_count=num_frames * len(held),
        )
        return DataSpec(inputs, ClassTarget(tuple(dict.fromkeys(classes.values())), tuple(class_colors)))

    def find_chips(self) -> list[Chip]:
        """The chips that the list names for the split."""
        assert self.splits is not None
        return pair_by_stem(
            split_list(self.splits, self.split),
            image=lambda name: Path(self.images.replace("*", name)),
            mask=lambda name: Path(self.labels.replace("*", name)),
        )

    def to_classes(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Stored labels to classes; unknown ones become -1."""
        classes = np.full(stored.shape, -1, dtype=np.int64)
        for label, name in self.classes.items():
            classes[stored == label] = self.class_names.index(name)
        classes[np.isin(stored, self.ignored_labels)] = IGNORE_INDEX
        return classes
