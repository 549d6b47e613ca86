"""Classes of whole chips as a table, and of windows of scenes as maps with one pixel per window."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor

from ..errors import ConfigError, counted
from ..files import finished_file, writing
from ..ranges import check_ranges
from ..readers.aoi import AreaOfInterest
from ..readers.formats import InputOptions, find_inputs, resolve_scene
from ..readers.grid import Grid
from ..readers.quality import QualityClass
from ..readers.scene import NodataRule, Scene
from ..spec import DataSpec
from ..targets import IGNORE_INDEX, ChipClassTarget
from ..tasks import PrithviTask
from ..tasks.precision import described_precision
from ..tiling import Blending
from .chip_windows import ChipBatches, ChipBatchesDataModule, ChipWindow
from .model_checks import check_outputs, warn_of_padding
from .outputs import is_map_file, map_paths, reserved, split_existing
from .planning import known_spec, split_options, task_and_hash, warn_of_pixel_size
from .products import Layer, OutputOptions
from .products.classes import category_names, colormap
from .products.index import write_index
from .products.rasters import write_cog
from .products.styles import write_class_style
from .provenance import describe
from .resources import Auto

TABLE = "chip_classes"  # .csv and .parquet
#: Size in pixels; limited because a ViT computes attention between all patches of a chip.
LARGEST_CHIP = 1024
#: A chip that is so many times as large as those of the training may well be a scene.
_MUCH_LARGER = 2
#: Options of `OutputOptions` that apply only to maps of pixels.
_OF_PIXELS = ("profile", "probabilities", "confidence", "vector", "quicklook", "products")


@dataclass
class ChipClassRun:
    """Collects the predictions of windows, and writes them as a table or as maps.

    Attributes:
        scenes: The scenes.
        windows: Windows of the scenes.
        spec: Bands, statistics and classes of the model.
        maps: Path of the map of each scene; empty if all scenes are chips of one table.
        folder: Folder of the table, or of the index of the maps.
        tags: Software, weights and settings, as tags of the files.
        existing: Existing maps that are kept; the index includes them.
        overwrite: Whether to replace existing files.
        probabilities: Probabilities (K,) of each window, by its number; ``None`` if the window has no data.
    """

    scenes: Sequence[Scene]
    windows: Sequence[ChipWindow]
    spec: DataSpec
    maps: Sequence[Path]
    folder: Path
    tags: Mapping[str, str]
    existing: Sequence[Path] = ()
    overwrite: bool = False
    probabilities: dict[int, list[float] | None] = field(default_factory=dict)

    @property
    def target(self) -> ChipClassTarget:
        """The classes."""
        assert isinstance(self.spec.target, ChipClassTarget)
        return self.spec.target

    @property
    def paths(self) -> list[Path]:
        """Paths that `write` may write, without the index of maps."""
        if self.maps or self.existing:
            return [path for one in self.maps for path in (*_sidecars(one), one)]
        return [self.folder / f"{TABLE}{suffix}" for suffix in (".csv", ".parquet")]

    def check_free(self) -> None:
        """Check that no file exists, unless it may be replaced.

        Raises:
            ConfigError: A file exists.
        """
        existing = [path for path in self.paths if path.exists()]
        if existing and not self.overwrite:
            skip = "skip_existing=True to keep it, " if self.maps else ""
            raise ConfigError(
                f"{existing[-1]}: exists; add overwrite=True to replace it, {skip}or choose another output"
            )

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Reserve the files for this run within the context.

        Raises:
            ConfigError: Another run has just written one of the files.
            DataError: Another run is writing one of them.
        """
        outputs = self.maps if self.maps or self.existing else [self.folder / f"{TABLE}.csv"]
        with reserved({path.with_name(f".{path.stem}.lock"): path for path in outputs}):
            self.check_free()
            yield

    def update(self, batch: dict[str, Any], probabilities: Tensor) -> None:
        """Add the probabilities (B, K) of a batch.

        Raises:
            ConfigError: The number of probabilities does not match the classes.
        """
        check_outputs(probabilities, self.spec)
        found = zip(batch["index"].tolist(), batch["data"].tolist(), probabilities.tolist(), strict=True)
        self.probabilities |= {number: row if has_data else None for number, has_data, row in found}

    def write(self) -> list[Path]:
        """Write the table, or the maps and their index. A file gets its final name when it is complete.

        Raises:
            DataError: A file cannot be written.
        """
        for folder in {path.parent for path in self.paths}:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        written = self._write_maps() if self.maps or self.existing else self._write_table()
        for path in {*self.paths} - {*written}:  # files of the replaced run
            path.unlink(missing_ok=True)
        return written

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
            content = parquet.read_table(partial)
            metadata = {**(content.schema.metadata or {}), **self.tags}
            parquet.write_table(content.replace_schema_metadata(metadata), partial)
        return [table, outlined]

    def _write_maps(self) -> list[Path]:
        written = []
        for number, path in enumerate(self.maps):
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
            with writing(path):
                written += self._write_map(path, self.scenes[number].grid.coarser(side, shape), values)
        indexed = [*self.existing, *self.maps]
        return written + write_index(indexed, self.folder, bool(self.existing) or self.overwrite)

    def _write_map(self, path: Path, grid: Grid, values: NDArray[np.float32]) -> list[Path]:
        """Write probabilities (K, h, w) as class numbers or, with several classes per window, as one band per class."""
        (names_path, style_path), written = _sidecars(path), [path]
        layers: NDArray[Any] = values
        layer = Layer("pred", self.target.names, "float32", float("nan"))
        if not self.target.multilabel:
            known = ~np.isnan(values[:1])
            classes = np.where(known, values, 0).argmax(axis=0, keepdims=True)
            layers = np.where(known, classes, IGNORE_INDEX).astype(np.uint8)
            layer = Layer("pred", ("class",))
            with finished_file(names_path) as partial:
                partial.write_text(category_names(self.spec))
            with finished_file(style_path) as partial:
                write_class_style(partial, self.target)
            written = [names_path, style_path, path]
        with finished_file(path) as partial:
            write_cog(partial, [(0, layers)], layer, grid, self.tags, self._decorate, "MODE")
        return written

    def _decorate(self, raster: Any) -> None:
        names = self.target.names
        if self.target.multilabel:
            raster.descriptions = names
            return
        raster.descriptions = ("class",)
        raster.write_colormap(1, colormap(self.spec))
        raster.update_tags(1, **{f"CLASS_{k}": name for k, name in enumerate(names)})


