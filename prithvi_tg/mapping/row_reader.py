"""RowReader: threads that read rows ahead across strips and scenes."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datamodules.loading import pinned_tensor
from ..errors import DataError
from ..readers.scaling import Scaling
from ..readers.scene import Scene, SceneReader, StoredPixels
from ..tiling import Strip, WindowGrid

#: Approximate number of rows that are read at a time, rounded to a multiple of a file's blocks.
_CHUNK_ROWS = 256
#: Higher blocks are read in parts: a file with one large block may not fit into memory.
_MOST_ROWS = 4096

#: Ranges of columns of a scene.
Columns = tuple[tuple[int, int], ...]
#: First row, the row after the last, and the columns to read; all columns with ``None``.
Span = tuple[int, int, Columns | None]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class StripRange:
    """Consecutive strips of a scene that are mapped together.

    Attributes:
        scene: The scene.
        plan: Windows of the scene.
        strips: Consecutive strips of the plan.
    """

    scene: Scene
    plan: WindowGrid
    strips: tuple[Strip, ...]

    @property
    def top(self) -> int:
        """First row in the map."""
        return self.strips[0].top

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.strips[-1].bottom

    @property
    def windows(self) -> int:
        """Number of windows; rows of windows that two strips share are counted once."""
        return self.plan.count(self.strips[0].first, self.strips[-1].last)

    @property
    def span(self) -> tuple[int, int]:
        """First row of pixels that the windows cover, and the row after the last."""
        rows = self.plan.rows
        last = rows.starts[self.strips[-1].last]
        return rows.starts[self.strips[0].first], min(last + rows.window, rows.length)


@dataclass(frozen=True)
class Rows:
    """Rows of a scene, as wide as its windows together, ready for upload.

    Attributes:
        top: First row.
        masked: (h, W), true where the map is nodata.
        is_clear: Whether no pixel is masked.
        values: (T*C, h, W) in their stored type, in pinned memory with CUDA; ``None`` if no pixel has data.
        valid: Bits (T*C, h, ceil(W / 8)), 1 where a value is data, first pixel in the highest bit; ``None`` if no
            value is filled.
        scalings: Scale and offset of each channel.
        sample: Sample of the valid values of each channel, in the unit of the statistics.
        meaningless: See `prithvi_tg.readers.scene.Pixels`.
    """

    top: int
    masked: NDArray[np.bool_]
    is_clear: bool
    values: Tensor | None
    valid: Tensor | None
    scalings: tuple[Scaling, ...]
    sample: tuple[NDArray[np.float32], ...]
    meaningless: int

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.top + len(self.masked)

    @classmethod
    def of(cls, top: int, stored: StoredPixels) -> "Rows":
        """Create rows from stored pixels; `top` is their first row."""
        shape = stored.values.shape[1:]
        # Masks without nodata, or with nodata throughout, take no memory.
        masked: NDArray[np.bool_] = (
            np.broadcast_to(np.False_, shape) if stored.masked is None else stored.masked
        )
        values, valid = None, None
        if masked.all():
            masked = np.broadcast_to(np.True_, shape)
        else:
            values = pinned_tensor(torch.from_numpy(np.ascontiguousarray(stored.values)))
            if stored.fill and stored.valid is not None:
                valid = pinned_tensor(torch.from_numpy(np.packbits(stored.valid, axis=-1)))
        return cls(
            top,
            masked,
            stored.masked is None,
            values,
            valid,
            stored.scalings,
            _sample(stored),
            stored.meaningless,
        )

    @classmethod
    def without_data(cls, top: int, shape: tuple[int, int], reader: SceneReader) -> "Rows":
        """Rows (h, W) of which no pixel is read."""
        sample = (np.empty(0, np.float32),) * len(reader.spec.channel_mean)
        return cls(top, np.broadcast_to(np.True_, shape), False, None, None, (), sample, 0)


def _sample(stored: StoredPixels) -> tuple[NDArray[np.float32], ...]:
    """Valid values of each channel from every seventh row and column."""
    some = np.s_[:, ::7, ::7]
    valid = None if stored.valid is None else stored.valid[some]
    part = StoredPixels(stored.values[some].copy(), valid, None, stored.scalings, fill=False)
    pixels = part.in_unit(())
    return tuple(values[valid] for values, valid in zip(pixels.values, pixels.valid, strict=True))


class RowReader:
    """Reads the rows that the windows of strip ranges cover, in order.

    Threads read ahead across strips and scenes while the model computes; GDAL releases Python's lock while decoding.
    The number of chunks in memory is at most the number of threads.

    Args:
        strip_ranges: Strip ranges to read.
        open_scene: Opens the reader of a scene.
        num_workers: Number of threads; with 0, rows are read on demand.
    """

    def __init__(
        self, strip_ranges: Sequence[StripRange], open_scene: Callable[[Scene], SceneReader], num_workers: int
    ) -> None:
        self._remaining = deque(strip_ranges)
        self._open_scene = open_scene
        self._limit = max(1, num_workers)
        self._pool = ThreadPoolExecutor(num_workers) if num_workers else None
        self._opening: deque[_Source] = deque()
        self._spans: Iterator[Span] = iter(())
        self._source: _Source | None = None  # its spans are being submitted to the threads
        self._ahead: deque[tuple[_Source, Future[Rows] | _OnDemand[Rows]]] = deque()

    def rows(self, strip_range: StripRange) -> Iterator[Rows]:
        """Yield the rows of a strip range; earlier strip ranges that were not requested are skipped.

        Raises:
            DataError: The rows cannot be read.
        """
        self._top_up()
        while self._ahead[0][0].strip_range is not strip_range:
            self._drop(self._ahead[0][0])
            self._top_up()
        source = self._ahead[0][0]
        while self._ahead and self._ahead[0][0] is source:
            try:
                rows = self._ahead.popleft()[1].result()
            except DataError:
                self._drop(source)
                raise
            self._top_up()
            yield rows
        source.close()

    def close(self) -> None:
        """Stop the threads and close all files."""
        for _, future in self._ahead:
            future.cancel()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for source in {id(one): one for one in (*self._opening, *(one for one, _ in self._ahead))}.values():
            source.close()
        if self._source is not None:
            self._source.close()

    def _drop(self, source: "_Source") -> None:
        """Discard the remaining rows of a strip range."""
        if self._source is source:
            self._source, self._spans = None, iter(())
        while self._ahead and self._ahead[0][0] is source:
            self._ahead.popleft()[1].cancel()
        source.close()

    def _submit(self, job: Callable[[], _Result]) -> "Future[_Result] | _OnDemand[_Result]":
        return _OnDemand(job) if self._pool is None else self._pool.submit(job)

    def _top_up(self) -> None:
        while len(self._ahead) < self._limit:
            while self._remaining and len(self._opening) <= self._limit:
                source = _Source(self._remaining.popleft(), self._open_scene)
                source.spans = self._submit(source.find_spans)
                self._opening.append(source)
            span = next(self._spans, None)
            if span is not None:
                assert self._source is not None
                self._ahead.append((self._source, self._submit(partial(self._source.read, *span))))
            elif self._opening:
                self._source = self._opening.popleft()
                try:
                    self._spans = iter(self._source.spans.result())
                except DataError as error:
                    self._spans = iter(())
                    self._ahead.append((self._source, _OnDemand(partial(_fail, error))))
            else:
                return


def _fail(error: DataError) -> Any:
    raise error


class _OnDemand(Generic[_Result]):
    """A job that runs when its result is requested."""

    def __init__(self, job: Callable[[], _Result]) -> None:
        self.result = job

    def cancel(self) -> None:
        """Do nothing: the job has not started."""


class _Source:
    """A scene that several threads read, each with its own reader."""

    spans: Any

    def __init__(self, strip_range: StripRange, open_scene: Callable[[Scene], SceneReader]) -> None:
        self.strip_range = strip_range
        self._open_scene = open_scene
        self._idle: SimpleQueue[SceneReader] = SimpleQueue()
        self._closed = False

    def find_spans(self) -> list[Span]:
        """First row of each chunk, the row after its last, and the columns to read."""
        reader = self._open_scene(self.strip_range.scene)
        self._give_back(reader)
        rows = _chunk_rows(reader)
        if self.strip_range.plan.area is not None:
            return _spans_in_area(self.strip_range, min(rows, reader.block_rows), rows)
        top, bottom = self.strip_range.span
        return [(start, min(start + rows, bottom), None) for start in range(top // rows * rows, bottom, rows)]

    def read(self, top: int, bottom: int, columns: Columns | None) -> Rows:
        try:
            reader = self._idle.get_nowait()
        except Empty:
            reader = self._open_scene(self.strip_range.scene)
        try:
            if columns is None:
                return Rows.of(top, reader.read_stored(top, bottom))
            whole = self.strip_range.plan.columns.covered
            if not columns:
                return Rows.without_data(top, (bottom - top, whole[1] - whole[0]), reader)
            parts = [reader.read_stored(top, bottom, left, right) for left, right in columns]
            return Rows.of(top, parts[0] if columns == (whole,) else _joined(parts, columns, whole))
        finally:
            self._give_back(reader)

    def _give_back(self, reader: SceneReader) -> None:
        self._idle.put(reader)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close the idle readers now, and readers in use when they are returned."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return


def _spans_in_area(strip_range: StripRange, block: int, most: int) -> list[Span]:
    """Spans of at most `most` rows, each with the columns of the windows that touch its rows of blocks."""
    plan = strip_range.plan
    rows, columns, touching = plan.rows, plan.columns, plan.touching
    assert touching is not None
    first, last = strip_range.strips[0].first, strip_range.strips[-1].last + 1
    starts = np.array(rows.starts[first:last])
    ends = np.minimum(starts + rows.window, rows.length)
    top, bottom = strip_range.span
    spans: list[Span] = []
    for edge in range(top // block * block, bottom, block):
        start, stop = max(top, edge), min(edge + block, bottom)
        needed = touching[first:last][(starts < stop) & (ends > start)].any(axis=0)
        ranges = _merged(
            [
                (columns.starts[k], min(columns.starts[k] + columns.window, columns.length))
                for k in np.flatnonzero(needed)
            ]
        )
        if spans and spans[-1][2] == ranges and stop - spans[-1][0] <= most:
            spans[-1] = (spans[-1][0], stop, ranges)
        else:
            spans.append((start, stop, ranges))
    return spans


def _merged(ranges: Sequence[tuple[int, int]]) -> Columns:
    """Ranges in order of their starts, joined where they overlap or touch."""
    merged: list[tuple[int, int]] = []
    for left, right in ranges:
        if merged and left <= merged[-1][1]:
            merged[-1] = (merged[-1][0], right)
        else:
            merged.append((left, right))
    return tuple(merged)


def _joined(parts: Sequence[StoredPixels], columns: Columns, whole: tuple[int, int]) -> StoredPixels:
    """Parts of rows side by side, with nodata between them."""
    channels, height, _ = parts[0].values.shape
    shape = (channels, height, whole[1] - whole[0])
    values = np.zeros(shape, parts[0].values.dtype)
    valid, masked = np.zeros(shape, bool), np.ones(shape[1:], bool)
    for part, (left, right) in zip(parts, columns, strict=True):
        place = slice(left - whole[0], right - whole[0])
        values[..., place] = part.values
        valid[..., place] = True if part.valid is None else part.valid
        masked[:, place] = False if part.masked is None else part.masked
    meaningless = sum(part.meaningless for part in parts)
    return replace(parts[0], values=values, valid=valid, masked=masked, meaningless=meaningless)


def _chunk_rows(reader: SceneReader) -> int:
    block = reader.block_rows
    if block > _MOST_ROWS:
        warnings.warn(
            f"{reader.scene.files[0]}: blocks are {block} rows high, so each is decoded many times; map a tiled copy "
            "instead, which is faster (gdal_translate -of COG)",
            stacklevel=2,
        )
        return _CHUNK_ROWS
    return block * max(1, _CHUNK_ROWS // block)
