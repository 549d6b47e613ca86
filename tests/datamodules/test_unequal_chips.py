"""Chips of unequal sizes, split lists from spreadsheets, and lists without validation chips."""

import json

import numpy as np
import pytest
import rasterio
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import default_collate

from prithvi_tg.augmentations import ChipAugmentation
from prithvi_tg.datamodules import ChipFolderDataModule
from prithvi_tg.datamodules.loading import collate_chips
from prithvi_tg.datamodules.resuming import random_state, restore_random_state
from prithvi_tg.datasets import read_splits
from prithvi_tg.errors import ConfigError, DataError

pytestmark = pytest.mark.version_independent

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def unequal(tmp_path):
    """Four chips of one band and 40 x 44 to 64 x 68 pixels; their labels are 0 and 1."""
    for number in range(4):
        height, width = 40 + 8 * number, 44 + 8 * number
        profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "crs": "EPSG:32633"}
        image = np.arange(1, height * width + 1, dtype="int16").reshape(height, width)
        for kind, values in (("img", image), ("lab", (image % 2).astype("uint8"))):
            path = tmp_path / f"{kind}_{number}.tif"
            transform = rasterio.Affine(30, 0, 5e5, 0, -30, 5e6)
            with rasterio.open(path, "w", dtype=values.dtype, transform=transform, **profile) as out:
                out.write(values, 1)
    (tmp_path / "splits.csv").write_text("chip,split\n0,train\n1,train\n2,train\n3,val\n")
    return tmp_path


def options(folder, **changes):
    return {
        "images": f"{folder}/img_*.tif",
        "labels": f"{folder}/lab_*.tif",
        "splits": f"{folder}/splits.csv",
        "classes": {0: "Even", 1: "Odd"},
        "bands": ["RED"],
        "mean": [1000.0],
        "std": [500.0],
        "batch_size": 2,
        "crop_size": 32,
        "test_split": "val",
    } | changes


@pytest.fixture
def fit(unequal, command):
    """Train on the chips for an epoch: exit code, standard output, standard error."""

    def run(**changes):
        config = {
            "seed_everything": 0,
            "model": {
                "class_path": "PrithviSegmentationTask",
                "init_args": {
                    "encoder": "nano", "encoder_args": {"width": 32, "depth": 2, "num_heads": 2},
                    "head_channels": 8, "window": 32, "warmup_steps": 1,
                },
            },
            "data": {"class_path": "ChipFolderDataModule", "init_args": options(unequal, **changes)},
            "trainer": {
                "default_root_dir": str(unequal / "runs"), "max_epochs": 1, "accelerator": "cpu",
                "enable_progress_bar": False,
            },
        }  # fmt: skip
        (unequal / "config.yaml").write_text(yaml.safe_dump(config))
        return command("fit", "--config", unequal / "config.yaml")

    return run


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.tuples(st.integers(3, 40), st.integers(3, 40)), min_size=2, max_size=4),
    side=st.integers(2, 48),
    seed=st.integers(0, 1000),
)
def test_a_crop_contains_as_much_of_a_chip_as_fits(sizes, side, seed):
    torch.manual_seed(seed)
    samples = []
    for height, width in sizes:
        place = torch.arange(1, height * width + 1).reshape(height, width)
        image = place.float().expand(1, 1, height, width)
        samples.append(
            {"image": image, "valid": torch.ones_like(image, dtype=torch.bool), "mask": place % 255}
        )
    out = ChipAugmentation([0.0], [1.0], crop_size=side)(collate_chips(samples))
    assert "size" not in out
    for number, (height, width) in enumerate(sizes):
        image, mask = out["image"][number, 0, 0], out["mask"][number]
        valid = out["valid"][number, 0, 0]
        assert image.shape == (side, side)
        assert int(valid.sum()) == min(side, height) * min(side, width)
        assert (image[~valid] == 0).all()
        assert (mask[~valid] == 255).all()
        assert torch.equal(mask[valid], image[valid].long() % 255)


def test_chips_of_one_size_are_stacked_without_padding():
    samples = [{"image": torch.rand(1, 2, 8, 9), "mask": torch.zeros(8, 9), "name": name} for name in "ab"]
    batch, expected = collate_chips(samples), default_collate(samples)
    assert batch.keys() == expected.keys()
    assert torch.equal(batch["image"], expected["image"])
    assert batch["name"] == expected["name"]


