"""Windows that are read in pixels and blended in patches, or in other steps of an encoder's stride."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from ..readers.grid import Grid
from ..readers.scene import Scene, SceneReader, StoredPixels
from ..spec import DataSpec
from ..tiling import AxisTiling, Blending, WindowGrid
from .row_reader import StripRange
from .scene_windows import SceneDataModule
from .window_stream import Event, ReadEvents, RowsRead


class PatchDataModule(SceneDataModule):
    """Windows of scenes padded with nodata to whole patches, so that windows start on patches."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        spec: DataSpec,
        window: int,
        stride: int,
        blending: Blending,
        patch: int,
        *args: Any,
    ) -> None:
        super().__init__(scenes, spec, window, stride, blending, patch, *args)
        self.plans = {
            scene.name: _whole_patches(scene.grid, window, stride, blending, patch) for scene in scenes
        }
        self.patch = patch

    def open_scene(self, scene: Scene) -> SceneReader:
        """Open the reader of one scene."""
        return PaddedReader(scene, self.spec.input, self.nodata_rule, self.qa_mask, patch=self.patch)


def _whole_patches(grid: Grid, window: int, stride: int, blending: Blending, patch: int) -> WindowGrid:
    """Windows, in pixels, of a grid padded to whole patches; the height of a strip is a multiple of the patch."""
    rows, columns = (
        AxisTiling(-(-length // patch) * patch, window, stride, blending, patch)
        for length in (grid.height, grid.width)
    )
    return WindowGrid(rows, columns, max(1, 512 // patch) * patch)


class PaddedReader(SceneReader):
    """Reads a scene padded to whole patches at its right and bottom edge, with band means that count as nodata."""

    def __init__(self, *args: Any, patch: int) -> None:
        super().__init__(*args)
        self.patch = patch

    def read_stored(self, top: int, bottom: int) -> StoredPixels:
        """Read rows ``top`` to ``bottom``."""
        height, width = self.scene.grid.height, self.scene.grid.width
        stored = super().read_stored(min(top, height - 1), max(min(bottom, height), min(top, height - 1) + 1))
        inside = max(0, min(bottom, height) - top)
        size = stored.values[:, :inside].shape
        below, right = bottom - top - inside, -(-width // self.patch) * self.patch - width
        valid = np.ones(size, bool) if stored.valid is None else stored.valid[:, :inside]
        masked = np.zeros(size[1:], bool) if stored.masked is None else stored.masked[:inside]
        padding = ((0, below), (0, right))
        return replace(
            stored,
            values=np.pad(stored.values[:, :inside], ((0, 0), *padding)),
            valid=np.pad(valid, ((0, 0), *padding)),
            masked=np.pad(masked, padding, constant_values=True),
        )


class PatchEvents:
    """Converts read events of a scene from pixels to patches.

    Args:
        scene: The scene.
        plan: Windows of the scene, in pixels; whole patches.
        patch: Size of a patch in pixels.

    Attributes:
        scene: The scene with a grid of patches.
        plan: Windows in patches.
    """

    def __init__(self, scene: Scene, plan: WindowGrid, patch: int) -> None:
        self.patch = patch
        rows, columns = (
            AxisTiling(axis.length // patch, axis.window // patch, axis.stride // patch, axis.blending)
            for axis in (plan.rows, plan.columns)
        )
        self.plan = WindowGrid(rows, columns, plan.strip_rows // patch)
        patches = scene.grid.coarser(patch, (self.plan.rows.length, self.plan.columns.length))
        self.scene = replace(scene, grid=patches)
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
            rows = replace(event.rows, top=self._top, masked=np.asarray(blocks.all(axis=-1)), values=None)
            yield RowsRead(self._patches, rows, needed_from=self._top)
            self._top += whole
