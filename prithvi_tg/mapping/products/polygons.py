"""Polygons: vectorised classes of a map, as a GeoPackage or GeoParquet."""

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError, DataError
from ...ranges import check_ranges
from ...readers.crs import to_pyproj
from ...readers.grid import Grid
from ...readers.pixel_areas import place, row_areas
from ...spec import DataSpec
from ...targets import ClassTarget
from ..blending import BlendedRows
from .base import FinishedMap, Layer, MapContext, OutputOptions, Product
from .outlines import Pieces, Region, find_regions
from .probabilities import STEPS, stored
from .vector_files import VECTOR_FILES

_BATCH = 10_000


class Polygons(Product):
    """``NAME_pred.gpkg`` or ``NAME_pred.parquet``: polygons of the classes in `OutputOptions.vector`, or of all.

    See `write_polygons` for the columns.
    """

    name = "polygons"
    option = "vector"
    files = {form: f"{{map}}{kind.suffix}" for form, kind in VECTOR_FILES.items()}
    targets = (ClassTarget,)
    layer: Layer

    @classmethod
    def is_asked_for(cls, options: OutputOptions) -> bool:
        """By ``vector``."""
        return bool(options.vector)

    own_options = ("min_area", "fill_holes", "simplify", "vector_formats")

    @classmethod
    def check(cls, spec: DataSpec, options: OutputOptions) -> None:
        """Check that the requested classes and formats exist.

        Raises:
            ConfigError: A class or format is unknown, or a limit is negative.
        """
        super().check(spec, options)
        for name in options.vector:
            if name not in spec.target.names:
                close = get_close_matches(name, spec.target.names, n=1)
                hint = f"did you mean {close[0]}? Classes" if close else "classes"
                raise ConfigError(
                    f"vector: {name!r} is not a class; {hint} are {', '.join(spec.target.names)}"
                )
        check_ranges({key: getattr(options, key) for key in ("min_area", "fill_holes", "simplify")})

    def begin(self, context: MapContext) -> None:
        """Start the polygons of one scene.

        Raises:
            ConfigError: A limit in metres is given, but the size of the scene's pixels is unknown.
        """
        super().begin(context)
        self.layer = Layer("polygons", ("class", "highest probability"))
        self._confidence = Layer("confidence", ("highest probability",), scale=1 / STEPS)
        for key in ("min_area", "fill_holes", "simplify"):
            if getattr(context.options, key) and context.areas is None:
                raise ConfigError(
                    f"{key}: {context.scene.name} has no CRS, so its polygons have no size in metres"
                )

    def outputs(self) -> dict[str, Path]:
        """Final path of the file in each requested format."""
        outputs = super().outputs()
        return {form: outputs[form] for form in dict.fromkeys(self.context.options.vector_formats)}

    def encode(self, rows: BlendedRows) -> Tensor:
        """Class and highest probability (2, h, W) uint8, the probability in steps of 1 / 250."""
        probabilities = rows.probabilities
        highest = None if probabilities is None else probabilities.amax(dim=0, keepdim=True)
        return torch.cat([rows.classes[None], stored(highest, rows, self._confidence)])

    def write(self, top: int, values: NDArray[Any], strip: Any) -> None:
        """Store classes and probabilities in the strip."""
        strip.write(self.layer, top, values)

    def finish(self, finished: FinishedMap) -> None:
        """Vectorise the classes of the map."""
        context = self.context
        pieces = ((top, values[0], values[1] / STEPS) for top, values in finished.pieces(self.layer))
        files = {form: finished.files[form] for form in self.outputs()}
        write_polygons(pieces, files, context.path.stem, context.scene.grid, context.spec, context.options)