def _sidecars(path: Path) -> tuple[Path, Path]:
    """Paths of GDAL's sidecar file with the class names of a map, and of its style."""
    return path.with_name(f"{path.name}.aux.xml"), path.with_suffix(".qml")


def _outline(scene: Scene) -> shapely.Polygon:
    """Outline of a scene in degrees."""
    grid = scene.grid
    places = grid.latitudes_and_longitudes([0, 0, grid.height, grid.height], [0, grid.width, grid.width, 0])
    return shapely.Polygon(places[:, ::-1])


def plan_chip_classes(
    task: Any,
    spec: DataSpec,
    scenes: Sequence[str | Path],
    output: Path,
    weights: str,
    reading: InputOptions,
    writing: OutputOptions,
    *,
    window: int | None = None,
    stride: int | None = None,
    blending: Blending = "average",
    nodata_rule: NodataRule | None = None,
    qa_mask: Sequence[QualityClass] = (),
    batch_size: int | Auto = "auto",
    num_workers: int | Auto = "auto",
    precision: str = "32-true",
    tf32: bool = False,
    fold_time: bool = False,
    aoi: str | Path | AreaOfInterest | None = None,
) -> tuple[ChipBatchesDataModule, ChipClassRun]:
    """Find chips or scenes, and check that the outputs can be written. The arguments are those of `plan_maps`.

    Args:
        task: The task that classifies them.
        spec: Bands, statistics and classes of the task.
        scenes: Paths or patterns, see `find_inputs`.
        output: Folder of the table or the maps; or, for the map of one scene, the map itself (``.tif``).
        weights: Hash of the weights.
        reading: How to read the files.
        writing: ``overwrite`` or ``skip_existing``; options of maps of pixels are an error.
        window: Size of the windows of scenes in pixels; by default each file is one chip.
        stride: Must be ``None``: windows are adjacent.
        blending: Must be ``average``, the default: windows do not overlap.
        nodata_rule: When a pixel is nodata: ``all``, the default, or ``any``; windows of nodata get no class.
        qa_mask: Quality classes that count as nodata.
        batch_size: Number of windows in a batch.
        num_workers: Number of reading processes.
        precision: Precision of the trainer, for the tags.
        tf32: Whether TF32 is used, for the tags.
        fold_time: Return images as (B, T*C, H, W), for TorchGeo's own tasks.
        aoi: Must be ``None``: whole chips and windows are classified.

    Returns:
        The data module of the batches, and the run that collects and writes the results.

    Raises:
        ConfigError: A file exists, an option is invalid, or a scene is too large to be one chip.
        DataError: No scene is found, or a scene cannot be read.
    """
    rule: NodataRule = nodata_rule or "all"
    _check_options(writing, window, stride, blending, rule, batch_size, num_workers, aoi)
    found = find_inputs(scenes, spec.input.num_frames, reading.format)
    is_file = is_map_file(output)
    if is_file and window is None:
        raise ConfigError(f"output: {output} must be a folder, for {TABLE}.csv")
    paths = map_paths(found, output)
    pending, existing = split_existing(found, paths, writing)
    reading.check_quality(qa_mask)
    resolved = [resolve_scene(one, spec.input, reading) for one in pending]
    warn_of_pixel_size(resolved, spec)
    _warn_of_size(task, resolved, spec, window)
    windows = [one for number, scene in enumerate(resolved) for one in _cut(number, scene, window)]
    cut = "whole files" if window is None else f"window {window}, side by side"
    _, tags = describe(task, spec, weights, described_precision(precision, tf32), rule, qa_mask, cut)
    run = ChipClassRun(
        resolved,
        windows,
        spec,
        [] if window is None else [paths[scene.name] for scene in resolved],
        output.parent if is_file else output,
        tags,
        existing,
        writing.overwrite,
    )
    run.check_free()
    size = 4 if batch_size == "auto" else batch_size
    batches = ChipBatches(resolved, windows, spec.input, size, rule, qa_mask, fold_time)
    return ChipBatchesDataModule(batches, spec, size, 0 if num_workers == "auto" else num_workers), run


