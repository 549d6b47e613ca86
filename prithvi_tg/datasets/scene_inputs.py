"""Inputs of mapping: from files, folders, globs, granules and addresses to scenes."""

import glob
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

from ..bands import SENSORS, band_indexes, band_occurrences, means, names_no_band, resolve_band
from ..errors import ConfigError, DataError
from ..readers.grid import Grid
from ..readers.quality import quality_kind
from ..readers.raster import alpha_band, data_bands, open_raster
from ..readers.scaling import band_scaling
from ..spec import DataSpec
from .granules import Granule, hls_granule, hls_granules, is_hls_file, is_hls_prefix, safe_granule
from .scenes import BandFile, QualityFile, Scene

_RASTERS = (".tif", ".tiff", ".vrt", ".jp2")
_OUTPUT = re.compile(r"_(pred|probabilities|confidence)\.tif$|^index_.*\.vrt$")


@dataclass(frozen=True)
class SceneInput:
    """One scene as it was named.

    Attributes:
        name: Names its maps.
        frames: Where each date is: a raster, the prefix of an HLS granule, a ``.SAFE`` folder; or one raster
            that holds them all.
    """

    name: str
    frames: tuple[str, ...]


@dataclass(frozen=True)
class InputOptions:
    """How the files of a scene are to be read.

    Attributes:
        bands: For each frame and band of the model, its place in a raster: an index from 1, or a name. By default
            a raster's band descriptions tell, and without any the layout of the training data.
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
        raise ConfigError(f"dates: {day!r} is no date; write it as YYYY-MM-DD") from error


def find_inputs(inputs: str | Path | Sequence[str | Path], num_frames: int = 1) -> list[SceneInput]:
    """What scenes some words mean.

    A word is a raster file, an address or ``/vsi`` path that GDAL reads, a glob of files, the prefix of an HLS
    granule, a ``.SAFE`` folder, a folder of any of these (maps that this package wrote there are passed over),
    or, for several dates of one place, as many rasters or granules, joined by commas. For a model of several
    dates, granules of one tile in a folder are the dates of one scene.

    Raises:
        DataError: Nothing is found there, or the number of dates does not fit.
    """
    scenes: list[SceneInput] = []
    for word in [str(inputs)] if isinstance(inputs, str | Path) else map(str, inputs):
        parts = _parts(word)
        if len(parts) > 1:
            if len(parts) != num_frames:
                raise DataError(f"{word}: names {len(parts)} dates, the model takes {num_frames}")
            frames = [frame for part in parts for frame in _frames(part)]
            if len(frames) != num_frames:
                raise DataError(
                    f"{word}: holds {len(frames)} rasters, one for each of {num_frames} dates is needed"
                )
            scenes.append(SceneInput(_stem(frames[0]), tuple(frames)))
        else:
            scenes += _group(word, _frames(word), num_frames)
    return scenes


def _parts(word: str) -> list[str]:
    """The dates that a word joins by commas; commas in names of files, quotes and queries do not count."""
    if Path(word).exists():
        return [word]
    if _is_remote(word):
        return re.split(r",(?=/vsi|[a-z0-9+.-]+://)", word, flags=re.IGNORECASE)
    return re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', word)


def _is_remote(word: str) -> bool:
    return word.startswith("/vsi") or re.match(r"^[a-z0-9+.-]+://", word, re.IGNORECASE) is not None


def _is_subdataset(word: str) -> bool:
    """Whether a word is a name in GDAL's own form, ``DRIVER:...``; one letter before a colon is a drive."""
    return re.match(r"^[A-Za-z][A-Za-z0-9_]+:(?!//)", word) is not None and not Path(word).exists()


def _frames(word: str) -> list[str]:
    """Rasters, prefixes and SAFE folders behind a word."""
    path = Path(word)
    if _is_remote(word) or _is_subdataset(word):
        return [word]
    if path.is_dir() and path.suffix != ".SAFE":
        found = _in_folder(path)
        if not found:
            raise DataError(f"{path}: holds no scene ({', '.join(_RASTERS)}, HLS granules or .SAFE folders)")
        return found
    if path.exists():
        return [word]
    if is_hls_prefix(word):
        return [word]
    found = _unite(sorted(glob.glob(word, recursive=True)))  # noqa: PTH207 (the pattern may be absolute)
    if not found:
        raise DataError(f"{word}: no such file or folder")
    return found


