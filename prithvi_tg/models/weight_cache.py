"""WeightCache: fused or converted weights, cached while the parameters do not change."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..compat import is_compiled, version_of

_active = local()


class WeightCache:
    """Cache of values that are computed from parameters.

    Calls within `cached_weights` use the cache. It detects ordinary changes of a parameter by the storage and version
    of the tensor. Some writes bypass torch's version counters (``parameter.data.mul_``, fused optimisers), so nothing
    is cached outside `cached_weights`.
    """

    def __init__(self) -> None:
        self._states: dict[Hashable, list[tuple[Any, ...]]] = {}
        self._sources: dict[Hashable, list[Tensor]] = {}
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable, tensors: Iterable[Tensor], compute: Callable[[], Any]) -> Any:
        """Return the result of `compute` for these tensors, from the cache if possible, without gradients.

        Args:
            key: Identifies the computation and its module.
            tensors: All inputs of the computation.
            compute: Called if the cache has no value for these tensors.
        """
        tensors = list(tensors)
        with torch.inference_mode(False), torch.no_grad():
            if any(tensor.is_inference() for tensor in tensors):  # inference tensors have no version
                return compute()
            state = [
                (tensor.data_ptr(), version_of(tensor), tensor.dtype, tensor.device) for tensor in tensors
            ]
            if self._states.get(key) != state:
                self._values[key] = compute()
                self._states[key] = state
                # While these references exist, no other tensor can have the same address.
                self._sources[key] = [tensor.detach() for tensor in tensors]
            return self._values[key]


@contextmanager
def cached_weights(cache: WeightCache | None = None) -> Iterator[WeightCache]:
    """A context that caches derived weights in this thread. Parameters must not change inside it.

    Args:
        cache: A cache that several contexts share; by default that of the enclosing context, or else a new one.
    """
    enclosing = active_cache()
    _active.cache = cache or enclosing or WeightCache()
    try:
        yield _active.cache
    finally:
        _active.cache = enclosing


def active_cache() -> WeightCache | None:
    """The cache of the innermost enclosing `cached_weights`, if any."""
    return None if torch.compiler.is_compiling() else getattr(_active, "cache", None)


def can_run_converted(module: nn.Module, device: str) -> bool:
    """Whether `converted_weights` can replace those of a module: under autocast, in evaluation, without gradients."""
    return (
        torch.is_autocast_enabled(device)
        and not torch.is_grad_enabled()
        and not module.training
        and not is_compiled(module)
    )


def converted_weights(cache: WeightCache, module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Matrices and kernels of a module in a low precision, from the cache, for `call_method`.

    Autocast converts all weights in every call, which takes much time. The results are equal.
    """
    weights = {
        f"module.{name}.weight": part.weight
        for name, part in module.named_modules()
        # Not subclasses: they may compute their weights, as weight standardisation does in float32.
        if type(part) in (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    }
    converted: dict[str, Tensor] = cache.get(
        (module, dtype),
        weights.values(),
        lambda: {name: weight.to(dtype) for name, weight in weights.items()},
    )
    return converted


class Method(nn.Module):
    """A module that calls a method of another module, for `call_method`."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return getattr(self.module, self.name)(*args, **kwargs)


def call_method(x: Any, method: Method, weights: dict[str, Tensor] | None, *args: Any, **kwargs: Any) -> Any:
    """Return ``method(x, *args, **kwargs)``; `weights` from `converted_weights` replace those of the module."""
    if weights is None:
        return method(x, *args, **kwargs)
    return functional_call(method, weights, (x, *args), kwargs)
