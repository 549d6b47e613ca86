"""Weights in another form, kept from one evaluation to the next while the parameters stay what they are."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class KeptWeights:
    """What was computed from parameters, until one of them changes.

    A change is told by the storage and the version of a tensor; what goes round torch's version counter
    (``parameter.data.mul_``) is not seen. A segmenter drops everything that is kept when `train` or `eval` is
    called.
    """

    def __init__(self) -> None:
        self._state: dict[Hashable, tuple[Any, ...]] = {}
        self._kept: dict[Hashable, Any] = {}

    def get(self, key: Hashable, tensors: Iterable[Tensor], compute: Callable[[], Any]) -> Any:
        """What `compute` gave for these tensors, as ordinary tensors without gradients."""
        tensors = list(tensors)
        with torch.inference_mode(False), torch.no_grad():
            if any(tensor.is_inference() for tensor in tensors):  # these do not tell when they change
                return compute()
            state = tuple((tensor.data_ptr(), tensor._version, tensor.device) for tensor in tensors)
            if self._state.get(key) != state:
                self._kept[key] = compute()
                self._state[key] = state
            return self._kept[key]


class LowPrecision:
    """Calls of a module under autocast, with matrices that are in the low precision already.

    Autocast itself converts all weights in every call, which takes a good part of it. The results are the same.

    Args:
        module: What is called; it keeps its parameters.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.kept = KeptWeights()

    @staticmethod
    def can_run(module: nn.Module, device: str) -> bool:
        """Whether it would be the same: under autocast, in evaluation, without gradients."""
        compiled = any(part._compiled_call_impl is not None for part in module.modules())
        return (
            torch.is_autocast_enabled(device)
            and not torch.is_grad_enabled()
            and not module.training
            and not compiled
        )

    def __call__(self, device: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """``module.method(*args, **kwargs)`` on a kind of device."""
        dtype = torch.get_autocast_dtype(device)
        weights = {
            f"module.{name}.weight": part.weight
            for name, part in self.module.named_modules()
            if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        }
        low = self.kept.get(
            dtype, weights.values(), lambda: {name: weight.to(dtype) for name, weight in weights.items()}
        )
        return functional_call(_Method(self.module, method), low, args, kwargs)


class _Method(nn.Module):
    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.module, self.name)(*args, **kwargs)
