"""Mapping: from scenes to maps."""

from .chip_classes import classify_scenes
from .planning import map_scene, map_strips

__all__ = ["classify_scenes", "map_scene", "map_strips"]
