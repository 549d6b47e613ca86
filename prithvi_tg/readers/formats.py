"""The table of scene formats; finding scenes, and the stored band of each of their channels."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from ..class_paths import find_class
from ..errors import ConfigError, DataError, counted
from ..spec import InputSpec
from .frames import FrameRequest, InputOptions, SceneFormat, SceneFrame, check_frame
from .gdal_rasters import GDALRasters
from .granule_formats import HLSGranules, SentinelSafe
from .quality import quality_kind
from .raster import open_raster
from .scene import QualityFile, Scene
from .scene_paths import SceneInput, find_scenes, format_of
from .stac import StacItems

__all__ = [
    "SCENE_FORMATS",
    "FrameRequest",
    "InputOptions",
    "SceneFormat",
    "SceneFrame",
    "SceneInput",
    "find_inputs",
    "resolve_scene",
    "scene_formats",
]

#: Formats are tried from the last to the first, so that a format of your own precedes ours. The first one opens paths
#: that no other format matches.
SCENE_FORMATS: dict[str, SceneFormat] = {
    "raster": GDALRasters(),
    "safe": SentinelSafe(),
    "hls": HLSGranules(),
    "stac": StacItems(),
}


def scene_formats(name: str | None = None) -> tuple[SceneFormat, ...]:
    """The formats to try for a path, in order.

    Args:
        name: One format: a name of `SCENE_FORMATS`, or the class path of a `SceneFormat`. By default all of the table.

    Raises:
        ConfigError: There is no such format, or it is not complete.
    """
    if name is None:
        return tuple(reversed(SCENE_FORMATS.values()))
    found = find_class("format", name, SCENE_FORMATS, SceneFormat)
    if not hasattr(found, "description"):
        raise ConfigError(f"format: {name} has no description, the content of a folder in messages")
    return (found() if isinstance(found, type) else found,)


def find_inputs(
    inputs: str | Path | Sequence[str | Path], num_frames: int = 1, format: str | None = None
) -> list[SceneInput]:
    """Find the scenes that arguments name.

    An argument is a raster file, an address or ``/vsi`` path that GDAL reads, a glob of files, the prefix of an HLS
    granule, a ``.SAFE`` folder, a file or address of STAC items or of a static catalogue of them, or a folder of
    rasters and granules, in which maps of this package are skipped. Commas join several dates of one place, as
    rasters or granules. For a model of several dates, granules of one tile in a folder, and STAC items of one
    place, are the dates of one scene.

    Args:
        inputs: The arguments.
        num_frames: Dates of a scene.
        format: See `InputOptions.format`.

    Raises:
        ConfigError: The format is unknown.
        DataError: An argument names no scene, or the number of dates differs from `num_frames`.
    """
    words = [str(inputs)] if isinstance(inputs, str | Path) else [str(word) for word in inputs]
    return find_scenes(words, num_frames, scene_formats(format))


def resolve_scene(found: SceneInput, spec: InputSpec, options: InputOptions | None = None) -> Scene:
    """Find the file, band and unit of each channel of the model.

    Args:
        found: The scene, from `find_inputs`.
        spec: Bands, units and statistics that the model expects.
        options: How to read it.

    Raises:
        ConfigError: The options do not fit the model.
        DataError: The files lack a band or date that the model needs.
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
    formats, count = scene_formats(options.format), len(spec.bands)
    per_path = spec.num_frames if len(found.frames) == 1 else 1  # frames in one path
    parts = [
        options.bands[count * per_path * n : count * per_path * (n + 1)] for n in range(len(found.frames))
    ]
    frames = [
        _open_frame(path, formats, FrameRequest(spec, options, per_path, bands))
        for path, bands in zip(found.frames, parts, strict=True)
    ]
    given: tuple[Any, ...] = options.dates
    dates: tuple[date | None, ...] = given or tuple(day for frame in frames for day in frame.dates)
    known = [day for day in dates if day is not None]
    if known != sorted(known):
        listed = " ".join(str(day) for day in known)
        raise DataError(f"{found.name}: its dates are not in order ({listed}); give the earliest first")
    if repeated := [path for path in found.frames if found.frames.count(path) > 1]:
        warnings.warn(
            f"{found.name}: {repeated[0]} is given for several dates; give the file of each date",
            stacklevel=2,
        )
    quality = tuple(frame.quality for frame in frames if frame.quality is not None)
    if options.quality:
        if len(options.quality) != spec.num_frames:
            raise ConfigError(
                f"quality: {counted(len(options.quality), 'file')} given for {counted(spec.num_frames, 'date')}; give "
                "one for each date"
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
        warnings.warn(f"{found.frames[0]}: has no georeference, so its map will have none", stacklevel=2)
    scene = Scene(
        found.name,
        grid,
        tuple(channel for frame in frames for channel in frame.channels),
        quality if len(quality) == spec.num_frames else (),
        dates,
        _origin(found, frames, formats),
        frames=found.frames,
    )
    if not any(frame.members for frame in frames):
        return scene
    if options.quality:
        raise ConfigError(
            f"quality: {found.name} is a mosaic, which uses the quality layers of its items; remove it"
        )
    return _mosaic(scene, frames)


def _origin(found: SceneInput, frames: Sequence[SceneFrame], formats: Sequence[SceneFormat]) -> str:
    """How the bands were found, for each date that has a path of its own."""
    if len(frames) == 1:
        return frames[0].origin
    names = [format_of(path, formats).name(path) for path in found.frames]
    return "; ".join(
        f"date {number} ({name}): {frame.origin}"
        for number, (name, frame) in enumerate(zip(names, frames, strict=True), start=1)
    )


def _mosaic(scene: Scene, frames: Sequence[SceneFrame]) -> Scene:
    """A scene with the parts of its frames as members."""
    members = tuple(
        tuple(
            Scene(scene.name, part.grid, part.channels, (part.quality,) if part.quality else (), part.dates)
            for part in frame.members or (frame,)
        )
        for frame in frames
    )
    return replace(scene, channels=(), quality=(), members=members, combine="first")


def _open_frame(path: str, formats: Sequence[SceneFormat], request: FrameRequest) -> SceneFrame:
    scene_format = format_of(path, formats)
    frame = scene_format.open(path, request)
    check_frame(frame, path, scene_format, request)
    return frame


def _quality_file(path: str) -> QualityFile:
    with open_raster(path) as source:
        named = re.search(r"(?i)(scl|fmask)", Path(path).stem)
        kind = quality_kind(source.descriptions[0]) or quality_kind(named.group(1) if named else None)
    if kind is None:
        raise ConfigError(
            f"quality: {path} is of unknown type; its name or band description must contain SCL or Fmask"
        )
    return QualityFile(path, 1, kind)
