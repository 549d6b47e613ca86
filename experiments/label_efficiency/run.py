"""What pre-training is worth when labels are few.

    python experiments/label_efficiency/run.py
    python experiments/label_efficiency/run.py --small

Trains Prithvi fine-tuned, frozen and from scratch, and a U-Net, on fractions of a training set, with several seeds
each, and tests them all on the same test set. Run again, it goes on where it stopped. Further words after ``--`` go
to every run.
"""

import csv
import itertools
import random
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.cli.messages import shown_messages
from prithvi_tg.commands.data_parser import data_parser, parse_data
from prithvi_tg.datasets.synthetic import write_sen1floods11
from prithvi_tg.studies import Job, markdown, run_study, study_parser, summary

HERE = Path(__file__).parent
#: What each method changes in the recipe.
METHODS: dict[str, tuple[str, ...]] = {
    "fine-tuned": (),
    "frozen": ("--model.freeze_encoder=true",),
    "from scratch": ("--model.weights=null",),
    "U-Net": ("--model=unet.UNetTask", "--model.weights=null", "--model.lr=1e-3"),
}
METRICS = ("mIoU", "aAcc")


def main() -> None:
    """Run what is missing, then write table and figure."""
    parser = study_parser(__doc__.split("\n")[0], HERE / "output")
    parser.add_argument("--config", default="configs/sen1floods11.yaml", help="of a chip dataset")
    parser.add_argument("--root", default=None, help="folder of the data; by default the configuration's")
    parser.add_argument("--fractions", type=float, nargs="+", help="by default 0.05 0.1 0.25 0.5 1")
    options = parser.parse_args()
    fractions = options.fractions or ([0.1, 1.0] if options.small else [0.05, 0.1, 0.25, 0.5, 1.0])
    seeds = options.seeds or ([0, 1] if options.small else [0, 1, 2])
    common = ["--config", options.config]
    if options.small:
        common += small(options.output)
    elif options.root is not None:
        common += ["--data.root", options.root]
    splits = read_splits(common)
    jobs = []
    for method, fraction, seed in itertools.product(METHODS, fractions, seeds):
        subset = options.output / "splits" / f"fraction_{fraction}_seed_{seed}.csv"
        write_subset(subset, splits, fraction, seed)
        words = [
            *common,
            *METHODS[method],
            f"--data.splits={subset}",
            f"--seed_everything={seed}",
            *options.rest,
        ]
        labels = {"method": method, "fraction": str(fraction), "seed": str(seed)}
        name = f"{method.replace(' ', '_')}/fraction_{fraction}/seed_{seed}"
        jobs.append(Job(name, labels, tuple(words), str(HERE)))
    with shown_messages():
        table = run_study(jobs, options)
    table.to_csv(options.output / "results.csv", index=False)
    means = summary(table, ("method", "fraction"), METRICS)
    (options.output / "results.md").write_text(markdown(means))
    draw(means, len(splits["train"])).savefig(options.output / "label_efficiency.png", dpi=110)
    print(markdown(means), end="")
    print(f"Written: {options.output / 'results.csv'}, results.md, label_efficiency.png")


def read_splits(arguments: list[str]) -> dict[str, list[str]]:
    """Names of the chips of each split of a configuration."""
    parser = data_parser("stats")
    words = [word for word in arguments if not word.startswith(("--model", "--trainer"))]
    data = parser.instantiate_classes(parse_data(parser, words)).data
    return {split: [chip.name for chip in data.open_split(split).chips] for split in ("train", "val", "test")}


def write_subset(path: Path, splits: dict[str, list[str]], fraction: float, seed: int) -> None:
    """Split lists with a part of the training chips; a larger part holds the smaller ones of its seed."""
    shuffled = random.Random(seed).sample(splits["train"], len(splits["train"]))
    kept = shuffled[: max(1, round(fraction * len(shuffled)))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["chip", "split"])
        for split, chips in {**splits, "train": kept}.items():
            writer.writerows((chip, split) for chip in chips)


def small(output: Path) -> list[str]:
    """Synthetic chips, and a stand-in of pre-trained weights: random ones, so only the wiring is tried."""
    data, weights = output / "data", output / "weights.pt"
    if not data.exists():
        write_sen1floods11(data, chips=24, size=64)
    if not weights.exists():
        torch.save(PrithviSegmentationTask(encoder="nano", num_classes=2).model.encoder.state_dict(), weights)
    return [
        f"--data.root={data}", f"--data.splits={data / 'splits.csv'}", "--data.batch_size=1", "--data.num_workers=0",
        "--data.crop_size=64", "--model.encoder=nano", f"--model.weights={weights}", "--model.head_channels=16",
        "--model.window=64", "--model.warmup_steps=2", "--model.lr=1e-3", "--trainer.max_epochs=2",
        "--trainer.check_val_every_n_epoch=1", "--trainer.accelerator=cpu",
    ]  # fmt: skip


def draw(means: pd.DataFrame, chips: int) -> Figure:
    """mIoU over the number of training chips, a line per method."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for method, rows in means.groupby("method", sort=False):
        number = [max(1, round(float(fraction) * chips)) for fraction in rows["fraction"]]
        axes.errorbar(
            number, 100 * rows["mIoU mean"], 100 * rows["mIoU std"], label=method, marker="o", capsize=3
        )
    axes.set_xscale("log")
    axes.set_xlabel("training chips")
    axes.set_ylabel("mIoU of the test set, per cent")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


if __name__ == "__main__":
    main()
