"""Label index: a coarse map of the classes, to draw windows on rare classes more often."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchgeo.datasets import GeoDataset

from ...errors import DataError
from ...readers.grid import Grid
from ...targets import IGNORE_INDEX
from .splits import Region

_CELLS_PER_WINDOW = 4


def index_labels(
    labels: GeoDataset, grid: Grid, region: Region, window: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Divide a region into cells, each a fraction of a window, with a probability for each cell.

    Half of the probability is distributed equally over all labelled cells. The other half is distributed equally over
    the classes, and for each class over the cells in proportion to its pixels. The labels of the region are read once,
    window by window.

    Args:
        labels: Labels, indexed by geo-slice.
        grid: The pixels of the dataset.
        region: The region of the windows.
        window: Size of a window in pixels.

    Returns:
        Top, left, bottom and right pixels of cells (N, 4), and probabilities (N,).

    Raises:
        DataError: The region has no labels.
    """
    cell = max(1, window // _CELLS_PER_WINDOW)
    boxes: list[tuple[int, int, int, int]] = []
    counts: list[NDArray[np.int64]] = []
    for top, left, bottom, right in region.boxes:
        for row in range(top, bottom, window):
            for column in range(left, right, window):
                everything: Any = slice(None)
                try:
                    mask = labels[*grid.window_slices(row, column, window), everything]["mask"].numpy()
                except IndexError:  # no labels here
                    continue
                mask = mask[: bottom - row, : right - column]
                for y in range(0, mask.shape[0], cell):
                    for x in range(0, mask.shape[1], cell):
                        part = mask[y : y + cell, x : x + cell]
                        pixels = np.bincount(part.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
                        if pixels.any():
                            height, width = part.shape
                            boxes.append((row + y, column + x, row + y + height, column + x + width))
                            counts.append(pixels)
    if not boxes:
        raise DataError("labels: no pixel of the training region has a label")
    by_cell = np.stack(counts)
    present = by_cell[:, by_cell.any(axis=0)].astype(np.float64)
    by_class = (present / present.sum(axis=0)).mean(axis=1)
    return np.array(boxes), 0.5 * by_class + 0.5 / len(boxes)
