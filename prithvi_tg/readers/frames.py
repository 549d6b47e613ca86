"""The interface of a scene format: it groups files into frames and finds their bands, dates and units."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from ..bands import SENSORS
from ..errors import ConfigError, counted
from ..spec import InputSpec
from .grid import Grid
from .scene import BandFile, QualityFile
from .words import stem


@dataclass(frozen=True)
class InputOptions:
    """How to read the files of a scene.

    Attributes:
        bands: Band of the raster for each frame and band of the model: an index from 1, or a name. By default, bands
            are found by the descriptions of the raster, or else by their positions in the training data.
        sensor: Naming scheme of the bands (``B05``); needed where sensors disagree.
        scale: Factor from stored values to the unit of the statistics. By default the scale and offset tags of the
            file, or else the scale of the training data.
        offset: Added after scaling.
        nodata: Stored values that mean nodata, besides the file's tag and NaN. Nodata values of the training data
            also apply to files with the same number of bands.
        quality: A file with the quality layer of each frame, if the scene itself has none. The band description or
            the file name contains ``SCL`` or ``Fmask``.
        dates: A date per frame, if the files do not record it; strings are ``YYYY-MM-DD``.
        legacy: Read stored values as hls-foundation-os did: scale and offset tags are ignored.
        training: The scenes are training data: tags that contradict the configured scale are an error.
        format: The format of the scenes: a name of `prithvi_tg.readers.formats.SCENE_FORMATS`, or the class path of a
            `SceneFormat`. By default the first format of the table that matches.
        modifier: Path of a function that gets each STAC item (`pystac.Item`) before its assets are opened, and changes
            it or returns another, such as ``planetary_computer.sign``.

    Raises:
        ConfigError: A string is not a date, or a sensor is unknown.
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
    format: str | None = None
    modifier: str | None = None

    def __post_init__(self) -> None:
        if self.sensor is not None and self.sensor not in SENSORS:
            raise ConfigError(f"sensor: {self.sensor!r} is unknown; choose from {', '.join(SENSORS)}")
        object.__setattr__(self, "dates", tuple(map(_to_date, self.dates)))

    def check_quality(self, qa_mask: Sequence[str]) -> None:
        """Check that quality layers are given together with the classes to mask.

        Args:
            qa_mask: Quality classes that count as nodata.

        Raises:
            ConfigError: Layers are given, but no class.
        """
        if self.quality and not qa_mask:
            raise ConfigError(
                "quality: has no effect without qa_mask; name the classes to mask, such as cloud and shadow"
            )


def _to_date(day: date | str) -> date:
    try:
        return date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError as error:
        raise ConfigError(f"dates: {day!r} is not a date; write it as YYYY-MM-DD") from error


@dataclass(frozen=True)
class FrameRequest:
    """Bands, units and options that a model requests of a frame.

    Attributes:
        spec: Bands, units and statistics that the model expects, of all its frames.
        options: How to read the scene.
        num_frames: Number of dates in one path: 1, or all dates for a raster that contains them all.
        bands: The part of `InputOptions.bands` for these frames; empty if none are given.
    """

    spec: InputSpec
    options: InputOptions
    num_frames: int
    bands: tuple[int | str, ...]

    def refuse_offset_alone(self, name: str) -> None:
        """Check that an offset has a scale, for files with their own scale and offset.

        Raises:
            ConfigError: The options have an offset and no scale.
        """
        if self.options.offset and self.options.scale is None:
            raise ConfigError(
                f"offset: {name} has its own scale and offset; give a scale too, to override both"
            )

    def with_options(self, file: BandFile) -> BandFile:
        """A band with the options of the user: scale and offset replace its own, nodata values are added.

        Args:
            file: A band; its scale and offset give the unit of the statistics.
        """
        options = self.options
        return replace(
            file,
            scale=file.scale if options.scale is None else options.scale,
            offset=file.offset if options.scale is None else options.offset,
            nodata=tuple({*file.nodata, *options.nodata}),
        )


@dataclass(frozen=True)
class SceneFrame:
    """Files, bands and units of the channels of one or several dates.

    Attributes:
        grid: The pixels of the map; channels on other grids are warped to it.
        channels: One per frame and band, time-major, as `FrameRequest` orders them; none for a mosaic.
        dates: A date per frame, ``None`` where unknown.
        origin: Readable list of the stored band of each channel.
        quality: The quality layer, if there is one.
        members: The parts of a mosaic of one date. The first with data at a pixel is used.
    """

    grid: Grid
    channels: tuple[BandFile, ...]
    dates: tuple[date | None, ...]
    origin: str
    quality: QualityFile | None = None
    members: "tuple[SceneFrame, ...]" = ()


