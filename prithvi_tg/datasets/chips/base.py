"""ChipDataset: base class of datasets of chips, pairs of an image and a mask."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torchgeo.datasets import NonGeoDataset

from ...bands import PRITHVI_BANDS, resolve_band
from ...errors import ConfigError, DataError, IncompleteChipError, MissingStatisticsError
from ...plotting import plot_sample
from ...spec import DataSpec, InputSpec
from ...targets import IGNORE_INDEX, ClassTarget
from .chip_cache import ChipCache
from .chip_files import Chip, pair_by_stem
from .chip_reader import ChipReader, advice_for_bad_chips
from .own_methods import calling, check_attributes, checked_chips
from .split_lists import published_splits, read_splits, split_list
from .stored_chips import CropPlace, StoredChip, crop_sample, packed

__all__ = [
    "Chip",
    "ChipDataset",
    "Sample",
    "pair_by_stem",
    "published_splits",
    "read_splits",
    "split_list",
]

Sample = dict[str, Any]


class ChipDataset(ChipReader, NonGeoDataset):
    """Chips: small images, each with a mask of the same size.

    A sample has

    * ``image``: float32 (T, C, H, W), scaled; pixels without data have the mean of the band;
    * ``valid``: bool (T, C, H, W), true for pixels with data;
    * ``mask``: int64 (H, W), classes; 255 for pixels without a label or without data in all bands;
    * ``name``: name of the chip;
    * ``meaningless``: int64 (1,), number of values of the image that are not finite or beyond 1e30;
    * with `metadata`, ``timestamps``: float32 (T, 2), year and day of year 1..366, and ``location``: float32
      (2,), latitude and longitude of the centre in degrees; NaN where unknown.

    A subclass describes a dataset in class attributes and implements `find_chips`; for files that are not rasters, also
    `load_image` and `load_mask`.

    Args:
        root: Folder of the dataset.
        split: Part of the dataset.
        splits: A CSV file with columns ``chip`` and ``split`` to use instead of the published split, or a name in
            `split_lists`.
        bands: Bands to read, by name; bands without published statistics need `mean` and `std`.
        mean: Mean per band after scaling; the published one by default. It fills pixels without data.
        std: Standard deviation per band after scaling; the published one by default.
        legacy_nodata: Treat pixels without data as in hls-foundation-os, see `read_image`.
        metadata: Add dates and locations to the samples, for encoders that use them.
        download: Download missing files first; see `prithvi_tg.datasets.download` for the sources.
        transforms: Called with each sample.

    Raises:
        ConfigError: `find_chips` does not return a list of `Chip`.
        DataError: There are no chips, or the image or the mask of one is missing.
    """

    #: Bands of one frame in the order of the files, by name: all bands of the first date, then of the second.
    file_bands: tuple[str, ...] = ()
    #: Sensor whose band names are accepted for `bands`.
    sensor: str | None = None
    #: Published statistics per band of `PRITHVI_BANDS`, after scaling.
    default_mean: tuple[float, ...] = ()
    default_std: tuple[float, ...] = ()
    #: Factor from stored values to the unit of the statistics.
    scale = 1.0
    #: Stored values that mean nodata, besides the file's tag and NaN.
    nodata: tuple[float, ...] = ()
    #: See `InputSpec.legacy_fill`.
    legacy_fill: float | None = None
    class_colors: tuple[str, ...] = ()
    split_names: tuple[str, ...] = ("train", "val", "test")
    #: Value of `splits` -> name of a list of the package, see `published_splits`.
    split_lists: Mapping[str, str] = MappingProxyType({})
    #: Label of pixels without a label.
    unlabelled: float = IGNORE_INDEX
    #: Cache of decoded chips; a data module sets it.
    cache: ChipCache | None = None

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        splits: str | Path | None = None,
        bands: Sequence[str] = PRITHVI_BANDS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        legacy_nodata: bool = False,
        metadata: bool = False,
        download: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.root = Path(root)
        self.split = split
        self.splits = splits
        self.legacy_nodata = legacy_nodata
        self.metadata = metadata
        self.transforms = transforms
        self.spec = self._spec(bands, mean, std)
        self._mean = np.asarray(self.spec.input.channel_mean, dtype=np.float32)
        if download:
            self.download()
        try:
            with calling(self, "find_chips"):
                found = self.find_chips()
        except IncompleteChipError as error:
            is_list = splits is not None and Path(splits).is_file()
            row = f"remove the row of the chip from {splits}, " if is_list else ""
            raise DataError(f"{error}; add it, {row}or skip such chips with skip_bad=True") from error
        self.chips = checked_chips(found, self)

    def _spec(
        self, bands: Sequence[str], mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> DataSpec:
        return self.data_spec(bands, mean, std)

    @classmethod
    def data_spec(
        cls,
        bands: Sequence[str] = PRITHVI_BANDS,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> DataSpec:
        """Description of the dataset, for models that are trained on it: bands, statistics and classes.

        Raises:
            ConfigError: A band is unknown or not in the files, its statistics are neither published nor given, or an
                attribute is not valid.
        """
        check_attributes(cls)
        names = tuple(resolve_band(band, cls.sensor) for band in bands)
        for band, name in zip(bands, names, strict=True):
            if name not in cls.file_bands:
                raise ConfigError(
                    f"bands: {band!r} is not in {cls.__name__}; it has {', '.join(cls.file_bands)}"
                )
        if mean is None or std is None:
            unknown = [name for name in names if name not in PRITHVI_BANDS]
            if unknown:
                raise MissingStatisticsError(
                    f"mean, std: no published statistics for {', '.join(unknown)}; set both under data, prithvi-tg "
                    "stats computes them"
                )
            if not (cls.default_mean and cls.default_std):
                raise MissingStatisticsError(
                    f"mean, std: {cls.__name__} has no default_mean and default_std; set data.mean and data.std "
                    "to those that prithvi-tg stats prints"
                )
            places = [PRITHVI_BANDS.index(name) for name in names]
            mean = mean or [cls.default_mean[place] for place in places]
            std = std or [cls.default_std[place] for place in places]
        inputs = InputSpec(
            bands=names,
            mean=tuple(mean),
            std=tuple(std),
            num_frames=cls.num_frames,
            scale=cls.scale,
            nodata=cls.nodata,
            legacy_fill=cls.legacy_fill,
            file_bands=tuple(
                1 + frame * len(cls.file_bands) + cls.file_bands.index(name)
                for frame in range(cls.num_frames)
                for name in names
            ),
            file_count=cls.num_frames * len(cls.file_bands),
        )
        return DataSpec(inputs, ClassTarget(cls.class_names, cls.class_colors))

    def download(self) -> None:
        """Download missing files.

        Raises:
            ConfigError: The dataset is not published.
        """
        raise ConfigError(f"download: {type(self).__name__} has no published archive; remove download")

    @classmethod
    def resolve_splits(cls, splits: str | Path) -> Path:
        """Path of the file of split lists that `splits` names.

        Raises:
            ConfigError: It is neither a file nor a name in `split_lists`.
        """
        if str(splits) in cls.split_lists:
            return published_splits(cls.split_lists[str(splits)])
        if Path(splits).suffix or Path(splits).exists():
            return Path(splits)
        known = f" or one of {', '.join(cls.split_lists)}" if cls.split_lists else ""
        raise ConfigError(f"splits: {str(splits)!r} is not a list of {cls.__name__}; give a CSV file{known}")

    def find_chips(self) -> list[Chip]:
        """Find the chips of the split and their masks; see `pair_by_stem`."""
        raise NotImplementedError

    def leave_out_bad(self) -> dict[str, str]:
        """Read all chips, and remove the unreadable ones from the dataset.

        Returns:
            The error of each removed chip, by name.

        Raises:
            DataError: All chips are unreadable.
        """
        bad: dict[str, str] = {}
        good = []
        for chip in self.chips:
            try:
                self.read_chip(chip)
            except DataError as error:
                bad[chip.name] = str(error)
            else:
                good.append(chip)
        if not good:
            raise DataError(
                f"{self.root}: no chip of {self.split} can be read; first error: {next(iter(bad.values()))}"
            )
        self.chips = good
        return bad

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> Sample:
        with advice_for_bad_chips():
            sample = self.read_chip(self.chips[index])
        return sample if self.transforms is None else self.transforms(sample)

    def crop(self, place: CropPlace, side: int | None) -> Sample:
        """Return a square crop of a chip for training; only its pixels are copied and converted.

        A chip that is smaller than the crop is padded at its bottom and right, without label and data, with band means.

        Args:
            place: The chip and the position of the crop in it.
            side: Side of the crop in pixels; ``None`` for the whole chip.

        Returns:
            The sample, without ``valid`` if all pixels have data.
        """
        if self.transforms is not None or type(self).read_chip is not ChipDataset.read_chip:
            return crop_sample(self[place.chip], place, side, self._mean)  # samples may differ from the files
        chip = self.chips[place.chip]
        with advice_for_bad_chips():
            stored = self.stored_chip(chip)
        return crop_sample(
            self._sample(chip, stored.crop(place, side)), place, side, self._mean, cropped=True
        )

    def read_chip(self, chip: Chip) -> Sample:
        """Return the sample of a chip, before transforms.

        Raises:
            DataError: A file cannot be read, or differs in size or number of bands.
        """
        sample = self._sample(chip, self.stored_chip(chip))
        if "valid" not in sample:
            sample["valid"] = torch.ones(sample["image"].shape, dtype=torch.bool)
        return sample

    def stored_chip(self, chip: Chip) -> StoredChip:
        """Return the content of the files of a chip, from the cache if there is one.

        Raises:
            DataError: A file cannot be read, or differs in size or number of bands.
        """
        if self.cache is None:
            return self.decode(chip)
        entry = self.cache.entry(chip)
        stored = self.cache.load(entry)
        if stored is None:
            stored = self.decode(chip)
            self.cache.store(entry, stored)
        return stored

    def decode(self, chip: Chip) -> StoredChip:
        """Read the files of a chip.

        Raises:
            DataError: A file cannot be read, or differs in size or number of bands.
        """
        (values, valid, meaningless), scalings = self._image(chip.image)
        metadata = {}
        if self.metadata:
            with calling(self, "read_metadata"):
                metadata = {key: value.numpy() for key, value in self.read_metadata(chip).items()}
        label = self._read_label(chip, valid)
        bits = None if valid.all() else packed(valid)
        return StoredChip(values, bits, label, scalings, bool(valid.any()), meaningless, metadata)

    def _read_label(self, chip: Chip, valid: NDArray[np.bool_]) -> NDArray[Any] | None:
        """Read the mask of a chip in the form of a cache; `valid` (T*C, H, W) marks the image's pixels with data."""
        mask = self._mask(chip.mask)
        if mask.shape[-2:] != valid.shape[-2:]:
            name = "" if chip.image == chip.mask else f" {chip.image.name}"
            raise DataError(
                f"{chip.mask}: mask has {mask.shape[-2]} x {mask.shape[-1]} pixels (rows x columns), image{name} has "
                f"{valid.shape[-2]} x {valid.shape[-1]}; both must have the same size"
            )
        if not self.legacy_nodata:
            mask[..., ~valid.any(axis=0)] = self.unlabelled
        fits_byte = mask.dtype.kind in "iu" and mask.size and mask.min() >= 0 and mask.max() <= IGNORE_INDEX
        return mask.astype(np.uint8) if fits_byte else mask

    def _target(self, chip: Chip, stored: StoredChip) -> Sample:
        """The label of a sample."""
        assert stored.label is not None
        label = stored.label
        return {"mask": torch.from_numpy(label.astype(label.dtype if label.dtype.kind == "f" else np.int64))}

    def _sample(self, chip: Chip, stored: StoredChip) -> Sample:
        """The sample of a chip or of a crop, with ``valid`` only if some pixels have no data."""
        image, valid = stored.in_unit(self.spec.input, self._mean, self.legacy_nodata)
        shape = (self.num_frames, len(self.spec.input.bands), *image.shape[1:])
        sample: Sample = {"image": torch.from_numpy(image.reshape(shape))}
        if valid is not None:
            sample["valid"] = torch.from_numpy(valid.reshape(shape))
        sample |= self._target(chip, stored)
        sample |= {"name": chip.name, "meaningless": torch.tensor([stored.meaningless])}
        return sample | {key: torch.from_numpy(value.copy()) for key, value in stored.metadata.items()}

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draw a sample: each date in true colour, the mask, and the prediction if there is one.

        Args:
            sample: A sample of this dataset, optionally with ``prediction`` (H, W).
            show_titles: Add a title to each panel.
            suptitle: Title of the figure.
        """
        return plot_sample(sample, self.spec, show_titles, suptitle)