def _in_folder(folder: Path) -> list[str]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    rasters = [
        entry for entry in entries if entry.suffix.lower() in _RASTERS and not _OUTPUT.search(entry.name)
    ]
    found = _unite([str(entry) for entry in rasters])
    for entry in entries:
        if entry.suffix == ".SAFE":
            found.append(str(entry))
        elif entry.is_dir():
            found += _unite([str(file) for file in sorted(entry.iterdir()) if is_hls_file(file)])
    return found


def _unite(files: Sequence[str]) -> list[str]:
    """The band files of a granule are one; other files are scenes of their own."""
    granules = hls_granules([file for file in files if is_hls_file(file)])
    prefixes = [str(Path(next(iter(g.files.values())).path).parent / g.name) for g in granules if g.files]
    return prefixes + [file for file in files if not is_hls_file(file)]


def _group(word: str, frames: list[str], num_frames: int) -> list[SceneInput]:
    """Granules of one tile are the dates of one scene, where the model takes several."""
    rasters = [frame for frame in frames if not _is_granule(frame)]
    scenes = [SceneInput(_stem(frame), (frame,)) for frame in rasters]
    granules = [frame for frame in frames if _is_granule(frame)]
    if num_frames == 1:
        return scenes + [SceneInput(_stem(frame), (frame,)) for frame in granules]
    for tile, group in groupby(
        sorted(granules, key=_tile_and_date), key=lambda frame: _tile_and_date(frame)[0]
    ):
        dates = list(group)
        if len(dates) != num_frames:
            raise DataError(
                f"{word}: {len(dates)} dates of {tile}, the model takes {num_frames}; name those to use, joined "
                "by commas"
            )
        first, last = (_tile_and_date(frame)[1] for frame in (dates[0], dates[-1]))
        scenes.append(SceneInput(f"{tile}_{first}_{last}", tuple(dates)))
    return scenes


def _is_granule(frame: str) -> bool:
    return frame.rstrip("/").endswith(".SAFE") or is_hls_prefix(frame)


def _tile_and_date(frame: str) -> tuple[str, str]:
    name = _stem(frame)
    tile = re.search(r"[._](T\d{2}[A-Z]{3})", name)
    moment = re.search(r"[._](\d{8}|\d{7})T\d{6}", name)
    if tile is None or moment is None:
        raise DataError(f"{frame}: its name tells neither tile nor date; name the dates, joined by commas")
    form = "%Y%m%d" if len(moment.group(1)) == 8 else "%Y%j"
    return tile.group(1), datetime.strptime(moment.group(1), form).strftime("%Y%m%d")


def _stem(frame: str) -> str:
    if _is_subdataset(frame):
        return _subdataset_name(frame)
    if "://" in frame or frame.startswith("/vsicurl"):
        frame = re.split(r"[?#]", frame)[0]
    name = frame.rstrip("/").rsplit("/", 1)[-1]
    if is_hls_prefix(name):
        return name.rstrip(".")
    return name.rsplit(".", 1)[0]


def _subdataset_name(word: str) -> str:
    """``cube_B02`` from ``NETCDF:"cube.nc":B02``, ``a_2`` from ``GTIFF_DIR:2:a.tif``."""
    parts = [part.strip('"') for part in re.findall(r'"[^"]*"|[^:]+', word.split(":", 1)[1])]
    file = next((part for part in parts if Path(part).suffix), parts[0])
    others = [re.sub(r"[^0-9A-Za-z.-]+", "_", part).strip("_") for part in parts if part != file]
    return "_".join([Path(file).stem, *filter(None, others)])


