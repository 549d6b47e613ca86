"""Synthetic scenes with known truth, in the order in which an image comes about.

1. Ground: parcels of land uses. A land use defines the fractions of five endmembers in each pixel.
2. Season: trees and herbs have a spectrum with and one without leaves; the day of the year mixes the two. Crops grow.
3. Light: the surface is the linear mixture of the endmembers, times relief and small-scale variation.
4. Sky: clouds and their shadows.
5. Sensor: band response, gain, offset and noise, and the edge of the swath.

Each step has its own random numbers, derived from the seed of the scene, so that another sensor sees the same ground
under the same clouds. All reflectances are 0..1, in the six bands of `PRITHVI_BANDS`.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from prithvi_tg.datasets.synthetic import PRITHVI_POSITIONS, SIGNATURES, random_field

Array = NDArray[np.float64]

ENDMEMBERS = ("water", "trees", "herbs", "soil", "built-up")
#: Land uses; the last three have the same distribution of endmembers in a pixel, and differ in their pattern.
LAND_USES = ("water", "forest", "meadow", "cropland", "settlement", "tree rows", "scattered trees", "groves")
PATTERNS = LAND_USES[-3:]
WATER, FOREST, MEADOW, CROPLAND, SETTLEMENT, ROWS, SCATTERED, GROVES = range(len(LAND_USES))
_SUBPIXELS = 3  # a pixel is the mean of 3 x 3 samples of the parcels


def _signature(name: str) -> Array:
    return np.array([SIGNATURES[name][place] for place in PRITHVI_POSITIONS])


#: Spectra with leaves, and without leaves: bark and litter, dry grass. The others are the same all year.
LEAF_ON = np.array(
    [_signature(name) for name in ("clear water", "broadleaf forest", "grass", "soil", "built-up")]
)
LEAF_OFF = LEAF_ON.copy()
LEAF_OFF[1] = (0.075, 0.080, 0.085, 0.190, 0.200, 0.120)
LEAF_OFF[2] = (0.105, 0.130, 0.150, 0.260, 0.310, 0.210)


@dataclass(frozen=True)
class Region:
    """Spectra and shapes of a region.

    Attributes:
        leaf_on: Spectra of the endmembers (5, 6) with leaves.
        leaf_off: The same without leaves.
        parcel: Mean side of a parcel in pixels.
        warp: Curvature of the borders of parcels in pixels.
        shares: Share of the parcels of each land use but water.
        water: Share of the area with water.
        grain: Size of tree crowns in pixels.
    """

    leaf_on: Array = field(default_factory=LEAF_ON.copy)
    leaf_off: Array = field(default_factory=LEAF_OFF.copy)
    parcel: float = 24.0
    warp: float = 1.5
    shares: tuple[float, ...] = (0.14, 0.12, 0.18, 0.11, 0.15, 0.15, 0.15)
    water: float = 0.08
    grain: float = 1.0

    @classmethod
    def draw(cls, seed: int) -> "Region":
        """A random region: each spectrum deviates by a smooth curve of about 12 per cent; shapes and shares vary."""
        rng = np.random.default_rng((seed, 10))
        tilt = np.linspace(-1, 1, 6)
        curves = np.stack([np.ones(6), tilt, 1.5 * tilt**2 - 0.5])
        factors = [np.exp(0.08 * rng.standard_normal((len(ENDMEMBERS), 3)) @ curves) for _ in range(2)]
        mean = np.array(cls.shares)
        shares = rng.dirichlet(14 * mean)
        return cls(
            LEAF_ON * factors[0],
            LEAF_OFF * factors[1],
            parcel=float(rng.uniform(17, 32)),
            warp=float(rng.uniform(0.5, 3)),
            shares=tuple(0.5 * (shares + mean)),
            water=float(rng.uniform(0.04, 0.12)),
            grain=float(rng.uniform(0.9, 1.2)),
        )

    def endmembers(self, day: float) -> Array:
        """Spectra (5, 6) on a day of the year 1..366."""
        leaves = np.zeros((len(ENDMEMBERS), 1))
        leaves[1], leaves[2] = 0.9 * growth(day, 115, 290) + 0.1, 0.75 * growth(day, 85, 250) + 0.25
        return leaves * self.leaf_on + (1 - leaves) * self.leaf_off


def growth(day: float, start: float, end: float) -> float:
    """Greenness 0..1 on a day: it rises around `start` and falls around `end`, by two logistic curves."""
    return float(_sigmoid((day - start) / 12) * _sigmoid((end - day) / 15))


@dataclass(frozen=True)
class Sensor:
    """What a sensor does to reflectance.

    Attributes:
        gain: Factor per band.
        offset: Offset per band, after the gain.
        response: Matrix (6, 6) whose rows sum to one: part of each band's response is that of its neighbours.
        noise: Standard deviation of the noise.
    """

    gain: Array = field(default_factory=lambda: np.ones(6))
    offset: Array = field(default_factory=lambda: np.zeros(6))
    response: Array = field(default_factory=lambda: np.eye(6))
    noise: float = 0.004

    @classmethod
    def draw(cls, seed: int) -> "Sensor":
        """A random sensor: gains of 1 +- 0.08, offsets of +- 0.01, broader bands, and up to three times the noise."""
        rng = np.random.default_rng((seed, 11))
        neighbours = np.eye(6, k=1) + np.eye(6, k=-1)
        neighbours /= neighbours.sum(axis=1, keepdims=True)
        mixed = rng.uniform(0, 0.2)
        return cls(
            1 + 0.08 * rng.standard_normal(6),
            0.01 * rng.standard_normal(6),
            (1 - mixed) * np.eye(6) + mixed * neighbours,
            float(rng.uniform(0.004, 0.012)),
        )

    def measure(self, reflectance: Array, rng: np.random.Generator) -> Array:
        """Measured values (6, H, W) of reflectances (6, H, W)."""
        measured = np.einsum("bc,chw->bhw", self.response, reflectance)
        measured = self.gain[:, None, None] * measured + self.offset[:, None, None]
        return measured + self.noise * rng.standard_normal(reflectance.shape)


@dataclass(frozen=True)
class Conditions:
    """Circumstances of an acquisition.

    Attributes:
        region: The region.
        day: Day of the year 1..366.
        sensor: The sensor.
        relief: Standard deviation of the logarithm of illumination, over hills.
        variation: The same of small-scale variation of the surface.
        clouds: Whether there can be clouds and shadows.
        swath_edge: Whether a part of the scene can lie outside the swath, without data.
        fragments: Whether parcels are about two pixels wide, with trees at random.
    """

    region: Region = field(default_factory=Region)
    day: float = 180.0
    sensor: Sensor = field(default_factory=Sensor)
    relief: float = 0.12
    variation: float = 0.05
    clouds: bool = True
    swath_edge: bool = True
    fragments: bool = False


@dataclass(frozen=True)
class Scene:
    """An image and its truth.

    Attributes:
        image: Measured values (6, H, W).
        valid: Pixels with data (H, W).
        fractions: Fractions of the endmembers (5, H, W); their sum is 1.
        land_use: Land use with the largest part of each pixel (H, W), an index of `LAND_USES`.
        parcels: Number of the parcel of each pixel (H, W).
        opacity: Opacity of clouds (H, W), 0..1.
    """

    image: Array
    valid: NDArray[np.bool_]
    fractions: Array
    land_use: NDArray[np.int64]
    parcels: NDArray[np.int64]
    opacity: Array

    @cached_property
    def cover(self) -> NDArray[np.int64]:
        """The dominant endmember of each pixel (H, W), an index of `ENDMEMBERS`."""
        return self.fractions.argmax(axis=0)

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """Pixels with data that no thick cloud hides (H, W)."""
        return self.valid & (self.opacity < 0.5)


def make_scene(seed: int, conditions: Conditions, size: int = 128) -> Scene:
    """Make a scene of `size` x `size` pixels; the same seed and conditions give the same scene."""
    ground, sky, sensor, swath = (np.random.default_rng((seed, step)) for step in range(4))
    fractions, land_use, parcels = make_ground(ground, conditions, size)
    surface = np.einsum("ec,ehw->chw", conditions.region.endmembers(conditions.day), fractions)
    surface = surface * np.exp(conditions.relief * random_field(ground, size, size, roughness=0.3))
    surface = surface * np.exp(conditions.variation * random_field(ground, size, size, roughness=0.9))
    opacity, shadow = make_sky(sky, size) if conditions.clouds else (np.zeros((size, size)),) * 2
    image = (1 - opacity) * surface * (1 - 0.5 * shadow) + opacity * _CLOUD[:, None, None]
    image = conditions.sensor.measure(image, sensor)
    valid = np.ones((size, size), dtype=bool)
    if conditions.swath_edge and swath.random() < 0.3:
        edge = swath.uniform(0.7, 1) * size - 0.2 * np.arange(size)[:, None]
        valid = np.arange(size)[None, :] < edge
    return Scene(image, valid, fractions, land_use, parcels, opacity)


_CLOUD = np.array((0.50, 0.50, 0.51, 0.55, 0.42, 0.32))


def make_sky(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """Opacity of clouds and of their shadows (H, W); two thirds of the scenes are almost clear."""
    level = rng.choice([3.5, 2.2, 1.2], p=[0.6, 0.2, 0.2])
    # A larger sky than the ground, so that clouds outside cast shadows inside.
    opacity = _sigmoid(6 * (random_field(rng, 2 * size, 2 * size, roughness=0.3) - level))
    down, right = size // 10, size // 14
    corner = size // 4
    window = slice(corner, corner + size), slice(corner, corner + size)
    shifted = slice(corner - down, corner - down + size), slice(corner - right, corner - right + size)
    return opacity[window], opacity[shifted]


def make_ground(
    rng: np.random.Generator, conditions: Conditions, size: int
) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Fractions (5, H, W), land use (H, W) and number of the parcel (H, W)."""
    region = conditions.region
    if conditions.fragments:
        region = replace(region, parcel=2.0, warp=0.0)
    fine = _SUBPIXELS * size
    side = int(np.ceil(size / region.parcel)) + 2
    grid = np.stack(np.meshgrid(np.arange(-1, side - 1), np.arange(-1, side - 1), indexing="ij"), axis=-1)
    centres = region.parcel * (grid.reshape(-1, 2) + rng.uniform(0, 1, (side * side, 2)))
    uses = rng.choice(np.arange(1, len(LAND_USES)), len(centres), p=region.shares / np.sum(region.shares))
    places = (np.mgrid[:fine, :fine] + 0.5) / _SUBPIXELS
    bend = np.stack([gaussian_filter(rng.standard_normal((fine, fine)), 12, mode="wrap") for _ in range(2)])
    places = places + region.warp * bend / bend.std()
    # In the metric |x| + |y| borders are straight and run in few directions, as those of fields do.
    nearest = cKDTree(centres).query(places.reshape(2, -1).T, p=1)[1].reshape(fine, fine)
    elevation = random_field(rng, fine, fine, roughness=0.9 if conditions.fragments else 0.2)
    fine_use = np.where(elevation < np.quantile(elevation, region.water), WATER, uses[nearest])
    middle = nearest[1::_SUBPIXELS, 1::_SUBPIXELS]
    kinds = _compositions(rng, conditions, middle, len(centres), size)
    parts = np.stack([_coarse(fine_use == use) for use in range(len(LAND_USES))])
    return np.einsum("uhw,uehw->ehw", parts, kinds), parts.argmax(axis=0), middle


