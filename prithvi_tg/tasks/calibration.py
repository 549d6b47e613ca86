"""Calibration: one temperature for the logits of a model, fitted on a validation set (Guo et al. 2017)."""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from ..checkpoints import Checkpoint, save_tensors
from ..errors import CheckpointError, ConfigError, DataError, counted
from ..files import finished_file, writing
from ..targets import IGNORE_INDEX
from .calibration_metrics import CalibrationBins, expected_calibration_error

#: Key of a checkpoint that holds its calibration.
CALIBRATION = "calibration"
#: Lowest and highest temperature.
LIMITS = (1e-6, 100.0)
#: Temperatures outside these limits say more about the validation set or the training than about the confidence.
USUAL = (0.2, 5.0)
_HALVINGS = 60


@dataclass(frozen=True)
class Calibration:
    """The temperature of a model, and what it changed on the pixels that it was fitted on.

    Attributes:
        temperature: Divides logits before their softmax.
        pixels: Number of labelled pixels of the fit.
        nll_before: Mean negative log-likelihood of these pixels, without the temperature.
        nll_after: The same with the temperature.
        ece_before: Expected calibration error, without the temperature.
        ece_after: The same with the temperature.
    """

    temperature: float
    pixels: int = 0
    nll_before: float = math.nan
    nll_after: float = math.nan
    ece_before: float = math.nan
    ece_after: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """The attributes, for checkpoints that are read safely."""
        return asdict(self)


def read_calibration(checkpoint: Checkpoint) -> Calibration | None:
    """The calibration that a checkpoint records; ``None`` if it has none.

    Raises:
        CheckpointError: The record is not one of `Calibration`, or its temperature is not a positive number.
    """
    return parse_calibration(checkpoint.meta.get(CALIBRATION), checkpoint.path)


def parse_calibration(record: Any, path: Path) -> Calibration | None:
    """The calibration of a record of a file; ``None`` without a record. For errors see `read_calibration`."""
    if record is None:
        return None
    if isinstance(record, str):  # of a safetensors file
        try:
            record = json.loads(record)
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{path}: {CALIBRATION}: not JSON ({error})") from error
    known = {field.name for field in fields(Calibration)}
    if not isinstance(record, Mapping) or "temperature" not in record or not record.keys() <= known:
        raise CheckpointError(f"{path}: {CALIBRATION}: {record!r} is not a record of calibrate")
    temperature = record["temperature"]
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise CheckpointError(f"{path}: {CALIBRATION}: temperature {temperature!r} must be positive")
    return Calibration(**record)


