"""The scene format of rasters: one file that GDAL reads, with the bands of one date or of all dates."""

import re
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

from ..bands import band_indexes, band_occurrences, means, names_no_band, resolve_band
from ..errors import BandNameError, ConfigError, DataError, counted
from .frames import FrameRequest, SceneFormat, SceneFrame
from .grid import Grid
from .quality import quality_kind
from .raster import alpha_band, data_bands, open_raster
from .scaling import band_scaling
from .scene import BandFile, QualityFile
from .words import is_remote, is_subdataset

_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2")
_OUTPUT = re.compile(r"_(pred|probabilities|confidence)\.tif$|^index_.*\.vrt$")


class GDALRasters(SceneFormat):
    """A raster, an address or ``/vsi`` path of one, or a part of a file in GDAL's own form."""

    description = ", ".join(_SUFFIXES)

    def matches(self, path: str) -> bool:
        """Whether a path is a file, or a name that only GDAL can open."""
        return is_remote(path) or is_subdataset(path) or Path(path).is_file()

    def group(self, paths: Sequence[str]) -> tuple[list[str], list[str]]:
        """Files with the suffix of a raster; maps of this package are skipped."""
        frames = [
            path
            for path in paths
            if Path(path).suffix.lower() in _SUFFIXES and not _OUTPUT.search(Path(path).name)
        ]
        return frames, [path for path in paths if path not in frames]

    def open(self, path: str, request: FrameRequest) -> SceneFrame:
        """Find bands by options, by descriptions, or by their positions in the training data."""
        return _Raster(path, request).frame()


