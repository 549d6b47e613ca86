"""``prithvi-tg check``: check data, weights and configuration before training."""

import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from rich.markup import escape
from rich.table import Table

from ..checks import Finding, check_chips, check_scenes
from ..cli.lightning import PrithviCLI
from ..datamodules import ChipDataModule, LabelledScenesDataModule
from ..datamodules.validation import has_validation
from ..datasets.chips.chip_files import leaving_out_incomplete
from ..errors import ConfigError, counted, own_error
from ..reporting.tables import as_text
from ..targets import Target
from ..tasks import PrithviTask
from ..tasks.advice import training_advice, window_advice
from ..tasks.monitoring import unknown_monitors
from ..tasks.scored import ScoredTask
from .data_parser import data_parser, parse_data
from .stats import create_data

_MARKS = {"ok": "ok", "advice": "[yellow]advice[/yellow]", "error": "[red]error[/red]"}


class _Built(PrithviCLI):
    """Creates the objects of ``fit`` without training."""

    def fit(self, **_: Any) -> None:
        """Does nothing; replaces the method of the trainer."""

    def after_fit(self) -> None:
        """Does nothing: there is no checkpoint to score."""


def run(arguments: list[str]) -> int:
    """Check a configuration, print a table, and return 1 if there is an error."""
    parser = data_parser("check")
    config = parse_data(parser, arguments)
    findings: list[Finding] = []
    with warnings.catch_warnings(), leaving_out_incomplete():
        warnings.filterwarnings(
            "ignore",
            message=".*in both train and|.*are not aligned with those of|split: .* in no split, as dates",
        )  # the table shows it
        try:
            data, no_statistics = create_data(parser, config)  # the run itself reports missing ones
            findings += [
                one for one in _check_data(data) if not (no_statistics and "band means" in one.message)
            ]
        except Exception as error:
            if (ours := own_error(error)) is None:
                raise
            findings.append(Finding.of_error("data", ours))
        known = {one.message for one in findings}
        findings += [one for one in _check_run(arguments) if one.message not in known]
    table = Table(title="check", show_lines=False)
    table.add_column("")
    for column in ("subject", "finding", "advice"):
        table.add_column(column, overflow="fold")
    for one in sorted(findings, key=lambda one: list(_MARKS).index(one.severity)):
        table.add_row(_MARKS[one.severity], *map(escape, (one.subject, one.message, one.advice)))
    print(as_text(table))
    errors = sum(one.severity == "error" for one in findings)
    print(f"{counted(errors, 'error')}." if errors else "No errors.")
    return 1 if errors else 0


def _check_data(data: Any) -> Iterator[Finding]:
    if isinstance(data, ChipDataModule):
        yield from check_chips(data)
    elif isinstance(data, LabelledScenesDataModule):
        yield from check_scenes(data)
    else:
        yield Finding(
            "advice", "data", f"{type(data).__name__}: not a data module of this package; not checked"
        )


def _check_run(arguments: list[str]) -> Iterator[Finding]:
    try:
        built = _Built.run_command(["fit", *arguments])
    except Exception as error:
        if (ours := own_error(error)) is None:
            raise
        yield Finding.of_error("configuration", ours)
        return
    parameters = sum(parameter.numel() for parameter in built.model.parameters())
    weights = "random weights" if getattr(built.model, "weights", None) is None else "the weights match"
    yield Finding("ok", "model", f"{parameters / 1e6:.1f} million parameters; {weights}")
    yield from _check_training(built)
    folder = Path(built.trainer.default_root_dir)
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    yield _check_disk(folder, parameters, shutil.disk_usage(existing).free)
    device = built.trainer.strategy.root_device
    if device.type == "cpu" and torch.cuda.is_available():
        yield Finding("advice", "device", "cpu, although a GPU is available", "set trainer.accelerator: gpu")
    elif device.type == "cpu" and parameters > 50e6:
        yield Finding(
            "advice", "device", "cpu: one training step of a model of this size takes seconds",
            "set trainer.precision: bf16-mixed, or use a GPU",
        )  # fmt: skip
    else:
        yield Finding("ok", "device", str(device))


def _check_training(built: PrithviCLI) -> Iterator[Finding]:
    if not (
        isinstance(built.model, PrithviTask)
        and isinstance(built.datamodule, ChipDataModule | LabelledScenesDataModule)
    ):
        return
    try:
        built.datamodule.setup("fit")
        batches = len(built.datamodule.train_dataloader())
    except Exception as error:
        if (ours := own_error(error)) is None:
            raise
        yield Finding.of_error("data", ours)
        return
    resumes = bool(built.config["fit"]["ckpt_path"])
    validates = has_validation(built.trainer, built.datamodule)
    steps, epochs = _planned_steps(built.trainer, batches)
    for line in (
        *window_advice(built.model, built.datamodule),
        *training_advice(built.model, steps, resumes, validates, epochs),
    ):
        setting, _, message = line.partition(": ")
        yield Finding("advice", setting, *message.split("; ", 1))
    if validates:
        yield from _check_monitors(built, built.datamodule.spec.target)


def _check_monitors(built: PrithviCLI, target: Target) -> Iterator[Finding]:
    """Monitored metrics that validation does not log; what users' classes log by themselves is not known."""
    model = built.model
    if isinstance(model, ScoredTask):
        is_learnt = target.kind == model.target_kind and target.names
        names = target.names if is_learnt else model.output_names  # of bands, if there are no labels
        callbacks = built.trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
        for message in unknown_monitors(model, callbacks, names):
            yield Finding.of_error("configuration", ConfigError(message))


def _planned_steps(trainer: Trainer, batches: int) -> tuple[float, float]:
    """Optimiser steps and epochs of a training.

    Args:
        trainer: The trainer.
        batches: Batches of an epoch, of all processes.
    """
    limit = trainer.limit_train_batches
    batches = math.ceil(batches / trainer.world_size)
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
    in_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    steps = in_epoch * epochs
    steps = steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
    return steps, steps / max(1, in_epoch)


def _check_disk(folder: Path, parameters: int, free: int) -> Finding:
    """Check that checkpoints fit on the disk.

    Args:
        folder: Folder of runs.
        parameters: Number of parameters of the model.
        free: Free space in bytes.
    """
    # last.ckpt holds weights and two moments of the optimiser, best.ckpt weights. Old and new files exist at once.
    needed = 2 * 4 * parameters * (3 + 1)
    message = f"{free / 1e9:.1f} GB are free at {folder}; checkpoints need up to {needed / 1e9:.2g} GB"
    if free < needed:
        return Finding(
            "error", "disk", message, "free space, or set trainer.default_root_dir to another disk"
        )
    return Finding("ok", "disk", message)
