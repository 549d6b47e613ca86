"""Synthetic data in published layouts: small, seeded and similar to real data.

Scenes are computed from spectral signatures (top-of-atmosphere reflectance, similar to library spectra of water,
vegetation, soil and built-up land). They have mixed pixels, thin and thick clouds with shadows, texture, sensor noise,
a swath edge without data, and a georeference.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from ..errors import ConfigError
from .chips.hls_burn_scars import HLSBurnScars
from .chips.multi_temporal_crop import MultiTemporalCropClassification
from .chips.sen1floods11 import Sen1Floods11

Array = NDArray[np.float64]
SceneMaker = Callable[[np.random.Generator, int, int], tuple[NDArray[Any], NDArray[np.int16]]]

#: Reflectance in the 13 bands of Sentinel-2, B1 to B12 with B8A after B8.
SIGNATURES = {
    "clear water": (0.12, 0.10, 0.08, 0.05, 0.045, 0.04, 0.04, 0.035, 0.03, 0.012, 0.002, 0.012, 0.008),
    "turbid water": (0.14, 0.13, 0.14, 0.15, 0.15, 0.12, 0.12, 0.10, 0.09, 0.03, 0.002, 0.04, 0.03),
    "forest": (0.12, 0.09, 0.08, 0.05, 0.09, 0.22, 0.27, 0.29, 0.31, 0.09, 0.003, 0.15, 0.07),
    "broadleaf forest": (0.11, 0.06, 0.08, 0.04, 0.10, 0.24, 0.29, 0.31, 0.33, 0.09, 0.003, 0.16, 0.075),
    "grass": (0.12, 0.085, 0.125, 0.095, 0.16, 0.28, 0.32, 0.34, 0.36, 0.11, 0.003, 0.24, 0.15),
    "soil": (0.16, 0.15, 0.17, 0.21, 0.23, 0.25, 0.27, 0.28, 0.30, 0.09, 0.004, 0.38, 0.32),
    "built-up": (0.18, 0.17, 0.17, 0.18, 0.19, 0.20, 0.21, 0.22, 0.22, 0.08, 0.005, 0.24, 0.22),
}
_CLOUD = np.array((0.50, 0.52, 0.50, 0.52, 0.53, 0.54, 0.55, 0.55, 0.55, 0.30, 0.05, 0.40, 0.30))
_LAND = ("broadleaf forest", "grass", "soil", "built-up")
_DEGREES_PER_PIXEL = 8.983152841195215e-05  # 10 m at the equator, as in Sen1Floods11


def random_field(rng: np.random.Generator, height: int, width: int, roughness: float) -> Array:
    """A random surface (H, W) with a power-law spectrum, mean 0 and standard deviation 1.

    The roughness is between 0, smooth hills, and 1, texture at every scale.
    """
    rows = np.fft.fftfreq(height)[:, None]
    columns = np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * frequency ** (1.6 * roughness - 2.6)
    field = np.fft.irfft2(spectrum, s=(height, width))
    return (field - field.mean()) / field.std()


def flood_scene(
    rng: np.random.Generator, height: int, width: int
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """An image of a flooded landscape by Sentinel-2.

    Args:
        rng: Random number generator.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        Bands (13, H, W), reflectance x 1e4, 0 = nodata, and labels (H, W): 0 no water (land, or thick cloud), 1 water,
        -1 outside the swath.
    """
    fine = (2 * height, 2 * width)  # a pixel of the sensor is the mean of four of these
    elevation = random_field(rng, *fine, roughness=0.4)
    level = np.quantile(elevation, rng.uniform(0.15, 0.5))
    water = elevation < level
    cover = random_field(rng, *fine, roughness=0.6) + 0.4 * elevation
    land = np.digitize(cover, np.quantile(cover, (0.35, 0.7, 0.93)))
    turbid = _sigmoid(2 * random_field(rng, *fine, roughness=0.4) + rng.normal())
    spectra = np.array([SIGNATURES[name] for name in _LAND])
    surface = np.moveaxis(spectra[land], -1, 0)
    clear, muddy = (np.array(SIGNATURES[f"{kind} water"])[:, None, None] for kind in ("clear", "turbid"))
    surface = np.where(water, (1 - turbid) * clear + turbid * muddy, surface)
    emergent = water & (random_field(rng, *fine, roughness=0.7) > 1.3)  # plants in the water
    surface = np.where(emergent, 0.65 * surface + 0.35 * spectra[1][:, None, None], surface)
    surface = surface * np.exp(0.10 * random_field(rng, *fine, roughness=0.9))
    image = surface.reshape(13, height, 2, width, 2).mean(axis=(2, 4))
    fraction = water.reshape(height, 2, width, 2).mean(axis=(1, 3))

    clouds = random_field(rng, height, width, roughness=0.35)
    opacity = _sigmoid(6 * (clouds - rng.uniform(1.4, 2.8)))
    shadow = 1 - 0.4 * np.roll(opacity, (height // 12, width // 16), axis=(0, 1))
    image = (1 - opacity) * image * shadow + opacity * _CLOUD[:, None, None]
    image = image * rng.uniform(0.9, 1.1) + 0.003 * rng.standard_normal(image.shape)

    labels = ((fraction >= 0.5) & (opacity <= 0.6)).astype(np.int16)
    bands = np.clip(np.round(image * 1e4), 1, 20000).astype(np.int16)
    if rng.random() < 0.3:
        outside = _swath_edge(height, width)
        bands[:, outside] = 0
        labels[outside] = -1
    return bands, labels


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


#: Positions of `PRITHVI_BANDS` among the 13 bands of Sentinel-2.
PRITHVI_POSITIONS = (1, 2, 3, 8, 11, 12)
_BURNT = np.array((0.05, 0.06, 0.07, 0.11, 0.20, 0.19))


def _texture(rng: np.random.Generator, image: Array) -> Array:
    """Add variations of brightness and sensor noise."""
    texture = np.exp(0.10 * random_field(rng, image.shape[-2], image.shape[-1], roughness=0.9))
    return image * texture + 0.003 * rng.standard_normal(image.shape)


def burn_scene(
    rng: np.random.Generator, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """A landscape with burn scars.

    Returns:
        Bands (6, H, W), reflectance 0..1, -9999 = nodata, and labels (H, W): 0 unburnt, 1 burnt, -1 outside the
        swath.
    """
    cover = random_field(rng, height, width, roughness=0.6)
    land = np.digitize(cover, np.quantile(cover, (0.5, 0.8, 0.97)))
    spectra = np.array([SIGNATURES[name] for name in _LAND])[:, PRITHVI_POSITIONS]
    fire = random_field(rng, height, width, roughness=0.4) - 0.5 * cover
    severity = _sigmoid(8 * (fire - np.quantile(fire, rng.uniform(0.7, 0.95))))
    burnt = severity * rng.uniform(0.7, 1.0)
    image = (1 - burnt) * np.moveaxis(spectra[land], -1, 0) + burnt * _BURNT[:, None, None]
    bands = np.clip(_texture(rng, image), 0.0001, 1.5).astype(np.float32)
    labels = (severity >= 0.5).astype(np.int16)
    if rng.random() < 0.3:
        outside = _swath_edge(height, width)
        bands[:, outside] = -9999
        labels[outside] = -1
    return bands, labels


def crop_scene(
    rng: np.random.Generator, height: int, width: int
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Fields of thirteen crops on three dates; each crop has its own growing season.

    Returns:
        Bands (18, H, W), date by date, reflectance x 1e4, and labels (H, W): 1 to 13, 0 at some borders.
    """
    count = max(4, height * width // 500)
    seeds = rng.uniform(0, 1, (count, 2)) * (height, width)
    rows, columns = np.mgrid[:height, :width]
    distance = np.abs(rows[..., None] - seeds[:, 0]) + np.abs(columns[..., None] - seeds[:, 1])
    kinds = rng.integers(0, 13, count)[distance.argmin(axis=-1)]
    nearest, second = np.partition(distance, 1, axis=-1)[..., :2].transpose(2, 0, 1)
    seasons = np.random.default_rng(13)  # the same appearance of each crop in every scene
    green = seasons.uniform(0, 1, (13, 3))
    base = seasons.uniform(0.7, 1.3, (13, 6))
    grass, soil = (np.array(SIGNATURES[name])[list(PRITHVI_POSITIONS)] for name in ("grass", "soil"))
    frames = []
    for frame in range(3):
        cover = np.clip(green[kinds, frame] + 0.1 * rng.standard_normal((height, width)), 0, 1)[..., None]
        spectrum = (cover * grass + (1 - cover) * soil) * base[kinds]
        frames.append(_texture(rng, np.moveaxis(spectrum, -1, 0)))
    bands = np.clip(np.round(np.concatenate(frames) * 1e4), 1, 20000).astype(np.int16)
    labels = np.where(second - nearest < 1, 0, kinds + 1).astype(np.int16)
    return bands, labels


def _swath_edge(height: int, width: int) -> NDArray[np.bool_]:
    return np.arange(width)[None, :] - 0.2 * np.arange(height)[:, None] > 0.92 * width


def write_raster(
    path: Path,
    values: NDArray[np.int16] | NDArray[np.float32],
    corner: tuple[float, float],
    nodata: float | None,
    pixel: float = _DEGREES_PER_PIXEL,
    crs: str = "EPSG:4326",
    names: Sequence[str] = (),
) -> None:
    """Write a compressed GeoTIFF.

    Args:
        path: The file.
        values: (H, W) or (C, H, W).
        corner: Coordinates of the upper left corner.
        nodata: Nodata tag.
        pixel: Size of a pixel in units of the CRS.
        crs: CRS of the coordinates.
        names: Band descriptions; those of Sentinel-2 for 13 bands by default.
    """
    transform = Affine(pixel, 0, corner[0], 0, -pixel, corner[1])
    layers = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=values.dtype,
        count=len(layers),
        height=layers.shape[1],
        width=layers.shape[2],
        crs=crs,
        transform=transform,
        nodata=nodata,
        compress="deflate",
    ) as out:
        out.write(layers)
        if names or len(layers) == 13:
            sentinel = tuple(f"B{name}" for name in (1, 2, 3, 4, 5, 6, 7, 8, "8A", 9, 10, 11, 12))
            out.descriptions = tuple(names) or sentinel


