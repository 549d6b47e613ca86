"""How many windows a second the model alone takes, eager and compiled, in float32 and bfloat16.

    python experiments/throughput/model_alone.py RESULT.json [--encoder NAME] [--decoders NAME ...] [--batch N]

CUDA is used if available and timed with its events. The calls of all kinds alternate; medians are written.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.models import cached_weights

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: Name: compiled, bfloat16.
KINDS = {
    "float32": (False, False),
    "float32, compiled": (True, False),
    "bfloat16": (False, True),
    "bfloat16, compiled": (True, True),
}


def seconds(function: Callable[[], Any]) -> float:
    """Of one call: on CUDA between two events, so that the time of the host to start it does not count twice."""
    if DEVICE == "cpu":
        began = time.perf_counter()
        function()
        return time.perf_counter() - began
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def windows_per_second(
    encoder: str, decoder: str, batch: int, window: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Windows a second of each of `KINDS` in evaluation, seconds of its first call, and its largest difference.

    Differences are those to the logits of the first kind, relative to the largest of these.
    """
    torch.manual_seed(0)
    model = PrithviSegmentationTask(encoder=encoder, decoder=decoder, num_classes=2).model.to(DEVICE).eval()
    images = torch.randn(batch, 1, 6, window, window, device=DEVICE)
    functions: dict[str, Callable[[], Tensor]] = {}
    results: dict[str, dict[str, float]] = {}
    with torch.inference_mode(), cached_weights():
        for name, (compiled, low) in KINDS.items():
            one = PrithviSegmentationTask(encoder=encoder, decoder=decoder, num_classes=2).model
            one.load_state_dict(model.state_dict())
            one = one.to(DEVICE).eval()
            if compiled:
                one.compile()

            def run(one: Any = one, low: bool = low) -> Tensor:
                with torch.autocast(DEVICE, torch.bfloat16, enabled=low):
                    logits: Tensor = one(images)
                return logits

            functions[name] = run
        exact = model(images)
        for name, function in functions.items():
            first = seconds(function)
            difference = float((function().float() - exact).abs().max() / exact.abs().max())
            results[name] = {"first call, seconds": round(first, 2), "difference": difference}
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(repeats):
            for name, function in functions.items():
                times[name].append(seconds(function))
    for name, values in times.items():
        results[name]["windows/s"] = round(batch / statistics.median(values), 2)
    return results


def measure(
    encoder: str, decoders: Sequence[str], batch: int, window: int = 224, repeats: int = 10
) -> dict[str, Any]:
    """`windows_per_second` of each decoder, with the machine and the settings."""
    return {
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else platform.processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "encoder": encoder,
        "batch": batch,
        "window": window,
        "decoders": {name: windows_per_second(encoder, name, batch, window, repeats) for name in decoders},
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path, help="the JSON file to write")
    parser.add_argument("--encoder", default="prithvi_eo_v1_100m")
    parser.add_argument("--decoders", nargs="+", default=["conv_transpose", "linear", "unet", "upernet"])
    parser.add_argument("--batch", type=int, default=64 if DEVICE == "cuda" else 4)
    parser.add_argument("--window", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=10)
    settings = vars(parser.parse_args())
    result = settings.pop("result")
    measured = measure(**settings)
    text = json.dumps(measured, indent=1)
    print(text)
    result.write_text(text + "\n")


if __name__ == "__main__":
    main()
