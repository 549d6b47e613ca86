"""Vector files that grow by batches of polygons."""

import json
import warnings
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow
from geopandas import GeoDataFrame
from pyarrow.parquet import ParquetWriter


class VectorFile(Protocol):
    """A file of polygons.

    Attributes:
        suffix: Suffix of its name.
    """

    suffix: ClassVar[str]

    def __init__(self, path: Path, layer: str) -> None:
        """Prepare a file with one layer; `append` creates it."""

    def append(self, frame: GeoDataFrame) -> None:
        """Append polygons; all frames have the same columns."""

    def close(self) -> None:
        """Complete the file."""


class GeoPackage(VectorFile):
    """A GeoPackage."""

    suffix = ".gpkg"

    def __init__(self, path: Path, layer: str) -> None:
        self._path, self._layer = path, layer

    def append(self, frame: GeoDataFrame) -> None:
        """Append polygons."""
        mode = "a" if self._path.exists() else "w"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            frame.to_file(self._path, driver="GPKG", layer=self._layer, geometry_type="Polygon", mode=mode)

    def close(self) -> None:
        """Nothing remains to be done: each batch is a transaction."""


class GeoParquet(VectorFile):
    """GeoParquet 1.1 with WKB geometries, with one row group per batch (https://geoparquet.org/releases/v1.1.0/)."""

    suffix = ".parquet"

    def __init__(self, path: Path, layer: str) -> None:
        self._path = path
        self._writer: ParquetWriter | None = None

    def append(self, frame: GeoDataFrame) -> None:
        """Append polygons."""
        table = pyarrow.table(frame.to_arrow(index=False, geometry_encoding="WKB"))
        if self._writer is None:
            schema = table.schema.with_metadata({"geo": json.dumps(_metadata(frame))})
            self._writer = ParquetWriter(self._path, schema, compression="zstd")
        self._writer.write_table(table.cast(self._writer.schema))

    def close(self) -> None:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()


def _metadata(frame: GeoDataFrame) -> dict[str, Any]:
    geometry = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None if frame.crs is None else frame.crs.to_json_dict(),
    }
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}


#: Name of a format -> its files.
VECTOR_FILES: dict[str, type[VectorFile]] = {"gpkg": GeoPackage, "parquet": GeoParquet}
