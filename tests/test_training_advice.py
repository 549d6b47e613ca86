"""fit warns of settings that are valid and seldom meant, and check lists the same lines."""

import re

import pytest
import torch

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.tasks.advice import training_advice

pytestmark = pytest.mark.version_independent

LONG_WARM_UP = (
    "warmup_steps: 9 must be smaller than the number of optimiser steps (2), or the full learning rate is "
    "never reached; set it to fewer steps, such as 0, or train longer"
)
LOW_RATE = "lr: 1e-05 is a rate for fine-tuning, but the encoder starts from random weights"
NO_VALIDATION = (
    "monitor: there is no validation set, so val_mIoU is not computed; best.ckpt holds the weights of the last "
    "epoch"
)
OTHER_ENCODER = (
    "weights: those published for prithvi_eo_v2_tiny_tl may not fit with encoder_args width, depth, num_heads"
)
FROZEN = (
    "weights: not given, so the frozen encoder has random weights; give weights of an encoder, or "
    "train the encoder too"
)
FROZEN_AT_FIRST = FROZEN.replace("train the encoder too", "train the encoder from the start")
UNREACHED = (
    "unfreeze_epoch: 2 is not reached in 2 epochs, counted from 0, so the encoder is never trained; set it to an "
    "earlier epoch, or train longer"
)
NO_WARM_UP = "warmup_steps: has no effect with schedule cosine; give schedule_args: {warmup_steps: N}"
NO_RATES = "layer_decay: has no effect with a frozen encoder; remove it"
NO_DROP_PATH = "drop_path: has no effect with a frozen encoder; remove it"
NO_AUXILIARY_HEAD = (
    "auxiliary_weight: has no effect with decoder linear, which has no auxiliary head; remove it"
)
NO_DROPOUT = "head_dropout: has no effect with decoder patch_linear, which has a head of its own; remove it"
KEYS = {line.partition(":")[0] for line in (LONG_WARM_UP, LOW_RATE, NO_VALIDATION, FROZEN)}
KEYS |= {
    line.partition(":")[0] for line in (NO_RATES, NO_DROP_PATH, NO_AUXILIARY_HEAD, NO_DROPOUT, UNREACHED)
}


def advice_in(recwarn):
    """The warnings about settings of the model."""
    lines = [str(one.message) for one in recwarn]
    return [line for line in lines if line.partition(":")[0] in KEYS]


def unwrapped(out):
    """The cells of each row of the table of check, without line breaks within cells."""
    rows = []
    for line in out.splitlines():
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        if len(cells) == 4 and cells[0]:
            rows.append(cells)
        elif len(cells) == 4:
            rows[-1] = [f"{before} {cell}".strip() for before, cell in zip(rows[-1], cells, strict=True)]
    return rows


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ((), []),  # an encoder without published weights
        (("--model.warmup_steps", 9), [LONG_WARM_UP]),
        (
            ("--model.schedule", "cosine", "--model.schedule_args", "{warmup_steps: 9}"),
            [LONG_WARM_UP],
        ),
        (("--model.lr", "1e-5"), [LOW_RATE]),
        (("--trainer.limit_val_batches", 0), [NO_VALIDATION]),
        (("--model.encoder", "prithvi_eo_v2_tiny_tl"), [OTHER_ENCODER]),
        (("--model.freeze_encoder", "true"), [FROZEN]),
        (("--model.freeze_encoder", "true", "--model.unfreeze_epoch", 2), [UNREACHED, FROZEN]),
        (("--model.freeze_encoder", "true", "--model.unfreeze_epoch", 1), [FROZEN_AT_FIRST]),
        (("--model.schedule", "cosine"), [NO_WARM_UP]),
        (("--model.schedule", "constant", "--model.warmup_steps", 0), []),
        (
            ("--model.freeze_encoder", "true", "--model.layer_decay", 0.5, "--model.drop_path", 0.1),
            [NO_RATES, NO_DROP_PATH, FROZEN],
        ),
        (("--model.decoder", "linear", "--model.auxiliary_weight", 0.4), [NO_AUXILIARY_HEAD]),
        (("--model.decoder", "linear"), []),  # the default of auxiliary_weight
        (("--model.decoder", "patch_linear", "--model.head_dropout", 0.2), [NO_DROPOUT]),
        (("--model.decoder", "patch_linear", "--model.head_dropout", 0), []),
    ],
)
def test_fit_and_check_warn_of_the_same_settings(config, command, recwarn, options, messages):
    words = ("--config", config, "--trainer.max_epochs", 2, *options)
    code, _, err = command("fit", *words)
    assert code == 0, err
    warned = advice_in(recwarn)
    assert len(warned) == len(messages), warned
    for line, message in zip(warned, messages, strict=True):
        assert line.startswith(message)
    code, out, err = command("check", *words)
    assert code == 0, out + err
    advice = [" ".join(cells[1:]) for cells in unwrapped(out) if cells[0] == "advice"]
    assert [squeezed(line) for line in advice] == [squeezed(line) for line in warned]


def squeezed(text):
    """The letters and digits: the table of check breaks lines, and has no punctuation between its columns."""
    return re.sub(r"\W", "", text)


def test_pretrained_weights_and_a_short_warm_up_give_no_advice(config, command, recwarn, trained):
    words = ("--config", config, "--trainer.max_epochs", 2, "--model.weights", trained, "--model.lr", "1e-5")
    code, _, err = command("fit", *words)
    assert code == 0, err
    assert advice_in(recwarn) == []


def test_a_resumed_run_has_weights():
    task = PrithviSegmentationTask(encoder="nano", num_classes=2, lr=1e-5, warmup_steps=0)
    assert len(list(training_advice(task, 10))) == 1
    assert not list(training_advice(task, 10, resumes=True))


def test_a_model_without_an_encoder_gets_no_advice_on_weights():
    class Convolution(PrithviSegmentationTask):
        def configure_models(self):
            self.model = torch.nn.Conv2d(6, 2, 3, padding=1)

    assert list(training_advice(Convolution(num_classes=2, warmup_steps=0, lr=1e-5), 100)) == []


def test_check_refuses_arguments_without_effect_before_weights_are_read(config, command):
    words = ("--config", config, "--model.lora_alpha", 8, "--model.weights", "hf://nobody/nothing")
    line = "lora_alpha: has no effect without lora_rank; add lora_rank: 16, or remove lora_alpha"
    assert command("fit", *words)[::2] == (2, f"prithvi-tg: error: {line}\n")
    code, out, err = command("check", *words)
    assert code == 1, err
    assert [squeezed("".join(cells[1:])) for cells in unwrapped(out) if cells[0] == "error"] == [
        squeezed(f"configuration {line}")
    ]
