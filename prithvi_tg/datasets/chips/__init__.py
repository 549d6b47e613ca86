"""Chips: datasets with separate files for each sample, as TorchGeo's `NonGeoDataset`."""

from ...deprecated import old_names

__getattr__ = old_names(__name__)
