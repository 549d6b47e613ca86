"""The accelerator and the devices of a run: what is lacking is one line with the key and the way out."""

import re

import pytest
from lightning.pytorch.accelerators import CUDAAccelerator

from prithvi_tg.cli.accelerators import check_accelerator
from prithvi_tg.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch):
    """Sets the number of GPUs of this machine."""

    def have(count):
        monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: count > 0))
        monkeypatch.setattr(CUDAAccelerator, "auto_device_count", staticmethod(lambda: count))

    return have


@pytest.mark.parametrize(
    ("command_of", "option"),
    [
        (("fit", "--config", "{config}"), "--trainer.accelerator"),
        (("test", "--config", "{config}", "--ckpt_path", "{trained}"), "--trainer.accelerator"),
        (("predict", "--ckpt_path", "{trained}", "{scene}", "--output", "maps"), "--trainer.accelerator"),
        (("calibrate", "--config", "{config}", "--ckpt_path", "{trained}"), "--accelerator"),
        (("embed", "{scene}", "--ckpt_path", "{trained}", "--output", "e.tif"), "--device"),
    ],
)
def test_a_gpu_that_is_not_there_is_one_line(command, config, trained, flood_root, gpus, command_of, option):
    gpus(0)
    names = {"config": config, "trained": trained, "scene": flood_root / "scene.tif"}
    code, _, err = command(*(word.format(**names) for word in command_of), option, "gpu")
    assert code == 2
    assert re.fullmatch(
        rf"prithvi-tg: error: {option}: gpu: PyTorch \S+( a build for the CPU only,)? finds no GPU on this machine; "
        rf"set {option} cpu, or auto for what there is\n",
        err,
    )


@pytest.mark.parametrize(
    ("name", "devices", "message"),
    [
        ("tpu", "auto", "trainer.accelerator: tpu: .* finds no TPU on this machine"),
        ("gup", "auto", "trainer.accelerator: 'gup' is unknown; choose from auto, cpu, cuda, gpu, mps"),
        ("gpu", 4, "trainer.devices: 4: this machine has 2 GPUs; set --trainer.devices 2 or less, or auto"),
        (
            "auto",
            "4",
            "trainer.devices: 4: this machine has 2 GPUs; set --trainer.devices 2 or less, or auto",
        ),
        (
            "cuda",
            [0, 3],
            r"trainer.devices: \[0, 3\]: this machine has 2 GPUs, with the indices 0 to 1; choose",
        ),
        ("gpu", "1,2", "trainer.devices: 1,2: this machine has 2 GPUs, with the indices 0 to 1; choose"),
        (
            "gpu",
            0,
            "trainer.devices: 0: give at least 1, or auto; to use no GPU, set trainer.accelerator: cpu",
        ),
        (
            "cpu",
            [0, 1],
            r"trainer.devices: \[0, 1\]: on the CPU, give a number of processes, at least 1, or auto",
        ),
        ("cpu", "two", "trainer.devices: 'two' is not a number of devices, a list of their indices, or auto"),
    ],
)
def test_what_a_machine_lacks_is_named_with_the_key_and_the_way_out(gpus, name, devices, message):
    gpus(2)
    with pytest.raises(ConfigError, match=message):
        check_accelerator(name, devices)


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("auto", "auto"), ("gpu", 2), ("cuda", "-1"), ("gpu", -1), ("gpu", [1]), ("gpu", "1,"), ("cpu", 8),
        (CUDAAccelerator(), 9),
    ],
)  # fmt: skip
def test_devices_that_the_machine_has_are_accepted(gpus, name, devices):
    gpus(2)
    check_accelerator(name, devices)


def test_other_contradictions_of_the_trainer_are_one_line(command, config):
    code, _, err = command("fit", "--config", config, "--trainer.strategy", "no_such")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(
        "prithvi-tg: error: trainer: You selected an invalid strategy name: `strategy='no_such'`"
    )
