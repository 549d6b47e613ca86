"""Scenes from arguments: files, folders, globs, dates joined by commas, subdatasets and addresses."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..errors import DataError, MissingFileError, counted
from ..files import relative_path
from .frames import SceneFormat
from .granules import is_hls_prefix
from .words import is_remote, is_subdataset, without_signature


@dataclass(frozen=True)
class SceneInput:
    """One scene, as the arguments name it.

    Attributes:
        name: Name of the scene and of its maps.
        frames: Location of each date: a raster, the prefix of an HLS granule, a ``.SAFE`` folder; or one raster
            with all dates.
    """

    name: str
    frames: tuple[str, ...]


def find_scenes(words: Sequence[str], num_frames: int, formats: Sequence[SceneFormat]) -> list[SceneInput]:
    """Find the scenes that arguments name; see `prithvi_tg.readers.find_inputs`.

    Raises:
        DataError: An argument names no scene, or the number of dates differs from `num_frames`.
    """
    scenes: list[SceneInput] = []
    for word in words:
        parts = _parts(word)
        if len(parts) > 1:
            if len(parts) != num_frames:
                raise DataError(
                    f"{word}: {counted(len(parts), 'date')} given, but the model takes {num_frames}"
                )
            frames = [frame for part in parts for frame in _frames(part, formats)]
            if len(frames) != num_frames:
                raise DataError(
                    f"{word}: contains {counted(len(frames), 'raster')}; {num_frames} are needed, one for each date"
                )
            scenes.append(SceneInput(format_of(frames[0], formats).name(frames[0]), tuple(frames)))
        else:
            scenes += _group(word, _frames(word, formats), num_frames, formats)
    return scenes


def format_of(path: str, formats: Sequence[SceneFormat]) -> SceneFormat:
    """The first format that matches a path, or the last one."""
    return next((one for one in formats if one.matches(path)), formats[-1])


def _parts(word: str) -> list[str]:
    """Split an argument at the commas between dates; commas in file names, quotes and queries are not separators."""
    if Path(word).exists():
        return [word]
    comma = (
        r",(?=\s*(?:/vsi|[a-z0-9+.-]+://))" if is_remote(word.strip()) else r',(?=(?:[^"]*"[^"]*")*[^"]*$)'
    )
    return [part.strip() for part in re.split(comma, word, flags=re.IGNORECASE)]


def _frames(word: str, formats: Sequence[SceneFormat]) -> list[str]:
    """The frames that an argument names."""
    return [frame for path in _paths(word, formats) for frame in format_of(path, formats).frames(path)]


def _paths(word: str, formats: Sequence[SceneFormat]) -> list[str]:
    """The paths that an argument names."""
    if not word.strip():
        raise DataError("scenes: one is empty; join the dates of a scene by commas: before.tif,after.tif")
    path = Path(word)
    if is_remote(word) or is_subdataset(word) or any(one.matches(word) for one in formats):
        return [word]
    if path.is_dir():
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        found, _ = _in_formats([str(entry) for entry in entries], formats)
        catalogs = [
            str(path / name) for name in ("catalog.json", "collection.json") if (path / name).is_file()
        ]
        if not found and catalogs and any(one.matches(catalogs[0]) for one in formats):
            return catalogs[:1]  # the folder of a static STAC catalogue
        if not found:
            raise DataError(f"{path}: contains no scene ({_described(formats)})")
        return found
    if path.exists():
        raise DataError(f"{path}: not a scene; expected {_described(formats)}")
    paths = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (the pattern may be absolute)
    found, rest = _in_formats(paths, formats)
    found = [*(frame for frame in found if frame not in paths), *sorted({*found, *rest}.intersection(paths))]
    if not found:
        raise MissingFileError.of(word)
    return found


def _described(formats: Sequence[SceneFormat]) -> str:
    last, *others = (one.description for one in (formats[-1], *formats[:-1]))
    return f"{', '.join([last, *others[:-1]])} or {others[-1]}" if others else last


def _in_formats(paths: Sequence[str], formats: Sequence[SceneFormat]) -> tuple[list[str], list[str]]:
    """Frames among files and folders, and the remaining paths."""
    found, rest = [], list(paths)
    for one in formats:
        frames, rest = one.group(rest)
        found += frames
    return found, rest


def _group(word: str, frames: list[str], num_frames: int, formats: Sequence[SceneFormat]) -> list[SceneInput]:
    """Group frames into scenes: frames of one tile are its dates if the model takes several."""
    kinds = {frame: format_of(frame, formats) for frame in frames}
    names = {frame: kind.name(frame) for frame, kind in kinds.items()}
    scenes = [SceneInput(names[frame], (frame,)) for frame in frames if not kinds[frame].stacks]
    granules = [frame for frame in frames if kinds[frame].stacks]
    if num_frames == 1:
        return scenes + [SceneInput(names[frame], (frame,)) for frame in granules]
    places = {frame: kinds[frame].tile_and_date(frame) for frame in granules}
    for tile, group in groupby(sorted(granules, key=places.__getitem__), key=lambda frame: places[frame][0]):
        dates = list(group)
        if len(dates) != num_frames:
            raise DataError(
                f"{word}: {counted(len(dates), 'date')} of {tile}, the model takes {num_frames}; give the ones to use, "
                "joined by commas"
            )
        first, last = (places[frame][1] for frame in (dates[0], dates[-1]))
        scenes.append(SceneInput(f"{tile}_{first}_{last}", tuple(dates)))
    return scenes


def relative_words(frames: Sequence[str], folder: Path) -> list[str]:
    """`SceneInput.frames` with local paths relative to a folder; addresses stay, without their signatures."""
    return [
        relative_path(Path(word), folder) if _is_local(word) else without_signature(word) for word in frames
    ]


def words_from(folder: Path, words: Sequence[str]) -> tuple[str, ...]:
    """The inverse of `relative_words`: frames relative to the working directory."""
    seen = [str(folder / word) for word in words]
    return tuple(one if _is_local(one) else word for one, word in zip(seen, words, strict=True))


def _is_local(word: str) -> bool:
    """Whether an argument is a file, a folder or the prefix of a local granule."""
    path = Path(word)
    of_list = "#" in word and Path(word.rpartition("#")[0]).is_file()  # a frame in a list of STAC items
    return path.exists() or of_list or (is_hls_prefix(word) and path.parent.is_dir())
