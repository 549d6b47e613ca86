"""Chips: samples that are files of their own, as TorchGeo's `NonGeoDataset`."""

from ...deprecated import old_names

__getattr__ = old_names(__name__)
