"""Classes of whole chips, as a table, and of the windows of scenes, as maps with one pixel a window."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio
import shapely
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchgeo.datamodules import BaseDataModule

from ..augmentations import Normalization
from ..datasets.scenes.dataset import SceneDataset
from ..errors import ConfigError, DataError
from ..files import finished_file, writing
from ..readers.formats import InputOptions, find_inputs, resolve_scene
from ..readers.scene import Scene, SceneReader
from ..spec import DataSpec, InputSpec
from ..targets import IGNORE_INDEX, ChipClassTarget
from ..tasks import PrithviClassificationTask, load_task
from .planning import known_spec, warn_of_pixel_size
from .resources import Auto

TABLE = "chip_classes"  # .csv and .parquet
#: Side in pixels; a ViT computes attention between all patches of a chip.
LARGEST_CHIP = 1024


@dataclass(frozen=True)
class ChipWindow:
    """A part of a scene that gets one class.

    Attributes:
        scene: Number of the scene.
        top: First row.
        left: First column.
        height: Rows; they may reach over the edge of the scene, as do columns.
        width: Columns.
    """

    scene: int
    top: int
    left: int
    height: int
    width: int


class ChipBatches(Dataset[dict[str, Any]]):
    """Batches of windows of equal size.

    A batch holds ``image`` (B, T, C, H, W) in the unit of the statistics, ``index`` (B,), the windows' numbers, and,
    for models that were trained with them, ``timestamps`` (B, T, 2) and ``location`` (B, 2).

    Args:
        scenes: The scenes.
        windows: Their windows.
        spec: Bands, units and statistics that the model expects.
        batch_size: Windows in a batch.
    """

    def __init__(
        self, scenes: Sequence[Scene], windows: Sequence[ChipWindow], spec: InputSpec, batch_size: int
    ) -> None:
        self.scenes = scenes
        self.windows = windows
        self.spec = spec
        self.batches: list[list[int]] = []
        for _, group in groupby(range(len(windows)), lambda k: (windows[k].height, windows[k].width)):
            numbers = list(group)
            self.batches += [numbers[k : k + batch_size] for k in range(0, len(numbers), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        numbers = self.batches[index]
        images, has_data = [], []
        for scene, group in groupby(numbers, lambda k: self.windows[k].scene):
            with SceneReader(self.scenes[scene], self.spec) as reader:
                for number in group:
                    image, found = self._read(reader, self.windows[number])
                    images.append(torch.from_numpy(image))
                    has_data.append(found)
        batch = {"image": torch.stack(images), "index": torch.tensor(numbers), "data": torch.tensor(has_data)}
        return batch | (self._coordinates(numbers) if self.spec.metadata else {})

    def _read(self, reader: SceneReader, window: ChipWindow) -> tuple[NDArray[np.float32], bool]:
        """Image (T, C, H, W), the band's mean beyond the edge, and whether it holds any data."""
        grid, spec = reader.scene.grid, self.spec
        bottom = min(window.top + window.height, grid.height)
        right = min(window.left + window.width, grid.width)
        pixels = reader.read(window.top, bottom, window.left, right)
        image = np.empty((len(spec.channel_mean), window.height, window.width), np.float32)
        image[:] = np.array(spec.channel_mean, np.float32)[:, None, None]
        image[:, : bottom - window.top, : right - window.left] = pixels.values
        shape = (spec.num_frames, len(spec.bands), window.height, window.width)
        return image.reshape(shape), bool(pixels.valid.any())

    def _coordinates(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        unknown = np.full((self.spec.num_frames, 2), np.nan, np.float32)
        days, places = [], []
        for window in (self.windows[number] for number in numbers):
            scene = self.scenes[window.scene]
            days.append(unknown if scene.timestamps is None else scene.timestamps)
            middle = window.top + window.height / 2, window.left + window.width / 2
            places.append(scene.grid.latitudes_and_longitudes([middle[0]], [middle[1]])[0])
        return {
            "timestamps": torch.from_numpy(np.stack(days)),
            "location": torch.from_numpy(np.stack(places)),
        }


class ChipBatchesDataModule(BaseDataModule):
    """Batches of `ChipBatches`, normalised on the device, for `Trainer.predict`."""

    def __init__(self, batches: ChipBatches, spec: DataSpec, batch_size: int, num_workers: int) -> None:
        super().__init__(SceneDataset, batch_size, num_workers)
        self.batches = batches
        self.spec = spec
        self.mean = torch.tensor(spec.input.channel_mean)
        self.std = torch.tensor(spec.input.channel_std)
        self.normalize = self.aug = Normalization(self.mean, self.std)

    def predict_dataloader(self) -> DataLoader[Any]:
        """One batch after another."""
        return DataLoader(self.batches, batch_size=None, num_workers=self.num_workers)


@dataclass
class ChipClassRun:
    """What a model predicts for windows, and the files that it becomes.

    Attributes:
        scenes: The scenes.
        windows: Their windows.
        target: The classes.
        output: Folder.
        is_map: Whether each scene becomes a map; otherwise all become one table.
        probabilities: Of each window (K,), by its number; ``None`` where the window holds no data.
    """

    scenes: Sequence[Scene]
    windows: Sequence[ChipWindow]
    target: ChipClassTarget
    output: Path
    is_map: bool
    probabilities: dict[int, list[float] | None] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """What `write` may write."""
        if self.is_map:
            return [self.output / f"{scene.name}_pred.tif" for scene in self.scenes]
        return [self.output / f"{TABLE}{suffix}" for suffix in (".csv", ".parquet")]

    def update(self, batch: dict[str, Any], probabilities: Tensor) -> None:
        """Take in the probabilities (B, K) of a batch."""
        found = zip(batch["index"].tolist(), batch["data"].tolist(), probabilities.tolist(), strict=True)
        self.probabilities |= {number: row if has_data else None for number, has_data, row in found}

    def write(self) -> list[Path]:
        """Write the table or the maps.

        Raises:
            DataError: A file cannot be written.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        return self._write_maps() if self.is_map else self._write_table()

    def _classes(self, row: list[float] | None) -> str:
        names = self.target.names
        if row is None:
            return ""
        if self.target.multilabel:
            return ";".join(name for name, value in zip(names, row, strict=True) if value > 0.5)
        return names[int(np.argmax(row))]

    def _write_table(self) -> list[Path]:
        table, outlined = self.paths
        names = self.target.names
        nothing = [float("nan")] * len(names)
        rows = []
        for number, window in enumerate(self.windows):
            found, scene = self.probabilities[number], self.scenes[window.scene]
            values = dict(zip(names, nothing if found is None else found, strict=True))
            rows.append({"chip": scene.name, "class": self._classes(found), **values, "path": scene.files[0]})
        frame = pd.DataFrame(rows)
        with writing(table), finished_file(table) as partial:
            frame.to_csv(partial, index=False)
        placed = [scene.grid.is_placed for scene in self.scenes]
        if not any(placed):
            return [table]
        outlines = [
            _outline(scene) if known else None for scene, known in zip(self.scenes, placed, strict=True)
        ]
        with writing(outlined), finished_file(outlined) as partial:
            geopandas.GeoDataFrame(frame, geometry=outlines, crs="EPSG:4326").to_parquet(partial)
        return [table, outlined]

    def _write_maps(self) -> list[Path]:
        for number, path in enumerate(self.paths):
            scene = self.scenes[number]
            held = {k: window for k, window in enumerate(self.windows) if window.scene == number}
            side = next(iter(held.values())).height
            shape = (
                1 + max(w.top for w in held.values()) // side,
                1 + max(w.left for w in held.values()) // side,
            )
            values = np.full((len(self.target.names), *shape), np.nan, np.float32)
            for k, window in held.items():
                row = self.probabilities[k]
                if row is not None:
                    values[:, window.top // side, window.left // side] = row
            with writing(path), finished_file(path) as partial:
                self._write_map(partial, scene, side, values)
        return self.paths

    def _write_map(self, path: Path, scene: Scene, side: int, values: NDArray[np.float32]) -> None:
        """Probabilities (K, h, w) as classes, or, of several classes, as a band per class."""
        known = ~np.isnan(values[0])
        layers: NDArray[Any] = values
        descriptions: tuple[str, ...] = self.target.names
        nodata = float("nan")
        if not self.target.multilabel:
            layers = np.where(known, np.where(known, values, 0).argmax(axis=0), IGNORE_INDEX)[None].astype(
                np.uint8
            )
            descriptions, nodata = ("class",), IGNORE_INDEX
        with rasterio.open(
            path, "w", driver="GTiff", dtype=layers.dtype, count=len(layers), height=layers.shape[1],
            width=layers.shape[2], crs=scene.grid.crs, transform=scene.grid.transform * rasterio.Affine.scale(side),
            nodata=nodata, compress="deflate",
        ) as out:  # fmt: skip
            out.write(layers)
            out.descriptions = descriptions
            out.update_tags(classes=" ".join(f"{k}={name}" for k, name in enumerate(self.target.names)))


def _outline(scene: Scene) -> shapely.Polygon:
    """Outline of a scene, degrees."""
    grid = scene.grid
    places = grid.latitudes_and_longitudes([0, 0, grid.height, grid.height], [0, grid.width, grid.width, 0])
    return shapely.Polygon(places[:, ::-1])


def plan_chip_classes(
    spec: DataSpec,
    scenes: Sequence[str | Path],
    output: Path,
    reading: InputOptions,
    *,
    window: int | None = None,
    batch_size: int | Auto = "auto",
    num_workers: int | Auto = "auto",
    overwrite: bool = False,
) -> tuple[ChipBatchesDataModule, ChipClassRun]:
    """Find chips or scenes, before any work.

    Args:
        spec: Bands, statistics and classes of the model.
        scenes: Words as `find_inputs` takes them.
        output: Folder of the table or the maps.
        reading: How the files are to be read.
        window: Side of the windows that scenes are cut into, in pixels; by default each file is one chip.
        batch_size: Windows in a batch.
        num_workers: Processes that read.
        overwrite: Replace files that exist.

    Returns:
        The batches, and what becomes of them.

    Raises:
        ConfigError: A file exists, or a scene is too large to be one chip.
        DataError: There is no scene, or one cannot be read.
    """
    assert isinstance(spec.target, ChipClassTarget)
    found = find_inputs(scenes, spec.input.num_frames)
    resolved = [resolve_scene(one, spec.input, reading) for one in found]
    names = [scene.name for scene in resolved]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"scenes: {name} is named twice; classify them into different folders")
    warn_of_pixel_size(resolved, spec)
    windows: list[ChipWindow] = []
    for number, scene in enumerate(resolved):
        grid = scene.grid
        if window is None:
            if max(grid.height, grid.width) > LARGEST_CHIP:
                raise ConfigError(
                    f"window: not given, but {scene.name} has {grid.width} x {grid.height} pixels, more than a chip of "
                    f"{LARGEST_CHIP}; give the size of the training chips, --window"
                )
            windows.append(ChipWindow(number, 0, 0, grid.height, grid.width))
            continue
        windows += [
            ChipWindow(number, window * row, window * column, window, window)
            for row in range(math.ceil(grid.height / window))
            for column in range(math.ceil(grid.width / window))
        ]
    run = ChipClassRun(resolved, windows, spec.target, output, window is not None)
    existing = [path for path in run.paths if path.exists()]
    if existing and not overwrite:
        raise ConfigError(f"output: {existing[0]} exists; give --overwrite, or another folder")
    size = 4 if batch_size == "auto" else batch_size
    batches = ChipBatches(resolved, windows, spec.input, size)
    return ChipBatchesDataModule(batches, spec, size, 0 if num_workers == "auto" else num_workers), run


def classify_scenes(
    checkpoint: str | Path | PrithviClassificationTask,
    scenes: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    window: int | None = None,
    batch_size: int = 4,
    overwrite: bool = False,
    device: str | torch.device = "cpu",
    **options: Any,
) -> list[Path]:
    """Classify chips, or the windows of scenes, in one call, as ``prithvi-tg predict`` does.

    Args:
        checkpoint: A checkpoint that describes itself, or a task with a `data_spec`.
        scenes: Files or folders; see `find_inputs`.
        output: Folder of ``chip_classes.csv`` and, for chips with a geo-reference, ``chip_classes.parquet``; or of a
            map of each scene.
        window: Side of the windows that scenes are cut into, in pixels, which gives maps with one pixel a window; by
            default each file is one chip, which gives a table.
        batch_size: Windows in a batch.
        overwrite: Replace files that exist.
        device: Where to compute.
        **options: Fields of `InputOptions`, such as ``bands``.

    Returns:
        The files that were written.

    Raises:
        ConfigError: A file exists, or a scene is too large to be one chip.
        DataError: There is no scene, or one cannot be read.
    """
    task: Any = checkpoint if isinstance(checkpoint, PrithviClassificationTask) else load_task(checkpoint)
    words = [scenes] if isinstance(scenes, str | Path) else list(scenes)
    data, run = plan_chip_classes(
        known_spec(task), words, Path(output), InputOptions(**options), window=window, batch_size=batch_size,
        overwrite=overwrite,
    )  # fmt: skip
    task = task.eval().to(device)
    normalize = data.normalize.to(device)
    for number, batch in enumerate(data.predict_dataloader()):
        moved = {key: value.to(device) for key, value in batch.items()}
        with torch.inference_mode():
            run.update(batch, task.predict_step(normalize(moved), number))
    return run.write()
