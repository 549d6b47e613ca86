"""ChipReader: reads the files of the chips of a dataset, rasters or files that a subclass reads."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from torch import Tensor

from ...errors import BandCountError, DataError, UnknownLabelError, ValueRangeError, counted
from ...readers.grid import Grid
from ...readers.labels import check_label_bands, check_label_tag, label_counts, read_labels, whole_labels
from ...readers.raster import (
    Bands,
    alpha_band,
    as_floats,
    band_descriptions,
    center,
    data_bands,
    open_raster,
    read_stored,
)
from ...readers.scaling import Scaling, band_scaling
from ...spec import DataSpec
from ...targets import IGNORE_INDEX, ClassTarget
from .array_files import scaled_bands, stored_bands, stored_labels
from .chip_files import Chip
from .own_methods import calling, check_dates, checked_classes, reading_file
from .stored_chips import StoredChip, packed

#: Size of a stored value in bytes, at most; wider values are converted to float32.
_STORED_BYTES = 4
_SAMPLED_CHIPS = 8


@contextmanager
def advice_for_bad_chips() -> Iterator[None]:
    """A context that adds to the error of a chip how to find and skip such chips."""
    try:
        yield
    except (UnknownLabelError, ValueRangeError, BandCountError):
        raise  # the message has the advice
    except DataError as error:
        raise DataError(f"{error}; prithvi-tg check lists such chips, skip_bad=True skips them") from error


class ChipReader:
    """Reads images, masks, dates and places of chips; the part of `ChipDataset` that a subclass may override."""

    spec: DataSpec
    chips: list[Chip]
    legacy_nodata: bool
    _mean: NDArray[np.float32]
    num_frames = 1
    class_names: tuple[str, ...] = ()
    #: What to do about labels that are not a class, at the end of the error.
    label_advice = (
        f"map it in to_classes to the number of its class, or to {IGNORE_INDEX} if it means not labelled; or add it to "
        "class_names"
    )
    #: What to do about chips that all have another number of bands, at the end of the error.
    band_advice = ""

    def read_image(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read an image (T, C, H, W) in the unit of the statistics, and a mask of its pixels with data.

        Pixels without data have the mean of the band. With `legacy_nodata`, all pixels count as data and keep their
        stored values, as in hls-foundation-os.
        """
        (values, valid, _), scalings = self._read_image(path)
        stored = StoredChip(values, packed(valid), None, scalings)
        image, _ = stored.in_unit(self.spec.input, self._mean, self.legacy_nodata)
        shape = (self.num_frames, len(self.spec.input.bands), *values.shape[1:])
        return image.reshape(shape), valid.reshape(shape)

    def load_image(self, path: Path) -> NDArray[Any] | None:
        """Stored values of all bands of an image (T*C, H, W), of any real type; ``None`` if it is a raster.

        Bands, nodata, scale and statistics are applied to them as to those of a raster.
        """
        return None

    def load_mask(self, path: Path) -> NDArray[Any] | None:
        """Stored labels (H, W), which `to_classes` converts; ``None`` if the file is a raster. NaN is not labelled.

        For a `ValueChipFolder`, stored values (H, W) or (V, H, W), which its `value_scale` converts to the unit.
        """
        return None

    def _image(self, path: Path) -> tuple[Bands, tuple[Scaling, ...]]:
        if type(self).read_image is ChipReader.read_image:
            return self._read_image(path)
        with reading_file(path, self, "read_image"):
            returned = self.read_image(path)
        bands = scaled_bands(returned, path, self.spec.input)
        return bands, (Scaling(1.0),) * len(bands.values)

    def _read_image(self, path: Path) -> tuple[Bands, tuple[Scaling, ...]]:
        """Stored values (T*C, H, W) and their scalings."""
        spec, legacy = self.spec.input, self.legacy_nodata
        with reading_file(path, self, "load_image"):
            array = self.load_image(path)
        if array is None:
            with open_raster(path) as source:
                count = data_bands(source, spec.file_count)
                if count != spec.file_count:
                    raise self._band_count_error(path, count)
                alpha = alpha_band(source, spec.file_count)
                bands = read_stored(source, spec.file_bands, spec.nodata, alpha=alpha, legacy=legacy)
                scalings = [band_scaling(source, one, spec, legacy, strict=True) for one in spec.file_bands]
        else:
            bands = stored_bands(array, path, spec, legacy)
            scalings = [Scaling(spec.scale)] * len(spec.file_bands)
        if bands.values.itemsize > _STORED_BYTES:
            bands = as_floats(bands)
        if legacy:
            bands = bands._replace(valid=np.ones_like(bands.valid))
        return bands, tuple(scalings)

    def _band_count_error(self, path: Path, count: int) -> DataError:
        """The error of a chip with another number of bands; without advice to skip it if other chips are alike."""
        spec = self.spec.input
        kind, stored = type(self), getattr(self, "file_bands", ()) or spec.bands
        named = f" (bands: {', '.join(stored)})" if spec.file_count == len(stored) else ""
        advice = self.band_advice
        if not advice and not kind.__module__.startswith(f"{__package__.partition('.')[0]}."):
            advice = f"; set file_bands and num_frames of {kind.__name__} to the bands of a file"
        text = f"{path}: has {counted(count, 'band')}, but {spec.file_count} are expected{named}"
        other = next((chip.image for chip in (self.chips[0], self.chips[-1]) if chip.image != path), path)
        with suppress(DataError), open_raster(other) as source:
            if data_bands(source, spec.file_count) == count:
                return BandCountError(f"{text}{advice}")
        return DataError(text)

    @contextmanager
    def _raster(self, path: Path) -> Iterator[DatasetReader | None]:
        """The raster of an image; ``None`` for another file that a subclass can read."""
        with ExitStack() as stack:
            try:
                source = stack.enter_context(open_raster(path))
            except DataError:
                if not self.overrides_reading:
                    raise
                source = None
            yield source

    @property
    def overrides_reading(self) -> bool:
        """Whether a subclass overrides how images are read, so that files may be no rasters."""
        return any(
            getattr(type(self), name) is not getattr(ChipReader, name)
            for name in ("read_image", "load_image")
        )

    def stored_bytes(self) -> int:
        """Approximate size of all chips in bytes, each as a `StoredChip`, from a few files or, of rasters, headers."""
        sizes = []
        for chip in self.chips[:: max(1, len(self.chips) // _SAMPLED_CHIPS)]:
            with suppress(DataError):  # reading the chip reports the error
                sizes.append(self._stored_size(chip.image))
        return len(self.chips) * sum(sizes) // max(1, len(sizes))

    def _stored_size(self, path: Path) -> int:
        if self.overrides_reading:
            values = self._image(path)[0].values
            return values.nbytes + values[0].size
        with open_raster(path) as source:
            width = min(np.dtype(source.dtypes[0]).itemsize, _STORED_BYTES)
            return source.height * source.width * (len(self.spec.input.file_bands) * width + 1)

    @property
    def pixel_size(self) -> float | None:
        """Size of a pixel of the first chip in metres; ``None`` without a georeference."""
        with advice_for_bad_chips(), self._raster(self.chips[0].image) as source:
            return None if source is None else Grid.of(source).pixel_size

    @property
    def image_size(self) -> int:
        """Longest side of the first chip in pixels."""
        path = self.chips[0].image
        with advice_for_bad_chips():
            if self.overrides_reading:
                return max(self._image(path)[0].values.shape[-2:])
            with open_raster(path) as source:
                return max(source.shape)

    @property
    def file_descriptions(self) -> tuple[str, ...]:
        """Band descriptions of the first chip; empty if they name no band, or if a subclass reads the images."""
        if self.overrides_reading:
            return ()
        with advice_for_bad_chips():
            return band_descriptions(self.chips[0].image)

    def read_mask(self, path: Path) -> NDArray[Any]:
        """Read classes (H, W), 255 for pixels without a label.

        Raises:
            DataError: A label is not an integer or not a class, or the raster has several bands.
            ConfigError: The nodata tag of the raster is the value of a class.
        """
        with reading_file(path, self, "load_mask"):
            array = self.load_mask(path)
        tag = None
        if array is None:
            with open_raster(path) as source:
                if not self.legacy_nodata:
                    check_label_bands(source, path)
                    tag = source.nodata
                stored, labelled = read_labels(source, path, legacy=self.legacy_nodata)
        else:
            values, labelled = stored_labels(array, path)
            stored = whole_labels(values, labelled, path)
        mask = np.where(labelled, self._classes_of(stored), IGNORE_INDEX)
        self._check_classes(mask, stored, path)
        check_label_tag(tag, path, self._class_of)  # labels that are no class are the more likely cause
        return mask

    def _mask(self, path: Path) -> NDArray[Any]:
        if type(self).read_mask is ChipReader.read_mask or self.spec.target.kind != "classes":
            return self.read_mask(path)
        with reading_file(path, self, "read_mask"):
            returned = self.read_mask(path)
        labels, labelled = stored_labels(returned, path, "read_mask")
        mask = np.where(labelled, whole_labels(labels, labelled, path), IGNORE_INDEX)
        self._check_classes(mask, mask, path)
        return mask

    def _check_classes(self, mask: NDArray[Any], stored: NDArray[Any], path: Path) -> None:
        outside = ClassTarget.is_labelled(mask) & ((mask < 0) | (mask >= len(self.class_names)))
        if outside.any():
            values, first, counts = np.unique(stored[outside], return_index=True, return_counts=True)
            unknown = dict(zip(values.tolist(), counts.tolist(), strict=True))
            became = zip(values.tolist(), mask[outside][first].tolist(), strict=True)
            converted = {
                value: number for value, number in became if value != number and self.converts_labels
            }
            raise UnknownLabelError(f"{path}: {self.unknown_labels(unknown, converted)}", unknown, converted)

    @property
    def converts_labels(self) -> bool:
        """Whether results of `to_classes` explain why a label is unknown."""
        return True

    def unknown_labels(self, counts: dict[int, int], converted: dict[int, int]) -> str:
        """Error message for stored labels that are not a class; for the arguments see `UnknownLabelError`."""
        classes = ", ".join(f"{number} {name}" for number, name in enumerate(self.class_names))
        these = f"the {counted(len(self.class_names), 'class', 'classes')} ({classes}); {self.label_advice}"
        noun, one_of = ("label", "one of") if len(counts) == 1 else ("labels", "among")
        if converted:
            return f"stored {noun} {label_counts(counts, converted)}, not {one_of} {these}"
        return f"{noun} {label_counts(counts)} {'is' if len(counts) == 1 else 'are'} not {one_of} {these}"

    def _classes_of(self, stored: NDArray[np.int64]) -> NDArray[Any]:
        with calling(self, "to_classes"):
            classes = self.to_classes(stored)
        return checked_classes(classes, stored, self)

    def _class_of(self, value: int) -> str | None:
        """Class name of a stored label; ``None`` if it is not a class."""
        number = int(self._classes_of(np.array([[value]], np.int64))[0, 0])
        return self.class_names[number] if 0 <= number < len(self.class_names) else None

    def read_metadata(self, chip: Chip) -> dict[str, Tensor]:
        """``timestamps`` (T, 2) and ``location`` (2,) of a chip, NaN where unknown."""
        with calling(self, "dates"):
            dates = self.dates(chip)
        check_dates(dates, self)
        days = [(day.year, day.timetuple().tm_yday) if day else (np.nan, np.nan) for day in dates]
        with self._raster(chip.image) as source:
            place = (np.nan, np.nan) if source is None else center(source)
        return {"timestamps": torch.tensor(days).float(), "location": torch.tensor(place).float()}

    def dates(self, chip: Chip) -> list[date | None]:
        """The date of each frame; ``None`` where unknown."""
        return [None] * self.num_frames

    def to_classes(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Convert stored labels to classes and 255; by default they are equal."""
        return stored
