"""Models without a neighbourhood: linear models and random forests of single pixels.

For classes of chips, their features are mean and standard deviation of each band over the chip.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmark_tasks import Task
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch import Tensor

from prithvi_tg.datamodules import ChipDataModule
from prithvi_tg.reporting.linear_baseline import fit_classes, fit_values
from prithvi_tg.spec import DataSpec
from prithvi_tg.tasks.chip_metrics import chip_metrics, chip_scores
from prithvi_tg.tasks.metrics import ConfusionMatrix, segmentation_scores
from prithvi_tg.tasks.value_metrics import ValueErrors, value_scores

#: Most training pixels, drawn at random.
MOST_PIXELS = 20_000

#: Predicts classes or values (N, V) of features (N, C).
Predictor = Callable[[Tensor], Tensor]


def fit_linear(x: Tensor, y: Tensor, spec: DataSpec, seed: int) -> Predictor:
    """Logistic regression for classes, least squares for values."""
    if spec.target.kind == "values":
        return fit_values(x, y)
    model = fit_classes(x, y[:, 0].long(), len(spec.target.names))
    return lambda features: model(features).argmax(dim=1, keepdim=True)


def fit_forest(x: Tensor, y: Tensor, spec: DataSpec, seed: int) -> Predictor:
    """A random forest of 100 trees."""
    kind = RandomForestRegressor if spec.target.kind == "values" else RandomForestClassifier
    forest: Any = kind(100, min_samples_leaf=3 if len(x) > 5000 else 1, random_state=seed, n_jobs=1)
    forest.fit(x.numpy(), y[:, 0].numpy())
    return lambda features: torch.from_numpy(forest.predict(features.numpy())).reshape(-1, 1)


PIXEL_MODELS: dict[str, Callable[[Tensor, Tensor, DataSpec, int], Predictor]] = {
    "linear": fit_linear,
    "random forest": fit_forest,
}


def fit_and_test(fit: Any, task: Task, data: ChipDataModule, seed: int) -> dict[str, Any]:
    """Fit a model to the training chips, and score it on each test set.

    Args:
        fit: A value of `PIXEL_MODELS`.
        task: The task.
        data: Data module with the training chips of the run and all test sets.
        seed: Seed of the draw of pixels and of the model.

    Returns:
        ``scores`` by test set, and ``seconds`` of fitting.
    """
    parts = list(_samples(data, "train"))
    x, y = (torch.cat(part) for part in zip(*parts, strict=True))
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:MOST_PIXELS]
    start = time.perf_counter()
    predict = fit(x[chosen], y[chosen], data.spec, seed)
    seconds = time.perf_counter() - start
    scores = {}
    for shift in task.shifts:
        x, y = (torch.cat(part) for part in zip(*_samples(data, shift), strict=True))
        scores[shift] = _score(task, data.spec, predict(x), y)
    return {"scores": scores, "seconds": round(seconds, 1)}


def _samples(data: ChipDataModule, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (N, C) and labels (N, 1) of each chip, of pixels with labels and data."""
    target = data.spec.target
    chips = data.open_split(split)
    for number in range(len(chips)):
        sample = chips[number]
        valid = sample["valid"].flatten(0, 1).flatten(1).all(dim=0)
        pixels = sample["image"].flatten(0, 1).flatten(1).T
        if target.kind == "chip_classes":
            known = pixels[valid]
            yield torch.cat([known.mean(dim=0), known.std(dim=0)])[None], sample["label"].reshape(1, 1)
        else:
            labels = sample["mask"].reshape(-1, 1)
            labelled = valid & target.is_labelled(labels)[:, 0]
            yield pixels[labelled], labels[labelled]


def _score(task: Task, spec: DataSpec, predicted: Tensor, labels: Tensor) -> float:
    """The score of the task, computed as its class in prithvi_tg does."""
    names = spec.target.names
    if spec.target.kind == "values":
        errors = ValueErrors(spec.target)
        errors.update(predicted.T[None, ..., None], labels.T[None, ..., None])
        return float(value_scores(errors.compute())[task.score])
    if spec.target.kind == "classes":
        matrix = ConfusionMatrix(len(names))
        matrix.update(predicted[:, 0], labels[:, 0])
        return float(segmentation_scores(matrix.compute())[task.score])
    metrics = chip_metrics(len(names), False)
    for metric in metrics.values():
        metric.update(torch.nn.functional.one_hot(predicted[:, 0], len(names)).float(), labels[:, 0])
    computed = {name: metric.compute() for name, metric in metrics.items()}
    return float(chip_scores(*computed.values())[task.score])
