"""Weights in another form (fused, or in a low precision), cached where weights are known not to change."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..compat import is_compiled, version_of

_here = local()


class WeightCache:
    """Values computed from parameters, for a run in which the parameters do not change.

    Calls within `cached_weights` use it. A change by an ordinary operation is detected by the storage and version of
    a tensor. Some writes bypass torch's version counters (``parameter.data.mul_``, fused optimisers), so nothing is
    cached outside of `cached_weights`.
    """

    def __init__(self) -> None:
        self._states: dict[Hashable, list[tuple[Any, ...]]] = {}
        self._sources: dict[Hashable, list[Tensor]] = {}
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable, tensors: Iterable[Tensor], compute: Callable[[], Any]) -> Any:
        """The cached result of `compute` for these tensors, as ordinary tensors without gradients.

        Args:
            key: Name of the computation and of its module.
            tensors: All inputs of the computation.
            compute: Called if the cache has no value for these tensors.
        """
        tensors = list(tensors)
        with torch.inference_mode(False), torch.no_grad():
            if any(tensor.is_inference() for tensor in tensors):  # these have no version
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
    """Cache derived weights in the calls of this thread within a ``with``, in which no weight may change.

    Args:
        cache: One that several such blocks share; by default that of the enclosing block, or a new one for this block.
    """
    around = active_cache()
    _here.cache = cache or around or WeightCache()
    try:
        yield _here.cache
    finally:
        _here.cache = around


def active_cache() -> WeightCache | None:
    """The cache of the innermost `cached_weights` around, if any."""
    return None if torch.compiler.is_compiling() else getattr(_here, "cache", None)


def can_run_converted(module: nn.Module, device: str) -> bool:
    """Whether `converted_weights` can stand for a module's own: under autocast, in evaluation, without gradients."""
    return (
        torch.is_autocast_enabled(device)
        and not torch.is_grad_enabled()
        and not module.training
        and not is_compiled(module)
    )


def converted_weights(cache: WeightCache, module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Matrices and kernels of a module in a low precision, from the cache, for `call_method`.

    Autocast itself converts all weights in every call, which takes a large part of its time. The results are equal.
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
    """A method of a module as a module, for `call_method`."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The method's."""
        return getattr(self.module, self.name)(*args, **kwargs)


def call_method(x: Any, method: Method, weights: dict[str, Tensor] | None, *args: Any, **kwargs: Any) -> Any:
    """``method(x, *args, **kwargs)``, with weights of `converted_weights` in place of the module's own, if given."""
    if weights is None:
        return method(x, *args, **kwargs)
    return functional_call(method, weights, (x, *args), kwargs)
