"""Memory and throughput of mapping: peak memory against the size of a scene, and where the time goes.

    python experiments/mapping/run.py [--quick]

Writes synthetic scenes of six bands (int16, DEFLATE, blocks of 512), maps each with the ``nano`` encoder in a
process of its own through ``prithvi-tg predict``, and reads the process's peak memory from the kernel. A
second part times the model within a run, and a third counts how often each block of a file is read.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import rasterio
import torch
from lightning.pytorch import Callback, Trainer
from rasterio.windows import Window

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.callbacks import MapWriter
from prithvi_tg.mapping.planning import plan_maps
from prithvi_tg.mapping.products import OutputOptions
from prithvi_tg.mapping.provenance import weights_hash
from prithvi_tg.mapping.scene_windows import SceneDataModule
from prithvi_tg.readers.formats import InputOptions, find_inputs, resolve_scene
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget

HERE = Path(__file__).parent
WORK = HERE / "output"
SPEC = DataSpec(
    InputSpec(
        PRITHVI_BANDS,
        (775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0),
        (1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0),
    ),
    ClassTarget(("land", "water")),
)
SIZES = {"2000 x 2000": (2000, 2000), "2000 x 20000": (20000, 2000), "10980 x 10980": (10980, 10980)}
QUICK = {"600 x 600": (600, 600), "600 x 6000": (6000, 600)}


def write_scene(path: Path, height: int, width: int) -> None:
    """A scene of smooth ground and noise, written a row of blocks at a time."""
    rng = np.random.default_rng(0)
    mean = np.array(SPEC.input.mean)[:, None, None]
    columns = np.arange(width)[None, None]
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=6, dtype="int16", nodata=-9999,
        crs="EPSG:32629", transform=rasterio.Affine(10, 0, 500000, 0, -10, 5400000), tiled=True,
        blockxsize=512, blockysize=512, compress="deflate", zlevel=1, num_threads=2,
    ) as out:  # fmt: skip
        out.descriptions = PRITHVI_BANDS
        for top in range(0, height, 512):
            rows = np.arange(top, min(top + 512, height))[None, :, None]
            ground = 1 + 0.5 * np.sin(rows / 97) * np.cos(columns / 131)
            values = mean * ground + rng.integers(-100, 100, (6, rows.shape[1], width))
            out.write(values.astype(np.int16), window=Window(0, top, width, rows.shape[1]))


def task(decoder: str) -> PrithviSegmentationTask:
    """A model with random weights, which takes as long as a trained one."""
    torch.manual_seed(0)
    return PrithviSegmentationTask(
        encoder="nano", decoder=decoder, head_channels=64, num_classes=2, data_spec=SPEC.to_dict()
    ).eval()


def save(path: Path, decoder: str) -> None:
    """A checkpoint that describes itself."""
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer.strategy.connect(task(decoder))
    trainer.save_checkpoint(path, weights_only=True)


def map_in_process_of_its_own(scene: Path, checkpoint: Path) -> dict[str, float]:
    """Seconds, and peak resident memory in MB as the kernel counts it."""
    command = [
        sys.executable, "-m", "prithvi_tg", "predict", "--ckpt_path", checkpoint, scene, "--output", WORK / "maps",
        "--overwrite", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"predict failed on {scene}")
    return {"seconds": time.perf_counter() - began, "peak_mb": usage.ru_maxrss / 1024}


class ModelTimer(Callback):
    """Time between the start and the end of each predict step."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on_predict_batch_start(self, *_: object) -> None:
        self.began = time.perf_counter()

    def on_predict_batch_end(self, *_: object, **__: object) -> None:
        self.seconds += time.perf_counter() - self.began


