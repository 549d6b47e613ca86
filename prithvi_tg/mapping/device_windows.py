"""Windows on the device: upload stored rows, normalise them once, and cut windows from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..readers.scaling import apply_scaling
from ..spec import InputSpec
from .row_reader import Rows, StripRange
from .window_stream import ReadEvents, RowsRead, WindowRead


class RowBuffer:
    """Buffer of normalised rows (T*C, rows, W) of a scene on the device.

    It holds the rows of one window and one chunk of read rows: ``4 * T * C * W * (window + rows)`` bytes.

    Args:
        width: Width of the scene in pixels.
        mean: Mean of each channel (T*C,), on the device.
        std: Standard deviation of each channel.
        rows: Number of rows to make room for; the buffer grows if it needs more.
    """

    def __init__(self, width: int, mean: Tensor, std: Tensor, rows: int = 0) -> None:
        self._mean = mean
        self._std = std
        self._values = torch.empty(len(mean), rows, width, device=mean.device)
        self._top = 0  # first row in the buffer, as a row of the scene
        self._count = 0

    @property
    def capacity(self) -> int:
        """Number of rows that fit into the buffer."""
        return self._values.shape[1]

    def append(self, rows: Rows, needed_from: int) -> None:
        """Upload the next rows; rows above `needed_from` may be dropped."""
        height, width = rows.masked.shape
        if not self._count or needed_from >= self._top + self._count:
            self._top, self._count = rows.top, 0
        self._make_room(height, min(max(0, needed_from - self._top), self._count))
        added = self._values[:, self._count : self._count + height]
        self._count += height
        if rows.values is None:
            added.zero_()  # the normalised mean
            return
        added.copy_(rows.values.to(added.device, non_blocking=True))
        apply_scaling(added, rows.scalings)
        if rows.valid is not None:
            invalid = ~_unpacked(rows.valid.to(added.device, non_blocking=True), width)
            for band, without_data, mean in zip(added, invalid, self._mean, strict=True):
                torch.where(without_data, mean, band, out=band)
        added.sub_(self._mean[:, None, None]).div_(self._std[:, None, None])

    def _make_room(self, height: int, unneeded: int) -> None:
        """Move the needed rows to the front if `height` more rows do not fit, and grow the buffer if necessary."""
        if self._count + height <= self._values.shape[1]:
            return
        held = self._values[:, unneeded : self._count]
        needed = held.shape[1] + height
        if needed > self._values.shape[1]:
            old, self._values = held, self._values.new_empty(len(held), needed, held.shape[2])
        else:
            old = held if unneeded >= held.shape[1] else held.clone()  # the two may overlap
        self._values[:, : held.shape[1]] = old
        self._top, self._count = self._top + unneeded, held.shape[1]

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """A view (T*C, bottom - top, right - left) of rows in the buffer."""
        return self._values[:, top - self._top : bottom - self._top, left:right]


def _unpacked(bits: Tensor, width: int) -> Tensor:
    """Unpack bits (..., ceil(width / 8)) to booleans (..., width), see `Rows.valid`."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    return (bits[..., None] >> shifts & 1).flatten(-2)[..., :width].bool()


class DeviceWindows:
    """Creates batches of normalised windows from the events of a `WindowStream`.

    A batch contains:

    * ``image``: (B, T, C, window, window), with nodata filled with the band's mean;
    * ``events``: the `ReadEvents`;
    * ``timestamps`` and ``location``, for models with `metadata`; NaN where unknown;
    * ``core_window``, with blending ``crop``: top, left, bottom and right of the smallest box, in pixels of a window,
      that contains the cores of all windows in the batch.

    Args:
        spec: Bands and statistics that the model expects.
        device: Device of the windows.
        fold_time: Return images as (B, T*C, window, window), for TorchGeo's own tasks.
    """

    def __init__(self, spec: InputSpec, device: torch.device, fold_time: bool = False) -> None:
        self.spec = spec
        self.device = device
        self.fold_time = fold_time
        self._mean = torch.tensor(spec.channel_mean, device=device)
        self._std = torch.tensor(spec.channel_std, device=device)
        self._buffer: RowBuffer | None = None
        self._strip_range: StripRange | None = None

    def load(self, read: ReadEvents) -> dict[str, Any]:
        """Create a batch. Load all batches of a stream, in order."""
        windows = read.windows
        plan = windows[0].strip_range.plan
        size = (plan.rows.window, plan.columns.window)
        image = torch.empty(len(windows), len(self._mean), *size, device=self.device)
        number = 0
        for event in read.events:
            if isinstance(event, RowsRead):
                self.append(event)
            elif isinstance(event, WindowRead):
                self._cut(event, image[number])
                number += 1
        if not self.fold_time:
            image = image.unflatten(1, (self.spec.num_frames, len(self.spec.bands)))
        batch: dict[str, Any] = {"image": image, "events": read}
        if plan.rows.blending == "crop" and not self.fold_time:
            boxes = np.array([_core_box(event) for event in windows])
            batch["core_window"] = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
        return batch | (self._coordinates(windows) if self.spec.metadata else {})

    @property
    def rows_held(self) -> int:
        """Number of rows that fit into the buffer on the device."""
        return 0 if self._buffer is None else self._buffer.capacity

    def append(self, read: RowsRead) -> None:
        """Upload rows."""
        if self._buffer is None or read.strip_range is not self._strip_range:
            self._strip_range = read.strip_range
            height, width = read.rows.masked.shape
            top, bottom = read.strip_range.span
            rows = min(read.strip_range.plan.rows.window + height, bottom - top)
            self._buffer = RowBuffer(width, self._mean, self._std, rows)
        self._buffer.append(read.rows, read.needed_from)

    def _cut(self, event: WindowRead, image: Tensor) -> None:
        rows, columns = event.strip_range.plan.rows, event.strip_range.plan.columns
        first, last = columns.covered
        top, left = rows.starts[event.row], columns.starts[event.column] - first
        bottom, right = min(top + rows.window, rows.length), min(left + columns.window, last - first)
        assert self._buffer is not None
        pixels = self._buffer.window(top, bottom, left, right)
        if pixels.shape != image.shape:
            image.zero_()  # the normalised mean
        image[:, : bottom - top, : right - left] = pixels

    def _coordinates(self, windows: list[WindowRead]) -> dict[str, Tensor]:
        times, places = [], []
        for event in windows:
            scene, plan = event.strip_range.scene, event.strip_range.plan
            known = scene.timestamps
            times.append(np.full((self.spec.num_frames, 2), np.nan, np.float32) if known is None else known)
            middle = [
                axis.starts[index] + min(axis.window, axis.length) / 2
                for axis, index in ((plan.rows, event.row), (plan.columns, event.column))
            ]
            places.append(scene.grid.latitudes_and_longitudes(middle[:1], middle[1:])[0])
        arrays: Mapping[str, Any] = {"timestamps": times, "location": places}
        return {
            key: torch.from_numpy(np.stack(values)).to(self.device, non_blocking=True)
            for key, values in arrays.items()
        }


def _core_box(event: WindowRead) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the core of a window, in its own pixels."""
    plan = event.strip_range.plan
    (top, bottom), (left, right) = plan.rows.core[event.row], plan.columns.core[event.column]
    row, column = plan.rows.starts[event.row], plan.columns.starts[event.column]
    return top - row, left - column, bottom - row, right - column
