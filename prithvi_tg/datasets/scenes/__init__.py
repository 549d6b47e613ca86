"""Scenes as TorchGeo's `RasterDataset`, and label layers of the same area."""

from ...deprecated import old_names

__getattr__ = old_names(__name__)
