"""Data checks before training, as ``prithvi-tg check`` runs them."""

from .findings import Finding
from .splits import check_chips, check_scenes

__all__ = ["Finding", "check_chips", "check_scenes"]
