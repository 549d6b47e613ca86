"""The three published results of hls-foundation-os, trained anew with several seeds, and the differences from them.

    python experiments/seed_reproduction/run.py
    python experiments/seed_reproduction/run.py --small

Run again, it goes on where it stopped. Further words after ``--`` go to every run.
"""

import itertools
from pathlib import Path

import pandas as pd
import torch
import yaml
from matplotlib.figure import Figure

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.cli.messages import shown_messages
from prithvi_tg.datasets.synthetic import LAYOUTS
from prithvi_tg.reporting.published import PUBLISHED
from prithvi_tg.studies import Job, markdown, run_study, study_parser, summary

HERE = Path(__file__).parent
CONFIGS = Path("configs")
#: Configuration, and the layout of its data.
RESULTS = {
    "sen1floods11": "sen1floods11",
    "burn_scars": "hls_burn_scars",
    "multi_temporal_crop": "multi_temporal_crop",
}


def main() -> None:
    """Run what is missing, then write table and figure."""
    parser = study_parser(__doc__.split("\n")[0], HERE / "output")
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder with the three datasets' folders"
    )
    parser.add_argument("--results", nargs="+", choices=RESULTS, default=list(RESULTS))
    options = parser.parse_args()
    seeds = options.seeds or ([0, 1] if options.small else [0, 1, 2])
    jobs = []
    for result, seed in itertools.product(options.results, seeds):
        words = ["--config", str(CONFIGS / f"{result}.yaml"), f"--seed_everything={seed}"]
        words += (
            small(result, options.output)
            if options.small
            else [f"--data.root={options.data / RESULTS[result]}"]
        )
        labels = {"result": result, "seed": str(seed)}
        jobs.append(Job(f"{result}/seed_{seed}", labels, (*words, *options.rest)))
    with shown_messages():
        table = run_study(jobs, options)
    table.to_csv(options.output / "results.csv", index=False)
    differences = difference(table)
    (options.output / "results.md").write_text(markdown(differences))
    draw(differences).savefig(options.output / "seed_reproduction.png", dpi=110)
    print(markdown(differences), end="")
    print(f"Written: {options.output / 'results.csv'}, results.md, seed_reproduction.png")


def difference(table: pd.DataFrame) -> pd.DataFrame:
    """A row per published metric: published, mean and deviation over seeds, and how far the mean is off."""
    rows = []
    for result, runs in table.groupby("result", sort=False):
        name = yaml.safe_load((CONFIGS / f"{result}.yaml").read_text())["published_result"]
        scores = PUBLISHED[name].scores
        means = summary(runs, ("result",), tuple(scores)).iloc[0]
        for metric, published in scores.items():
            mean = float(means[f"{metric} mean"])
            rows.append(
                {"result": result, "metric": metric, "seeds": int(means["runs"]), "published": published,
                 "mean": mean, "std": float(means[f"{metric} std"]), "difference": mean - published}
            )  # fmt: skip
    return pd.DataFrame(rows)


def draw(differences: pd.DataFrame) -> Figure:
    """Means and deviations beside what was published."""
    figure = Figure(figsize=(8, 0.45 * len(differences) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(differences))
    axes.errorbar(
        100 * differences["mean"],
        places,
        xerr=100 * differences["std"].fillna(0),
        fmt="o",
        capsize=3,
        label="here",
    )
    axes.plot(100 * differences["published"], places, "x", color="black", label="published")
    axes.set_yticks(places, [f"{row.result}: {row.metric}" for row in differences.itertuples()])
    axes.invert_yaxis()
    axes.set_xlabel("per cent")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def small(result: str, output: Path) -> list[str]:
    """Synthetic chips in the layout of a dataset; random weights stand in for the pre-trained ones."""
    layout = RESULTS[result]
    data, weights = output / "data" / layout, output / f"{result}.pt"
    if not data.exists():
        LAYOUTS[layout](data, chips=8, size=64)
    frames = {"num_frames": 3} if result == "multi_temporal_crop" else {}
    if not weights.exists():
        task = PrithviSegmentationTask(encoder="nano", num_classes=2, **frames)
        torch.save(task.model.encoder.state_dict(), weights)
    words = [
        f"--data.root={data}", "--data.batch_size=2", "--data.num_workers=0", "--data.crop_size=64",
        "--model.encoder=nano", "--model.encoder_args=null", f"--model.weights={weights}",
        "--model.truncate_depth=false", "--model.head_channels=16", "--model.window=64", "--model.warmup_steps=2",
        "--trainer.max_epochs=2",
        "--trainer.max_steps=-1", "--trainer.check_val_every_n_epoch=1", "--trainer.val_check_interval=1.0",
        "--trainer.accelerator=cpu",
    ]  # fmt: skip
    return [*words, f"--data.splits={data / 'splits.csv'}"] if layout == "sen1floods11" else words


if __name__ == "__main__":
    main()
