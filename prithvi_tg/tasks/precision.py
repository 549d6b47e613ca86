"""Precision of a run: a check for precisions that round the data, and one setting for TF32."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from ..errors import ConfigError


def check_precision(precision: str) -> None:
    """Check that a trainer's precision does not round the data.

    With ``bf16-true`` and ``16-true``, Lightning converts the whole batch: raw images, years and places.

    Raises:
        ConfigError: The precision rounds the data.
    """
    half = precision.endswith("-true") and precision not in ("32-true", "64-true")
    if half or precision.startswith("transformer-engine"):
        raise ConfigError(
            f"precision: {precision!r} would round raw images, years and places before they are used (2018 "
            "becomes 2016); choose bf16-mixed, 16-mixed or 32-true"
        )


@contextmanager
def float32_precision(tf32: bool) -> Iterator[None]:
    """A context that computes in float32, or in TF32 if `tf32` is set, and then restores the settings of torch.

    TF32 has 10 of the 23 bits of the mantissa of float32. By default torch uses it in the convolutions of cuDNN, and
    not in matrix products. Without CUDA the context has no effect.

    Args:
        tf32: Use TF32 in matrix products and convolutions.
    """
    if not _has_cuda():
        yield
        return
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul)
    before = matmul, convolution, _, on_cpu = [backend.fp32_precision for backend in backends]
    _set_both(backends[:3], "high" if tf32 else "highest", tf32, ["tf32" if tf32 else "ieee"] * 3)
    try:
        yield
    finally:
        name = "medium" if on_cpu == "bf16" else "high" if matmul == "tf32" else "highest"
        _set_both(backends, name, convolution == "tf32", before)


def _set_both(backends: Sequence[Any], matmul: str, convolution: bool, values: Sequence[str]) -> None:
    """Set precisions with both APIs of torch: if only one is used, reading from the other can raise an error."""
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = convolution
    for backend, value in zip(backends, values, strict=True):
        backend.fp32_precision = value


def described_precision(precision: str, tf32: bool) -> dict[str, str]:
    """Description of the precision of a run, for tags and records.

    Args:
        precision: Precision of the trainer.
        tf32: Whether TF32 was requested.
    """
    matmul = ("high" if tf32 else "highest") if _has_cuda() else torch.get_float32_matmul_precision()
    return {
        "precision": precision,
        "float32_matmul_precision": matmul,
        "tf32": "on" if tf32 and _has_cuda() else "off",
    }


def uses_tf32() -> bool:
    """Whether matrix products and convolutions currently use TF32."""
    cudnn: Any = torch.backends.cudnn
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv)
    return _has_cuda() and all(backend.fp32_precision == "tf32" for backend in backends)


def _has_cuda() -> bool:
    return torch.cuda.is_available()


class Float32Precision(Callback):
    """Sets the precision of float32 operations in a trainer's run: float32 or TF32, see `float32_precision`.

    A `PrithviTask` adds this callback to a trainer that has none.

    Args:
        tf32: Use TF32 in matrix products and convolutions.
    """

    def __init__(self, tf32: bool = False) -> None:
        self.tf32 = tf32
        self._running: AbstractContextManager[None] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the precision."""
        self._end()
        if not self.tf32 and _has_cuda() and torch.backends.cuda.matmul.fp32_precision == "tf32":
            rank_zero_warn(
                "tf32: off in this run, although torch.set_float32_matmul_precision allows it; turn it on with "
                "--tf32 true, or callbacks=[Float32Precision(tf32=True)]"
            )
        self._running = float32_precision(self.tf32)
        self._running.__enter__()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the settings of torch."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the settings of torch."""
        self._end()

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.__exit__(None, None, None)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_running": None}  # a spawned process sets its precision in `setup`
