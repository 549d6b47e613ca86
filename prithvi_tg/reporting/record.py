"""The record of a run beside its scores: versions, seed, state of the code, checkpoint, time and memory."""

import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..checkpoints import read_checkpoint
from ..files import file_hash, shown
from ..tasks.precision import described_precision, uses_tf32

_PACKAGES = ("torch", "torchgeo", "lightning", "kornia", "timm", "rasterio", "numpy")


def run_record(precision: str, processes: int, seconds: float, checkpoint: Path | None) -> dict[str, Any]:
    """The data needed to judge or reproduce a score.

    Args:
        precision: Precision of the trainer.
        processes: Number of processes of the trainer.
        seconds: Duration of the run.
        checkpoint: File of the scored weights; ``None`` if they are in no file.
    """
    seed = os.environ.get("PL_GLOBAL_SEED")
    on_gpu = torch.cuda.is_available()
    return {
        "versions": {
            "prithvi_tg": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "git": git_state(Path.cwd()),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": None if seed is None else int(seed),
        **described_precision(precision, uses_tf32()),
        "device": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "processes": processes,
        "seconds": round(seconds, 2),
        "peak_memory_gb": round(_peak_memory() / 1e9, 3),
        "peak_gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3) if on_gpu else None,
        **_checkpoint(checkpoint),
    }


def _checkpoint(path: Path | None) -> dict[str, Any]:
    """Path and hash of a file of weights, and its epoch and step if the file records them."""
    meta = {} if path is None else read_checkpoint(path).meta
    return {
        "checkpoint": None if path is None else str(shown(path)),
        "checkpoint_sha256": None if path is None else file_hash(path),
        "checkpoint_epoch": meta.get("epoch"),
        "checkpoint_step": meta.get("global_step"),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of a folder's git repository, and whether files differ from it; ``None`` outside a repository."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes)}


def _peak_memory() -> int:
    """Peak memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
