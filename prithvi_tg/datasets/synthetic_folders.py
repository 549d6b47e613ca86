"""Folders of synthetic chips with rasters of labels, a list of splits and a larger scene."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .synthetic import empty_folder, write_raster

#: Bands and labels of a landscape of a height and width in pixels.
Landscape = Callable[[np.random.Generator, int, int], tuple[NDArray[np.int16], NDArray[Any]]]

_PIXEL = 30.0
_PLACE: dict[str, Any] = {"pixel": _PIXEL, "crs": "EPSG:32615"}
_SPLITS = ("val", "test", "train", "train", "train", "train")
_SCENE_CORNER = (500000.0, 4300000.0)


def write_chip_folder(
    root: str | Path,
    chips: int,
    size: int,
    seed: int,
    landscape: Landscape,
    kind: str,
    names: Sequence[str],
    unlabelled: float,
) -> tuple[Path, NDArray[np.int16]]:
    """Write ``chips/KIND_0000_image.tif``, ``chips/KIND_0000_KIND.tif`` and so on, and a larger scene.

    Also writes ``splits.csv`` (two thirds of the chips for training, a sixth each for val and test), ``scene.tif`` and
    its labels ``scene_label.tif``.

    Args:
        root: Folder to write to; must be empty or absent.
        chips: Number of chips.
        size: Side of a chip in pixels.
        seed: The same seed gives the same data.
        landscape: Makes bands, -9999 outside the swath, and labels.
        kind: Name of the labels.
        names: Descriptions of the bands.
        unlabelled: Stored label of pixels without one.

    Returns:
        The folder, and the bands of the scene.

    Raises:
        ConfigError: The folder is not empty, or there are too few chips for three splits.
    """
    root = empty_folder(root, chips)
    rng = np.random.default_rng(seed)
    (root / "chips").mkdir(parents=True)
    with (root / "splits.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("chip", "split"))
        for number in range(chips):
            name = f"{kind}_{number:04d}"
            rows.writerow((name, _SPLITS[number % len(_SPLITS)]))
            bands, labels = landscape(rng, size, size)
            corner = (_SCENE_CORNER[0] + _PIXEL * size * number, 4200000.0)
            write_raster(root / "chips" / f"{name}_image.tif", bands, corner, -9999, names=names, **_PLACE)
            write_raster(root / "chips" / f"{name}_{kind}.tif", labels, corner, unlabelled, **_PLACE)
    bands, labels = landscape(rng, 2 * size + 20, 3 * size)
    write_scene(root / "scene.tif", bands, names)
    write_raster(root / "scene_label.tif", labels, _SCENE_CORNER, unlabelled, **_PLACE)
    return root, bands


def write_scene(path: Path, bands: NDArray[np.int16], names: Sequence[str]) -> None:
    """Write bands (C, H, W) of the scene of a folder of chips.

    Args:
        path: The raster.
        bands: Reflectance x 1e4, -9999 for nodata.
        names: Descriptions of the bands.
    """
    write_raster(path, bands, _SCENE_CORNER, -9999, names=names, **_PLACE)