class PixelSample:
    """A random sample of the labelled pixels of a set, drawn while the set is read: every pixel is equally likely.

    Args:
        limit: Largest number of pixels; of a smaller set, all are drawn.
        seed: Seed of the draw, which depends on the order of the chips and not on the batch size.

    Attributes:
        seen: Number of labelled pixels so far.
        logits: Logits (N, K) of the drawn pixels, float32 in main memory.
        labels: Their labels (N,).
    """

    def __init__(self, limit: int, seed: int = 0) -> None:
        self.limit = limit
        self.seen = 0
        self.logits = torch.zeros(0, 0)
        self.labels = torch.zeros(0, dtype=torch.int64)
        self._generator = torch.Generator().manual_seed(seed)
        self._keys = torch.zeros(0, dtype=torch.float64)  # the pixels with the lowest keys are drawn

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits (B, K, H, W) and labels (B, H, W)."""
        labels = labels.flatten()
        places = (labels != IGNORE_INDEX).nonzero().flatten()
        self.seen += len(places)
        keys = torch.rand(len(places), generator=self._generator, dtype=torch.float64)
        if len(self._keys) == self.limit:
            below = keys < self._keys.max()
            keys, places = keys[below], places[below.to(places.device)]
        drawn = logits.detach().float().movedim(1, -1).flatten(0, -2)[places].cpu()
        known = self.logits if len(self.logits) else drawn[:0]
        self.logits = torch.cat([known, drawn])
        self.labels = torch.cat([self.labels, labels[places].cpu()])
        self._keys = torch.cat([self._keys, keys])
        if len(self._keys) > self.limit:
            lowest = self._keys.topk(self.limit, largest=False, sorted=False).indices
            self.logits, self.labels, self._keys = (
                values[lowest] for values in (self.logits, self.labels, self._keys)
            )


def fit_calibration(logits: Tensor, labels: Tensor) -> Calibration:
    """Fit the temperature with the lowest mean negative log-likelihood; a warning names one outside `USUAL`.

    Args:
        logits: (N, K) float32.
        labels: (N,) classes.

    Raises:
        DataError: There are no pixels, or no temperature between the `LIMITS` has the lowest likelihood: all pixels
            are correct, or the model is no better than equal probabilities.
    """
    if not len(labels):
        raise DataError("labels: no pixel of the validation set is labelled, so no temperature can be fitted")
    true = logits.gather(1, labels[:, None])[:, 0].double().mean()

    def slope(temperature: float) -> float:
        """Derivative of the negative log-likelihood, which is convex, by the inverse of the temperature."""
        expected = ((logits / temperature).softmax(dim=1) * logits).sum(dim=1)
        return float(expected.double().mean() - true)

    low, high = LIMITS
    if bool((logits.argmax(dim=1) == labels).all()):
        raise DataError(
            f"labels: all {len(labels)} pixels of the validation set are predicted correctly, so no temperature is the "
            "best; use a validation set that the model has not learned"
        )
    if slope(low) <= 0 or slope(high) >= 0:
        raise DataError(
            "labels: the probabilities of the model are no better than uniform ones; train it first"
        )
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    temperature = math.sqrt(low * high)
    if not USUAL[0] <= temperature <= USUAL[1]:
        cause = (
            "almost always right, perhaps as they are few, easy or known from training; use more labels of other places"
            if temperature < USUAL[0]
            else "often wrong where it is sure; use more labels, or check whether model and data fit: prithvi-tg check"
        )
        warnings.warn(
            f"temperature: {temperature:.3g} is far from 1: on the {counted(len(labels), 'labelled pixel')} of the "
            f"validation set, the model is {cause}",
            stacklevel=2,
        )
    before, after = (_scores(logits, labels, one) for one in (1.0, temperature))
    return Calibration(temperature, len(labels), before[0], after[0], before[1], after[1])


def _scores(logits: Tensor, labels: Tensor, temperature: float) -> tuple[float, float]:
    """Mean negative log-likelihood and expected calibration error."""
    bins = CalibrationBins(temperature)
    bins.update(logits, labels)
    likelihood = F.cross_entropy(logits / temperature, labels, reduction="none").double().mean()
    return float(likelihood), float(expected_calibration_error(bins.compute()))


def calibrated_path(source: Path, output: Path | None, overwrite: bool) -> Path:
    """Path of the calibrated copy of a checkpoint: `output`, or ``NAME_calibrated`` beside the checkpoint.

    Raises:
        ConfigError: The file exists, is the checkpoint itself, or has another suffix.
    """
    path = source.with_stem(f"{source.stem}_calibrated") if output is None else output
    if path.suffix != source.suffix:
        raise ConfigError(f"output: {path} must end in {source.suffix}, as {source.name}")
    if path.exists() and (not overwrite or path.samefile(source)):
        raise ConfigError(
            f"output: {path} exists; add overwrite=True to replace it, or choose another output"
        )
    return path


def write_calibrated(source: Path, path: Path, calibration: Calibration) -> None:
    """Write a copy of a checkpoint of this package with a calibration; an earlier one is replaced.

    Raises:
        DataError: The file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with finished_file(path) as partial:
            if source.suffix == ".safetensors":
                with safe_open(source, framework="pt") as file:
                    tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
                    metadata = file.metadata() or {}
                save_tensors(tensors, partial, metadata | {CALIBRATION: json.dumps(calibration.to_dict())})
            else:
                content = torch.load(source, map_location="cpu", weights_only=True)
                torch.save({**content, CALIBRATION: calibration.to_dict()}, partial)
