"""Blending: combine the logits of overlapping windows into completed rows of a map."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datamodules.loading import pinned_tensor
from ..targets import IGNORE_INDEX
from ..tiling import WindowGrid
from .host_copy import CPU, HostCopy
from .window_stream import RowsRead, StripRangeRead, WindowRead


class FiniteCheck:
    """Finds windows with logits that are not finite, without waiting for the device.

    Args:
        windows: The windows of a batch.
        logits: Their logits (B, K, h, w).
    """

    def __init__(self, windows: Sequence[WindowRead], logits: Tensor) -> None:
        self._windows = windows
        if not logits.numel():  # with blending crop, windows of which no pixel is used
            self._finite = HostCopy(torch.ones(len(windows), dtype=torch.bool))
            return
        least, most = torch.aminmax(logits.flatten(1), dim=1)  # NaN passes through both
        self._finite = HostCopy(least.isfinite() & most.isfinite())

    def failures(self) -> dict[str, str]:
        """Error message about the first such window of each scene, by scene name."""
        found: dict[str, str] = {}
        for window, is_finite in zip(self._windows, self._finite.numpy(), strict=True):
            scene, plan = window.strip_range.scene, window.strip_range.plan
            if not is_finite and scene.name not in found:
                row, column = plan.rows.starts[window.row], plan.columns.starts[window.column]
                found[scene.name] = (
                    f"{scene.files[0]}: the model gives logits that are not finite for the window at row {row}, column "
                    f"{column}, whose input is finite; check the weights, or use precision 32-true"
                )
        return found


@dataclass(frozen=True)
class BlendedRows:
    """Completed rows of a map, on the device of the model.

    Attributes:
        top: First row.
        logits: (K, h, W) float32, blended; undefined where masked. ``None`` if no window overlaps the rows.
        nodata: (h, W) in main memory, true where the map is nodata.
        device: Device of the tensors.
        temperature: Divides the logits before their softmax; classes do not depend on it.
        parts: (P, K, h, W), the blended outputs of the members of an ensemble, or of the views of one model, each
            divided by its temperature; ``None`` unless the map combines several. See `Combination`.
    """

    top: int
    logits: Tensor | None
    nodata: NDArray[np.bool_]
    device: torch.device = CPU
    temperature: float = 1.0
    parts: Tensor | None = None

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.top + len(self.nodata)

    def between(self, top: int, bottom: int) -> "BlendedRows":
        """The rows from `top` to the one before `bottom`."""
        span = slice(top - self.top, bottom - self.top)
        logits, parts = (None if one is None else one[..., span, :] for one in (self.logits, self.parts))
        return BlendedRows(top, logits, self.nodata[span], self.device, self.temperature, parts)

    @cached_property
    def masked(self) -> Tensor:
        """`nodata` on the device."""
        return pinned_tensor(torch.from_numpy(self.nodata.copy())).to(self.device, non_blocking=True)

    @cached_property
    def classes(self) -> Tensor:
        """The most likely class (h, W) uint8, 255 where `masked`."""
        if self.logits is None:
            return torch.full(self.nodata.shape, IGNORE_INDEX, dtype=torch.uint8, device=self.device)
        # Class by class: much faster on a CPU than argmax over the first axis. On every device, the lowest class
        # number wins among equal logits.
        best = self.logits[0].clone()
        classes = torch.zeros(best.shape, dtype=torch.uint8, device=self.device)
        for number, logits in enumerate(self.logits[1:], start=1):
            classes.masked_fill_(logits > best, number)
            torch.maximum(best, logits, out=best)
        return classes.masked_fill_(self.masked, IGNORE_INDEX) if self.nodata.any() else classes

    @cached_property
    def probabilities(self) -> Tensor | None:
        """Softmax of the blended logits (K, h, W), NaN where `masked`; ``None`` without logits."""
        if self.logits is None:
            return None
        logits = self.logits if self.temperature == 1 else self.logits / self.temperature
        return logits.softmax(dim=0).masked_fill_(self.masked, float("nan"))


@dataclass(frozen=True)
class MapRows:
    """Completed rows of a map in main memory.

    Attributes:
        top: First row.
        logits: (K, h, W) float32, blended; undefined where `masked`. ``None`` if no window overlaps the rows.
        masked: (h, W), true where the map is nodata.
        classes: (h, W) uint8, the most likely class, 255 where `masked`.
        temperature: Divides the logits before their softmax.
        parts: (P, K, h, W), the blended outputs of the members of an ensemble, each divided by its temperature;
            ``None`` without an ensemble. Its `logits` are the logarithms of the mean probabilities.
    """

    top: int
    logits: Tensor | None
    masked: NDArray[np.bool_]
    classes: NDArray[np.uint8]
    temperature: float = 1.0
    parts: Tensor | None = None

    @classmethod
    def of(cls, rows: BlendedRows) -> "MapRows":
        """Copy rows from the device."""
        logits, parts = (None if one is None else one.cpu() for one in (rows.logits, rows.parts))
        return cls(rows.top, logits, rows.nodata, rows.classes.cpu().numpy(), rows.temperature, parts)

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.top + len(self.masked)

    @cached_property
    def probabilities(self) -> NDArray[np.float32] | None:
        """Softmax of the blended logits (K, h, W), NaN where `masked`; ``None`` without logits."""
        rows = BlendedRows(self.top, self.logits, self.masked, temperature=self.temperature)
        probabilities = rows.probabilities
        return None if probabilities is None else probabilities.numpy()


class Blender:
    """Accumulates the logits of windows on the device, in reading order, and yields completed rows.

    Memory depends on the height of a window, not of the image: ``4 * K * W * window`` bytes; for K the channels of all
    parts that a map combines.

    Args:
        plan: Windows of the scene.
        top: First row of the scene to blend.
        bottom: The row after the last.
        device: Device of the logits.
        rows: Creates completed rows from their first row, outputs, nodata mask and device; see `Combination.rows`.
    """

    def __init__(
        self,
        plan: WindowGrid,
        top: int | None = None,
        bottom: int | None = None,
        device: torch.device = CPU,
        rows: Callable[..., BlendedRows] = BlendedRows,
    ) -> None:
        self._completed = rows
        self.plan = plan
        self.device = device
        self._first, last = plan.rows.mapped
        self._left, self._right = plan.columns.mapped
        self.top = self._first if top is None else top  # first row in the buffer
        self.bottom = last if bottom is None else bottom
        self._row = -1  # current row of windows
        self._total: Tensor | None = None
        self._masked: list[NDArray[np.bool_]] = []
        weights = np.outer(plan.rows.weights, plan.columns.weights)
        self._window_weight = torch.from_numpy(weights).to(device)
        self._row_weight, self._column_weight = (
            torch.from_numpy(axis.total_weight).to(device) for axis in (plan.rows, plan.columns)
        )

    def update(
        self,
        event: RowsRead | WindowRead | StripRangeRead,
        logits: Tensor | None = None,
        corner: tuple[int, int] = (0, 0),
    ) -> Iterator[BlendedRows]:
        """Process an event, in reading order, and yield the rows that it completes.

        Args:
            event: Event of a `WindowStream`.
            logits: (K, h, w) of the window, for a `WindowRead`.
            corner: See `add_window`.
        """
        if isinstance(event, RowsRead):
            self.add_rows(event.masked)
        elif isinstance(event, WindowRead):
            assert logits is not None
            if event.row != self._row:
                yield from self.finish(event.row)
                self._row = event.row
            self.add_window(event.row, event.column, logits, corner)
        else:
            yield from self.finish()

    def add_rows(self, masked: NDArray[np.bool_]) -> None:
        """Add the nodata mask (h, W) of the next rows."""
        self._masked.append(masked)

    def add_window(self, row: int, column: int, logits: Tensor, corner: tuple[int, int] = (0, 0)) -> None:
        """Add the logits of one window.

        Args:
            row: Row of the window in the plan.
            column: Column of the window in the plan.
            logits: (K, h, w) float32, of the whole window or of a part that contains its core.
            corner: Row and column, in the window, of the first pixel of `logits`.
        """
        rows, columns = self.plan.rows, self.plan.columns
        (first, last), (left, right) = rows.core[row], columns.core[column]
        first, last = max(first, self.top), min(last, self.bottom)
        left, right = max(left, self._left), min(right, self._right)
        if first >= last:
            return
        if self._total is None:
            width = self._right - self._left
            self._total = torch.zeros(len(logits), rows.window, width, device=self.device)
        start, edge = rows.starts[row], columns.starts[column]
        inside = (slice(first - start, last - start), slice(left - edge, right - edge))
        part = logits[
            :,
            inside[0].start - corner[0] : inside[0].stop - corner[0],
            inside[1].start - corner[1] : inside[1].stop - corner[1],
        ]
        if rows.blending == "hann":
            part = part * self._window_weight[inside]
        across = slice(left - self._left, right - self._left)
        self._total[:, first - self.top : last - self.top, across] += part

    def finish(self, row: int | None = None) -> Iterator[BlendedRows]:
        """Yield the rows above all windows from window row `row` on; all remaining rows by default."""
        end = self.bottom if row is None else min(self.bottom, self.plan.rows.core[row][0])
        if end <= self.top:
            return
        if self._total is not None:
            # If several rows of windows have no data, more rows are completed than the buffer has.
            count = min(end - self.top, self._total.shape[1])
            top = self.top - self._first
            weight = self._row_weight[top : top + count, None] * self._column_weight
            masked = np.concatenate(self._next_masks(count))
            yield self._completed(top, self._total[:, :count] / weight, masked, self.device)
            held = self._total[:, count:].clone()
            self._total[:, : held.shape[1]] = held
            self._total[:, held.shape[1] :] = 0
            self.top += count
        for part in self._next_masks(end - self.top):
            yield BlendedRows(self.top - self._first, None, part, self.device)
            self.top += len(part)

    def _next_masks(self, count: int) -> list[NDArray[np.bool_]]:
        """The masks of the next rows, in pieces as they were added."""
        parts = []
        while count:
            first = self._masked[0]
            parts.append(first[:count])
            self._masked[:1] = [first[count:]] if len(first) > count else []
            count -= len(parts[-1])
        return parts
