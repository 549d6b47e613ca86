"""A mapping run: several scenes, of which one that fails leaves the others alone."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from torch import Tensor

from ..datamodules.stream import Log, ReadingFailed, RowsRead, SegmentRead, WindowRead
from ..errors import DataError
from .blending import check_logits
from .index import write_index
from .outputs import check_outputs
from .scene_map import SceneMap, SceneResult


class MapRun:
    """The maps of several scenes.

    Args:
        maps: The map of each scene.
        failed: Shared with the data module: names of scenes that are not to be read any further.
        broken: Scenes that could not be read at all.
        there: Maps that exist and are left alone; the index shows them too.
        legacy: NaN counts as data, as in hls-foundation-os, so logits may be NaN too.
    """

    def __init__(
        self,
        maps: Sequence[SceneMap],
        failed: set[str],
        broken: Sequence[SceneResult] = (),
        there: Sequence[Path] = (),
        legacy: bool = False,
    ) -> None:
        self.broken = broken
        self.there = list(there)
        self.maps = {one.scene.name: one for one in maps}
        self.failed = failed
        self.legacy = legacy
        self._mark = perf_counter()

    def prepare(self) -> dict[str, list[int]]:
        """Take up what an earlier start left; the strips of each scene that are still to be mapped."""
        pending = {}
        for name, scene_map in self.maps.items():
            try:
                pending[name] = scene_map.prepare()
            except DataError as error:
                self._fail(scene_map, error)
                pending[name] = []
        self._mark = perf_counter()
        return pending

    def take(self, log: Log, logits: Tensor | None, keep: tuple[int, int, int, int] | None = None) -> None:
        """Take in a batch.

        Args:
            log: What was read, see `WindowStream`.
            logits: (B, K, h, w), of the batch's windows or of what `keep` says of them.
            keep: Top, left, bottom and right of the windows' pixels that have logits.

        Raises:
            ConfigError: The logits are not one per class.
        """
        if logits is not None and log.events:
            check_outputs(logits, self.maps[log.events[0].segment.scene.name].spec)
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
                if isinstance(event, WindowRead) and window is not None and not self.legacy:
                    check_logits(event, window)
                if isinstance(event, RowsRead) and event.top == event.segment.top:
                    scene_map.begin(event.segment, self._mark)
                scene_map.add(event, window, corner)
                if isinstance(event, SegmentRead):
                    self._mark = perf_counter()
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
        done = [one for one in self.maps.values() if one.is_done and one.options.profile == "cog"]
        paths = self.there + [one.path for one in done]
        replace = bool(self.there) or any(one.options.overwrite for one in done)
        return write_index(paths, folder, replace) if done else []

    def clear(self) -> None:
        """Remove what was kept for another start, if there is nothing left to do."""
        if not self.broken and all(one.is_done for one in self.maps.values()):
            for one in self.maps.values():
                one.parts.remove()