def _compositions(
    rng: np.random.Generator, conditions: Conditions, parcels: NDArray[np.int64], count: int, size: int
) -> Array:
    """Fractions of the endmembers for each land use (8, 5, H, W), if it covered the whole pixel."""
    trees, herbs, soil, built = (np.zeros((len(LAND_USES), size, size)) for _ in range(4))
    noise = [uniform(rng.standard_normal((size, size))) for _ in range(4)]
    water = np.zeros_like(trees)
    water[WATER] = 1
    trees[FOREST] = 0.75 + 0.25 * uniform(
        gaussian_filter(rng.standard_normal((size, size)), 1.5, mode="wrap")
    )
    herbs[FOREST] = 1 - trees[FOREST]
    herbs[MEADOW] = 0.7 + 0.3 * noise[0]
    soil[MEADOW] = 1 - herbs[MEADOW]
    # Half of the fields have a winter crop, the others a summer crop, each with its own dates.
    delay, winter = rng.uniform(-15, 15, count), rng.random(count) < 0.5
    crop = np.array([
        growth(conditions.day - shift, *((70, 190) if early else (150, 270)))
        for shift, early in zip(delay, winter, strict=True)
    ])  # fmt: skip
    herbs[CROPLAND] = np.clip(0.05 + 0.85 * crop[parcels] + 0.1 * noise[1], 0, 1)
    soil[CROPLAND] = 1 - herbs[CROPLAND]
    blocks = uniform(gaussian_filter(rng.standard_normal((size, size)), 0.8, mode="wrap"))
    streets = (np.arange(size) % 7 == 0)[:, None] | (np.arange(size) % 9 == 0)[None, :]
    built[SETTLEMENT] = np.where(streets, 0.85 + 0.1 * noise[2], 0.25 + 0.6 * blocks)
    trees[SETTLEMENT] = 0.6 * (1 - built[SETTLEMENT])
    herbs[SETTLEMENT] = 0.4 * (1 - built[SETTLEMENT])
    # Every pattern has uniform ranks, so the same distribution of tree cover, and the same undergrowth.
    share, undergrowth = rng.uniform(0.3, 0.5, count)[parcels], rng.uniform(0.2, 0.8, count)[parcels]
    for use, ranks in zip(
        (ROWS, SCATTERED, GROVES), _patterns(rng, conditions, parcels, count, size), strict=True
    ):
        trees[use] = _sigmoid(10 * (ranks - 1 + share))
        herbs[use] = (1 - trees[use]) * undergrowth
        soil[use] = (1 - trees[use]) * (1 - undergrowth)
    return np.stack([water, trees, herbs, soil, built], axis=1)


