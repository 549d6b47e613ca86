"""Windows that are read in pixels and blended in patches, or in other steps of an encoder's stride."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from ..readers.grid import Grid
from ..readers.scene import Scene, SceneReader, StoredPixels
from ..spec import DataSpec
from ..tiling import AxisTiling, Blending, PixelArea, WindowGrid
from .row_reader import StripRange
from .scene_windows import SceneDataModule
from .window_stream import Event, ReadEvents, RowsRead


class PatchDataModule(SceneDataModule):
    """Windows of scenes padded with nodata to whole patches, so that windows start on patches.

    Args:
        scenes: See `SceneDataModule`, also for the other arguments.
        spec: Bands and statistics.
        window: Size of a window in pixels.
        stride: Distance between neighbouring windows in pixels.
        blending: How to blend overlapping windows.
        patch: Size of a patch in pixels.
        *args: Further arguments of `SceneDataModule`.
        areas: The patches of a scene to map, by scene name; see `patch_grid`.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        spec: DataSpec,
        window: int,
        stride: int,
        blending: Blending,
        patch: int,
        *args: Any,
        areas: Mapping[str, PixelArea] = MappingProxyType({}),
    ) -> None:
        super().__init__(scenes, spec, window, stride, blending, patch, *args)
        self.plans = {
            scene.name: _whole_patches(scene.grid, window, stride, blending, patch, areas.get(scene.name))
            for scene in scenes
        }
        self.patch = patch

    def open_scene(self, scene: Scene) -> SceneReader:
        """Open the reader of one scene."""
        return PaddedReader(scene, self.spec.input, self.nodata_rule, self.qa_mask, patch=self.patch)


def _whole_patches(
    grid: Grid, window: int, stride: int, blending: Blending, patch: int, area: PixelArea | None
) -> WindowGrid:
    """Windows, in pixels, of a grid padded to whole patches; the height of a strip is a multiple of the patch."""
    pixels = None if area is None else area.finer(patch)
    rows, columns = (
        AxisTiling(length * patch, window, stride, blending, patch, part)
        for length, part in zip(
            _patches(grid, patch), (None, None) if pixels is None else pixels.parts, strict=True
        )
    )
    return WindowGrid(rows, columns, max(1, 512 // patch) * patch, pixels)


def _patches(grid: Grid, patch: int) -> tuple[int, int]:
    return -(-grid.height // patch), -(-grid.width // patch)


def patch_grid(grid: Grid, patch: int) -> Grid:
    """The grid of the patches of a grid of pixels, padded to whole patches."""
    return grid.coarser(patch, _patches(grid, patch))


class PaddedReader(SceneReader):
    """Reads a scene padded to whole patches at its right and bottom edge, with band means that count as nodata."""

    def __init__(self, *args: Any, patch: int) -> None:
        super().__init__(*args)
        self.patch = patch

    def read_stored(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> StoredPixels:
        """Read rows ``top`` to ``bottom`` and columns ``left`` to ``right``."""
        height, width = self.scene.grid.height, self.scene.grid.width
        right = -(-width // self.patch) * self.patch if right is None else right
        first, start = min(top, height - 1), min(left, width - 1)
        stored = super().read_stored(
            first, max(min(bottom, height), first + 1), start, max(min(right, width), start + 1)
        )
        rows, columns = max(0, min(bottom, height) - top), max(0, min(right, width) - left)
        inside = (slice(rows), slice(columns))
        size = stored.values[:, *inside].shape
        valid = np.ones(size, bool) if stored.valid is None else stored.valid[:, *inside]
        masked = np.zeros(size[1:], bool) if stored.masked is None else stored.masked[inside]
        padding = ((0, bottom - top - rows), (0, right - left - columns))
        return replace(
            stored,
            values=np.pad(stored.values[:, *inside], ((0, 0), *padding)),
            valid=np.pad(valid, ((0, 0), *padding)),
            masked=np.pad(masked, padding, constant_values=True),
        )


class PatchEvents:
    """Converts read events of a scene from pixels to patches.

    Args:
        scene: The scene.
        plan: Windows of the scene, in pixels; whole patches.
        patch: Size of a patch in pixels.
        area: The patches to map; by default all.

    Attributes:
        scene: The scene with a grid of patches.
        plan: Windows in patches.
    """

    def __init__(self, scene: Scene, plan: WindowGrid, patch: int, area: PixelArea | None = None) -> None:
        self.patch = patch
        rows, columns = (
            AxisTiling(
                axis.length // patch, axis.window // patch, axis.stride // patch, axis.blending, part=part
            )
            for axis, part in zip(
                (plan.rows, plan.columns), (None, None) if area is None else area.parts, strict=True
            )
        )
        self.plan = WindowGrid(rows, columns, plan.strip_rows // patch, area)
        self.scene = replace(scene, grid=patch_grid(scene.grid, patch))
        self._held: list[NDArray[np.bool_]] = []  # rows of pixels of an incomplete patch
        self._top = 0
        self._pixels: StripRange | None = None
        self._patches: StripRange | None = None

    def of(self, events: ReadEvents) -> ReadEvents:
        """Convert events; a row of patches follows once all its rows of pixels are read."""
        return ReadEvents([one for event in events.events for one in self._of(event)])

    def _of(self, event: Event) -> Iterator[Event]:
        if event.strip_range is not self._pixels:
            self._pixels = event.strip_range
            strips = tuple(self.plan.strips[strip.number] for strip in self._pixels.strips)
            self._patches = StripRange(self.scene, self.plan, strips)
            self._held, self._top = [], self._patches.top
        assert self._patches is not None
        if not isinstance(event, RowsRead):
            yield replace(event, strip_range=self._patches)
            return
        pixels = np.concatenate([*self._held, event.masked])
        whole = len(pixels) // self.patch
        self._held = [pixels[whole * self.patch :]]
        if whole:
            blocks = rearrange(
                pixels[: whole * self.patch], "(h p) (w q) -> h w (p q)", p=self.patch, q=self.patch
            )
            left, right = self.plan.columns.covered
            masked = np.ones((whole, right - left), bool)
            first, last = self.plan.columns.mapped
            masked[:, first - left : last - left] = blocks.all(axis=-1)
            rows = replace(event.rows, top=self._top, masked=masked, values=None)
            yield RowsRead(self._patches, rows, needed_from=self._top)
            self._top += whole
