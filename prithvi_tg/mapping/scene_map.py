"""SceneMap: blends the logits of one scene, writes the files of its map, and resumes an interrupted run."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, DataError, counted
from ..files import finished_file, shown, writing
from ..readers.fingerprint import fingerprint
from ..readers.pixel_areas import row_areas
from ..readers.scene import Scene
from ..readers.words import without_signature
from ..spec import DataSpec
from ..tiling import Strip, WindowGrid
from .blending import BlendedRows, Blender
from .combination import Combination
from .products import PRODUCTS, FinishedMap, MapContext, OutputOptions, Product, select_products
from .row_reader import StripRange
from .strip_store import EncodedRows, StripStore, StripWriter
from .window_stream import RowsRead, StripRangeRead, WindowRead

_log = logging.getLogger(__name__)

#: Counts that are summed over the strips of a map.
_SUMS = ("windows", "skipped", "seconds", "nodata")


@dataclass
class SceneResult:
    """The result of mapping a scene, for the table at the end.

    Attributes:
        name: Name of the scene.
        path: Path of the map.
        height: Height of the map in pixels.
        width: Width of the map in pixels.
        windows: Number of windows that the model ran on.
        skipped: Number of windows without data.
        seconds: Duration in seconds.
        summary: Lines about the map from its products.
        nodata: Fraction of nodata pixels, among those of the area of interest if there is one.
        was_complete: Whether an interrupted run had completed the map.
        error: Error message if there is no map.
    """

    name: str
    path: Path
    height: int = 0
    width: int = 0
    windows: int = 0
    skipped: int = 0
    seconds: float = 0.0
    summary: tuple[str, ...] = ()
    nodata: float = 0.0
    was_complete: bool = False
    error: str | None = None


class SceneMap:
    """Creates the map of one scene.

    Args:
        scene: The scene.
        plan: Windows of the scene.
        path: Path of the map; the names of other outputs derive from it.
        spec: Description of the data, with the target.
        options: Which files to write.
        identity: All settings besides the scene that the pixels depend on.
        tags: Tags of the map.
        combination: What the channels of the outputs are, if they are not those of one model.

    Raises:
        ConfigError: A product does not support the target, or two products write the same file.
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
        combination: Combination | None = None,
    ) -> None:
        self.combination = combination
        self.scene = replace(scene, grid=scene.grid.cropped(plan.rows.mapped, plan.columns.mapped))
        self.plan = plan
        first = plan.rows.mapped[0]
        self._strips = [
            replace(strip, top=strip.top - first, bottom=strip.bottom - first) for strip in plan.strips
        ]
        self.path = path
        self.spec = spec
        self.options = options
        self.error: str | None = None
        self._was_complete = False  # the map of an interrupted run
        self.products = select_products(spec, options)
        context = MapContext(self.scene, path, spec, options, tags, row_areas(self.scene.grid))
        for product in self.products:
            product.begin(context)
        self.outputs = _outputs(self.products)
        layers = [product.layer for product in self.products if product.layer is not None]
        parts = path.with_name(f".{path.stem}.parts")
        self.parts = StripStore(parts, _key(scene, plan, self.products, identity), layers)
        self._blender: Blender | None = None
        self._writer: StripWriter | None = None
        self._run: dict[int, int] = {}
        self._mark = 0.0

    # Outputs.

    @property
    def is_done(self) -> bool:
        """Whether this run, or an earlier run that it resumes, completed the map."""
        complete = all(path.exists() for path in self.outputs.values())
        return complete and self.parts.belongs_to_run and self.parts.read("done") is not None

    @property
    def strips_kept(self) -> int:
        """Number of complete strips, also of other processes and of an earlier run."""
        return sum(self.parts.strip_record(strip.number) is not None for strip in self.plan.strips)

    def check_free(self, can_skip: bool = True) -> None:
        """Check that no output exists, unless it may be replaced.

        Args:
            can_skip: Whether the command can skip scenes with a map; for the message.

        Raises:
            ConfigError: A file exists that this run did not write.
        """
        if self.options.overwrite or (
            self.parts.belongs_to_run and self.parts.read("publishing") is not None
        ):
            return
        for path in reversed(self.outputs.values()):
            if path.exists():
                skip = "skip_existing=True to keep it, " if can_skip else ""
                raise ConfigError(
                    f"{path}: exists; add overwrite=True to replace it, {skip}or choose another output"
                )

    def prepare(self) -> list[int]:
        """Resume an earlier run if there is one, and return the numbers of the pending strips.

        Raises:
            DataError: The folder cannot be written to.
        """
        with writing(self.path):
            if self.is_done:
                self._was_complete = True
                _log.info(f"{self.scene.name}: already complete, kept")
                return []
            if self.parts.read("run") is not None and not self.parts.belongs_to_run:
                _log.info(f"{self.scene.name}: discarded the strips of an earlier run with other settings")
            self.parts.prepare()
            if self.parts.read("publishing") is not None:
                self.parts.write("resumed", True)
                self._publish()
                if self.is_done:
                    return []
                self.parts.empty()  # the strips lack outputs that are requested now
                self.parts.prepare()
            left = [strip.number for strip in self.plan.strips if not self.parts.is_intact(strip.number)]
            for number in left:
                self.parts.discard(number)
            if len(left) < len(self.plan.strips):
                done = len(self.plan.strips) - len(left)
                self.parts.write("resumed", True)  # for all processes
                _log.info(
                    f"{self.scene.name}: resuming; {done} of {len(self.plan.strips)} strips "
                    f"{'is' if done == 1 else 'are'} complete"
                )
            if not left:
                self.assemble()
        return left

    # Input of windows.

    def begin(self, strip_range: StripRange, since: float, device: torch.device) -> None:
        """Start a range of strips, with logits on `device`; `since` is its start time by `perf_counter`."""
        self._mark = since
        rows = BlendedRows if self.combination is None else self.combination.rows
        self._blender = Blender(strip_range.plan, strip_range.top, strip_range.bottom, device, rows)
        self._run = {}

    def add(
        self, event: RowsRead | WindowRead | StripRangeRead, logits: Tensor | None, corner: tuple[int, int]
    ) -> Iterator[Callable[[], None]]:
        """Add an event, and yield jobs that write the rows it completes; run them in order, one at a time."""
        assert self._blender is not None
        if isinstance(event, WindowRead):
            self._run[event.row] = self._run.get(event.row, 0) + 1
        for rows in self._blender.update(event, logits, corner):
            for strip, part in self._by_strip(rows):
                encoded = EncodedRows(part, self.products)
                counts = self._counts(strip) if part.bottom == strip.bottom else None
                yield partial(self.run, partial(self._write, strip, encoded, counts))

    def _counts(self, strip: Strip) -> tuple[int, int, float]:
        """Number of windows of a strip that ran and that were skipped, and its duration in seconds."""
        core, first = self.plan.rows.core, self.plan.rows.mapped[0]
        own = [row for row in range(strip.first, strip.last + 1) if max(0, core[row][0] - first) >= strip.top]
        run = sum(self._run.get(row, 0) for row in own)
        now = perf_counter()
        seconds, self._mark = now - self._mark, now
        return run, sum(self.plan.count(row, row) for row in own) - run, seconds

    def _by_strip(self, rows: BlendedRows) -> Iterator[tuple[Strip, BlendedRows]]:
        top = rows.top
        while top < rows.bottom:
            strip = next(strip for strip in self._strips if strip.top <= top < strip.bottom)
            bottom = min(rows.bottom, strip.bottom)
            yield strip, rows.between(top, bottom)
            top = bottom

    # Called in the writing thread.

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, unless the scene has failed; an error while writing fails the scene."""
        if self.error is not None:
            self.abandon()
            return
        try:
            with writing(self.path):
                job()
        except DataError as error:
            self.fail(str(error))
            self.abandon()

    def _write(self, strip: Strip, rows: EncodedRows, counts: tuple[int, int, float] | None) -> None:
        if self._writer is None:
            self._writer = StripWriter(self.parts, strip, self.scene.grid, self.products)
        self._writer.add(rows)
        if counts is not None:
            self._writer.finish(*counts)
            self._writer = None

    def claim_assembly(self) -> bool:
        """Claim the assembly; true if all strips are complete and no other process claimed it."""
        return all(self.parts.strip_record(strip.number) for strip in self.plan.strips) and self.parts.claim()

    def fail(self, reason: str) -> None:
        """Mark the scene as failed; complete strips remain, so that the run can be resumed."""
        self.error = self.error or reason

    def abandon(self) -> None:
        """Remove the files of an incomplete strip."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    # The completed map.

    def assemble(self) -> None:
        """Assemble the strips, write all products, and move the files to their final names.

        Raises:
            ConfigError: A product does not write its files.
        """
        made = {key: self.parts.path / path.name for key, path in self.outputs.items()}
        records = [self.parts.strip_record(strip.number) for strip in self.plan.strips]
        finished = FinishedMap(made, self.products, records, self.parts, self._strips)
        for product in self.products:
            product.finish(finished)
            if missing := [key for key in product.outputs() if not made[key].exists()]:
                raise ConfigError(
                    f"products: {product.name}.finish does not write its file {missing[0]!r}; write it to "
                    f"finished.files[{missing[0]!r}]"
                )
        done = {key: sum(record[key] for record in records) for key in _SUMS}
        texts = [product.summary(finished) for product in self.products]
        summary = [line for text in texts for line in ([text] if isinstance(text, str) else text)]
        self.parts.write("publishing", {**done, "summary": summary})
        self._publish()

    def _publish(self) -> None:
        if self.options.overwrite:
            possible = {path for product in PRODUCTS.values() for path in product.earlier_outputs(self.path)}
            for path in possible - set(self.outputs.values()):
                path.unlink(missing_ok=True)
        for path in self.outputs.values():  # the map itself comes last
            made = self.parts.path / path.name
            if made.exists():
                if path.parent == self.path.parent:
                    made.replace(path)
                else:
                    _move(made, path)
                _log.info(f"Written: {shown(path)}")
        done = self.parts.read("publishing")
        self.parts.write("done", done)
        self.parts.clear()
        runs = " over all runs" if self.parts.read("resumed") else ""
        _log.info(
            f"{self.scene.name}: complete, {counted(done['windows'], 'window')} in {done['seconds']:.1f} s{runs}"
        )
        if self._nodata_share(done["nodata"]) == 1:
            where = "" if self.plan.area is None else " in the area of interest"
            _log.warning(f"{self.scene.name}: no pixel{where} has data, so the map is empty")

    def _nodata_share(self, nodata: int) -> float:
        """Fraction of the pixels to map that have no data, from the number of all nodata pixels of the map."""
        whole = self.scene.grid.height * self.scene.grid.width
        mapped = whole if self.plan.area is None else self.plan.area.size
        return (nodata - (whole - mapped)) / max(1, mapped)

    def result(self) -> SceneResult:
        """The result of the scene."""
        grid = self.scene.grid
        result = SceneResult(self.scene.name, self.path, grid.height, grid.width, error=self.error)
        done = self.parts.read("done")
        if done is None:
            result.error = result.error or "not finished"
            return result
        result.windows, result.skipped, result.seconds = done["windows"], done["skipped"], done["seconds"]
        result.nodata, result.was_complete = self._nodata_share(done["nodata"]), self._was_complete
        result.summary = tuple(done["summary"])
        return result


