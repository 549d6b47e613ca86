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
        ("data.num_workers", -3, "num_workers: -3 must be 0 or more"),
        ("data.crop_size", 0, "crop_size: 0 must be 1 or more"),
        ("model.lr", -1, "lr: -1.0 must be 0 or more"),
        ("model.lora_rank", -4, "lora_rank: -4 must be 0 or more"),
        ("model.drop_path", 2, "drop_path: 2.0 must be at least 0 and below 1"),
        ("model.warmup_steps", -1, "warmup_steps: -1 must be 0 or more"),
        ("model.layer_decay", 7, "layer_decay: 7.0 must be above 0 and at most 1"),
        ("model.window", 0, "window: 0 must be 1 or more"),
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


def test_python_has_the_same_ranges():
    with pytest.raises(ConfigError, match="num_classes: 1 must be from 2 to 255"):
        PrithviSegmentationTask(encoder="nano", num_classes=1)
    with pytest.raises(ConfigError, match="batch_size: 0 must be 1 or more"):
        Sen1Floods11DataModule("data", batch_size=0)