def empty_folder(root: str | Path, chips: int) -> Path:
    """Check that a folder for chips is empty or absent.

    Raises:
        ConfigError: The folder is not empty, or there are too few chips for three splits.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(f"{root}: exists and is not empty; name another folder, or remove it")
    if chips < 6:
        raise ConfigError(f"chips: {chips} are too few for three splits; give 6 or more")
    return root


def _write_folders(
    root: Path,
    folders: dict[str, str],
    names: list[str],
    scene: SceneMaker,
    size: int,
    seed: int,
    nodata: int,
) -> Path:
    """Write two thirds of the chips for training, one third for validation, with published names, and a scene."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(names):
        folder = root / folders["val" if number % 3 == 0 else "train"]
        folder.mkdir(parents=True, exist_ok=True)
        bands, labels = scene(rng, size, size)
        corner = (500000.0 + 30 * size * number, 4200000.0)
        write_raster(folder / f"{name}_merged.tif", bands, corner, nodata, 30, "EPSG:32615")
        write_raster(folder / f"{name}.mask.tif", labels, corner, None, 30, "EPSG:32615")
    bands, labels = scene(rng, 2 * size + 20, 3 * size)
    write_raster(root / "scene.tif", bands, (500000.0, 4300000.0), nodata, 30, "EPSG:32615")
    write_raster(root / "scene_label.tif", labels, (500000.0, 4300000.0), None, 30, "EPSG:32615")
    return root


