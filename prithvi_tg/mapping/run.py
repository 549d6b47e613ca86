"""A mapping run: from the logits of windows to maps on disk, resumable and shared out over processes."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from rasterio.errors import RasterioError
from torch import Tensor

from ..datamodules.stream import Log, ReadingFailed, RowsRead, Segment, SegmentRead, WindowRead
from ..datasets.scenes import Scene
from ..errors import ConfigError, DataError
from ..spec import DataSpec
from ..windows import WindowPlan
from .areas import row_areas
from .blending import BlendedRows, Blender
from .index import write_index
from .parts import PartFolder, StripWriter
from .polygons import write_polygons
from .products import Layer, ProbabilityType, Profile, category_names, create_layers, write_raster
from .quicklooks import write_quicklook
from .stac import stac_item, write_stac_item


@dataclass(frozen=True)
class OutputOptions:
    """What is written for a scene.

    Attributes:
        profile: ``cog``, or ``legacy``: what hls-foundation-os wrote, and nothing beside it.
        probabilities: Also write ``NAME_probabilities.tif``, a band per class, in this type.
        confidence: Also write ``NAME_confidence.tif``, the highest probability.
        vector: Also write ``NAME_pred.gpkg``, polygons of these classes; takes memory as it has content.
        quicklook: Also write ``NAME_pred.png``, a picture of scene and map.
        overwrite: Replace files that exist.
    """

    profile: Profile = "cog"
    probabilities: ProbabilityType | None = None
    confidence: bool = False
    vector: tuple[str, ...] = ()
    quicklook: bool = False
    overwrite: bool = False


@dataclass
class SceneResult:
    """What became of a scene, for the table at the end."""

    name: str
    path: Path
    height: int = 0
    width: int = 0
    windows: int = 0
    skipped: int = 0
    seconds: float = 0.0
    shares: tuple[float, ...] = ()
    error: str | None = None


class SceneMap:
    """The map of one scene, while it is made.

    Args:
        scene: The scene.
        plan: Its windows.
        path: The map of classes; what else is written is named after it.
        spec: Class names and colours.
        options: What to write.
        identity: Everything beside the scene that the pixels depend on.
        tags: Tags of the map.
    """

    def __init__(
        self,
        scene: Scene,
        plan: WindowPlan,
        path: Path,
        spec: DataSpec,
        options: OutputOptions,
        identity: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> None:
        self.scene = scene
        self.plan = plan
        self.path = path
        self.spec = spec
        self.options = options
        self.tags = tags
        self.layers = create_layers(spec, options.profile, options.probabilities, options.confidence)
        self.error: str | None = None
        self.areas = row_areas(scene.grid)
        parts = path.with_name(f".{path.stem}.parts")
        self.parts = PartFolder(parts, _key(scene, plan, self.layers, identity), self.layers)
        self._blender: Blender | None = None
        self._writer: StripWriter | None = None
        self._run: dict[int, int] = {}
        self._mark = perf_counter()

    # What is written.

    @property
    def outputs(self) -> dict[str, Path]:
        """Every file of the finished map, by what it is."""
        stem = self.path.stem.removesuffix("_pred")
        paths = {}
        for layer in self.layers:
            if not layer.is_classes:
                paths[layer.name] = self.path.with_name(f"{stem}_{layer.name}.tif")
        if self.options.vector:
            paths["polygons"] = self.path.with_suffix(".gpkg")
        if self.options.quicklook:
            paths["quicklook"] = self.path.with_suffix(".png")
        if self.options.profile == "cog":
            paths["names"] = self.path.with_name(f"{self.path.name}.aux.xml")
            paths["item"] = self.path.with_suffix(".json")
        return {**paths, "pred": self.path}

    @property
    def is_done(self) -> bool:
        """Whether an earlier start of the same run finished it."""
        return self.parts.is_ours and self.parts.read("done") is not None and self.path.exists()

    def check_free(self) -> None:
        """Make sure that nothing is in the way.

        Raises:
            ConfigError: A file exists that this run did not write, and is not to be replaced.
        """
        if self.options.overwrite or (self.parts.is_ours and self.parts.read("publishing") is not None):
            return
        for path in reversed(self.outputs.values()):
            if path.exists():
                raise ConfigError(
                    f"{path}: exists; say --overwrite to replace it, or choose another --output"
                )

    def prepare(self) -> list[int]:
        """Take up what an earlier start left; the strips that are still to be mapped.

        Raises:
            DataError: The folder cannot be written to.
        """
        with self._writing():
            if self.is_done:
                return []
            self.parts.prepare()
            if self.parts.read("publishing") is not None:
                self._publish()
                return []
            left = [strip.number for strip in self.plan.strips if not self.parts.is_sound(strip.number)]
            for number in left:
                self.parts.forget(number)
            if not left:
                self.assemble()
        return left

    # Windows come in.

    def begin(self, segment: Segment) -> None:
        """Start a segment of strips."""
        self._blender = Blender(self.plan, segment.top, segment.bottom)
        self._run = {}

    def add(
        self, event: RowsRead | WindowRead | SegmentRead, logits: Tensor | None, corner: tuple[int, int]
    ) -> None:
        """Take in what was read, and write the rows that it finishes.

        Raises:
            DataError: They cannot be written.
        """
        assert self._blender is not None
        if isinstance(event, WindowRead):
            self._run[event.row] = self._run.get(event.row, 0) + 1
        self._write(self._blender.take(event, logits, corner))

    def _write(self, finished: Iterator[BlendedRows]) -> None:
        with self._writing():
            for rows in finished:
                for part in self._by_strip(rows):
                    strip = self._strip_at(part.top)
                    if self._writer is None:
                        self._writer = StripWriter(self.parts, strip, self.scene.grid, self.areas)
                    self._writer.add(part)
                    if part.bottom == strip.bottom:
                        self._finish_strip()

    def _finish_strip(self) -> None:
        assert self._writer is not None
        strip = self._writer.strip
        kept = self.plan.rows.kept
        own = [row for row in range(strip.first, strip.last + 1) if kept[row][0] >= strip.top]
        run = sum(self._run.get(row, 0) for row in own)
        seconds = perf_counter() - self._mark
        self._writer.finish(run, len(own) * len(self.plan.columns.starts) - run, seconds)
        self._writer = None
        self._mark = perf_counter()
        if all(self.parts.strip_record(other.number) for other in self.plan.strips) and self.parts.claim():
            self.assemble()

    def _strip_at(self, row: int) -> Any:
        return next(strip for strip in self.plan.strips if strip.top <= row < strip.bottom)

    def _by_strip(self, rows: BlendedRows) -> Iterator[BlendedRows]:
        top = rows.top
        while top < rows.bottom:
            bottom = min(rows.bottom, self._strip_at(top).bottom)
            span = slice(top - rows.top, bottom - rows.top)
            logits = None if rows.logits is None else rows.logits[:, span]
            yield BlendedRows(top, logits, rows.masked[span])
            top = bottom

    def fail(self, reason: str) -> None:
        """Give up; strips that are complete stay for another start."""
        self.error = reason
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        self._blender = None

    # The finished map.

    def assemble(self) -> None:
        """Put the strips together, make what belongs to the map, and give all of it its final names."""
        grid, options, folder = self.scene.grid, self.options, self.parts.path
        made = {what: folder / path.name for what, path in self.outputs.items()}
        for layer in self.layers:
            pieces = self.parts.pieces(self.plan.strips, layer)
            write_raster(made[layer.name], pieces, layer, grid, self.spec, options.profile, self.tags)
        if "names" in made:
            made["names"].write_text(category_names(self.spec))
        if "polygons" in made:
            classes = [self.spec.class_names.index(name) for name in options.vector]
            write_polygons(made["pred"], made["polygons"], classes, self.spec)
        if "quicklook" in made:
            write_quicklook(made["pred"], made["quicklook"], self.scene, self.spec)
        records = [self.parts.strip_record(strip.number) for strip in self.plan.strips]
        count = len(self.spec.class_names)
        pixels = [sum(record["pixels"][k] for record in records) for k in range(count)]
        areas = None
        if self.areas is not None:
            areas = [sum(record["square_metres"][k] for record in records) for k in range(count)]
        if "item" in made:
            assets = {what: path for what, path in made.items() if what not in ("names", "item")}
            item = stac_item(
                made["pred"],
                grid,
                self.spec,
                pixels,
                areas,
                assets,
                self.scene.dates,
                self.scene.files,
                {f"prithvi_tg:{key}": value for key, value in self.tags.items()},
            )
            write_stac_item(item, made["item"])
        summary = {key: sum(record[key] for record in records) for key in ("windows", "skipped", "seconds")}
        self.parts.write("publishing", {**summary, "pixels": pixels})
        self._publish()

    def _publish(self) -> None:
        for path in self.outputs.values():  # the map itself comes last
            made = self.parts.path / path.name
            if made.exists():
                made.replace(path)
                print(f"Written: {shown(path)}", flush=True)
        self.parts.write("done", self.parts.read("publishing"))
        self.parts.clear()

    def _writing(self) -> "_Writing":
        return _Writing(self.path)

    def result(self) -> SceneResult:
        """What became of the scene."""
        grid = self.scene.grid
        result = SceneResult(self.scene.name, self.path, grid.height, grid.width, error=self.error)
        done = self.parts.read("done")
        if done is None:
            result.error = result.error or "not finished"
            return result
        mapped = max(1, sum(done["pixels"]))
        result.windows, result.skipped, result.seconds = done["windows"], done["skipped"], done["seconds"]
        result.shares = tuple(count / mapped for count in done["pixels"])
        return result


class _Writing:
    """Turns errors of writing into ours, named after the map."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RasterioError | OSError):
            raise DataError(f"{self.path}: cannot be written ({error})") from error


