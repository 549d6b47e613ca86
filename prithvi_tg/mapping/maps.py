"""Maps: rasters of classes beside their scenes, whole or not at all."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import torch
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.shutil import copy as copy_raster

from ..augmentations import ChipAugmentation
from ..datasets.raster import open_raster
from ..datasets.scenes import SceneDataset
from ..errors import ConfigError, DataError
from ..plotting import class_colors
from ..spec import IGNORE_INDEX, DataSpec
from ..tasks import PrithviSegmentationTask, load_task

log = logging.getLogger(__name__)

Profile = Literal["cog", "legacy"]
_LEGACY_NODATA = -1


def find_scenes(inputs: Sequence[str | Path]) -> list[Path]:
    """Raster files from files and folders; a folder stands for the GeoTIFFs in it.

    Raises:
        DataError: An input does not exist, or a folder holds no GeoTIFF.
    """
    scenes: list[Path] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = sorted(
                entry
                for entry in path.iterdir()
                if entry.suffix.lower() in (".tif", ".tiff") and not entry.name.startswith(".")
            )
            if not found:
                raise DataError(f"{path}: holds no GeoTIFF (.tif, .tiff)")
            scenes += found
        elif path.exists():
            scenes.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return scenes


def map_paths(scenes: Sequence[Path], folder: str | Path, overwrite: bool = False) -> list[Path]:
    """Where the map of each scene goes: ``NAME_pred.tif`` in a folder.

    Raises:
        ConfigError: Two scenes share a name, or a map is there already and `overwrite` is off.
    """
    paths = [Path(folder) / f"{scene.stem}_pred.tif" for scene in scenes]
    taken: dict[Path, Path] = {}
    for scene, path in zip(scenes, paths, strict=True):
        if path in taken:
            raise ConfigError(f"scenes: {taken[path]} and {scene} would both be mapped to {path}")
        taken[path] = scene
        if path.exists() and not overwrite:
            raise ConfigError(f"{path}: exists; say --overwrite to replace it, or choose another --output")
    return paths


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """A name to write to in the folder of `path`; renamed to `path` on success, removed on failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_map(
    path: Path,
    classes: NDArray[np.uint8],
    masked: NDArray[np.bool_],
    scene: str | Path,
    spec: DataSpec,
    profile: Profile = "cog",
    tags: dict[str, str] | None = None,
) -> None:
    """Write a map with the geo-reference of its scene.

    Args:
        path: The file; appears only when it is complete.
        classes: (H, W).
        masked: (H, W), where the map shows no class.
        scene: The raster that was mapped.
        spec: Class names and colours.
        profile: ``cog``: cloud-optimised GeoTIFF, uint8, nodata 255, DEFLATE, overviews by mode, colour table
            and class names. ``legacy``: as hls-foundation-os, int16, nodata -1, LZW.
        tags: Further tags of the file.

    Raises:
        DataError: The file cannot be written.
    """
    with open_raster(scene) as source:
        profile_of_scene = {"crs": source.crs, "transform": source.transform}
    height, width = classes.shape
    base = {"driver": "GTiff", "height": height, "width": width, "count": 1, **profile_of_scene}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with finished_file(path) as partial:
            if profile == "legacy":
                values = np.where(masked, np.int16(_LEGACY_NODATA), classes.astype(np.int16))
                with rasterio.open(
                    partial, "w", **base, dtype="int16", nodata=_LEGACY_NODATA, compress="lzw"
                ) as out:
                    out.write(values, 1)
            else:
                values = np.where(masked, np.uint8(IGNORE_INDEX), classes)
                _write_cog(partial, values, base, spec, tags or {})
    except (RasterioError, OSError) as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def _write_cog(
    partial: Path, values: NDArray[np.uint8], base: dict[str, Any], spec: DataSpec, tags: dict[str, str]
) -> None:
    plain = partial.with_suffix(".plain")
    try:
        with rasterio.open(plain, "w", **base, dtype="uint8", nodata=IGNORE_INDEX) as out:
            out.write(values, 1)
            out.write_colormap(1, colormap(spec))
            out.update_tags(**tags)
            out.update_tags(1, **{f"CLASS_{index}": name for index, name in enumerate(spec.class_names)})
        copy_raster(
            plain, partial, driver="COG", compress="DEFLATE", blocksize=512, overview_resampling="MODE"
        )
    finally:
        plain.unlink(missing_ok=True)


def colormap(spec: DataSpec) -> dict[int, tuple[int, int, int, int]]:
    """Colour table of a map: class -> RGBA in 0..255; nodata is transparent."""
    table = {
        index: (*(round(channel * 255) for channel in to_rgb(color)), 255)
        for index, color in enumerate(class_colors(spec))
    }
    return {**table, IGNORE_INDEX: (0, 0, 0, 0)}  # type: ignore[dict-item]


def map_scene(
    checkpoint: str | Path | PrithviSegmentationTask,
    scene: str | Path,
    output: str | Path,
    *,
    bands: Sequence[int | str] = (),
    sensor: str | None = None,
    scale: float | None = None,
    profile: Profile = "cog",
    overwrite: bool = False,
    device: str | torch.device = "cpu",
) -> Path:
    """Map one scene in one call.

    Args:
        checkpoint: A checkpoint that describes itself, or a task with a `data_spec`.
        scene: A raster file.
        output: The map to write.
        bands: See `SceneDataset`.
        sensor: See `SceneDataset`.
        scale: See `SceneDataset`.
        profile: See `write_map`.
        overwrite: Replace `output` if it exists.
        device: Where to compute.

    Returns:
        The path of the map.

    Raises:
        ConfigError: `output` exists, or the task does not know its data.
        DataError: The scene cannot be read or the map cannot be written.
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise ConfigError(f"{output}: exists; pass overwrite=True to replace it")
    task = checkpoint if isinstance(checkpoint, PrithviSegmentationTask) else load_task(checkpoint)
    spec = task.data_spec
    if spec is None:
        raise ConfigError(
            "data_spec: the task does not know its data; fit it, load it from a checkpoint of a fit, or build "
            "it with data_spec=datamodule.spec.to_dict()"
        )
    sample = SceneDataset([scene], spec, bands, sensor, scale, legacy=profile == "legacy")[0]
    normalize = ChipAugmentation(spec.channel_mean, spec.channel_std).to(device)
    task = task.eval().to(device)
    with torch.inference_mode():
        batch = normalize({"image": sample["image"].unsqueeze(0).to(device)})
        classes = task.forward_windows(batch["image"]).argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
    write_map(output, classes, sample["masked"].numpy(), scene, spec, profile)
    return output
