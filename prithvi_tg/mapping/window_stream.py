"""Windows of scenes, streamed: every block of a file is decoded once, and a few rows of it are held."""

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..datamodules.loading import pinned_tensor
from ..errors import DataError
from ..readers.scene import Pixels, Scene, SceneReader
from ..spec import InputSpec, UnitRatio
from ..tiling import Strip, WindowGrid

#: Rows that are read at a time are a multiple of a file's blocks, and about as many as this.
_CHUNK_ROWS = 256
#: Blocks higher than this are not held whole: a file that is one block would not fit.
_MOST_ROWS = 4096
#: Pixels per band by which the unit of a scene is judged.
_UNIT_PIXELS = 50_000


@dataclass(frozen=True)
class StripRange:
    """Consecutive strips of a scene, to be mapped in one go.

    Attributes:
        scene: The scene.
        plan: Its windows.
        strips: Some of the plan's strips, one after the other.
    """

    scene: Scene
    plan: WindowGrid
    strips: tuple[Strip, ...]

    @property
    def top(self) -> int:
        """First row of its pixels in the map."""
        return self.strips[0].top

    @property
    def bottom(self) -> int:
        """The row after its last."""
        return self.strips[-1].bottom

    @property
    def windows(self) -> int:
        """Number of its windows; rows of windows that two strips need are run once."""
        return (self.strips[-1].last - self.strips[0].first + 1) * len(self.plan.columns.starts)


