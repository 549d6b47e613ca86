"""GeoIndex: finds the files of a geo-slice in the index of a TorchGeo dataset, faster than GeoPandas."""

from typing import Any

import numpy as np
import pandas as pd
from geopandas import GeoDataFrame
from torchgeo.datasets import GeoDataset

_PARTS = ("start", "stop", "step")


class GeoIndex:
    """The index of a dataset as arrays, rebuilt when the index of the dataset is replaced.

    GeoPandas has a large overhead per query, and there are thousands of queries.
    """

    def __init__(self) -> None:
        self._of: GeoDataFrame | None = None

    def resolve(self, dataset: GeoDataset, query: Any) -> tuple[slice, slice, slice]:
        """The query with explicit bounds, as TorchGeo resolves it."""
        given: tuple[slice, ...] = (query,) if isinstance(query, slice) else query
        if len(given) == 3 and all(part.start is not None and part.stop is not None for part in given):
            x, y, t = given
            width, height = dataset.res
            return slice(x.start, x.stop, x.step or width), slice(y.start, y.stop, y.step or height), t
        x, y, t = (
            slice(
                *(
                    getattr(part, name) if getattr(part, name) is not None else getattr(whole, name)
                    for name in _PARTS
                )
            )
            for part, whole in zip((*given, *[slice(None)] * (3 - len(given))), dataset.bounds, strict=True)
        )
        return x, y, t

    def hits(self, index: GeoDataFrame, x: slice, y: slice, t: slice, one_period: bool = False) -> list[int]:
        """Rows of an index with a bounding box and time that a resolved query touches.

        Args:
            index: The index of the dataset.
            x: Left and right of the query, in units of the CRS.
            y: Bottom and top of the query.
            t: First and last moment of the query.
            one_period: If the time of the query is exactly the period of some rows, return only these rows, even if the
                periods of others overlap it.
        """
        if self._of is not index:
            self._of = index
            self._boxes = index.geometry.bounds.to_numpy()
            self._first = index.index.left.to_numpy()
            self._last = index.index.right.to_numpy()
        near = ((self._boxes[:, :2] <= (x.stop, y.stop)) & (self._boxes[:, 2:] >= (x.start, y.start))).all(
            axis=1
        )
        first, last = (pd.Timestamp(moment).to_datetime64() for moment in (t.start, t.stop))
        overlapping = (self._first <= last) & (self._last >= first)
        same = (self._first == first) & (self._last == last)
        rows: list[int] = np.flatnonzero(near & (same if one_period and same.any() else overlapping)).tolist()
        return rows
