"""Options of the commands that take no configuration and have few of them."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import get_args

from ...choices import Layout
from ..parsers import PlainParser


def add_report_options(parser: PlainParser) -> None:
    """Add the options of ``report``."""
    add = parser.add_argument
    # fmt: off
    add("runs", nargs="*", type=Path, metavar="RUN",
        help="folder of a run, such as runs/version_0; give runs before options. The others are compared with the "
        "first. With --areas, no run is needed")
    add("--names", nargs="+", default=[], help="name of each run")
    add("--maps", nargs="+", type=Path, default=[],
        help="maps to show, NAME_pred.tif, or folders of maps; maps of one scene move together")
    add("--scenes", nargs="+", default=[],
        help="the scene of each map, in any form that predict accepts; by default read from NAME_pred.json next "
        "to the map")
    add("--areas", nargs="+", type=Path, default=[], metavar="FILE.json",
        help="areas to show, as written by area estimate --output")
    add("--output", type=Path, default=None,
        help="file to write; by default report.html in the folder of the first run, or of the areas without a run")
    add("--title", default="", help="title of the page; by default data, model, command and date")
    add("--map_megabytes", type=float, default=8,
        help="maximum size of each map in the page; larger maps are shown at lower resolution (default: %(default)s)")
    add("--baseline", action="store_true",
        help="compare each run with a per-pixel linear model, fitted to the training split of its data; needs "
        "config.yaml in the run's folder, and the data")
    add("--overwrite", action="store_true", help="replace the page if it exists")
    # fmt: on
    parser.find_conflict = _run_is_lacking


def _run_is_lacking(options: Namespace) -> str | None:
    """What needs a run that is not given: the page itself, unless it shows areas, or an option."""
    if options.runs:
        return None
    if not options.areas:
        return "the following arguments are required: RUN, or --areas FILE.json alone"
    needed = [key for key in ("names", "maps", "scenes", "baseline") if getattr(options, key)]
    return f"--{needed[0]}: needs a run; name its folder first, such as runs/version_0" if needed else None


def add_export_options(parser: ArgumentParser) -> None:
    """Add the options of ``export``."""
    parser.add_argument("ckpt_path", help="a checkpoint of this package")
    parser.add_argument(
        "output",
        help="the file to write: MODEL.pt2 (torch.export) or MODEL.onnx, the whole model with normalisation; or "
        "WEIGHTS.safetensors. A STAC item, such as MODEL.pt2.json, is written beside it",
    )
    parser.add_argument(
        "--window",
        type=int,
        metavar="PIXELS",
        help="height and width of the images of .pt2 and .onnx; by default the window of the model; of a "
        "classifier, the size of its training chips; or 224",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the files if they exist")


def add_push_options(parser: ArgumentParser) -> None:
    """Add the options of ``push``."""
    add = parser.add_argument
    # fmt: off
    add("ckpt_path", help="a checkpoint of this package")
    add("repo", metavar="OWNER/REPOSITORY", help="repository of the Hugging Face hub; created if it does not exist")
    add("--formats", nargs="+", default=[], metavar="FORMAT", help="also add exported models: pt2, onnx")
    add("--metrics", type=Path, metavar="FILE",
        help="a metrics.json with scores of the checkpoint for the model card; by default that of its run")
    add("--license", metavar="NAME", help="licence of the weights, by its name on the hub, such as apache-2.0")
    add("--dataset", metavar="NAME", help="training data, by name or identifier on the hub")
    add("--base_model", metavar="NAME",
        help="model on the hub that was fine-tuned; by default that of the run's weights")
    add("--description", metavar="TEXT", help="what the model maps, for the model card")
    add("--private", action="store_true", help="create a private repository")
    add("--revision", metavar="BRANCH", help="branch to upload to; by default the main branch")
    add("--dry_run", type=Path, metavar="FOLDER", help="write the files to this folder instead of uploading them")
    # fmt: on


def add_sweep_options(parser: ArgumentParser) -> None:
    """Add the options of ``sweep``."""
    add = parser.add_argument
    # fmt: off
    add("space", type=Path, metavar="SPACE.yaml", help="keys and their ranges or choices")
    add("--trials", type=int, default=20, help="number of trials (default: %(default)s)")
    add("--metric", default="val_mIoU",
        help="column of metrics.csv to optimise; the best epoch counts (default: %(default)s)")
    add("--seed", type=int, default=0,
        help="seed of the sampler; give each process its own (default: %(default)s)")
    add("--output", type=Path, default=Path("sweep"), help="folder for trials and sweep.db")
    # fmt: on


def add_demo_options(parser: ArgumentParser) -> None:
    """Add the options of ``demo``."""
    add = parser.add_argument
    # fmt: off
    add("--output", type=Path, default=Path("demo"), metavar="FOLDER",
        help="output folder; must not exist unless --overwrite is given (default: %(default)s)")
    add("--epochs", type=int, metavar="N", help="number of epochs; by default that of configs/demo.yaml")
    add("--overwrite", action="store_true", help="replace data, runs, maps and report of an earlier demo")
    # fmt: on


def add_synthetic_options(parser: ArgumentParser) -> None:
    """Add the options of ``synthetic``."""
    add = parser.add_argument
    # fmt: off
    add("root", help="output folder; must be empty or not exist")
    add("--layout", choices=get_args(Layout), default="sen1floods11",
        help="layout of the dataset (default: %(default)s)")
    add("--chips", type=int, default=24, help="number of chips, at least 6 (default: %(default)s)")
    add("--size", type=int, default=256, help="side of a chip in pixels (default: %(default)s)")
    add("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    # fmt: on
