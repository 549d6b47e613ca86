"""``prithvi-tg report``: an HTML page about one or several runs."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..cli.table import COMMANDS
from ..errors import BandNameError, ConfigError, DataError, counted
from ..files import shown
from ..readers.formats import InputOptions, SceneInput, find_inputs, resolve_scene
from ..readers.raster import open_raster
from ..readers.recorded_options import recorded_options
from ..readers.scene import Scene
from ..readers.scene_paths import words_from
from ..reporting.areas import read_areas
from ..reporting.report import makers, write_report
from ..reporting.runs import Run, distinct_names, read_runs
from ..reporting.tiles import TiledMap, has_values, tile_map
from ..spec import DataSpec


def run(arguments: list[str]) -> int:
    """Parse the arguments, write the page and print its path."""
    options = COMMANDS["report"].parser().parse_args(arguments)
    output = options.output or (options.runs[0] if options.runs else options.areas[0].parent) / "report.html"
    if output.exists() and not options.overwrite:
        raise ConfigError(f"output: {output} exists; add --overwrite to replace it")
    runs = read_runs(options.runs, options.names)
    areas = read_areas(options.areas)
    maps = _maps(options, runs)
    baselines = {}
    if options.baseline:
        from .pixel_baselines import pixel_baselines  # imports Lightning

        baselines = pixel_baselines(runs)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_report(output, runs, maps, options.title, baselines, areas)
    print(f"Written: {shown(output)} ({output.stat().st_size / 1e6:.1f} MB)")
    return 0


def _maps(options: argparse.Namespace, runs: Sequence[Run]) -> list[TiledMap]:
    paths = [path for given in options.maps for path in _map_files(given)]
    if options.scenes and len(options.scenes) != len(paths):
        raise ConfigError(
            f"scenes: {len(options.scenes)} given for {counted(len(paths), 'map')}; give one for each map"
        )
    spec = next((one.spec for one in runs if one.spec is not None), None)
    scenes: Sequence[str | None] = options.scenes or [None] * len(paths)
    names = distinct_names([path.resolve().with_suffix("") for path in paths])
    if of_values := [path for path in paths if has_values(path)]:
        more = f" and {counted(len(of_values) - 1, 'other')}" if len(of_values) > 1 else ""
        _warn(
            f"{of_values[0]}{more}: skipped, because the page shows maps of classes only; for pictures of maps of "
            "values, add --quicklook to predict"
        )
    maps = []
    for path, name, scene in zip(paths, names, scenes, strict=True):
        if path in of_values:
            continue
        tiled = _tiled(path, scene, spec, options.map_megabytes * 1e6)
        tiled.name = name
        if tiled.checkpoint is not None and not makers(tiled, runs):
            _warn(f"{path}: made with weights {tiled.checkpoint[:16]}, which belong to none of these runs")
        maps.append(tiled)
    return maps


def _map_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*_pred.tif"))
    if not found:
        raise DataError(f"{path}: contains no maps, NAME_pred.tif")
    return found


def _warn(line: str) -> None:
    print(f"prithvi-tg: warning: {line}", file=sys.stderr)


def _tiled(path: Path, scene: str | None, spec: DataSpec | None, max_bytes: float) -> TiledMap:
    if scene is not None:
        if spec is None:
            raise ConfigError(
                "scenes: no run records bands and statistics, so scenes cannot be shown; omit --scenes"
            )
        return tile_map(path, max_bytes, _scene(scene, spec, _options(path)), spec)
    item = path.with_suffix(".json")
    if not item.exists() or spec is None:
        missing = (
            f"no {path.with_suffix('.json').name} beside the map names it; give --scenes"
            if spec is not None
            else "no run records bands and statistics"
        )
        tiled = tile_map(path, max_bytes)
        _warn(f"{path}: shown without its scene ({missing})")
        return tiled
    try:
        found = mapped_scene(item, spec.input.num_frames)
        dates = len(found.frames)
        if dates not in (1, spec.input.num_frames):  # of another model
            spec = replace(spec, input=replace(spec.input.frame(0), num_frames=dates))
        return tile_map(path, max_bytes, resolve_scene(found, spec.input, _options(path)), spec)
    except (ConfigError, DataError) as error:
        tiled = tile_map(path, max_bytes)
        reason = (
            f"{error.reason}; give a run of the model that made it, or map it again to record its bands"
            if isinstance(error, BandNameError)
            else error
        )
        _warn(f"{path}: shown without its scene ({reason})")
        return tiled


def mapped_scene(item: Path, num_frames: int) -> SceneInput:
    """The scene of a map, from the STAC item beside it.

    Raises:
        DataError: The file is not the STAC item of a map, or does not name the scene.
    """
    try:
        properties = json.loads(item.read_text())["properties"]
        sources = properties["prithvi_tg:sources"]
        frames = properties.get("prithvi_tg:scene")
        words = [str(word) for word in frames or sources]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{item}: not the STAC item of a map ({error})") from error
    if not frames and len(words) not in (1, num_frames):  # an older item, which names only the files of bands
        raise DataError(f"{item}: names {len(words)} files, not the scene; give it with --scenes")
    return SceneInput(item.stem, words_from(item.parent, words))


def _options(path: Path) -> InputOptions:
    with open_raster(path) as source:
        return recorded_options(source.tags(), path)


def _scene(word: str, spec: DataSpec, options: InputOptions) -> Scene:
    (found, *more) = find_inputs([word], spec.input.num_frames, options.format)
    if more:
        raise ConfigError(f"scenes: {word} matches {len(more) + 1} scenes; give one for each map")
    return resolve_scene(found, spec.input, options)
