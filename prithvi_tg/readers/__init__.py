"""Files to arrays: one rule for each question about stored values, shared by training, statistics, checks and maps.

Public names are imported when they are first used: grids, coordinate systems and pixel areas need no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOME = {
    "Grid": "grid",
    **dict.fromkeys(("BandFile", "QualityFile", "Scene", "SceneReader"), "scene"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'formats')}"), name)
