"""The tasks of the benchmark: which labels, which chips, which score; and their data modules."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chips import NODATA, PATTERNS, SHIFTS, UNLABELLED, ChipRow, read_rows
from scenes import ENDMEMBERS, LAND_USES, ROWS

from prithvi_tg import PrithviClassificationTask, PrithviPixelwiseRegressionTask, PrithviSegmentationTask
from prithvi_tg.datamodules import (
    ChipDataModule,
    ChipFolderDataModule,
    ClassifiedChipsDataModule,
    ValueChipFolderDataModule,
)

#: Statistics of the pool with seed 0, in reflectance; they normalise the images of every run, as those of Prithvi do.
STATISTICS = {
    "mean": (0.1082, 0.1256, 0.1271, 0.2769, 0.2534, 0.1802),
    "std": (0.0438, 0.0457, 0.0571, 0.0912, 0.0968, 0.0839),
}
IMAGES = {"scale": 1e-4, "nodata": [NODATA], **STATISTICS}


@dataclass(frozen=True)
class Task:
    """A task of the benchmark.

    Attributes:
        name: Its name.
        title: What it predicts, for the page.
        score: Name of its score in the results of the task class.
        kind: Its class in prithvi_tg.
        data: Makes the data module: folder of the world, path of the list of splits, further arguments.
        accepts: Whether a chip has enough labels for the task.
        shifts: Test sets on which it is defined.
    """

    name: str
    title: str
    score: str
    kind: type[Any]
    data: Callable[..., ChipDataModule]
    accepts: Callable[[ChipRow], bool]
    shifts: tuple[str, ...]


def _cover(world: Path, splits: Path, labels: str = "cover", **options: Any) -> ChipDataModule:
    return ChipFolderDataModule(
        images=f"{world}/images/*.tif", labels=f"{world}/{labels}/*.tif", splits=splits,
        classes=dict(enumerate(ENDMEMBERS)), ignored_labels=[UNLABELLED], **IMAGES, **options,
    )  # fmt: skip


def _patterns(world: Path, splits: Path, **options: Any) -> ChipDataModule:
    return ChipFolderDataModule(
        images=f"{world}/images/*.tif", labels=f"{world}/land_use/*.tif", splits=splits,
        classes=dict(enumerate(PATTERNS, start=ROWS)), ignored_labels=[*range(ROWS), UNLABELLED],
        **IMAGES, **options,
    )  # fmt: skip


def _trees(world: Path, splits: Path, **options: Any) -> ChipDataModule:
    return ValueChipFolderDataModule(
        images=f"{world}/images/*.tif", labels=f"{world}/trees/*.tif", splits=splits, values=["trees"],
        value_mean=[0.3], value_std=[0.3], valid_range=(0, 1), **IMAGES, **options,
    )  # fmt: skip


def _land_use(world: Path, splits: Path, **options: Any) -> ChipDataModule:
    return ClassifiedChipsDataModule(
        images=f"{world}/images/*.tif", classes=LAND_USES, labels=splits, splits=splits, **IMAGES, **options
    )


_LAYOUTS = tuple(shift for shift in SHIFTS if shift != "fragments")  # fragments have no land use of a size

TASKS = {
    task.name: task
    for task in (
        Task(
            "cover", "dominant endmember of each pixel", "mIoU", PrithviSegmentationTask, _cover,
            lambda row: True, tuple(SHIFTS),
        ),
        Task(
            "patterns", "tree rows, scattered trees or groves", "mIoU", PrithviSegmentationTask, _patterns,
            lambda row: row.patterned > 0.1, _LAYOUTS,
        ),
        Task(
            "trees", "fraction of trees in each pixel", "R2", PrithviPixelwiseRegressionTask, _trees,
            lambda row: True, tuple(SHIFTS),
        ),
        Task(
            "land use", "main land use of a chip", "OA", PrithviClassificationTask, _land_use,
            lambda row: bool(row.land_use), _LAYOUTS,
        ),
    )
}  # fmt: skip


def write_splits(path: Path, world: Path, task: Task, size: int) -> Path:
    """Write the list of chips of a run: the first `size` training chips of a shuffled list, and all test sets.

    Larger training sets contain the smaller ones. The list also has the class of each chip.

    Args:
        path: The CSV file.
        world: Folder of the world.
        task: The task; chips without labels for it are left out.
        size: Number of training chips.
    """
    rows = [row for row in read_rows(world) if task.accepts(row) and row.part in ("train", *task.shifts)]
    train = [row for row in rows if row.part == "train"]
    if len(train) < size:
        raise ValueError(f"{world}: {len(train)} chips have labels for {task.name}, not {size}; write more")
    # Chips of one scene follow one another; every nth chip gives small sets that cover many scenes.
    order = sorted(train, key=lambda row: (row.chip[-2:], row.chip))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("chip", "split", "class"))
        tests = [row for row in rows if row.part != "train"]
        writer.writerows((row.chip, row.part, row.land_use) for row in [*order[:size], *tests])
    return path
