"""Embeddings of scenes: features of an encoder, computed by the mapping loop on the grid of the features."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from ..bands import PRETRAINING_STATISTICS, PRITHVI_BANDS
from ..checkpoints import load_weights
from ..errors import ConfigError, counted
from ..files import file_hash
from ..hub import find_weights
from ..models import Encoder, create_encoder
from ..models.encoders.base import PyramidEncoder
from ..readers.aoi import AreaOfInterest
from ..readers.block_cache import limit_block_cache
from ..readers.formats import InputOptions
from ..readers.quality import QualityClass
from ..readers.recorded_options import options_tag
from ..readers.scene import NodataRule
from ..spec import DataSpec, InputSpec
from ..tasks import PrithviTask
from ..tasks.exported import ExportedModel
from ..tasks.precision import described_precision
from ..tiling import Blending, multiples_around
from .loop import Precision, map_scenes
from .map_run import MapRun
from .patch_windows import PatchDataModule, PatchEvents, patch_grid
from .planning import (
    known_spec,
    resolve_one_scene,
    select_scenes,
    split_options,
    task_and_hash,
    warn_of_pixel_size,
    window_and_stride,
)
from .products import OutputOptions
from .products.embeddings import Embeddings, EmbeddingType, PrincipalComponents, TokenPoints, TokenTarget
from .provenance import describe, described_area, described_windows
from .resources import Auto
from .scene_map import SceneMap
from .scene_windows import SceneDataModule

_log = logging.getLogger(__name__)


class FeatureModel(nn.Module):
    """Computes the features of a block as a map (B, D, h, w) from normalised images (B, T, C, H, W).

    One pixel of the map is a patch of a ViT. For a CNN or hierarchical transformer, its size is the stride of the
    stage.

    Args:
        encoder: Encoder of either kind, see `prithvi_tg.models.encoders.base`.
        block: Block of a ViT, or stage of another encoder, that returns the features, counted from 0 or negative from
            the end. The final norm of a ViT is applied.
        frame: Frame of the features, counted from 0; by default all frames, concatenated.
        num_frames: Number of frames of an image.

    Raises:
        ConfigError: `frame` or `block` is out of range.

    Attributes:
        stride: Size of a pixel of the map in pixels of the image.
        num_features: Number of features of the map.
    """

    def __init__(self, encoder: Encoder, block: int, frame: int | None, num_frames: int) -> None:
        super().__init__()
        depth = len(encoder.num_features)
        if not -depth <= block < depth:
            raise ConfigError(f"block: {block} is out of range for an encoder of {counted(depth, 'block')}")
        if frame is not None and not -num_frames <= frame < num_frames:
            if num_frames == 1:
                raise ConfigError(f"frame: {frame} given, but the model has one frame, 0; leave it out")
            raise ConfigError(f"frame: {frame} must lie between 0 and {num_frames - 1}")
        self.encoder = encoder
        self.block = block
        self.frame = frame
        self.frames = slice(None) if frame is None else slice(frame % num_frames, frame % num_frames + 1)
        self.stride = encoder.strides[block]
        self.num_features = encoder.num_features[block] * (num_frames if frame is None else 1)

    def forward(self, image: Tensor, **coordinates: Tensor) -> Tensor:
        """Features (B, D, h, w)."""
        (found,) = self.encoder.forward_intermediates(image, [self.block], norm=True, **coordinates)
        frames, rows, columns = self.encoder.grid(image)
        if isinstance(self.encoder, PyramidEncoder):
            features = rearrange(found, "b (d t) h w -> b t d h w", t=frames)
        else:
            features = rearrange(found[:, 1:], "b (t h w) d -> b t d h w", t=frames, h=rows, w=columns)
        return features[:, self.frames].flatten(1, 2)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Features of a batch of windows."""
        coordinates = {key: batch[key] for key in ("timestamps", "location") if key in batch}
        return self(batch["image"], **coordinates)


class Source(NamedTuple):
    """An encoder with its input description.

    Attributes:
        encoder: The encoder.
        spec: Bands and statistics that the encoder expects.
        weights: Hash of the weights.
        window: Size and stride of windows in pixels.
        described: Description of the encoder, for tags.
    """

    encoder: Encoder
    spec: InputSpec
    weights: str
    window: tuple[int, int]
    described: str


