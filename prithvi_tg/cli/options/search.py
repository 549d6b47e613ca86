"""Options of ``prithvi-tg search``."""

from argparse import ArgumentParser
from pathlib import Path


def add_search_options(parser: ArgumentParser) -> None:
    """Add the options of ``search``."""
    add = parser.add_argument
    # fmt: off
    add("--api", required=True, metavar="URL", help="address of the STAC API")
    add("--collection", required=True, nargs="+", metavar="ID", help="collections to search")
    add("--aoi", required=True, metavar="AREA",
        help="a vector file, left,bottom,right,top in degrees, or WKT in longitude and latitude")
    add("--dates", required=True, nargs="+", metavar="DATE", help="first and last day, YYYY-MM-DD, or a single day")
    add("--max_cloud", type=float, metavar="PERCENT", help="maximum cloud cover of an item")
    add("--max_items", type=int, metavar="N", help="maximum number of items")
    add("--modifier", metavar="PATH",
        help="function that signs the items; signatures expire, so prefer to give it to predict")
    add("--output", required=True, type=Path, metavar="FILE", help="the list to write, *.json")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    # fmt: on
