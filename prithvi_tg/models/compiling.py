"""CompiledCalls: compilation of parts of a model for shapes that recur."""

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
    """Whether a C++ compiler is installed; torch.compile needs one on every device."""
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")) is not None


@cache
def _compiled(function: Callable[..., Any], options: frozenset[tuple[str, Any]]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False, **dict(options))


class CompiledCalls:
    """Calls functions, and compiles them for shapes that recur.

    A function is compiled for the first batch of a shape, in training and in evaluation. A smaller batch of the same
    shape, such as the last one of an epoch or a map, runs without compilation: compiling again would take longer, and
    padding to a full batch would change batch norm in training. After `limit` compilations, further shapes also run
    without compilation.

    An instance holds no compiled code, so it can be copied and pickled with its model.

    Args:
        limit: Highest number of compilations per function, for batches of different shape, precision or gradient mode.
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
        """Return ``function(x, *args, **kwargs)``, compiled for the shape of x or not.

        Args:
            function: A function of a module, not a method or closure, as compiled code is cached by function.
            x: A batch (B, ...), or several with the same B.
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
