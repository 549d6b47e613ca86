"""Writing the predicted classes of chips."""

import logging
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..files import shown
from ..mapping.chip_classes import ChipClassRun
from ..mapping.progress import ProgressClock
from ..reporting.chips import gather
from .progress import throughput

_log = logging.getLogger(__name__)


class ChipClassWriter(Callback):
    """Write the table of chips, or the maps of scenes, of `Trainer.predict`.

    Args:
        run: The chips or scenes, and their probabilities.
    """

    def __init__(self, run: ChipClassRun) -> None:
        self.run = run
        self._began = time.perf_counter()
        self._clock = ProgressClock()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()
        self._clock = ProgressClock()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Accumulate the probabilities of a batch, and log the progress unless a bar shows it.

        Raises:
            SIGTERMException: The process has received SIGTERM; Lightning checks this only in other loops.
        """
        self.run.update(batch, outputs)
        done, total = batch_idx + 1, trainer.num_predict_batches[dataloader_idx]
        has_bar = trainer.progress_bar_callback is not None
        if trainer.is_global_zero and not has_bar and self._clock.is_due(done / total):
            _log.info(
                f"{done} of {total} batches, {100 * done / total:.0f} %, {self._clock.left(done / total)}"
            )
        if trainer.received_sigterm:
            raise SIGTERMException

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """After a signal, log that nothing is written."""
        if isinstance(exception, KeyboardInterrupt | SIGTERMException) and trainer.is_global_zero:
            _log.error("Interrupted; no files are written; repeat the command to start again.")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gather the windows of all processes, including processes without any, and write the files."""
        for part in gather(self.run.probabilities):
            self.run.probabilities |= part
        if trainer.is_global_zero:
            for path in self.run.existing:
                _log.info(f"Skipped, because it exists: {shown(path)}")
            for path in self.run.write():
                _log.info(f"Written: {shown(path)}")
            if count := sum(row is not None for row in self.run.probabilities.values()):
                _log.info(f"Prediction: {throughput(count, 'windows', time.perf_counter() - self._began)}")
