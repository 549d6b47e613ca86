"""Tables and figure of the benchmark, from results.json."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmark_tasks import TASKS
from matplotlib.figure import Figure
from pixels import PIXEL_MODELS
from scipy.stats import t as student

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
SCRATCH, PRETRAINED = "ViT from scratch", "ViT pre-trained"
_COLORS = {
    "linear": "#999999",
    "random forest": "#444444",
    "U-Net": "#0072b2",
    SCRATCH: "#e69f00",
    PRETRAINED: "#d55e00",
}


def interval(values: Any) -> tuple[float, float, float]:
    """Mean, standard deviation, and half of the 95 per cent interval of the mean by Student's t.

    The last two are NaN for one value.
    """
    values = np.asarray(values, dtype=float)
    count = len(values)
    if count < 2:
        return float(values.mean()), float("nan"), float("nan")
    deviation = float(values.std(ddof=1))
    return float(values.mean()), deviation, float(student.ppf(0.975, count - 1)) * deviation / count**0.5


def score_table(results: dict[str, Any]) -> pd.DataFrame:
    """A row for each run and test set: task, model, size, labels, seed, shift, score."""
    rows = [
        {key: run[key] for key in ("task", "model", "size", "labels", "seed")}
        | {"shift": shift, "score": score}
        for run in results["runs"]
        for shift, score in run["scores"].items()
    ]
    return pd.DataFrame(rows)


def write_page(results: dict[str, Any], folder: Path, readme: Path) -> None:
    """Write ``scores.png`` to a folder, and the tables to a page.

    Args:
        results: Content of ``results.json``.
        folder: Folder for the figure.
        readme: The page. The text between `BEGIN` and `END` is replaced; a new page has only this text.
    """
    table = score_table(results)
    text = f"{BEGIN}\n{tables(table, results)}{END}\n"
    if readme.exists():
        before, _, rest = readme.read_text().partition(BEGIN)
        text = before + text + rest.partition(f"{END}\n")[2]
    readme.write_text(text)
    draw(table).savefig(folder / "scores.png", dpi=100)


def tables(table: pd.DataFrame, results: dict[str, Any]) -> str:
    """All tables in Markdown."""
    true = table[table["labels"] == "true"]
    sizes = sorted(true["size"].unique())
    parts = [answers(true[true["size"] == sizes[0]], sizes[0])]
    parts += [_scores(true[true["size"] == size], f"{size} labelled chips") for size in sizes]
    noisy = table[table["labels"] == "noisy"]
    if len(noisy):
        size = noisy["size"].iloc[0]
        parts.append(_scores(noisy, f"{size} chips with noisy labels of cover"))
    parts.append(_differences(true))
    parts.append(_costs(results))
    return "\n".join(parts)


def answers(table: pd.DataFrame, size: int) -> str:
    """What the smallest training sets say about pre-training, and where models of single pixels win.

    Args:
        table: Rows of `score_table` with true labels and one size.
        size: Number of training chips.
    """
    verdicts: dict[str, list[str]] = {"above": [], "below": [], "across": []}
    pixels_win = []
    for task in TASKS.values():
        for shift in task.shifts:
            gains = paired(table, task.name, shift, size)
            if len(gains) > 1:
                mean, _, half = interval(gains)
                side = "across" if abs(mean) <= half else ("above" if mean > 0 else "below")
                verdicts[side].append(f"{task.name}/{shift} {mean:+.3f}")
            chosen = table[(table["task"] == task.name) & (table["shift"] == shift)]
            means = chosen.groupby("model")["score"].mean()
            if len(means) and means.idxmax() in PIXEL_MODELS:
                pixels_win.append(f"{task.name}/{shift}")
    lines = [
        f"**Answers at {size} labelled chips**\n",
        "- The interval of the gain by pre-training lies above 0 in: " + _listed(verdicts["above"]),
        "- It lies below 0 in: " + _listed(verdicts["below"]),
        "- It includes 0, so the difference may be chance, in: " + _listed(verdicts["across"]),
        "- A model of single pixels has the best mean of all models in: " + _listed(pixels_win),
    ]
    return "\n".join(lines) + "\n"


def _listed(words: list[str]) -> str:
    return ", ".join(words) + "." if words else "none."


def _scores(table: pd.DataFrame, title: str) -> str:
    """Mean and interval of each model, task and test set; the best mean of a row is bold."""
    models = [model for model in _COLORS if model in set(table["model"])]
    lines = [
        f"**{title}**\n",
        "| task | test set | " + " | ".join(models) + " |",
        "|---|---|" + "---|" * len(models),
    ]
    for task in TASKS.values():
        for shift in task.shifts:
            chosen = table[(table["task"] == task.name) & (table["shift"] == shift)]
            found = {model: interval(part["score"]) for model, part in chosen.groupby("model")}
            best = max((mean for mean, _, _ in found.values()), default=0)
            cells = [_cell(found.get(model), best) for model in models]
            if found:
                lines.append(f"| {task.name} ({task.score}) | {shift} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(found: tuple[float, float, float] | None, best: float) -> str:
    if found is None:
        return "-"
    mean, _, half = found
    text = f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} ± {half:.3f}"
    return f"**{text}**" if mean == best else text


def _differences(table: pd.DataFrame) -> str:
    """Paired differences of pre-trained and random weights: the same chips, seeds and steps."""
    lines = [
        f"**{PRETRAINED} minus {SCRATCH}, paired by seed**\n",
        "| task | test set | chips | seeds | mean | standard deviation | 95 % interval | seeds with a gain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task in TASKS.values():
        for shift in task.shifts:
            for size in sorted(table["size"].unique()):
                gains = paired(table, task.name, shift, size)
                if len(gains):
                    mean, deviation, half = interval(gains)
                    bounds = "-" if np.isnan(half) else f"{mean - half:+.3f} to {mean + half:+.3f}"
                    spread = "-" if np.isnan(deviation) else f"{deviation:.3f}"
                    lines.append(
                        f"| {task.name} ({task.score}) | {shift} | {size} | {len(gains)} | {mean:+.3f} | {spread} | "
                        f"{bounds} | {int((gains > 0).sum())} of {len(gains)} |"
                    )
    return "\n".join(lines) + "\n"


def paired(
    table: pd.DataFrame, task: str, shift: str, size: int, one: str = PRETRAINED, other: str = SCRATCH
) -> pd.Series:
    """Differences of the scores of two models, for the seeds that both have."""
    chosen = table[(table["task"] == task) & (table["shift"] == shift) & (table["size"] == size)]
    wide = chosen.pivot_table(index="seed", columns="model", values="score")
    if not {one, other} <= set(wide.columns):
        return pd.Series(dtype=float)
    return (wide[one] - wide[other]).dropna()


def _costs(results: dict[str, Any]) -> str:
    """Training time of a run, and what pre-training took."""
    runs = pd.DataFrame([{key: run[key] for key in ("model", "size", "seconds")} for run in results["runs"]])
    means = runs.groupby(["model", "size"])["seconds"].mean().unstack()
    lines = [
        "**Seconds of training per run**\n",
        "| model | " + " | ".join(f"{size} chips" for size in means.columns) + " |",
        "|---|" + "---|" * len(means.columns),
    ]
    for model in (model for model in _COLORS if model in means.index):
        lines.append(f"| {model} | " + " | ".join(f"{value:.1f}" for value in means.loc[model]) + " |")
    for one in results["pretraining"]:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in one["scores"].items())
        lines.append(
            f"\nPre-training {one['seed']}: {one['steps']} steps of {one['batch_size']} out of {one['chips']} chips in "
            f"{one['seconds']:.0f} s; on masked patches of chips that it was not trained on: {scores}."
        )
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame) -> Figure:
    """Scores over the number of chips with intervals: a row for each task, a column for each test set."""
    true = table[table["labels"] == "true"]
    shifts = list(dict.fromkeys(shift for task in TASKS.values() for shift in task.shifts))
    figure = Figure(figsize=(3 * len(shifts), 2.6 * len(TASKS)), layout="constrained")
    axes = figure.subplots(len(TASKS), len(shifts), squeeze=False, sharey="row", sharex=True)
    sizes = sorted(true["size"].unique())
    for row, task in zip(axes, TASKS.values(), strict=True):
        row[0].set_ylabel(f"{task.name}: {task.score}")
        for panel, shift in zip(row, shifts, strict=True):
            panel.set_visible(shift in task.shifts)
            panel.set_title(shift)
            for place, (model, color) in enumerate(_COLORS.items()):
                chosen = true[
                    (true["task"] == task.name) & (true["shift"] == shift) & (true["model"] == model)
                ]
                groups = chosen.groupby("size")["score"]
                found = {size: interval(scores) for size, scores in groups}
                offset = 1.04 ** (place - 2)  # so that intervals do not hide one another
                panel.errorbar(
                    [size * offset for size in found], [mean for mean, _, _ in found.values()],
                    np.nan_to_num([half for _, _, half in found.values()]),
                    color=color, label=model, marker="o", markersize=3, capsize=2, linewidth=1.2,
                )  # fmt: skip
            panel.set_xscale("log")
            panel.set_xticks(sizes, [str(size) for size in sizes], minor=False)
            panel.minorticks_off()
            panel.grid(alpha=0.3)
            low = 0 if task.score != "R2" else -0.5
            panel.set_ylim(low, 1)
    figure.supxlabel("labelled training chips", fontsize="medium")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure
