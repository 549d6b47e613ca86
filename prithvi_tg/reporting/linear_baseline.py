"""Linear models of single pixels: a baseline for models that use neighbourhoods."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import DataError
from ..spec import DataSpec
from ..targets import Target, ValueTarget
from ..tasks.metrics import ConfusionMatrix, segmentation_scores
from ..tasks.value_metrics import ValueErrors
from .tables import plain_scores
from .values import plain_value_scores

#: Number of training pixels, drawn evenly from all chips or windows.
MOST_PIXELS = 200_000


@dataclass(frozen=True)
class LinearModel:
    """A linear model on standardised features.

    Attributes:
        mean: Mean of each feature (C,).
        std: Standard deviation of each feature (C,).
        weight: Intercepts and weights (1 + C, K).
    """

    mean: Tensor
    std: Tensor
    weight: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits or values (N, K) of pixels (N, C)."""
        return (pixels - self.mean) / self.std @ self.weight[1:] + self.weight[0]


def fit_classes(pixels: Tensor, classes: Tensor, num_classes: int) -> LinearModel:
    """Fit a multinomial logistic regression by L-BFGS, with a little weight decay so that it converges.

    Args:
        pixels: Features (N, C).
        classes: Class of each pixel (N,).
        num_classes: Number of classes.
    """
    weight = torch.zeros(pixels.shape[1] + 1, num_classes, requires_grad=True)
    model = LinearModel(pixels.mean(0), pixels.std(0).clamp(min=1e-9), weight)
    optimizer = torch.optim.LBFGS([weight], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(model(pixels), classes) + 1e-4 * weight[1:].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return LinearModel(model.mean, model.std, weight.detach())


def fit_values(pixels: Tensor, values: Tensor) -> LinearModel:
    """Fit a linear regression of each value by least squares, with a little ridge penalty.

    Args:
        pixels: Features (N, C).
        values: Values (N, V), NaN where a pixel has no label; each value needs a label.
    """
    mean, std = pixels.mean(0), pixels.std(0).clamp(min=1e-9)
    features = torch.cat([torch.ones(len(pixels), 1), (pixels - mean) / std], dim=1).double()
    columns = []
    for value in values.double().T:
        known = ~value.isnan()
        x, y = features[known], value[known]
        ridge = 1e-6 * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        columns.append(torch.linalg.solve(x.T @ x + ridge, x.T @ y))
    return LinearModel(mean, std, torch.stack(columns, dim=1).float())


def linear_confusion(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], num_classes: int) -> Tensor:
    """Confusion matrix of a multinomial logistic regression on the values of single pixels.

    Args:
        train: Values (N, C) and classes (N,) of labelled pixels.
        test: The same of other pixels.
        num_classes: Number of classes.

    Returns:
        (K, K) counts, rows are labels, columns are predictions.
    """
    matrix = ConfusionMatrix(num_classes)
    matrix.update(fit_classes(*train, num_classes)(test[0]).argmax(1), test[1])
    counts: Tensor = matrix.compute()
    return counts


class Baseline(Protocol):
    """A model of single pixels and its scores, for one kind of target."""

    method: str

    def fit(self, pixels: Tensor, labels: Tensor) -> None:
        """Fit the model to pixels (N, C) with labels (N, V)."""

    def update(self, pixels: Tensor, labels: Tensor) -> None:
        """Score the pixels of a chip (N, C) with labels (N, V)."""

    def scores(self) -> dict[str, Any]:
        """Scores in the form of ``metrics.json``."""

    def rows(self, metrics: Mapping[str, Any]) -> list[tuple[str, float | None]]:
        """Names and values of the scores to compare, of a content of ``metrics.json``."""


class ClassBaseline:
    """Logistic regression for classes of pixels."""

    method = "logistic regression"

    def __init__(self, target: Target) -> None:
        self.names = target.names
        self.confusion = ConfusionMatrix(len(self.names))

    def fit(self, pixels: Tensor, labels: Tensor) -> None:
        """Fit the model to pixels (N, C) with classes (N, 1)."""
        self.model = fit_classes(pixels, labels[:, 0], len(self.names))

    def update(self, pixels: Tensor, labels: Tensor) -> None:
        """Score the pixels of a chip (N, C) with classes (N, 1)."""
        self.confusion.update(self.model(pixels).argmax(1), labels[:, 0])

    def scores(self) -> dict[str, Any]:
        """``overall`` and ``per_class`` scores."""
        counts: Tensor = self.confusion.compute()
        return plain_scores(segmentation_scores(counts), counts, self.names)

    def rows(self, metrics: Mapping[str, Any]) -> list[tuple[str, float | None]]:
        """IoU of each class, mIoU and overall accuracy."""
        each = [(f"{name} IoU", metrics["per_class"][name]["IoU"]) for name in self.names]
        return each + [(name, metrics["overall"][name]) for name in ("mIoU", "aAcc")]


