"""Maps of scenes from Python: write a map in one call, or iterate over its rows."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch

from ..deprecated import accepts_old_arguments
from ..errors import ConfigError, DataError, counted
from ..files import file_hash
from ..hub import local_path
from ..readers.aoi import AreaOfInterest
from ..readers.block_cache import limit_block_cache
from ..readers.formats import InputOptions, SceneInput, find_inputs, resolve_scene
from ..readers.quality import QualityClass
from ..readers.recorded_options import options_tag
from ..readers.scene import NodataRule, Scene
from ..spec import DataSpec, InputSpec
from ..tasks import PrithviTask, load_task
from ..tasks.exported import ExportedModel
from ..tasks.precision import described_precision
from ..tiling import Blending, PixelArea
from .blending import MapRows
from .ensembles import Member, Tta, combination_of, create_map_model, describe_model, patch_of, tasks_of
from .loop import Precision, blended_rows, map_scenes
from .map_run import MapRun
from .model_checks import warn_of_padding
from .outputs import check_settings, map_paths, split_existing
from .products import OutputOptions, select_products
from .provenance import described_area, described_windows, weights_hash
from .resources import Auto
from .scene_map import SceneMap, SceneResult
from .scene_windows import SceneDataModule

_log = logging.getLogger(__name__)

#: A checkpoint, a task, or several of them: the members of an ensemble.
Model = str | Path | PrithviTask | Sequence[str | Path | PrithviTask]


@accepts_old_arguments
def map_scene(
    checkpoint: Model,
    scene: str | Path,
    output: str | Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    blending: Blending = "average",
    nodata_rule: NodataRule | None = None,
    qa_mask: Sequence[QualityClass] = (),
    batch_size: int | Auto = "auto",
    num_workers: int | Auto = "auto",
    precision: Precision = "32-true",
    tf32: bool = False,
    device: str | torch.device = "cpu",
    tta: Tta | None = None,
    calibrated: bool = False,
    aoi: str | Path | None = None,
    **options: Any,
) -> Path:
    """Map one scene of any size in one call, as ``prithvi-tg predict`` does.

    Args:
        checkpoint: A checkpoint with a description of its data, an exported model (``.pt2``), or a task with a
            `data_spec`, see `load_task`; or several of these, an ensemble whose probabilities are averaged.
        scene: A raster, an HLS granule, a ``.SAFE`` folder, or several dates joined by commas; see `find_inputs`.
        output: Path of the map; the names of other outputs derive from it.
        window: Size of a window in pixels; that of training by default.
        stride: Distance between neighbouring windows in pixels; that of training, or half a window, by default.
        blending: How to blend overlapping windows.
        nodata_rule: When a pixel of the map is nodata; by default ``all``, or ``legacy`` with the legacy profile.
        qa_mask: Quality classes that count as nodata.
        batch_size: Number of windows in a batch; ``auto`` depends on the device.
        num_workers: Number of threads that read ahead; ``auto`` depends on the device, cores and free memory.
        precision: ``bf16-mixed`` and ``16-mixed`` compute convolutions and matrix products in bfloat16 or float16.
        tf32: Use TF32 for float32 operations on CUDA: faster, with 10 bits of mantissa.
        device: Device of the model.
        tta: ``d4`` averages the logits of the eight flips and turns of each window, for eight times the computation.
        calibrated: Divide logits by the temperature that ``prithvi-tg calibrate`` stored in the checkpoint.
        aoi: Map only this area: a vector file, ``left,bottom,right,top`` in degrees, or WKT, see `AreaOfInterest.of`.
            Windows are those of the whole scene; only those that touch the area are read and run. The map is cropped
            to the area and is nodata outside it.
        **options: Fields of `InputOptions` and `OutputOptions`, such as ``bands`` or ``overwrite``.

    Returns:
        The path of the map.

    Raises:
        ConfigError: An output file exists, an option is invalid, or the task has no data description.
        DataError: The scene cannot be read or the map cannot be written.
    """
    reading, writing = split_options(options, map_scene)
    area = check_settings(Path(output), writing, aoi)
    task, weights = map_model(checkpoint, tta, calibrated)
    data, run = plan_maps(
        task,
        known_spec(task),
        [scene],
        Path(output),
        weights,
        reading,
        writing,
        window=window,
        stride=stride,
        blending=blending,
        nodata_rule=nodata_rule,
        qa_mask=qa_mask,
        batch_size=batch_size,
        num_workers=num_workers,
        precision=precision,
        tf32=tf32,
        aoi=area,
    )
    map_scenes(task, data, run, device, precision, tf32)
    return Path(output)


@accepts_old_arguments
def map_strips(
    checkpoint: Model,
    scene: str | Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    blending: Blending = "average",
    nodata_rule: NodataRule = "all",
    qa_mask: Sequence[QualityClass] = (),
    batch_size: int | Auto = "auto",
    num_workers: int | Auto = "auto",
    precision: Precision = "32-true",
    tf32: bool = False,
    device: str | torch.device = "cpu",
    tta: Tta | None = None,
    calibrated: bool = False,
    aoi: str | Path | None = None,
    **options: Any,
) -> Iterator[MapRows]:
    """Yield completed rows of a map from top to bottom, for custom output; with `aoi`, of the cropped map.

    For the arguments see `map_scene`; options are fields of `InputOptions`.

    Yields:
        Consecutive rows with logits, classes, probabilities and the mask of nodata.

    Raises:
        ConfigError: An option is invalid, or the task has no data description.
        DataError: The scene cannot be read.
    """
    area = None if aoi is None else AreaOfInterest.of(aoi)
    task = create_map_model(_members(checkpoint), tta, calibrated)
    limit_block_cache(max_megabytes=64)
    spec = known_spec(task)
    combination = combination_of(task, spec)
    reading, _ = split_options(options, map_strips)
    reading.check_quality(qa_mask)
    reading = replace(reading, legacy=nodata_rule == "legacy")
    resolved = resolve_one_scene(scene, spec.input, reading)
    warn_of_pixel_size([resolved], spec)
    side, step = window_and_stride(task, window, stride)
    patch = patch_of(task)
    _, areas = select_scenes([resolved], area)
    data = SceneDataModule(
        [resolved],
        spec,
        side,
        step,
        blending,
        patch,
        batch_size,
        num_workers,
        nodata_rule,
        qa_mask,
        areas=areas,
    )
    yield from blended_rows(task, data, device, precision, tf32, combination)


def plan_maps(
    task: Any,
    spec: DataSpec,
    scenes: Sequence[str | Path],
    output: Path,
    weights: str,
    reading: InputOptions,
    writing: OutputOptions,
    *,
    window: int | None = None,
    stride: int | None = None,
    blending: Blending = "average",
    nodata_rule: NodataRule | None = None,
    qa_mask: Sequence[QualityClass] = (),
    batch_size: int | Auto = "auto",
    num_workers: int | Auto = "auto",
    precision: str = "32-true",
    tf32: bool = False,
    fold_time: bool = False,
    aoi: str | Path | AreaOfInterest | None = None,
) -> tuple[SceneDataModule, MapRun]:
    """Find scenes, and check before mapping that their maps can be made.

    Args:
        task: The task that maps the scenes, or an `Ensemble`.
        spec: Bands, statistics and classes of the task.
        scenes: Paths or patterns, see `find_inputs`.
        output: Folder of the maps; or, for one scene, the map itself (``.tif``).
        weights: Hash of the weights.
        reading: How to read the files.
        writing: Which files to write.
        window: See `map_scene`, also for the following arguments.
        stride: Distance between neighbouring windows in pixels.
        blending: How to blend overlapping windows.
        nodata_rule: When a pixel of the map is nodata.
        qa_mask: Quality classes that count as nodata.
        batch_size: Number of windows in a batch.
        num_workers: Number of threads that read ahead.
        precision: Precision of the trainer. Maps record it; an unfinished map resumes only in the same precision.
        tf32: Whether TF32 is used; recorded like `precision`.
        fold_time: Return images as (B, T*C, window, window), for TorchGeo's own tasks.
        aoi: Area to map, see `map_scene`; scenes that it does not touch are skipped.

    Returns:
        The data module of the windows, and the run of the maps. The run already contains the results of scenes that
        cannot be read.

    Raises:
        ConfigError: Two maps have the same path, a map exists, an option is invalid, or the task's outputs do not
            match the target.
        DataError: No scene is found, or none touches the area.
    """
    limit_block_cache(max_megabytes=64)
    area = None if aoi is None else AreaOfInterest.of(aoi)
    combination = combination_of(task, spec, select_products(spec, writing))
    nodata_rule = nodata_rule or ("legacy" if writing.profile == "legacy" else "all")
    reading.check_quality(qa_mask)
    reading = replace(reading, legacy=nodata_rule == "legacy")
    found = find_inputs(scenes, spec.input.num_frames, reading.format)
    paths = map_paths(found, output)
    pending, existing = split_existing(found, paths, writing)
    resolved, unreadable = _resolve_scenes(pending, paths, spec, reading)
    resolved, areas = select_scenes(resolved, area)
    warn_of_pixel_size(resolved, spec)
    side, step = window_and_stride(task, window, stride)
    data = SceneDataModule(
        resolved, spec, side, step, blending, patch_of(task), batch_size, num_workers, nodata_rule, qa_mask, fold_time,
        areas,
    )  # fmt: skip
    computed, cut = described_precision(precision, tf32), described_windows(data.plans)
    identity, tags = describe_model(task, spec, weights, computed, nodata_rule, qa_mask, cut)
    tags |= described_area(area)
    maps = []
    for one in resolved:
        path = paths[one.name]
        own_tags = tags | options_tag(reading, path.parent)
        maps.append(SceneMap(one, data.plans[one.name], path, spec, writing, identity, own_tags, combination))
    for one_map in maps:
        one_map.check_free()
    return data, MapRun(maps, unreadable, existing, nodata_rule == "legacy")


def _members(checkpoint: Model) -> list[Member]:
    several = [checkpoint] if isinstance(checkpoint, str | Path | PrithviTask) else checkpoint
    if not several:
        raise ConfigError("checkpoint: none given; name at least one")
    return [
        Member(one) if isinstance(one, PrithviTask) else Member(load_task(one), local_path(one))
        for one in several
    ]


def map_model(checkpoint: Model, tta: Tta | None, calibrated: bool) -> tuple[Any, str]:
    """The task of a checkpoint, or an `Ensemble`, and the hashes of its weights, separated by spaces.

    Raises:
        ConfigError: No checkpoint is given, or several were trained on different data.
        CheckpointError: A file cannot be read, or has no temperature, with `calibrated`.
    """
    members = _members(checkpoint)
    return create_map_model(members, tta, calibrated), " ".join(member.sha256 for member in members)


def task_and_hash(checkpoint: str | Path | PrithviTask) -> tuple[PrithviTask, str]:
    """The task, loaded if `checkpoint` is a file, and the hash of its weights."""
    if isinstance(checkpoint, PrithviTask):
        return checkpoint, weights_hash(checkpoint)
    path = local_path(checkpoint)
    return load_task(path), file_hash(path)


def resolve_one_scene(scene: str | Path, spec: InputSpec, reading: InputOptions) -> Scene:
    """Resolve a path that contains one scene.

    Raises:
        ConfigError: The path contains several scenes.
        DataError: No scene is found, or it cannot be read.
    """
    found = find_inputs([scene], spec.num_frames, reading.format)
    if len(found) != 1:
        raise ConfigError(f"scene: {scene} contains {len(found)} scenes; name one of them")
    return resolve_scene(found[0], spec, reading)


def select_scenes(
    scenes: Sequence[Scene], area: AreaOfInterest | None
) -> tuple[list[Scene], dict[str, PixelArea]]:
    """The scenes with pixels in an area, and these pixels by scene name; all scenes without an area.

    Raises:
        DataError: No scene has a pixel in the area, or a scene has no CRS.
    """
    if area is None or not scenes:
        return list(scenes), {}
    found = {scene.name: area.pixels(scene.grid, scene.files[0]) for scene in scenes}
    areas = {name: pixels for name, pixels in found.items() if pixels is not None}
    grids = [scene.grid for scene in scenes if scene.name in areas]
    if not areas:
        others = f", nor {counted(len(scenes) - 1, 'other scene')}" if len(scenes) > 1 else ""
        raise DataError(area.refusal(scenes[0].grid, scenes[0].files[0]) + others)
    if skipped := [name for name in found if name not in areas]:
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        _log.info(
            f"aoi: skipped {len(skipped)} of {len(scenes)} scenes outside it: {', '.join(skipped[:3])}{more}"
        )
    _log.info(f"aoi: {area.coverage(grids)}")
    return [scene for scene in scenes if scene.name in areas], areas


def _resolve_scenes(
    found: Sequence[SceneInput], paths: Mapping[str, Path], spec: DataSpec, reading: InputOptions
) -> tuple[list[Scene], list[SceneResult]]:
    """Return the scenes that can be read, and the results of those that cannot."""
    resolved, unreadable = [], []
    for one in found:
        try:
            resolved.append(resolve_scene(one, spec.input, reading))
        except DataError as error:
            unreadable.append(SceneResult(one.name, paths[one.name], error=str(error)))
    return resolved, unreadable


def warn_of_pixel_size(scenes: Sequence[Scene], spec: DataSpec) -> None:
    """Warn once if pixels of scenes are more than twice, or less than half, as large as in training."""
    if spec.input.pixel_size is None:
        return
    sizes = {scene.files[0]: scene.grid.pixel_size for scene in scenes}
    other = {
        file: size for file, size in sizes.items() if size and not 0.5 <= size / spec.input.pixel_size <= 2
    }
    if other:
        file, size = next(iter(other.items()))
        more = f" (and {counted(len(other) - 1, 'other scene')})" if len(other) > 1 else ""
        warnings.warn(
            f"{file}: pixel size {size:.3g} m{more}, but {spec.input.pixel_size:.3g} m in the training data; "
            "the model was not trained at this scale",
            stacklevel=3,
        )


def known_spec(task: PrithviTask) -> DataSpec:
    """The description of the data of a task.

    Raises:
        ConfigError: The task has none.
    """
    if task.data_spec is None:
        raise ConfigError(
            "data_spec: the task has no description of its data; fit it, load it from a checkpoint of a fit, or "
            "build it with data_spec=datamodule.spec.to_dict()"
        )
    return task.data_spec


def split_options(
    options: Mapping[str, Any], function: Callable[..., Any]
) -> tuple[InputOptions, OutputOptions]:
    """Split options by name into those of reading and those of writing.

    Args:
        options: The options.
        function: The function that was called with them; an error names its other arguments, too.

    Raises:
        ConfigError: An option is unknown.
    """
    reading = {field.name for field in fields(InputOptions)}
    writing = {field.name for field in fields(OutputOptions)}
    for name in options:
        if name not in reading | writing:
            arguments = signature(function).parameters.values()
            others = {one.name for one in arguments if one.kind is Parameter.KEYWORD_ONLY}
            known = sorted(reading | writing | others)
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? Choose" if near else "choose"
            raise ConfigError(f"{name}: unknown option; {hint} from {', '.join(known)}")
    return (
        InputOptions(**{key: _as_tuple(value) for key, value in options.items() if key in reading}),
        OutputOptions(**{key: _as_tuple(value) for key, value in options.items() if key in writing}),
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def window_and_stride(task: Any, window: int | None, stride: int | None) -> tuple[int, int]:
    """Window and stride as given, or else those of the task; the default stride is half a window.

    Raises:
        ConfigError: They are not given, and the members of an ensemble differ in them; or the task is an exported
            model for windows of another size.
    """
    found = list(dict.fromkeys(_window_and_stride(one, window, stride) for one in tasks_of(task)))
    if len(found) > 1:
        several = " and ".join(f"window {side} and stride {step}" for side, step in found)
        raise ConfigError(f"window: members of the ensemble have {several}; give window and stride")
    return found[0]


def _window_and_stride(task: Any, window: int | None, stride: int | None) -> tuple[int, int]:
    trained: Mapping[str, Any] = getattr(task, "hparams", {})
    side = (trained.get("window") or 224) if window is None else window
    if stride is None:
        same = side == trained.get("window")
        stride = (trained.get("stride") if same else None) or max(1, side // 2)
    model = getattr(task, "model", None)
    if isinstance(model, ExportedModel):
        model.check_size(side, side)
    elif window is not None:
        warn_of_padding(task, window)
    return side, stride
