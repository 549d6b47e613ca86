"""Compare the speed of mapping of two checkouts, in turns.

    python experiments/mapping/compare.py OLD NEW [--cases linear:average:224 ...] [--turns 3]

Each turn starts a process in each checkout, which maps the smallest scene of run.py twice per case; the first map warms
up. Prints medians of seconds and of CPU seconds, and their ratios; above 1, NEW is faster.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

#: Runs in a checkout, with that checkout's own run.py.
PROGRAM = """
import json, logging, sys, time
sys.path.insert(0, "experiments/mapping")
import run
from pathlib import Path
logging.disable(logging.CRITICAL)
run.WORK = Path(sys.argv[1])
scene = run.WORK / "scene_2000_2000.tif"
if not scene.exists():
    run.write_scene(scene, 2000, 2000)
times = {}
for case in sys.argv[2:] * 2:
    decoder, blending, stride = case.split(":")
    began = time.process_time()
    seconds = run.where_the_time_goes(scene, decoder, blending, int(stride))["seconds"]
    times[case] = (seconds, time.process_time() - began)
print("RESULT", json.dumps(times))
"""


def measure(checkout: Path, work: Path, cases: list[str]) -> dict[str, tuple[float, float]]:
    """Seconds and CPU seconds of each case in one process."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(work), *cases]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    line = next((one for one in done.stdout.splitlines() if one.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    found: dict[str, tuple[float, float]] = json.loads(line.removeprefix("RESULT "))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    cases = [
        f"{decoder}:average:{stride}"
        for decoder in ("linear", "fpn", "conv_transpose")
        for stride in (224, 112)
    ]
    parser.add_argument("--cases", nargs="+", default=cases, help="decoder:blending:stride")
    parser.add_argument("--turns", type=int, default=3)
    settings = parser.parse_args()
    work = Path(__file__).parent / "output"
    work.mkdir(exist_ok=True)
    checkouts = [settings.old.resolve(), settings.new.resolve()]
    times: dict[tuple[Path, str], list[tuple[float, float]]] = {}
    for turn in range(settings.turns):
        for checkout in checkouts[:: 1 if turn % 2 == 0 else -1]:
            for case, measured in measure(checkout, work.resolve(), settings.cases).items():
                times.setdefault((checkout, case), []).append(measured)
    for case in settings.cases:
        for position, unit in enumerate(("seconds", "CPU seconds")):
            old, new = (
                statistics.median(one[position] for one in times[checkout, case]) for checkout in checkouts
            )
            print(f"{case}: {old:.2f} and {new:.2f} {unit}, ratio {old / new:.2f}", flush=True)


if __name__ == "__main__":
    main()
