"""Visual prompt tuning: learnt tokens before each block of a frozen ViT."""

import pytest
import torch
from conftest import TINY
from exported_models import CLASSES, build, expected, inputs_of

from prithvi_tg import PrithviSegmentationTask, load_task
from prithvi_tg.errors import ConfigError
from prithvi_tg.exporting import export_model
from prithvi_tg.models import create_encoder
from prithvi_tg.models.prompts import add_prompts
from prithvi_tg.tasks.export import export_weights

TIMM = {"encoder": "timm/vit_tiny_patch16_224", "encoder_args": {"depth": 2}}
MODELS = {"prithvi": {"encoder": "nano", "encoder_args": TINY}, "timm": TIMM}


def make_task(name="prithvi", **arguments):
    torch.manual_seed(0)
    defaults = {**MODELS[name], "decoder": "linear", "num_classes": 2, "window": 32, "prompt_tokens": 3}
    return PrithviSegmentationTask(**(defaults | arguments))


@pytest.mark.parametrize("name", MODELS)
def test_prompts_and_head_are_trained_and_all_else_stays(name, tmp_path):
    task = make_task(name)
    task.log = task.log_dict = lambda *_, **__: None
    optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=1.0)
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    batch = {"image": torch.randn(2, 1, 6, 32, 32), "mask": torch.randint(0, 2, (2, 32, 32))}
    task.train().training_step(batch, 0).backward()
    optimizer.step()
    changed = {key for key, value in task.model.state_dict().items() if not torch.equal(value, before[key])}
    assert len([key for key in changed if key.endswith(".prompts")]) == 2  # of both blocks
    assert all(key.endswith(".prompts") or key.startswith("decode_head.") for key in changed)
    names = {key for key in before if not key.endswith(".prompts")}
    assert names == set(make_task(name, prompt_tokens=0).model.state_dict())
    image = torch.randn(1, 1, 6, 32, 32)
    loaded = load_task(export_weights(task, tmp_path / "weights.safetensors"))
    torch.testing.assert_close(loaded(image), task.eval()(image))


def test_blocks_see_the_prompts_and_the_neck_does_not():
    encoder = create_encoder("nano", **TINY)
    image = torch.randn(2, 1, 6, 32, 32)
    without = encoder(image)
    add_prompts(encoder, 5)
    lengths = []
    for block in encoder.blocks:
        block.norm1.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    assert encoder(image).shape == without.shape
    assert lengths == [5 + 1 + 4] * 2
    assert not torch.allclose(encoder(image), without, atol=1e-3)
    # By hand: the tokens of one block with its prompts in front.
    tokens = encoder.embed(image)
    block = encoder.blocks[0]
    whole = torch.cat([block.prompts.expand(2, -1, -1), tokens], dim=1)
    whole = whole + block.attn(block.norm1(whole))
    whole = whole + block.mlp(block.norm2(whole))
    torch.testing.assert_close(block(tokens), whole[:, 5:])


def test_the_published_number_of_tokens_trains_as_many_parameters_as_it_should():
    with torch.device("meta"):
        task = make_task(encoder="prithvi_eo_v2_300m", encoder_args=None, prompt_tokens=100)
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    assert trained == 24 * 100 * 1024 + 2 * 1024 + 2


def test_a_program_contains_the_prompts(tmp_path):
    task = build(CLASSES, frames=2, prompt_tokens=3)
    inputs = inputs_of(task, 3)
    before = expected(task, inputs)
    for block in task.model.encoder.blocks:
        torch.nn.init.normal_(block.prompts)
    outputs = expected(task, inputs)
    assert (outputs - before).abs().max() > 1e-3
    program = torch.export.load(export_model(task, tmp_path / "model.pt2", window=32)).module()
    torch.testing.assert_close(program(*inputs.values()), outputs, atol=1e-4, rtol=1e-4)


def test_what_has_no_prompts_is_refused():
    with pytest.raises(ConfigError, match="prompt_tokens: TimmPyramid is not a plain ViT with timm blocks"):
        make_task(encoder="timm/resnet10t", encoder_args=None, decoder="unet")
    for key, value in (("freeze_encoder", True), ("lora_rank", 2)):
        with pytest.raises(ConfigError, match=f"prompt_tokens: cannot be combined with {key}"):
            make_task(**{key: value})