class SceneFormat(ABC):
    """A way to name and arrange the files of a scene; it has no state.

    Select your own format by its class path, ``format: my_module.MyFormat``, or by a name that your module adds to
    `prithvi_tg.readers.formats.SCENE_FORMATS`. A folder of ``BLUE.tif``, ``GREEN.tif`` and so on, in reflectance
    x 1e4, with its date in ``date.txt``::

        from prithvi_tg.readers import BandFile, Grid, SceneFormat, SceneFrame

        class BandFolder(SceneFormat):
            description = "folders with a file per band"

            def matches(self, path):
                return (Path(path) / "date.txt").is_file()

            def open(self, path, request):
                unit = request.spec.reflectance_unit * 1e-4
                files = [BandFile(f"{path}/{band}.tif", 1, scale=unit) for band in request.spec.bands]
                with rasterio.open(files[0].path) as source:
                    grid = Grid.of(source)
                day = date.fromisoformat((Path(path) / "date.txt").read_text().strip())
                return SceneFrame(grid, tuple(map(request.with_options, files)), (day,), "by file names")

    Attributes:
        description: Content of a folder, for messages: "HLS granules".
        stacks: Whether frames of one tile in a folder are the dates of one scene, for a model of several dates. Then
            `tile_and_date` is needed.
    """

    description: str
    stacks = False

    @abstractmethod
    def matches(self, path: str) -> bool:
        """Whether a path, prefix or address is a frame of this format."""

    def group(self, paths: Sequence[str]) -> tuple[list[str], list[str]]:
        """The frames among the files and folders of one folder, and the remaining paths.

        Raises:
            DataError: Files contradict each other.
        """
        frames = [path for path in paths if self.matches(path)]
        return frames, [path for path in paths if path not in frames]

    def frames(self, word: str) -> list[str]:
        """The frames that an argument names: the argument itself, or the dates and places of a list.

        Raises:
            DataError: The list cannot be read.
        """
        return [word]

    def name(self, path: str) -> str:
        """The name of the scene and of its maps."""
        return stem(path)

    def tile_and_date(self, path: str) -> tuple[str, str]:
        """Tile and date ``YYYYMMDD`` of a frame; needed where `stacks` is true.

        Raises:
            DataError: They are not known.
        """
        raise ConfigError(f"format: {type(self).__qualname__} has stacks = True, which needs tile_and_date")

    @abstractmethod
    def open(self, path: str, request: FrameRequest) -> SceneFrame:
        """Find the stored band of every channel; no pixel is read.

        Args:
            path: A path that `matches` accepts or `group` gives.
            request: The bands (``request.spec.bands``, canonical names such as ``NIR_NARROW``) and the number of dates
                that are wanted, and the options of the user, see `FrameRequest.with_options`.

        Returns:
            Grid, channels and dates: ``request.num_frames`` x bands channels, and a date or ``None`` per frame.

        Raises:
            ConfigError: The options do not fit the files.
            DataError: The files lack a band or date that the model needs.
        """


def check_frame(frame: SceneFrame, path: str, scene_format: SceneFormat, request: FrameRequest) -> None:
    """Check that a format has returned a frame with the requested channels and dates.

    Raises:
        ConfigError: It has returned something else.
    """
    bands, count = request.spec.bands, request.num_frames
    given = ""
    if not isinstance(frame, SceneFrame):
        given = f"{type(frame).__name__}, not a SceneFrame"
    elif other := [type(one).__name__ for one in frame.channels if not isinstance(one, BandFile)]:
        given = f"channels of type {other[0]}, not BandFile"
    elif frame.members:
        for part in frame.members:
            check_frame(part, path, scene_format, request)
    elif len(frame.channels) != len(bands) * count:
        dates = f" on {count} dates" if count > 1 else ""
        wanted = f"{counted(len(bands), 'band')} ({' '.join(bands)}){dates}"
        given = f"{counted(len(frame.channels), 'channel')} for {wanted}"
    elif not (isinstance(frame.dates, Sequence) and len(frame.dates) == count):
        given = f"dates = {frame.dates!r}; {count} of datetime.date or None are expected, in a tuple"
    elif other := [repr(day) for day in frame.dates if not (day is None or isinstance(day, date))]:
        given = f"the date {other[0]}, not a datetime.date"
    if given:
        raise ConfigError(f"format: {type(scene_format).__qualname__}.open returns {given} ({path})")
