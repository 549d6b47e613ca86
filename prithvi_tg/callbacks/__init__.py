"""Lightning callbacks, thin over reporting and mapping."""

from .checkpointing import BestCheckpoint, LastCheckpoint, PrintCheckpoints
from .maps import MapWriter
from .records import ChipReport, ScoreReport, SplitFigure, TrainingRecord, score_best

__all__ = [
    "BestCheckpoint",
    "ChipReport",
    "LastCheckpoint",
    "MapWriter",
    "PrintCheckpoints",
    "ScoreReport",
    "SplitFigure",
    "TrainingRecord",
    "score_best",
]
