"""Lightning callbacks, thin over reporting and mapping."""

from .checkpointing import BestCheckpoint, LastCheckpoint, PrintCheckpoints
from .chip_classes import ChipClassWriter
from .chip_reports import ChipReport
from .empty_runs import RemoveEmptyRun
from .inputs import MeaninglessValues
from .maps import MapWriter
from .progress import EpochLines, RunTimes, WindowProgressBar
from .records import ScoreReport, SplitFigure, TrainingRecord, score_best

__all__ = [
    "BestCheckpoint",
    "ChipClassWriter",
    "ChipReport",
    "EpochLines",
    "LastCheckpoint",
    "MapWriter",
    "MeaninglessValues",
    "PrintCheckpoints",
    "RemoveEmptyRun",
    "RunTimes",
    "ScoreReport",
    "SplitFigure",
    "TrainingRecord",
    "WindowProgressBar",
    "score_best",
]
