"""Maps of scenes, written while Lightning predicts."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..errors import DataError
from ..files import shown
from ..mapping.map_run import MapRun
from ..mapping.progress import MapProgress
from ..mapping.scene_map import SceneResult
from ..mapping.window_stream import ReadEvents
from ..processes import patient_group
from ..reporting.tables import as_text, map_table
from .progress import throughput

_log = logging.getLogger(__name__)


class MapWriter(Callback):
    """Write maps of the scenes of `Trainer.predict`, and show the result of each.

    Scenes are distributed over the trainer's processes; the trainer's data module is a `SceneDataModule`.

    Args:
        run: The maps.
        folder: Folder for the index of all maps.
        raises: Raise an error at the end if a scene failed.

    Attributes:
        results: Result of each scene; with ``ddp_spawn`` and ``ddp_fork``, only in the processes that map.
    """

    def __init__(self, run: MapRun, folder: Path, raises: bool = False) -> None:
        self.run = run
        self.folder = folder
        self.raises = raises
        self.results: list[SceneResult] = []
        self._group: Any = None
        self._windows = 0  # that this run computed; a resumed map has more
        self._began = time.perf_counter()
        self._reported: set[str] = set()
        self._progress: MapProgress | None = None  # without a progress bar

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Resume the maps of an earlier run; one process checks the files and shares the result."""
        self._group = patient_group()
        self._began = time.perf_counter()
        pending = self.run.prepare() if trainer.is_global_zero else None
        prepared = [(pending, {name: m.error for name, m in self.run.maps.items()})]
        if self._group is not None:  # the first process may have to finish large maps
            torch.distributed.broadcast_object_list(prepared, src=0, group=self._group)
        pending, failed = prepared[0]
        for name, error in failed.items():
            if error is not None:
                self.run.maps[name].error = error
        self._reported = self.run.failed
        scenes: Any = getattr(trainer, "datamodule", None)
        scenes.select_strips(pending)
        if trainer.is_global_zero:
            for one in self.run.maps.values():
                _log.info(f"{one.scene.name}: {one.scene.origin}")
            for result in self.run.unreadable:
                self._log_failure(result.error)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the progress, unless a bar shows it."""
        if trainer.progress_bar_callback is None:
            stream: Any = trainer.predict_dataloaders
            self._progress = MapProgress(
                self.run, stream.strip_ranges, trainer.world_size, trainer.is_global_zero
            )

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Blend a batch of windows, and write completed rows.

        Raises:
            SIGTERMException: The process has received SIGTERM; Lightning checks this only in other loops.
        """
        self._update(trainer, batch["events"], outputs, batch.get("core_window"))
        if trainer.received_sigterm:
            raise SIGTERMException

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Process the reading events after the last window, and wait until all rows are written."""
        stream: Any = trainer.predict_dataloaders
        self._update(trainer, stream.trailing_events, None, None)
        self.run.wait()
        self._report_failures(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the writing threads; after a signal, log what remains to resume from."""
        self.run.close()
        if isinstance(exception, KeyboardInterrupt | SIGTERMException) and trainer.is_global_zero:
            _log.error(self.run.interruption())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gather the errors of all processes, write the index of all maps and show the result of each scene.

        Raises:
            DataError: A scene failed, with `raises`.
        """
        errors = {name: one.error for name, one in self.run.maps.items() if one.error is not None}
        if self._group is not None:  # others may have much more to map
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, (errors, self._windows), group=self._group)
            torch.distributed.destroy_process_group(self._group)
            self._group = None
            errors = {name: error for part, _ in gathered for name, error in part.items()}
            self._windows = sum(windows for _, windows in gathered)
        for name, error in errors.items():
            self.run.maps[name].error = error
        self.results = self.run.results()
        if trainer.is_global_zero:
            for path in self.run.write_indexes(self.folder):
                _log.info(f"Written: {shown(path)}")
            if self._is_single and self.results[0].error is not None:
                raise DataError(self.results[0].error)
            if self.results:
                _log.info(as_text(map_table(self.results)))
            if self._windows:
                _log.info(
                    f"Prediction: {throughput(self._windows, 'windows', time.perf_counter() - self._began)}"
                )
            self.run.clear()
            failed = [result for result in self.results if result.error is not None]
            if failed and self.raises:
                raise DataError(f"{len(failed)} of {len(self.results)} scenes failed: {failed[0].error}")

    def _update(self, trainer: Trainer, read: ReadEvents, logits: Any, core_window: Any) -> None:
        self._windows += len(read.windows)
        if self._progress is not None:
            self._progress.update(read)
        self.run.update(read, logits, core_window)
        self._report_failures(trainer)

    @property
    def _is_single(self) -> bool:
        """Whether the error at the end is that of the only scene."""
        return self.raises and len(self.run.maps) + len(self.run.unreadable) == 1

    def _log_failure(self, error: str | None) -> None:
        if not self._is_single:
            _log.error(f"Failed: {error}")

    def _report_failures(self, trainer: Trainer) -> None:
        """Log new failures, and stop reading these scenes."""
        stream: Any = trainer.predict_dataloaders
        for name in self.run.failed - self._reported:
            stream.discard(name)
            self._log_failure(self.run.maps[name].error)
        self._reported |= self.run.failed
