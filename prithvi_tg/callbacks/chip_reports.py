"""Scores and pictures of single chips in a run's folder."""

import logging
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from ..files import shown
from ..reporting.chips import PICTURES, TABLE
from ..reporting.pictures import log_picture, rendered, takes_pictures
from ..reporting.results import RESULT_KINDS, ChipResults
from ..reporting.runs import split_folder
from ..tasks import PrithviTask
from ..tasks.scored import names_of_test_sets
from .records import run_folder

_log = logging.getLogger(__name__)


class ChipReport(Callback):
    """Write the scores of single chips, and pictures of some.

    After a test or validation, write ``chips.csv`` and pictures of the best and worst chips to the run's folder.
    During training, each validation draws the same few chips for loggers that accept pictures.

    Args:
        panels: Number of chips that each validation draws.
    """

    def __init__(self, panels: int = 2) -> None:
        self.panels = panels
        self._scores: list[ChipResults] = []  # of each test set
        self._seen = 0
        self._panels: list[dict[str, Any]] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the scores of an earlier epoch."""
        self._scores, self._panels, self._seen = [], [], 0
        if isinstance(pl_module, PrithviTask):
            sets = len(names_of_test_sets(trainer)) if trainer.testing else 1
            kind = RESULT_KINDS[pl_module.target_kind]
            self._scores = [kind.chips(pl_module) for _ in range(sets)]

    on_validation_epoch_start = on_test_epoch_start

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Accumulate the scores of a batch."""
        if not self._scores or not isinstance(outputs, dict) or "prediction" not in outputs:
            return
        prediction = outputs["prediction"]
        unnamed = [f"{trainer.global_rank}_{self._seen + k:06d}" for k in range(len(prediction))]
        self._seen += len(prediction)
        names = batch.get("name", unnamed)
        self._scores[min(dataloader_idx, len(self._scores) - 1)].update(names, batch, prediction)
        if trainer.state.fn == TrainerFn.FITTING:
            for number in range(min(len(names), self.panels - len(self._panels))):
                keys = ("image", "valid", "mask", "scored", "label")
                sample = {key: batch[key][number] for key in keys if key in batch}
                sample = {key: value.cpu() for key, value in sample.items()}
                self._panels.append(sample | {"prediction": prediction[number].cpu()})

    on_validation_batch_end = on_test_batch_end

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores of the chips of each test set."""
        self._write(trainer, names_of_test_sets(trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores of the validation set; during training, draw chips."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._write(trainer, ["val"])
        elif trainer.is_global_zero and not trainer.sanity_checking and self._scores:
            draws = [logger for logger in trainer.loggers if takes_pictures(logger)]
            for number, sample in enumerate(self._panels if draws else [], start=1):
                if (figure := self._scores[0].plot(sample)) is not None:
                    picture = rendered(figure)
                    for logger in draws:
                        log_picture(logger, f"validation/chip_{number}", picture, trainer.global_step)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the scores."""
        self._scores = []

    def _write(self, trainer: Trainer, splits: Sequence[str]) -> None:
        home = run_folder(trainer)
        for number, scores in enumerate(self._scores):
            chips = scores.gathered()
            if home is None or not chips.names:
                continue
            folder = split_folder(home, splits[number] if number else None)
            pictures = folder / PICTURES
            if trainer.is_global_zero:
                pictures.mkdir(parents=True, exist_ok=True)
                for old in pictures.glob("*.png"):  # of other weights
                    old.unlink()
                scores.write_table(folder / TABLE, chips)
                _log.info(f"Written: {shown(folder / TABLE)}")
            trainer.strategy.barrier()
            scores.write_pictures(pictures, chips)