@dataclass(frozen=True)
class RowsRead:
    """From row `top` on, these rows of the map are nodata or not (h, W)."""

    strip_range: StripRange
    top: int
    masked: NDArray[np.bool_]


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
    """What was read, in order. A class of its own, so that moving a batch to a device leaves it alone."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events


class WindowStream:
    """Batches of windows of scenes, in reading order.

    A batch holds ``image`` (B, T, C, window, window), not yet normalised; with `metadata` ``timestamps`` and
    ``location``, NaN where unknown; ``events``, a `ReadEvents` of everything that was read with it; and,
    with blending ``crop``, ``core_window``: the first and last row and column of the windows' pixels that count
    anywhere in the batch. Windows without data are left out; where none has any, there is no batch, and what
    was read is left in `trailing_events`.

    Threads read ahead while a model computes: GDAL decodes without holding Python's lock, and what it read
    need not be copied between processes.

    Args:
        strip_ranges: What to read.
        spec: Bands and statistics that the model expects.
        open_scene: How a scene is read.
        batch_size: Windows in a batch.
        num_workers: Threads that read ahead; 0 reads only when asked.
        metadata: Hand on dates and places.
        fold_time: Hand out images as (B, T*C, window, window), for TorchGeo's own tasks.
        failed: Names of scenes that are not to be read any further; may grow while they are read.
    """

    def __init__(
        self,
        strip_ranges: Sequence[StripRange],
        spec: InputSpec,
        open_scene: Callable[[Scene], SceneReader],
        batch_size: int = 8,
        num_workers: int = 1,
        metadata: bool = False,
        fold_time: bool = False,
        failed: set[str] | None = None,
    ) -> None:
        self.strip_ranges = strip_ranges
        self.spec = spec
        self.open_scene = open_scene
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.metadata = metadata
        self.fold_time = fold_time
        self.failed = set() if failed is None else failed
        self.trailing_events = ReadEvents([])

    def __len__(self) -> int:
        """Batches, if no window were without data."""
        return -(-sum(strip_range.windows for strip_range in self.strip_ranges) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read the ranges of strips one after the other."""
        windows: list[tuple[WindowRead, NDArray[np.float32]]] = []
        events_read = self.trailing_events = ReadEvents([])
        for strip_range in self.strip_ranges:
            for event, image in self._read_range(strip_range):
                # A full batch waits for the next window, so that what is read without one goes with it.
                if image is not None and len(windows) == self.batch_size:
                    self.trailing_events = ReadEvents([])
                    yield self._batch(windows, events_read)
                    windows, events_read = [], self.trailing_events
                events_read.events.append(event)
                if isinstance(event, ReadingFailed):
                    self.failed.add(strip_range.scene.name)
                elif isinstance(event, WindowRead) and image is not None:
                    windows.append((event, image))
        if windows:
            self.trailing_events = ReadEvents([])
            yield self._batch(windows, events_read)

    def _batch(
        self, windows: list[tuple[WindowRead, NDArray[np.float32]]], events_read: ReadEvents
    ) -> dict[str, Any]:
        image = pinned_tensor(torch.from_numpy(np.stack([image for _, image in windows])))
        if not self.fold_time:
            image = image.unflatten(1, (self.spec.num_frames, len(self.spec.bands)))
        batch: dict[str, Any] = {"image": image, "events": events_read}
        events = [event for event, _ in windows]
        if events[0].strip_range.plan.rows.blending == "crop" and not self.fold_time:
            boxes = np.array([_core_box(event) for event in events])
            batch["core_window"] = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
        if self.metadata:
            batch |= self._coordinates(events)
        return batch

    def _coordinates(self, events: list[WindowRead]) -> dict[str, torch.Tensor]:
        times, places = [], []
        for event in events:
            scene, plan = event.strip_range.scene, event.strip_range.plan
            known = scene.timestamps
            times.append(np.full((self.spec.num_frames, 2), np.nan, np.float32) if known is None else known)
            middle = [
                cover.starts[index] + min(cover.window, cover.length) / 2
                for cover, index in ((plan.rows, event.row), (plan.columns, event.column))
            ]
            places.append(scene.grid.latitudes_and_longitudes(middle[:1], middle[1:])[0])
        return {
            "timestamps": torch.from_numpy(np.stack(times)),
            "location": torch.from_numpy(np.stack(places)),
        }

    def _read_range(self, strip_range: StripRange) -> Iterator[tuple[Event, NDArray[np.float32] | None]]:
        """Events of a range of strips; a window comes with its pixels (T*C, window, window)."""
        plan, held = strip_range.plan, deque[_Rows]()
        unit, skipped, meaningless = _UnitCheck(strip_range.scene, self.spec), 0, 0
        chunks = self._chunks(strip_range)
        try:
            for row in range(strip_range.strips[0].first, strip_range.strips[-1].last + 1):
                if strip_range.scene.name in self.failed:
                    return
                top = plan.rows.starts[row]
                bottom = min(top + plan.rows.window, plan.rows.length)
                while held and held[0].bottom <= top:
                    held.popleft()
                while not held or held[-1].bottom < bottom:
                    start, pixels = next(chunks)
                    masked = pixels.masked
                    if masked.all():  # many rows without data may come before a window: they take no memory
                        masked = np.broadcast_to(np.True_, masked.shape)
                    held.append(_Rows(start, start + len(masked), pixels.values, masked))
                    unit.add(pixels)
                    meaningless += pixels.meaningless
                    first, last = max(start, strip_range.top), min(held[-1].bottom, strip_range.bottom)
                    if first < last:
                        yield RowsRead(strip_range, first, masked[first - start : last - start]), None
                for column, left in enumerate(plan.columns.starts):
                    image = self._cut(held, top, bottom, left, plan)
                    if image is None:
                        skipped += 1
                    else:
                        yield WindowRead(strip_range, row, column), image
            unit.judge()
            if meaningless:
                warnings.warn(
                    f"{strip_range.scene.files[0]}: {meaningless} values that are not finite or beyond 1e30 count as "
                    "nodata",
                    stacklevel=2,
                )
            yield StripRangeRead(strip_range, skipped), None
        except DataError as error:
            yield ReadingFailed(strip_range, error), None
        finally:
            chunks.close()

    def _cut(
        self, held: deque["_Rows"], top: int, bottom: int, left: int, plan: WindowGrid
    ) -> NDArray[np.float32] | None:
        """One window, filled up with the band mean beyond the scene; ``None`` if it holds no data."""
        right = min(left + plan.columns.window, plan.columns.length)
        parts = [
            (rows, slice(max(0, top - rows.top), bottom - rows.top), slice(left, right))
            for rows in held
            if rows.top < bottom and rows.bottom > top
        ]
        if all(rows.masked[span, columns].all() for rows, span, columns in parts):
            return None
        size = (plan.rows.window, plan.columns.window)
        image = np.empty((len(self.spec.channel_mean), *size), np.float32)
        if size != (bottom - top, right - left):
            image[:] = np.asarray(self.spec.channel_mean, np.float32)[:, None, None]
        for rows, span, columns in parts:
            values = rows.values[:, span, columns]
            first = max(0, rows.top - top)
            image[:, first : first + values.shape[1], : right - left] = values
        return image

    def _chunks(self, strip_range: StripRange) -> Generator[tuple[int, Pixels], None, None]:
        """Full-width rows of a scene from the top of a strip range's windows to their bottom, read ahead."""
        plan = strip_range.plan
        top = plan.rows.starts[strip_range.strips[0].first]
        bottom = min(plan.rows.starts[strip_range.strips[-1].last] + plan.rows.window, plan.rows.length)
        readers: SimpleQueue[SceneReader] = SimpleQueue()
        opened: list[SceneReader] = []

        def read(start: int, stop: int) -> Pixels:
            reader = readers.get()
            try:
                return reader.read(start, stop)
            finally:
                readers.put(reader)

        try:
            for _ in range(max(1, self.num_workers)):
                opened.append(self.open_scene(strip_range.scene))
                readers.put(opened[-1])
            rows = _chunk_rows(opened[0])
            spans = [(start, min(start + rows, bottom)) for start in range(top // rows * rows, bottom, rows)]
            if not self.num_workers:
                for span in spans:
                    pixels = read(*span)
                    yield span[0], pixels
                return
            with ThreadPoolExecutor(self.num_workers) as pool:
                ahead: deque[tuple[int, Future[Pixels]]] = deque()
                remaining = iter(spans)
                for span in remaining:
                    ahead.append((span[0], pool.submit(read, *span)))
                    if len(ahead) == self.num_workers:
                        break
                while ahead:
                    start, future = ahead.popleft()
                    pixels = future.result()
                    following = next(remaining, None)
                    if following is not None:
                        ahead.append((following[0], pool.submit(read, *following)))
                    yield start, pixels
        finally:
            for reader in opened:
                reader.close()


@dataclass(frozen=True)
class _Rows:
    """Rows of a scene that are held: values (T*C, h, W) and masked (h, W)."""

    top: int
    bottom: int
    values: NDArray[np.float32]
    masked: NDArray[np.bool_]


def _chunk_rows(reader: SceneReader) -> int:
    block = reader.block_rows
    if block > _MOST_ROWS:
        warnings.warn(
            f"{reader.scene.files[0]}: its blocks are {block} rows high, so each is decoded many times; mapping a "
            "tiled copy (gdal_translate -of COG) is faster",
            stacklevel=2,
        )
        return _CHUNK_ROWS
    return block * max(1, _CHUNK_ROWS // block)


def _core_box(event: WindowRead) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the pixels that a window decides, from its own corner."""
    plan = event.strip_range.plan
    (top, bottom), (left, right) = plan.rows.core[event.row], plan.columns.core[event.column]
    row, column = plan.rows.starts[event.row], plan.columns.starts[event.column]
    return top - row, left - column, bottom - row, right - column


class _UnitCheck:
    """Speaks up where the bulk of a scene is far from what the model was trained on, as 1e4 times too small."""

    def __init__(self, scene: Scene, spec: InputSpec) -> None:
        self.scene = scene
        self.spec = spec
        self.samples: list[list[NDArray[np.float32]]] = []
        self.count = 0
        self.judged = False

    def add(self, pixels: Pixels) -> None:
        """Remember some of the pixels that hold data."""
        if self.judged:
            return
        some = (slice(None, None, 7), slice(None, None, 7))
        bands = zip(pixels.values, pixels.valid, strict=True)
        self.samples.append([values[some][valid[some]] for values, valid in bands])
        self.count += max(len(band) for band in self.samples[-1])
        if self.count >= _UNIT_PIXELS:
            self.judge()

    def _suggested(self, ratio: UnitRatio) -> str:
        if not self.scene.channels or ratio <= 0:
            return ""
        if ratio.mistaken_for is not None:
            unit = self.spec.reflectance_unit
            return f"; give --scale {ratio.mistaken_for.scale * unit:g} --offset {ratio.mistaken_for.offset * unit:g}"
        power = 10.0 ** round(np.log10(ratio))
        if power in (1, 10):
            return "; check its unit, and give --scale if it differs"
        scale = self.scene.channels[0].scale / power
        return f"; if their unit differs, give --scale, perhaps {scale:g}"

    def judge(self) -> None:
        """Warn, once, of values that cannot be in the unit of the statistics."""
        if self.judged:
            return
        self.judged = True
        bands = [np.concatenate(parts) for parts in zip(*self.samples, strict=True)]
        medians, lows = (
            [float(np.percentile(band, share)) if len(band) else float("nan") for band in bands]
            for share in (50, 1)
        )
        scale = self.scene.channels[0].scale if self.scene.channels else None
        ratio = self.spec.unit_ratio(medians, lows, scale)
        if self.spec.is_other_unit(ratio):
            told = " ".join(f"{median:.3g}" for median in medians[: len(self.spec.bands)])
            known = " ".join(f"{mean:.3g}" for mean in self.spec.mean[: len(self.spec.bands)])
            warnings.warn(
                f"{self.scene.files[0]}: its values (median of each band {told}) {ratio.describe()}; the model was "
                f"trained on means of {known}{self._suggested(ratio)}",
                stacklevel=2,
            )
