"""Decoded chips are cached with stored values, shared by processes, and give the same samples as the files."""

import logging
import os
import signal
import time

import numpy as np
import pytest
import rasterio
import torch
from torch.utils.data import ConcatDataset

from prithvi_tg import Sen1Floods11DataModule
from prithvi_tg.datamodules import (
    ChipFolderDataModule,
    ClassifiedChipsDataModule,
    ValueChipFolderDataModule,
    caching,
)
from prithvi_tg.datamodules.caching import CacheChooser, remove_abandoned
from prithvi_tg.datasets import ChipFolder, Sen1Floods11
from prithvi_tg.datasets.chips import chip_cache
from prithvi_tg.datasets.chips.stored_chips import CropPlace
from prithvi_tg.errors import ConfigError
from prithvi_tg.samplers import RandomCropSampler, ShuffleSampler

pytestmark = pytest.mark.version_independent

PLACE = rasterio.Affine(30, 0, 5e5, 0, -30, 5e6)
CHIPS = 6


def write(path, values, **profile):
    count, height, width = values.shape
    profile = {"crs": "EPSG:32633", "transform": PLACE} | profile
    with rasterio.open(path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype,
                       **profile) as out:  # fmt: skip
        out.write(values)


@pytest.fixture(params=["int16", "float32", "float64", "uint8"])
def folder(request, tmp_path):
    """Chips of two bands and 40 to 45 pixels, half of them with holes; one has huge values if its type allows them."""
    random = np.random.default_rng(0)
    for number in range(CHIPS):
        image = random.integers(1, 250, (2, 40 + number, 45)).astype(request.param)
        if number % 2:
            image[:, 3:30, 5:20] = 0
            image[1, 31:] = 0
        if number == 1 and request.param.startswith("float"):
            image[0, 0, :3] = np.nan, np.inf, 1e35
        label = random.integers(0, 3, (1, 40 + number, 45)).astype("uint8")
        value = np.where(label == 2, np.nan, label * random.random(label.shape)).astype("float32")
        for kind, values in (("img", image), ("lab", label), ("val", value)):
            write(tmp_path / f"{kind}_{number}.tif", values)
    rows = [f"{number},{'train' if number < 4 else 'val'}" for number in range(CHIPS)]
    (tmp_path / "splits.csv").write_text("\n".join(["chip,split", *rows]))
    (tmp_path / "classes.csv").write_text(
        "\n".join(["chip,class,split", *(f"{row.replace(',', ',A,')}" for row in rows)])
    )
    return tmp_path


def options(folder, **changes):
    return {
        "images": f"{folder}/img_*.tif", "bands": ["RED", "GREEN"], "mean": [100.0, 90.0], "std": [50.0, 40.0],
        "nodata": [0], "scale": 1.5, "batch_size": 2, "crop_size": 32, "test_split": "val", "metadata": True,
    } | changes  # fmt: skip


def classes(folder, **changes):
    found = options(
        folder, labels=f"{folder}/lab_*.tif", splits=f"{folder}/splits.csv", classes={0: "A", 1: "B"}
    )
    return ChipFolderDataModule(**found | {"ignored_labels": [2]} | changes)


def values(folder, **changes):
    found = options(folder, labels=f"{folder}/val_*.tif", splits=f"{folder}/splits.csv", values=["height"])
    return ValueChipFolderDataModule(**found | {"value_mean": [0.5], "value_std": [0.3]} | changes)


def whole_chips(folder, **changes):
    return ClassifiedChipsDataModule(
        **options(folder, labels=f"{folder}/classes.csv", classes=["A", "B"], eval_batch_size=1) | changes
    )


def batches(data, epochs=2):
    """Training batches of several epochs, as a trainer draws them, and those of validation."""
    data.setup("fit")
    loader = data.train_dataloader()
    found = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        found += [*loader, *data.val_dataloader()]
    return found


def assert_equal(one, other):
    assert len(one) == len(other) > 0
    for first, second in zip(one, other, strict=True):
        assert first.keys() == second.keys()
        for key, value in first.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == second[key].dtype
                assert value.shape == second[key].shape
                assert torch.equal(value.nan_to_num(-7), second[key].nan_to_num(-7)), key
            else:
                assert value == second[key]


