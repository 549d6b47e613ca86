"""Data checks before training, as ``prithvi-tg check`` runs them."""

from ..deprecated import old_names
from .findings import Finding
from .splits import check_chips, check_scenes

__all__ = ["Finding", "check_chips", "check_scenes"]

__getattr__ = old_names(__name__)
