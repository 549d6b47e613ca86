"""Options of the commands of ``area``."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path


def add_sample_options(parser: ArgumentParser) -> None:
    """Add the options of ``area sample``."""
    add = parser.add_argument
    # fmt: off
    add("maps", nargs="+", type=Path, metavar="MAP",
        help="maps of classes, NAME_pred.tif, with the same classes; give maps before options. A place that several "
        "maps cover is counted once, in the first of them")
    add("--output", nargs="+", type=Path, required=True, metavar="FILE",
        help="file of points: .gpkg with the design as a layer, .csv with the design in NAME.design.json, or both")
    add("--points", type=int, metavar="N", help="number of points; or give --standard_error")
    add("--standard_error", type=float, metavar="S",
        help="compute the number of points for this standard error of overall accuracy, such as 0.01; needs "
        "--expected_accuracy")
    add("--expected_accuracy", nargs="+", type=_name_and_share, default=[], metavar="NAME=U",
        help="expected user's accuracy of each class or stratum, such as water=0.7 land=0.95")
    add("--allocation", choices=("proportional", "equal", "optimal"), default=None,
        help="how points are shared among strata: by their area, evenly, or by area and expected accuracy; by default "
        "optimal with --expected_accuracy, otherwise proportional")
    add("--minimum", type=int, default=50, metavar="N", help="smallest number of points in a stratum")
    add("--boundary_buffer", type=int, metavar="PIXELS",
        help="one more stratum: all pixels within this many pixels of a boundary between classes")
    add("--confidence_bands", nargs="+", type=float, metavar="EDGE",
        help="divide each class by its confidence, such as 0.5 0.8; needs NAME_confidence.tif beside the map")
    add("--classes", nargs="+", type=_code_and_name, default=[], metavar="VALUE=NAME",
        help="names of the values of a map without class names, such as 0=land 1=water")
    add("--seed", type=int, default=0, help="seed of the draw")
    add("--overwrite", action="store_true", help="replace existing points, with their labels")
    # fmt: on


def add_estimate_options(parser: ArgumentParser) -> None:
    """Add the options of ``area estimate``."""
    add = parser.add_argument
    # fmt: off
    add("points", type=Path, metavar="POINTS",
        help="labelled points from area sample, or any table or vector file with the columns id and reference")
    add("--design", type=Path, metavar="FILE",
        help="the design, if it is not with the points: the .design.json or GeoPackage that area sample wrote")
    add("--output", type=Path, metavar="FILE.json", help="also write all figures as JSON, which report --areas shows")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    # fmt: on


def add_change_options(parser: ArgumentParser) -> None:
    """Add the options of ``area change``."""
    add = parser.add_argument
    # fmt: off
    add("before", type=Path, metavar="A.tif", help="map of classes of the first date")
    add("after", type=Path, metavar="B.tif", help="map of classes of the second date, with the same pixels")
    add("--output", nargs="+", type=Path, default=[], metavar="FILE",
        help="also write a map of changes, .tif, which area sample accepts, or the matrix as .json, or both")
    add("--classes", nargs="+", type=_code_and_name, default=[], metavar="VALUE=NAME",
        help="names of the values of maps without class names, such as 0=land 1=water")
    add("--overwrite", action="store_true", help="replace the files if they exist")
    # fmt: on


def _name_and_share(word: str) -> tuple[str, float]:
    name, found, share = word.rpartition("=")
    try:
        if found:
            return name, float(share)
    except ValueError:
        pass
    raise ArgumentTypeError(f"{word!r} is not NAME=SHARE, such as water=0.7")


def _code_and_name(word: str) -> tuple[int, str]:
    code, found, name = word.partition("=")
    if found and code.isdecimal() and name:
        return int(code), name
    raise ArgumentTypeError(f"{word!r} is not VALUE=NAME, such as 1=water")