def _patterns(
    rng: np.random.Generator, conditions: Conditions, parcels: NDArray[np.int64], count: int, size: int
) -> list[Array]:
    """Ranks 0..1 of tree cover (H, W) in rows, for scattered trees, and in groves."""
    grain = conditions.region.grain
    angle, period, phase = (
        rng.uniform(0, np.pi, count),
        rng.uniform(4, 6.5, count),
        rng.uniform(0, 6.28, count),
    )
    rows, columns = np.mgrid[:size, :size]
    along = rows * np.sin(angle)[parcels] + columns * np.cos(angle)[parcels]
    white = [rng.standard_normal((size, size)) for _ in range(3)]
    waves = np.cos(2 * np.pi * along / (grain * period[parcels]) + phase[parcels])
    if conditions.fragments:
        return [uniform(values) for values in white]
    smooth = [gaussian_filter(white[k], scale * grain, mode="wrap") for k, scale in ((1, 0.9), (2, 2.4))]
    return [uniform(waves + 0.25 * white[0]), *(uniform(values) for values in smooth)]


def uniform(values: Array) -> Array:
    """The rank of each value among all, 0..1."""
    ranks = np.empty(values.size)
    ranks[values.ravel().argsort()] = (np.arange(values.size) + 0.5) / values.size
    return ranks.reshape(values.shape)


def _coarse(part: NDArray[np.bool_]) -> Array:
    size = len(part) // _SUBPIXELS
    mean: Array = part.reshape(size, _SUBPIXELS, size, _SUBPIXELS).mean(axis=(1, 3))
    return mean


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))
