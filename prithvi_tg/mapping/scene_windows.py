"""Data module of scenes to be mapped."""

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from torchgeo.datamodules import BaseDataModule

from ..augmentations import Normalization
from ..datasets.scenes.dataset import SceneDataset
from ..errors import ConfigError
from ..readers.quality import QualityClass
from ..readers.scene import NodataRule, Scene, SceneReader
from ..spec import DataSpec
from ..tiling import Blending, WindowGrid
from .window_stream import StripRange, WindowStream


class SceneDataModule(BaseDataModule):
    """Windows of one scene after another, normalised on the device, for `Trainer.predict`.

    Args:
        scenes: The scenes; `resolve_scene` makes them of any input.
        spec: Bands, units and statistics that the model expects.
        window: Side of a window in pixels.
        stride: Distance of windows in pixels.
        blending: How overlapping windows become one map.
        align: The encoder's patch, see `AxisTiling`.
        batch_size: Windows in a batch.
        num_workers: Threads that read ahead.
        nodata_rule: When a pixel of the map is nodata.
        qa_mask: Quality classes that count as nodata.
        fold_time: Hand out images as (B, T*C, window, window), for TorchGeo's own tasks.

    Raises:
        ConfigError: An option is out of range.

    Attributes:
        plans: The windows of each scene, by its name.
        pending: The strips of each scene that are to be mapped; all of them unless set.
        failed: Names of scenes that are not to be read any further; may grow while they are read.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        spec: DataSpec,
        window: int,
        stride: int,
        blending: Blending = "average",
        align: int = 1,
        batch_size: int = 8,
        num_workers: int = 1,
        nodata_rule: NodataRule = "all",
        qa_mask: Sequence[QualityClass] = (),
        fold_time: bool = False,
    ) -> None:
        for key, value, least in (
            ("window", window, 1),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ConfigError(f"{key}: {value} must be {least} or more")
        for key, chosen, kind in (("blending", blending, Blending), ("nodata_rule", nodata_rule, NodataRule)):
            if chosen not in get_args(kind):
                raise ConfigError(f"{key}: {chosen!r} is unknown; known are {', '.join(get_args(kind))}")
        super().__init__(SceneDataset, batch_size, num_workers)
        # Where there are more processes than strips, some have none.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.scenes = scenes
        self.spec = spec
        self.nodata_rule = nodata_rule
        self.qa_mask = qa_mask
        self.fold_time = fold_time
        self.mean = torch.tensor(spec.input.channel_mean)
        self.std = torch.tensor(spec.input.channel_std)
        self.aug = Normalization(self.mean, self.std)
        self.plans = {
            scene.name: WindowGrid.of((scene.grid.height, scene.grid.width), window, stride, blending, align)
            for scene in scenes
        }
        self.pending: Mapping[str, Sequence[int]] = {
            name: range(len(plan.strips)) for name, plan in self.plans.items()
        }
        self.failed: set[str] = set()

    def open_scene(self, scene: Scene) -> SceneReader:
        """A reader of one scene."""
        return SceneReader(scene, self.spec.input, self.nodata_rule, self.qa_mask)

    def stream(self, rank: int = 0, world_size: int = 1) -> WindowStream:
        """The windows of one process of several; each gets strips that stand together, and a fair share."""
        return WindowStream(
            self._share(rank, world_size),
            self.spec.input,
            self.open_scene,
            self.batch_size or 1,
            self.num_workers,
            self.spec.input.metadata,
            self.fold_time,
            self.failed,
        )

    def _share(self, rank: int, world_size: int) -> list[StripRange]:
        items = [
            (scene, plan, plan.strips[number])
            for scene in self.scenes
            for plan in (self.plans[scene.name],)
            for number in self.pending.get(scene.name, ())
        ]
        costs = [plan.windows_in(strip) for _, plan, strip in items]
        total, done = sum(costs), 0
        mine: list[tuple[Scene, WindowGrid, list[int]]] = []
        for (scene, plan, strip), cost in zip(items, costs, strict=True):
            # The middle of a strip decides whose it is.
            if (2 * done + cost) * world_size // (2 * total) == rank:
                if not mine or mine[-1][0] is not scene or mine[-1][2][-1] + 1 != strip.number:
                    mine.append((scene, plan, []))
                mine[-1][2].append(strip.number)
            done += cost
        return [
            StripRange(scene, plan, tuple(plan.strips[n] for n in numbers)) for scene, plan, numbers in mine
        ]

    def predict_dataloader(self) -> WindowStream:
        """The windows of this process."""
        return (
            self.stream(self.trainer.global_rank, self.trainer.world_size) if self.trainer else self.stream()
        )
