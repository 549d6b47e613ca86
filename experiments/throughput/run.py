"""How fast the full-size model runs: as hls-foundation-os computes it, fused, in bfloat16, compiled.

    python experiments/throughput/run.py [--quick] [--terratorch PYTHON]

Everything is measured in one process, interleaved and repeated; medians and their ratios are kept in results.json and
as tables in the README. With --terratorch, an interpreter that has TerraTorch, its models of the same encoder
and the same kinds of decoder are timed in between.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
import torch
from model_alone import measure as measure_alone
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prithvi_tg import PrithviSegmentationTask, map_scene
from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.mapping.scene_windows import SceneDataModule
from prithvi_tg.models import ConvTransposeNeck, EncoderDecoder, cached_weights
from prithvi_tg.models.decoders import token_map
from prithvi_tg.readers.formats import find_inputs, resolve_scene
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

HERE = Path(__file__).parent
WORK = HERE / "output"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = 4
SPEC = DataSpec(
    InputSpec(
        PRITHVI_BANDS,
        (775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0),
        (1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0),
    ),
    ClassTarget(("land", "burn scar")),
)
#: Name: fused, bfloat16, compiled.
PATHS = {
    "plain float32": (False, False, False),
    "fused float32": (True, False, False),
    "fused bfloat16": (True, True, False),
    "fused bfloat16, compiled": (True, True, True),
}


class SeedNeck(ConvTransposeNeck):
    """The neck in the memory layout of hls-foundation-os: channels first after every layer."""

    def forward(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """As the neck's."""
        features = token_map(tokens, grid).contiguous()
        for layer in (*self.fpn1, *self.fpn2):
            features = layer(features).contiguous()
        return features


def burn_scar_task(fuse: bool = True, **options: Any) -> PrithviSegmentationTask:
    """The published burn-scar model with random weights; not fused, as hls-foundation-os computes it."""
    torch.manual_seed(0)
    task = PrithviSegmentationTask(data_spec=SPEC.to_dict(), fuse=fuse, **options)
    if not fuse:
        task.model.neck.__class__ = SeedNeck
    return task


def mixed(on: bool) -> AbstractContextManager[Any]:
    """Autocast as Lightning's ``bf16-mixed``."""
    return torch.autocast(DEVICE, torch.bfloat16, enabled=on)


