"""Windows of scenes, streamed: every block of a file is decoded once, and a few rows of it are held."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..readers.scene import Scene, SceneReader
from ..spec import InputSpec
from ..tiling import WindowGrid
from .row_reader import RowReader, Rows, StripRange
from .unit_check import UnitCheck


@dataclass(frozen=True)
class RowsRead:
    """Rows of a scene.

    Attributes:
        strip_range: Whose windows see them.
        rows: Their pixels.
        needed_from: No later window sees rows above this one.
    """

    strip_range: StripRange
    rows: Rows
    needed_from: int

    @property
    def masked(self) -> NDArray[np.bool_]:
        """Which of the rows' pixels that belong to the strips are nodata (h, W); often fewer rows, or none."""
        first = max(self.rows.top, self.strip_range.top) - self.rows.top
        last = min(self.rows.bottom, self.strip_range.bottom) - self.rows.top
        return self.rows.masked[first : max(first, last)]


@dataclass(frozen=True)
class WindowRead:
    """A window: its row and column among the windows of the plan. Its logits are next in the batch."""

    strip_range: StripRange
    row: int
    column: int


@dataclass(frozen=True)
class StripRangeRead:
    """All windows of a range of strips have been read; `skipped` of them held no data."""

    strip_range: StripRange
    skipped: int


@dataclass(frozen=True)
class ReadingFailed:
    """A range of strips cannot be read any further, and its scene not at all."""

    strip_range: StripRange
    error: DataError


Event = RowsRead | WindowRead | StripRangeRead | ReadingFailed


class ReadEvents:
    """What was read, in order: a batch of windows, and all else that was read with them.

    A class of its own, so that moving a batch to a device leaves it alone.
    """

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    @property
    def windows(self) -> list[WindowRead]:
        """The windows among them."""
        return [event for event in self.events if isinstance(event, WindowRead)]


class WindowStream:
    """Batches of windows of scenes, in reading order, as `ReadEvents`; `DeviceWindows` makes images of them.

    Windows without data are left out; where none has any, there is no batch, and what was read is left in
    `trailing_events`.

    Args:
        strip_ranges: What to read.
        spec: Bands and statistics that the model expects.
        open_scene: How a scene is read.
        batch_size: Windows in a batch.
        num_workers: Threads that read ahead; 0 reads only when asked.
    """

    def __init__(
        self,
        strip_ranges: Sequence[StripRange],
        spec: InputSpec,
        open_scene: Callable[[Scene], SceneReader],
        batch_size: int = 8,
        num_workers: int = 1,
    ) -> None:
        self.strip_ranges = strip_ranges
        self.spec = spec
        self.open_scene = open_scene
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.trailing_events = ReadEvents([])
        self._discarded: set[str] = set()

    def __len__(self) -> int:
        """Batches, if no window were without data."""
        return -(-sum(strip_range.windows for strip_range in self.strip_ranges) // self.batch_size)

    def discard(self, scene_name: str) -> None:
        """Read no more of a scene."""
        self._discarded.add(scene_name)

    def __iter__(self) -> Iterator[ReadEvents]:
        """Read the ranges of strips one after the other."""
        reader = RowReader(self.strip_ranges, self.open_scene, self.num_workers)
        batch = self.trailing_events = ReadEvents([])
        windows = 0
        try:
            for strip_range in self.strip_ranges:
                for event in self._read_range(strip_range, reader):
                    # A full batch waits for the next window, so that what is read without one goes with it.
                    if isinstance(event, WindowRead):
                        if windows == self.batch_size:
                            self.trailing_events = ReadEvents([])
                            yield batch
                            batch, windows = self.trailing_events, 0
                        windows += 1
                    elif isinstance(event, ReadingFailed):
                        self.discard(strip_range.scene.name)
                    batch.events.append(event)
            if windows:
                self.trailing_events = ReadEvents([])
                yield batch
        finally:
            reader.close()

    def _read_range(self, strip_range: StripRange, reader: RowReader) -> Iterator[Event]:
        plan, scene = strip_range.plan, strip_range.scene
        check, skipped, meaningless = UnitCheck(scene, self.spec), 0, 0
        held: list[Rows] = []
        chunks = reader.rows(strip_range)
        try:
            for row in range(strip_range.strips[0].first, strip_range.strips[-1].last + 1):
                if scene.name in self._discarded:
                    return
                top = plan.rows.starts[row]
                bottom = min(top + plan.rows.window, plan.rows.length)
                held = [rows for rows in held if rows.bottom > top]
                while not held or held[-1].bottom < bottom:
                    rows = next(chunks)
                    check.add(rows)
                    meaningless += rows.meaningless
                    yield RowsRead(strip_range, rows, top)
                    held.append(replace(rows, values=None, valid=None))
                columns = _columns_with_data(held, top, bottom, plan)
                skipped += len(plan.columns.starts) - len(columns)
                for column in columns:
                    yield WindowRead(strip_range, row, column)
            check.judge()
            if meaningless:
                warnings.warn(
                    f"{scene.files[0]}: {meaningless} values that are not finite or beyond 1e30 count as nodata",
                    stacklevel=2,
                )
            yield StripRangeRead(strip_range, skipped)
        except DataError as error:
            yield ReadingFailed(strip_range, error)


def _columns_with_data(held: Sequence[Rows], top: int, bottom: int, plan: WindowGrid) -> Sequence[int]:
    """Columns of the windows of one row of windows in which a pixel of the map has data."""
    has_data = np.zeros(plan.columns.length, bool)
    for rows in held:
        if rows.is_clear:
            return range(len(plan.columns.starts))
        part = rows.masked[max(0, top - rows.top) : bottom - rows.top]
        has_data |= ~part.all(axis=0)
    before = np.concatenate([[0], np.cumsum(has_data)])
    starts = np.array(plan.columns.starts)
    ends = np.minimum(starts + plan.columns.window, plan.columns.length)
    return np.flatnonzero(before[ends] > before[starts]).tolist()
