"""Seconds per window of TerraTorch's models, printed as JSON; run by run.py in TerraTorch's own environment."""

import json
import statistics
import sys
import time
from importlib.metadata import version

import torch
from terratorch.models import EncoderDecoderFactory

WINDOWS, REPEATS = 4, int(sys.argv[1])
DECODERS = {
    "unet": {"decoder": "UNetDecoder", "decoder_channels": [256, 128, 64, 32]},
    "upernet": {"decoder": "UperNetDecoder", "decoder_channels": 256},
}
NECKS = [
    {"name": "SelectIndices", "indices": [2, 5, 8, 11]},
    {"name": "ReshapeTokensToImage"},
    {"name": "LearnedInterpolateToPyramidal"},
]


def main() -> None:
    """Time each decoder in float32 (with the precision that TerraTorch sets) and in bfloat16 autocast."""
    torch.set_num_threads(int(sys.argv[2]))
    images = torch.randn(WINDOWS, 6, 224, 224)
    models = {
        name: EncoderDecoderFactory()
        .build_model(
            task="segmentation", backbone="prithvi_eo_v1_100", backbone_pretrained=False, backbone_num_frames=1,
            backbone_bands=["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"], necks=NECKS,
            num_classes=2, **options,
        )
        .eval()
        for name, options in DECODERS.items()
    }  # fmt: skip
    seconds: dict[str, list[float]] = {}
    with torch.inference_mode():
        for repeat in range(REPEATS + 1):
            for name, model in models.items():
                for mixed in (False, True):
                    began = time.perf_counter()
                    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                        model(images)
                    if repeat:
                        key = f"{name}, {'bfloat16' if mixed else 'default'}"
                        seconds.setdefault(key, []).append((time.perf_counter() - began) / WINDOWS)
    print(
        json.dumps(
            {
                "terratorch": version("terratorch"),
                "torch": torch.__version__,
                "float32 matmul precision that importing it sets": torch.get_float32_matmul_precision(),
                "seconds per window": {key: round(statistics.median(s), 4) for key, s in seconds.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