def seconds(function: Callable[[], Any]) -> float:
    """Of one call, to its end on the device."""
    began = time.perf_counter()
    function()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def interleaved(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one call that does not count."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            took = seconds(function)
            if repeat:
                times[name].append(took)
    return {name: statistics.median(values) for name, values in times.items()}


def peaks(repeats: int) -> dict[str, float]:
    """TFLOP/s of large matrix products and of a 3 x 3 convolution."""
    functions: dict[str, Callable[[], Any]] = {}
    work: dict[str, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        square = torch.randn(4096, 4096, device=DEVICE, dtype=dtype)
        image = torch.randn(2, 256, 112, 112, device=DEVICE, dtype=dtype).to(
            memory_format=torch.channels_last
        )
        kernel = torch.randn(256, 256, 3, 3, device=DEVICE, dtype=dtype).to(memory_format=torch.channels_last)
        functions[f"matmul {name}"] = lambda a=square: a @ a
        functions[f"convolution {name}"] = lambda a=image, b=kernel: nn.functional.conv2d(a, b, padding=1)
        work[f"matmul {name}"] = 2 * 4096**3
        work[f"convolution {name}"] = 2 * 2 * 112**2 * 256**2 * 9
    with torch.inference_mode():
        took = interleaved(functions, repeats)
    return {name: round(work[name] / took[name] / 1e12, 3) for name in took}


def inference(repeats: int) -> dict[str, Any]:
    """Seconds per window of each path, of its encoder alone, and operations."""
    images = torch.randn(BATCH, 1, 6, 224, 224, device=DEVICE)
    functions: dict[str, Callable[[], Any]] = {}
    flops = {}
    models = {
        name: burn_scar_task(fuse=fuse, compile=compiled).model.to(DEVICE).eval()
        for name, (fuse, _, compiled) in PATHS.items()
    }
    with torch.inference_mode(), cached_weights():
        for name, (_, low, compiled) in PATHS.items():
            model = models[name]

            def run(model: Any = model, low: bool = low) -> Tensor:
                with mixed(low):
                    return model(images)

            def encode(model: Any = model, low: bool = low) -> Any:
                with mixed(low):
                    return model.forward_tokens(images)[0]

            functions[name], functions[f"{name}: encoder"] = run, encode
            if not compiled:
                run()  # makes the fused weights, whose operations are not a window's
                with FlopCounterMode(display=False) as counter:
                    run()
                flops[name] = round(counter.get_total_flops() / BATCH / 1e9, 1)
        took = interleaved(functions, repeats)
    return {
        "seconds per window": {name: round(value / BATCH, 4) for name, value in took.items()},
        "times as fast": {name: round(took["plain float32"] / took[name], 2) for name in PATHS},
        "GFLOP per window": flops,
    }


def light_decoders(repeats: int, terratorch: str | None) -> dict[str, Any]:
    """Seconds per window with the decoders of segmentation_models_pytorch, beside TerraTorch's."""
    images = torch.randn(BATCH, 1, 6, 224, 224, device=DEVICE)
    functions = {}
    for decoder in ("linear", "fpn", "unet", "upernet", "segformer", "dpt"):
        model = burn_scar_task(decoder=decoder).model.to(DEVICE).eval()
        for low in (False, True):

            def run(model: Any = model, low: bool = low) -> Tensor:
                with mixed(low):
                    return model(images)

            functions[f"{decoder}, {'bfloat16' if low else 'float32'}"] = run
    ours: dict[str, list[float]] = {name: [] for name in functions}
    theirs: list[dict[str, Any]] = []
    for _ in range(3):  # in turns
        with torch.inference_mode(), cached_weights():
            for name, value in interleaved(functions, repeats).items():
                ours[name].append(value / BATCH)
        if terratorch:
            command = [terratorch, HERE / "terratorch_models.py", str(repeats), str(torch.get_num_threads())]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            theirs.append(json.loads(answer.strip().splitlines()[-1]))
    result: dict[str, Any] = {
        "seconds per window": {k: round(statistics.median(v), 4) for k, v in ours.items()}
    }
    if theirs:
        times = {
            key: round(statistics.median(one["seconds per window"][key] for one in theirs), 4)
            for key in theirs[0]["seconds per window"]
        }
        result["TerraTorch"] = {**theirs[0], "seconds per window": times}
        result["times as fast as TerraTorch"] = {
            kind: round(times[f"{kind}, bfloat16"] / result["seconds per window"][f"{kind}, bfloat16"], 2)
            for kind in ("unet", "upernet")
        }
    return result


class PeakMemory:
    """Highest resident memory of the process (or allocated on the device) above that at the start, in GB."""

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        self.process = psutil.Process()
        self.peak = self.idle = self._now()
        self.running = True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _now(self) -> int:
        return torch.cuda.memory_allocated() if DEVICE == "cuda" else self.process.memory_info().rss

    def _watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, self._now())
            time.sleep(0.005)

    def __exit__(self, *error: object) -> None:
        self.running = False
        self.thread.join()
        self.gigabytes = (self.peak - self.idle) / 1e9


def training(repeats: int) -> dict[str, Any]:
    """Seconds of a step with AdamW at a batch of 4, its memory, and where the time goes in the fastest."""
    images = torch.randn(BATCH, 1, 6, 224, 224, device=DEVICE)
    labels = torch.randint(0, 2, (BATCH, 224, 224), device=DEVICE)
    task = burn_scar_task().to(DEVICE).train()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-5)

    def step(fuse: bool, low: bool) -> None:
        task.model.fuse = fuse
        task.model.neck.__class__ = ConvTransposeNeck if fuse else SeedNeck
        with mixed(low):
            logits, auxiliary = task.model.forward_both(images)
            loss = task.criterion(logits, labels) + task.criterion(auxiliary, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    paths = {name: path[:2] for name, path in PATHS.items() if not path[2]}
    memory: dict[str, list[float]] = {name: [] for name in paths}
    functions = {}
    for name, path in paths.items():

        def run(name: str = name, path: tuple[bool, bool] = path) -> None:
            with PeakMemory() as peak:
                step(*path)
            memory[name].append(peak.gigabytes)

        functions[name] = run
    took = interleaved(functions, repeats)
    held = {name: statistics.median(values[1:]) for name, values in memory.items()}
    with torch.profiler.profile() as profile:
        step(True, True)
    total = sum(event.self_cpu_time_total for event in profile.key_averages())
    return {
        "seconds per step": {name: round(value, 2) for name, value in took.items()},
        "times as fast": {name: round(took["plain float32"] / value, 2) for name, value in took.items()},
        "GB above the idle process": {name: round(value, 2) for name, value in held.items()},
        "share of its memory": {name: round(v / held["plain float32"], 2) for name, v in held.items()},
        "where a fused bfloat16 step goes": {
            event.key.removeprefix("aten::"): round(event.self_cpu_time_total / total, 3)
            for event in sorted(profile.key_averages(), key=lambda one: -one.self_cpu_time_total)[:12]
        },
    }


def profile_of_inference() -> dict[str, float]:
    """Shares of the time of a fused bfloat16 window, by operation."""
    model = burn_scar_task().model.to(DEVICE).eval()
    images = torch.randn(BATCH, 1, 6, 224, 224, device=DEVICE)
    with torch.inference_mode(), cached_weights(), mixed(True):
        model(images)
        with torch.profiler.profile() as profile:
            model(images)
    events = profile.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    return {
        event.key.removeprefix("aten::"): round(event.self_cpu_time_total / total, 3)
        for event in sorted(events, key=lambda one: -one.self_cpu_time_total)[:10]
    }


def write_scene(path: Path, side: int) -> None:
    """A tiled scene of six bands, int16."""
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=6, dtype="int16", nodata=-9999, tiled=True,
        crs="EPSG:32629", transform=rasterio.Affine(10, 0, 500000, 0, -10, 5400000), compress="deflate",
    ) as out:  # fmt: skip
        out.descriptions = PRITHVI_BANDS
        out.write((1500 + 300 * rng.standard_normal((6, side, side))).astype(np.int16))


