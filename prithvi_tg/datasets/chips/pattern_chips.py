"""Base classes of your own chips: described by a configuration, and found by patterns of file names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...bands import check_stored, resolve_band
from ...errors import ConfigError
from ...spec import DataSpec, InputSpec
from .base import Chip, ChipDataset, Sample, pair_by_stem, split_list

#: What to do about chips with another number of bands than `describe_input` expects.
BAND_ADVICE = "; set bands, and file_bands to the names of all bands of a file"


Value = TypeVar("Value")


class DescribedChips(ChipDataset):
    """Base class of your own chips, whose bands and target are arguments; a subclass finds the chips.

    Args:
        root: Folder of the chips.
        splits: A CSV file with columns ``chip`` and ``split``, or ``None`` if the subclass assigns splits.
        spec: Bands, statistics and target.
        split: ``train``, ``val`` or ``test``.
        legacy_nodata: See `ChipDataset`.
        metadata: See `ChipDataset`.
        transforms: See `ChipDataset`.
    """

    band_advice = BAND_ADVICE

    def __init__(
        self,
        root: Path,
        splits: str | Path | None,
        spec: DataSpec,
        split: str = "train",
        legacy_nodata: bool = False,
        metadata: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.spec = spec
        self.num_frames = spec.input.num_frames
        self.scale = spec.input.scale
        self.nodata = spec.input.nodata
        super().__init__(
            root, split, splits, spec.input.bands, spec.input.mean, spec.input.std, legacy_nodata, metadata,
            transforms=transforms,
        )  # fmt: skip

    def _spec(self, *_: Any) -> DataSpec:
        return self.spec

    def of_split(self, by_split: Mapping[str, Value]) -> Value:
        """The entry of the split.

        Raises:
            ConfigError: The split has no chips.
        """
        if self.split not in by_split:
            raise ConfigError(f"split: {self.split!r} has no chips; there are chips in {', '.join(by_split)}")
        return by_split[self.split]


class PatternChips(DescribedChips):
    """Base class of your own chips, found by patterns and a list of splits; a subclass adds the target.

    Args:
        images: Pattern of the images, with one ``*`` for the name of a chip.
        labels: Pattern of the labels, with one ``*`` for the same name.
        splits: A CSV file with columns ``chip`` and ``split``.
        spec: Bands, statistics and target.
        split: ``train``, ``val`` or ``test``.
        legacy_nodata: See `ChipDataset`.
        metadata: See `ChipDataset`; only locations are known.
        transforms: See `ChipDataset`.

    Raises:
        ConfigError: A pattern does not contain exactly one ``*``.
        DataError: The image or the mask of a chip in the list is missing.
    """

    def __init__(
        self,
        images: str,
        labels: str,
        splits: str | Path,
        spec: DataSpec,
        split: str = "train",
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
        super().__init__(Path(images).parent, splits, spec, split, legacy_nodata, metadata, transforms)

    def find_chips(self) -> list[Chip]:
        """The chips of the split in the list."""
        assert self.splits is not None
        return pair_by_stem(
            split_list(self.splits, self.split),
            image=lambda name: Path(self.images.replace("*", name)),
            mask=lambda name: Path(self.labels.replace("*", name)),
        )


def describe_input(
    bands: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    file_bands: Sequence[str] | None = None,
    num_frames: int = 1,
    sensor: str | None = None,
    scale: float = 1.0,
    nodata: Sequence[float] = (),
) -> InputSpec:
    """The input of a model, from the arguments of `ChipFolder`.

    Raises:
        ConfigError: A band is unknown or not in the files, or the statistics do not match the bands.
    """
    names = tuple(resolve_band(band, sensor) for band in bands)
    stored = [resolve_band(band, sensor, "file_bands") for band in file_bands] if file_bands else list(names)
    check_stored(names, stored)
    return InputSpec(
        bands=names,
        mean=tuple(mean),
        std=tuple(std),
        num_frames=num_frames,
        scale=scale,
        nodata=tuple(nodata),
        file_bands=tuple(
            1 + f * len(stored) + stored.index(name) for f in range(num_frames) for name in names
        ),
        file_count=num_frames * len(stored),
    )
