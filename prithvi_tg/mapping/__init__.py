"""Mapping: from scenes to maps."""

from .planning import map_scene, map_strips

__all__ = ["map_scene", "map_strips"]
