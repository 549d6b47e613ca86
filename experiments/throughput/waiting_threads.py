"""Seconds of a map while threads of PyTorch spin or sleep as they wait, on an idle machine and beside busy programs.

    python experiments/throughput/waiting_threads.py [--side PIXELS]

Maps a synthetic scene with `nano` and the linear decoder at stride 224 on the CPU, once to warm up and then three
times, in a process of its own for each policy. The busy programs are loops that compute nothing, one for each core.
Prints medians, and writes results_waiting_threads.json.
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
POLICIES = {"spin": "ACTIVE", "sleep": "PASSIVE"}
MEASURE = """
import sys, end_to_end
from pathlib import Path
side = int(sys.argv[1])
scene = end_to_end.WORK / f"tile_{side}.tif"
end_to_end.WORK.mkdir(exist_ok=True)
if not scene.exists():
    end_to_end.write_scene(scene, side)
print(end_to_end.measure(end_to_end.Case("nano", "linear", 224), scene, side, 3)["seconds"])
"""


def seconds(policy: str, side: int) -> float:
    """Median duration of a map in a process of its own."""
    environment = {**os.environ, "OMP_WAIT_POLICY": policy, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(side)],
        env=environment, cwd=HERE, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


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
            results[name] = {threads: seconds(policy, side) for threads, policy in POLICIES.items()}
        print(name, results[name], flush=True)
    path = HERE / "results_waiting_threads.json"
    path.write_text(json.dumps({"cores": cores, "side": side, "seconds": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
