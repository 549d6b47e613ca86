"""Published comparisons: burn scars, floods and crops x encoders x tunings x seeds, beside the published scores.

    python experiments/published/run.py --costs
    python experiments/published/run.py --processes 4
    python experiments/published/run.py --small

Repeat the command to resume. Several machines can run it in one folder at the same time. Arguments after ``--`` are
passed to every run.
"""

import argparse
import csv
import itertools
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import try_to_load_from_cache

from prithvi_tg.cli.messages import shown_messages
from prithvi_tg.datasets import ChipDataset, HLSBurnScars, MultiTemporalCropClassification, Sen1Floods11
from prithvi_tg.datasets.chips.split_lists import published_splits, read_splits
from prithvi_tg.datasets.download import SOURCES
from prithvi_tg.datasets.synthetic import LAYOUTS
from prithvi_tg.errors import PrithviTGError
from prithvi_tg.files import write_json
from prithvi_tg.hub import find_weights
from prithvi_tg.models import VARIANTS
from prithvi_tg.reporting.published import PUBLISHED, PublishedResult, compared_settings, why_not_comparable
from prithvi_tg.reporting.runs import read_settings, split_folder
from prithvi_tg.studies import Job, completed, markdown, run_study, study_parser

HERE = Path(__file__).parent
CONFIGS = Path("configs/published")


@dataclass(frozen=True)
class Data:
    """A dataset of the comparison.

    Attributes:
        folder: Folder of the data, below that of all datasets; also the layout of synthetic data.
        kind: Class of the dataset.
        present: Pattern of its images.
        download: What to download.
        size: Size of the download.
        chips: Chips for training and for validation.
        pixels: Side of a chip.
        frames: Dates of a chip.
        tests: Test set -> part of the name of its published results, if there are any.
    """

    folder: str
    kind: Callable[..., ChipDataset]
    present: str
    download: str
    size: str
    chips: tuple[int, int]
    pixels: int = 512
    frames: int = 1
    tests: dict[str, str | None] = field(default_factory=lambda: {"test": None})


DATA = {
    "burn_scars": Data(
        "hls_burn_scars", HLSBurnScars, "*/*_merged.tif", f"{SOURCES['hls_burn_scars']}, hls_burn_scars.tar.gz",
        "2.65 GB", (524, 160), tests={"test": "burn_scars"},
    ),
    "floods": Data(
        "sen1floods11", Sen1Floods11, f"{Sen1Floods11.folder}/S2Hand/*.tif",
        f"{SOURCES['sen1floods11']}, {Sen1Floods11.folder}/S2Hand and LabelHand",
        "892 files, at most 3.3 GB (not verified; computed from 446 chips without compression)", (252, 89),
        tests={"test": "floods", "bolivia": "floods_bolivia"},
    ),
    "crops": Data(
        "multi_temporal_crop", MultiTemporalCropClassification, "*_chips/*_merged.tif",
        f"{SOURCES['multi_temporal_crop']}, training_chips.tgz and validation_chips.tgz", "10.6 GB and 1.18 GB",
        (3083, 771), 224, 3,
    ),
}  # fmt: skip
#: Encoder -> size of the file of its weights on the hub.
ENCODERS = {"v1_100m": "454 MB", "v2_100m_tl": "455 MB", "v2_300m": "1.33 GB", "v2_600m": "2.64 GB"}
TUNINGS = ("linear_probe", "full", "lora", "unet")
#: The tuning that brings its own encoder, and its name in tables.
UNET, UNET_ENCODER = "unet", "resnet50"


def main() -> None:
    """Run what is missing, then write the table."""
    options = parse()
    jobs = list(create_jobs(options))
    if options.costs:
        print(markdown(costs(options)), end="")
        return
    if options.list:
        print("\n".join(shlex.join(["prithvi-tg", "fit", *job.arguments]) for job in jobs))
        return
    if options.download:
        download(options)
    needed = [] if options.small else list(missing(options))
    if needed:
        sys.exit("\n".join(["Missing; --download fetches all of it:", *needed]))
    failure = None
    with shown_messages():
        try:
            run_study(jobs, options)
        except PrithviTGError as error:
            failure = str(error)
        table = write_results(jobs, options.output)
    print(table, end="")
    print(f"{len(completed(jobs, options.output / 'runs'))} of {len(jobs)} runs are done.")
    print(f"Written: {options.output / 'results.md'}, results.json")
    if failure:
        sys.exit(f"error: {failure}")


