"""Chips with one class each: labels from tables and folders, splits, batches, statistics."""

import shutil

import pandas as pd
import pytest
import rasterio
import torch
import yaml

from prithvi_tg.checks import check_chips
from prithvi_tg.datamodules import ClassifiedChipsDataModule
from prithvi_tg.datasets import ClassifiedChips
from prithvi_tg.datasets.chips.chip_labels import split_labels
from prithvi_tg.datasets.synthetic import write_classified_chips
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.samplers import WeightedShuffleSampler
from prithvi_tg.spec import DataSpec

CLASSES = ["Water", "Forest", "Bare"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twelve chips of 32 pixels, labels.csv with splits; read only."""
    return write_classified_chips(tmp_path_factory.mktemp("classified") / "data", chips=12, size=32)


@pytest.fixture
def settings(root):
    return {
        "images": f"{root}/chips/*.tif",
        "labels": f"{root}/labels.csv",
        "classes": CLASSES,
        "bands": ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"],
        "mean": [0.1] * 6,
        "std": [0.1] * 6,
        "scale": 1e-4,
    }


def table(path, *rows, header="chip,class"):
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def test_a_sample_contains_image_valid_and_label(settings, root):
    dataset = ClassifiedChips(**settings, split="train")
    sample = dataset[0]
    assert sample["name"] == "chip_0000"
    with rasterio.open(root / "chips" / "chip_0000.tif") as source:
        expected = torch.from_numpy(source.read()).float()[None] * 1e-4
    torch.testing.assert_close(sample["image"], expected)
    assert sample["valid"].shape == (1, 6, 32, 32)
    assert sample["label"].dtype == torch.int64
    assert [CLASSES[dataset[k]["label"]] for k in range(3)] == CLASSES
    assert dataset.class_counts.tolist() == [2, 2, 2]


def test_bands_are_chosen_by_name(settings):
    chosen = settings | {"bands": ["RED", "BLUE"], "file_bands": settings["bands"]}
    one = ClassifiedChips(**(chosen | {"mean": [0, 0], "std": [1, 1]}), split="train")[0]["image"]
    torch.testing.assert_close(one, ClassifiedChips(**settings, split="train")[0]["image"][:, [2, 0]])


def test_folders_of_classes_give_the_same_labels_as_a_table(settings, root, tmp_path):
    rows = pd.read_csv(root / "labels.csv")
    for row in rows.itertuples(index=False):
        (tmp_path / row[1]).mkdir(exist_ok=True)
        shutil.copy(root / "chips" / f"{row.chip}.tif", tmp_path / row[1])
    folders = settings | {
        "images": f"{tmp_path}/*/*.tif",
        "labels": None,
        "splits": table(
            tmp_path / "splits.csv", *(f"{r[1]}/{r[0]},{r[2]}" for r in rows.values), header="chip,split"
        ),
    }
    ours, theirs = (ClassifiedChips(**one, split="val") for one in (folders, settings))
    assert [chip.name for chip in ours.chips] == ["Water/chip_0003", "Forest/chip_0004", "Bare/chip_0005"]
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert one["label"] == other["label"]


def test_several_classes_become_a_vector_of_zeros_and_ones(settings, tmp_path):
    labels = table(tmp_path / "l.csv", "chip_0000,Water; Bare", "chip_0001,", "chip_0002,Cloud;Forest")
    options = {
        "labels": labels,
        "multilabel": True,
        "ignored_labels": ["Cloud"],
        "split_fractions": (1, 0, 0),
    }
    dataset = ClassifiedChips(**(settings | options), split="train")
    assert [dataset[k]["label"].tolist() for k in range(3)] == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert dataset.class_counts.tolist() == [1, 1, 1]
    assert dataset.plot(dataset[0]).get_suptitle() == "label: Water, Bare"


def test_parquet_tables_hold_lists_or_text(settings, tmp_path):
    frame = pd.DataFrame({"chip": ["chip_0000", "chip_0001"], "class": [["Water", "Bare"], []]})
    frame.to_parquet(tmp_path / "l.parquet")
    options = {
        "labels": tmp_path / "l.parquet", "multilabel": True, "split_fractions": (0, 0, 1),
    }  # fmt: skip
    dataset = ClassifiedChips(**(settings | options), split="test")
    assert [dataset[k]["label"].tolist() for k in range(2)] == [[1, 0, 1], [0, 0, 0]]


def test_a_class_may_be_called_none_or_na(settings, tmp_path):
    labels = table(tmp_path / "l.csv", "chip_0000,None", "chip_0001,NA")
    options = {"labels": labels, "classes": ["None", "NA"], "split_fractions": (1, 0, 0)}
    dataset = ClassifiedChips(**(settings | options), split="train")
    assert [dataset[k]["label"].item() for k in range(2)] == [0, 1]


def test_a_chip_without_data_has_no_label(settings, root, tmp_path):
    shutil.copytree(root / "chips", tmp_path / "chips")
    with rasterio.open(tmp_path / "chips" / "chip_0000.tif", "r+") as file:
        file.nodata = 7
        file.write(file.read() * 0 + 7)
    changed = settings | {"images": f"{tmp_path}/chips/*.tif"}
    assert ClassifiedChips(**changed, split="train")[0]["label"] == 255


@pytest.mark.parametrize(
    ("rows", "header", "changes", "error", "message"),
    [
        (
            ["chip_0000,Ice"],
            "chip,class",
            {},
            DataError,
            r"l\.csv: chip chip_0000 has the class 'Ice', which",
        ),
        (["a,Water"], "chip,class", {}, DataError, r"a\.tif: no such file; the image of chip a is missing"),
        (["a,Water"], "chip,kind", {}, DataError, r"l\.csv: lacks the column class; it has chip, kind"),
        (["a,"], "chip,class", {}, DataError, "row 'a', '' must name a chip and its class"),
        (["a,Water", "a,Bare"], "chip,class", {}, DataError, "chip a has two rows"),
        (["a,Water,train", "b,Bare,"], "chip,class,split", {}, DataError, "chip b has no split, but others"),
        ([], "chip,class", {}, DataError, r"l\.csv: has no row"),
        (
            ["a,Water"],
            "chip,class",
            {"images": "x.tif"},
            ConfigError,
            r"images: 'x\.tif' must contain one \*",
        ),
        (["a,Water"], "chip,class", {"classes": ["Water"]}, ConfigError, "classes: 1 named"),
        (["a,Water"], "chip,class", {"split_fractions": (1, 1, 0)}, ConfigError, "must be three shares"),
        (["a,Water"], "chip,class", {"labels": None}, ConfigError, r"images: .* must be ROOT/\*/\*\.tif"),
        (["a,Water"], "chip,class", {"labels": None, "multilabel": True}, ConfigError, "needs a table"),
        (["a,Water"], "chip,class", {"split": "all"}, ConfigError, "split: 'all' has no chips"),
        (["a,Water"], "chip,class", {"labels": "labels.xlsx"}, ConfigError, r"kinds: \.csv, \.parquet"),
        (["a,Water"], "chip,class", {"labels": "absent.csv"}, DataError, r"^absent\.csv: no such file$"),
    ],
)
def test_errors_in_labels_have_one_line(settings, tmp_path, rows, header, changes, error, message):
    labels = table(tmp_path / "l.csv", *rows, header=header)
    with pytest.raises(error, match=message) as caught:
        ClassifiedChips(**(settings | {"labels": labels, "split_fractions": (1, 0, 0)} | changes))
    assert "\n" not in str(caught.value)


def test_chips_without_label_or_image_can_be_skipped(settings, tmp_path):
    labels = table(tmp_path / "l.csv", *(f"chip_000{k},{CLASSES[k % 3]}" for k in range(6)), "gone,Bare")
    rows = [
        f"chip_000{k},{split}" for k, split in enumerate(["train", "train", "val", "val", "test", "test"])
    ]
    splits = table(tmp_path / "s.csv", *rows, "gone,train", "unknown,val", header="chip,split")
    changed = settings | {"labels": labels, "splits": splits, "batch_size": 1}
    with pytest.raises(
        DataError, match=r"chip unknown of val has no label; add it, or remove the row of the chip$"
    ):
        ClassifiedChips(**settings | {"labels": labels, "splits": splits})
    data = ClassifiedChipsDataModule(**changed, skip_bad=True)
    data.setup("fit")
    assert [len(data.open_split(split)) for split in ("train", "val", "test")] == [2, 2, 2]
    assert data.skipped.keys() == {"gone", "unknown"}
    assert data.open_split("train").class_counts.tolist() == [1, 1, 0]
    table(splits, *rows, "gone,train", header="chip,split")
    findings = [
        one for one in check_chips(ClassifiedChipsDataModule(**changed)) if "is missing" in one.message
    ]
    assert [one.subject for one in findings] == ["train"]


def test_adding_chips_does_not_change_the_split_of_a_chip(settings):
    few, many = (
        {
            label.name: split
            for split, labels in split_labels(_labels(count), fractions=(0.5, 0.3, 0.2)).items()
            for label in labels
        }
        for count in (100, 2000)
    )
    assert {name: many[name] for name in few} == few
    shares = pd.Series(many).value_counts(normalize=True)
    assert [shares[split] for split in ("train", "val", "test")] == pytest.approx([0.5, 0.3, 0.2], abs=0.04)


def _labels(count):
    from prithvi_tg.datasets.chips.chip_labels import ChipLabel

    return [ChipLabel(f"chip_{k}", None, ("a",)) for k in range(count)]


def test_batches_are_normalised_and_have_labels(settings):
    data = ClassifiedChipsDataModule(**settings, batch_size=4, random_flip_rot90=False)
    data.setup("fit")
    assert data.validates
    assert data.spec.input.pixel_size == 30
    assert data.spec.input.image_size == max(data.train_dataset[0]["image"].shape[-2:])
    batch = next(iter(data.val_dataloader()))
    dataset = data.val_dataset
    expected = torch.stack([sample["image"] for sample in dataset])
    after = data.aug(batch)
    torch.testing.assert_close(after["image"], (expected - 0.1) / 0.1)
    assert after["label"].tolist() == [0, 1, 2]
    assert DataSpec.from_dict(data.spec.to_dict()) == data.spec
    train = next(iter(data.train_dataloader()))
    assert train["label"].shape == (4,)


def test_balanced_classes_are_drawn_equally_often(settings, tmp_path):
    rows = [f"chip_{k:04d},{'Water' if k else 'Bare'}" for k in range(12)]
    labels = table(tmp_path / "l.csv", *rows)
    options = {"labels": labels, "split_fractions": (1, 0, 0), "crops_per_chip": 100}
    data = ClassifiedChipsDataModule(**(settings | options), balance_classes=True)
    data.setup("fit")
    sampler = data.train_dataloader().sampler.sampler  # of the sampler of crops
    assert isinstance(sampler, WeightedShuffleSampler)
    drawn = list(sampler)
    assert sum(number % 12 == 0 for number in drawn) / len(drawn) == pytest.approx(0.5, abs=0.05)
    assert list(sampler) == drawn
    sampler.skip_first(5)
    assert list(sampler) == drawn[5:]
    sampler.skip_first(0)
    sampler.set_epoch(1)
    assert list(sampler) != drawn


def test_check_reads_chips_with_a_class(settings):
    data = ClassifiedChipsDataModule(**settings)
    findings = [(one.severity, one.subject, one.message) for one in check_chips(data)]
    assert ("ok", "train", "6 chips, each with its label") in findings
    assert ("ok", "classes of val", "Water 33 %, Forest 33 %, Bare 33 %") in findings
    assert "error" not in [severity for severity, _, message in findings if "band means" not in message]


def test_statistics_are_those_of_the_training_chips(settings, root, tmp_path, command):
    init_args = {key: value for key, value in settings.items() if key not in ("mean", "std")}
    config = {"data": {"class_path": "ClassifiedChipsDataModule", "init_args": init_args}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    code, out, err = command("stats", "--config", path)
    assert code == 0, err
    printed = yaml.safe_load(out)
    found = printed["data"]["init_args"]
    images = torch.stack([sample["image"] for sample in ClassifiedChips(**settings, split="train")])
    assert found["mean"] == pytest.approx(images.double().mean(dim=(0, 1, 3, 4)).tolist(), rel=1e-5)
    assert "#   Water: 0.333333" in out
    assert printed["model"]["init_args"]["class_weights"] == pytest.approx([1, 1, 1])


def test_every_class_of_the_synthetic_chips_is_in_every_split(root, tmp_path):
    counts = pd.read_csv(root / "labels.csv").groupby(["split", "class"]).size().unstack()
    assert counts.loc["train"].tolist() == [2, 2, 2]
    assert counts.loc[["val", "test"]].to_numpy().tolist() == [[1, 1, 1]] * 2
    with pytest.raises(ConfigError, match="chips: 9 are too few for 3 classes in three splits; give 12"):
        write_classified_chips(tmp_path / "few", chips=9)
