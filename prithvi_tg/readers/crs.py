"""Conversion of coordinate reference systems from rasterio to pyproj."""

from functools import lru_cache

import pyproj
from rasterio.crs import CRS

#: Number of converted CRSs that are cached: the scenes of an archive share few.
_CACHED = 32

#: Advice about a vector file without a CRS.
ASSIGN_TO_VECTORS = "assign the CRS of its coordinates: ogr2ogr -a_srs EPSG:CODE OUTPUT INPUT"


def to_pyproj(crs: CRS) -> pyproj.CRS:
    """Convert a CRS to pyproj, which geopandas uses."""
    # WKT 1, rasterio's default, cannot represent every projection and omits some codes.
    return _from_wkt(wkt2(crs))


@lru_cache(_CACHED)
def _from_wkt(wkt: str) -> pyproj.CRS:
    return pyproj.CRS.from_wkt(wkt)


@lru_cache(_CACHED)
def to_degrees(crs: pyproj.CRS) -> pyproj.Transformer:
    """Transformer to longitudes and latitudes on WGS 84."""
    return pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def epsg_code(crs: CRS) -> int | None:
    """EPSG code of a CRS; ``None`` if it has none."""
    # rasterio may return the code of a similar CRS on another datum.
    code = crs.to_epsg()
    same = code and to_pyproj(crs).equals(pyproj.CRS.from_epsg(code), ignore_axis_order=True)
    return code if same else None


def wkt2(crs: CRS) -> str:
    """A CRS as WKT 2, which can represent every projection."""
    return crs.to_wkt(version="WKT2_2019")
