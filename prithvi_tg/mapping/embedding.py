"""Embeddings of scenes: tokens of an encoder on the grid of its patches, through the loop that makes maps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from ..bands import PRETRAINING_STATISTICS, PRITHVI_BANDS
from ..checkpoints import find_weights, load_weights
from ..errors import ConfigError
from ..files import file_hash
from ..models import create_encoder
from ..readers.block_cache import limit_block_cache
from ..readers.formats import InputOptions, find_inputs, resolve_scene
from ..readers.grid import Grid
from ..readers.quality import QualityClass
from ..readers.scene import NodataRule, Scene, SceneReader, StoredPixels
from ..spec import DataSpec, InputSpec
from ..tasks import PrithviTask, load_task
from ..tasks.precision import described_precision
from ..tiling import AxisTiling, Blending, WindowGrid
from .loop import Precision, map_scenes
from .map_run import MapRun
from .planning import (
    known_spec,
    split_options,
    warn_of_pixel_size,
    window_and_stride,
)
from .products import OutputOptions
from .products.embeddings import Embeddings, EmbeddingType, PrincipalComponents, TokenPoints, TokenTarget
from .provenance import describe, described_windows, weights_hash
from .resources import Auto
from .row_reader import StripRange
from .scene_map import SceneMap
from .scene_windows import SceneDataModule
from .window_stream import Event, ReadEvents, RowsRead


class TokenModel(nn.Module):
    """Tokens of a block as a map (B, D, h, w), a pixel for each patch, of normalised images (B, T, C, H, W).

    Args:
        encoder: Gives tokens (B, 1 + T*h*w, D), the first of the whole image.
        block: After which block, counted from 0; negative from the end. The encoder's final norm is applied.
        frame: Of which frame alone, counted from 0; by default features of all frames, one frame after the other.
        num_frames: Frames of an image.

    Raises:
        ConfigError: There is no such frame.
    """

    def __init__(self, encoder: nn.Module, block: int, frame: int | None, num_frames: int) -> None:
        super().__init__()
        if frame is not None and not -num_frames <= frame < num_frames:
            raise ConfigError(f"frame: {frame} must lie between 0 and {num_frames - 1}")
        self.encoder = encoder
        self.block = block
        self.frame = frame
        self.frames = slice(None) if frame is None else slice(frame % num_frames, frame % num_frames + 1)

    def forward(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Features (B, D, h, w)."""
        encoder: Any = self.encoder
        (tokens,) = encoder.forward_intermediates(image, [self.block], norm=True, **coordinates)
        if tokens.ndim != 3:
            raise ConfigError(
                f"encoder: {type(encoder).__name__} gives feature maps; embeddings need an encoder of tokens"
            )
        frames, rows, columns = encoder.grid(image)
        features = rearrange(tokens[:, 1:], "b (t h w) d -> b t d h w", t=frames, h=rows, w=columns)
        return features[:, self.frames].flatten(1, 2)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Features of a batch of windows."""
        coordinates = {key: batch[key] for key in ("timestamps", "location") if key in batch}
        return self(batch["image"], **coordinates)


class Source(NamedTuple):
    """An encoder, with what it was trained on.

    Attributes:
        encoder: The encoder.
        spec: Bands and statistics that it expects.
        weights: Hash of its weights.
        window: Side of a window, and distance of windows, that it was trained with.
        described: What it is, for tags.
    """

    encoder: nn.Module
    spec: InputSpec
    weights: str
    window: tuple[int, int]
    described: str

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        encoder: Any = self.encoder
        return int(encoder.patch_size)


def task_encoder(
    checkpoint: str | Path | PrithviTask, window: int | None = None, stride: int | None = None
) -> Source:
    """The encoder of a task, or of a checkpoint that describes itself.

    Raises:
        ConfigError: The task has no data description.
        CheckpointError: The checkpoint cannot be read.
    """
    task = checkpoint if isinstance(checkpoint, PrithviTask) else load_task(checkpoint)
    weights = weights_hash(task) if task is checkpoint else file_hash(Path(str(checkpoint)))
    encoder = task.model.encoder
    sides = _window_and_stride(task, encoder, window, stride)
    name = f"encoder {task.hparams['encoder']} of {task.class_path}"
    return Source(encoder, known_spec(task).input, weights, sides, name)


def published_encoder(
    name: str,
    weights: str | Path | None,
    num_frames: int = 1,
    window: int | None = None,
    stride: int | None = None,
) -> Source:
    """A published encoder with its weights; it expects the bands and statistics of its pre-training.

    Args:
        name: Such as ``prithvi_eo_v2_300m``.
        weights: A path, or what else `find_weights` takes; by default those published under the name.
        num_frames: Dates of a scene.
        window: Side of a window in pixels.
        stride: Distance of windows in pixels.

    Raises:
        ConfigError: The name is unknown, or nothing is known of its pre-training.
        CheckpointError: The weights cannot be read, or belong to another encoder.
    """
    generation = next((key for key in PRETRAINING_STATISTICS if name.startswith(key)), None)
    if generation is None:
        raise ConfigError(
            f"encoder: the statistics that {name!r} was trained with are not known; give a checkpoint that has them"
        )
    encoder: Any = create_encoder(name, num_bands=len(PRITHVI_BANDS))
    path = find_weights(name if weights is None else weights)
    load_weights(encoder, path)
    mean, std = PRETRAINING_STATISTICS[generation]
    spec = InputSpec(PRITHVI_BANDS, mean, std, num_frames, metadata=bool(encoder.coordinates))
    return Source(
        encoder, spec, file_hash(path), _window_and_stride(None, encoder, window, stride), f"encoder {name}"
    )


def embed_scene(
    source: Source | str | Path | PrithviTask,
    scene: str | Path,
    output: str | Path,
    *,
    block: int = -1,
    frame: int | None = None,
    dtype: EmbeddingType = "float16",
    points: str | Path | None = None,
    quicklook: bool = False,
    window: int | None = None,
    stride: int | None = None,
    blending: Blending = "average",
    nodata_rule: NodataRule = "all",
    qa_mask: Sequence[QualityClass] = (),
    batch_size: int | Auto = "auto",
    num_workers: int | Auto = "auto",
    precision: Precision = "32-true",
    tf32: bool = False,
    device: str | torch.device = "cpu",
    **options: Any,
) -> Path:
    """Write the tokens of a scene as a raster with a band per feature, whose pixels are patches of the encoder.

    Tokens of overlapping windows are averaged. A patch is nodata where all of its pixels are. Like `map_scene`, a call
    that was killed resumes when it is repeated.

    Args:
        source: A checkpoint or a task, or what `published_encoder` gives.
        scene: See `map_scene`.
        output: The raster, ``.tif``.
        block: After which block, counted from 0; negative from the end. The encoder's final norm is applied.
        frame: Of which date alone, counted from 0; by default features of all dates, one date after the other.
        dtype: How features are stored: ``float16``, ``float32``, or ``int8`` with a scale per band.
        points: Also write this GeoParquet file: a point in the middle of each patch, with its features.
        quicklook: Also write a ``.png`` beside the raster, the first three principal components in colour.
        window: Side of a window in pixels, a multiple of the patch; `published_encoder` has its own.
        stride: Distance of windows in pixels, a multiple of the patch; as `window`.
        blending: See `map_scene`, as for all that follow.
        nodata_rule: When a pixel is nodata.
        qa_mask: Quality classes that count as nodata.
        batch_size: Windows in a batch.
        num_workers: Threads that read ahead.
        precision: Precision of the encoder.
        tf32: Use TF32 on CUDA.
        device: Where to compute.
        **options: Fields of `InputOptions` and `OutputOptions`, such as ``bands`` or ``overwrite``.

    Returns:
        The path of the raster.

    Raises:
        ConfigError: A file is in the way, or an option does not fit.
        DataError: The scene cannot be read or a file cannot be written.
    """
    limit_block_cache(most=64)
    reading, writing = split_options(options)
    found = source if isinstance(source, Source) else task_encoder(source, window, stride)
    model = TokenModel(found.encoder, block, frame, found.spec.num_frames).eval()
    pictures = (PrincipalComponents,) if quicklook else ()
    tables = () if points is None else (TokenPoints(Path(points)),)
    writing = replace(writing, products=(Embeddings(dtype), *writing.products, *pictures, *tables))
    resolved = _resolve(scene, found.spec, replace(reading, legacy=nodata_rule == "legacy"))
    data = PatchDataModule(
        [resolved], DataSpec(found.spec, TokenTarget()), *found.window, blending, found.patch,
        batch_size, num_workers, nodata_rule, qa_mask,
    )  # fmt: skip
    patches = PatchEvents(resolved, data.plans[resolved.name], found.patch)
    one = _scene_map(found, model, data, patches, Path(output), writing, described_precision(precision, tf32))
    run = MapRun([one], legacy=nodata_rule == "legacy")
    map_scenes(model, data, run, device, precision, tf32, patches.of)
    return one.path


def _scene_map(
    source: Source,
    model: TokenModel,
    data: SceneDataModule,
    patches: "PatchEvents",
    path: Path,
    writing: OutputOptions,
    precision: Mapping[str, str],
) -> SceneMap:
    """The map of features of one scene, when nothing is in its way."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(f"output: {path} must be a .tif")
    warn_of_pixel_size(data.scenes, data.spec)
    identity, tags = describe(
        model,
        data.spec,
        source.weights,
        precision,
        data.nodata_rule,
        data.qa_mask,
        described_windows(data.plans),
    )
    chosen = f"{source.described}, block {model.block}"
    if model.frame is not None:
        chosen += f", frame {model.frame}"
    spec = DataSpec(source.spec, TokenTarget(_feature_names(model, source.spec)))
    one = SceneMap(
        patches.scene,
        patches.plan,
        path,
        spec,
        writing,
        identity | {"features": chosen},
        tags | {"model": chosen},
    )
    one.check_free()
    return one


