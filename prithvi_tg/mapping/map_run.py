"""A mapping run: several scenes, of which one that fails leaves the others alone."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from torch import Tensor

from ..errors import DataError
from .blending import check_logits
from .model_checks import check_outputs
from .products.index import write_index
from .scene_map import SceneMap, SceneResult
from .window_stream import ReadEvents, ReadingFailed, RowsRead, StripRangeRead, WindowRead


class MapRun:
    """The maps of several scenes.

    Args:
        maps: The map of each scene.
        failed: Shared with the data module: names of scenes that are not to be read any further.
        unreadable: Scenes that could not be read at all.
        existing: Maps that exist and are left alone; the index shows them too.
        legacy: NaN counts as data, as in hls-foundation-os, so logits may be NaN too.
    """

    def __init__(
        self,
        maps: Sequence[SceneMap],
        failed: set[str],
        unreadable: Sequence[SceneResult] = (),
        existing: Sequence[Path] = (),
        legacy: bool = False,
    ) -> None:
        self.unreadable = unreadable
        self.existing = list(existing)
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

    def update(
        self, log: ReadEvents, logits: Tensor | None, core_window: tuple[int, int, int, int] | None = None
    ) -> None:
        """Take in a batch.

        Args:
            log: What was read, see `WindowStream`.
            logits: (B, K, h, w), of the batch's windows or of what `core_window` says of them.
            core_window: Top, left, bottom and right of the windows' pixels that have logits.

        Raises:
            ConfigError: The logits are not one per class or value.
        """
        if logits is not None and log.events:
            check_outputs(logits, self.maps[log.events[0].strip_range.scene.name].spec)
        values = None if logits is None else logits.detach().float().cpu()
        corner = (0, 0) if core_window is None else core_window[:2]
        position = 0
        for event in log.events:
            scene_map = self.maps[event.strip_range.scene.name]
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
                if isinstance(event, RowsRead) and event.top == event.strip_range.top:
                    scene_map.begin(event.strip_range, self._mark)
                scene_map.add(event, window, corner)
                if isinstance(event, StripRangeRead):
                    self._mark = perf_counter()
            except DataError as error:
                self._fail(scene_map, error)

    def _fail(self, scene_map: SceneMap, error: DataError) -> None:
        scene_map.fail(str(error))
        self.failed.add(scene_map.scene.name)

    def results(self) -> list[SceneResult]:
        """What became of each scene."""
        return [scene_map.result() for scene_map in self.maps.values()] + list(self.unreadable)

    def write_indexes(self, folder: Path) -> list[Path]:
        """A VRT per CRS that shows all maps of the run as one."""
        done = [one for one in self.maps.values() if one.is_done and one.products[0].is_indexed]
        paths = self.existing + [one.path for one in done]
        replace = bool(self.existing) or any(one.options.overwrite for one in done)
        return write_index(paths, folder, replace) if done else []

    def clear(self) -> None:
        """Remove what was kept for another start, if there is nothing left to do."""
        if not self.unreadable and all(one.is_done for one in self.maps.values()):
            for one in self.maps.values():
                one.parts.remove()
