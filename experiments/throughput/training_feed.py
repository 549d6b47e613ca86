"""Samples per second of training on chips of 512 x 512 pixels from the second epoch on, of one or two versions."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
BATCH, CROP = 8, 224


def measure(root: Path, workers: int, epochs: int) -> dict[str, list[float]]:
    """Seconds of each epoch from the second on: of the loader alone, and of training with it."""
    import torch
    from lightning.pytorch import Callback, Trainer

    from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule

    torch.manual_seed(0)

    class Clock(Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_epoch_start(self, trainer: Trainer, pl_module: object) -> None:
            self.times.append(time.perf_counter())

        def on_train_epoch_end(self, trainer: Trainer, pl_module: object) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times[-1] = time.perf_counter() - self.times[-1]

    def data() -> Sen1Floods11DataModule:
        return Sen1Floods11DataModule(
            root, splits=root / "splits.csv", batch_size=BATCH, crop_size=CROP, num_workers=workers
        )

    task = PrithviSegmentationTask(
        encoder="nano", decoder="linear", auxiliary_weight=0.0, num_classes=2, window=CROP, warmup_steps=1
    )
    clock = Clock()
    trainer = Trainer(
        max_epochs=epochs, callbacks=[clock], logger=False, enable_checkpointing=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        precision="bf16-mixed" if torch.cuda.is_available() else "32-true",
    )  # fmt: skip
    trainer.fit(task, data())
    feed = data()
    feed.setup("fit")
    loader = feed.train_dataloader()
    alone = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        start = time.perf_counter()
        for _ in loader:
            pass
        alone.append(time.perf_counter() - start)
    return {"training": clock.times[1:], "loader": alone[1:]}


def run(tree: Path, root: Path, workers: int, epochs: int) -> dict[str, list[float]]:
    """`measure` in a process of its own, with the package of a source tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, str(HERE), "--measure", str(root), str(workers), str(epochs)]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[float]] = json.loads(out.strip().splitlines()[-1])
    return found


def main() -> None:
    """Measure the versions in turn, and write medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", default=HERE.with_name("results_training_feed.json"))
    parser.add_argument(
        "--before", type=Path, help="top of the source tree of an earlier version, to compare with"
    )
    parser.add_argument("--chips", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        root, workers, epochs = options.measure
        print(json.dumps(measure(Path(root), int(workers), int(epochs))))
        return
    import torch

    from prithvi_tg.datasets.synthetic import write_sen1floods11

    trees = {"now": HERE.parents[2]} | ({"before": options.before.resolve()} if options.before else {})
    seconds: dict[tuple[str, int, str], list[float]] = {}
    loads = []
    with tempfile.TemporaryDirectory() as folder:
        root = write_sen1floods11(Path(folder) / "data", chips=options.chips, size=512)
        samples = sum(row.endswith(",train") for row in (root / "splits.csv").read_text().splitlines())
        samples -= samples % BATCH
        for _ in range(options.repeats):
            for workers in options.workers:
                for name, tree in trees.items():
                    loads.append(os.getloadavg()[0])
                    for kind, times in run(tree, root, workers, options.epochs).items():
                        seconds.setdefault((name, workers, kind), []).extend(times)
    rates = {key: samples / statistics.median(times) for key, times in seconds.items()}
    result = {
        "chips": options.chips, "batch_size": BATCH, "crop_size": CROP, "samples_per_epoch": samples,
        "cores": os.cpu_count(), "load": [round(min(loads), 1), round(max(loads), 1)],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu", "torch": torch.__version__,
        "samples_per_second": [
            {"version": name, "workers": workers, "kind": kind, "median": round(rate, 2)}
            | ({"ratio": round(rate / rates["before", workers, kind], 2)} if ("before", workers, kind) in rates else {})
            for (name, workers, kind), rate in sorted(rates.items())
        ],
    }  # fmt: skip
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
