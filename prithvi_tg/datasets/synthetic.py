"""Synthetic data in published layouts: small, seeded, and shaped like the real thing.

Scenes are made from spectral signatures (top-of-atmosphere reflectance, after the shape of library spectra of
water, vegetation, soil and built-up land), mixed within pixels, under thin and thick cloud with shadows,
with texture, sensor noise, a swath edge without data, and a geo-reference.
"""

import csv
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from ..errors import ConfigError
from .sen1floods11 import Sen1Floods11

Array = NDArray[np.float64]

#: Reflectance in the 13 bands of Sentinel-2, B1 to B12 with B8A after B8.
_SIGNATURES = {
    "clear water": (0.12, 0.10, 0.08, 0.05, 0.045, 0.04, 0.04, 0.035, 0.03, 0.012, 0.002, 0.012, 0.008),
    "turbid water": (0.14, 0.13, 0.14, 0.15, 0.15, 0.12, 0.12, 0.10, 0.09, 0.03, 0.002, 0.04, 0.03),
    "forest": (0.12, 0.09, 0.08, 0.05, 0.09, 0.22, 0.27, 0.29, 0.31, 0.09, 0.003, 0.15, 0.07),
    "grass": (0.13, 0.11, 0.12, 0.10, 0.16, 0.28, 0.32, 0.34, 0.36, 0.11, 0.003, 0.24, 0.15),
    "soil": (0.16, 0.15, 0.17, 0.21, 0.23, 0.25, 0.27, 0.28, 0.30, 0.09, 0.004, 0.38, 0.32),
    "built-up": (0.18, 0.17, 0.17, 0.18, 0.19, 0.20, 0.21, 0.22, 0.22, 0.08, 0.005, 0.24, 0.22),
}
_CLOUD = np.array((0.50, 0.52, 0.50, 0.52, 0.53, 0.54, 0.55, 0.55, 0.55, 0.30, 0.05, 0.40, 0.30))
_LAND = ("forest", "grass", "soil", "built-up")
_DEGREES_PER_PIXEL = 8.983152841195215e-05  # 10 m at the equator, as in Sen1Floods11


def random_field(rng: np.random.Generator, height: int, width: int, roughness: float) -> Array:
    """A random surface (H, W) with a power-law spectrum, mean 0 and deviation 1.

    Its roughness goes from 0, rolling hills, to 1, texture at every scale.
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
    """A flooded landscape as Sentinel-2 would see it.

    Args:
        rng: Source of all randomness.
        height: Pixels.
        width: Pixels.

    Returns:
        Bands (13, H, W), reflectance x 1e4 with 0 for no data, and labels (H, W): 0 land, 1 water, -1 under
        thick cloud and outside the swath.
    """
    fine = (2 * height, 2 * width)  # pixels of the sensor mix four of these
    elevation = random_field(rng, *fine, roughness=0.4)
    level = np.quantile(elevation, rng.uniform(0.15, 0.5))
    water = elevation < level
    cover = random_field(rng, *fine, roughness=0.6) + 0.4 * elevation
    land = np.digitize(cover, np.quantile(cover, (0.35, 0.7, 0.93)))
    turbid = _sigmoid(2 * random_field(rng, *fine, roughness=0.4) + rng.normal())
    spectra = np.array([_SIGNATURES[name] for name in _LAND])
    surface = np.moveaxis(spectra[land], -1, 0)
    clear, muddy = (np.array(_SIGNATURES[f"{kind} water"])[:, None, None] for kind in ("clear", "turbid"))
    surface = np.where(water, (1 - turbid) * clear + turbid * muddy, surface)
    emergent = water & (random_field(rng, *fine, roughness=0.7) > 1.3)  # plants that stand in the water
    surface = np.where(emergent, 0.65 * surface + 0.35 * spectra[1][:, None, None], surface)
    surface = surface * np.exp(0.10 * random_field(rng, *fine, roughness=0.9))
    image = surface.reshape(13, height, 2, width, 2).mean(axis=(2, 4))
    fraction = water.reshape(height, 2, width, 2).mean(axis=(1, 3))

    clouds = random_field(rng, height, width, roughness=0.35)
    opacity = _sigmoid(6 * (clouds - rng.uniform(1.4, 2.8)))
    shadow = 1 - 0.4 * np.roll(opacity, (height // 12, width // 16), axis=(0, 1))
    image = (1 - opacity) * image * shadow + opacity * _CLOUD[:, None, None]
    image = image * rng.uniform(0.9, 1.1) + 0.003 * rng.standard_normal(image.shape)

    labels = np.where(opacity > 0.6, -1, fraction >= 0.5).astype(np.int16)
    bands = np.clip(np.round(image * 1e4), 1, 20000).astype(np.int16)
    if rng.random() < 0.3:
        outside = np.arange(width)[None, :] - 0.2 * np.arange(height)[:, None] > 0.92 * width
        bands[:, outside] = 0
        labels[outside] = -1
    return bands, labels


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _write(path: Path, values: NDArray[np.int16], corner: tuple[float, float], nodata: int | None) -> None:
    transform = Affine(_DEGREES_PER_PIXEL, 0, corner[0], 0, -_DEGREES_PER_PIXEL, corner[1])
    layers = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="int16",
        count=len(layers),
        height=layers.shape[1],
        width=layers.shape[2],
        crs="EPSG:4326",
        transform=transform,
        nodata=nodata,
        compress="deflate",
    ) as out:
        out.write(layers)
        if len(layers) == 13:
            out.descriptions = tuple(f"B{name}" for name in (1, 2, 3, 4, 5, 6, 7, 8, "8A", 9, 10, 11, 12))


def write_sen1floods11(
    root: str | Path,
    chips: int = 24,
    size: int = 256,
    scene_size: tuple[int, int] = (600, 720),
    seed: int = 0,
) -> Path:
    """Write synthetic chips in the layout of `Sen1Floods11`, and a larger scene.

    Beside the published layout stand ``splits.csv`` (half of the chips to train on, a sixth each for val,
    test and bolivia), ``scene.tif`` and its labels ``scene_label.tif``.

    Args:
        root: Folder to write to; must be empty or absent.
        chips: Number of chips.
        size: Side of a chip in pixels.
        scene_size: Height and width of the scene.
        seed: The same seed gives the same data.

    Returns:
        The folder.

    Raises:
        ConfigError: The folder holds something, or there are too few chips for four splits.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(f"{root}: exists and is not empty; name another folder, or remove it")
    if chips < 6:
        raise ConfigError(f"chips: {chips} are too few for train, val, test and bolivia; give 6 or more")
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
            _write(folder / "S2Hand" / f"{name}_S2Hand.tif", bands, corner, nodata=0)
            _write(folder / "LabelHand" / f"{name}_LabelHand.tif", labels, corner, nodata=None)
    bands, labels = flood_scene(rng, *scene_size)
    _write(root / "scene.tif", bands, (11.0, 45.0), nodata=0)
    _write(root / "scene_label.tif", labels, (11.0, 45.0), nodata=-1)
    return root
