"""A command restores warnings, logging and signals of the process, in success and in failure."""

import logging
import signal
import sys
import warnings

import pytest

import prithvi_tg.cli.lightning  # noqa: F401  # importing Lightning configures logging, before any command

COMMANDS = (
    *("fit", "validate", "test", "predict", "embed", "check"),
    *("report", "stats", "chips", "export", "sweep", "synthetic"),
)


def state(loggers):
    """State of the process that a command may change while it runs."""
    logs = [logging.getLogger(), *(logging.getLogger(name) for name in loggers)]
    return {
        "formatwarning": warnings.formatwarning,
        "showwarning": warnings.showwarning,
        "filters": list(warnings.filters),
        "logging": {log.name: (list(log.handlers), list(log.filters), log.level) for log in logs},
        "disabled": logging.root.manager.disable,
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (sys.excepthook, sys.displayhook),
    }


@pytest.fixture
def unchanged():
    """Fails if the result of `state` differs after the test."""
    loggers = sorted(logging.root.manager.loggerDict)
    before = state(loggers)
    yield
    assert state(loggers) == before


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "name", ["fit", "validate", "test", "predict", "embed", "check", "report", "stats", "export", "synthetic"]
)
def test_a_command_that_succeeds_restores_the_process(name, command, config, trained, flood_root, tmp_path):
    scene = flood_root / "scene.tif"
    words = {
        "fit": ("--config", config),
        "validate": ("--config", config, "--ckpt_path", trained),
        "test": ("--config", config, "--ckpt_path", trained),
        "predict": (scene, "--ckpt_path", trained, "--output", tmp_path / "maps", "--trainer.accelerator", "cpu"),
        "embed": (scene, "--ckpt_path", trained, "--output", tmp_path / "embeddings.tif"),
        "check": ("--config", config),
        "report": (trained.parents[1], "--output", tmp_path / "report.html"),
        "stats": ("--config", config),
        "export": (trained, tmp_path / "weights.safetensors"),
        "synthetic": (tmp_path / "data", "--chips", 6, "--size", 64),
    }[name]  # fmt: skip
    code, _, err = command(name, *words)
    assert code == 0, err


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("words", [("--help",), ("--no_such_option",), ("--config", "missing.yaml")])
def test_a_command_that_ends_early_restores_the_process(name, words, command):
    code, out, err = command(name, *words)
    assert (code == 0) == (words == ("--help",)), err
    assert out or err


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", ["fit", "validate", "test", "check", "stats"])
def test_a_command_that_fails_in_its_data_restores_the_process(name, command, config, trained, tmp_path):
    weights = ("--ckpt_path", trained) if name in ("validate", "test") else ()
    code, out, err = command(name, "--config", config, f"--data.root={tmp_path / 'missing'}", *weights)
    assert code in (1, 2)
    assert "missing" in out + err


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_within_training_restores_the_process(error, command, config, monkeypatch):
    def fail(*_, **__):
        raise error("in a step")

    monkeypatch.setattr("prithvi_tg.PrithviSegmentationTask.training_step", fail)
    with pytest.raises((RuntimeError, KeyboardInterrupt, SystemExit, AssertionError)):
        assert command("fit", "--config", config)[0] == 0
