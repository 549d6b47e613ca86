"""Lines about the progress of a mapping run, for output that is not a terminal."""

import logging
import time
from collections.abc import Sequence
from itertools import accumulate

from ..errors import counted
from .map_run import MapRun
from .row_reader import StripRange
from .window_stream import ReadEvents, ReadingFailed, StripRangeRead, WindowRead

_log = logging.getLogger(__name__)

#: Least time between two lines, in seconds, and least share of the work.
INTERVAL = 30.0
SHARE = 0.01


def duration(seconds: float) -> str:
    """A duration in words: ``8.3 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min {int(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class ProgressClock:
    """Times the lines of a long computation: at most one per `INTERVAL` and per `SHARE` of the work."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self._share = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._began

    def is_due(self, done: float) -> bool:
        """Whether a line is due; if so, the next one is due later.

        Args:
            done: Share of the work that is done, 0 to 1.
        """
        now = time.perf_counter()
        if now - self._last < INTERVAL or done - self._share < SHARE:
            return False
        self._last, self._share = now, done
        return True

    def left(self, done: float) -> str:
        """The time left, in words, after a share of the work is done."""
        return f"{duration(self.seconds * (1 - done) / done)} left"


class MapProgress:
    """Logs the start of each scene, and the progress of the run now and then.

    Args:
        run: The maps.
        strip_ranges: What this process maps.
        processes: Number of processes that share the strips evenly. The first process logs the progress of all.
        is_first: Whether this process is the first.
    """

    def __init__(
        self, run: MapRun, strip_ranges: Sequence[StripRange], processes: int = 1, is_first: bool = True
    ) -> None:
        self.run = run
        self._processes = processes
        self._is_first = is_first
        before = [0, *accumulate(one.windows for one in strip_ranges)]
        self._windows = max(1, before[-1])  # skipped ones included
        self._before = {id(one): windows for one, windows in zip(strip_ranges, before, strict=False)}
        self._done = 0
        self._pixels = sum((one.bottom - one.top) * _size(one)[1] for one in strip_ranges)
        self._current: StripRange | None = None
        self._clock = ProgressClock()

    def update(self, read: ReadEvents) -> None:
        """Add a batch of events, in pixels of the scenes."""
        for event in read.events:
            one = event.strip_range
            if one is not self._current:
                self._current = one
                self._log_start(one)
            if isinstance(event, WindowRead):
                row = event.row - one.strips[0].first
                self._done = self._before[id(one)] + row * len(one.plan.columns.starts) + event.column + 1
            elif isinstance(event, StripRangeRead | ReadingFailed):
                self._done = self._before[id(one)] + one.windows
        share = self._done / self._windows
        if self._current is not None and self._is_first and self._clock.is_due(share):
            self._log_progress(self._current, share)

    def _log_start(self, one: StripRange) -> None:
        grid, count, all_strips = one.scene.grid, len(one.strips), len(one.plan.strips)
        strips = (f"{count} of " if count < all_strips else "") + counted(all_strips, "strip")
        height, width = _size(one)
        made = self.run.maps[one.scene.name].scene.grid
        is_coarser = (made.height, made.width) != (height, width)
        if is_coarser:  # an embedding, whose windows reach beyond the scene to whole patches
            height, width = min(height, grid.height), min(width, grid.width)
        whole = "" if (height, width) == (grid.height, grid.width) else f" of {grid.width} x {grid.height}"
        patches = f", {made.width} x {made.height} patches" if is_coarser else ""
        verb = "embedding" if is_coarser else "mapping"
        _log.info(f"{one.scene.name}: {verb} {width} x {height}{whole} pixels{patches}, {strips}")

    def _log_progress(self, one: StripRange, share: float) -> None:
        name, count = one.scene.name, len(self.run.maps)
        strips = f"{self.run.maps[name].strips_kept} of {len(one.plan.strips)} strips written"
        of_scenes = f" of {count} scenes" if count > 1 else ""
        overall = f"{100 * share:.0f} % of the windows{of_scenes} done"
        speed = share * self._pixels * self._processes / 1e6 / self._clock.seconds
        _log.info(f"{name}: {strips}, {overall}, {speed:.2g} Mpx/s, {self._clock.left(share)}")


def _size(one: StripRange) -> tuple[int, int]:
    """Height and width of a map in pixels: those of the scene, or of the area of interest in it."""
    (top, bottom), (left, right) = one.plan.rows.mapped, one.plan.columns.mapped
    return bottom - top, right - left