class Timed(EncoderDecoder):
    """A model that counts its seconds."""

    spent = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = super().__call__(*args, **kwargs)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        self.spent += time.perf_counter() - began
        return result


def mapping(side: int, repeats: int) -> dict[str, Any]:
    """Seconds of maps of a scene at 50 % overlap, by blending; of the model within them; and of reading alone."""
    WORK.mkdir(exist_ok=True)
    scene = WORK / f"scene_{side}.tif"
    write_scene(scene, side)
    fast, slow = burn_scar_task().eval(), burn_scar_task(fuse=False).eval()
    for task in (fast, slow):
        task.model.__class__ = Timed
    kinds: dict[str, tuple[Any, Any, Any]] = {"plain float32, average": (slow, "32-true", "average")}
    for blending in ("average", "hann", "crop"):
        kinds[f"fused bfloat16, {blending}"] = (fast, "bf16-mixed", blending)
    inside: dict[str, list[float]] = {name: [] for name in kinds}
    functions = {}
    for name, (task, precision, blending) in kinds.items():

        def run(
            name: str = name, task: Any = task, precision: Any = precision, blending: Any = blending
        ) -> None:
            task.model.spent = 0.0
            map_scene(
                task, scene, WORK / "map.tif", stride=112, blending=blending, precision=precision,
                device=DEVICE, overwrite=True,
            )  # fmt: skip
            inside[name].append(task.model.spent)

        functions[name] = run
    took = interleaved(functions, repeats)
    resolved = resolve_scene(find_inputs([scene])[0], SPEC)
    data = SceneDataModule([resolved], SPEC, 224, 112, "average", 16, BATCH, 1, "all", ())
    reading = statistics.median(seconds(lambda: list(data.stream())) for _ in range(3))
    plain = took["plain float32, average"]
    return {
        "scene": f"{side} x {side}",
        "Mpx/s": {name: round(side**2 / value / 1e6, 4) for name, value in took.items()},
        "times as fast": {name: round(plain / value, 2) for name, value in took.items()},
        "share outside the model": {
            name: round(1 - statistics.median(inside[name][1:]) / value, 3) for name, value in took.items()
        },
        "seconds of reading alone": round(reading, 2),
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--terratorch", help="a Python that has TerraTorch")
    settings = parser.parse_args()
    warnings.simplefilter("ignore")
    repeats = 1 if settings.quick else 3
    results: dict[str, Any] = {
        "machine": {
            "device": torch.cuda.get_device_name()
            if DEVICE == "cuda"
            else platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "float32 matmul precision": torch.get_float32_matmul_precision(),
        }
    }
    parts: dict[str, Callable[[], Any]] = {
        "TFLOP/s": lambda: peaks(repeats),
        "inference": lambda: inference(repeats),
        "where a fused bfloat16 window goes": profile_of_inference,
        "training": lambda: training(1),
        "light decoders": lambda: light_decoders(repeats, settings.terratorch),
        "model alone": lambda: measure_alone(
            "prithvi_eo_v1_100m", ["conv_transpose"], BATCH, repeats=repeats
        ),
        "maps": lambda: mapping(448 if settings.quick else 672, 1),
    }
    for name, measure in parts.items():
        results[name] = measure()
        print(json.dumps({name: results[name]}, indent=1), flush=True)
    reached = results["TFLOP/s"]
    window = results["inference"]["seconds per window"]
    results["share of the matmul peak"] = {
        name: round(
            results["inference"]["GFLOP per window"][name] / 1e3 / window[name] / reached[f"matmul {kind}"], 2
        )
        for name, kind in (
            ("plain float32", "float32"),
            ("fused float32", "float32"),
            ("fused bfloat16", "bfloat16"),
        )
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
