"""Options of ``prithvi-tg predict``."""

from argparse import SUPPRESS
from typing import Any, get_args

from ...bands import SENSORS
from ...choices import (
    Auto,
    Blending,
    NodataRule,
    ProbabilityType,
    Profile,
    QualityClass,
    SceneFormatName,
    Tta,
    VectorFormat,
)
from ..parsers import group_of
from .configured import COMPUTING, CONFIGURATION, OUTPUTS, READING, WINDOWS, add_tf32


def add_predict_options(parser: Any) -> None:
    """Add the options of ``predict`` besides Lightning's."""
    _add_reading(group_of(parser, READING).add_argument)
    _add_windows(group_of(parser, WINDOWS).add_argument)
    _add_outputs(group_of(parser, OUTPUTS).add_argument)
    _add_model(group_of(parser, CONFIGURATION).add_argument)
    add = group_of(parser, COMPUTING).add_argument
    add(
        "--batch_size",
        metavar="N",
        type=int | Auto,
        default="auto",
        help="Windows in a batch.",
    )
    add("--num_workers", metavar="N", type=int | Auto, default="auto",
        help="Threads that read ahead; auto depends on the device, cores and memory.")  # fmt: skip
    add_tf32(parser)
    for name in ("--published_result", "--name"):  # in the configuration of a run
        add(name, type=str | None, default=None, help=SUPPRESS)


# fmt: off
def _add_model(add: Any) -> None:
    add("--tta", type=Tta | None, default=None,
        help="d4: average eight flips and rotations of a window.")
    add("--calibrated", action="store_true",
        help="Use the temperature fitted by calibrate.")


def _add_reading(add: Any) -> None:
    add("scenes", nargs="*", type=str,
        help="Rasters, URLs, globs, HLS granules, .SAFE and other folders, STAC items; commas join the dates of one "
        "scene. Give scenes before options that take several values.")
    add("--aoi", metavar="AREA", type=str | None, default=None,
        help="Map only this area: a vector file, WKT, or left,bottom,right,top in degrees.")
    add("--bands", metavar="BAND", type=str, nargs="+", default=[],
        help="The band of the files for each band of the model, in the model's order: index from 1, or name.")
    add("--sensor", metavar="NAME", type=str | None, default=None,
        help=f"Naming scheme of the bands: {', '.join(SENSORS)}.")
    add("--format", metavar="NAME", type=str | None, default=None,
        help=f"Format of the scenes, {', '.join(get_args(SceneFormatName))} or a class path; by default any.")
    add("--modifier", metavar="PATH", type=str | None, default=None,
        help="Function that signs STAC items, such as planetary_computer.sign.")
    add("--scale", metavar="FACTOR", type=float | None, default=None,
        help="Factor from stored values to the unit of the statistics; by default the file's scale tag, or the "
        "factor of the training data.")
    add("--offset", metavar="VALUE", type=float, default=0.0, help="Value added after scaling.")
    add("--nodata", metavar="VALUE", type=float, nargs="+", default=[],
        help="Further stored values that mean nodata.")
    add("--nodata_rule", metavar="RULE", type=NodataRule | None, default=None,
        help="The map is nodata where all of the model's bands are nodata (all), where any of them is (any), or "
        "where any band of the file is (legacy).")
    add("--qa_mask", metavar="CLASS", type=QualityClass, nargs="+", default=[],
        help="Quality classes of Fmask or SCL that count as nodata: cloud (SCL 8, 9), cirrus (10), shadow (3), "
        "snow (11), water (6); adjacent (Fmask only).")
    add("--quality", metavar="FILE", type=str, nargs="+", default=[],
        help="SCL or Fmask file of the scene, one for each date.")
    add("--dates", metavar="DATE", type=str, nargs="+", default=[],
        help="YYYY-MM-DD for each date, if not in the files.")


def _add_windows(add: Any) -> None:
    add("--window", metavar="PIXELS", type=int | None, default=None,
        help="Side of a window; by default the model's.")
    add("--stride", metavar="PIXELS", type=int | None, default=None,
        help="Step between windows; by default half a window.")
    add("--blending", type=Blending, default="average",
        help="How overlapping windows are combined: mean of logits (average), mean weighted by a Hann window (hann), "
        "or only the centre of each window (crop).")


def _add_outputs(add: Any) -> None:
    add("--output", metavar="FOLDER", type=str, default="maps",
        help="Folder of all output files.")
    add("--profile", type=Profile, default="cog", help="cog, or legacy (hls-foundation-os).")
    add("--probabilities", metavar="TYPE", type=ProbabilityType | None, default=None,
        help="Also write NAME_probabilities.tif, a band per class: 0 to 250 (uint8), or floats.")
    add("--confidence", action="store_true", help="Also write NAME_confidence.tif.")
    add("--vector", metavar="CLASS", type=str, nargs="+", default=[],
        help="Classes to write as polygons to NAME_pred.gpkg.")
    add("--vector_formats", metavar="FORMAT", type=VectorFormat, nargs="+", default=["gpkg"],
        help="gpkg, parquet (GeoParquet), or both.")
    add("--min_area", metavar="M2", type=float, default=0.0, help="Leave out smaller polygons.")
    add("--fill_holes", metavar="M2", type=float, default=0.0, help="Fill smaller holes of polygons.")
    add("--simplify", metavar="METRES", type=float, default=0.0,
        help="Simplify outlines, by a shift of at most this distance.")
    add("--quicklook", action="store_true", help="Also write NAME_pred.png.")
    add("--products", metavar="NAME", type=str, nargs="+", default=[],
        help="Also make these products: entropy, margin, std, or class paths such as my_module.MyProduct.")
    add("--overwrite", action="store_true", help="Replace existing maps.")
    add("--skip_existing", action="store_true", help="Skip scenes that already have a map.")
