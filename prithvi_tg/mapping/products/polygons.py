"""Polygons: the patches of a map's classes as a GeoPackage."""

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
from ...readers.grid import Grid
from ...readers.raster import open_raster
from ...spec import DataSpec
from ...targets import ClassTarget
from ..crs import to_pyproj
from .base import FinishedMap, OutputOptions, Product
from .mapped_area import place, row_areas


class Polygons(Product):
    """``NAME_pred.gpkg``: polygons of the classes in `OutputOptions.vector`, or of all of them."""

    name = "polygons"
    files = {"polygons": "{map}.gpkg"}
    targets = (ClassTarget,)

    @classmethod
    def is_asked_for(cls, options: OutputOptions) -> bool:
        """By ``vector``."""
        return bool(options.vector)

    @classmethod
    def check(cls, spec: DataSpec, options: OutputOptions) -> None:
        """Refuse classes that the map does not have.

        Raises:
            ConfigError: There is one.
        """
        super().check(spec, options)
        for name in options.vector:
            if name not in spec.target.names:
                raise ConfigError(
                    f"vector: {name!r} is not a class; classes are {', '.join(spec.target.names)}"
                )

    def finish(self, finished: FinishedMap) -> None:
        """Outline the classes of the map."""
        spec = self.context.spec
        classes = [spec.target.names.index(name) for name in self.context.options.vector or spec.target.names]
        write_polygons(finished.files["pred"], finished.files["polygons"], classes, spec)


def write_polygons(map_path: Path, path: Path, classes: Sequence[int], spec: DataSpec) -> int:
    """Outline the patches of some classes; pixels that share an edge belong together.

    The file has one layer, named as the map, with the columns ``class`` (number), ``name`` and
    ``square_metres`` (the sum of the pixels' areas as in `row_areas`; null without a CRS). It may hold no
    polygon at all. Map and polygons are held in memory, which therefore grows with both.

    Args:
        map_path: A raster of class numbers.
        path: The GeoPackage; appears only when it is complete.
        classes: Which classes.
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
        # A folder of its own takes SQLite's journals too, and leaves the file its ending, by which GDAL goes.
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
    # Outlines follow the edges of pixels: with rows as high as their area, their plane area is the sum of it.
    edges = np.concatenate([[0.0], np.cumsum(areas)])

    def stretched(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([points[:, 0], edges[points[:, 1].astype(int)]], axis=1)

    return shapely.area(shapely.transform(outlines, stretched))