def _key(scene: Scene, plan: WindowPlan, layers: Sequence[Layer], identity: Mapping[str, Any]) -> str:
    """A hash of everything that the pixels of a map depend on."""
    files = {}
    for path in scene.files:
        local = Path(path)
        stat = local.stat() if local.exists() else None
        files[path] = None if stat is None else [stat.st_size, stat.st_mtime_ns]
    known = [files, repr(scene), repr(plan), repr(layers), dict(identity)]
    return hashlib.sha256(json.dumps(known, default=repr).encode()).hexdigest()


def shown(path: Path) -> Path:
    """A path as it is printed: from the current folder, if it lies there."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class MapRun:
    """The maps of several scenes.

    Args:
        maps: The map of each scene.
        failed: Shared with the data module: names of scenes that are not to be read any further.
        broken: Scenes that could not be read at all.
    """

    def __init__(
        self, maps: Sequence[SceneMap], failed: set[str], broken: Sequence[SceneResult] = ()
    ) -> None:
        self.broken = broken
        self.maps = {one.scene.name: one for one in maps}
        self.failed = failed

    def prepare(self) -> dict[str, list[int]]:
        """Take up what an earlier start left; the strips of each scene that are still to be mapped."""
        pending = {}
        for name, scene_map in self.maps.items():
            try:
                pending[name] = scene_map.prepare()
            except DataError as error:
                self._fail(scene_map, error)
                pending[name] = []
        return pending

    def take(self, log: Log, logits: Tensor | None, keep: tuple[int, int, int, int] | None = None) -> None:
        """Take in a batch.

        Args:
            log: What was read, see `WindowStream`.
            logits: (B, K, h, w), of the batch's windows or of what `keep` says of them.
            keep: Top, left, bottom and right of the windows' pixels that have logits.
        """
        values = None if logits is None else logits.detach().float().cpu()
        corner = (0, 0) if keep is None else keep[:2]
        position = 0
        for event in log.events:
            scene_map = self.maps[event.segment.scene.name]
            window = None
            if isinstance(event, WindowRead):
                assert values is not None
                window, position = values[position], position + 1
            if scene_map.error is not None:
                continue
            try:
                if isinstance(event, ReadingFailed):
                    raise event.error
                if isinstance(event, RowsRead) and event.top == event.segment.top:
                    scene_map.begin(event.segment)
                scene_map.add(event, window, corner)
            except DataError as error:
                self._fail(scene_map, error)

    def _fail(self, scene_map: SceneMap, error: DataError) -> None:
        scene_map.fail(str(error))
        self.failed.add(scene_map.scene.name)

    def results(self) -> list[SceneResult]:
        """What became of each scene."""
        return [scene_map.result() for scene_map in self.maps.values()] + list(self.broken)

    def write_indexes(self, folder: Path) -> list[Path]:
        """A VRT per CRS that shows all maps of the run as one."""
        paths = [one.path for one in self.maps.values() if one.is_done and one.options.profile == "cog"]
        return write_index(paths, folder) if paths else []

    def clear(self) -> None:
        """Remove what was kept for another start, if there is nothing left to do."""
        if not self.broken and all(one.is_done for one in self.maps.values()):
            for one in self.maps.values():
                one.parts.remove()
