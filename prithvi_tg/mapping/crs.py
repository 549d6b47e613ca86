"""Coordinate reference systems between rasterio and pyproj."""

import pyproj
from rasterio.crs import CRS


def to_pyproj(crs: CRS) -> pyproj.CRS:
    """The same CRS for pyproj and geopandas."""
    # WKT 1, rasterio's default, knows neither every projection nor the code of every CRS.
    return pyproj.CRS.from_wkt(crs.to_wkt(version="WKT2_2019"))


def epsg_code(crs: CRS) -> int | None:
    """The EPSG code of a CRS, if it has one."""
    # The code that rasterio finds may be that of a similar CRS on another datum.
    code = crs.to_epsg()
    same = code and to_pyproj(crs).equals(pyproj.CRS.from_epsg(code), ignore_axis_order=True)
    return code if same else None


def wkt2(crs: CRS) -> str:
    """A CRS in words that know every projection."""
    return crs.to_wkt(version="WKT2_2019")