def task_encoder(
    checkpoint: str | Path | PrithviTask, window: int | None = None, stride: int | None = None
) -> Source:
    """The encoder of a task, or of a checkpoint with a description of its data.

    Raises:
        ConfigError: The task has no data description.
        CheckpointError: The checkpoint cannot be read.
    """
    task, weights = task_and_hash(checkpoint)
    if isinstance(task.model, ExportedModel):
        raise ConfigError(
            f"ckpt_path: {checkpoint} is an exported model, which returns no features; give its checkpoint"
        )
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
    """Load a published encoder and its weights; it expects the bands and statistics of its pre-training.

    Args:
        name: Name of the encoder, such as ``prithvi_eo_v2_300m``, ``timm/resnet50.a1_in1k`` (8-bit RGB) or
            ``torchgeo/ResNet50_Weights.SENTINEL2_ALL_MOCO``.
        weights: Path or other source of weights, see `find_weights`; by default the weights published under the name.
        num_frames: Number of dates of a scene.
        window: Size of a window in pixels.
        stride: Distance between neighbouring windows in pixels.

    Raises:
        ConfigError: The name is unknown, or the bands and statistics of its pre-training are.
        CheckpointError: The weights cannot be read, or belong to another encoder.
    """
    generation = next((key for key in PRETRAINING_STATISTICS if name.startswith(key)), None)
    encoder = create_encoder(name)
    bands = PRITHVI_BANDS if generation else encoder.pretrained_bands
    statistics = PRETRAINING_STATISTICS[generation] if generation else encoder.pretrained_statistics
    if statistics is None or not bands:
        raise ConfigError(
            f"encoder: the bands or statistics of the pre-training of {name!r} are unknown; give a checkpoint of a "
            "task, which stores them"
        )
    if encoder.num_bands != len(bands):
        encoder = create_encoder(name, num_bands=len(bands))
    path = find_weights("pretrained" if weights is None else weights, encoder)
    load_weights(encoder, path)
    spec = InputSpec(
        tuple(bands), *statistics, num_frames, encoder.pretrained_scale, metadata=bool(encoder.coordinates)
    )
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
    aoi: str | Path | AreaOfInterest | None = None,
    **options: Any,
) -> Path:
    """Write the features of a scene as a raster with one band per feature.

    One pixel is a patch of a ViT. For a CNN or hierarchical transformer, its size is the stride of the chosen stage.
    Features of overlapping windows are averaged. A pixel is nodata if all its pixels of the scene are. As with
    `map_scene`, repeat an interrupted call to resume it.

    Args:
        source: A checkpoint, a task, or the result of `published_encoder`.
        scene: See `map_scene`.
        output: Path of the raster, ``.tif``.
        block: Block or stage that returns the features, counted from 0 or negative from the end. The final norm of a
            ViT is applied.
        frame: Date of the features, counted from 0; by default all dates, concatenated.
        dtype: Type of stored features: ``float16``, ``float32``, or ``int8`` with a scale per band.
        points: Also write this GeoParquet file: a point at the centre of each patch, with its features.
        quicklook: Also write a ``.png`` beside the raster, with the first three principal components in colour.
        window: Size of a window in pixels, a multiple of the patch or largest stride; not for `published_encoder`.
        stride: Distance between neighbouring windows in pixels, a multiple of the patch; not for `published_encoder`.
        blending: See `map_scene`, also for the following arguments.
        nodata_rule: When a pixel is nodata.
        qa_mask: Quality classes that count as nodata.
        batch_size: Number of windows in a batch.
        num_workers: Number of threads that read ahead.
        precision: Precision of the encoder.
        tf32: Use TF32 on CUDA.
        device: Device of the encoder.
        aoi: Write only the patches whose centre is in this area, see `map_scene`.
        **options: Fields of `InputOptions` and `OutputOptions`, such as ``bands`` or ``overwrite``.

    Returns:
        The path of the raster.

    Raises:
        ConfigError: An output file exists, or an option is invalid.
        DataError: The scene cannot be read or a file cannot be written.
    """
    limit_block_cache(max_megabytes=64)
    reading, writing = split_options(options, embed_scene)
    found = source if isinstance(source, Source) else task_encoder(source, window, stride)
    model = FeatureModel(found.encoder, block, frame, found.spec.num_frames).eval()
    products = (Embeddings(dtype), *writing.products, *([PrincipalComponents] if quicklook else []))
    writing = replace(writing, products=products + (() if points is None else (TokenPoints(Path(points)),)))
    reading.check_quality(qa_mask)
    read_as = replace(reading, legacy=nodata_rule == "legacy")
    resolved = resolve_one_scene(scene, found.spec, read_as)
    area = None if aoi is None else AreaOfInterest.of(aoi)
    areas = select_scenes([replace(resolved, grid=patch_grid(resolved.grid, model.stride))], area)[1]
    data = PatchDataModule(
        [resolved], DataSpec(found.spec, TokenTarget()), *found.window, blending, model.stride,
        batch_size, num_workers, nodata_rule, qa_mask, areas=areas,
    )  # fmt: skip
    patches = PatchEvents(resolved, data.plans[resolved.name], model.stride, areas.get(resolved.name))
    described = described_precision(precision, tf32), described_area(area)
    one = _scene_map(found, model, data, patches, Path(output), writing, reading, *described)
    _log.info(f"{resolved.name}: {resolved.origin}")
    map_scenes(model, data, MapRun([one], legacy=read_as.legacy), device, precision, tf32, patches.of)
    return one.path


def check_raster(path: Path) -> None:
    """Check the path of a raster of features.

    Raises:
        ConfigError: It is no ``.tif``.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(f"output: {path} must be a .tif")


def _scene_map(
    source: Source,
    model: FeatureModel,
    data: SceneDataModule,
    patches: PatchEvents,
    path: Path,
    writing: OutputOptions,
    reading: InputOptions,
    precision: Mapping[str, str],
    area: dict[str, str],
) -> SceneMap:
    """Create the map of features of one scene, after checking for existing files."""
    check_raster(path)
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
        tags | {"model": chosen} | area | options_tag(reading, path.parent),
    )
    one.check_free(can_skip=False)
    return one


def _window_and_stride(
    task: PrithviTask | None, encoder: Any, window: int | None, stride: int | None
) -> tuple[int, int]:
    """Window and stride as for maps, checked to be multiples of the patch."""
    patch = encoder.patch_size

    def check(key: str, value: int) -> None:
        if value % patch:
            raise ConfigError(
                f"{key}: {value} must be a multiple of the patch size, {patch}, because each pixel of the output is "
                f"one patch; use {multiples_around(value, patch)}"
            )

    if window is not None:
        check("window", window)
    side, step = window_and_stride(task, window, stride)
    if stride is None:
        step = max(patch, step // patch * patch)
    check("window", side)
    check("stride", step)
    return side, step


def _feature_names(model: FeatureModel, spec: InputSpec) -> tuple[str, ...]:
    count = model.num_features
    if model.frame is not None or spec.num_frames == 1:
        return tuple(f"feature_{k}" for k in range(count))
    per_frame = count // spec.num_frames
    return tuple(f"frame_{k // per_frame}_feature_{k % per_frame}" for k in range(count))
