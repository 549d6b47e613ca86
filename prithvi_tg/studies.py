"""Studies: many training runs in parallel processes, which can be resumed; for comparisons over seeds."""

import argparse
import fcntl
import json
import logging
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from .errors import ConfigError, DataError
from .files import write_json

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A training run and its test.

    Attributes:
        name: Name of its folder; a ``/`` separates nested folders.
        labels: Its columns in the table of results: ``{"method": "frozen", "seed": "0"}``.
        arguments: Arguments of both ``prithvi-tg fit`` and ``prithvi-tg test``, including ``--config``.
        python_path: Folder with modules of the configuration.
    """

    name: str
    labels: dict[str, str]
    arguments: tuple[str, ...]
    python_path: str = ""


def study_parser(description: str, output: Path) -> argparse.ArgumentParser:
    """A parser with the common arguments of studies.

    Args:
        description: Description of the study.
        output: Default output folder.
    """
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", help="random seeds (default: 0 1 2)")
    add("--processes", type=int, default=1, help="number of parallel runs; each uses its own GPU, if any")
    add("--devices", type=int, default=1, help="number of GPUs of a run")
    add("--shard", metavar="I/N", default="0/1", help="run part I of N, for one task of a job array")
    add("--output", type=Path, default=output, help="folder for runs and results (default: %(default)s)")
    add("--small", action="store_true", help="a small study on synthetic chips: minutes on two cores")
    add("rest", nargs="*", help="further arguments for every run, after --")
    return parser


def shard(jobs: Sequence[Job], part: str) -> list[Job]:
    """The jobs of one part, such as ``0/4``, the first of four; for the tasks of a SLURM array.

    Raises:
        ConfigError: The part is not of this form.
    """
    number, _, count = part.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise ConfigError(f"shard: {part!r} must be I/N with I from 0 to N - 1, such as 0/4")
    return list(jobs[int(number) :: int(count)])


def run_jobs(jobs: Sequence[Job], folder: Path, processes: int = 1, devices: int = 1) -> pd.DataFrame:
    """Train and test every job that is not complete.

    An interrupted job is resumed from its last checkpoint. Complete jobs are skipped, so jobs with other arguments
    need another folder. Processes share the cores; with GPUs, each job has its own. Several machines can run the same
    jobs in one folder: each job is locked by the process that runs it, and others skip it.

    Args:
        jobs: The jobs.
        folder: Folder for the jobs' folders, each with ``fit``, ``test`` and ``log.txt``.
        processes: Number of parallel jobs.
        devices: Number of GPUs of a job.

    Returns:
        A row per complete job: its labels, and every score of its test, ``mIoU``, ``IoU/Water`` and so on.

    Raises:
        ConfigError: Two jobs have one name, or a folder belongs to a job with other arguments.
        DataError: A job failed; the others are finished first.
    """
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        raise ConfigError(f"jobs: {max(names, key=names.count)} is given more than once")
    slots: queue.Queue[int] = queue.Queue()
    for slot in range(processes):
        slots.put(slot)

    def run(job: Job) -> str | None:
        slot = slots.get()
        try:
            with locked(folder / job.name) as lock:
                if lock is None:
                    _log.info(f"Skipped: {job.name} is running in another process")
                    return None
                return _run(job, folder / job.name, _environment(job, slot, processes, devices), lock)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(processes) as pool:
        failed = [line for line in pool.map(run, jobs) if line is not None]
    if failed:
        raise DataError(f"{len(failed)} of {len(jobs)} jobs failed; {failed[0]}")
    return completed(jobs, folder)


def completed(jobs: Sequence[Job], folder: Path) -> pd.DataFrame:
    """The rows of `run_jobs` of those jobs that are complete.

    Args:
        jobs: The jobs.
        folder: Folder for the jobs' folders.
    """
    done = [job for job in jobs if _last_record(folder / job.name / "test") is not None]
    return pd.DataFrame([{**job.labels, **scores(folder / job.name / "test")} for job in done])


def run_study(jobs: Sequence[Job], options: argparse.Namespace) -> pd.DataFrame:
    """Run the jobs of a part of a study, and collect the scores of all its jobs that are complete.

    Args:
        jobs: All jobs of the study.
        options: The options of `study_parser`.

    Raises:
        ConfigError: See `run_jobs` and `shard`.
        DataError: A job failed.
    """
    runs = options.output / "runs"
    run_jobs(shard(jobs, options.shard), runs, options.processes, options.devices)
    return completed(jobs, runs)


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Lock a folder for this process and those that inherit the lock; released when all of them end.

    Yields:
        The descriptor of the lock, or ``None`` if another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield descriptor
    finally:
        os.close(descriptor)


def _environment(job: Job, slot: int, processes: int, devices: int) -> dict[str, str]:
    """The environment of a job: its share of the cores and its GPUs, of those that this process may use."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    if count := torch.cuda.device_count():
        visible = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word]
        visible = visible or [str(number) for number in range(count)]
        chosen = [visible[(slot * devices + number) % len(visible)] for number in range(devices)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(chosen))
    if job.python_path:
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (job.python_path, environment.get("PYTHONPATH")))
        )
    return environment


