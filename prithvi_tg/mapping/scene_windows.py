"""Data module of the windows of scenes, for mapping."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args

import torch
from torchgeo.datamodules import BaseDataModule

from ..datasets.scenes.dataset import SceneDataset
from ..errors import ConfigError
from ..ranges import check_ranges
from ..readers.quality import QualityClass
from ..readers.scene import NodataRule, Scene, SceneReader
from ..spec import DataSpec
from ..tiling import Blending, PixelArea, WindowGrid
from .device_windows import DeviceWindows
from .host_copy import CPU
from .resources import Auto, choose_batch_size, choose_num_workers
from .row_reader import StripRange
from .window_stream import ReadEvents, WindowStream


class SceneDataModule(BaseDataModule):
    """Windows of all scenes in order, normalised on the device, for `Trainer.predict`.

    Args:
        scenes: The scenes; `resolve_scene` creates them from any input.
        spec: Bands, units and statistics that the model expects.
        window: Size of a window in pixels.
        stride: Distance between neighbouring windows in pixels.
        blending: How to blend overlapping windows.
        align: Patch size of the encoder, see `AxisTiling`.
        batch_size: Number of windows in a batch; ``auto`` depends on the device.
        num_workers: Number of threads that read ahead; ``auto`` depends on the device, cores and free memory.
        nodata_rule: When a pixel of the map is nodata.
        qa_mask: Quality classes that count as nodata.
        fold_time: Return images as (B, T*C, window, window), for TorchGeo's own tasks.
        areas: The pixels of a scene to map, by scene name; all pixels of other scenes.

    Raises:
        ConfigError: An option is out of range.

    Attributes:
        plans: Windows of each scene, by scene name.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        spec: DataSpec,
        window: int,
        stride: int,
        blending: Blending = "average",
        align: int = 1,
        batch_size: int | Auto = "auto",
        num_workers: int | Auto = "auto",
        nodata_rule: NodataRule = "all",
        qa_mask: Sequence[QualityClass] = (),
        fold_time: bool = False,
        areas: Mapping[str, PixelArea] = MappingProxyType({}),
    ) -> None:
        check_ranges({"window": window, "batch_size": batch_size, "num_workers": num_workers})
        for key, chosen, kind in (("blending", blending, Blending), ("nodata_rule", nodata_rule, NodataRule)):
            if chosen not in get_args(kind):
                raise ConfigError(f"{key}: {chosen!r} is unknown; choose from {', '.join(get_args(kind))}")
        super().__init__(SceneDataset)
        self._batch_size = batch_size
        self._num_workers = num_workers
        # With more processes than strips, some processes have no strip.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.scenes = scenes
        self.spec = spec
        self.nodata_rule = nodata_rule
        self.qa_mask = qa_mask
        self.fold_time = fold_time
        self.plans = {
            scene.name: WindowGrid.of(
                (scene.grid.height, scene.grid.width), window, stride, blending, align, areas.get(scene.name)
            )
            for scene in scenes
        }
        self._pending: Mapping[str, Sequence[int]] | None = None
        self._windows: DeviceWindows | None = None

    def open_scene(self, scene: Scene) -> SceneReader:
        """Open the reader of one scene."""
        return SceneReader(scene, self.spec.input, self.nodata_rule, self.qa_mask)

    def select_strips(self, pending: Mapping[str, Sequence[int]]) -> None:
        """Limit the stream to these strips, by scene name; scenes without an entry are skipped."""
        self._pending = pending

    def stream(self, rank: int = 0, world_size: int = 1, device: torch.device = CPU) -> WindowStream:
        """Stream of the windows of one process; strips are divided evenly into contiguous ranges, one per process."""
        plans, channels = list(self.plans.values()), len(self.spec.input.channel_mean)
        window = plans[0].rows.window if plans else 1
        batch_size, num_workers = self._batch_size, self._num_workers
        return WindowStream(
            self._share(rank, world_size),
            self.spec.input,
            self.open_scene,
            choose_batch_size(device, window) if batch_size == "auto" else batch_size,
            choose_num_workers(device, plans, channels, world_size) if num_workers == "auto" else num_workers,
        )

    def windows_on(self, device: torch.device) -> DeviceWindows:
        """Create the object that turns a stream into batches on a device."""
        return DeviceWindows(self.spec.input, device, self.fold_time)

    def _share(self, rank: int, world_size: int) -> list[StripRange]:
        items = [
            (scene, plan, plan.strips[number])
            for scene in self.scenes
            for plan in (self.plans[scene.name],)
            for number in self._strips_of(scene)
        ]
        costs = [max(1, plan.windows_in(strip)) for _, plan, strip in items]
        total, done = sum(costs), 0
        mine: list[tuple[Scene, WindowGrid, list[int]]] = []
        for (scene, plan, strip), cost in zip(items, costs, strict=True):
            # A strip belongs to the process whose range contains its middle.
            if (2 * done + cost) * world_size // (2 * total) == rank:
                if not mine or mine[-1][0] is not scene or mine[-1][2][-1] + 1 != strip.number:
                    mine.append((scene, plan, []))
                mine[-1][2].append(strip.number)
            done += cost
        return [
            StripRange(scene, plan, tuple(plan.strips[n] for n in numbers)) for scene, plan, numbers in mine
        ]

    def _strips_of(self, scene: Scene) -> Sequence[int]:
        if self._pending is None:
            return range(len(self.plans[scene.name].strips))
        return self._pending.get(scene.name, ())

    def predict_dataloader(self) -> WindowStream:
        """Stream of the windows of this process."""
        if self.trainer is None:
            return self.stream()
        device = self.trainer.strategy.root_device
        return self.stream(self.trainer.global_rank, self.trainer.world_size, device)

    def transfer_batch_to_device(
        self, batch: ReadEvents, device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Upload the rows that were read, and cut the windows of the batch from them."""
        if self._windows is None or self._windows.device != device:
            self._windows = self.windows_on(device)
        return self._windows.load(batch)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Return the batch unchanged: its windows are already normalised."""
        return batch
