"""Chips cut from synthetic scenes, in folders that the data modules of prithvi_tg read.

A world is a random region with labelled chips for training and test sets, one for each shift. A pool is a folder of
chips without labels from many regions, days and sensors, for pre-training.
"""

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scenes import ENDMEMBERS, LAND_USES, PATTERNS, ROWS, Conditions, Region, Scene, Sensor, make_scene

from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.datasets.synthetic import write_raster

SCENE, CHIP = 128, 32
NODATA = -9999
UNLABELLED = 255
#: Days of the labelled images; those of the shift of season are the days before.
GROWING_SEASON = (110, 290)
WINTER = (15, 75)
#: Share of the parcels whose label is wrong in the noisy labels, and displacement of their borders in pixels.
WRONG_PARCELS, DISPLACEMENT = 0.3, 2
#: Numbers of scenes begin here for pools, so that no scene of a pool is one of a world.
_POOL_SEEDS, _WORLD_SEEDS = 500_000_000, 10_000


def _same(conditions: Conditions, seed: int) -> Conditions:
    return conditions


def _other_sensor(conditions: Conditions, seed: int) -> Conditions:
    return replace(conditions, sensor=Sensor.draw(seed))


def _winter(conditions: Conditions, seed: int) -> Conditions:
    return replace(conditions, day=float(np.random.default_rng((seed, 20)).uniform(*WINTER)))


def _other_region(conditions: Conditions, seed: int) -> Conditions:
    return replace(conditions, region=Region.draw(seed))


def _fragments(conditions: Conditions, seed: int) -> Conditions:
    return replace(conditions, fragments=True)


#: Test sets: what differs from the training set.
SHIFTS: dict[str, Callable[[Conditions, int], Conditions]] = {
    "same": _same,
    "sensor": _other_sensor,
    "season": _winter,
    "region": _other_region,
    "fragments": _fragments,
}


@dataclass(frozen=True)
class ChipRow:
    """A row of ``chips.csv``.

    Attributes:
        chip: Name of the chip.
        part: ``train``, or a key of `SHIFTS`.
        land_use: Land use of at least 40 per cent of the visible pixels; empty if there is none.
        patterned: Share of the visible pixels whose land use is one of `PATTERNS`.
    """

    chip: str
    part: str
    land_use: str
    patterned: float


