"""The mapping loop without a trainer: read windows, run the model, and write maps or yield rows."""

from collections.abc import Callable, Iterator
from typing import Any, get_args

import torch
from torch import Tensor

from ..choices import Precision as Precision
from ..errors import ConfigError, DataError
from ..models import WeightCache, cached_weights
from ..tasks.precision import float32_precision
from .blending import BlendedRows, Blender, FiniteCheck, MapRows
from .combination import Combination
from .map_run import MapRun
from .model_checks import check_outputs
from .progress import MapProgress
from .scene_windows import SceneDataModule
from .window_stream import ReadEvents, ReadingFailed, WindowRead, WindowStream


def map_scenes(
    task: Any,
    data: SceneDataModule,
    run: MapRun,
    device: str | torch.device,
    precision: Precision,
    tf32: bool,
    translate: Callable[[ReadEvents], ReadEvents] | None = None,
) -> None:
    """Map all scenes of a run, as `Trainer.predict` does with `MapWriter`.

    Args:
        task: A module with a `predict_step`.
        data: Data module of the windows.
        run: The maps.
        device: Device of the model.
        precision: Precision, by Lightning's names.
        tf32: Use TF32 on CUDA.
        translate: Converts events to pixels of the map, if these differ from the scene's. The task then returns
            whole windows.

    Raises:
        ConfigError: The precision is unknown, or the number of outputs does not match the target.
        DataError: A scene failed, or another process is writing its map.
        KeyboardInterrupt: With a note of what remains to resume from.
    """
    with run.reserved():
        data.select_strips(run.prepare())
        stream = data.stream(device=torch.device(device))
        progress = MapProgress(run, stream.strip_ranges)
        try:
            for read, logits, core_window in _predict(task, data, stream, device, precision, tf32):
                progress.update(read)
                if translate is None:
                    run.update(read, logits, core_window)
                else:
                    run.update(translate(read), logits)
                for name in run.failed:
                    stream.discard(name)
            run.wait()
        except KeyboardInterrupt as stop:
            run.close()
            stop.add_note(run.interruption())
            raise
        finally:
            run.close()
        for result in run.results():
            if result.error is not None:
                raise DataError(result.error)
        run.clear()


def blended_rows(
    task: Any,
    data: SceneDataModule,
    device: str | torch.device,
    precision: Precision,
    tf32: bool,
    combination: Combination | None = None,
) -> Iterator[MapRows]:
    """Yield the rows of the map of one scene; for arguments and errors see `map_scenes` and `SceneMap`.

    Yields:
        Rows from top to bottom, without gaps.
    """
    (plan,) = data.plans.values()
    rows = BlendedRows if combination is None else combination.rows
    blender = Blender(plan, device=torch.device(device), rows=rows)
    legacy = data.nodata_rule == "legacy"
    stream = data.stream(device=torch.device(device))
    for read, logits, core_window in _predict(task, data, stream, device, precision, tf32):
        if logits is not None:
            check_outputs(logits, data.spec, 1 if combination is None else combination.count)
            logits = logits.float()
            for reason in {} if legacy else FiniteCheck(read.windows, logits).failures().values():
                raise DataError(reason)
        position = 0
        for event in read.events:
            if isinstance(event, ReadingFailed):
                raise event.error
            window = None
            if isinstance(event, WindowRead):
                assert logits is not None
                window, position = logits[position], position + 1
            corner = (0, 0) if core_window is None else core_window[:2]
            yield from map(MapRows.of, blender.update(event, window, corner))


def _predict(
    task: Any,
    data: SceneDataModule,
    stream: WindowStream,
    device: str | torch.device,
    precision: Precision,
    tf32: bool,
) -> Iterator[tuple[ReadEvents, Tensor | None, tuple[int, int, int, int] | None]]:
    """Yield events, outputs (B, K, h, w) on the device, and the part of the windows that the outputs cover."""
    task = task.eval().to(device)
    windows, cache = data.windows_on(torch.device(device)), WeightCache()
    for number, read in enumerate(stream):
        with (
            torch.inference_mode(),
            float32_precision(tf32),
            _autocast(precision, device),
            cached_weights(cache),
        ):
            batch = windows.load(read)
            logits = task.predict_step(batch, number)
        yield read, logits, batch.get("core_window")
    yield stream.trailing_events, None, None


def _autocast(precision: Precision, device: str | torch.device) -> torch.autocast:
    """The autocast context of a precision, as in Lightning.

    Raises:
        ConfigError: The name is not in `Precision`.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision: {precision!r} must be one of {', '.join(get_args(Precision))}")
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(torch.device(device).type, dtype, enabled=precision != "32-true")