def resolve_scene(found: SceneInput, spec: DataSpec, options: InputOptions | None = None) -> Scene:
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
            f"bands: {len(options.bands)} given, the model takes {wanted} ({' '.join(spec.bands)}"
            f"{f', on {spec.num_frames} dates' if spec.num_frames > 1 else ''})"
        )
    if options.dates and len(options.dates) != spec.num_frames:
        raise ConfigError(f"dates: {len(options.dates)} given, the model takes {spec.num_frames}")
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
        raise DataError(f"{found.name}: its dates are not in order ({told}); name the earliest first")
    quality = tuple(frame.quality for frame in frames if frame.quality is not None)
    if options.quality:
        if len(options.quality) != spec.num_frames:
            raise ConfigError(
                f"quality: {len(options.quality)} files given, one for each of {spec.num_frames} dates"
            )
        quality = tuple(map(_quality_file, options.quality))
    grid = frames[0].grid
    for frame, path in zip(frames[1:], found.frames[1:], strict=True):
        if not grid.overlaps(frame.grid):
            raise DataError(f"{path}: does not overlap {found.frames[0]}, so they are not dates of one place")
    if not grid.is_placed:
        sizes = {(frame.grid.height, frame.grid.width) for frame in frames}
        if len(sizes) > 1:
            raise DataError(f"{found.frames[0]}: has no geo-reference, and its dates have other sizes")
        warnings.warn(f"{found.frames[0]}: has no geo-reference, so its map has none", stacklevel=2)
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
        raise ConfigError(f"quality: {path} does not tell what it is; put SCL or Fmask into its name")
    return QualityFile(path, 1, kind)


@dataclass(frozen=True)
class _Frame:
    grid: Grid
    channels: tuple[BandFile, ...]
    quality: QualityFile | None
    dates: tuple[date | None, ...]
    origin: str


class _Resolver:
    def __init__(self, spec: DataSpec, options: InputOptions) -> None:
        self.spec = spec
        self.options = options

    def frame(self, path: str, num_frames: int, bands: Sequence[int | str]) -> _Frame:
        if not _is_granule(path):
            return self._raster(path, num_frames, bands)
        if num_frames != 1:
            raise DataError(f"{path}: is one date, the model takes {num_frames}; name them, joined by commas")
        if bands:
            raise ConfigError(f"bands: {path} names its bands itself; leave --bands out")
        is_safe = path.rstrip("/").endswith(".SAFE")
        return self._granule(safe_granule(path, self.spec.bands) if is_safe else hls_granule(path))

    def _refuse_offset_alone(self, path: str) -> None:
        if self.options.offset and self.options.scale is None:
            raise ConfigError(
                f"offset: {path} tells its own scale and offset; give --scale too, to overrule both"
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
            f"; no data: {' '.join(f'{value:g}' for value in values)}, beside tag and NaN" if values else ""
        )
        return _Frame(grid, channels, quality, dates, f"{told} ({how}{beside})")

    def _channel(self, source: DatasetReader, path: str, index: int) -> BandFile:
        if index < 1 or index > source.count:
            raise DataError(f"{path}: has {source.count} bands; band {index} (counted from 1) is wanted")
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
            return list(spec.file_bands), unknown, "no descriptions: placed as in the training data"
        if count == wanted:
            return list(range(1, wanted + 1)), unknown, "no descriptions: in the order of the file"
        dates = f"{num_frames} dates of " if num_frames > 1 else ""
        raise DataError(
            f"{source.name}: has {count} bands, the model takes {wanted} "
            f"({dates}{' '.join(spec.bands)}); say which with --bands, by index counted from 1 or by name"
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
                f"{source.name}: its descriptions tell {len(days)} dates, the model takes {num_frames}"
            )
        found: list[int] = []
        for day in days:
            own = [text if _described_date(text) == day else None for text in source.descriptions]
            found += band_indexes(self.spec.bands, own, source.name, self.options.sensor)
        return found

    def _index(self, band: int | str, name: str, source: DatasetReader) -> int:
        if isinstance(band, int) or band.isdigit():
            return int(band)
        sensor = self.options.sensor
        if means(band, sensor) not in (None, name):
            raise ConfigError(
                f"bands: {band!r} is {means(band, sensor)}, but stands in the place of {name}; the model "
                f"takes {' '.join(self.spec.bands)}, in this order"
            )
        descriptions = list(source.descriptions)
        if band in descriptions:
            return descriptions.index(band) + 1
        return band_indexes([resolve_band(band, sensor)], descriptions, source.name, sensor)[0]


def _described_date(text: str | None) -> date | None:
    digits = re.search(r"_(\d{8})$", text or "")
    try:
        return datetime.strptime(digits.group(1), "%Y%m%d").date() if digits else None
    except ValueError:  # a number that is no date
        return None


def _described_dates(source: Any) -> list[date]:
    return sorted({day for day in map(_described_date, source.descriptions) if day is not None})
