"""WindowStream: reads scenes row by row, so that each block is decoded once and memory holds few rows."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, counted
from ..readers.scene import Scene, SceneReader
from ..spec import InputSpec
from ..tiling import WindowGrid
from .row_reader import RowReader, Rows, StripRange
from .unit_check import UnitCheck


@dataclass(frozen=True)
class RowsRead:
    """Rows of a scene were read.

    Attributes:
        strip_range: Strip range whose windows cover the rows.
        rows: Pixels of the rows.
        needed_from: First row that later windows cover.
    """

    strip_range: StripRange
    rows: Rows
    needed_from: int

    @property
    def masked(self) -> NDArray[np.bool_]:
        """Nodata mask (h, W) of those rows that belong to the strips; h may be 0. True outside the area, if any."""
        first = max(self.rows.top, self.strip_range.top)
        last = max(first, min(self.rows.bottom, self.strip_range.bottom))
        plan, masked = self.strip_range.plan, self.rows.masked[first - self.rows.top : last - self.rows.top]
        if plan.area is None:
            return masked
        left, right = (column - plan.columns.covered[0] for column in plan.columns.mapped)
        outside: NDArray[np.bool_] = masked[:, left:right] | ~plan.area.rows(first, last)
        return outside


@dataclass(frozen=True)
class WindowRead:
    """A window was read: its row and column in the plan. Logits of a batch are in the order of these events."""

    strip_range: StripRange
    row: int
    column: int


@dataclass(frozen=True)
class StripRangeRead:
    """All windows of a strip range were read; `skipped` of them have no data."""

    strip_range: StripRange
    skipped: int


@dataclass(frozen=True)
class ReadingFailed:
    """A strip range cannot be read, and its scene fails."""

    strip_range: StripRange
    error: DataError


Event = RowsRead | WindowRead | StripRangeRead | ReadingFailed


class ReadEvents:
    """Events in reading order: a batch of windows, and the rows and strip ranges read with them.

    Lightning moves lists and tuples of a batch to the device, but not objects of this class.
    """

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    @property
    def windows(self) -> list[WindowRead]:
        """The windows of the batch."""
        return [event for event in self.events if isinstance(event, WindowRead)]


class WindowStream:
    """Yields batches of windows in reading order as `ReadEvents`, from which `DeviceWindows` creates images.

    Windows without data are skipped. Events after the last window with data are stored in `trailing_events`.

    Args:
        strip_ranges: Strip ranges to read.
        spec: Bands and statistics that the model expects.
        open_scene: Opens the reader of a scene.
        batch_size: Number of windows in a batch.
        num_workers: Number of threads that read ahead; with 0, rows are read on demand.
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
        """Largest number of batches, reached if all windows have data."""
        return -(-sum(strip_range.windows for strip_range in self.strip_ranges) // self.batch_size)

    def discard(self, scene_name: str) -> None:
        """Stop reading a scene."""
        self._discarded.add(scene_name)

    def __iter__(self) -> Iterator[ReadEvents]:
        """Read the strip ranges in order."""
        reader = RowReader(self.strip_ranges, self.open_scene, self.num_workers)
        batch = self.trailing_events = ReadEvents([])
        windows = 0
        try:
            for strip_range in self.strip_ranges:
                for event in self._read_range(strip_range, reader):
                    # Yield a full batch only at the next window, so that events in between are part of it.
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
                if plan.touching is not None:
                    columns = [column for column in columns if plan.touching[row, column]]
                skipped += plan.count(row, row) - len(columns)
                for column in columns:
                    yield WindowRead(strip_range, row, column)
            check.judge()
            if meaningless:
                warnings.warn(
                    f"{scene.files[0]}: {counted(meaningless, 'value')} not finite or beyond 1e30, counted as nodata",
                    stacklevel=2,
                )
            yield StripRangeRead(strip_range, skipped)
        except DataError as error:
            yield ReadingFailed(strip_range, error)


def _columns_with_data(held: Sequence[Rows], top: int, bottom: int, plan: WindowGrid) -> Sequence[int]:
    """Columns, in the plan, of those windows of one row that have data."""
    left, right = plan.columns.covered
    has_data = np.zeros(right - left, bool)
    for rows in held:
        if rows.is_clear:
            return range(len(plan.columns.starts))
        part = rows.masked[max(0, top - rows.top) : bottom - rows.top]
        has_data |= ~part.all(axis=0)
    before = np.concatenate([[0], np.cumsum(has_data)])
    starts = np.array(plan.columns.starts) - left
    ends = np.minimum(starts + plan.columns.window, right - left)
    return np.flatnonzero(before[ends] > before[starts]).tolist()
