"""A compiled model has one graph per part, gives the same numbers, and is not recompiled for each shape."""

import copy
import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from torch._dynamo.utils import counters

from prithvi_tg import PrithviClassificationTask, PrithviSegmentationTask
from prithvi_tg.models import cached_weights, fusion

pytestmark = pytest.mark.version_independent

PRITHVI = {"encoder": "nano", "encoder_args": TINY | {"depth": 1}}
MODELS = {
    "linear": PRITHVI | {"decoder": "linear"},
    "conv_transpose": PRITHVI,
    "fpn": PRITHVI | {"decoder": "fpn"},
    "upernet": PRITHVI | {"decoder": "upernet"},
    "low-rank adapters": PRITHVI | {"decoder": "linear", "lora_rank": 2},
    "prompts": PRITHVI | {"decoder": "linear", "prompt_tokens": 3},
    "stochastic depth": PRITHVI | {"decoder": "linear", "drop_path": 0.5},
    "checkpointing": PRITHVI | {"decoder": "linear", "gradient_checkpointing": True},
    "frozen encoder": PRITHVI | {"decoder": "linear", "freeze_encoder": True},
    "timm, CNN, unet": {"encoder": "timm/resnet10t", "decoder": "unet"},
    "timm, ViT": {"encoder": "timm/vit_tiny_patch16_224", "encoder_args": {"depth": 1}, "decoder": "linear"},
}
IMAGE = torch.randn(2, 1, 6, 32, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _nothing_is_compiled_yet():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def create_model(**options):
    torch.manual_seed(0)
    task = PrithviSegmentationTask(**{"num_classes": 3, "head_channels": 8, **options})
    return task.model


class Backend:
    """Counts the graphs that are compiled, and runs them as they are."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("name", MODELS)
def test_encoder_and_decoder_are_one_graph_each_and_give_the_same_outputs(name):
    model = create_model(**MODELS[name])
    compiled, backend = copy.deepcopy(model), Backend()
    compiled.compile(backend=backend, fullgraph=True)  # an error where a graph breaks
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), cached_weights():
        assert torch.equal(compiled.eval()(IMAGE), model.eval()(IMAGE))
    assert backend.graphs == 2
    results = []
    for one in (compiled, model):
        torch.manual_seed(1)
        logits, auxiliary = one.train().forward_both(IMAGE)
        loss = logits.square().mean() + (0 if auxiliary is None else auxiliary.square().mean())
        loss.backward()
        gradients = [p.grad for p in one.parameters() if p.grad is not None]
        results.append([logits, *gradients, *one.buffers()])
    assert backend.graphs == 4
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["conv_transpose", "fpn", "timm, CNN, unet"])
def test_a_smaller_batch_is_not_compiled(name):
    model = create_model(**MODELS[name])
    compiled, backend = copy.deepcopy(model).eval(), Backend()
    compiled.compile(backend=backend)
    with torch.inference_mode():
        for image in (IMAGE, IMAGE[:1], IMAGE, IMAGE[1:]):
            torch.testing.assert_close(compiled(image), model.eval()(image))
    assert backend.graphs == 2


def test_further_shapes_run_without_compilation_and_a_warning_says_so():
    model, backend = create_model(**MODELS["linear"]).eval(), Backend()
    model.compile(2, backend=backend)
    with torch.inference_mode():
        model(IMAGE)
        model(IMAGE[..., :32])
        with pytest.warns(
            UserWarning, match=r"compile: batches of 2 shapes are compiled; that of \(2, 1, 6, 16, 16\)"
        ):
            model(IMAGE[..., :16, :16])
    assert backend.graphs == 4


def test_a_compiled_model_can_be_copied_and_pickled():
    model = create_model(**MODELS["conv_transpose"]).eval()
    keys = list(model.state_dict())
    model.compile(backend="eager")
    with torch.inference_mode():
        expected = model(IMAGE)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
            assert torch.equal(other(IMAGE), expected)
    assert list(model.state_dict()) == keys


def test_a_classifier_is_compiled():
    torch.manual_seed(0)
    model = PrithviClassificationTask(**PRITHVI, num_classes=3).model.eval()
    backend = Backend()
    with torch.inference_mode():
        expected = model(IMAGE)
        model.compile(backend=backend, fullgraph=True)
        assert torch.equal(model(IMAGE), expected)
    assert backend.graphs == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_second_run_starts_from_the_cache(compiler_in_this_process):
    model = create_model(**MODELS["linear"]).eval()
    found = []
    for _ in range(2):
        model.compile()
        counters.clear()
        torch.compiler.reset()
        with torch.inference_mode():
            model(IMAGE)
        found.append([counters["inductor"][f"fxgraph_cache_{kind}"] for kind in ("miss", "hit")])
    assert found == [[2, 0], [0, 2]]


def test_padding_channels_do_not_change_logits(monkeypatch):
    model = create_model(**MODELS["conv_transpose"]).eval()
    with torch.inference_mode():
        expected = model(IMAGE)
        monkeypatch.setitem(fusion._CHANNEL_MULTIPLE, "cpu", 64)
        weights = fusion.fused_weights(model.neck, model.decode_head, expected)
        torch.testing.assert_close(model(IMAGE), expected, atol=1e-6, rtol=1e-5)
    assert weights.phases[0].shape[1] == 64


def test_without_a_compiler_a_task_runs_uncompiled(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(UserWarning, match="compile: no C\\+\\+ compiler"):
        task = PrithviSegmentationTask(**PRITHVI, num_classes=2, head_channels=8, compile=True)
    assert task.model._compiled_calls is None


def optimizer_of(monkeypatch, on_cuda, **options):
    task = PrithviSegmentationTask(**PRITHVI, num_classes=2, head_channels=8, **options)
    monkeypatch.setattr(torch.nn.Parameter, "is_cuda", on_cuda, raising=False)
    optimizer = task.create_optimizer()
    monkeypatch.undo()
    return task, optimizer


@pytest.mark.parametrize(
    ("on_cuda", "options", "fused"),
    [
        (True, {}, True),
        (True, {"optimizer": "adam"}, True),
        (False, {}, None),
        (True, {"optimizer_args": {"foreach": True}}, None),
        (True, {"optimizer_args": {"fused": False}}, False),
        (True, {"optimizer": "torch.optim.Adamax"}, None),
    ],
)
def test_adam_is_fused_on_cuda_unless_arguments_choose_otherwise(monkeypatch, on_cuda, options, fused):
    _, optimizer = optimizer_of(monkeypatch, on_cuda, **options)
    assert optimizer.defaults.get("fused") is fused


@pytest.mark.parametrize(
    ("scaler", "clip", "fused"), [(None, 1.0, True), ("a scaler", None, True), ("a scaler", 1.0, None)]
)
def test_a_gradient_scaler_with_clipping_uses_no_fused_optimiser(monkeypatch, scaler, clip, fused):
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler), gradient_clip_val=clip)
    monkeypatch.setattr(PrithviSegmentationTask, "attached_trainer", trainer)
    _, optimizer = optimizer_of(monkeypatch, True)
    assert optimizer.defaults["fused"] is fused
