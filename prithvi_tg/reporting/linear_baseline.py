"""A linear classifier of single pixels: a lower bound for models that use neighbourhoods."""

import torch
from torch import Tensor

from ..tasks.metrics import ConfusionMatrix


def linear_confusion(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], num_classes: int) -> Tensor:
    """Confusion matrix of a multinomial logistic regression on the values of single pixels.

    Fitted by L-BFGS on standardised values, with a little weight decay so that it converges.

    Args:
        train: Values (N, C) and classes (N,) of labelled pixels.
        test: The same of other pixels.
        num_classes: Number of classes.

    Returns:
        (K, K) counts, rows are labels, columns are predictions.
    """
    x, y = train
    mean, std = x.mean(0), x.std(0)
    weight = torch.zeros(x.shape[1] + 1, num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=500, line_search_fn="strong_wolfe")

    def logits(values: Tensor) -> Tensor:
        return (values - mean) / std @ weight[1:] + weight[0]

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(logits(x), y) + 1e-4 * weight[1:].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    matrix = ConfusionMatrix(num_classes)
    matrix.update(logits(test[0]).argmax(1), test[1])
    counts: Tensor = matrix.compute()
    return counts