def write_hls_burn_scars(root: str | Path, chips: int = 24, size: int = 256, seed: int = 0) -> Path:
    """Write synthetic chips in the layout of `HLSBurnScars`, and a larger scene; see `write_sen1floods11`."""
    names = [f"subsetted_512x512_HLS.S30.T10SDH.{2020100 + n}.v1.4" for n in range(chips)]
    root = empty_folder(root, chips)
    return _write_folders(root, HLSBurnScars.folders, names, burn_scene, size, seed, -9999)


def write_multi_temporal_crop(root: str | Path, chips: int = 24, size: int = 224, seed: int = 0) -> Path:
    """Write synthetic chips in the layout of `MultiTemporalCropClassification`, their dates, and a scene."""
    names = [f"chip_{n:03d}_{n:03d}" for n in range(chips)]
    root = empty_folder(root, chips)
    folders = MultiTemporalCropClassification.folders
    _write_folders(root, folders, names, crop_scene, size, seed, -9999)
    with (root / "chips_df.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("chip_id", "first_image_date", "second_image_date", "third_image_date"))
        rows.writerows((name, "2022-04-20", "2022-06-30", "2022-09-08") for name in names)
    return root


def write_sen1floods11(
    root: str | Path,
    chips: int = 24,
    size: int = 256,
    scene_size: tuple[int, int] = (600, 720),
    seed: int = 0,
) -> Path:
    """Write synthetic chips in the layout of `Sen1Floods11`, and a larger scene.

    Also writes ``splits.csv`` (half of the chips for training, a sixth each for val, test and bolivia),
    ``scene.tif`` and its labels ``scene_label.tif``.

    Args:
        root: Folder to write to; must be empty or absent.
        chips: Number of chips.
        size: Side of a chip in pixels.
        scene_size: Height and width of the scene.
        seed: The same seed gives the same data.

    Returns:
        The folder.

    Raises:
        ConfigError: The folder is not empty, or there are too few chips for four splits.
    """
    root = empty_folder(root, chips)
    rng = np.random.default_rng(seed)
    folder = root / Sen1Floods11.folder
    for kind in ("S2Hand", "LabelHand"):
        (folder / kind).mkdir(parents=True)
    sixth = chips // 6
    splits = ["val"] * sixth + ["test"] * sixth + ["bolivia"] * sixth
    splits += ["train"] * (chips - len(splits))
    with (root / "splits.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("chip", "split"))
        for number, split in enumerate(splits):
            name = f"Synthetic_{number:04d}"
            rows.writerow((name, split))
            bands, labels = flood_scene(rng, size, size)
            corner = (10 + 0.05 * (number % 10), 45 - 0.05 * (number // 10))
            write_raster(folder / "S2Hand" / f"{name}_S2Hand.tif", bands, corner, nodata=0)
            write_raster(folder / "LabelHand" / f"{name}_LabelHand.tif", labels, corner, nodata=None)
    bands, labels = flood_scene(rng, *scene_size)
    write_raster(root / "scene.tif", bands, (11.0, 45.0), nodata=0)
    write_raster(root / "scene_label.tif", labels, (11.0, 45.0), nodata=-1)
    return root


#: Classes of `write_classified_chips` -> share of each land cover.
_CHIP_CLASSES = {
    "Water": {"clear water": 0.8, "turbid water": 0.2},
    "Forest": {"forest": 0.85, "grass": 0.15},
    "Bare": {"soil": 0.7, "built-up": 0.3},
}


def covered_chip(rng: np.random.Generator, height: int, width: int, name: str) -> NDArray[np.int16]:
    """A landscape with mostly one kind of land cover.

    Args:
        rng: Random number generator.
        height: Height in pixels.
        width: Width in pixels.
        name: A class of `_CHIP_CLASSES`.

    Returns:
        Bands (6, H, W), reflectance x 1e4.
    """
    covers, shares = list(_CHIP_CLASSES[name]), list(_CHIP_CLASSES[name].values())
    field = random_field(rng, height, width, roughness=0.6)
    kinds = np.digitize(field, np.quantile(field, np.cumsum(shares)[:-1]))
    spectra = np.array([SIGNATURES[cover] for cover in covers])[:, PRITHVI_POSITIONS]
    image = _texture(rng, np.moveaxis(spectra[kinds], -1, 0)) * rng.uniform(0.9, 1.1)
    return np.clip(np.round(image * 1e4), 1, 20000).astype(np.int16)


def write_classified_chips(root: str | Path, chips: int = 24, size: int = 64, seed: int = 0) -> Path:
    """Write synthetic chips with one class each, for `ClassifiedChips`, and a larger scene.

    The chips are ``chips/NAME.tif`` (6 bands of HLS, reflectance x 1e4). ``labels.csv`` assigns half of the chips of
    each class to training, and a quarter each to validation and test. ``scene.tif`` consists of squares of the size of
    a chip, and ``scene_label.tif`` has the class number of each. For the arguments see `write_sen1floods11`.

    Raises:
        ConfigError: The folder is not empty, or there are too few chips for each class in each split.
    """
    root = empty_folder(root, chips)
    if chips < 4 * len(_CHIP_CLASSES):
        raise ConfigError(
            f"chips: {chips} are too few for {len(_CHIP_CLASSES)} classes in three splits; give "
            f"{4 * len(_CHIP_CLASSES)} or more"
        )
    rng = np.random.default_rng(seed)
    (root / "chips").mkdir(parents=True)
    names = list(_CHIP_CLASSES)
    splits = ("train", "val", "train", "test")
    with (root / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("chip", "class", "split"))
        for number in range(chips):
            kind = names[number % len(names)]
            chip = f"chip_{number:04d}"
            rows.writerow((chip, kind, splits[number // len(names) % len(splits)]))
            bands = covered_chip(rng, size, size, kind)
            corner = (500000.0 + 30 * size * number, 4200000.0)
            write_raster(root / "chips" / f"{chip}.tif", bands, corner, None, 30, "EPSG:32615")
    numbers = rng.integers(0, len(names), (3, 4))
    patches = [[covered_chip(rng, size, size, names[kind]) for kind in row] for row in numbers]
    labels = np.kron(numbers, np.ones((size, size))).astype(np.int16)
    write_raster(root / "scene.tif", np.block(patches), (500000.0, 4300000.0), None, 30, "EPSG:32615")
    write_raster(root / "scene_label.tif", labels, (500000.0, 4300000.0), None, 30, "EPSG:32615")
    return root


#: Choices of ``prithvi-tg synthetic --layout``.
LAYOUTS: dict[str, Callable[..., Path]] = {
    "sen1floods11": write_sen1floods11,
    "hls_burn_scars": write_hls_burn_scars,
    "multi_temporal_crop": write_multi_temporal_crop,
    "classified_chips": write_classified_chips,
}