def _resolve(scene: str | Path, spec: InputSpec, reading: InputOptions) -> Scene:
    found = find_inputs([scene], spec.num_frames, reading.format)
    if len(found) != 1:
        raise ConfigError(f"scene: {scene} contains {len(found)} scenes; name one of them")
    return resolve_scene(found[0], spec, reading)


def _window_and_stride(
    task: PrithviTask | None, encoder: Any, window: int | None, stride: int | None
) -> tuple[int, int]:
    """As of maps, in whole patches."""
    patch = encoder.patch_size
    side, step = window_and_stride(task, window, stride)
    if stride is None:
        step = max(patch, step // patch * patch)
    for key, value in (("window", side), ("stride", step)):
        if value % patch:
            raise ConfigError(f"{key}: {value} must be a multiple of the patch, {patch}")
    return side, step


@torch.inference_mode()
def _feature_names(model: TokenModel, spec: InputSpec) -> tuple[str, ...]:
    encoder: Any = model.encoder
    device = next(encoder.parameters()).device
    image = torch.zeros(
        1, spec.num_frames, len(spec.bands), encoder.patch_size, encoder.patch_size, device=device
    )
    count = model(image).shape[1]
    if model.frame is not None or spec.num_frames == 1:
        return tuple(f"feature_{k}" for k in range(count))
    per_frame = count // spec.num_frames
    return tuple(f"frame_{k // per_frame}_feature_{k % per_frame}" for k in range(count))


# Pixels and patches: windows are read by pixels, and blended by patches.


class PatchDataModule(SceneDataModule):
    """Windows of scenes that are continued without data to whole patches, so that windows start on patches."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        spec: DataSpec,
        window: int,
        stride: int,
        blending: Blending,
        patch: int,
        *args: Any,
    ) -> None:
        super().__init__(scenes, spec, window, stride, blending, patch, *args)
        self.plans = {
            scene.name: _whole_patches(scene.grid, window, stride, blending, patch) for scene in scenes
        }
        self.patch = patch

    def open_scene(self, scene: Scene) -> SceneReader:
        """A reader of one scene."""
        return PaddedReader(scene, self.spec.input, self.nodata_rule, self.qa_mask, patch=self.patch)


def _whole_patches(grid: Grid, window: int, stride: int, blending: Blending, patch: int) -> WindowGrid:
    """Windows, in pixels, of a grid that is continued to whole patches; its strips are whole patches high."""
    rows, columns = (
        AxisTiling(-(-length // patch) * patch, window, stride, blending, patch)
        for length in (grid.height, grid.width)
    )
    return WindowGrid(rows, columns, max(1, 512 // patch) * patch)


class PaddedReader(SceneReader):
    """Reads a scene, and beyond its right and bottom edge band means that are nodata, up to whole patches."""

    def __init__(self, *args: Any, patch: int) -> None:
        super().__init__(*args)
        self.patch = patch

    def read_stored(self, top: int, bottom: int) -> StoredPixels:
        """Rows ``top`` to ``bottom``."""
        height, width = self.scene.grid.height, self.scene.grid.width
        stored = super().read_stored(min(top, height - 1), max(min(bottom, height), min(top, height - 1) + 1))
        inside = max(0, min(bottom, height) - top)
        size = stored.values[:, :inside].shape
        below, right = bottom - top - inside, -(-width // self.patch) * self.patch - width
        valid = np.ones(size, bool) if stored.valid is None else stored.valid[:, :inside]
        masked = np.zeros(size[1:], bool) if stored.masked is None else stored.masked[:inside]
        padding = ((0, below), (0, right))
        return replace(
            stored,
            values=np.pad(stored.values[:, :inside], ((0, 0), *padding)),
            valid=np.pad(valid, ((0, 0), *padding)),
            masked=np.pad(masked, padding, constant_values=True),
        )


class PatchEvents:
    """Turns what was read of a scene into what was read of its patches.

    Args:
        scene: The scene.
        plan: Its windows, in pixels; whole patches.
        patch: Side of a patch in pixels.

    Attributes:
        scene: The scene with a grid of patches.
        plan: The windows in patches.
    """

    def __init__(self, scene: Scene, plan: WindowGrid, patch: int) -> None:
        self.patch = patch
        rows, columns = (
            AxisTiling(axis.length // patch, axis.window // patch, axis.stride // patch, axis.blending)
            for axis in (plan.rows, plan.columns)
        )
        self.plan = WindowGrid(rows, columns, plan.strip_rows // patch)
        grid = scene.grid
        transform = grid.transform @ type(grid.transform).scale(patch)
        control = grid.control
        if control is not None:
            points = tuple((row / patch, column / patch, *rest) for row, column, *rest in control.points)
            control = replace(control, points=points)  # type: ignore[arg-type]
        patches = Grid(grid.crs, transform, self.plan.rows.length, self.plan.columns.length, control)
        self.scene = replace(scene, grid=patches)
        self._held: list[NDArray[np.bool_]] = []  # rows of pixels that are less than a patch
        self._top = 0
        self._pixels: StripRange | None = None
        self._patches: StripRange | None = None

    def of(self, events: ReadEvents) -> ReadEvents:
        """The same in patches; rows when all pixels of their patches have been read."""
        return ReadEvents([one for event in events.events for one in self._of(event)])

    def _of(self, event: Event) -> Iterator[Event]:
        if event.strip_range is not self._pixels:
            self._pixels = event.strip_range
            strips = tuple(self.plan.strips[strip.number] for strip in self._pixels.strips)
            self._patches = StripRange(self.scene, self.plan, strips)
            self._held, self._top = [], self._patches.top
        assert self._patches is not None
        if not isinstance(event, RowsRead):
            yield replace(event, strip_range=self._patches)
            return
        pixels = np.concatenate([*self._held, event.masked])
        whole = len(pixels) // self.patch
        self._held = [pixels[whole * self.patch :]]
        if whole:
            blocks = rearrange(
                pixels[: whole * self.patch], "(h p) (w q) -> h w (p q)", p=self.patch, q=self.patch
            )
            rows = replace(event.rows, top=self._top, masked=np.asarray(blocks.all(axis=-1)), values=None)
            yield RowsRead(self._patches, rows, needed_from=self._top)
            self._top += whole
