"""``prithvi-tg check`` finds known faults, gives advice, and accepts clean data."""

import csv
import shutil
from collections import namedtuple

import numpy as np
import pytest
import rasterio
import yaml
from conftest import TINY

from prithvi_tg import Sen1Floods11, Sen1Floods11DataModule
from prithvi_tg.checks import Finding, check_chips
from prithvi_tg.commands import check as check_command
from prithvi_tg.datasets.synthetic import LAYOUTS
from prithvi_tg.errors import DataError


@pytest.fixture(autouse=True)
def _wide_tables(monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def root(flood_root, tmp_path):
    """A copy of the chips that a test may damage."""
    return shutil.copytree(flood_root, tmp_path / "data")


def splits(root):
    with (root / "splits.csv").open() as file:
        return {row["chip"]: row["split"] for row in csv.DictReader(file)}


def write_splits(root, rows):
    with (root / "splits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("chip", "split"), *rows])


def chips_of(root, split):
    return [chip for chip, other in splits(root).items() if other == split]


def image_of(root, chip):
    return root / Sen1Floods11.folder / "S2Hand" / f"{chip}_S2Hand.tif"


def label_of(root, chip):
    return root / Sen1Floods11.folder / "LabelHand" / f"{chip}_LabelHand.tif"


def rewrite(path, change, **profile):
    with rasterio.open(path) as source:
        values, known = source.read(), source.profile
    values = change(values)
    known |= {"count": len(values), "height": values.shape[1], "width": values.shape[2], **profile}
    with rasterio.open(path, "w", **known) as out:
        out.write(values)


def rewrite_all(root, change):
    for chip in splits(root):
        rewrite(image_of(root, chip), change)


def no_mask(root):
    label_of(root, chips_of(root, "val")[0]).unlink()


def truncated(root):
    path = image_of(root, chips_of(root, "train")[0])
    path.write_bytes(path.read_bytes()[:2000])


def other_shape(root):
    rewrite(label_of(root, chips_of(root, "train")[0]), lambda values: values[:, :-3])


def unknown_label(root):
    rewrite(label_of(root, chips_of(root, "train")[0]), lambda values: np.full_like(values, 5))


def band_missing(root):
    rewrite(image_of(root, chips_of(root, "train")[0]), lambda values: values[:-1])


def other_unit(root):
    rewrite_all(root, lambda values: (values // 100).astype(values.dtype))


def one_value(root):
    def flatten(values):
        values[1] = 1500  # blue
        return values

    rewrite_all(root, flatten)


def bands_reversed(root):
    def scramble(values):
        read = [1, 2, 3, 8, 11, 12]  # of Sentinel-2's thirteen
        values[read] = values[read[::-1]]
        return values

    rewrite_all(root, scramble)


def shared_name(root):
    write_splits(root, [*splits(root).items(), (chips_of(root, "train")[0], "test")])


def shared_pixels(root):
    chip = chips_of(root, "train")[0]
    for path in (image_of(root, chip), label_of(root, chip)):
        shutil.copy(path, path.with_name(path.name.replace(chip, "Renamed_0009")))
    write_splits(root, [*splits(root).items(), ("Renamed_0009", "test")])


def misaligned_mask(root):
    moved = rasterio.Affine(10, 0, 0, 0, -10, 0)
    rewrite(label_of(root, chips_of(root, "val")[0]), lambda values: values, transform=moved)


def no_data(root):
    rewrite(image_of(root, chips_of(root, "val")[0]), np.zeros_like)


def one_other_unit(root):
    rewrite(image_of(root, chips_of(root, "train")[0]), lambda values: np.minimum(values, 10))


def class_never_learnt(root):
    for chip in chips_of(root, "train"):
        rewrite(label_of(root, chip), lambda values: np.minimum(values, 0))


FAULTS = {
    no_mask: ("error", "the label file of chip"),
    truncated: ("error", "not a readable raster"),
    other_shape: ("error", "61 x 64 pixels"),
    unknown_label: ("error", "1 chip with labels that are not in classes: 5 (4096 pixels), such as"),
    band_missing: ("error", "has 12 bands, but 13 are expected"),
    other_unit: ("error", "times as large as the means in the statistics; the statistics are"),
    one_value: ("error", "BLUE: the same value in all pixels"),
    bands_reversed: ("error", "standard deviations off; in the order "),
    shared_name: ("error", "1 chip in both"),
    shared_pixels: ("error", "1 chip with the same pixels under two names"),
    misaligned_mask: ("error", "with labels that are not aligned with the image"),
    one_other_unit: ("error", "1 chip with values more than 20 times"),
    no_data: ("advice", "without any data"),
    class_never_learnt: ("error", "Water has no pixels, but is in val and test"),
}


@pytest.mark.version_independent
@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_faults_of_the_data_are_found(config, command, root, plant):
    plant(root)
    severity, words = FAULTS[plant]
    code, out, err = command(
        "check", "--config", config, "--data.root", root, "--data.splits", root / "splits.csv"
    )
    assert code == (1 if severity == "error" else 0), out + err
    line = next(line for line in out.splitlines() if words in line)
    assert severity in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data.batch_size", 50), "50 is larger than the number of crops in an epoch"),
        (("--model.init_args.weights", "no/such/file.pt"), "no/such/file.pt"),
        (("--model.init_args.class_weights", "[1, 2, 3]"), "3 weights for 2 classes"),
        (("--data.root", "no/such/folder"), "no/such/folder"),
    ],
)
def test_faults_of_the_configuration_are_found(config, command, arguments, words):
    code, out, err = command("check", "--config", config, *arguments)
    assert code == 1, out + err
    assert any("error" in line and words in line for line in out.splitlines()), out


def test_everything_else_is_checked_without_statistics(flood_root, command, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "model: {class_path: PrithviSegmentationTask, init_args: {encoder: nano, warmup_steps: 1}}\n"
        "data:\n  class_path: ChipFolderDataModule\n  init_args:\n"
        f"    images: {flood_root}/v1.1/data/flood_events/HandLabeled/S2Hand/*_S2Hand.tif\n"
        f"    labels: {flood_root}/v1.1/data/flood_events/HandLabeled/LabelHand/*_LabelHand.tif\n"
        f"    splits: {flood_root}/splits.csv\n    classes: {{0: Land, 1: Water}}\n    ignored_labels: [-1]\n"
        "    file_bands: [B1, B2, B3, B4, B5, B6, B7, B8, B8A, B9, B10, B11, B12]\n    sensor: sentinel2\n"
        "    batch_size: 2\n    crop_size: 32\n"
    )
    code, out, err = command("check", "--config", config)
    assert code == 1, out + err
    assert "prithvi-tg stats computes them" in " ".join(out.replace("│", " ").split())
    assert "3 chips, each with its label file" in out
    assert "band means" not in out


def test_labels_without_a_class_are_one_finding_with_advice(flood_root, command, tmp_path):
    hand = f"{flood_root}/v1.1/data/flood_events/HandLabeled"
    chips = {
        "images": f"{hand}/S2Hand/*_S2Hand.tif", "labels": f"{hand}/LabelHand/*_LabelHand.tif", "mean": [0.1],
        "splits": f"{flood_root}/splits.csv", "classes": {7: "Land", 8: "Water"}, "bands": ["BLUE"], "crop_size": 32,
        "file_bands": ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"],
        "sensor": "sentinel2", "scale": 1e-4, "batch_size": 2, "std": [0.1],
    }  # fmt: skip
    model = {"encoder": "nano", "encoder_args": TINY, "warmup_steps": 1}

    def write(**changes):
        path = tmp_path / "config.yaml"
        data = {"class_path": "ChipFolderDataModule", "init_args": chips | changes}
        path.write_text(
            yaml.safe_dump(
                {"model": {"class_path": "PrithviSegmentationTask", "init_args": model}, "data": data}
            )
        )
        return path

    code, out, _ = command("check", "--config", write())
    assert code == 1
    (line,) = [line for line in out.splitlines() if "with labels" in line and "train" in line]
    assert "3 chips with labels that are not in classes" in line
    assert "became" not in line  # -1 is how the dataset marks labels without a class
    assert "ignored_labels if they mean not labelled" in line
    assert "no pixels are labelled" not in out
    assert "random weights" in out
    _, out, _ = command("check", "--config", write(classes={0: "Land", 1: "Water"}, scale=1.0))
    (line,) = [line for line in out.splitlines() if "means in the statistics" in line and "train" in line]
    assert "are about 12000 times as large as the means in the statistics" in line
    assert "data.scale is 1; a scale of about 0.0001 would match the statistics" in line
    assert "offset" not in line
    code, _, err = command("fit", "--config", write(), "--trainer.default_root_dir", tmp_path)
    assert code == 1
    assert "not in classes; known labels: 7, 8; add them to classes, or to ignored_labels" in err
    assert "--skip_bad" not in err
    code, _, err = command("fit", "--config", write(classes=["Dry land", "Open water"]))
    assert (code, "map each stored value to a name, {0: Dry land, 1: Open water}" in err) == (2, True)
    code, _, err = command("fit", "--config", write(splits=str(tmp_path / "none.csv")))
    assert (code, "none.csv: no such file; splits is a CSV file with the header chip,split" in err) == (
        1,
        True,
    )
    _, out, _ = command("check", "--config", write(labels=f"{hand}/*.tif"))
    assert "none of the 3 label files exists: check folder, pattern, and the names of chips" in out
    path = write()
    path.write_text(path.read_text().replace("    splits:", "    #"))
    code, _, err = command("fit", "--config", path)
    message = (
        "splits: not given; it is a key of ChipFolderDataModule: A CSV file with columns chip and split: train, val "
        "(may be absent) or test"
    )
    assert (code, err) == (2, f"prithvi-tg: error: {message}\n")


def test_a_fault_of_all_chips_is_one_finding(config, command, root, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1200")
    for chip in splits(root):
        rewrite(label_of(root, chip), lambda values: values, nodata=0)
    truncated(root)
    code, out, _ = command("check", "--config", config, "--data.root", root)
    assert code == 1
    first, *others = [line for line in out.splitlines() if "train" in line and "error" in line]
    rows = [line for line in (first, *others) if "is the nodata tag of" in line]
    assert len(rows) == 1
    assert "2 chips, such as" in rows[0]
    assert "map the value to 255 in to_classes" in rows[0]
    assert "--skip_bad" not in rows[0]
    assert any("not a readable raster" in line and "--skip_bad" in line for line in (first, *others))
    assert "no pixels are labelled" not in out


def test_faults_that_differ_in_numbers_and_names_only_are_one_finding(config, command, root, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1200")
    for number, chip in enumerate(chips_of(root, "train")):
        rewrite(label_of(root, chip), lambda values, number=number: values[:, : -2 - number])
    _, out, _ = command("check", "--config", config, "--data.root", root)
    (row,) = [line for line in out.splitlines() if "mask has" in line]
    assert "3 chips, such as" in row


def test_chips_without_image_or_label_are_listed_and_the_others_are_checked(
    config, command, root, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "1200")
    first, second, _ = chips_of(root, "train")
    label_of(root, first).unlink()
    image_of(root, second).unlink()
    words = ("check", "--config", config, "--data.root", root, "--data.splits", root / "splits.csv")
    words += ("--data.batch_size", 1)
    code, out, _ = command(*words)
    assert code == 1
    rows = [line for line in out.splitlines() if "is missing" in line]
    assert [chip in row for chip, row in zip((first, second), rows, strict=True)] == [True, True]
    assert all("or skip it with --skip_bad" in row for row in rows)
    assert "classes of train" in out
    code, out, err = command(*words, "--skip_bad")
    assert code == 0, out
    assert f"Skipped: train chip {first}: {label_of(root, first)}: no such file" in out + err
    assert "1 chip, each with its label file" in out


def test_a_full_disk_is_found(config, command, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(check_command.shutil, "disk_usage", lambda path: usage(10, 10, 1000))
    code, out, _ = command("check", "--config", config)
    assert code == 1
    assert "0.0 GB are free" in out


def test_clean_chips_pass_and_are_described(config, command):
    code, out, err = command("check", "--config", config, "--model.warmup_steps", 0)
    assert code == 0, out + err
    assert "No errors." in out
    assert "│ advice" not in out
    assert "3 chips, each with its label file" in out
    assert "classes of train" in out


@pytest.mark.parametrize(
    ("layout", "kind"), [("hls_burn_scars", "HLSBurnScars"), ("multi_temporal_crop", "MultiTemporalCrop")]
)
def test_clean_chips_of_the_other_layouts_pass(command, tmp_path, layout, kind):
    root = LAYOUTS[layout](tmp_path / "data", 16, 64)
    config = tmp_path / "config.yaml"
    same = "same_splits: [[val, test]]"
    config.write_text(
        "model: {class_path: PrithviSegmentationTask, init_args: {encoder: nano, warmup_steps: 1}}\n"
        f"data: {{class_path: {kind}DataModule, init_args: {{root: {root}, batch_size: 2, crop_size: 64, {same}}}}}\n"
        f"trainer: {{default_root_dir: {tmp_path / 'runs'}, accelerator: cpu}}\n"
    )
    code, out, err = command("check", "--config", config)
    assert code == 0, out + err
    code, out, err = command("check", "--config", config, "--data.same_splits", "[]")
    assert code == 1
    assert "in both" in out


def test_further_splits_of_a_list_are_checked(root):
    test, train = chips_of(root, "test")[0], chips_of(root, "train")[0]
    further = [(test, f"east{number:02}") for number in range(12)]
    write_splits(root, [*splits(root).items(), *further, (train, "east00")])
    found = list(check_chips(Sen1Floods11DataModule(root, splits=root / "splits.csv")))
    subjects = {one.subject for one in found}
    assert {"classes of test", "classes of bolivia", "classes of east00", "classes of east08"} <= subjects
    assert "classes of east09" not in subjects
    (left,) = [one.message for one in found if one.subject == "splits"]
    assert left == "3 further splits not checked: east09, east10, east11"
    # Test sets may share chips with each other, but not with training.
    assert [one.subject for one in found if "in both" in one.message] == ["train, east00"]


def test_chips_of_two_splits_that_show_the_same_ground_are_named(command, tmp_path):
    root = LAYOUTS["hls_burn_scars"](tmp_path / "data", 9, 64)
    config = tmp_path / "config.yaml"
    config.write_text(
        "model: {class_path: PrithviSegmentationTask, init_args: {encoder: nano, warmup_steps: 1}}\n"
        f"data: {{class_path: HLSBurnScarsDataModule, init_args: {{root: {root}, batch_size: 2, crop_size: 64, "
        "same_splits: [[val, test]]}}\n"
        f"trainer: {{default_root_dir: {tmp_path / 'runs'}, accelerator: cpu}}\n"
    )
    code, out, err = command("check", "--config", config)
    assert code == 0, out + err
    assert "show ground" not in out  # neighbours touch
    trained = sorted((root / "training").glob("*_merged.tif"))[0]
    with rasterio.open(trained) as source:
        place = source.transform
    moved = sorted((root / "validation").glob("*_merged.tif"))[0]
    for path in (moved, moved.with_name(moved.name.replace("_merged", ".mask"))):
        with rasterio.open(path, "r+") as target:
            target.transform = place * place.translation(32, 0)
    code, out, err = command("check", "--config", config)
    assert code == 0, out + err
    line = next(line for line in out.splitlines() if "cover ground" in line)
    assert "train, val" in line
    assert "1 of 3 chips of val cover ground that chips of train also cover" in line
    assert moved.name.removesuffix("_merged.tif") in line
    assert "splits: non_overlapping" in line


def test_the_table_of_a_file_or_pipe_has_120_columns_and_all_words(config, command, root, monkeypatch):
    other_unit(root)
    monkeypatch.chdir(root.parent)
    words = ("check", "--config", config, "--data.root", "data", "--data.splits", "data/splits.csv")
    words += ("--trainer.default_root_dir", "runs")
    rows = []
    for columns in (None, "600"):
        monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS")
        lines = command(*words)[1].splitlines()
        cells = [line.strip("│").split("│") for line in lines if line.startswith("│")]
        rows.append([" ".join(" ".join(column).split()) for column in zip(*cells, strict=True)])
        width = max(map(len, lines))
        assert width == 120 if columns is None else width > 250
    assert rows[0] == rows[1]


@pytest.mark.parametrize("columns", [None, 80])
def test_the_table_breaks_no_path_in_a_file_or_pipe_unless_columns_are_given(
    root, command, monkeypatch, columns
):
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(columns))
    write_splits(root, [("missing", "train")])
    _, out, _ = command(
        "check",
        "--config",
        "configs/sen1floods11.yaml",
        "--data.root",
        root,
        "--data.splits",
        root / "splits.csv",
        "--model.weights",
        "null",
    )
    if columns is None:
        assert str(root) in out
    else:
        assert max(map(len, out.splitlines())) == columns


def test_the_advice_of_an_error_has_a_column_of_its_own():
    finding = Finding.of_error("train", DataError("a.tif: contains 7; known labels: 1; add it to classes"))
    assert (finding.message, finding.advice) == ("a.tif: contains 7; known labels: 1", "add it to classes")
    assert Finding.of_error("train", DataError("a.tif: broken")).message == "a.tif: broken"


@pytest.mark.parametrize(
    ("monitor", "hint"),
    [("val_nothing", "validation logs val_loss, val_"), ("val_mIuO", "did you mean val_mIoU?")],
)
def test_a_monitor_that_validation_does_not_log_is_an_error_as_in_fit(config, command, monitor, hint):
    code, out, _ = command("check", "--config", config, "--model.monitor", monitor)
    assert code == 1
    assert f"monitor: '{monitor}' is not logged" in out
    assert hint in out


@pytest.mark.parametrize("monitor", ["val_loss", "val_mIoU", "val_mDice", "val_IoU_Water"])
def test_a_monitor_that_validation_logs_is_no_error(config, command, monitor):
    code, out, _ = command("check", "--config", config, "--model.monitor", monitor)
    assert "not logged" not in out
    assert code == 0


@pytest.mark.parametrize("name", ["check", "stats"])
def test_several_configurations_may_have_a_model(root, tmp_path, command, name):
    for number, key in enumerate(("lr: 1.0e-3", "class_weights: [1, 2]")):
        text = f"model:\n  class_path: PrithviSegmentationTask\n  init_args: {{encoder: nano, {key}}}\n"
        (tmp_path / f"{number}.yaml").write_text(text)
    code, out, err = command(
        name, "--config", "configs/sen1floods11.yaml", "--data.root", root, "--data.splits", root / "splits.csv",
        "--data.batch_size", 2, "--config", tmp_path / "0.yaml", "--config", tmp_path / "1.yaml",
        "--model.weights", "null",
    )  # fmt: skip
    assert code == 0, out + err