def _move(made: Path, path: Path) -> None:
    """Move a file to its final name, possibly on another disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with finished_file(path) as partial:
        shutil.copyfile(made, partial)
    made.unlink()


def _outputs(products: Sequence[Product]) -> dict[str, Path]:
    """All files of the completed map by key, the map itself last."""
    paths: dict[str, Path] = {}
    for product in products:
        for key, path in product.outputs().items():
            if key in paths or path.name in {other.name for other in paths.values()}:
                raise ConfigError(
                    f"{product.name}: another product of the map also writes {path.name} ({key})"
                )
            paths[key] = path
    return {**{key: path for key, path in paths.items() if key != "pred"}, "pred": paths["pred"]}


def _key(scene: Scene, plan: WindowGrid, products: Sequence[Product], identity: Mapping[str, Any]) -> str:
    """A hash of everything that the pixels of a map depend on."""
    files = {path: fingerprint(path) for path in scene.files}
    # Of the others, such as pictures, nothing is in the strips.
    stored = [one for one in products if one.layer or type(one).write is not Product.write]
    made = [(type(one).__module__, type(one).__qualname__, repr(one.layer)) for one in stored]
    known = [files, repr(scene), repr(plan), made, dict(identity)]
    text = json.dumps(known, default=repr)
    for path in scene.files:  # a signature expires, but a run with another one still resumes
        text = text.replace(path, without_signature(path))
    return hashlib.sha256(text.encode()).hexdigest()
