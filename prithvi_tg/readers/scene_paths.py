"""Words on the command line to scenes: files, folders, globs, granules, subdatasets and addresses."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

from ..errors import DataError
from ..files import relative_path
from .granules import hls_granules, is_hls_file, is_hls_prefix

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
                raise DataError(f"{word}: {len(parts)} dates given, but the model takes {num_frames}")
            frames = [frame for part in parts for frame in _frames(part)]
            if len(frames) != num_frames:
                raise DataError(
                    f"{word}: contains {len(frames)} rasters; {num_frames} are needed, one for each date"
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
            raise DataError(
                f"{path}: contains no scene ({', '.join(_RASTERS)}, HLS granules or .SAFE folders)"
            )
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
    rasters = [frame for frame in frames if not is_granule(frame)]
    scenes = [SceneInput(_stem(frame), (frame,)) for frame in rasters]
    granules = [frame for frame in frames if is_granule(frame)]
    if num_frames == 1:
        return scenes + [SceneInput(_stem(frame), (frame,)) for frame in granules]
    for tile, group in groupby(
        sorted(granules, key=_tile_and_date), key=lambda frame: _tile_and_date(frame)[0]
    ):
        dates = list(group)
        if len(dates) != num_frames:
            raise DataError(
                f"{word}: {len(dates)} dates of {tile}, the model takes {num_frames}; give the ones to use, joined "
                "by commas"
            )
        first, last = (_tile_and_date(frame)[1] for frame in (dates[0], dates[-1]))
        scenes.append(SceneInput(f"{tile}_{first}_{last}", tuple(dates)))
    return scenes


def is_granule(frame: str) -> bool:
    """Whether a frame is the prefix of an HLS granule or a Sentinel-2 folder."""
    return frame.rstrip("/").endswith(".SAFE") or is_hls_prefix(frame)


def _tile_and_date(frame: str) -> tuple[str, str]:
    name = _stem(frame)
    tile = re.search(r"[._](T\d{2}[A-Z]{3})", name)
    moment = re.search(r"[._](\d{8}|\d{7})T\d{6}", name)
    if tile is None or moment is None:
        raise DataError(
            f"{frame}: its name contains neither tile nor date; give the dates of the scene joined by commas"
        )
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


def relative_words(frames: Sequence[str], folder: Path) -> list[str]:
    """Words of `SceneInput.frames`, local ones relative to a folder; addresses as they are."""
    return [relative_path(Path(word), folder) if _is_local(word) else word for word in frames]


def words_from(folder: Path, words: Sequence[str]) -> tuple[str, ...]:
    """The frames that `relative_words` wrote for a folder, as seen from here."""
    seen = [str(folder / word) for word in words]
    return tuple(one if _is_local(one) else word for one, word in zip(seen, words, strict=True))


def _is_local(word: str) -> bool:
    """Whether a word is a file, a folder, or what the files of a local granule have in common."""
    path = Path(word)
    return path.exists() or (is_hls_prefix(word) and path.parent.is_dir())