def parse() -> argparse.Namespace:
    """The options."""
    parser = study_parser(__doc__.split("\n")[0], HERE / "output")
    add = parser.add_argument
    add("--data", type=Path, default=Path("data"), help="folder with the datasets' folders (default: data)")
    add("--datasets", nargs="+", choices=DATA)
    add("--encoders", nargs="+", choices=ENCODERS)
    add("--tunings", nargs="+", choices=TUNINGS)
    add("--head", choices=("patch_linear", "linear"), default="patch_linear",
        help="the decoder of the publication, or a 1 x 1 convolution of the tokens, upsampled")  # fmt: skip
    add("--download", action="store_true", help="download missing data and weights first")
    add("--costs", action="store_true", help="print the estimated GPU hours of each row, and exit")
    add("--list", action="store_true", help="print the command of each training, and exit")
    options = parser.parse_args()
    small = options.small
    options.seeds = options.seeds or ([0] if small else [0, 1, 2, 3, 4])
    options.datasets = options.datasets or (["burn_scars", "floods"] if small else list(DATA))
    options.tunings = options.tunings or (["linear_probe", "lora"] if small else list(TUNINGS))
    options.encoders = ["nano"] if small else options.encoders or list(ENCODERS)
    return options


def rows(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Data set, encoder and tuning of each row; the U-Net has its own encoder."""
    for name, tuning in itertools.product(options.datasets, options.tunings):
        for encoder in [UNET_ENCODER] if tuning == UNET else options.encoders:
            yield name, encoder, tuning


def published_result(data: str, split: str, encoder: str, tuning: str) -> tuple[str, PublishedResult] | None:
    """Name and content of the published result of a row; ``None`` if there is none."""
    name = f"peft_geofm/{DATA[data].tests.get(split)}/{encoder}/{tuning}"
    return (name, PUBLISHED[name]) if name in PUBLISHED else None


def create_jobs(options: argparse.Namespace) -> Iterator[Job]:
    """A job per row and seed."""
    for (data, encoder, tuning), seed in itertools.product(rows(options), options.seeds):
        model = ("nano" if options.small else None) if tuning == UNET else encoder
        files = ["base", data, *([model] if model else []), tuning]
        files += ["linear_head"] if options.head == "linear" and tuning != UNET else []
        words = [word for name in files for word in ("--config", str(CONFIGS / f"{name}.yaml"))]
        words.append(f"--seed_everything={seed}")
        found = published_result(data, "test", encoder, tuning)
        if found is not None and found[1].lr is not None:
            words.append(f"--model.lr={found[1].lr}")
        words += (
            small(data, tuning, options)
            if options.small
            else [f"--data.root={options.data / DATA[data].folder}"]
        )
        labels = {"data": data, "encoder": encoder, "tuning": tuning, "seed": str(seed)}
        name = f"{data}/{encoder}/{tuning}/seed_{seed}"
        yield Job(name, labels, (*words, *options.rest))


# Data and weights.


def missing(options: argparse.Namespace) -> Iterator[str]:
    """One line per dataset and encoder that is not on this machine: what to download, how large, and where to."""
    for name in options.datasets:
        data, root = DATA[name], options.data / DATA[name].folder
        if not any(root.glob(data.present)):
            yield f"- data of {name}: {data.download}; {data.size}; unpack into {root}"
    for encoder in [] if options.tunings == [UNET] else options.encoders:
        variant = VARIANTS[f"prithvi_eo_{encoder}"]
        assert variant.repo is not None
        assert variant.file is not None
        if not isinstance(try_to_load_from_cache(variant.repo, variant.file), str):
            yield (
                f"- weights of {encoder}: hf://{variant.repo}/{variant.file}; {ENCODERS[encoder]}; into the cache of "
                f"huggingface_hub: hf download {variant.repo} {variant.file}"
            )


def download(options: argparse.Namespace) -> None:
    """Download data and weights."""
    for name in options.datasets:
        DATA[name].kind(options.data / DATA[name].folder, download=True)
    for encoder in [] if options.tunings == [UNET] else options.encoders:
        find_weights(f"prithvi_eo_{encoder}")


def small(data: str, tuning: str, options: argparse.Namespace) -> list[str]:
    """Arguments of a run on synthetic chips in the published layout; writes the chips first."""
    root = options.output / "data" / DATA[data].folder
    if not root.exists():
        LAYOUTS[DATA[data].folder](root, chips=8, size=64)
        if data == "burn_scars":
            name_as_published(root)
    listed = [f"--data.splits={root / 'splits.csv'}"] if data != "crops" else []
    return [f"--data.root={root}", *listed]


def name_as_published(root: Path) -> None:
    """Give synthetic burn scars names of the published list, and write a list that has them by tile and date."""
    lists = read_splits(published_splits("hls_burn_scars_non_overlapping"))
    images = sorted(root.glob("*/*_merged.tif"))
    splits = ["train"] * (len(images) - 4) + ["val"] * 2 + ["test"] * 2
    with (root / "splits.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("chip", "split"))
        for number, (image, split) in enumerate(zip(images, splits, strict=True)):
            chip = lists[split][number]
            writer.writerow((chip, split))
            for kind in ("_merged", ".mask"):
                path = image.with_name(image.name.replace("_merged", kind))
                path.rename(path.with_name(f"subsetted_512x512_HLS.S30.{chip}.4{kind}.tif"))


# Results.


def write_results(jobs: list[Job], output: Path) -> str:
    """Write ``results.json`` and ``results.md``, and return the table."""
    found = compare(jobs, output / "runs")
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "results.json", found)
    table = markdown(pd.DataFrame([shown(row) for row in found])) if found else "No test is done yet.\n"
    (output / "results.md").write_text(table)
    return table


def compare(jobs: list[Job], runs: Path) -> list[dict[str, Any]]:
    """One record per row and test set: mean and deviation over seeds, the published score, and the difference."""
    table = completed(jobs, runs)
    if table.empty:
        return []
    found = []
    for (data, encoder, tuning), group in table.groupby(["data", "encoder", "tuning"], sort=False):
        for number, split in enumerate(DATA[data].tests):
            values = group[f"{split}/mIoU" if number else "mIoU"].dropna()
            record: dict[str, Any] = {
                "data": data, "test_set": split, "encoder": encoder, "tuning": tuning,
                "seeds": [int(seed) for seed in group["seed"]], "mIoU": values.tolist(), "mean": values.mean(),
                "std": values.std() if len(values) > 1 else None,
            }  # fmt: skip
            known = published_result(data, split, encoder, tuning)
            if known is not None:
                job = runs / data / encoder / tuning / f"seed_{group['seed'].iloc[0]}"
                record |= difference(*known, record["mean"], job, split if number else None)
            found.append(record)
    return found


def difference(
    name: str, result: PublishedResult, mean: float, job: Path, part: str | None
) -> dict[str, Any]:
    """The published score, and the difference if protocol and test set are the same; otherwise the reason."""
    published, std = result.scores["mIoU"], result.deviations.get("mIoU")
    record = {
        "published": {"name": name, "mIoU": published, "std": std, "runs": result.runs,
                      "source": result.protocol.reference, "protocol": result.protocol.description},
    }  # fmt: skip
    tested = split_folder(last_run(job / "test"), part)
    with (tested / "chips.csv").open(newline="") as file:
        chips = [row["chip"] for row in csv.DictReader(file)]
    classes = list(json.loads((tested / "metrics.json").read_text())["per_class"])
    settings = compared_settings(read_settings(last_run(job / "fit")))
    reason = why_not_comparable(name, chips, classes, settings)
    if reason is not None:
        return record | {"not_comparable": reason}
    return record | {"difference": mean - published, "difference_in_std": std and (mean - published) / std}


def last_run(folder: Path) -> Path:
    """The last run of a folder that was scored."""
    return max(folder.glob("version_*/metrics.json"), key=lambda path: path.stat().st_mtime).parent


def shown(record: dict[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    published = record.get("published", {})
    in_std = record.get("difference_in_std")
    return {
        "data": record["data"], "test set": record["test_set"], "encoder": record["encoder"],
        "tuning": record["tuning"], "seeds": len(record["seeds"]), "mIoU": record["mean"],
        "std": number(record["std"]), "published": number(published.get("mIoU")),
        "its std": number(published.get("std")), "difference": number(record.get("difference")),
        "in its std": "-" if in_std is None else f"{in_std:+.1f}",
        "protocol": published.get("source", "none published")
        if "not_comparable" not in record
        else record["not_comparable"].partition(": ")[2],
    }  # fmt: skip


def number(value: float | None) -> float:
    """A number for a table; NaN if it is not known."""
    return math.nan if value is None else value


# Costs.

#: Measured training samples per second on an H100 with windows of 224 pixels, in bfloat16: a U-Net decoder with batches
#: of 64, and UPerNet with batches of 32.
TRAINING = {"v1_100m": 1275.0, "v2_600m": 241.0}
#: Measured windows of 224 per second of v1 100M with a linear decoder in evaluation, bfloat16.
FORWARD = 6630.0
#: Work of a training step, as a share of that of full fine-tuning: forward, backward to inputs, backward to weights.
SHARE = {"full": 1.0, "lora": 2 / 3}
#: Time per epoch of the U-Net on burn scars, relative to v1 100M in full fine-tuning, from the publication's own times.
UNET_RATIO = (16.313 / 56.6) / (8.329 / 38.8)
#: Measured samples per second of the published decoder in training: float32 and bfloat16.
SLOWDOWN = 248 / 108


def work(encoder: str, pixels: int, frames: int) -> float:
    """Floating-point operations of the forward pass of an encoder on a chip."""
    variant = VARIANTS[f"prithvi_eo_{encoder}"]
    tokens = 1 + frames * math.ceil(pixels / variant.patch_size) ** 2
    return float(variant.depth * tokens * (24 * variant.width**2 + 4 * tokens * variant.width))


def seconds_per_chip(encoder: str, tuning: str, pixels: int, frames: int) -> tuple[float, float]:
    """Seconds of a training step and of an evaluation, per chip, in bfloat16 on an H100."""
    if tuning == UNET:
        training, scoring = seconds_per_chip("v1_100m", "full", pixels, frames)
        return UNET_RATIO * training, UNET_RATIO * scoring
    operations, reference = work(encoder, pixels, frames), work("v1_100m", 224, 1)
    scoring = operations / (FORWARD * reference)
    if tuning == "linear_probe":
        return scoring, scoring
    measured = encoder if encoder in TRAINING else "v1_100m"
    return SHARE[tuning] * operations / (TRAINING[measured] * work(measured, 224, 1)), scoring


def costs(options: argparse.Namespace) -> pd.DataFrame:
    """GPU hours per row; epochs are the published means, and the limit of 100 where none is published."""
    found = []
    for data, encoder, tuning in rows(options):
        known = published_result(data, "test", encoder, tuning)
        epochs = known[1].epochs if known is not None and known[1].epochs is not None else 100.0
        training, scoring = seconds_per_chip(encoder, tuning, DATA[data].pixels, DATA[data].frames)
        train, val = DATA[data].chips
        hours = epochs * (train * training + val * scoring) / 3600
        runs = len(options.seeds)
        found.append(
            {"data": data, "encoder": encoder, "tuning": tuning, "epochs": f"{epochs:g}",
             "training chips/s": f"{1 / training:.0f}", "hours per run, bf16": f"{hours:.2f}",
             "hours per run, float32": f"{SLOWDOWN * hours:.2f}",
             f"hours of {runs} seeds, float32": f"{runs * SLOWDOWN * hours:.1f}"}
        )  # fmt: skip
    return pd.DataFrame(found)


if __name__ == "__main__":
    main()
