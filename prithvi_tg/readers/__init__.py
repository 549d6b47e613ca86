"""Files to arrays: one rule for each question about stored values, shared by training, statistics, checks and maps."""

from .formats import SCENE_FORMATS, InputOptions, SceneFormat, SceneFrame, find_inputs, resolve_scene
from .scene import Scene, SceneReader

__all__ = [
    "SCENE_FORMATS",
    "InputOptions",
    "Scene",
    "SceneFormat",
    "SceneFrame",
    "SceneReader",
    "find_inputs",
    "resolve_scene",
]