def scores(folder: Path) -> dict[str, float]:
    """Scores of the last run in a folder; those of a class have names such as ``IoU/Water``.

    The names of a further test split start with it: ``bolivia/mIoU``, ``bolivia/IoU/Water``.

    Raises:
        DataError: No run was scored.
    """
    record = _last_record(folder)
    if record is None:
        raise DataError(f"{folder}: contains no version_N with metrics.json")
    known: dict[str, Any] = {}
    for start, part in {"": record, **record.get("further_splits", {})}.items():
        prefix = f"{start}/" if start else ""
        known |= {f"{prefix}{name}": value for name, value in part["overall"].items()}
        known |= {
            f"{prefix}{metric}/{name}": value
            for name, values in part["per_class"].items()
            for metric, value in values.items()
            if metric != "labelled_pixels"
        }
    return {name: float("nan") if value is None else float(value) for name, value in known.items()}


def summary(table: pd.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Mean and sample standard deviation (NaN for one run) of metrics, and the number of runs, per case.

    Args:
        table: The result of `run_jobs`.
        by: Columns that define a case.
        metrics: Columns of scores.

    Returns:
        Columns of `by`, ``runs``, and ``METRIC mean`` and ``METRIC std`` for each, cases in the order of the table.
    """
    groups = table.groupby(list(by), sort=False)
    columns = {"runs": groups.size()}
    for metric in metrics:
        columns[f"{metric} mean"] = groups[metric].mean()
        columns[f"{metric} std"] = groups[metric].std()
    return pd.DataFrame(columns).reset_index()


def markdown(table: pd.DataFrame, digits: int = 2) -> str:
    """A table in Markdown; scores in per cent."""
    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    for row in table.itertuples(index=False):
        cells = [_cell(value, digits) for value in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Any, digits: int) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if value != value else f"{100 * value:.{digits}f}"


def _run(job: Job, folder: Path, environment: dict[str, str], lock: int) -> str | None:
    _claim(job, folder)
    if _last_record(folder / "test") is not None:
        return None

    def command(name: str, *words: str) -> bool:
        with (folder / "log.txt").open("a") as log:
            done = subprocess.run(
                [sys.executable, "-m", "prithvi_tg", name, *job.arguments, *words,
                 "--trainer.default_root_dir", str(folder / name), "--trainer.enable_progress_bar=false"],
                stdout=log, stderr=log, env=environment, check=False, pass_fds=(lock,),
            )  # fmt: skip
        return done.returncode == 0

    trained = _last_record(folder / "fit")
    if trained is None:
        stopped = sorted(
            folder.glob("fit/version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime
        )
        if not command("fit", *(["--ckpt_path", str(stopped[-1])] if stopped else [])):
            return f"see {folder / 'log.txt'}"
        trained = _last_record(folder / "fit")
        if trained is None:
            return f"{folder / 'fit'}: no validation ran, so nothing was scored"
    if not command("test", "--ckpt_path", trained["run"]["checkpoint"]):
        return f"see {folder / 'log.txt'}"
    _log.info(f"Done: {job.name}")
    return None


def _claim(job: Job, folder: Path) -> None:
    """Write the arguments of a job to its folder, or check that an existing folder has the same arguments."""
    path = folder / "arguments.json"
    if not path.exists():
        write_json(path, job.arguments)
    elif json.loads(path.read_text()) != list(job.arguments):
        raise ConfigError(
            f"{path}: written by a run with other arguments; remove {folder}, or name another folder"
        )


def _last_record(folder: Path) -> dict[str, Any] | None:
    found = sorted(folder.glob("version_*/metrics.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(found[-1].read_text()) if found else None