def write_world(folder: Path, seed: int, train: int, test_scenes: int = 8) -> Path:
    """Write the chips of a world, if they are not there: images, labels and ``chips.csv``.

    Args:
        folder: Folder of the world.
        seed: Number of the world.
        train: Number of training chips.
        test_scenes: Scenes of each test set, with 16 chips each.

    Returns:
        The folder.
    """

    def scenes() -> Iterator[tuple[str, int, Conditions]]:
        home, first = Region.draw(seed), _WORLD_SEEDS * (seed + 1)
        for number in range(-(-train // 14)):  # some of the 16 chips of a scene are hidden by clouds
            yield "train", first + number, Conditions(home, day=_day(first + number, GROWING_SEASON))
        for number in range(first + 5000, first + 5000 + test_scenes):
            conditions = Conditions(home, day=_day(number, GROWING_SEASON))
            for name, shift in SHIFTS.items():
                yield name, number, shift(conditions, number)

    def write(temporary: Path) -> None:
        rows: list[ChipRow] = []
        for part, number, conditions in scenes():
            full = sum(row.part == "train" for row in rows) >= train
            if part != "train" or not full:
                rows += _write_scene(temporary, part, number, make_scene(number, conditions, SCENE))
        surplus = [row for row in rows if row.part == "train"][train:]
        _write_rows(temporary / "chips.csv", [row for row in rows if row not in surplus])

    return _once(folder, write)


def write_pool(folder: Path, seed: int, chips: int) -> Path:
    """Write images without labels of many regions, days of the whole year and sensors, if they are not there."""

    def write(temporary: Path) -> None:
        (temporary / "images").mkdir()
        for number in range(chips // (SCENE // CHIP) ** 2):
            scene_seed = _POOL_SEEDS + _WORLD_SEEDS * seed + number
            kind = np.random.default_rng((scene_seed, 21))
            sensor = Sensor.draw(scene_seed) if kind.random() < 0.5 else Sensor()
            conditions = Conditions(Region.draw(scene_seed), _day(scene_seed, (1, 366)), sensor)
            scene = make_scene(scene_seed, conditions, SCENE)
            for place, window in _windows():
                path = temporary / "images" / f"pool_{number:04d}_{place:02d}.tif"
                _write_image(path, scene, window)

    return _once(folder, write)


def _once(folder: Path, write: Callable[[Path], None]) -> Path:
    """Write a folder under another name first, so that a folder with the final name is complete."""
    if not folder.exists():
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        temporary.rename(folder)
    return folder


def _day(seed: int, days: tuple[int, int]) -> float:
    return float(np.random.default_rng((seed, 22)).uniform(*days))


def _windows() -> Iterator[tuple[int, tuple[slice, slice]]]:
    count = SCENE // CHIP
    for place in range(count * count):
        top, left = (CHIP * index for index in divmod(place, count))
        yield place, (slice(top, top + CHIP), slice(left, left + CHIP))


def _write_scene(folder: Path, part: str, number: int, scene: Scene) -> list[ChipRow]:
    rows = []
    noisy = noisy_labels(scene.cover, scene.parcels, number) if part == "train" else scene.cover
    layers = {"cover": scene.cover, "land_use": scene.land_use, "noisy": noisy}
    for kind in ("images", "trees", *layers):
        (folder / kind).mkdir(exist_ok=True)
    for place, window in _windows():
        visible = scene.visible[window]
        if visible.mean() < 0.5:
            continue
        chip = f"{part}_{number}_{place:02d}"
        _write_image(folder / "images" / f"{chip}.tif", scene, window)
        for kind, labels in layers.items():
            _write(
                folder / kind / f"{chip}.tif", np.where(visible, labels[window], UNLABELLED).astype(np.int16)
            )
        trees = np.where(visible, scene.fractions[ENDMEMBERS.index("trees")][window], -1)
        _write(folder / "trees" / f"{chip}.tif", trees.astype(np.float32), nodata=-1)
        shares = np.bincount(scene.land_use[window][visible], minlength=len(LAND_USES)) / visible.sum()
        land_use = LAND_USES[shares.argmax()] if shares.max() >= 0.4 else ""
        rows.append(ChipRow(chip, part, land_use, float(shares[ROWS:].sum())))
    return rows


def noisy_labels(cover: NDArray[np.int64], parcels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Cover (H, W) as a hasty interpreter draws it: displaced, with other classes in some of the parcels.

    Args:
        cover: True classes (H, W).
        parcels: Number of the parcel of each pixel (H, W).
        seed: Seed of the errors.
    """
    rng = np.random.default_rng((seed, 23))
    count = int(parcels.max()) + 1
    added = np.where(rng.random(count) < WRONG_PARCELS, rng.integers(1, len(ENDMEMBERS), count), 0)
    shift = rng.integers(-DISPLACEMENT, DISPLACEMENT + 1, 2)
    noisy: NDArray[np.int64] = (np.roll(cover, shift, axis=(0, 1)) + added[parcels]) % len(ENDMEMBERS)
    return noisy


def _write_image(path: Path, scene: Scene, window: tuple[slice, slice]) -> None:
    image = np.clip(np.rint(1e4 * scene.image[:, *window]), -500, 20000)
    _write(path, np.where(scene.valid[window], image, NODATA).astype(np.int16), NODATA, PRITHVI_BANDS)


def _write(
    path: Path,
    values: NDArray[np.int16] | NDArray[np.float32],
    nodata: float | None = None,
    names: tuple[str, ...] = (),
) -> None:
    write_raster(path, values, (500000.0, 4200000.0), nodata, pixel=10, crs="EPSG:32632", names=names)


def _write_rows(path: Path, rows: list[ChipRow]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ChipRow.__dataclass_fields__)
        writer.writerows((row.chip, row.part, row.land_use, f"{row.patterned:.3f}") for row in rows)


def read_rows(folder: Path) -> list[ChipRow]:
    """The rows of ``chips.csv`` of a world."""
    with (folder / "chips.csv").open(newline="") as file:
        return [
            ChipRow(row["chip"], row["part"], row["land_use"], float(row["patterned"]))
            for row in csv.DictReader(file)
        ]


__all__ = ["PATTERNS", "SHIFTS", "ChipRow", "noisy_labels", "read_rows", "write_pool", "write_world"]
