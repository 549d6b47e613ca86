"""Numbers of configurations outside their range are an error with key, value and range, before anything is read."""

import pytest
import yaml
from conftest import TINY_CONFIG

from prithvi_tg import PrithviSegmentationTask, Sen1Floods11DataModule
from prithvi_tg.errors import ConfigError
from prithvi_tg.ranges import RANGES, check_ranges


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data.batch_size", 0, "batch_size: 0 must be 1 or more"),
        ("model.lr", -1, "lr: -1.0 must be 0 or more"),
    ],
)
def test_fit_and_check_refuse_a_number_outside_its_range(
    flood_root, tmp_path, command, monkeypatch, key, value, words
):
    monkeypatch.setenv("COLUMNS", "300")
    path = tmp_path / "config.yaml"
    path.write_text(TINY_CONFIG.format(root=flood_root, runs=tmp_path))
    section, name = key.split(".")
    config = yaml.safe_load(path.read_text())
    config[section].setdefault("init_args", {})[name] = value
    path.write_text(yaml.safe_dump(config))
    code, out, err = command("fit", "--config", path)
    assert (code, err.splitlines()[-1]) == (2, f"prithvi-tg: error: {words}")
    code, out, _ = command("check", "--config", path)
    assert code == 1
    assert words in out
    assert not list(tmp_path.glob("version_*"))


@pytest.mark.parametrize(("name", "limits"), RANGES.items())
def test_a_range_contains_the_defaults_and_excludes_its_ends(name, limits):
    for value, contained in ((limits.low, limits.has_low), (limits.high, limits.has_high)):
        if value == float("inf"):
            continue
        if contained:
            check_ranges({name: value})
        else:
            with pytest.raises(ConfigError, match=f"{name}: .* must be {limits.words}"):
                check_ranges({name: value})
    check_ranges({name: None})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_classes", 1, "1 must be from 2 to 255"),
        ("lora_rank", -4, "-4 must be 0 or more"),
        ("drop_path", 2, "2 must be at least 0 and below 1"),
        ("warmup_steps", -1, "-1 must be 0 or more"),
        ("layer_decay", 7, "7 must be above 0 and at most 1"),
        ("window", 0, "0 must be 1 or more"),
    ],
)
def test_a_task_refuses_a_number_outside_its_range(key, value, words):
    with pytest.raises(ConfigError, match=f"^{key}: {words}$"):
        PrithviSegmentationTask(**{"encoder": "nano", "num_classes": 2, key: value})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("batch_size", 0, "0 must be 1 or more"),
        ("num_workers", -3, "-3 must be 0 or more"),
        ("crop_size", 0, "0 must be 1 or more"),
    ],
)
def test_a_data_module_refuses_a_number_outside_its_range(key, value, words):
    with pytest.raises(ConfigError, match=f"^{key}: {words}$"):
        Sen1Floods11DataModule("data", **{key: value})
