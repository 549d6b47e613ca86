"""Writing windows of labelled scenes as a chip dataset."""

import csv
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio
import shapely
import torch
import yaml
from rasterio.crs import CRS
from rasterio.transform import from_origin
from torch.utils.data import DataLoader, Dataset
from torchgeo.datasets import GeoDataset

from .datamodules.labelled_scenes import LabelledScenesDataModule
from .errors import ConfigError, DataError
from .files import writing
from .targets import IGNORE_INDEX, ClassTarget

_IMAGES, _LABELS = "images/*_image.tif", "labels/*_label.tif"


def write_chips(
    data: LabelledScenesDataModule, folder: Path, epochs: int = 1, num_workers: int = 1
) -> tuple[int, int]:
    """Write training windows as they are drawn, and validation and test windows as they are scored.

    ``images/`` holds float32 in the unit of the statistics, NaN where there is no data; ``labels/`` class
    numbers, 255 where there is none. ``splits.csv`` lists the chips, ``data.yaml`` is a configuration that
    trains on them, and ``chips.parquet`` is a GeoParquet table of their outlines, splits, dates and class
    counts, which a GIS opens. Chips that an unfinished start left are kept.

    Args:
        data: Scenes, labels, splits and samplers.
        folder: Where the chips go.
        epochs: Epochs of training windows.
        num_workers: Processes that read and write; 0 for this one.

    Returns:
        The number of chips written, and of those that were there.

    Raises:
        ConfigError: The folder holds something else, or the labels are not classes.
        DataError: A scene cannot be read or a chip cannot be written.
    """
    if not isinstance(data.spec.target, ClassTarget):
        raise ConfigError(
            f"data: its labels are {data.spec.target.kind}; chips can only be cut for class labels"
        )
    data.setup("fit")
    parts: list[tuple[str, Any]] = [("train", _TrainingWindows(data, epochs))]
    if data.validates:
        parts.append(("val", data.val_dataset))
    if "test" in data.split_regions.splits:
        data.setup("test")
        parts.append(("test", data.test_dataset))
    _claim(folder, data, epochs)
    rows: list[dict[str, Any]] = []
    for split, dataset in parts:
        writer = _ChipWriter(dataset, folder, split)
        loader = DataLoader(writer, batch_size=None, num_workers=num_workers)
        rows += [json.loads(row) for row in loader]
    _write_lists(folder, rows, data)
    existing = sum(row.pop("existing") for row in rows)
    return len(rows) - existing, existing


class _TrainingWindows(Dataset[dict[str, Any]]):
    """The windows that training draws in its first epochs, in their order."""

    def __init__(self, data: LabelledScenesDataModule, epochs: int) -> None:
        self.dataset: Any = data.train_dataset
        sampler: Any = data.train_sampler
        self.queries: list[Any] = []
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            self.queries += list(sampler)

    def __len__(self) -> int:
        return len(self.queries)

    def query(self, index: int) -> Any:
        return self.queries[index]

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample: dict[str, Any] = self.dataset[self.queries[index]]
        return sample


