"""Callbacks for several processes: separate random numbers, equal gradients, and a common end."""

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.multiprocessing.spawn import ProcessException
from torch.nn.parallel import DistributedDataParallel

from .compat import ignore_in_ddp, num_averaged
from .errors import DataError, PrithviTGError

#: Seconds that a process waits to learn whether its error follows from that of another process.
_GRACE = 10.0
#: Seconds in which a process may finish its work after the end of its parent process.
_LAST_SECONDS = 30.0


class RankSeed(Callback):
    """Seed the random generators with seed + rank, so that each process draws its own augmentation and dropout.

    Lightning seeds all processes equally, as initial weights require. The generators of the first process, and the seed
    of samplers, do not change.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed, after the weights are initialised and before a checkpoint restores the generators."""
        if trainer.global_rank > 0:
            seed = (torch.initial_seed() + trainer.global_rank) % 2**32
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)


class TrainedParameters(Callback):
    """Average the gradients of all trained parameters, also of parameters that are unfrozen during training.

    `DistributedDataParallel` averages the parameters that require a gradient when it wraps the model, and fails if one
    of them gets no gradient. If the trained parameters change, the model is wrapped again before the next step. A
    module may name parameters that a step on a batch does not use: ``unused_parameters(batch)``.
    """

    def __init__(self) -> None:
        self._trained: list[str] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the parameters before each step, after all hooks that may unfreeze some."""
        self._trained = None
        if isinstance(trainer.strategy, DDPStrategy):
            # The strategy's own hook: it runs after those of all callbacks and of the module.
            hook = partial(self._update, trainer.strategy, pl_module)
            trainer.strategy.on_train_batch_start = hook  # type: ignore[method-assign]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the strategy as it was."""
        vars(trainer.strategy).pop("on_train_batch_start", None)

    def _update(self, strategy: DDPStrategy, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not isinstance(strategy.model, DistributedDataParallel):
            return
        names_unused = getattr(pl_module, "unused_parameters", None)
        unused: set[str] = set() if names_unused is None else names_unused(batch)
        trained = [
            name for name, one in pl_module.named_parameters() if one.requires_grad and name not in unused
        ]
        first = self._trained is None
        same = len(trained) == num_averaged(strategy.model) if first else trained == self._trained
        self._trained = trained
        if same or not trained:
            return
        ignore_in_ddp(pl_module, unused)
        strategy.model = pl_module
        gc.collect()  # the old wrapper removes its hooks from the parameters when it is deleted
        strategy.configure_ddp()


class EndTogether(Callback):
    """End all processes soon after one of them has failed, with its error."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """In a child process, watch for the end of the parent process."""
        if trainer.world_size > 1 and trainer.local_rank > 0:
            threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the child processes; before an error caused by another process is raised, wait for the end of that one.

        Raises:
            DataError: Another process failed before.
        """
        # With other strategies than ddp, PyTorch ends all processes and raises a ProcessException.
        ends = KeyboardInterrupt | SIGTERMException | ProcessException
        if trainer.world_size == 1 or isinstance(exception, ends):
            return
        # Only the first process of strategy "ddp" has child processes.
        started = getattr(trainer.strategy.launcher, "procs", [])
        first = isinstance(exception, PrithviTGError)  # other errors may be due to a closed connection
        failed = None if first else _wait_for_failure(started)
        for process in started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)  # inside a collective, Python handles no other signal
        if failed is not None:
            raise DataError(f"process {failed + 1} failed; its error is printed above") from exception


def _wait_for_failure(started: Sequence[Any]) -> int | None:
    """Number of the process that ended with an error; ``None`` if none does in time."""
    end = time.monotonic() + _GRACE
    while time.monotonic() < end:
        for number, process in enumerate(started):
            if process.poll():
                return number
        time.sleep(0.1)
    return None


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(2)
    time.sleep(_LAST_SECONDS)
    os._exit(1)  # the process may be inside a collective that never ends


def process_callbacks(present: Sequence[Callback]) -> list[Callback]:
    """The callbacks of this module that a trainer lacks."""
    kinds = (RankSeed, TrainedParameters, EndTogether)
    return [kind() for kind in kinds if not any(isinstance(one, kind) for one in present)]


def patient_group() -> Any:
    """Create a process group without a time limit, to wait for slower processes; must be called in all processes.

    It uses Gloo: its connections break when a process dies, so that the others detect this. ``None`` for one process.
    """
    if not torch.distributed.is_initialized():
        return None
    return torch.distributed.new_group(backend="gloo", timeout=timedelta(days=10_000))
