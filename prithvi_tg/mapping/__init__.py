"""Mapping: from scenes to maps."""

from .chip_classes import classify_scenes
from .embedding import embed_scene, published_encoder
from .planning import map_scene, map_strips

__all__ = ["classify_scenes", "embed_scene", "map_scene", "map_strips", "published_encoder"]