def where_the_time_goes(scene: Path, decoder: str, blending: str, stride: int) -> dict[str, float]:
    """Megapixels a second, and the share of the time that is not spent in the model."""
    model = task(decoder)
    output = WORK / "timed"
    data, run = plan_maps(
        model, SPEC, [scene], output, weights_hash(model), InputOptions(), OutputOptions(overwrite=True),
        blending=blending, stride=stride,
    )  # fmt: skip
    timer, writer = ModelTimer(), MapWriter(run, output)
    trainer = Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        callbacks=[timer, writer],
    )  # fmt: skip
    began = time.perf_counter()
    trainer.predict(model, datamodule=data, return_predictions=False)
    seconds = time.perf_counter() - began
    pixels = run.results()[0].height * run.results()[0].width
    return {
        "mpx_per_second": pixels / 1e6 / seconds,
        "outside_the_model": 1 - timer.seconds / seconds,
        "seconds": seconds,
    }


class CountingFile:
    """A file that notes where it is read."""

    reads: list[int]

    def __init__(self, path: str, mode: str) -> None:
        self.file = Path(path).open(mode)  # noqa: SIM115

    def read(self, size: int = -1) -> bytes:
        self.reads.append(self.file.tell())
        return self.file.read(size)

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def __enter__(self) -> "CountingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def reads_per_block(path: Path) -> dict[str, int]:
    """How many blocks are read how often while all windows are streamed."""
    with rasterio.open(path) as source:
        offsets = {
            int(source.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1))
            for (row, column), _ in source.block_windows(1)
        }
    CountingFile.reads = []
    plain = rasterio.open
    rasterio.open = lambda name, *rest, **more: plain(  # type: ignore[assignment]
        name, *rest, opener=lambda file, mode="rb", **_: CountingFile(file, mode), **more
    )
    try:
        scene = resolve_scene(find_inputs([path])[0], SPEC)
        for _ in SceneDataModule([scene], SPEC, window=224, stride=112, num_workers=0).stream():
            pass
    finally:
        rasterio.open = plain
    times = Counter(Counter(offset for offset in CountingFile.reads if offset in offsets).values())
    return {f"{count} times": blocks for count, blocks in times.items()}


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Small scenes, to see that it runs.")
    sizes = QUICK if parser.parse_args().quick else SIZES
    WORK.mkdir(exist_ok=True)
    os.environ.setdefault("GDAL_CACHEMAX", "64")
    checkpoint = WORK / "nano_fpn.ckpt"
    save(checkpoint, "fpn")
    results: dict[str, object] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "memory": {}}
    for name, (height, width) in sizes.items():
        scene = WORK / f"scene_{height}_{width}.tif"
        if not scene.exists():
            write_scene(scene, height, width)
        repeats = (
            1 if height * width > 1e8 else 3
        )  # the system's allocator makes some tens of MB of difference
        runs = [map_in_process_of_its_own(scene, checkpoint) for _ in range(repeats)]
        peaks = [round(run["peak_mb"]) for run in runs]
        seconds = statistics.median(run["seconds"] for run in runs)
        results["memory"][name] = {  # type: ignore[index]
            "peak_mb": statistics.median(peaks), "all_peaks_mb": peaks, "seconds": seconds,
        }  # fmt: skip
        print(f"{name}: {peaks} MB, {seconds:.0f} s", flush=True)
    height, width = next(iter(sizes.values()))
    scene = WORK / f"scene_{height}_{width}.tif"
    results["blocks read"] = reads_per_block(scene)
    print("blocks read:", results["blocks read"])
    results["throughput"] = {}
    for decoder in ("linear", "fpn", "conv_transpose"):
        for blending, stride in (("average", 112), ("hann", 112), ("crop", 112), ("average", 224)):
            measured = where_the_time_goes(scene, decoder, blending, stride)
            key = f"{decoder}, {blending}, stride {stride}"
            results["throughput"][key] = measured  # type: ignore[index]
            share = 100 * measured["outside_the_model"]
            print(
                f"{key}: {measured['mpx_per_second']:.2f} Mpx/s, {share:.0f} % outside the model", flush=True
            )
    if sizes is SIZES:
        (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
