"""Polygons: vectorised classes of a map, as a GeoPackage."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from rasterio.features import shapes

from ...errors import ConfigError, DataError
from ...readers.crs import to_pyproj
from ...readers.grid import Grid
from ...readers.pixel_areas import place, row_areas
from ...readers.raster import open_raster
from ...spec import DataSpec
from ...targets import ClassTarget
from .base import FinishedMap, OutputOptions, Product


class Polygons(Product):
    """``NAME_pred.gpkg``: polygons of the classes in `OutputOptions.vector`, or of all classes."""

    name = "polygons"
    files = {"polygons": "{map}.gpkg"}
    targets = (ClassTarget,)

    @classmethod
    def is_asked_for(cls, options: OutputOptions) -> bool:
        """By ``vector``."""
        return bool(options.vector)

    @classmethod
    def check(cls, spec: DataSpec, options: OutputOptions) -> None:
        """Check that the requested classes exist.

        Raises:
            ConfigError: A class is unknown.
        """
        super().check(spec, options)
        for name in options.vector:
            if name not in spec.target.names:
                raise ConfigError(
                    f"vector: {name!r} is not a class; classes are {', '.join(spec.target.names)}"
                )

    def finish(self, finished: FinishedMap) -> None:
        """Vectorise the classes of the map."""
        spec = self.context.spec
        classes = [spec.target.names.index(name) for name in self.context.options.vector or spec.target.names]
        write_polygons(finished.files["pred"], finished.files["polygons"], classes, spec)


def write_polygons(map_path: Path, path: Path, classes: Sequence[int], spec: DataSpec) -> int:
    """Vectorise some classes of a map; pixels are connected by edges, not by corners.

    The file has one layer, named after the map, with the columns ``class`` (number), ``name`` and ``square_metres``
    (the sum of the pixels' areas, see `row_areas`; null without a CRS). It may contain no polygons. The map and all
    polygons are kept in memory.

    Args:
        map_path: A raster of class numbers.
        path: Path of the GeoPackage; the file is created when it is complete.
        classes: Numbers of the classes to vectorise.
        spec: Class names.

    Returns:
        The number of polygons.

    Raises:
        DataError: A class has no name, the map cannot be read or the file cannot be written.
    """
    for value in classes:
        if not 0 <= value < len(spec.target.names):
            raise DataError(
                f"{path}: value {value} is not a class; classes are 0 to {len(spec.target.names) - 1}"
            )
    with open_raster(map_path) as source:
        grid = Grid.of(source)
        pixels = source.read(1)
    found = list(shapes(pixels, mask=np.isin(pixels, list(classes)), connectivity=4))
    outlines = np.array([shapely.geometry.shape(outline) for outline, _ in found], dtype=object)
    values = np.array([value for _, value in found], np.int64)

    def on_ground(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(place(grid, points[:, 0], points[:, 1]), axis=1)

    frame = GeoDataFrame(
        {
            "class": values,
            "name": np.array([spec.target.names[value] for value in values], dtype=object),
            "square_metres": _areas(outlines, grid),
        },
        geometry=shapely.transform(outlines, on_ground),
        crs=None if grid.ground_crs is None else to_pyproj(grid.ground_crs),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A temporary folder also contains SQLite's journals, and keeps the extension that GDAL's driver needs.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            partial = Path(folder) / "polygons.gpkg"
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="'crs' was not provided")
                frame.to_file(partial, driver="GPKG", layer=map_path.stem, geometry_type="Polygon")
            partial.replace(path)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be written ({error})") from error
    return len(frame)


def _areas(outlines: NDArray[np.object_], grid: Grid) -> NDArray[np.float64]:
    areas = row_areas(grid)
    if areas is None:
        return np.full(len(outlines), np.nan)
    # Outlines follow pixel edges: if rows are stretched to their pixel area, planar areas are the sums.
    edges = np.concatenate([[0.0], np.cumsum(areas)])

    def stretched(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([points[:, 0], edges[points[:, 1].astype(int)]], axis=1)

    return shapely.area(shapely.transform(outlines, stretched))