def _check_options(
    writing: OutputOptions,
    window: int | None,
    stride: int | None,
    blending: Blending,
    nodata_rule: NodataRule,
    batch_size: int | Auto,
    num_workers: int | Auto,
    aoi: str | Path | AreaOfInterest | None,
) -> None:
    """Check that a model of chip classes supports the options.

    Raises:
        ConfigError: An option is out of range, or does not apply.
    """
    check_ranges({"window": window, "batch_size": batch_size, "num_workers": num_workers})
    default = OutputOptions()
    given = [key for key in _OF_PIXELS if getattr(writing, key) != getattr(default, key)]
    if aoi is not None:
        given.append("aoi")
    if given:
        raise ConfigError(
            f"{given[0]}: applies to maps of pixels, but this model classifies whole chips or windows; remove it"
        )
    if stride is not None:
        raise ConfigError("stride: windows that are classified as a whole are adjacent; remove it")
    if blending != "average":
        raise ConfigError(
            f"blending: {blending!r}: windows that are classified as a whole do not overlap; remove it"
        )
    if nodata_rule == "legacy":
        raise ConfigError("nodata_rule: 'legacy' applies to maps of pixels; use all or any")
    if writing.skip_existing and window is None:
        raise ConfigError(
            f"skip_existing: all chips share one table, {TABLE}.csv; remove it, or choose another output"
        )