@pytest.mark.parametrize(
    ("folder", "make", "cache"),
    [
        ("int16", classes, "ram"), ("int16", values, "disk"), ("int16", whole_chips, "ram"),
        ("float32", classes, "disk"), ("float32", values, "ram"), ("float32", whole_chips, "disk"),
        ("float64", classes, "ram"), ("float64", values, "disk"), ("float64", whole_chips, "ram"),
        ("uint8", classes, "disk"), ("uint8", values, "ram"), ("uint8", whole_chips, "disk"),
    ],
    indirect=["folder"],
)  # fmt: skip
def test_samples_are_the_same_with_and_without_a_cache(folder, make, cache):
    without = batches(make(folder, cache="none"))
    assert_equal(batches(make(folder, cache=cache)), without)
    assert any("valid" not in batch for batch in without) or make is whole_chips


@pytest.mark.parametrize("folder", ["int16"], indirect=True)
@pytest.mark.parametrize(
    "changes", [{"legacy_nodata": True}, {"crop_size": 64}, {"crop_size": None, "batch_size": 1}]
)
def test_samples_are_the_same_for_further_settings(folder, changes):
    assert_equal(
        batches(classes(folder, cache="ram", **changes)), batches(classes(folder, cache="none", **changes))
    )


@pytest.mark.parametrize("folder", ["int16"], indirect=True)
def test_samples_do_not_depend_on_the_number_of_workers(folder):
    single = batches(classes(folder, cache="none"))
    assert_equal(batches(classes(folder, cache="ram", num_workers=2)), single)
    assert_equal(batches(classes(folder, cache="none", num_workers=1)), single)


@pytest.mark.parametrize("folder", ["int16"], indirect=True)
def test_whole_samples_are_those_of_the_data_set(folder):
    data = classes(folder, cache="ram")
    for _ in range(2):
        data.setup("fit")
        plain = data.dataset_class(split="train", **data.kwargs)
        assert_equal([*data.train_dataset.datasets[0]], [*plain])
        assert all(sample["valid"].dtype == torch.bool for sample in data.train_dataset)


@pytest.fixture
def opened(monkeypatch):
    """Names of the rasters that are opened."""
    found, original = [], rasterio.open

    def counting(path, *arguments, **options):
        found.append(path)
        return original(path, *arguments, **options)

    monkeypatch.setattr(rasterio, "open", counting)
    return found


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_no_file_is_opened_from_the_second_epoch_on(flood_root, tmp_path, opened, cache):
    data = Sen1Floods11DataModule(
        flood_root, splits=flood_root / "splits.csv", batch_size=1, crop_size=32, cache=cache, metadata=True,
        cache_folder=tmp_path if cache == "disk" else None,
    )  # fmt: skip
    batches(data, epochs=1)
    assert opened
    opened.clear()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    assert len([*loader]) > 0
    assert len([*data.val_dataloader()]) > 0
    assert opened == []


def floods(root, folder, **changes):
    data = Sen1Floods11DataModule(
        root, splits=root / "splits.csv", batch_size=1, cache="disk", cache_folder=folder, **changes
    )
    data.setup("fit")
    return data.train_dataset.datasets[0]


def test_a_later_run_uses_the_files_of_the_cache(flood_root, tmp_path, opened):
    expected = [*floods(flood_root, tmp_path)]
    again = floods(flood_root, tmp_path, crop_size=32)
    opened.clear()  # setup reads positions of images and labels
    assert_equal([*again], expected)
    assert opened == []
    changed = floods(flood_root, tmp_path, bands=["RED"])
    opened.clear()
    assert changed[0]["image"].shape[1] == 1
    assert len(opened) > 1


