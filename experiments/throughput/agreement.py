"""Whether bfloat16 maps are float32 maps: the real flood chips, with a model that was trained on one of them.

    python experiments/real_floods/run.py        # trains the model
    python experiments/throughput/agreement.py

Run from the top of the repository, with PRITHVI_TG_REAL_DATA set to a folder with ``sen1floods11/v1.1``.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from prithvi_tg import Sen1Floods11, map_scene

HERE = Path(__file__).parent
CHECKPOINT = HERE.parent / "real_floods" / "output" / "version_0" / "checkpoints" / "last.ckpt"


def water_iou(classes: NDArray[np.integer], label: NDArray[np.integer]) -> float:
    """Intersection over union of water on labelled pixels that were mapped."""
    known = (label >= 0) & (classes != 255)
    hit = (classes == 1) & (label == 1) & known
    either = ((classes == 1) | (label == 1)) & known
    return float(hit.sum() / either.sum())


def main() -> None:
    """Map each chip in both precisions, compare, print and keep."""
    folder = Path(os.environ["PRITHVI_TG_REAL_DATA"]) / "sen1floods11" / Sen1Floods11.folder
    results = {}
    for scene in sorted((folder / "S2Hand").glob("*_S2Hand.tif")):
        maps = {}
        with tempfile.TemporaryDirectory() as output:
            for precision in ("32-true", "bf16-mixed"):
                path = map_scene(CHECKPOINT, scene, Path(output) / f"{precision}.tif", precision=precision)
                with rasterio.open(path) as file:
                    maps[precision] = file.read(1)
        name = scene.name.removesuffix("_S2Hand.tif")
        with rasterio.open(folder / "LabelHand" / f"{name}_LabelHand.tif") as file:
            label = file.read(1)
        exact, near = maps["32-true"], maps["bf16-mixed"]
        mapped = exact != 255
        results[name] = {
            "pixels that agree, %": round(100 * float((exact == near)[mapped].mean()), 3),
            "IoU of water, float32, %": round(100 * water_iou(exact, label), 3),
            "IoU of water, bfloat16, %": round(100 * water_iou(near, label), 3),
        }
    print(json.dumps(results, indent=1))
    (HERE / "results_agreement.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
