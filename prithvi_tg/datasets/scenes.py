"""Scenes: rasters of any size, read as a model needs them."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from torch.utils.data import Dataset

from ..bands import band_indexes, means, resolve_band
from ..errors import ConfigError, DataError
from ..spec import DataSpec
from .raster import legacy_values, open_raster, read_bands, tag_mask

Array = NDArray[np.float32]


class SceneDataset(Dataset[dict[str, Any]]):
    """Whole scenes, one a sample.

    A sample holds ``image`` float32 (T, C, H, W) in the unit of the statistics (pixels without data hold the
    band's mean), ``masked`` bool (H, W) = the map shows no class here, ``path``, and ``bands``, which band of
    the file each channel came from, in words.

    Which bands of a file are used: `bands` if given; else those whose descriptions name the model's bands;
    else, in a file without descriptions, where the training data held them.

    Args:
        scenes: Raster files.
        spec: Bands, units and statistics that the model expects.
        bands: For every frame, a 1-based index or a description per band of the model.
        sensor: Whose band names (``B05``) the descriptions use; needed where sensors disagree.
        scale: Factor from stored values to the unit of the statistics; the training data's by default.
        legacy: As hls-foundation-os: every value counts as data, and the map is masked where any band of the
            file, used or not, equals the file's nodata tag.

    Raises:
        ConfigError: The number of bands does not fit.
    """

    def __init__(
        self,
        scenes: Sequence[str | Path],
        spec: DataSpec,
        bands: Sequence[int | str] = (),
        sensor: str | None = None,
        scale: float | None = None,
        legacy: bool = False,
    ) -> None:
        wanted = len(spec.bands) * spec.num_frames
        if bands and len(bands) != wanted:
            raise ConfigError(
                f"bands: {len(bands)} given, the model takes {wanted} ({spec.num_frames} dates of "
                f"{' '.join(spec.bands)})"
            )
        self.scenes = [Path(scene) for scene in scenes]
        self.spec = spec
        self.bands = bands
        self.sensor = sensor
        self.scale = spec.scale if scale is None else scale
        self.legacy = legacy

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.scenes[index]
        spec = self.spec
        with open_raster(path) as source:
            indexes, how = self._indexes(source)
            values, valid = read_bands(source, indexes, spec.nodata)
            masked = tag_mask(source) if self.legacy else ~valid.any(axis=0)
        if self.legacy:
            values = legacy_values(values, spec)
        values = values * np.float32(self.scale)
        _warn_of_other_units(path, values, valid, spec)
        if not self.legacy:
            values = np.where(valid, values, np.asarray(spec.channel_mean, np.float32)[:, None, None])
        image = values.reshape(spec.num_frames, len(spec.bands), *values.shape[1:])
        names = spec.bands * spec.num_frames
        found = " ".join(f"{name}={index}" for name, index in zip(names, indexes, strict=True))
        return {
            "image": torch.from_numpy(image),
            "masked": torch.from_numpy(masked),
            "path": str(path),
            "bands": f"{found} ({how})",
        }

    def _indexes(self, source: DatasetReader) -> tuple[list[int], str]:
        spec = self.spec
        if self.bands:
            names = spec.bands * spec.num_frames
            pairs = zip(self.bands, names, strict=True)
            return [self._index(band, name, source) for band, name in pairs], "as given"
        if spec.num_frames == 1 and any(source.descriptions):
            found = band_indexes(spec.bands, source.descriptions, source.name, self.sensor)
            return found, "by the file's descriptions"
        wanted = len(spec.bands) * spec.num_frames
        if spec.file_bands and source.count == spec.file_count:
            return list(spec.file_bands), "no descriptions: placed as in the training data"
        if source.count == wanted:
            return list(range(1, wanted + 1)), "no descriptions: in the order of the file"
        raise DataError(
            f"{source.name}: has {source.count} bands, the model takes {wanted} "
            f"({' '.join(spec.bands)}); say which with --bands, by index counted from 1 or by name"
        )

    def _index(self, band: int | str, name: str, source: DatasetReader) -> int:
        if isinstance(band, int) or band.isdigit():
            return int(band)
        if means(band, self.sensor) not in (None, name):
            raise ConfigError(
                f"bands: {band!r} is {means(band, self.sensor)}, but stands in the place of {name}; the model "
                f"takes {' '.join(self.spec.bands)}, in this order"
            )
        descriptions = list(source.descriptions)
        if band in descriptions:
            return descriptions.index(band) + 1
        return band_indexes([resolve_band(band, self.sensor)], descriptions, source.name, self.sensor)[0]


def _warn_of_other_units(path: Path, values: Array, valid: NDArray[np.bool_], spec: DataSpec) -> None:
    """Speak up where the bulk of a scene is far from what the model was trained on, as 1e4 times too small."""
    ratios = [
        float(np.median(band[data])) / mean
        for band, data, mean in zip(values, valid, spec.channel_mean, strict=True)
        if data.any()
    ]
    ratio = float(np.median(ratios)) if ratios else 1.0
    if not 0.05 < ratio < 20:
        warnings.warn(
            f"{path}: its values are about {ratio:.2g} times what the model was trained on; if their unit "
            f"differs, give --scale (the training data's is {spec.scale:g})",
            stacklevel=2,
        )
