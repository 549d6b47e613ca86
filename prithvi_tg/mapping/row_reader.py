"""Rows of scenes, read ahead by threads across strips and scenes."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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

#: Rows that are read at a time are a multiple of a file's blocks, and about as many as this.
_CHUNK_ROWS = 256
#: Blocks higher than this are not held whole: a file that is one block would not fit.
_MOST_ROWS = 4096

_Result = TypeVar("_Result")


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

    @property
    def span(self) -> tuple[int, int]:
        """First row of pixels that its windows see, and the row after the last."""
        rows = self.plan.rows
        last = rows.starts[self.strips[-1].last]
        return rows.starts[self.strips[0].first], min(last + rows.window, rows.length)


@dataclass(frozen=True)
class Rows:
    """Rows of a scene in full width, ready for upload.

    Attributes:
        top: The first of them.
        masked: (h, W), where the map is nodata.
        is_clear: Whether no pixel is masked.
        values: (T*C, h, W) in their stored type, in pinned memory with CUDA; ``None`` where no pixel holds data.
        valid: Bits (T*C, h, ceil(W / 8)), 1 where there is data, first pixel first; ``None`` where nothing is filled.
        scalings: What the values of each channel mean.
        sample: Some values of each channel in the unit of the statistics, of pixels that hold data.
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
        """Of what was read from row `top` on."""
        shape = stored.values.shape[1:]
        # Rows without a pixel to mask, or without one to show, take no memory.
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


def _sample(stored: StoredPixels) -> tuple[NDArray[np.float32], ...]:
    """Of each channel, the valid values of every seventh row and column."""
    some = np.s_[:, ::7, ::7]
    valid = None if stored.valid is None else stored.valid[some]
    part = StoredPixels(stored.values[some].copy(), valid, None, stored.scalings, fill=False)
    pixels = part.in_unit(())
    return tuple(values[valid] for values, valid in zip(pixels.values, pixels.valid, strict=True))


class RowReader:
    """The rows that the windows of strip ranges see, in order.

    Threads read ahead across strips and scenes while a model computes: GDAL decodes without holding Python's lock. No
    more chunks of rows are held than there are threads.

    Args:
        strip_ranges: What to read.
        open_scene: How a scene is read.
        num_workers: Threads; 0 reads only when asked.
    """

    def __init__(
        self, strip_ranges: Sequence[StripRange], open_scene: Callable[[Scene], SceneReader], num_workers: int
    ) -> None:
        self._remaining = deque(strip_ranges)
        self._open_scene = open_scene
        self._limit = max(1, num_workers)
        self._pool = ThreadPoolExecutor(num_workers) if num_workers else None
        self._opening: deque[_Source] = deque()
        self._spans: Iterator[tuple[int, int]] = iter(())
        self._source: _Source | None = None  # whose spans are being handed to the threads
        self._ahead: deque[tuple[_Source, Future[Rows] | _OnDemand[Rows]]] = deque()

    def rows(self, strip_range: StripRange) -> Iterator[Rows]:
        """The rows of a strip range; those before it that nobody asked for are skipped.

        Raises:
            DataError: They cannot be read.
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
        """Forget what is left of a strip range."""
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
    """A job that is done when its result is asked for."""

    def __init__(self, job: Callable[[], _Result]) -> None:
        self.result = job

    def cancel(self) -> None:
        """Nothing was begun."""


class _Source:
    """A scene that threads read: a reader for each thread that needs one at a time."""

    spans: Any

    def __init__(self, strip_range: StripRange, open_scene: Callable[[Scene], SceneReader]) -> None:
        self.strip_range = strip_range
        self._open_scene = open_scene
        self._idle: SimpleQueue[SceneReader] = SimpleQueue()
        self._closed = False

    def find_spans(self) -> list[tuple[int, int]]:
        """First row and the row after the last of each chunk of rows."""
        reader = self._open_scene(self.strip_range.scene)
        self._give_back(reader)
        rows = _chunk_rows(reader)
        top, bottom = self.strip_range.span
        return [(start, min(start + rows, bottom)) for start in range(top // rows * rows, bottom, rows)]

    def read(self, top: int, bottom: int) -> Rows:
        try:
            reader = self._idle.get_nowait()
        except Empty:
            reader = self._open_scene(self.strip_range.scene)
        try:
            return Rows.of(top, reader.read_stored(top, bottom))
        finally:
            self._give_back(reader)

    def _give_back(self, reader: SceneReader) -> None:
        self._idle.put(reader)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close the readers, those in use when they are given back."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return


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
