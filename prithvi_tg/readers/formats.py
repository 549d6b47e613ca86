"""Inputs of mapping: which band of which file is each channel of a scene, and what its values mean."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

from ..bands import SENSORS, band_indexes, band_occurrences, means, names_no_band, resolve_band
from ..errors import ConfigError, DataError
from ..spec import InputSpec
from .granules import Granule, hls_granule, safe_granule
from .grid import Grid
from .quality import quality_kind
from .raster import alpha_band, data_bands, open_raster
from .scaling import band_scaling
from .scene import BandFile, QualityFile, Scene
from .scene_paths import SceneInput, find_inputs, is_granule

__all__ = ["InputOptions", "SceneInput", "find_inputs", "resolve_scene"]


@dataclass(frozen=True)
class InputOptions:
    """How the files of a scene are to be read.

    Attributes:
        bands: For each frame and band of the model, its place in a raster: an index from 1, or a name. By default
            the band descriptions of a raster decide, and without any the layout of the training data.
        sensor: Whose band names (``B05``) they are; needed where sensors disagree.
        scale: Factor from stored values to the unit of the statistics. By default what the file's scale and
            offset tags say, or else what the training data had.
        offset: Added after scaling.
        nodata: Stored values that mean "no data", beside the file's tag and NaN; and, in a file with as many bands
            as those of the training data, what meant so there.
        quality: A file with the quality layer of each frame, named by its band description or its own name
            (``SCL``, ``Fmask``), where it is not in the scene itself.
        dates: A date per frame, where files do not tell; strings are ``YYYY-MM-DD``.
        legacy: Read stored values as hls-foundation-os did: scale and offset tags are ignored.
        training: The scenes are those that a model learns from: tags that contradict the configured scale are an
            error.

    Raises:
        ConfigError: A string is no date, or a sensor is unknown.
    """

    bands: tuple[int | str, ...] = ()
    sensor: str | None = None
    scale: float | None = None
    offset: float = 0.0
    nodata: tuple[float, ...] = ()
    quality: tuple[str, ...] = ()
    dates: tuple[date | str, ...] = ()
    legacy: bool = False
    training: bool = False

    def __post_init__(self) -> None:
        if self.sensor is not None and self.sensor not in SENSORS:
            raise ConfigError(f"sensor: {self.sensor!r} is unknown; known are {', '.join(SENSORS)}")
        object.__setattr__(self, "dates", tuple(map(_to_date, self.dates)))


def _to_date(day: date | str) -> date:
    try:
        return date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError as error:
        raise ConfigError(f"dates: {day!r} is not a date; write it as YYYY-MM-DD") from error


def resolve_scene(found: SceneInput, spec: InputSpec, options: InputOptions | None = None) -> Scene:
    """Which band of which file each channel of the model is, and what its values mean.

    Args:
        found: The scene as it was named.
        spec: Bands, units and statistics that the model expects.
        options: How to read it.

    Raises:
        ConfigError: The options do not fit the model.
        DataError: The files do not hold what the model needs.
    """
    options = options or InputOptions()
    wanted = len(spec.bands) * spec.num_frames
    if options.bands and len(options.bands) != wanted:
        raise ConfigError(
            f"bands: {len(options.bands)} given, but the model takes {wanted} ({' '.join(spec.bands)}"
            f"{f', on {spec.num_frames} dates' if spec.num_frames > 1 else ''})"
        )
    if options.dates and len(options.dates) != spec.num_frames:
        raise ConfigError(f"dates: {len(options.dates)} given, but the model takes {spec.num_frames}")
    resolver = _Resolver(spec, options)
    if len(found.frames) == 1:
        frames = [resolver.frame(found.frames[0], spec.num_frames, options.bands)]
    else:
        count = len(spec.bands)
        frames = [
            resolver.frame(frame, 1, options.bands[count * number : count * (number + 1)])
            for number, frame in enumerate(found.frames)
        ]
    given: tuple[Any, ...] = options.dates
    dates: tuple[date | None, ...] = given or tuple(day for frame in frames for day in frame.dates)
    known = [day for day in dates if day is not None]
    if known != sorted(known):
        told = " ".join(str(day) for day in known)
        raise DataError(f"{found.name}: its dates are not in order ({told}); give the earliest first")
    quality = tuple(frame.quality for frame in frames if frame.quality is not None)
    if options.quality:
        if len(options.quality) != spec.num_frames:
            raise ConfigError(
                f"quality: {len(options.quality)} files given for {spec.num_frames} dates; give one for each date"
            )
        quality = tuple(map(_quality_file, options.quality))
    grid = frames[0].grid
    for frame, path in zip(frames[1:], found.frames[1:], strict=True):
        if not grid.overlaps(frame.grid):
            raise DataError(f"{path}: does not overlap {found.frames[0]}, so they are not dates of one place")
    if grid.crs is None:
        sizes = {(frame.grid.height, frame.grid.width) for frame in frames}
        if len(sizes) > 1:
            raise DataError(f"{found.frames[0]}: has no georeference, and its dates differ in size")
    if not grid.is_placed:
        warnings.warn(f"{found.frames[0]}: has no georeference, so its map has none", stacklevel=2)
    return Scene(
        found.name,
        grid,
        tuple(channel for frame in frames for channel in frame.channels),
        quality if len(quality) == spec.num_frames else (),
        dates,
        "; ".join(frame.origin for frame in frames),
        frames=found.frames,
    )


def _quality_file(path: str) -> QualityFile:
    with open_raster(path) as source:
        named = re.search(r"(?i)(scl|fmask)", Path(path).stem)
        kind = quality_kind(source.descriptions[0]) or quality_kind(named.group(1) if named else None)
    if kind is None:
        raise ConfigError(f"quality: {path} is of unknown type; its name must contain SCL or Fmask")
    return QualityFile(path, 1, kind)


@dataclass(frozen=True)
class _Frame:
    grid: Grid
    channels: tuple[BandFile, ...]
    quality: QualityFile | None
    dates: tuple[date | None, ...]
    origin: str


class _Resolver:
    def __init__(self, spec: InputSpec, options: InputOptions) -> None:
        self.spec = spec
        self.options = options

    def frame(self, path: str, num_frames: int, bands: Sequence[int | str]) -> _Frame:
        if not is_granule(path):
            return self._raster(path, num_frames, bands)
        if num_frames != 1:
            raise DataError(
                f"{path}: is one date, but the model takes {num_frames}; give all dates, joined by commas"
            )
        if bands:
            raise ConfigError(f"bands: {path} names its own bands; remove --bands")
        is_safe = path.rstrip("/").endswith(".SAFE")
        return self._granule(safe_granule(path, self.spec.bands) if is_safe else hls_granule(path))

    def _refuse_offset_alone(self, path: str) -> None:
        if self.options.offset and self.options.scale is None:
            raise ConfigError(
                f"offset: {path} has its own scale and offset; give --scale too, to override both"
            )

    def _granule(self, granule: Granule) -> _Frame:
        unit = self.spec.reflectance_unit
        options = self.options
        self._refuse_offset_alone(granule.name)
        channels = tuple(
            replace(
                file,
                scale=file.scale * unit if options.scale is None else options.scale,
                offset=file.offset * unit if options.scale is None else options.offset,
                nodata=tuple({*file.nodata, *options.nodata}),
            )
            for file in granule.band_files(self.spec.bands)
        )
        grids = []
        for channel in channels:
            with open_raster(channel.path) as source:
                grids.append(Grid.of(source))
        finest = min(grids, key=lambda grid: abs(grid.transform.a))
        stored = (Path(channel.path).name for channel in channels)
        origin = " ".join(f"{name}={file}" for name, file in zip(self.spec.bands, stored, strict=True))
        return _Frame(finest, channels, granule.quality, (granule.date,), origin)

    def _raster(self, path: str, num_frames: int, bands: Sequence[int | str]) -> _Frame:
        with open_raster(path) as source:
            grid = Grid.of(source)
            indexes, dates, how = self._indexes(source, num_frames, bands)
            channels = tuple(self._channel(source, path, index) for index in indexes)
            kinds = [quality_kind(text) for text in source.descriptions]
        layers = [QualityFile(path, index, kind) for index, kind in enumerate(kinds, start=1) if kind]
        quality = layers[0] if num_frames == 1 and len(layers) == 1 else None
        names = self.spec.bands * num_frames
        told = " ".join(f"{name}={index}" for name, index in zip(names, indexes, strict=True))
        values = channels[0].nodata
        beside = (
            f"; no data: {' '.join(f'{value:g}' for value in values)}, besides tag and NaN" if values else ""
        )
        return _Frame(grid, channels, quality, dates, f"{told} ({how}{beside})")

    def _channel(self, source: DatasetReader, path: str, index: int) -> BandFile:
        if index < 1 or index > source.count:
            raise DataError(f"{path}: has {source.count} bands; band {index} (counted from 1) is requested")
        options = self.options
        scale, offset = band_scaling(source, index, self.spec, options.legacy, strict=options.training)
        if options.scale is not None:
            scale, offset = options.scale, options.offset
        elif (scale, offset) == (self.spec.scale, 0.0):
            offset = options.offset
        else:
            self._refuse_offset_alone(path)
        # What meant "no data" in the training files need not mean so elsewhere: 0 is a dark pixel in most.
        alpha = alpha_band(source, self.spec.file_count)
        trained = self.spec.nodata if data_bands(source, self.spec.file_count) == self.spec.file_count else ()
        return BandFile(path, index, scale, offset, tuple(sorted({*trained, *options.nodata})), alpha)

    def _indexes(
        self, source: DatasetReader, num_frames: int, bands: Sequence[int | str]
    ) -> tuple[list[int], tuple[date | None, ...], str]:
        """Bands of a raster, time-major; the dates that their descriptions tell; and how they were found."""
        spec = self.spec
        wanted = len(spec.bands) * num_frames
        count = data_bands(source, spec.file_count)
        unknown = (None,) * num_frames
        if bands:
            pairs = zip(bands, spec.bands * num_frames, strict=True)
            return [self._index(band, name, source) for band, name in pairs], unknown, "as given"
        days = _described_dates(source)
        described = not names_no_band(source.descriptions)
        if num_frames == 1 and described:
            found = band_indexes(spec.bands, source.descriptions, source.name, self.options.sensor)
            return found, (days[0] if len(days) == 1 else None,), "by the file's descriptions"
        if num_frames > 1 and days:
            return self._by_date(source, days, num_frames), tuple(days), "by the file's descriptions"
        if described and (in_turn := self._in_turn(source, num_frames)):
            return in_turn, unknown, "by the file's descriptions, dates in the order of the file"
        if spec.num_frames == num_frames and spec.file_bands and count == spec.file_count:
            return list(spec.file_bands), unknown, "no descriptions: same positions as in the training data"
        if count == wanted:
            return list(range(1, wanted + 1)), unknown, "no descriptions: in the order of the file"
        dates = f"{num_frames} dates of " if num_frames > 1 else ""
        raise DataError(
            f"{source.name}: has {count} bands, the model takes {wanted} "
            f"({dates}{' '.join(spec.bands)}); choose them with --bands, by index (from 1) or by name"
        )

    def _in_turn(self, source: DatasetReader, num_frames: int) -> list[int]:
        """Bands whose descriptions name each band once per date, without dates; none if they do not."""
        bands, sensor = self.spec.bands, self.options.sensor
        try:
            found = band_occurrences(bands, source.descriptions, source.name, sensor)
        except DataError:  # the names of other bands than these
            return []
        if any(len(places) != num_frames for places in found):
            return []
        return [places[frame] for frame in range(num_frames) for places in found]

    def _by_date(self, source: DatasetReader, days: Sequence[date], num_frames: int) -> list[int]:
        if len(days) != num_frames:
            raise DataError(
                f"{source.name}: its band descriptions contain {len(days)} dates, but the model takes {num_frames}"
            )
        found: list[int] = []
        for day in days:
            own = [text if _described_date(text) == day else None for text in source.descriptions]
            found += band_indexes(self.spec.bands, own, source.name, self.options.sensor)
        return found

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
        told = means(re.sub(r"_\d{8}$", "", text or ""), self.options.sensor)
        if told not in (None, name):
            raise ConfigError(
                f"file_bands: band {index} of {source.name} is described as {text} ({told}), but file_bands reads it "
                f"as {name}; put file_bands in the order of the file, or remove it, as the descriptions name the bands"
            )


def _described_date(text: str | None) -> date | None:
    digits = re.search(r"_(\d{8})$", text or "")
    try:
        return datetime.strptime(digits.group(1), "%Y%m%d").date() if digits else None
    except ValueError:  # a number that is no date
        return None


def _described_dates(source: Any) -> list[date]:
    return sorted({day for day in map(_described_date, source.descriptions) if day is not None})
