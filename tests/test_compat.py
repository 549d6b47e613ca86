"""Private names of other libraries are only in compat.py, and still have the expected effect."""

import ast
import inspect
import pkgutil
from argparse import ArgumentParser
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch
from rasterio.errors import RasterioError
from rasterio.warp import transform
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchgeo.datasets import GeoDataset, stack_samples

import prithvi_tg
from prithvi_tg import compat
from prithvi_tg.datasets import SceneDataset

PACKAGE = Path(prithvi_tg.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "compat.py"]
#: Documented in spite of their underscore.
DOCUMENTED = frozenset({"_asdict", "_exit", "_fields", "_replace"})


def is_private(name: str) -> bool:
    documented = name.endswith("_")  # such as _missing_ of enumerations
    return name.startswith("_") and not name.startswith("__") and name.isidentifier() and not documented


def is_foreign(receiver: ast.expr, name: str, here: set[str], package: set[str]) -> bool:
    """Whether a private name of `receiver` is not one that this file, or for ``self`` this package, defines."""
    own = isinstance(receiver, ast.Name) and receiver.id in ("self", "cls")
    return name not in (package if own else here)


def defined(tree: ast.AST) -> set[str]:
    """Names that a file defines: functions, classes, attributes and variables."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@cache
def package_names() -> frozenset[str]:
    return frozenset(name for path in FILES for name in defined(ast.parse(path.read_text())))


def foreign_names(text: str, package: frozenset[str] = frozenset()) -> list[str]:
    """Private names of other libraries that a file uses."""
    tree = ast.parse(text)
    here, found = defined(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if any(map(is_private, one.name.split(".")))]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            paths = [f"{node.module}.{one.name}" for one in node.names]
            found += [path for path in paths if any(map(is_private, path.split(".")))]
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in DOCUMENTED:
            if is_foreign(node.value, node.attr, here, set(package)) or "super()" in ast.unparse(node.value):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            name = node.args[1]
            private = isinstance(name, ast.Constant) and is_private(name.value)
            if private and is_foreign(node.args[0], name.value, here, set(package)):
                found.append(ast.unparse(node))
    return found


@pytest.mark.version_independent
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_names_of_other_libraries_are_only_in_compat(path):
    assert foreign_names(path.read_text(), package_names()) == []


@pytest.mark.version_independent
@pytest.mark.parametrize(
    "text",
    [
        "from rasterio._err import CPLE_BaseError",
        "from kornia.augmentation.base import _AugmentationBase",
        "import numpy._core",
        "tensor._version",
        "class Cli(LightningCLI):\n    def _parse(self): super()._parse()",
        "class Task(BaseTask):\n    def step(self): return self._trainer",
        "hasattr(dataset, '_slice_to_tensor')",
    ],
)
def test_a_private_name_is_found(text):
    assert len(foreign_names(text)) == 1


def own_classes() -> list[type]:
    found = []
    for module in pkgutil.walk_packages([str(PACKAGE)], "prithvi_tg."):
        if not module.name.endswith("__main__"):
            members = vars(import_module(module.name)).values()
            found += [one for one in members if inspect.isclass(one) and one.__module__ == module.name]
    return found


def test_no_class_replaces_a_private_method_of_another_library():
    # By the metaclass of torch.autograd.Function.
    written_by_torch = {"_backward_cls"}
    replaced = [
        f"{cls.__qualname__}.{name} of {base.__module__}"
        for cls in own_classes()
        for base in cls.__mro__
        if not base.__module__.startswith(("prithvi_tg", "builtins", "abc", "typing"))
        for name in vars(cls)
        if is_private(name)
        and not name.startswith("_abc_")
        and name in vars(base)
        and name not in written_by_torch
    ]
    assert replaced == []


# Each private name.


def test_gdal_raises_the_error_that_rasterio_does_not_export():
    assert issubclass(compat.GDALError, Exception)
    assert not issubclass(compat.GDALError, RasterioError)
    with pytest.raises(compat.GDALError):
        transform('LOCAL_CS["site",UNIT["metre",1]]', "EPSG:32610", [1.0], [1.0])


def test_tasks_have_one_name_in_every_version():
    assert issubclass(compat.SemanticSegmentationTask, compat.BaseTask)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = compat.Nothing


def test_a_place_can_be_collated_with_those_of_torchgeo(flood_root, burn_spec):
    dataset = SceneDataset.open(flood_root / "scene.tif", burn_spec)
    assert isinstance(dataset, GeoDataset)
    sample = dataset[dataset.bounds]
    place = compat.place_of(dataset, dataset.bounds)
    assert stack_samples([sample, sample])["bounds"] is not None
    assert {*place} <= {*sample}


def test_the_version_of_a_tensor_counts_writes_in_place():
    tensor = torch.zeros(2)
    before = compat.version_of(tensor)
    tensor.add_(1)
    assert compat.version_of(tensor) == before + 1


def test_a_compiled_part_is_detected():
    module = nn.Sequential(nn.Linear(2, 2))
    assert not compat.is_compiled(module)
    module[0].compile(backend="eager")
    assert compat.is_compiled(module)


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_forward_hooks_are_detected(register):
    module = nn.Linear(2, 2)
    assert not compat.has_forward_hooks(module)
    getattr(module, register)(lambda *_: None)
    assert compat.has_forward_hooks(module)


def test_parameters_averaged_over_processes_can_be_read_and_limited(tmp_path):
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        module[0].weight.requires_grad_(False)
        assert compat.num_averaged(DistributedDataParallel(module)) == 3
        compat.ignore_in_ddp(module, {"1.bias"})
        assert compat.num_averaged(DistributedDataParallel(module)) == 2
    finally:
        torch.distributed.destroy_process_group()


def test_the_help_of_an_argument_can_be_changed():
    parser = ArgumentParser()
    parser.add_argument("--name", help="before")
    compat.set_help(parser, "name", "after")
    assert "after" in parser.format_help()
    assert "before" not in parser.format_help()
