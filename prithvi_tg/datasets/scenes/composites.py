"""Temporal composites: the frames of a model, built from many dates of one place."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from ...deprecated import old_names
from ...errors import ConfigError, DataError, counted
from ...nulls import set_defaults
from ...readers.formats import InputOptions, SceneInput, resolve_scene
from ...readers.grid import Grid
from ...readers.quality import QualityClass
from ...readers.scene import Scene, SceneReader
from ...spec import InputSpec

_SIDE = 256


@dataclass(frozen=True)
class TemporalComposite:
    """Selects the frames of an image: the available dates nearest to some dates, or medians of periods.

    Attributes:
        dates: A date per frame, ``YYYY-MM-DD``; the frame is the nearest available date.
        tolerance: Largest difference in days; unlimited by default.
        periods: Instead of dates, first and last day of a period per frame; the frame is the median of the clear pixels
            of the period.
    """

    dates: tuple[str, ...] = ()
    tolerance: int | None = None
    periods: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        set_defaults(self)
        if bool(self.dates) == bool(self.periods):
            raise ConfigError("composite: give dates, or periods, one per frame")
        for text in (*self.dates, *(day for period in self.periods for day in period)):
            _day(text)

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.dates) or len(self.periods)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError as error:
        raise ConfigError(f"composite: {text!r} is not a date; write it as YYYY-MM-DD") from error


def compose_frames(
    inputs: Sequence[SceneInput],
    spec: InputSpec,
    composite: TemporalComposite,
    options: InputOptions | None = None,
    qa_mask: Sequence[QualityClass] = (),
) -> list[Scene]:
    """Build one scene of several frames for each place.

    Dates with the same tile or grid belong to one place; HLS S30 and L30 can be mixed.

    Args:
        inputs: Scenes of one date each, see `find_inputs`.
        spec: Bands and statistics, with the number of frames of the composite.
        composite: The selection of frames.
        options: How to read the files.
        qa_mask: Quality classes that are not clear.

    Raises:
        ConfigError: The number of frames is not that of the model.
        DataError: The date of a scene is unknown, no date is near enough, or a period has no clear pixel.
    """
    if composite.num_frames != spec.num_frames:
        raise ConfigError(
            f"composite: gives {counted(composite.num_frames, 'frame')}, but the model takes {spec.num_frames}"
        )
    places: dict[str | Grid, list[Scene]] = {}
    for found in inputs:
        scene = resolve_scene(found, spec.frame(0), options)
        if scene.dates[0] is None:
            raise DataError(
                f"{scene.files[0]}: its date is unknown; use granules, or name bands like B02_20200630"
            )
        tile = re.search(r"[._](T\d{2}[A-Z]{3})[._]", f"_{scene.name}_")
        places.setdefault(tile.group(1) if tile else scene.grid, []).append(scene)
    return [_compose(place, scenes, spec, composite, qa_mask) for place, scenes in places.items()]


def _compose(
    place: str | Grid,
    scenes: list[Scene],
    spec: InputSpec,
    composite: TemporalComposite,
    qa_mask: Sequence[QualityClass],
) -> Scene:
    scenes = sorted(scenes, key=_date)
    name = place if isinstance(place, str) else scenes[0].name
    if composite.dates:
        chosen = [_nearest(name, scenes, _day(day), composite.tolerance) for day in composite.dates]
        first, last = _date(chosen[0]), _date(chosen[-1])
        return Scene(
            f"{name}_{first:%Y%m%d}_{last:%Y%m%d}",
            chosen[0].grid,
            tuple(channel for scene in chosen for channel in scene.channels),
            tuple(layer for scene in chosen for layer in scene.quality)
            if all(s.quality for s in chosen)
            else (),
            tuple(_date(scene) for scene in chosen),
            "; ".join(f"{_date(scene)}: {scene.origin}" for scene in chosen),
        )
    frames = []
    for number, (begin, end) in enumerate(composite.periods):
        within = tuple(scene for scene in scenes if _day(begin) <= _date(scene) <= _day(end))
        if not within:
            available = ", ".join(str(_date(scene)) for scene in scenes)
            raise DataError(f"{name}: no date from {begin} to {end}; available dates: {available}")
        if not any(_clear_share(scene, spec.frame(number), qa_mask) for scene in within):
            raise DataError(f"{name}: no clear pixel from {begin} to {end} in {counted(len(within), 'date')}")
        frames.append(within)
    middles = [_date(frame[len(frame) // 2]) for frame in frames]
    return Scene(
        f"{name}_{middles[0]:%Y%m%d}_{middles[-1]:%Y%m%d}",
        frames[0][0].grid,
        (),
        dates=tuple(middles),
        origin="; ".join(f"median of {counted(len(frame), 'date')}" for frame in frames),
        members=tuple(frames),
    )


def _date(scene: Scene) -> date:
    (day,) = scene.dates
    assert day is not None
    return day


def _nearest(name: str, scenes: list[Scene], day: date, tolerance: int | None) -> Scene:
    scene = min(scenes, key=lambda one: abs((_date(one) - day).days))
    off = abs((_date(scene) - day).days)
    if tolerance is not None and off > tolerance:
        raise DataError(f"{name}: no date within {tolerance} days of {day}; the nearest is {_date(scene)}")
    return scene


def _clear_share(scene: Scene, spec: InputSpec, qa_mask: Sequence[QualityClass]) -> float:
    with SceneReader(scene, spec, qa_mask=qa_mask) as reader:
        return float(np.mean(~reader.overview(_SIDE).masked))


__getattr__ = old_names(__name__)
