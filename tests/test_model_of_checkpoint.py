"""test and validate score the model of the checkpoint; a configuration describes it only if the checkpoint does not."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.checkpoints import Checkpoint
from prithvi_tg.cli.checkpoint_checks import use_model_of

pytestmark = pytest.mark.version_independent


def scores(folder):
    return json.loads((folder / "metrics.json").read_text())["overall"]


@pytest.mark.parametrize("name", ["test", "validate"])
def test_a_configuration_without_a_model_is_enough(config, command, trained, tmp_path, name):
    code, _, err = command(name, "--config", config, "--ckpt_path", trained)
    assert code == 0, err
    settings = yaml.safe_load(config.read_text())
    del settings["model"]
    config.write_text(yaml.safe_dump(settings))
    code, _, err = command(name, "--config", config, "--ckpt_path", trained)
    assert code == 0, err
    assert scores(tmp_path / "runs/version_1") == scores(tmp_path / "runs/version_0")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--model.encoder_args", "{width: 64, depth: 2, num_heads: 2}"),
            "encoder_args {'width': 32, 'depth': 2, 'num_heads': 2}, not {'width': 64, 'depth': 2, 'num_heads': 2}",
        ),
        (
            ("--model.decoder", "linear", "--model.head_channels", 16),
            "decoder conv_transpose, not linear; head_channels 8, not 16",
        ),
    ],
)
def test_a_configuration_of_another_model_is_named_in_one_line(
    config, command, recwarn, trained, tmp_path, options, words
):
    code, _, err = command("test", "--config", config, "--ckpt_path", trained)
    assert code == 0, err
    recwarn.clear()
    code, _, err = command("test", "--config", config, "--ckpt_path", trained, *options)
    assert code == 0, err
    assert scores(tmp_path / "runs/version_1") == scores(tmp_path / "runs/version_0")
    (line,) = [str(one.message) for one in recwarn if "best.ckpt" in str(one.message)]
    assert line.endswith(
        f"the model is that of the checkpoint, which differs from the configuration: {words}"
    )
    saved = yaml.safe_load((tmp_path / "runs/version_1/config.yaml").read_text())["model"]["init_args"]
    assert (saved["encoder_args"], saved["decoder"]) == (TINY, "conv_transpose")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"head_channels": 16},
            "model.init_args.head_channels is 8 in the configuration, but 16 in the checkpoint",
        ),
        (
            {"num_classes": 3},
            "data: the number of classes is 2 in the configuration, but 3 in the checkpoint",
        ),
    ],
)
def test_a_key_that_contradicts_weights_without_a_description_is_named(
    config, command, tmp_path, options, words
):
    arguments = {"encoder": "nano", "encoder_args": TINY, "head_channels": 8, "num_classes": 2} | options
    weights = tmp_path / "weights.pth"
    torch.save({"state_dict": PrithviSegmentationTask(**arguments).model.state_dict()}, weights)
    code, _, err = command("test", "--config", config, "--ckpt_path", weights)
    assert (code, err) == (1, f"prithvi-tg: error: {weights}: different architecture: {words}\n")


def test_only_arguments_with_other_values_are_named(recwarn):
    adapted = {"encoder": "nano", "encoder_args": TINY, "head_channels": 8, "num_classes": 2, "lora_rank": 4}
    saved = Checkpoint(Path("best.ckpt"), {}, adapted | {"lora_alpha": None}, {})
    given = adapted | {"lora_rank": 0, "lora_alpha": None}
    use_model_of(saved, given)
    (line,) = [str(one.message) for one in recwarn if "best.ckpt" in str(one.message)]
    assert line.endswith("differs from the configuration: lora_rank 4, not 0")
    assert given["lora_rank"] == 4


def test_fit_names_the_key_that_contradicts_the_run_it_resumes(config, command, trained_run):
    last = trained_run / "checkpoints/last.ckpt"
    words = ("fit", "--config", config, "--ckpt_path", last, "--model.head_channels", 16)
    code, _, err = command(*words)
    assert code == 1
    assert "model.init_args.head_channels is 16 in the configuration, but 8 in the checkpoint" in err


def test_weights_without_a_description_need_a_model_in_the_configuration(config, command, tmp_path):
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, window=32
    )
    weights = tmp_path / "weights.pth"
    torch.save({"state_dict": task.model.state_dict()}, weights)
    code, out, err = command("test", "--config", config, "--ckpt_path", weights)
    assert code == 0, err
    assert re.search(r"weights\.pth: all \d+ weight tensors loaded", out)
    settings = yaml.safe_load(config.read_text())
    del settings["model"]
    config.write_text(yaml.safe_dump(settings))
    code, _, err = command("test", "--config", config, "--ckpt_path", weights)
    assert code == 1
    assert "weights.pth: does not describe its model; give the configuration it was trained with" in err


@pytest.mark.parametrize(("alpha", "warns"), [(16.0, False), (None, False), (8.0, True)])
def test_the_default_alpha_of_adapters_may_be_written_out(tmp_path, recwarn, alpha, warns):
    saved = {"encoder": "nano", "lora_rank": 8, "lora_alpha": None}
    use_model_of(Checkpoint(tmp_path / "best.ckpt", {}, saved, {}), {"lora_rank": 8, "lora_alpha": alpha})
    assert bool(recwarn) == warns


def other_task(trained_run, path):
    """The last checkpoint of a run, as if a task of classification had written it."""
    content = torch.load(trained_run / "checkpoints/last.ckpt", weights_only=True)
    content["task_class"] = "prithvi_tg.tasks.classification.PrithviClassificationTask"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["test", "validate", "predict"])
def test_a_checkpoint_of_another_task_is_named_with_both_tasks(config, command, trained_run, tmp_path, name):
    other = other_task(trained_run, tmp_path / "other.ckpt")
    scene = tmp_path / "scene.tif"
    scene.touch()
    words = (scene, "--output", tmp_path / "maps") if name == "predict" else ()
    code, _, err = command(name, *words, "--config", config, "--ckpt_path", other)
    assert (code, err) == (
        1,
        f"prithvi-tg: error: {other}: was written by PrithviClassificationTask, but the configuration has "
        "PrithviSegmentationTask; give a checkpoint of PrithviSegmentationTask, or the configuration of "
        "PrithviClassificationTask\n",
    )


def test_resuming_the_run_of_another_task_advises_to_start_from_its_encoder(
    config, command, trained_run, tmp_path
):
    other = other_task(trained_run, tmp_path / "other.ckpt")
    code, _, err = command("fit", "--config", config, "--ckpt_path", other)
    assert (code, err) == (
        1,
        f"prithvi-tg: error: {other}: was written by PrithviClassificationTask, but the configuration has "
        "PrithviSegmentationTask; to start from its encoder, give --model.weights "
        f"{other} instead of --ckpt_path\n",
    )


def test_a_task_that_cannot_be_imported_is_not_compared(config, command, trained_run, tmp_path):
    content = torch.load(trained_run / "checkpoints/best.ckpt", weights_only=True)
    torch.save(content | {"task_class": "elsewhere.Task"}, tmp_path / "own.ckpt")
    code, _, err = command("test", "--config", config, "--ckpt_path", tmp_path / "own.ckpt")
    assert code == 0, err
