"""Files to arrays: one rule for each question about stored values, shared by training, statistics, checks and maps."""

from .formats import InputOptions, find_inputs, resolve_scene
from .scene import Scene, SceneReader

__all__ = ["InputOptions", "Scene", "SceneReader", "find_inputs", "resolve_scene"]
