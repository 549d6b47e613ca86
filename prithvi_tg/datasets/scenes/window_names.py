"""WindowNames: names of windows of scenes, with the scene, and the row and column in it."""

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from ...readers.grid import Grid
from ...readers.scene import Scene
from .dataset import SAME_GROUND, SceneDataset, overlap_share

_TOLERANCE = 1e-6  # of a pixel, for rounding errors of coordinates
_LONGEST = 80  # characters of the name of a scene, so that names of files stay short


class WindowNames:
    """Names of windows: ``row_00128_column_00064``; of several scenes ``SCENE_row_00128_column_00064``.

    Row and column are those of the top left pixel, from 0 at the corner of the scene, in pixels of the first scene.
    They are negative in a window that begins outside. Scenes of one place, such as those of several dates, count
    as one, with the name of the first of them.

    Args:
        images: The scenes; ``None`` for a dataset of another kind, whose windows are named by row and column alone.
        grid: The pixels of all scenes.
    """

    def __init__(self, images: SceneDataset | None, grid: Grid) -> None:
        self.grid = grid
        self._names: list[str] = []
        if images is None:
            return
        outlines: Any = images.index.geometry.to_numpy()
        place = np.arange(len(outlines))  # the first scene that shows the place of each scene
        for one, other in shapely.STRtree(outlines).query(outlines, "intersects").T.tolist():
            if one < other and overlap_share(outlines[one], [outlines[other]]) > SAME_GROUND:
                pair = place[[one, other]]
                place[np.isin(place, pair)] = pair.min()
        first = np.unique(place).tolist()
        self._names = _unique_names([images.scenes[number] for number in first])
        self._outlines: Any = np.array([shapely.union_all(outlines[place == number]) for number in first])

    def of(self, row: int, column: int, size: int, period: str = "") -> str:
        """The name of a window.

        Args:
            row: Row of its top left pixel in the grid.
            column: Column of this pixel.
            size: Side of the window in pixels.
            period: Name of its period, if there are several.
        """
        scene = ""
        if len(self._names) > 1:
            x, y = self.grid.window_slices(row, column, size)
            window = shapely.box(x.start, y.start, x.stop, y.stop)
            number = int(shapely.area(shapely.intersection(self._outlines, window)).argmax())
            left, _, _, top = self._outlines[number].bounds
            first = self.grid.row_and_column(left, top)
            row, column = (
                at - math.floor(float(begin) + _TOLERANCE)
                for at, begin in zip((row, column), first, strict=True)
            )
            scene = f"{self._names[number]}_"
        return f"{scene}{period}row_{row:05d}_column_{column:05d}"


def _unique_names(scenes: Sequence[Scene]) -> list[str]:
    """A short name of each scene, which can be part of the name of a file."""
    names = [scene.name for scene in scenes]
    if len(set(names)) < len(names):  # such as s1/scene.tif and s2/scene.tif
        names = [f"{Path(scene.files[0]).parent.name}_{scene.name}" for scene in scenes]
    unique: list[str] = []
    for name in names:
        short = re.sub(r"[^0-9A-Za-z_.-]+", "_", name)[:_LONGEST]
        candidates = (short if count == 1 else f"{short}_{count}" for count in itertools.count(1))
        unique.append(next(one for one in candidates if one not in unique))
    return unique
