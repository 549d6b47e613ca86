"""MapRun: maps several scenes; a scene that fails does not stop the others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from ..errors import DataError
from .background import BackgroundThread
from .blending import FiniteCheck
from .model_checks import check_outputs
from .outputs import reserved
from .products.index import write_index
from .row_reader import StripRange
from .scene_map import SceneMap, SceneResult
from .window_stream import ReadEvents, ReadingFailed, StripRangeRead, WindowRead

#: Pieces of a map, one row of windows each, that may be queued for writing.
_WAITING_PIECES = 3


class MapRun:
    """Writes the maps of several scenes.

    Three threads work in parallel: the caller of `update` blends on the device of the model, the second thread writes
    completed rows, and the third assembles the maps of complete scenes.

    Args:
        maps: The map of each scene.
        unreadable: Results of scenes that could not be opened.
        existing: Existing maps that are kept; the index includes them.
        legacy: Treat NaN as data, as in hls-foundation-os, and allow NaN in logits.
    """

    def __init__(
        self,
        maps: Sequence[SceneMap],
        unreadable: Sequence[SceneResult] = (),
        existing: Sequence[Path] = (),
        legacy: bool = False,
    ) -> None:
        self.unreadable = unreadable
        self.existing = list(existing)
        self.maps = {one.scene.name: one for one in maps}
        self.legacy = legacy
        self._current: StripRange | None = None
        self._mark = perf_counter()
        self._rows: BackgroundThread | None = None
        self._finished_maps: BackgroundThread | None = None

    @property
    def failed(self) -> set[str]:
        """Names of the scenes that failed so far."""
        return {name for name, one in self.maps.items() if one.error is not None}

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Reserve the maps for this run within the context.

        Raises:
            ConfigError: Another run has just written one of the maps.
            DataError: Another run is writing one of them.
        """
        with reserved({one.parts.lock: one.path for one in self.maps.values()}):
            for one in self.maps.values():
                one.check_free(can_skip=False)
            yield

    def prepare(self) -> dict[str, list[int]]:
        """Resume an earlier run if there is one, and return the pending strips of each scene."""
        pending = {}
        for name, scene_map in self.maps.items():
            try:
                pending[name] = scene_map.prepare()
            except DataError as error:
                scene_map.fail(str(error))
                pending[name] = []
        self._mark = perf_counter()
        return pending

    @torch.inference_mode()
    def update(
        self, read: ReadEvents, logits: Tensor | None, core_window: tuple[int, int, int, int] | None = None
    ) -> None:
        """Add a batch; the device may still be computing it.

        Args:
            read: Events of the batch, see `WindowStream`.
            logits: (B, K, h, w), of whole windows or of their `core_window`.
            core_window: Top, left, bottom and right of `logits` in the windows.

        Raises:
            ConfigError: The number of logits does not match the classes or values.
        """
        if self._rows is None or self._finished_maps is None:
            self._rows, self._finished_maps = (
                BackgroundThread(_WAITING_PIECES),
                BackgroundThread(len(self.maps)),
            )
        device = torch.device("cpu")
        if logits is not None:
            first = self.maps[read.events[0].strip_range.scene.name]
            check_outputs(logits, first.spec, 1 if first.combination is None else first.combination.count)
            logits, device = logits.detach().float(), logits.device
            if not self.legacy:
                self._rows.submit(partial(self._check, FiniteCheck(read.windows, logits)))
        corner = (0, 0) if core_window is None else core_window[:2]
        position = 0
        for event in read.events:
            scene_map = self.maps[event.strip_range.scene.name]
            window = None
            if isinstance(event, WindowRead):
                assert logits is not None
                window, position = logits[position], position + 1
            if isinstance(event, ReadingFailed):
                scene_map.fail(str(event.error))
                self._rows.submit(scene_map.abandon)
            if isinstance(event, ReadingFailed) or scene_map.error is not None:
                continue
            if event.strip_range is not self._current:
                self._current = event.strip_range
                scene_map.begin(event.strip_range, self._mark, device)
            for job in scene_map.add(event, window, corner):
                self._rows.submit(job)
            if isinstance(event, StripRangeRead):
                self._mark = perf_counter()
                self._rows.submit(partial(self._finish, scene_map, self._finished_maps))

    def _check(self, check: FiniteCheck) -> None:
        for name, reason in check.failures().items():
            self.maps[name].fail(reason)
            self.maps[name].abandon()

    def _finish(self, scene_map: SceneMap, finished_maps: BackgroundThread) -> None:
        if scene_map.error is None and scene_map.claim_assembly():
            finished_maps.submit(partial(scene_map.run, scene_map.assemble))

    def wait(self) -> None:
        """Wait until all batches are written."""
        for thread in (self._rows, self._finished_maps):
            if thread is not None:
                thread.wait()
        self.close()

    def close(self) -> None:
        """Stop the threads; queued jobs are cancelled, and files of incomplete strips are removed."""
        for thread in (self._rows, self._finished_maps):
            if thread is not None:
                thread.close()
        self._rows = self._finished_maps = None
        for one in self.maps.values():
            one.abandon()

    def results(self) -> list[SceneResult]:
        """The result of each scene."""
        return [scene_map.result() for scene_map in self.maps.values()] + list(self.unreadable)

    def interruption(self) -> str:
        """What remains of an interrupted run, for the user; call `close` before."""
        left = [one for one in self.maps.values() if one.error is None and not one.is_done]
        if not left:
            return "Interrupted; all maps are complete."
        complete = sum(one.is_done for one in self.maps.values())
        are = "is" if complete == 1 else "are"
        maps = f"{complete} of {len(self.maps)} maps {are} complete, " if len(self.maps) > 1 else ""
        done, name = left[0].strips_kept, left[0].scene.name
        strips = f"{done} of {len(left[0].plan.strips)} strips of {name} {'is' if done == 1 else 'are'} kept"
        return f"Interrupted; {maps}{strips}; repeat the command to resume."

    def write_indexes(self, folder: Path) -> list[Path]:
        """Write one VRT per CRS that combines all maps of the run."""
        done = [one for one in self.maps.values() if one.is_done and one.products[0].is_indexed]
        paths = self.existing + [one.path for one in done]
        replace = bool(self.existing) or any(one.options.overwrite for one in done)
        return write_index(paths, folder, replace) if done else []

    def clear(self) -> None:
        """Remove the files that a run resumes from, if all maps are complete."""
        if not self.unreadable and all(one.is_done for one in self.maps.values()):
            for one in self.maps.values():
                one.parts.remove()
