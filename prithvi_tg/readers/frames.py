"""The interface of a scene format: which files are a frame, and what its bands and values are."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from ..bands import SENSORS
from ..errors import ConfigError
from ..spec import InputSpec
from .grid import Grid
from .scene import BandFile, QualityFile
from .words import stem


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
        format: The format of the scenes: a name of `prithvi_tg.readers.formats.SCENE_FORMATS`, or the class path of a
            `SceneFormat`. By default the first format of the table that matches.

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
    format: str | None = None

    def __post_init__(self) -> None:
        if self.sensor is not None and self.sensor not in SENSORS:
            raise ConfigError(f"sensor: {self.sensor!r} is unknown; known are {', '.join(SENSORS)}")
        object.__setattr__(self, "dates", tuple(map(_to_date, self.dates)))


def _to_date(day: date | str) -> date:
    try:
        return date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError as error:
        raise ConfigError(f"dates: {day!r} is not a date; write it as YYYY-MM-DD") from error


@dataclass(frozen=True)
class FrameRequest:
    """What a model needs of a frame.

    Attributes:
        spec: Bands, units and statistics that the model expects, of all its frames.
        options: How to read the scene.
        num_frames: Frames that are to be found in one place: 1, or for a raster that holds all dates, their number.
        bands: The part of `InputOptions.bands` for these frames; empty if none are given.
    """

    spec: InputSpec
    options: InputOptions
    num_frames: int
    bands: tuple[int | str, ...]

    def refuse_offset_alone(self, name: str) -> None:
        """Refuse an offset without a scale, for files that have both themselves.

        Raises:
            ConfigError: The options have an offset and no scale.
        """
        if self.options.offset and self.options.scale is None:
            raise ConfigError(
                f"offset: {name} has its own scale and offset; give --scale too, to override both"
            )


@dataclass(frozen=True)
class SceneFrame:
    """Where the channels of one or several dates are stored, and what their values mean.

    Attributes:
        grid: The pixels of the map; channels on other grids are warped to it.
        channels: One per frame and band, time-major, as `FrameRequest` orders them.
        dates: A date per frame, ``None`` where unknown.
        origin: In words: which stored band each channel came from.
        quality: The quality layer, if there is one.
    """

    grid: Grid
    channels: tuple[BandFile, ...]
    dates: tuple[date | None, ...]
    origin: str
    quality: QualityFile | None = None


class SceneFormat(ABC):
    """One way in which the files of a scene are named and laid out; it has no state.

    A format of your own is named by its class path, ``format: my_module.MyFormat``, or by a name that importing your
    module adds to `prithvi_tg.readers.formats.SCENE_FORMATS`.

    Attributes:
        description: What a folder must contain, for messages: "HLS granules".
        stacks: Whether frames of one tile in a folder are the dates of one scene, for a model of several dates.
    """

    description: str
    stacks = False

    @abstractmethod
    def matches(self, path: str) -> bool:
        """Whether a path, prefix or address is a frame of this format."""

    def group(self, paths: Sequence[str]) -> tuple[list[str], list[str]]:
        """The frames among the files and folders of one folder, and the paths that are no part of any.

        Raises:
            DataError: Files contradict each other.
        """
        frames = [path for path in paths if self.matches(path)]
        return frames, [path for path in paths if path not in frames]

    def name(self, path: str) -> str:
        """The name of the scene, after which its maps are called."""
        return stem(path)

    def tile_and_date(self, path: str) -> tuple[str, str]:
        """Tile and date ``YYYYMMDD`` of a frame; needed where `stacks` is true.

        Raises:
            DataError: They are not known.
        """
        raise NotImplementedError

    @abstractmethod
    def open(self, path: str, request: FrameRequest) -> SceneFrame:
        """Find the stored band of every channel.

        Raises:
            ConfigError: The options do not fit the files.
            DataError: The files do not hold what the model needs.
        """
