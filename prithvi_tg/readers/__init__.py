"""Files to arrays: one rule for each question about stored values, shared by training, statistics, checks and maps."""

from .formats import (
    SCENE_FORMATS,
    FrameRequest,
    InputOptions,
    SceneFormat,
    SceneFrame,
    find_inputs,
    resolve_scene,
)
from .grid import Grid
from .scene import BandFile, QualityFile, Scene, SceneReader

__all__ = [
    "SCENE_FORMATS",
    "BandFile",
    "FrameRequest",
    "Grid",
    "InputOptions",
    "QualityFile",
    "Scene",
    "SceneFormat",
    "SceneFrame",
    "SceneReader",
    "find_inputs",
    "resolve_scene",
]
