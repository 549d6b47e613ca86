"""Lightning callbacks, thin over reporting and mapping."""

from .checkpointing import BestCheckpoint, LastCheckpoint, PrintCheckpoints
from .inputs import MeaninglessValues
from .maps import MapWriter
from .records import ChipReport, ScoreReport, SplitFigure, TrainingRecord, score_best

__all__ = [
    "BestCheckpoint",
    "ChipReport",
    "LastCheckpoint",
    "MapWriter",
    "MeaninglessValues",
    "PrintCheckpoints",
    "ScoreReport",
    "SplitFigure",
    "TrainingRecord",
    "score_best",
]