class _ChipWriter(Dataset[str]):
    """Writes a chip when it is asked for its row of the table, as JSON."""

    def __init__(self, dataset: Any, folder: Path, split: str) -> None:
        self.dataset = dataset
        self.folder = folder
        self.split = split

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> str:
        name = f"{self.split}_{index:06d}"
        row_path = self.folder / "rows" / f"{name}.json"
        if row_path.exists():  # written last
            return json.dumps({**json.loads(row_path.read_text()), "existing": True})
        x, y, t = self.dataset.query(index)
        sample = self.dataset[index]
        image = np.where(sample["valid"], sample["image"], np.float32("nan")).reshape(
            -1, *sample["mask"].shape
        )
        mask = sample["mask"].numpy().astype(np.uint8)
        corner = from_origin(x.start, y.stop, x.step, y.step)
        crs = self._crs()
        for pattern, values, nodata in ((_IMAGES, image, np.nan), (_LABELS, mask[None], IGNORE_INDEX)):
            path = self.folder / pattern.replace("*", name)
            partial = path.with_suffix(".partial")
            with writing(path):
                with rasterio.open(
                    partial, "w", driver="GTiff", height=mask.shape[0], width=mask.shape[1], count=len(values),
                    dtype=values.dtype, nodata=nodata, crs=crs, transform=corner, compress="deflate",
                ) as out:  # fmt: skip
                    out.write(values)
                partial.replace(path)
        row = {
            "chip": name,
            "split": self.split,
            "from": None if t.start <= pd.Timestamp.min else str(t.start.date()),
            "to": None if t.stop >= pd.Timestamp.max else str(t.stop.date()),
            "bounds": [x.start, y.start, x.stop, y.stop],
            "counts": torch.bincount(sample["mask"].flatten(), minlength=IGNORE_INDEX + 1).tolist(),
        }
        partial = row_path.with_suffix(".partial")
        partial.write_text(json.dumps(row))
        partial.replace(row_path)
        return json.dumps({**row, "existing": False})

    def _crs(self) -> CRS | None:
        source = self.dataset.dataset  # images & labels
        return None if source.crs is None else CRS.from_user_input(source.crs)


def _claim(folder: Path, data: LabelledScenesDataModule, epochs: int) -> None:
    """Create the folder, or check that an existing one was written with the same configuration."""
    known: list[Any] = [
        data.images,
        data.labels,
        data.classes,
        repr(data.split),
        data.window,
        data.stride,
        data.seed,
    ]
    known += [
        data.windows_per_epoch,
        data.balanced,
        repr(data.composite),
        data.qa_mask,
        data.spec.to_dict(),
        epochs,
    ]
    key = hashlib.sha256(json.dumps(known, default=repr).encode()).hexdigest()
    marker = folder / "rows" / "key"
    if folder.exists() and any(folder.iterdir()) and not (marker.exists() and marker.read_text() == key):
        raise ConfigError(
            f"{folder}: exists and was written with another configuration; name another folder, or remove it"
        )
    try:
        for name in ("images", "labels", "rows"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        marker.write_text(key)
    except OSError as error:
        raise DataError(f"{folder}: cannot be created ({error})") from error


def _write_lists(folder: Path, rows: Sequence[dict[str, Any]], data: LabelledScenesDataModule) -> None:
    spec, dataset = data.spec, data.train_dataset
    assert isinstance(dataset, GeoDataset)
    with (folder / "splits.csv").open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("chip", "split"))
        lines.writerows((row["chip"], row["split"]) for row in rows)
    table = geopandas.GeoDataFrame(
        {key: [row[key] for row in rows] for key in ("chip", "split", "from", "to")}
        | {name: [row["counts"][k] for row in rows] for k, name in enumerate(spec.target.names)}
        | {"unlabelled": [row["counts"][IGNORE_INDEX] for row in rows]},
        geometry=[shapely.box(*row["bounds"]) for row in rows],
        crs=dataset.crs,
    )
    table.to_parquet(folder / "chips.parquet")
    settings = {
        "images": str(folder / _IMAGES),
        "labels": str(folder / _LABELS),
        "splits": str(folder / "splits.csv"),
        "classes": dict(enumerate(spec.target.names)),
        "class_colors": list(spec.target.colors),
        "ignored_labels": [IGNORE_INDEX],
        "bands": list(spec.input.bands),
        "num_frames": spec.input.num_frames,
        "mean": list(spec.input.mean),
        "std": list(spec.input.std),
        "crop_size": data.window,
        "batch_size": data.batch_size,
    }
    module = {"class_path": "ChipFolderDataModule", "init_args": settings}
    (folder / "data.yaml").write_text(yaml.safe_dump({"data": module}, sort_keys=False, allow_unicode=True))
    shutil.rmtree(folder / "rows")
