"""Synthetic chips with a change as label: forest loss between two dates, in six bands per date."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bands import PRITHVI_BANDS
from .synthetic import PRITHVI_POSITIONS, SIGNATURES, random_field
from .synthetic_folders import write_chip_folder, write_scene

_NAMES = [f"{band}_{day}" for day in ("20220615", "20230615") for band in PRITHVI_BANDS]
_FOREST, _GRASS, _SOIL, _BUILT = (
    np.array([SIGNATURES[name][place] for place in PRITHVI_POSITIONS])
    for name in ("broadleaf forest", "grass", "soil", "built-up")
)


def change_scene(
    rng: np.random.Generator, height: int, width: int
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """A landscape on two dates, a year apart, in which part of the forest is cleared.

    Grass dries out and the light differs between the dates, and fields change between grass and soil; a model that
    only compares the dates confuses this with forest loss.

    Args:
        rng: Random number generator.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        Bands (12, H, W), all bands of the first date first, reflectance x 1e4, -9999 outside the swath; and labels
        (H, W): 0 no forest, 1 forest, 2 forest loss, -1 without a label.
    """
    cover = random_field(rng, height, width, roughness=0.5)
    kinds = np.digitize(cover, np.quantile(cover, (0.55, 0.8, 0.97)))  # forest, grass, soil, built-up
    forest = kinds == 0
    clearing = random_field(rng, height, width, roughness=0.3)
    cleared = forest & (clearing > np.quantile(clearing, rng.uniform(0.75, 0.95)))
    sown = (kinds == 2) & (random_field(rng, height, width, roughness=0.2) > 0.8)
    before = np.stack([_FOREST, _GRASS, _SOIL, _BUILT])[kinds]
    dryness = rng.uniform(0, 0.5)
    after = np.stack([_FOREST, (1 - dryness) * _GRASS + dryness * _SOIL, _SOIL, _BUILT])[kinds]
    regrowth = rng.uniform(0, 0.4)
    after[cleared] = (1 - regrowth) * _SOIL + regrowth * _GRASS
    after[sown] = _GRASS
    frames = []
    for surface in (before, after):
        light = rng.uniform(0.9, 1.1) * np.exp(0.08 * random_field(rng, height, width, roughness=0.8))
        image = np.moveaxis(surface, -1, 0) * light
        frames.append(image + rng.normal(0, 0.006, image.shape))
    bands = np.clip(np.rint(1e4 * np.concatenate(frames)), 1, 15000).astype(np.int16)
    labels = np.where(cleared, 2, forest).astype(np.int16)
    edge = int(rng.integers(0, max(1, width // 10)))
    bands[:, :, :edge] = -9999
    labels[:, :edge] = -1
    return bands, labels


def write_change(root: str | Path, chips: int = 24, size: int = 128, seed: int = 0) -> Path:
    """Write synthetic chips of two dates: ``chips/NAME_image.tif`` and ``chips/NAME_change.tif``.

    Also writes ``splits.csv`` (two thirds of the chips for training, a sixth each for val and test), a larger scene as
    one file, ``scene.tif``, and as one file per date, ``before.tif`` and ``after.tif``, and its labels
    ``scene_label.tif``.

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
    folder, bands = write_chip_folder(root, chips, size, seed, change_scene, "change", _NAMES, -1)
    count = len(PRITHVI_BANDS)
    write_scene(folder / "before.tif", bands[:count], _NAMES[:count])
    write_scene(folder / "after.tif", bands[count:], _NAMES[count:])
    return folder
