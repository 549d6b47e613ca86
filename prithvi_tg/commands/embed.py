"""``prithvi-tg embed``: write the features of an encoder for a scene as a raster with a band per feature."""

import argparse
from typing import get_args

import torch

from ..bands import SENSORS
from ..errors import ConfigError
from ..mapping import embed_scene, published_encoder
from ..mapping.embedding import Source, task_encoder
from ..mapping.loop import Precision
from ..mapping.products.embeddings import EmbeddingType
from ..mapping.resources import Auto
from ..readers.quality import QualityClass
from ..readers.scene import NodataRule
from ..tiling import Blending

#: Options that choose the encoder; all others are arguments of `embed_scene`.
_SOURCE = ("ckpt_path", "encoder", "weights", "num_frames", "window", "stride")


def run(arguments: list[str]) -> int:
    """Parse the arguments and write the raster."""
    options = vars(_parser().parse_args(arguments))
    source = _source(*(options.pop(key) for key in _SOURCE))
    for key in ("bands", "nodata", "quality", "dates", "qa_mask"):
        options[key] = tuple(options[key])
    embed_scene(source, options.pop("scene"), options.pop("output"), **options)
    return 0


def _source(
    ckpt_path: str | None,
    encoder: str | None,
    weights: str | None,
    num_frames: int,
    window: int | None,
    stride: int | None,
) -> Source:
    if (ckpt_path is None) == (encoder is None):
        raise ConfigError(
            "ckpt_path, encoder: give one of them: a checkpoint, or the name of a published encoder"
        )
    if encoder is not None:
        return published_encoder(encoder, weights, num_frames, window, stride)
    if weights is not None:
        raise ConfigError("weights: valid only with --encoder; a checkpoint contains its own weights")
    assert ckpt_path is not None
    return task_encoder(ckpt_path, window, stride)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prithvi-tg embed",
        description="Write the features of an encoder for a scene as a GeoTIFF with a band per feature. A pixel is a "
        "patch of a ViT, or as wide as the stride of a stage of another encoder.",
    )
    # fmt: off
    add = parser.add_argument
    add("scene", help="a raster, an HLS granule, a .SAFE folder; commas join the dates of one scene")
    add("--output", required=True, help="the raster to write, *.tif")
    add("--ckpt_path", help="a checkpoint of this package, for its encoder")
    add("--encoder", help="a published encoder instead: prithvi_eo_v2_300m, timm/resnet50.a1_in1k, "
        "torchgeo/ResNet50_Weights.SENTINEL2_ALL_MOCO")
    add("--weights", help="weights of --encoder: a path or hf://OWNER/REPOSITORY/FILE; by default the published ones")
    add("--num_frames", type=int, default=1, help="dates of a scene, with --encoder")
    add("--block", type=int, default=-1,
        help="block of a ViT or stage of a CNN whose output is written, counted from 0; negative from the end")
    add("--frame", type=int, help="date of the features, counted from 0; by default all dates, concatenated")
    add("--dtype", choices=get_args(EmbeddingType), default="float16",
        help="how features are stored; int8 has a scale per band")
    add("--points", help="also write this GeoParquet file: a point per patch with its features")
    add("--quicklook", action="store_true", help="also write a .png of the first three principal components")
    add("--window", type=int, help="side of a window in pixels, a multiple of the patch or the largest stride")
    add("--stride", type=int, help="pixels from one window to the next; a multiple as for --window")
    add("--blending", choices=get_args(Blending), default="average", help="how overlapping windows are combined")
    add("--bands", nargs="+", default=[], help="the band of the file for each band of the encoder: index or name")
    add("--sensor", choices=sorted(SENSORS), help="naming scheme of the bands")
    add("--format", help="format of the scene, or the class path of a SceneFormat; by default the first that matches")
    add("--scale", type=float, help="factor from stored values to the unit of the statistics")
    add("--offset", type=float, default=0.0, help="added after scaling")
    add("--nodata", type=float, nargs="+", default=[], help="stored values that mean nodata")
    add("--nodata_rule", choices=get_args(NodataRule), default="all", help="when a pixel is nodata")
    add("--qa_mask", choices=get_args(QualityClass), nargs="+", default=[],
        help="quality classes that count as nodata")
    add("--quality", nargs="+", default=[], help="SCL or Fmask file of the scene, one for each date")
    add("--dates", nargs="+", default=[], help="YYYY-MM-DD for each date")
    add("--batch_size", type=_number_or_auto, default="auto", help="windows in a batch; auto depends on the device")
    add("--num_workers", type=_number_or_auto, default="auto",
        help="threads that read ahead; auto depends on the device, cores and memory")
    add("--precision", choices=get_args(Precision), default="32-true", help="precision of the encoder")
    add("--tf32", action="store_true", help="use TF32 on CUDA")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device of the encoder")
    add("--overwrite", action="store_true", help="replace files that exist")
    # fmt: on
    return parser


def _number_or_auto(word: str) -> int | Auto:
    return "auto" if word == "auto" else int(word)
