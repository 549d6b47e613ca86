"""Differences between versions of TorchGeo, and private names of other libraries: all of them here.

PyTorch, torchvision, TorchGeo and rasterio are imported when a name of theirs is first used: most models need none of
the last three, and the help of commands none of them.
"""

from argparse import Action, ArgumentParser
from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rasterio._err import CPLE_BaseError as GDALError
    from torch import Tensor, nn
    from torch.nn.parallel import DistributedDataParallel
    from torchgeo.datasets import GeoDataset
    from torchgeo.tasks import BaseTask
    from torchgeo.tasks import Classification as ClassificationTask
    from torchgeo.tasks import PixelwiseRegression as PixelwiseRegressionTask
    from torchgeo.tasks import SemanticSegmentation as SemanticSegmentationTask
    from torchvision.models._api import Weights, WeightsEnum

__all__ = [
    "BaseTask",
    "ClassificationTask",
    "GDALError",
    "PixelwiseRegressionTask",
    "SemanticSegmentationTask",
    "Weights",
    "WeightsEnum",
    "actions_of",
    "has_forward_hooks",
    "ignore_in_ddp",
    "is_compiled",
    "num_averaged",
    "place_of",
    "set_help",
    "version_of",
]

#: Name here -> where it may be found, the first that exists.
_HOMES = {
    # GDAL's own errors: rasterio raises some of them unwrapped, and exports no name for them.
    "GDALError": (("rasterio._err", "CPLE_BaseError"),),
    # TorchGeo 0.10 moved the tasks and dropped the suffix.
    "BaseTask": (("torchgeo.tasks", "BaseTask"), ("torchgeo.trainers", "BaseTask")),
    "ClassificationTask": (
        ("torchgeo.tasks", "Classification"),
        ("torchgeo.trainers", "ClassificationTask"),
    ),
    "PixelwiseRegressionTask": (
        ("torchgeo.tasks", "PixelwiseRegression"),
        ("torchgeo.trainers", "PixelwiseRegressionTask"),
    ),
    "SemanticSegmentationTask": (
        ("torchgeo.tasks", "SemanticSegmentation"),
        ("torchgeo.trainers", "SemanticSegmentationTask"),
    ),
    # The base classes of the weights of torchvision and TorchGeo.
    "Weights": (("torchvision.models._api", "Weights"),),
    "WeightsEnum": (("torchvision.models._api", "WeightsEnum"),),
}


def __getattr__(name: str) -> Any:
    homes = _HOMES.get(name)
    if homes is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module, theirs in homes:
        try:
            found = getattr(import_module(module), theirs)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            continue
        globals()[name] = found
        return found
    raise ImportError(f"no installed version of {homes[0][0]} has {homes[0][1]}")


def place_of(dataset: "GeoDataset", query: Any) -> dict[str, Any]:
    """The place entries of a sample, so that samples of several datasets can be combined.

    TorchGeo 0.10 collates tensors only, and offers no public function for the tensor of a query.
    """
    if hasattr(dataset, "_slice_to_tensor"):
        return {"bounds": dataset._slice_to_tensor(query)}
    return {"bounds": query, "crs": dataset.crs}


def version_of(tensor: "Tensor") -> int:
    """How often a tensor was written to in place. PyTorch documents the counter, but no public accessor of it."""
    return int(tensor._version)


def is_compiled(module: "nn.Module") -> bool:
    """Whether `nn.Module.compile` was called on a module or a part of it. PyTorch has no public test for it."""
    return any(part._compiled_call_impl is not None for part in module.modules())


def has_forward_hooks(module: "nn.Module") -> bool:
    """Whether hooks run before or after the forward of a module itself. PyTorch has no public list of hooks."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def num_averaged(model: "DistributedDataParallel") -> int:
    """Number of parameters whose gradients a wrapper averages: those that required one when it was made.

    `requires_grad` may have changed since, and no public attribute keeps the list.
    """
    return int(model._get_ddp_logging_data()["num_parameter_tensors"])


def ignore_in_ddp(module: "nn.Module", names: Collection[str]) -> None:
    """Leave parameters and buffers out of the averages of the next wrapper.

    PyTorch's documentation names this static method as the way, in spite of its underscore.
    """
    from torch.nn.parallel import DistributedDataParallel

    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


def actions_of(parser: ArgumentParser) -> list[Action]:
    """All arguments of a parser; argparse has no public list of them."""
    return parser._actions


def set_help(parser: ArgumentParser, name: str, text: str, metavar: str | None = None) -> None:
    """Change the help text, and the name of the value, of an argument that a library has added."""
    for action in actions_of(parser):
        if action.dest == name:
            action.help = text
            action.metavar = metavar or action.metavar
