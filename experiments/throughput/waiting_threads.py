"""Seconds of work while threads of PyTorch spin or sleep as they wait, on an idle machine and beside busy programs.

    python experiments/throughput/waiting_threads.py [--side PIXELS]

The work is a map of a synthetic scene and 20 steps of training on batches of 8 chips of 224 x 224 pixels, both with
`nano` and the linear decoder (map: stride 224) on the CPU. Each is done once to warm up and then three times, in a
process of its own for each policy: the default of OpenMP, which spins for a while, and the one that the commands set.
The busy programs are loops that compute nothing. Prints medians, and writes results_waiting_threads.json.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
POLICIES: dict[str, dict[str, str]] = {"spin": {}, "sleep": {"OMP_WAIT_POLICY": "PASSIVE"}}
WORK = {
    "map": """
import sys, end_to_end
side = int(sys.argv[1])
scene = end_to_end.WORK / f"tile_{side}.tif"
end_to_end.WORK.mkdir(exist_ok=True)
if not scene.exists():
    end_to_end.write_scene(scene, side)
print(end_to_end.measure(end_to_end.Case("nano", "linear", 224), scene, side, 3)["seconds"])
""",
    "training": """
import statistics, time, torch
from prithvi_tg import PrithviSegmentationTask
task = PrithviSegmentationTask(encoder="nano", decoder="linear", auxiliary_weight=0.0, num_classes=2, window=224)
optimizer = torch.optim.AdamW(task.parameters())
images, labels = torch.randn(8, 1, 6, 224, 224), torch.randint(0, 2, (8, 224, 224))
times = []
for _ in range(4):
    start = time.perf_counter()
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(task(images), labels).backward()
        optimizer.step()
    times.append(time.perf_counter() - start)
print(statistics.median(times[1:]))
""",
}


def seconds(work: str, policy: dict[str, str], side: int) -> float:
    """Median duration of some work in a process of its own."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    environment = {**inherited, **policy, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", WORK[work], str(side)],
        env=environment, cwd=HERE, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return round(float(done.stdout.split()[-1]), 3)


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Programs that keep `count` cores busy."""
    programs = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for program in programs:
        program.start()
    try:
        yield
    finally:
        for program in programs:
            program.kill()


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=2000, help="of the scene, pixels")
    side = parser.parse_args().side
    cores = os.cpu_count() or 1
    results = {}
    for name, count in (("idle", 0), ("one busy program", 1), (f"{cores} busy programs", cores)):
        with busy_programs(count):
            results[name] = {
                work: {threads: seconds(work, policy, side) for threads, policy in POLICIES.items()}
                for work in WORK
            }
        print(name, results[name], flush=True)
    path = HERE / "results_waiting_threads.json"
    path.write_text(json.dumps({"cores": cores, "side": side, "seconds": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
