"""Synthetic chips with values as labels: vegetation with known biomass, in six bands."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bands import PRITHVI_BANDS
from .synthetic import PRITHVI_POSITIONS, SIGNATURES, random_field
from .synthetic_folders import write_chip_folder

_MAX_BIOMASS = 300.0  # t/ha, of a dense forest
_UNKNOWN = -1.0


def biomass_scene(
    rng: np.random.Generator, height: int, width: int
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Vegetation over soil, with a biomass that varies smoothly.

    Reflectance saturates with biomass, as in reality, so that a linear model of single pixels is not exact.

    Args:
        rng: Random number generator.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        Bands (6, H, W), reflectance x 1e4, -9999 outside the swath, and biomass (1, H, W) in t/ha, -1 for pixels
        without a label.
    """
    density = 1 / (1 + np.exp(-1.6 * random_field(rng, height, width, roughness=0.0)))
    cover = 1 - np.exp(-3 * density)
    soil, forest = (
        np.array([SIGNATURES[name][place] for place in PRITHVI_POSITIONS]) for name in ("soil", "forest")
    )
    spectra = soil[:, None, None] * (1 - cover) + forest[:, None, None] * cover
    light = 1 + 0.04 * random_field(rng, height, width, roughness=0.6)
    image = spectra * light + rng.normal(0, 0.006, (len(PRITHVI_POSITIONS), height, width))
    bands = np.clip(np.rint(1e4 * image), 1, 15000).astype(np.int16)
    biomass = (_MAX_BIOMASS * density).astype(np.float32)
    side = max(2, height // 8)
    top, left = rng.integers(0, height - side), rng.integers(0, width - side)
    biomass[top : top + side, left : left + side] = _UNKNOWN  # an area without field data
    edge = int(rng.integers(0, max(1, width // 10)))
    bands[:, :, :edge] = -9999
    return bands, biomass[None]


def write_biomass(root: str | Path, chips: int = 24, size: int = 128, seed: int = 0) -> Path:
    """Write synthetic chips with biomass as label: ``chips/NAME_image.tif`` and ``chips/NAME_biomass.tif``.

    Also writes ``splits.csv`` (two thirds of the chips for training, a sixth each for val and test), a larger
    ``scene.tif`` and its labels ``scene_label.tif``.

    Args:
        root: Folder to write to; must be empty or absent.
        chips: Number of chips.
        size: Side of a chip in pixels.
        seed: The same seed gives the same data.

    Returns:
        The folder.

    Raises:
        ConfigError: The folder is not empty, or there are too few chips for three splits.
    """
    return write_chip_folder(root, chips, size, seed, biomass_scene, "biomass", PRITHVI_BANDS, _UNKNOWN)[0]