@pytest.mark.parametrize("folder", ["int16"], indirect=True)
@pytest.mark.parametrize("kind", ["img", "lab"])
def test_a_chip_whose_file_changes_is_decoded_again(folder, kind):
    def first():
        data = classes(folder, cache="disk")
        data.setup("fit")
        return data.train_dataset.datasets[0][0]

    before = first()
    with rasterio.open(folder / f"{kind}_0.tif") as source:
        pixels = source.read()
    pixels[..., 7, 7] = 1 - pixels[..., 7, 7] if kind == "lab" else 77
    time.sleep(0.01)
    write(folder / f"{kind}_0.tif", pixels)
    after = first()
    key = "mask" if kind == "lab" else "image"
    assert not torch.equal(before[key], after[key])
    assert_equal([after], [classes(folder, cache="none").open_split("train")[0]])
    assert len([*(folder / chip_cache.FOLDER_NAME).glob("*.chip")]) == 1  # in the place of the other


class Inverted(ChipFolder):
    """With other labels in the same files."""

    def to_classes(self, stored):
        return 1 - super().to_classes(stored).clip(0, 1)


@pytest.mark.parametrize("folder", ["int16"], indirect=True)
def test_changed_code_of_a_data_set_uses_new_cache_files(folder):
    data = classes(folder)
    plain, inverted = (kind(split="train", **data.kwargs) for kind in (ChipFolder, Inverted))
    assert chip_cache.settings_digest(plain) != chip_cache.settings_digest(inverted)
    assert chip_cache.settings_digest(plain) == chip_cache.settings_digest(
        ChipFolder(split="val", **data.kwargs)
    )


def test_a_truncated_cache_file_is_not_used(flood_root, tmp_path):
    expected = floods(flood_root, tmp_path)[0]
    (path,) = tmp_path.glob("*.chip")
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert_equal([floods(flood_root, tmp_path)[0]], [expected])
        assert path.read_bytes() == whole


def test_a_full_disk_is_reported_once_and_the_run_continues(flood_root, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chip_cache, "_parts", full)
    with caplog.at_level(logging.WARNING):
        samples = [*floods(flood_root, tmp_path)]
    assert_equal(samples, [*Sen1Floods11(flood_root, splits=flood_root / "splits.csv")])
    assert len([record for record in caplog.records if "No space left" in record.message]) == 1
    assert [*tmp_path.iterdir()] == []  # nothing half-written


def test_integers_keep_their_type_and_valid_masks_are_packed(flood_root, tmp_path):
    dataset = floods(flood_root, tmp_path)
    assert len([*dataset]) == len(dataset)
    stored = [dataset.cache.load(dataset.cache.entry(chip)) for chip in dataset.chips]
    assert {one.values.dtype for one in stored} == {np.dtype("int16")}
    assert {one.label.dtype for one in stored} == {np.dtype("uint8")}
    assert all(one.valid is None or one.valid.shape == (6, 64, 8) for one in stored)
    assert sum(
        path.stat().st_size for path in tmp_path.iterdir()
    ) < 1.2 * dataset.stored_bytes() + 1000 * len(dataset)


def test_the_cache_in_memory_is_removed_with_its_data_module(flood_root):
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", batch_size=1, cache="ram")
    data.setup("fit")
    data.train_dataset[0]
    folder = data.train_dataset.datasets[0].cache.folder
    assert len([*folder.glob("*.chip")]) == 1
    assert folder.stat().st_mode & 0o77 == 0
    del data
    assert not folder.exists()


def test_only_caches_of_killed_runs_are_removed(tmp_path):
    killed = tmp_path / f"prithvi_tg-chips-{os.getuid()}-killed"
    killed.mkdir()
    process = os.fork()
    if not process:
        caching._lock(killed)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    running = tmp_path / f"prithvi_tg-chips-{os.getuid()}-running"
    running.mkdir()
    lock = caching._lock(running)
    assert (killed / "lock").exists()
    remove_abandoned(tmp_path)
    assert not killed.exists()
    assert running.exists()
    os.close(lock)


def test_the_default_cache_is_memory_if_the_chips_fit(flood_root, monkeypatch, caplog):
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", batch_size=1)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
        data.setup("fit")
    assert data.train_dataset.datasets[0].cache is not None
    assert data.val_dataset.cache is not None
    assert [record.message.split(",")[0] for record in caplog.records] == ["cache: ram"]
    data.setup("test")
    assert data.test_dataset.cache is None  # read once
    monkeypatch.setattr(caching, "memory_bytes", lambda: 1000)
    caplog.clear()
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", batch_size=1)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert data.train_dataset.datasets[0].cache is None
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("cache: none; the decoded chips, about ")


