"""A .pt2 that could run code is refused before torch reads it."""

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from prithvi_tg import PrithviSegmentationTask, load_task
from prithvi_tg.errors import CheckpointError
from prithvi_tg.exporting import export_model
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget


class Mark:
    """Unpickled freely, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (Path(self.path), "it ran")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    spec = DataSpec(InputSpec(("BLUE",), (0.1,), (0.1,)), ClassTarget(("dry", "water")))
    task = PrithviSegmentationTask(
        encoder="nano",
        encoder_args={"width": 32, "depth": 1, "num_heads": 2},
        decoder="linear",
        bands=["BLUE"],
        window=32,
        data_spec=spec.to_dict(),
    )
    return export_model(task, tmp_path_factory.mktemp("program") / "model.pt2")


def rewrite(source, target, change):
    """Copy an archive record by record; `change` gets all contents by name below the root, and may change them."""
    with zipfile.ZipFile(source) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(records)).split("/")[0]
    contents = {name.removeprefix(f"{root}/"): content for name, content in records.items()}
    change(contents)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(f"{root}/{name}", content)
    return target


def edit(name, change):
    def run(contents):
        content = json.loads(contents[name])
        change(content)
        contents[name] = json.dumps(content).encode()

    return run


MODEL = "models/model.json"
CONSTANTS = "data/constants/model_constants_config.json"
WEIGHTS = "data/weights/model_weights_config.json"


def nodes(content):
    return content["graph_module"]["graph"]["nodes"]


def first_size(content):
    if isinstance(content, dict):
        if "expr_str" in content:
            return content
        content = list(content.values())
    if isinstance(content, list):
        return next((found for part in content if (found := first_size(part))), None)
    return None


def pickled(path):
    return pickle.dumps(Mark(str(path)))


ATTACKS = {
    "sample inputs": lambda mark: lambda all: all.update({"data/sample_inputs/model.pt": pickled(mark)}),
    "a pickled weight": lambda mark: edit(
        WEIGHTS, lambda one: next(iter(one["config"].values())).update(use_pickle=True)
    ),
    "a custom object": lambda mark: edit(
        CONSTANTS, lambda one: next(iter(one["config"].values())).update(path_name="custom_obj_0")
    ),
    "an opaque object": lambda mark: lambda all: all.update({"data/constants/opaque_obj_0": pickled(mark)}),
    "weights of an earlier format": lambda mark: (
        lambda all: all.update({"data/weights/model.pt": pickled(mark)})
    ),
    "a compiled library": lambda mark: lambda all: all.update({"data/aotinductor/model/model.so": b"ELF"}),
    "guards": lambda mark: edit(MODEL, lambda one: one.update(guards_code=[f"open({str(mark)!r}, 'w')"])),
    "a size": lambda mark: edit(
        MODEL, lambda one: first_size(one).update(expr_str=f"open({str(mark)!r}, 'w')")
    ),
    "a call": lambda mark: edit(MODEL, lambda one: nodes(one)[0].update(target="torch.os.system")),
    "a file of ATen": lambda mark: edit(
        MODEL, lambda one: nodes(one)[0].update(target="torch.ops.aten.from_file.default")
    ),
    "a name": lambda mark: edit(
        MODEL, lambda one: nodes(one)[0]["inputs"][0].update(name="x=__import__('os').system('true')")
    ),
    "types of arguments": lambda mark: edit(
        MODEL,
        lambda one: one["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec='[1, {"type": "collections.defaultdict", "context": "null", "children_spec": []}]'
        ),
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_program_that_could_run_code_is_refused(name, program, tmp_path):
    mark = tmp_path / "mark"
    path = rewrite(program, tmp_path / "changed.pt2", ATTACKS[name](mark))
    with pytest.raises(CheckpointError, match="refused, because reading it could run code"):
        load_task(path)
    assert not mark.exists()


def test_torch_itself_would_run_the_code_of_sample_inputs(program, tmp_path):
    mark = tmp_path / "mark"
    path = rewrite(program, tmp_path / "changed.pt2", ATTACKS["sample inputs"](mark))
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever torch raises after it
        torch.export.load(path)
    assert mark.exists()


def test_a_copied_program_loads(program, tmp_path):
    path = rewrite(program, tmp_path / "copy.pt2", lambda all: None)
    assert load_task(path)(torch.zeros(1, 1, 1, 32, 32)).shape == (1, 2, 32, 32)


def test_a_program_of_other_software_is_refused(tmp_path):
    exported = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(2, 2),))
    torch.export.save(exported, tmp_path / "other.pt2")
    with pytest.raises(CheckpointError, match=r"was not written by prithvi-tg export"):
        load_task(tmp_path / "other.pt2")


@pytest.mark.parametrize("content", [b"", b"not an archive", pickle.dumps({"a": 1})])
def test_a_file_that_is_no_program_is_a_clear_error(content, tmp_path):
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a readable program of torch\.export"):
        load_task(path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_task(tmp_path / "missing.pt2")
