"""Trains and tests all models of the benchmark, and writes results.json, tables and the figure.

    python experiments/synthetic_benchmark/run.py --minutes 40 --processes 2
    python experiments/synthetic_benchmark/run.py --small

It needs no download. To resume, repeat the command: results that exist are not computed again.
"""

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmark_tasks import TASKS, write_splits
from chips import write_world
from networks import NETWORKS, train_and_test
from page import write_page
from pictures import draw_scenes
from pixels import PIXEL_MODELS, fit_and_test
from plan import FULL, SMALL, Plan, Run
from pretraining import checkpoint_path, pretrain

from prithvi_tg.files import write_json

HERE = Path(__file__).parent


def main() -> None:
    """Run what is missing within the time, then write results and page."""
    options = _options()
    plan = SMALL if options.small else FULL
    given = {key: tuple(value) for key in ("seeds", "sizes") if (value := getattr(options, key))}
    plan = replace(plan, **given)
    deadline = time.time() + 60 * options.minutes
    folder: Path = options.output
    with parallel_map(options.processes) as each:
        if time.time() < deadline:
            list(each(partial(_world, plan, folder), plan.seeds))
            list(each(partial(pretrain, plan, folder), range(plan.pretraining_seeds)))
        done = list(each(partial(execute, plan, folder, deadline), plan.runs()))
    missing = done.count(False)
    results = {
        "plan": asdict(plan),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__,
                    "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"},
        "pretraining": [
            json.loads(path.with_suffix(".json").read_text())
            for seed in range(plan.pretraining_seeds)
            if (path := checkpoint_path(plan, folder, seed)).exists()
        ],
        "runs": [json.loads(path.read_text()) for run in plan.runs() if (path := _path(folder, run)).exists()],
    }  # fmt: skip
    page = folder if options.small else HERE
    write_json(page / "results.json", results)
    write_page(results, page, page / "README.md")
    draw_scenes().savefig(page / "scenes.png", dpi=60)
    print(f"{len(done) - missing} of {len(done)} runs are complete")
    print(f"Written: {page}/results.json, README.md, scores.png, scenes.png")
    if missing:
        print(f"To compute the other {missing}, repeat the command.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add(
        "--minutes", type=float, default=float("inf"), help="start no run after this time (default: no limit)"
    )
    add("--processes", type=int, default=1, help="number of parallel runs (default: %(default)s)")
    add(
        "--output",
        type=Path,
        default=HERE / "output",
        help="folder for chips and runs (default: %(default)s)",
    )
    add("--seeds", type=int, nargs="+", help="worlds (default: 0 1 2 3 4)")
    add("--sizes", type=int, nargs="+", help="numbers of training chips (default: 50 200 800)")
    add("--small", action="store_true", help="a few steps of each kind of run, to try the program")
    return parser.parse_args()


@contextmanager
def parallel_map(count: int) -> Iterator[Callable[[Callable[..., Any], Iterable[Any]], Iterator[Any]]]:
    """A context with a ``map`` over `count` processes; over this one, if it is 1."""
    _one_thread()
    if count == 1:
        yield map
        return
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _one_thread)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)  # small networks gain little from more


def _world(plan: Plan, folder: Path, seed: int) -> Path:
    train = 16 + 3 * max(plan.sizes) // 2  # not every chip has labels for every task
    return write_world(folder / "data" / f"world_{seed}_{train}", seed, train, plan.test_scenes)


def _path(folder: Path, run: Run) -> Path:
    return folder / "runs" / f"{run.name}.json"


def execute(plan: Plan, folder: Path, deadline: float, run: Run) -> bool:
    """Train and test a model, unless its result exists or the time is over.

    Args:
        plan: Sizes of the benchmark.
        folder: Folder for chips and results.
        deadline: Time after which no run begins, in seconds since the epoch.
        run: The run.

    Returns:
        Whether the result exists.
    """
    task, path = TASKS[run.task], _path(folder, run)
    settings: dict[str, Any] = {}
    weights = checkpoint_path(plan, folder, run.seed % plan.pretraining_seeds)
    if run.model in NETWORKS:
        network = NETWORKS[run.model]
        settings = {"steps": plan.steps(run.size), "batch_size": plan.batch_size, "network": repr(network)}
        settings |= {"weights": weights.name} if network.pretrained else {}
    if path.exists() and json.loads(path.read_text())["settings"] == settings:
        return True
    if time.time() > deadline:
        return False
    world = _world(plan, folder, run.seed)
    splits = path.with_suffix(".csv")
    write_splits(splits, world, task, run.size)
    labels = {"labels": "noisy"} if run.labels == "noisy" else {}
    epochs = -(-plan.steps(run.size) * plan.batch_size // run.size)  # in one, as beginning one takes time
    data = task.data(
        world,
        splits,
        batch_size=plan.batch_size,
        test_split=task.shifts,
        crop_size=None,
        crops_per_chip=epochs,
        eval_batch_size=128,
        **labels,
    )
    if run.model in PIXEL_MODELS:
        result = fit_and_test(PIXEL_MODELS[run.model], task, data, run.seed)
    else:
        result = train_and_test(network, task, data, plan.steps(run.size), run.seed, weights)
    write_json(path, {**asdict(run), **result, "settings": settings})
    print(f"{run.name}: {task.score} {result['scores']['same']:.3f} ({result['seconds']} s)", flush=True)
    return True


if __name__ == "__main__":
    main()