def write_polygons(
    pieces: Pieces, files: Mapping[str, Path], layer: str, grid: Grid, spec: DataSpec, options: OutputOptions
) -> int:
    """Vectorise classes of a map; pixels are connected by edges, not by corners.

    The columns are ``class`` (number), ``name``, ``square_metres`` (the sum of the pixels' areas with filled holes,
    before simplification, see `row_areas`; null without a CRS) and ``mean_confidence`` (mean of the highest
    probability over the pixels of the class). A file may contain no polygons. Memory grows with the largest polygon,
    not with the map.

    Args:
        pieces: First row, class numbers (h, W) uint8 and highest probabilities (h, W), from top to bottom.
        files: Path of the file in each format of `VECTOR_FILES`; they are created when they are complete.
        layer: Name of the layer.
        grid: Grid of the map.
        spec: Class names.
        options: ``vector``, ``min_area``, ``fill_holes`` and ``simplify``; without ``vector``, all classes.

    Returns:
        The number of polygons.

    Raises:
        DataError: The map cannot be read or a file cannot be written.
    """
    names = spec.target.names
    classes = [names.index(name) for name in options.vector or names]
    shaper, count = _Shaper(grid, options), 0
    paths = ", ".join(map(str, files.values()))
    try:
        with ExitStack() as stack:
            partial = {form: stack.enter_context(_partial_file(path)) for form, path in files.items()}
            outputs = [
                stack.enter_context(closing(VECTOR_FILES[form](path, layer)))
                for form, path in partial.items()
            ]
            for regions in _batches(find_regions(pieces, classes)):
                frame = shaper.frame(regions, names)
                count += len(frame)
                for output in outputs:
                    output.append(frame)
        return count
    except (OSError, RuntimeError) as error:
        raise DataError(f"{paths}: cannot be written ({error})") from error


class _Shaper:
    """Turns regions of pixels into polygons on the ground."""

    def __init__(self, grid: Grid, options: OutputOptions) -> None:
        self._grid, self._options = grid, options
        self._crs = None if grid.ground_crs is None else to_pyproj(grid.ground_crs)
        areas = row_areas(grid)
        # Outlines follow pixel edges: if rows are stretched to their pixel area, planar areas are the sums.
        self._edges = None if areas is None else np.concatenate([[0.0], np.cumsum(areas)])
        self._tolerance = 0.0 if areas is None else options.simplify / math.sqrt(areas.mean())

    def frame(self, regions: Sequence[Region], names: Sequence[str]) -> GeoDataFrame:
        """The polygons that are large enough, with their columns; may be empty."""
        outlines = np.array([self._filled(region.outline) for region in regions], dtype=object)
        values = np.array([region.value for region in regions], np.int64)
        confidences = np.array([region.total / region.pixels for region in regions], np.float64)
        areas = self._areas(outlines)
        large = ~(areas < self._options.min_area)  # NaN without a CRS
        outlines = outlines[large]
        if self._tolerance:
            outlines = shapely.simplify(outlines, self._tolerance)
        return GeoDataFrame(
            {
                "class": values[large],
                "name": np.array([names[value] for value in values[large]], dtype=object),
                "square_metres": areas[large],
                "mean_confidence": confidences[large],
            },
            geometry=shapely.transform(outlines, self._on_ground),
            crs=self._crs,
        )

    def _filled(self, outline: shapely.Polygon) -> shapely.Polygon:
        if not self._options.fill_holes or not outline.interiors:
            return outline
        areas = self._areas(np.array([shapely.Polygon(ring) for ring in outline.interiors], dtype=object))
        holes = [
            ring
            for ring, area in zip(outline.interiors, areas, strict=True)
            if area >= self._options.fill_holes
        ]
        return shapely.Polygon(outline.exterior, holes)

    def _areas(self, outlines: NDArray[np.object_]) -> NDArray[np.float64]:
        edges = self._edges
        if edges is None:
            return np.full(len(outlines), np.nan)

        def stretched(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.stack([points[:, 0], edges[points[:, 1].astype(int)]], axis=1)

        return shapely.area(shapely.transform(outlines, stretched))

    def _on_ground(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(place(self._grid, points[:, 0], points[:, 1]), axis=1)


def _batches(regions: Iterable[Region]) -> Iterator[list[Region]]:
    """Groups of regions; one empty group if there are none, so that a file has its columns."""
    regions = iter(regions)
    batch = list(islice(regions, _BATCH))
    yield batch
    while batch := list(islice(regions, _BATCH)):
        yield batch


@contextmanager
def _partial_file(path: Path) -> Iterator[Path]:
    """A temporary path, which is renamed to `path` on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A temporary folder also contains SQLite's journals, and keeps the extension that GDAL's driver needs.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        partial = Path(folder) / f"polygons{path.suffix}"
        yield partial
        partial.replace(path)
