"""Options of ``prithvi-tg embed``."""

from argparse import ArgumentParser
from typing import Any, get_args

from ...bands import SENSORS
from ...choices import Blending, EmbeddingType, NodataRule, Precision, QualityClass
from ..parsers import number_or_auto


def add_embed_options(parser: ArgumentParser) -> None:
    """Add the options of ``embed``."""
    _add_encoder(parser.add_argument_group("encoder").add_argument)
    _add_reading(parser.add_argument_group("reading").add_argument)
    _add_windows(parser.add_argument_group("windows").add_argument)
    _add_outputs(parser.add_argument_group("outputs").add_argument)
    _add_computing(parser.add_argument_group("hardware and precision").add_argument)


# fmt: off
def _add_encoder(add: Any) -> None:
    add("--ckpt_path", help="a checkpoint of this package, for its encoder")
    add("--encoder", help="a published encoder instead: prithvi_eo_v2_300m, timm/resnet50.a1_in1k, "
        "torchgeo/ResNet50_Weights.SENTINEL2_ALL_MOCO")
    add("--weights", help="weights of --encoder: a path or hf://OWNER/REPOSITORY/FILE; by default the published ones")
    add("--num_frames", type=int, default=1, help="dates of a scene, with --encoder")
    add("--block", type=int, default=-1,
        help="block of a ViT or stage of a CNN whose output is written, counted from 0; negative values count from the "
        "end")
    add("--frame", type=int, help="date of the features, counted from 0; by default all dates, concatenated")


def _add_reading(add: Any) -> None:
    add("scene", help="a raster, an HLS granule, a .SAFE folder; commas join the dates of one scene")
    add("--aoi", metavar="AREA",
        help="write only this area, in any form that predict accepts")
    add("--bands", nargs="+", default=[], help="the band of the file for each band of the encoder: index or name")
    add("--sensor", choices=sorted(SENSORS), help="naming scheme of the bands")
    add("--format", help="format of the scene, or the class path of a SceneFormat; by default the first that matches")
    add("--modifier", metavar="PATH", help="function that signs STAC items")
    add("--scale", type=float, help="factor from stored values to the unit of the statistics")
    add("--offset", type=float, default=0.0, help="added after scaling")
    add("--nodata", type=float, nargs="+", default=[], help="stored values that mean nodata")
    add("--nodata_rule", choices=get_args(NodataRule), default="all", help="when a pixel is nodata")
    add("--qa_mask", choices=get_args(QualityClass), nargs="+", default=[],
        help="quality classes that count as nodata")
    add("--quality", nargs="+", default=[], help="SCL or Fmask file of the scene, one for each date")
    add("--dates", nargs="+", default=[], help="YYYY-MM-DD for each date")


def _add_windows(add: Any) -> None:
    add("--window", type=int, help="side of a window in pixels, a multiple of the patch or the largest stride")
    add("--stride", type=int, help="pixels from one window to the next, also a multiple of the patch or largest stride")
    add("--blending", choices=get_args(Blending), default="average", help="how overlapping windows are combined")


def _add_outputs(add: Any) -> None:
    add("--output", required=True, help="the raster to write, *.tif")
    add("--dtype", choices=get_args(EmbeddingType), default="float16",
        help="how features are stored; int8 has a scale per band")
    add("--points", help="also write this GeoParquet file: one point per patch with its features")
    add("--quicklook", action="store_true", help="also write a .png of the first three principal components")
    add("--overwrite", action="store_true", help="replace existing files")


def _add_computing(add: Any) -> None:
    add("--batch_size", type=number_or_auto, default="auto", help="windows in a batch; auto depends on the device")
    add("--num_workers", type=number_or_auto, default="auto",
        help="threads that read ahead; auto depends on the device, cores and memory")
    # The second names are those of predict.
    add("--precision", "--trainer.precision", choices=get_args(Precision), default="32-true",
        help="precision of the encoder")
    add("--tf32", nargs="?", type=_true_or_false, const=True, default=False, metavar="true",
        help="use TF32 on CUDA")
    add("--device", "--trainer.accelerator",
        help="device of the encoder: cpu, cuda or gpu, cuda:1; by default a GPU if there is one")


def _true_or_false(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ValueError
    return word.lower() == "true"
