"""The map of one scene: logits of windows come in, files go out, and a start that was cut short is taken up."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

from torch import Tensor

from ..errors import ConfigError
from ..files import shown, writing
from ..readers.fingerprint import fingerprint
from ..readers.scene import Scene
from ..readers.scene_paths import relative_words
from ..spec import DataSpec
from ..targets import IGNORE_INDEX
from ..tiling import Strip, WindowGrid
from .blending import BlendedRows, Blender
from .products.mapped_area import row_areas
from .products.polygons import write_polygons
from .products.quicklook import write_quicklook
from .products.rasters import Layer, ProbabilityType, Profile, category_names, create_layers, write_raster
from .products.stac import stac_item, write_stac_item
from .strip_store import StripStore, StripWriter
from .window_stream import RowsRead, StripRange, StripRangeRead, WindowRead

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputOptions:
    """What is written for a scene.

    Attributes:
        profile: ``cog``, or ``legacy``: what hls-foundation-os wrote, and nothing beside it.
        probabilities: Also write ``NAME_probabilities.tif``, a band per class, in this type.
        confidence: Also write ``NAME_confidence.tif``, the highest probability.
        vector: Also write ``NAME_pred.gpkg``, polygons of these classes; takes memory as it has content.
        quicklook: Also write ``NAME_pred.png``, a picture of scene and map.
        overwrite: Replace files that exist; what else an earlier map of the scene had goes with it.
        skip_existing: Leave scenes alone whose map exists, as in an archive that grows.

    Raises:
        ConfigError: A choice is unknown.
    """

    profile: Profile = "cog"
    probabilities: ProbabilityType | None = None
    confidence: bool = False
    vector: tuple[str, ...] = ()
    quicklook: bool = False
    overwrite: bool = False
    skip_existing: bool = False

    def __post_init__(self) -> None:
        for key, kind in (("profile", Profile), ("probabilities", ProbabilityType)):
            chosen = getattr(self, key)
            if chosen is not None and chosen not in get_args(kind):
                raise ConfigError(f"{key}: {chosen!r} is unknown; known are {', '.join(get_args(kind))}")
        if isinstance(self.vector, str):
            object.__setattr__(self, "vector", (self.vector,))


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
    nodata: float = 0.0
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
        plan: WindowGrid,
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
        self.parts = StripStore(parts, _key(scene, plan, self.layers, identity), self.layers)
        self._blender: Blender | None = None
        self._writer: StripWriter | None = None
        self._run: dict[int, int] = {}
        self._mark = 0.0

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

    def _every_output(self) -> set[Path]:
        stem = self.path.stem.removesuffix("_pred")
        others = {self.path.with_name(f"{stem}_{name}.tif") for name in ("probabilities", "confidence")}
        beside = {self.path.with_suffix(suffix) for suffix in (".gpkg", ".png", ".json")}
        return others | beside | {self.path.with_name(f"{self.path.name}.aux.xml")}

    @property
    def is_done(self) -> bool:
        """Whether this run, or an earlier start of it, has finished it."""
        complete = all(path.exists() for path in self.outputs.values())
        return complete and self.parts.belongs_to_run and self.parts.read("done") is not None

    def check_free(self) -> None:
        """Make sure that nothing is in the way.

        Raises:
            ConfigError: A file exists that this run did not write, and is not to be replaced.
        """
        if self.options.overwrite or (
            self.parts.belongs_to_run and self.parts.read("publishing") is not None
        ):
            return
        for path in reversed(self.outputs.values()):
            if path.exists():
                raise ConfigError(
                    f"{path}: exists; add --overwrite to replace it, --skip_existing to keep it, or choose another "
                    "--output"
                )

    def prepare(self) -> list[int]:
        """Take up what an earlier start left; the strips that are still to be mapped.

        Raises:
            DataError: The folder cannot be written to.
        """
        with writing(self.path):
            if self.is_done:
                return []
            if self.parts.path.exists() and not self.parts.belongs_to_run:
                _log.info(f"{self.scene.name}: discarded the strips of an earlier run with other settings")
            self.parts.prepare()
            if self.parts.read("publishing") is not None:
                self._publish()
                if self.is_done:
                    return []
                self.parts.remove()  # what else is wanted now was not made then
                self.parts.prepare()
            left = [strip.number for strip in self.plan.strips if not self.parts.is_intact(strip.number)]
            for number in left:
                self.parts.discard(number)
            if len(left) < len(self.plan.strips):
                done = len(self.plan.strips) - len(left)
                _log.info(
                    f"{self.scene.name}: resuming; {done} of {len(self.plan.strips)} strips are complete"
                )
            if not left:
                self.assemble()
        return left

    # Windows come in.

    def begin(self, strip_range: StripRange, since: float) -> None:
        """Start a range of strips; its time counts from a moment of `perf_counter`."""
        self._mark = since
        self._blender = Blender(self.plan, strip_range.top, strip_range.bottom)
        self._run = {}

    def add(
        self, event: RowsRead | WindowRead | StripRangeRead, logits: Tensor | None, corner: tuple[int, int]
    ) -> None:
        """Take in what was read, and write the rows that it finishes.

        Raises:
            DataError: They cannot be written.
        """
        assert self._blender is not None
        if isinstance(event, WindowRead):
            self._run[event.row] = self._run.get(event.row, 0) + 1
        self._write(self._blender.update(event, logits, corner))

    def _write(self, finished: Iterator[BlendedRows]) -> None:
        with writing(self.path):
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
        core = self.plan.rows.core
        own = [row for row in range(strip.first, strip.last + 1) if core[row][0] >= strip.top]
        run = sum(self._run.get(row, 0) for row in own)
        seconds = perf_counter() - self._mark
        self._writer.finish(run, len(own) * len(self.plan.columns.starts) - run, seconds)
        self._writer = None
        self._mark = perf_counter()
        if all(self.parts.strip_record(other.number) for other in self.plan.strips) and self.parts.claim():
            self.assemble()

    def _strip_at(self, row: int) -> Strip:
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
            classes = [self.spec.target.names.index(name) for name in options.vector]
            write_polygons(made["pred"], made["polygons"], classes, self.spec)
        if "quicklook" in made:
            write_quicklook(made["pred"], made["quicklook"], self.scene, self.spec)
        records = [self.parts.strip_record(strip.number) for strip in self.plan.strips]
        count = len(self.spec.target.names)
        pixels = [sum(record["pixels"][k] for record in records) for k in range(count)]
        areas = None
        if self.areas is not None:
            areas = [sum(record["square_metres"][k] for record in records) for k in range(count)]
        if "item" in made:
            home = self.outputs["pred"].parent
            tags = {f"prithvi_tg:{key}": value for key, value in self.tags.items()}
            assets = {what: path for what, path in made.items() if what not in ("names", "item")}
            item = stac_item(
                made["pred"],
                grid,
                self.spec,
                pixels,
                areas,
                assets,
                self.scene.dates,
                relative_words(self.scene.files, home),
                tags | {"prithvi_tg:scene": relative_words(self.scene.frames, home)},
            )
            write_stac_item(item, made["item"])
        summary = {key: sum(record[key] for record in records) for key in ("windows", "skipped", "seconds")}
        nodata = sum(record["pixels"][IGNORE_INDEX] for record in records)
        self.parts.write("publishing", {**summary, "pixels": pixels, "nodata": nodata})
        self._publish()

    def _publish(self) -> None:
        if self.options.overwrite:
            for path in self._every_output() - set(self.outputs.values()):
                path.unlink(missing_ok=True)
        for path in self.outputs.values():  # the map itself comes last
            made = self.parts.path / path.name
            if made.exists():
                made.replace(path)
                _log.info(f"Written: {shown(path)}")
        self.parts.write("done", self.parts.read("publishing"))
        self.parts.clear()

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
        result.nodata = done["nodata"] / max(1, result.height * result.width)
        result.shares = tuple(count / mapped for count in done["pixels"])
        return result


def _key(scene: Scene, plan: WindowGrid, layers: Sequence[Layer], identity: Mapping[str, Any]) -> str:
    """A hash of everything that the pixels of a map depend on."""
    files = {path: fingerprint(path) for path in scene.files}
    known = [files, repr(scene), repr(plan), repr(layers), dict(identity)]
    return hashlib.sha256(json.dumps(known, default=repr).encode()).hexdigest()
