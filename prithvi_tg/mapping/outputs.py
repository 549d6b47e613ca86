"""Where maps are written, and what is checked before weights are loaded."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from ..errors import ConfigError, DataError, counted
from ..files import locked
from ..files import writing as writing_file
from ..readers.aoi import AreaOfInterest
from ..readers.formats import SceneInput
from .products import OutputOptions, find_product

_log = logging.getLogger(__name__)
#: Endings of files that are not maps of this package; a folder may have any other ending.
_OTHER_FILES = (
    ".csv", ".geojson", ".gpkg", ".html", ".img", ".jp2", ".jpeg", ".jpg", ".json", ".nc", ".parquet", ".pdf", ".png",
    ".shp", ".vrt", ".zip",
)  # fmt: skip

#: Maps of a run that are reserved: each takes an open file, and equal commands meet at the first.
_MOST_RESERVED = 100


def check_settings(
    output: Path, writing: OutputOptions, aoi: str | Path | AreaOfInterest | None
) -> AreaOfInterest | None:
    """Check, before weights are loaded, the settings of a run that do not depend on them.

    Args:
        output: Folder of the maps, or the map of a single scene.
        writing: Which files to write.
        aoi: Area to map.

    Returns:
        The area.

    Raises:
        ConfigError: The output is a file of another format, a product is unknown, or the area is not valid.
        DataError: The area cannot be read.
    """
    is_map_file(output)
    for product in writing.products:
        find_product(product)
    return None if aoi is None else AreaOfInterest.of(aoi)


def is_map_file(output: Path) -> bool:
    """Whether an output is the map of a single scene, ``.tif``, and not a folder of maps.

    Raises:
        ConfigError: It is a file of another format.
    """
    if output.is_dir():
        return False
    if output.suffix.lower() in (".tif", ".tiff"):
        return True
    if output.is_file() or output.suffix.lower() in _OTHER_FILES:
        raise ConfigError(f"output: {output} is neither a folder nor a .tif")
    return False


def map_paths(found: Sequence[SceneInput], output: Path) -> dict[str, Path]:
    """Path of the map of each scene, by scene name. `output` is a folder, or the map of a single scene (``.tif``).

    Raises:
        ConfigError: Two scenes have the same map, or `output` is a file for several scenes.
    """
    single = is_map_file(output)
    if single and len(found) != 1:
        raise ConfigError(f"output: {output} is a single file for {len(found)} scenes; name a folder")
    paths: dict[str, Path] = {}
    for one in found:
        if one.name in paths:
            others = [other.frames[0] for other in found if other.name == one.name]
            raise ConfigError(
                f"scenes: {' and '.join(others[:2])} would both be mapped to {paths[one.name]}; map each with an "
                "output folder of its own, or rename one"
            )
        paths[one.name] = output if single else output / f"{one.name}_pred.tif"
    return paths


def split_existing(
    found: Sequence[SceneInput], paths: Mapping[str, Path], writing: OutputOptions
) -> tuple[list[SceneInput], list[Path]]:
    """The scenes to map, and the existing maps that ``skip_existing`` keeps; logs their number."""
    existing = [paths[one.name] for one in found if writing.skip_existing and paths[one.name].exists()]
    if existing:
        that, them = ("that already has", "it") if len(existing) == 1 else ("that already have", "them")
        _log.info(
            f"Skipped {counted(len(existing), 'scene')} {that} a map; outputs that you now ask for in addition are not "
            f"written for {them}"
        )
    return [one for one in found if paths[one.name] not in existing], existing


@contextmanager
def reserved(outputs: Mapping[Path, Path]) -> Iterator[None]:
    """Reserve outputs for this process, and for those that write them together with it, within the context.

    Args:
        outputs: File that is locked -> the output that it stands for.

    Raises:
        DataError: Another run is writing one of them, or it cannot be written.
    """
    with ExitStack() as stack:
        if getattr(rank_zero_only, "rank", 0) == 0:  # the other processes of a run rely on the first
            for lock, path in islice(outputs.items(), _MOST_RESERVED):
                with writing_file(path):
                    is_free = stack.enter_context(locked(lock))
                if not is_free:
                    kind = "table" if path.suffix == ".csv" else "map"
                    raise DataError(
                        f"{path}: another process is writing this {kind}; wait for it, or choose another output"
                    )
        yield