def test_insufficient_memory_is_one_clear_error(flood_root, monkeypatch):
    monkeypatch.setattr(caching, "_free", lambda folder: 1000)
    data = Sen1Floods11DataModule(flood_root, splits=flood_root / "splits.csv", batch_size=1, cache="ram")
    with pytest.raises(ConfigError, match=r"cache: ram needs about .* [GM]B, but .* set cache: disk or none"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "device"}, "cache: 'device' is unknown; choose from ram, disk, none"),
        ({"cache": "ram", "folder": "somewhere"}, "cache_folder: somewhere applies only to cache: disk"),
    ],
)
def test_invalid_settings_are_one_clear_error(options, message):
    with pytest.raises(ConfigError, match=message):
        CacheChooser(**options)


# Crops.


def test_positions_of_crops_are_uniform():
    side, length = 5, 9
    rows = [
        CropPlace(0, down, 0).window(length, 3, side)[0].start
        for down in np.linspace(0, 1, 5000, endpoint=False)
    ]
    assert np.bincount(rows).tolist() == [1000] * 5
    assert CropPlace(0, 0.999, 0.999).window(4, 3, 5) == (slice(0, 4), slice(0, 3))
    assert CropPlace(0, 1 - 2**-53, 0.0).window(length, 9, side)[0] == slice(4, 9)


def test_a_resumed_epoch_draws_the_remaining_crops():
    def sampler():
        return RandomCropSampler(ShuffleSampler(range(20), seed=3))

    whole = sampler()
    whole.set_epoch(2)
    resumed = sampler()
    resumed.set_epoch(2)
    resumed.skip_first(7)
    assert [*resumed] == [*whole][7:]
    assert len({place.down for place in whole}) == 20
    first, other = sampler(), sampler()
    other.set_epoch(1)
    assert not {place.down for place in first} & {place.down for place in other}


def test_processes_draw_different_crops():
    ranks = [
        RandomCropSampler(ShuffleSampler(range(20), seed=3, rank=rank, world_size=2)) for rank in range(2)
    ]
    drawn = [[*sampler] for sampler in ranks]
    assert not {place.down for place in drawn[0]} & {place.down for place in drawn[1]}
    assert sorted(place.chip for places in drawn for place in places) == [*range(20)]


@pytest.mark.parametrize("folder", ["int16"], indirect=True)
def test_a_crop_is_a_part_of_the_chip_with_its_label(folder):
    data = classes(folder, cache="none")
    data.setup("fit")
    chips = data.train_dataset.datasets[0]
    assert isinstance(data.train_dataset, ConcatDataset)
    for place in (CropPlace(0, 0.3, 0.7), CropPlace(1, 0.0, 0.99), CropPlace(3, 0.5, 0.5)):
        whole, crop = chips[place.chip], chips.crop(place, 32)
        rows, columns = place.window(*whole["image"].shape[-2:], 32)
        assert torch.equal(crop["image"], whole["image"][..., rows, columns])
        assert torch.equal(crop["mask"], whole["mask"][..., rows, columns])
        valid = whole["valid"][..., rows, columns]
        assert torch.equal(crop["valid"], valid) if not valid.all() else "valid" not in crop
        assert crop["meaningless"] == whole["meaningless"]


class Doubled(ChipFolder):
    """A dataset with samples that differ from the files."""

    def read_chip(self, chip):
        sample = super().read_chip(chip)
        return sample | {"image": 2 * sample["image"]}


@pytest.mark.parametrize("folder", ["int16"], indirect=True)
def test_a_data_set_with_transforms_is_cropped_after_them(folder):
    data = classes(folder)
    plain, doubled = (kind(split="train", **data.kwargs) for kind in (ChipFolder, Doubled))
    place = CropPlace(2, 0.4, 0.1)
    assert torch.equal(doubled.crop(place, 32)["image"], 2 * plain.crop(place, 32)["image"])
    plain.transforms = lambda sample: sample | {"mask": sample["mask"].flip(0)}
    rows, columns = place.window(42, 45, 32)
    assert torch.equal(plain.crop(place, 32)["mask"], plain[2]["mask"][rows, columns])
