"""Provenance of a map: software, weights and settings, as a key for resuming and as tags of its files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from .. import __version__
from ..readers.aoi import AreaOfInterest
from ..readers.quality import QualityClass
from ..readers.scene import NodataRule
from ..spec import DataSpec
from ..tiling import WindowGrid


def describe(
    task: Any,
    spec: DataSpec,
    weights: str,
    precision: Mapping[str, str],
    nodata_rule: NodataRule,
    qa_mask: Sequence[QualityClass],
    windows: str,
) -> tuple[dict[str, Any], dict[str, str]]:
    """All settings besides the scene that the pixels of a map depend on, and the same as text for tags of its files.

    Args:
        task: The task that makes the map.
        spec: Bands, statistics and classes or values of the task.
        weights: Hash of the weights.
        precision: Result of `described_precision`.
        nodata_rule: When a pixel is nodata.
        qa_mask: Quality classes that count as nodata.
        windows: Text about the windows; empty without scenes.
    """
    identity: dict[str, Any] = {
        "weights": weights,
        "task": f"{type(task).__module__}.{type(task).__qualname__}",
        "hyper_parameters": dict(getattr(task, "hparams", {})),
        "data_spec": spec.to_dict(),
        "nodata_rule": nodata_rule,
        "qa_mask": list(qa_mask),
        **precision,
    }
    model = {key: value for key, value in identity["hyper_parameters"].items() if key != "data_spec"}
    tags = {
        "software": f"prithvi_tg {__version__}",
        "torch": torch.__version__,
        "torchgeo": version("torchgeo"),
        "lightning": version("lightning"),
        "rasterio": version("rasterio"),
        "checkpoint_sha256": weights,
        "precision": f"{precision['precision']}, float32 matmul {precision['float32_matmul_precision']}",
        "tf32": precision["tf32"],
        "task": identity["task"],
        "model": json.dumps(model, default=str),
        "nodata_rule": nodata_rule,
        "masked_classes": " ".join(qa_mask),
        "windows": windows,
    }
    return identity, {key: value for key, value in tags.items() if value}


def described_windows(plans: Mapping[str, WindowGrid]) -> str:
    """Text with size, stride and blending of windows; empty without scenes."""
    plan = next(iter(plans.values()), None)
    if plan is None:
        return ""
    return f"window {plan.rows.window}, stride {plan.rows.stride}, blending {plan.rows.blending}"


def described_area(area: AreaOfInterest | None) -> dict[str, str]:
    """Tags of the area that a map is limited to; none without an area.

    ``aoi`` is the file, box or WKT as given, and ``aoi_sha256`` the hash of its geometry.
    """
    return {} if area is None else {"aoi": area.word, "aoi_sha256": area.sha256}


def weights_hash(task: torch.nn.Module) -> str:
    """SHA-256 of all weights of a task."""
    total = hashlib.sha256()
    for name, value in sorted(task.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
