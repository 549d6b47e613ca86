"""``prithvi-tg embed``: write the features of an encoder for a scene as a raster with a band per feature."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..cli.accelerators import check_accelerator
from ..cli.table import COMMANDS
from ..errors import ConfigError
from ..mapping import embed_scene, published_encoder
from ..mapping.embedding import Source, check_raster, task_encoder
from ..readers.aoi import AreaOfInterest

#: Options that choose the encoder; all others are arguments of `embed_scene`.
_SOURCE = ("ckpt_path", "encoder", "weights", "num_frames", "window", "stride")


def run(arguments: list[str]) -> int:
    """Parse the arguments and write the raster."""
    options = vars(COMMANDS["embed"].parser().parse_args(arguments))
    if options["aoi"] is not None:
        options["aoi"] = AreaOfInterest.of(options["aoi"])
    check_raster(Path(options["output"]))
    kind, _, index = (options["device"] or "auto").partition(":")
    devices = [index] if index and kind != "cpu" else "auto"
    check_accelerator(kind, devices, key="device", devices_key="device")
    source = _source(*(options.pop(key) for key in _SOURCE))
    for key in ("bands", "nodata", "quality", "dates", "qa_mask"):
        options[key] = tuple(options[key])
    given = options["device"]
    if given in (None, "auto"):
        options["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    elif given == "gpu":
        options["device"] = "cuda"
    with _sigterm_interrupts():
        embed_scene(source, options.pop("scene"), options.pop("output"), **options)
    return 0


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM, as schedulers of clusters send it, like Ctrl-C."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _source(
    ckpt_path: str | None,
    encoder: str | None,
    weights: str | None,
    num_frames: int,
    window: int | None,
    stride: int | None,
) -> Source:
    if (ckpt_path is None) == (encoder is None):
        raise ConfigError(
            "ckpt_path, encoder: give one of them: a checkpoint, or the name of a published encoder"
        )
    if encoder is not None:
        return published_encoder(encoder, weights, num_frames, window, stride)
    if weights is not None:
        raise ConfigError("weights: valid only with --encoder; a checkpoint contains its own weights")
    assert ckpt_path is not None
    return task_encoder(ckpt_path, window, stride)