class _Raster:
    """A raster and the request for its frames."""

    def __init__(self, path: str, request: FrameRequest) -> None:
        self.path = path
        self.request = request
        self.spec = request.spec
        self.options = request.options

    def frame(self) -> SceneFrame:
        path, num_frames, bands = self.path, self.request.num_frames, self.request.bands
        with open_raster(path) as source:
            grid = Grid.of(source)
            indexes, dates, how = self._indexes(source, num_frames, bands)
            channels = tuple(self._channel(source, path, index) for index in indexes)
            kinds = [quality_kind(text) for text in source.descriptions]
        layers = [QualityFile(path, index, kind) for index, kind in enumerate(kinds, start=1) if kind]
        quality = layers[0] if num_frames == 1 and len(layers) == 1 else None
        names = self.spec.bands * num_frames
        listed = " ".join(f"{name}={index}" for name, index in zip(names, indexes, strict=True))
        values = channels[0].nodata
        nodata = (
            f"; nodata: {' '.join(f'{value:g}' for value in values)}, in addition to tags and NaN"
            if values
            else ""
        )
        return SceneFrame(grid, channels, dates, f"{listed} ({how}{nodata})", quality)

    def _channel(self, source: DatasetReader, path: str, index: int) -> BandFile:
        if index < 1 or index > source.count:
            raise DataError(
                f"{path}: has {counted(source.count, 'band')}; band {index} (counted from 1) is requested"
            )
        options = self.options
        scale, offset = band_scaling(source, index, self.spec, options.legacy, strict=options.training)
        if options.scale is not None:
            scale, offset = options.scale, options.offset
        elif (scale, offset) == (self.spec.scale, 0.0):
            offset = options.offset
        else:
            self.request.refuse_offset_alone(path)
        # Nodata values of the training data may be data in other files: 0 is a dark pixel in most.
        alpha = alpha_band(source, self.spec.file_count)
        trained = self.spec.nodata if data_bands(source, self.spec.file_count) == self.spec.file_count else ()
        return BandFile(path, index, scale, offset, tuple(sorted({*trained, *options.nodata})), alpha)

    def _indexes(
        self, source: DatasetReader, num_frames: int, bands: Sequence[int | str]
    ) -> tuple[list[int], tuple[date | None, ...], str]:
        """Bands of a raster, time-major; the dates in their descriptions; and how the bands were found."""
        spec = self.spec
        wanted = len(spec.bands) * num_frames
        count = data_bands(source, spec.file_count)
        unknown = (None,) * num_frames
        if bands:
            pairs = zip(bands, spec.bands * num_frames, strict=True)
            return [self._index(band, name, source) for band, name in pairs], unknown, "as given"
        days = _described_dates(source)
        described = not names_no_band(source.descriptions)
        day = (days[0] if len(days) == 1 else None,)
        if self._is_described_as_in_training(source, num_frames) and not (num_frames > 1 and days):
            dates = day if num_frames == 1 else unknown
            return list(spec.file_bands), dates, "same descriptions and positions as in the training data"
        if num_frames == 1 and described:
            found = band_indexes(
                spec.bands, source.descriptions, source.name, self.options.sensor, self._advice(source)
            )
            return found, day, "by the file's descriptions"
        if num_frames > 1 and days:
            return self._by_date(source, days, num_frames), tuple(days), "by the file's descriptions"
        if described and (in_turn := self._in_turn(source, num_frames)):
            return in_turn, unknown, "by the file's descriptions, dates in the order of the file"
        if spec.num_frames == num_frames and spec.file_bands and count == spec.file_count:
            how = (
                "in the order of file_bands"
                if self.options.training
                else "same positions as in the training data"
            )
            return list(spec.file_bands), unknown, f"no descriptions: {how}"
        if num_frames > 1 and self._has_one_date(source, count):
            raise DataError(
                f"{source.name}: has one date of {counted(count, 'band')}, but the model takes {num_frames} dates; "
                f"join the files of the dates with {'a comma' if num_frames == 2 else 'commas'}: before.tif,after.tif"
            )
        if count == wanted:
            return list(range(1, wanted + 1)), unknown, "no descriptions: in the order of the file"
        several = f"{num_frames} dates of " if num_frames > 1 else ""
        raise BandNameError(
            f"{source.name}: has {counted(count, 'band')}, the model takes {wanted} ({several}{' '.join(spec.bands)})",
            self._advice(source),
        )

    def _has_one_date(self, source: DatasetReader, count: int) -> bool:
        """Whether a raster has the bands of one date, by their number or because all have different names."""
        if count in (len(self.spec.bands), self.spec.file_count / self.spec.num_frames):
            return True
        if not all(source.descriptions):
            return False
        try:
            bands, sensor = self.spec.bands, self.options.sensor
            return all(
                len(places) == 1
                for places in band_occurrences(bands, source.descriptions, source.name, sensor)
            )
        except DataError:  # descriptions of other bands
            return False

    def _is_described_as_in_training(self, source: DatasetReader, num_frames: int) -> bool:
        spec = self.spec
        if self.options.sensor is not None or not spec.file_bands or num_frames != spec.num_frames:
            return False
        trained = [without_date(text) for text in spec.file_descriptions]
        return [without_date(text) for text in source.descriptions] == trained

    def _advice(self, source: DatasetReader) -> str:
        if self.options.training:
            return "set file_bands to the names of all bands of a file, in their order"
        wanted = len(self.spec.bands) * self.request.num_frames
        # Descriptions that name other bands suggest another order.
        fits = wanted <= source.count and not any(source.descriptions)
        example = f", for example bands={list(range(1, wanted + 1))}" if fits else ""
        of_dates = " of each date" if self.request.num_frames > 1 else ""
        return (
            f"for each of {', '.join(self.spec.bands)}{of_dates}, say which band of the file it is, by index (1 to "
            f"{source.count}) or name{example}"
        )

    def _in_turn(self, source: DatasetReader, num_frames: int) -> list[int]:
        """Bands by descriptions that name each band once per date, without dates; otherwise an empty list."""
        bands, sensor = self.spec.bands, self.options.sensor
        try:
            found = band_occurrences(bands, source.descriptions, source.name, sensor)
        except DataError:  # descriptions of other bands
            return []
        if any(len(places) != num_frames for places in found):
            return []
        return [places[frame] for frame in range(num_frames) for places in found]

    def _by_date(self, source: DatasetReader, days: Sequence[date], num_frames: int) -> list[int]:
        if len(days) != num_frames:
            raise DataError(
                f"{source.name}: the model takes {counted(num_frames, 'date')}, but its band descriptions contain "
                f"{len(days)}; join the files of one scene by commas: before.tif,after.tif"
            )
        indexes: list[int] = []
        for day in days:
            texts = [text if _described_date(text) == day else None for text in source.descriptions]
            indexes += band_indexes(
                self.spec.bands, texts, source.name, self.options.sensor, self._advice(source)
            )
        return indexes

    def _index(self, band: int | str, name: str, source: DatasetReader) -> int:
        sensor = self.options.sensor
        if isinstance(band, int) or band.isdigit():
            if self.options.training:
                self._compare_description(int(band), name, source)
            return int(band)
        if means(band, sensor) not in (None, name):
            raise ConfigError(
                f"bands: {band!r} is {means(band, sensor)}, but {name} is expected in this position; the model "
                f"takes {' '.join(self.spec.bands)}, in this order"
            )
        descriptions = list(source.descriptions)
        if band in descriptions:
            return descriptions.index(band) + 1
        return band_indexes([resolve_band(band, sensor)], descriptions, source.name, sensor)[0]

    def _compare_description(self, index: int, name: str, source: DatasetReader) -> None:
        text = source.descriptions[index - 1] if index <= source.count else None
        described = means(without_date(text), self.options.sensor)
        if described not in (None, name):
            meant = text if text == described else f"{text} ({described})"
            raise ConfigError(
                f"file_bands: band {index} of {source.name} is described as {meant}, but file_bands "
                f"reads it as {name}; put file_bands in the order of the file, or remove it, as the "
                "descriptions name the bands"
            )


def _described_date(text: str | None) -> date | None:
    digits = re.search(r"_(\d{8})$", text or "")
    try:
        return datetime.strptime(digits.group(1), "%Y%m%d").date() if digits else None
    except ValueError:  # a number, but no date
        return None


def without_date(text: str | None) -> str:
    """A band description without the date at its end: ``B02`` from ``B02_20200630``."""
    return (text or "")[:-9] if _described_date(text) else text or ""


def _described_dates(source: Any) -> list[date]:
    return sorted({day for day in map(_described_date, source.descriptions) if day is not None})