def _warn_of_size(task: Any, scenes: Sequence[Scene], spec: DataSpec, window: int | None) -> None:
    """Warn once if scenes that are one chip each are far larger than the training chips, or if windows are padded."""
    if window is not None:
        warn_of_padding(task, window)
        return
    side = spec.input.image_size
    large = [one for one in scenes if side and max(one.grid.height, one.grid.width) > _MUCH_LARGER * side]
    if large:
        grid, more = large[0].grid, len(large) - 1
        others = f" (also {counted(more, 'other scene')} of such a size)" if more else ""
        warnings.warn(
            f"{large[0].files[0]}: its {grid.width} x {grid.height} pixels are classified as one chip{others}, but the "
            f"training chips have {side} x {side}; for a map with one class per window, give window={side}",
            stacklevel=3,
        )


def _cut(number: int, scene: Scene, window: int | None) -> list[ChipWindow]:
    """Windows of a scene.

    Raises:
        ConfigError: The scene is too large to be one chip.
    """
    grid = scene.grid
    if window is None:
        if max(grid.height, grid.width) > LARGEST_CHIP:
            raise ConfigError(
                f"window: not given, but {scene.name} has {grid.width} x {grid.height} pixels, more than a chip of "
                f"{LARGEST_CHIP}; give the size of the training chips as window"
            )
        return [ChipWindow(number, 0, 0, grid.height, grid.width)]
    return [
        ChipWindow(number, window * row, window * column, window, window)
        for row in range(math.ceil(grid.height / window))
        for column in range(math.ceil(grid.width / window))
    ]


def classify_scenes(
    checkpoint: str | Path | PrithviTask,
    scenes: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    window: int | None = None,
    nodata_rule: NodataRule = "all",
    qa_mask: Sequence[QualityClass] = (),
    batch_size: int | Auto = "auto",
    device: str | torch.device = "cpu",
    **options: Any,
) -> list[Path]:
    """Classify chips, or the windows of scenes, in one call, as ``prithvi-tg predict`` does.

    Args:
        checkpoint: A checkpoint with a description of its data, or a task with a `data_spec`.
        scenes: Files or folders; see `find_inputs`.
        output: Folder of ``chip_classes.csv`` and, for georeferenced chips, ``chip_classes.parquet``; or of the maps
            of scenes and their index.
        window: Size of the windows of scenes in pixels; the output is maps with one pixel per window. By default
            each file is one chip, and the output is a table.
        nodata_rule: See `plan_chip_classes`.
        qa_mask: Quality classes that count as nodata.
        batch_size: Number of windows in a batch.
        device: Device of the model.
        **options: Fields of `InputOptions`, such as ``bands``; ``overwrite`` and ``skip_existing``.

    Returns:
        Paths of the written files.

    Raises:
        ConfigError: A file exists, an option is invalid, or a scene is too large to be one chip.
        DataError: No scene is found, or a scene cannot be read.
    """
    task, weights = task_and_hash(checkpoint)
    words = [scenes] if isinstance(scenes, str | Path) else list(scenes)
    reading, writing = split_options(options, classify_scenes)
    data, run = plan_chip_classes(
        task, known_spec(task), words, Path(output), weights, reading, writing, window=window,
        nodata_rule=nodata_rule, qa_mask=qa_mask, batch_size=batch_size,
    )  # fmt: skip
    task = task.eval().to(device)
    normalize = data.normalize.to(device)
    with run.reserved():
        for number, batch in enumerate(data.predict_dataloader()):
            moved = {key: value.to(device) for key, value in batch.items()}
            with torch.inference_mode():
                run.update(batch, task.predict_step(normalize(moved), number))
        return run.write()