class ValueBaseline:
    """Linear regression for values of pixels."""

    method = "linear regression"

    def __init__(self, target: ValueTarget) -> None:
        self.target = target
        self.errors = ValueErrors(target)

    def fit(self, pixels: Tensor, labels: Tensor) -> None:
        """Fit the model to pixels (N, C) with values (N, V)."""
        self.model = fit_values(pixels, labels)

    def update(self, pixels: Tensor, labels: Tensor) -> None:
        """Score the pixels of a chip (N, C) with values (N, V)."""
        self.errors.update(*(values.T[None, :, :, None] for values in (self.model(pixels), labels)))

    def scores(self) -> dict[str, Any]:
        """``per_value`` scores, in the unit of the values."""
        return plain_value_scores({}, self.errors.compute(), self.target)

    def rows(self, metrics: Mapping[str, Any]) -> list[tuple[str, float | None]]:
        """RMSE and MAE of each value in its unit, and R2."""
        each = metrics["per_value"]
        return [
            (f"{name} {key}{f' ({unit})' if unit and key != 'R2' else ''}", each[name][key])
            for name, unit in zip(self.target.names, self.target.units, strict=True)
            for key in ("RMSE", "MAE", "R2")
        ]


#: Kind of target -> baseline.
BASELINES: dict[str, Any] = {"classes": ClassBaseline, "values": ValueBaseline}


@dataclass(frozen=True)
class BaselineResult:
    """Scores of a baseline.

    Attributes:
        method: Name of the model.
        pixels: Number of pixels that it was fitted to.
        features: Number of values of a pixel: bands times frames.
        rows: Name, score of the run and score of the baseline.
        labelled: Number of scored pixels of each class or value.
    """

    method: str
    pixels: int
    features: int
    rows: list[tuple[str, float | None, float | None]]
    labelled: dict[str, int]


def linear_baseline(
    train: Iterable[dict[str, Any]],
    chips: int,
    scored: Iterable[dict[str, Any]],
    spec: DataSpec,
    metrics: Mapping[str, Any],
    seed: int = 0,
) -> BaselineResult:
    """Fit a linear model to pixels of the training split, and score it on the pixels of another.

    Args:
        train: Samples with ``image`` (T, C, H, W), ``valid`` of the same shape and ``mask`` (H, W) or (V, H, W).
        chips: Number of samples of `train`, from which pixels are drawn evenly.
        scored: Samples of the split that the run scored.
        spec: Description of the data.
        metrics: Content of ``metrics.json`` of the run.
        seed: Seed of the draws.

    Raises:
        DataError: No pixel of the training split is labelled.
    """
    baseline: Baseline = BASELINES[spec.target.kind](spec.target)
    generator = torch.Generator().manual_seed(seed)
    most = -(-MOST_PIXELS // max(1, chips))
    drawn = []
    for sample in train:
        pixels, labels = _pixels(sample)
        known = sample["valid"].flatten(0, 1).flatten(1).all(0) & spec.target.is_labelled(labels).all(1)
        places = known.nonzero()[:, 0]
        places = places[torch.randperm(len(places), generator=generator)[:most]]
        drawn.append((pixels[places], labels[places]))
    pixels, labels = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    if not len(pixels):
        raise DataError("baseline: no pixel of the training split has labels and data in all bands")
    baseline.fit(pixels, labels)
    for sample in scored:
        baseline.update(*_pixels(sample))
    scores = baseline.scores()
    rows = [
        (name, ours, theirs)
        for (name, ours), (_, theirs) in zip(baseline.rows(metrics), baseline.rows(scores), strict=True)
    ]
    each = scores.get("per_class") or scores["per_value"]
    labelled = {name: one["labelled_pixels"] for name, one in each.items()}
    return BaselineResult(baseline.method, len(pixels), pixels.shape[1], rows, labelled)


def _pixels(sample: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Features (H * W, T * C) and labels (H * W, V)."""
    mask: Tensor = sample["mask"]
    return sample["image"].flatten(0, 1).flatten(1).T, mask.reshape(-1, mask.shape[-2] * mask.shape[-1]).T
