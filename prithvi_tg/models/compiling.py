"""Parts of a model, compiled for the shapes that they are called with again and again."""

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

import torch
from torch import Tensor


def has_compiler() -> bool:
    """Whether the C++ compiler is installed that torch.compile needs, for a GPU too."""
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")) is not None


@cache
def _compiled(function: Callable[..., Any], options: frozenset[tuple[str, Any]]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False, **dict(options))


class CompiledCalls:
    """Calls of functions, compiled for shapes that do not change.

    The first batch of a shape is compiled, in training and in evaluation. A smaller batch of the same shape, the last
    of an epoch or of a map, runs without compilation: it is not worth another one, and costs no more than padding it
    to a full batch would, which training could not do because of batch norm. So do all further shapes after `limit`.

    It holds nothing that was compiled, so it can be copied and pickled with its model.

    Args:
        limit: Batches of different shape, precision or need of gradients that are compiled, for each function.
        **options: Further arguments of `torch.compile`.
    """

    def __init__(self, limit: int = 4, **options: Any) -> None:
        self.limit = limit
        self.options = frozenset(options.items())
        self._sizes: dict[str, dict[Hashable, set[int]]] = {}
        self._warned = False

    def __call__(
        self, function: Callable[..., Any], x: Tensor | list[Tensor], *args: Any, **kwargs: Any
    ) -> Any:
        """``function(x, *args, **kwargs)``, compiled if x has one of the shapes that are.

        Args:
            function: A function of a module, not a method or closure: compiled code is cached by function.
            x: A batch (B, ...), or several of the same B.
            *args: Further arguments.
            **kwargs: Further arguments.
        """
        first = x if isinstance(x, Tensor) else x[0]
        if torch.compiler.is_compiling() or not self._is_compiled(function, first):
            return function(x, *args, **kwargs)
        return _compiled(function, self.options)(x, *args, **kwargs)

    def _is_compiled(self, function: Callable[..., Any], x: Tensor) -> bool:
        device = x.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        shapes = self._sizes.setdefault(function.__qualname__, {})
        sizes = shapes.setdefault((x.shape[1:], x.device, precision, torch.is_grad_enabled()), set())
        if len(x) in sizes:
            return True
        if len(x) < max(sizes, default=0):
            return False
        if sum(map(len, shapes.values())) >= self.limit:
            if not self._warned:
                warnings.warn(
                    f"compile: batches of {self.limit} shapes are compiled; that of {tuple(x.shape)} and all further "
                    "ones run without compilation",
                    stacklevel=3,
                )
            self._warned = True
            return False
        sizes.add(len(x))
        return True