def test_each_chip_draws_its_own_crop_at_any_position():
    torch.manual_seed(0)
    samples = [{"image": torch.arange(900.0).reshape(1, 1, 30, 30)}] * 30 + [
        {"image": torch.zeros(1, 1, 40, 8)}
    ]
    out = ChipAugmentation([0.0], [1.0], crop_size=20)(collate_chips(samples))["image"][:-1, 0, 0, 0, 0]
    assert len(set(out.tolist())) > 20
    assert (out // 30).max() >= 9
    assert (out % 30).max() >= 9


def test_a_resumed_run_draws_the_crops_of_an_uninterrupted_run():
    samples = [{"image": torch.rand(1, 1, side, 30)} for side in (24, 30, 36)]
    augment = ChipAugmentation([0.0], [1.0], crop_size=16, random_flip_rot90=True)
    torch.manual_seed(0)
    augment(collate_chips(samples))
    state = random_state()
    expected = augment(collate_chips(samples))["image"]
    torch.manual_seed(1)
    restore_random_state(state)
    assert torch.equal(augment(collate_chips(samples))["image"], expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_chips_of_unequal_sizes_train(fit, workers):
    code, _, err = fit(num_workers=workers)
    assert code == 0, err


def test_a_batch_of_whole_chips_of_unequal_sizes_is_an_error_of_one_line(fit):
    code, _, err = fit(crop_size=None)
    assert code != 0
    assert "crop_size: null needs chips of one size" in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_whole_chips_of_unequal_sizes_train_with_batch_size_1(fit):
    code, _, err = fit(crop_size=None, batch_size=1)
    assert code == 0, err


def test_values_that_are_not_finite_are_printed_once_per_stage(fit, unequal):
    for number in (1, 3):
        with rasterio.open(unequal / f"img_{number}.tif") as source:
            image, profile = source.read().astype("float32"), source.profile
        image[0, :2, :5] = [[np.nan], [np.inf]]
        with rasterio.open(unequal / f"img_{number}.tif", "w", **(profile | {"dtype": "float32"})) as out:
            out.write(image)
    code, out, err = fit(batch_size=3)
    assert code == 0, err
    lines = [line for line in out.splitlines() if "not finite" in line]
    assert lines == [
        f"{split}: 10 values not finite or beyond 1e30, counted as nodata" for split in ("val", "train")
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"chip,split\na,train\nb,val\n",
        BOM + b"chip,split\r\na,train\r\nb,val\r\n",
        b"\n\nchip,split\n\na,train\n,\n   \nb,val\n\n",
        b" chip , split\n a, train \n\tb ,val\n",
        BOM + b'"split","note","chip"\r\n"train","","a"\r\n"val","cloud, thin","b"\r\n\r\n',
        b"chip,split\ra,train\rb,val",
    ],
)
def test_split_lists_written_by_spreadsheets_are_read(tmp_path, content):
    (tmp_path / "splits.csv").write_bytes(content)
    assert read_splits(tmp_path / "splits.csv") == {"train": ["a"], "val": ["b"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty; must be CSV with the header chip,split and a row per chip"),
        ("chip,split\n\n", "has a header, but no rows; give a row per chip"),
        ("chip;split\na;train\n", "the first row is 'chip;split'; must be CSV with the header chip,split"),
        ("a,train\n", "the first row is 'a,train'; must be CSV with the header chip,split"),
        (
            "chip,split\na,train\nb,validation\n",
            "has a split 'validation', but none called val; rename it to val",
        ),
        ("chip,split\na,Train\nb,val\n", "has a split 'Train', but none called train; rename it to train"),
        ("chip,split\na,train\nb\n", "row 'b' must name a chip and its split"),
        ("chip,split\n,train\n", "row ',train' must name a chip and its split"),
    ],
)
def test_an_incomplete_split_list_is_an_error_that_names_the_gap(tmp_path, content, said):
    (tmp_path / "splits.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        read_splits(tmp_path / "splits.csv")


def test_a_further_test_set_may_be_called_validation_if_there_is_a_val(tmp_path):
    (tmp_path / "splits.csv").write_text("chip,split\na,train\nb,val\nc,validation\n")
    assert read_splits(tmp_path / "splits.csv")["validation"] == ["c"]


def test_a_run_without_validation_chips_keeps_its_last_checkpoint_and_says_so(fit, unequal):
    (unequal / "splits.csv").write_bytes(BOM + b"chip,split\r\n0,train\r\n1,train\r\n")
    code, out, err = fit(test_split="test")
    assert code == 0, err
    assert (unequal / "runs/version_0/checkpoints/last.ckpt").exists()
    assert "best.ckpt holds the last weights, because " in out
    assert json.loads((unequal / "runs/version_0/metrics.json").read_text())["overall"] == {}


def test_validation_of_a_list_without_validation_chips_is_one_clear_error(unequal):
    (unequal / "splits.csv").write_text("chip,split\n0,train\n1,train\n")
    data = ChipFolderDataModule(**options(unequal))
    data.setup("fit")
    assert data.val_dataloader() == []
    with pytest.raises(
        ConfigError, match="there is no validation set; score the test set with prithvi-tg test"
    ):
        data.setup("validate")


def test_statistics_and_tests_need_only_their_own_split(fit, unequal, command):
    code, _, err = fit()
    assert code == 0, err
    last = next((unequal / "runs").rglob("last.ckpt"))
    config = unequal / "config.yaml"
    (unequal / "splits.csv").write_text("chip,split\n0,train\n")
    code, out, err = command("stats", "--config", config)
    assert code == 0, err
    assert "class_weights" in out
    (unequal / "splits.csv").write_text("chip,split\n3,val\n")
    code, _, err = command("test", "--config", config, "--ckpt_path", last)
    assert code == 0, err
    scores = json.loads((unequal / "runs/version_1/metrics.json").read_text())
    assert scores["split"] == "val"


def test_check_advises_on_a_list_without_validation_chips(fit, unequal, command):
    (unequal / "splits.csv").write_text("chip,split\n0,train\n1,train\n")
    fit()
    _, out, _ = command("check", "--config", unequal / "config.yaml")
    assert "val there is no validation set" in " ".join(out.replace("│", " ").split())
