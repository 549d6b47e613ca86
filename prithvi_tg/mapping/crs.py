"""Conversion of coordinate reference systems from rasterio to pyproj."""

import pyproj
from rasterio.crs import CRS


def to_pyproj(crs: CRS) -> pyproj.CRS:
    """Convert a CRS to pyproj, which geopandas uses."""
    # WKT 1, rasterio's default, cannot represent every projection and omits some codes.
    return pyproj.CRS.from_wkt(crs.to_wkt(version="WKT2_2019"))


def epsg_code(crs: CRS) -> int | None:
    """EPSG code of a CRS; ``None`` if it has none."""
    # rasterio may return the code of a similar CRS on another datum.
    code = crs.to_epsg()
    same = code and to_pyproj(crs).equals(pyproj.CRS.from_epsg(code), ignore_axis_order=True)
    return code if same else None


def wkt2(crs: CRS) -> str:
    """A CRS as WKT 2, which can represent every projection."""
    return crs.to_wkt(version="WKT2_2019")
