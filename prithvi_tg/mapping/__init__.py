"""Mapping: from scenes to maps."""

from .maps import map_scene

__all__ = ["map_scene"]
