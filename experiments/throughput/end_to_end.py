"""From a file to a cloud-optimised map: seconds, the share of the model, and memory, for models and settings.

    python experiments/throughput/end_to_end.py [--quick]

Writes a synthetic scene of six bands (int16, DEFLATE, blocks of 512) and maps it with `map_scene`: of the size of a
Sentinel-2 tile on CUDA, of 2000 x 2000 pixels on a CPU. Each case runs once to warm up, and then three times; the
results are medians. Events on the device measure the time of the model, so that nothing waits for them. Results go to
results_end_to_end_DEVICE.json.
"""

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch import nn

from prithvi_tg import PrithviSegmentationTask, map_scene
from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

HERE = Path(__file__).parent
WORK = HERE / "output"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INPUT = InputSpec(
    PRITHVI_BANDS,
    (775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0),
    (1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0),
)


@dataclass(frozen=True)
class Case:
    """A model, and how it maps."""

    encoder: str
    decoder: str
    stride: int
    blending: str = "average"
    classes: int = 2
    precision: str = "32-true"
    compile: bool = False

    def task(self) -> PrithviSegmentationTask:
        """The model with random weights, which takes as long as a trained one."""
        torch.manual_seed(0)
        target = ClassTarget(tuple(f"class {k}" for k in range(self.classes)))
        width = {"head_channels": 64} if self.encoder == "nano" else {}
        return PrithviSegmentationTask(
            encoder=self.encoder, decoder=self.decoder, compile=self.compile,
            data_spec=DataSpec(INPUT, target).to_dict(), **width,
        ).eval()  # fmt: skip


CPU_CASES = [
    Case("nano", decoder, stride)
    for decoder, strides in (("linear", (112, 224)), ("fpn", (112, 224)), ("conv_transpose", (224,)))
    for stride in strides
] + [
    Case("nano", "linear", 112, "hann"),
    Case("nano", "linear", 112, "crop"),
    Case("nano", "linear", 112, classes=13),
]
_GPU = ("prithvi_eo_v1_100m", "conv_transpose")
GPU_CASES = [
    Case(*_GPU, 112, precision="bf16-mixed"),
    Case(*_GPU, 112, precision="bf16-mixed", compile=True),
    Case(*_GPU, 224, precision="bf16-mixed"),
    Case(*_GPU, 112, "hann", precision="bf16-mixed"),
    Case(*_GPU, 112, "crop", precision="bf16-mixed"),
    Case(*_GPU, 112, classes=13, precision="bf16-mixed"),
    Case(_GPU[0], "unet", 112, precision="bf16-mixed"),
    Case(_GPU[0], "unet", 224, precision="bf16-mixed"),
    Case(_GPU[0], "unet", 112, classes=13, precision="bf16-mixed"),
    Case("nano", "linear", 224, precision="bf16-mixed"),
]


def write_scene(path: Path, side: int) -> None:
    """A scene of noise, written a row of blocks at a time."""
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=6, dtype="int16", nodata=-9999, tiled=True,
        crs="EPSG:32629", transform=rasterio.Affine(10, 0, 500000, 0, -10, 5400000), compress="deflate",
        blockxsize=512, blockysize=512, num_threads="ALL_CPUS",
    ) as out:  # fmt: skip
        out.descriptions = PRITHVI_BANDS
        for top in range(0, side, 512):
            rows = min(512, side - top)
            values = 1500 + 300 * rng.standard_normal((6, rows, side), dtype=np.float32)
            out.write(values.astype(np.int16), window=Window(0, top, side, rows))


class ModelTime:
    """Seconds between the start and the end of each call of a model, by the clock of its device."""

    def __init__(self, model: nn.Module) -> None:
        self._marks: list[Any] = []
        self._handles = [
            model.register_forward_pre_hook(lambda *_: self._mark()),
            model.register_forward_hook(lambda *_: self._mark()),
        ]

    def _mark(self) -> None:
        if DEVICE == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> float:
        """Of all calls so far; ends the measurement."""
        for handle in self._handles:
            handle.remove()
        pairs = list(zip(self._marks[::2], self._marks[1::2], strict=True))
        if DEVICE == "cuda":
            torch.cuda.synchronize()
            return sum(start.elapsed_time(end) for start, end in pairs) / 1e3
        return float(sum(end - start for start, end in pairs))


def measure(case: Case, scene: Path, side: int, repeats: int) -> dict[str, float]:
    """Medians of several maps."""
    task = case.task()
    runs: list[tuple[float, float]] = []
    for _ in range(repeats + 1):
        gc.collect()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        timer = ModelTime(task.model)
        began = time.perf_counter()
        map_scene(
            task, scene, WORK / "map.tif", stride=case.stride, blending=case.blending, precision=case.precision,
            device=DEVICE, overwrite=True,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        runs.append((seconds, timer.seconds()))
    seconds, model = (statistics.median(values) for values in zip(*runs[1:], strict=True))
    megapixels = side**2 / 1e6
    result = {
        "seconds": round(seconds, 3),
        "seconds in the model": round(model, 3),
        "share of the model": round(model / seconds, 3),
        "Mpx/s": round(megapixels / seconds, 3),
        "km2/s": round(megapixels * 100 / seconds, 1),  # pixels of 10 m
        "peak host memory of the process so far, MB": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ),
    }
    if DEVICE == "cuda":
        result["peak device memory, MB"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return result


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small scene once, to see that it runs")
    parser.add_argument(
        "--side", type=int, default=10980 if DEVICE == "cuda" else 2000, help="of the scene, pixels"
    )
    settings = parser.parse_args()
    warnings.simplefilter("ignore")
    side, repeats = (600, 1) if settings.quick else (settings.side, 3)
    WORK.mkdir(exist_ok=True)
    scene = WORK / f"tile_{side}.tif"
    if not scene.exists():
        write_scene(scene, side)
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.machine()
    results: dict[str, Any] = {
        "machine": {
            "device": name, "cores": os.cpu_count(), "torch": torch.__version__, "python": sys.version.split()[0],
        },
        "scene": f"{side} x {side}, 6 bands, int16",
        "cases": [],
    }  # fmt: skip
    path = HERE / f"results_end_to_end_{name.replace(' ', '_')}.json"
    for case in GPU_CASES if DEVICE == "cuda" else CPU_CASES:
        measured = measure(case, scene, side, repeats)
        results["cases"].append(asdict(case) | measured)
        print(json.dumps(asdict(case) | measured), flush=True)
        if not settings.quick:
            path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
