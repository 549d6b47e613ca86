"""Chips in files that are no rasters train through the real commands, with the methods that the documentation names."""

import io
import json
import re

import numpy as np
import pytest
import rasterio
import torch
import yaml
from conftest import TINY

from prithvi_tg.checks import check_chips
from prithvi_tg.checks.surveys import survey_chips
from prithvi_tg.commands.stats import training_statistics
from prithvi_tg.datamodules import ChipDataModule, ChipFolderDataModule
from prithvi_tg.datasets import Chip, ChipDataset, ChipFolder, ClassifiedChips, ValueChipFolder
from prithvi_tg.errors import ConfigError, DataError, UnknownLabelError
from prithvi_tg.readers.labels import label_counts

BANDS = ["RED_EDGE_1", "NIR_BROAD"]
SIDE = 32
SPLITS = {"train": "abcd", "val": "ef", "test": "gh"}
STATISTICS = {"bands": BANDS, "mean": [0.05, 0.2], "std": [0.02, 0.1]}


class Arrays(ChipDataset):
    """Images ``NAME.npy`` of three bands and labels ``NAME_label.npy`` of stored values 0, 10 and -1."""

    file_bands = ("RED_EDGE_1", "RED", "NIR_BROAD")
    scale = 1e-4
    nodata = (0.0,)
    class_names = ("Land", "Water")

    def find_chips(self):
        return [Chip(n, self.root / f"{n}.npy", self.root / f"{n}_label.npy") for n in SPLITS[self.split]]

    def to_classes(self, stored):
        return np.where(stored == -1, 255, stored // 10)

    def load_image(self, path):
        return np.load(path)

    def load_mask(self, path):
        return np.load(path)


class FinishedArrays(Arrays):
    """The same chips with values in their unit, selected bands, and classes."""

    load_image = ChipDataset.load_image
    load_mask = ChipDataset.load_mask

    def read_image(self, path):
        stored = np.load(path)[[self.file_bands.index(band) for band in self.spec.input.bands]]
        return (stored.astype(np.float32) * 1e-4)[None], (stored != 0)[None]

    def read_mask(self, path):
        return self.to_classes(np.load(path))


KINDS = [Arrays, FinishedArrays]


@pytest.fixture
def root(tmp_path):
    random = np.random.default_rng(0)
    for name in "".join(SPLITS.values()):
        label = random.choice([0, 10, -1], (SIDE, SIDE), p=[0.5, 0.4, 0.1]).astype(np.int16)
        image = random.integers(200, 900, (3, SIDE, SIDE)).astype(np.int16)
        image[2] += np.where(label == 10, 0, 3000).astype(np.int16)
        image[:, :3] = 0
        np.save(tmp_path / f"{name}.npy", image)
        np.save(tmp_path / f"{name}_label.npy", label)
    return tmp_path


def configure(root, kind, **changes):
    settings = {
        "model": {
            "class_path": "PrithviSegmentationTask",
            "init_args": {
                "encoder": "nano",
                "encoder_args": TINY,
                "head_channels": 8,
                "window": 32,
                "warmup_steps": 1,
            },
        },
        "data": {
            "class_path": "ChipDataModule",
            "init_args": {
                "dataset_class": f"{__name__}.{kind.__name__}",
                "root": str(root),
                "bands": BANDS,
                "crop_size": 32,
                "batch_size": 2,
                **changes,
            },
        },
        "trainer": {
            "default_root_dir": str(root / "runs"),
            "max_epochs": 1,
            "accelerator": "cpu",
            "enable_progress_bar": False,
        },
    }
    path = root / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def first_batches(root, kind, cache):
    torch.manual_seed(0)
    data = ChipDataModule(
        kind, root, cache=cache, crop_size=24, batch_size=2, random_flip_rot90=False, **STATISTICS
    )
    data.setup("fit")
    if cache == "ram":
        assert data.train_dataset.datasets[0].cache is not None
    return [
        batch
        for _ in range(2)
        for loader in (data.train_dataloader(), data.val_dataloader())
        for batch in loader
    ]


@pytest.mark.version_independent
@pytest.mark.parametrize(("kind", "cache"), zip(KINDS, ("ram", "none"), strict=True))
def test_every_command_works_with_files_that_are_no_rasters(root, command, monkeypatch, kind, cache):
    monkeypatch.setenv("COLUMNS", "400")
    config = configure(root, kind)
    code, out, err = command("stats", "--config", config)
    assert code == 0, err
    found = yaml.safe_load(out)["data"]["init_args"]
    stored = np.stack([np.load(root / f"{name}.npy") for name in SPLITS["train"]])[:, [0, 2], 3:] * 1e-4
    assert found["mean"] == pytest.approx(stored.mean((0, 2, 3)), rel=1e-4)
    assert found["std"] == pytest.approx(stored.std((0, 2, 3)), rel=1e-4)

    config = configure(root, kind, mean=found["mean"], std=found["std"])
    code, out, err = command("check", "--config", config)
    assert code == 0, out
    assert "No errors." in out
    code, _, err = command("fit", "--config", config, "--data.cache", cache)
    assert code == 0, err
    run = root / "runs" / "version_0"
    checkpoint = run / "checkpoints" / "best.ckpt"
    code, _, err = command("test", "--config", config, "--ckpt_path", checkpoint)
    assert code == 0, err
    assert json.loads((run / "metrics.json").read_text())["overall"]["mIoU"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_equal_with_and_without_cache(root, kind):
    plain, cached = (first_batches(root, kind, cache) for cache in ("none", "ram"))
    assert len(plain) == len(cached) == 8
    for one, other in zip(plain, cached, strict=True):
        assert one.keys() == other.keys()
        for key in ("image", "mask", "valid"):
            if key in one:
                assert torch.equal(one[key], other[key])


def test_stored_arrays_and_finished_arrays_give_the_same_samples(root):
    stored, finished = (kind(root, **STATISTICS)[1] for kind in KINDS)
    for key in ("image", "valid", "mask"):
        torch.testing.assert_close(stored[key], finished[key])
    assert stored["image"].shape == (1, 2, SIDE, SIDE)
    assert torch.equal(stored["image"][0, :, 0, 0], torch.tensor(STATISTICS["mean"]))  # nodata
    assert sorted(stored["mask"].unique().tolist()) == [0, 1, 255]


@pytest.mark.parametrize("kind", KINDS)
def test_place_and_size_need_no_raster(root, kind):
    dataset = kind(root, metadata=True, **STATISTICS)
    assert dataset.pixel_size is None
    metadata = dataset.read_metadata(dataset.chips[0])
    assert metadata["timestamps"].isnan().all()
    assert metadata["location"].isnan().all()
    assert dataset[0]["location"].isnan().all()
    width = 2 if kind is Arrays else 4
    assert dataset.stored_bytes() == 4 * SIDE * SIDE * (2 * width + 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a",
            np.zeros((SIDE, SIDE, 3)),
            r"a\.npy: load_image returned an array \(32, 32, 3\); \(3, H, W\) is expected: the 3 bands of file_bands, "
            r"then rows and columns; return np\.moveaxis\(array, -1, 0\); prithvi",
        ),
        ("a", np.zeros((4, SIDE, SIDE)), r"an array \(4, 32, 32\); \(3, H, W\) .* then rows and columns; prithvi-tg"),
        (
            "a_label",
            np.zeros((SIDE // 2, SIDE)),
            r"a_label\.npy: mask has 16 x 32 pixels \(rows x columns\), image a\.npy has 32 x 32; both must",
        ),
        ("a", np.array(["x"]), r"a\.npy: load_image returned values of type <U1; real numbers are expected"),
        ("a_label", np.zeros((2, SIDE, SIDE)), r"a_label\.npy: load_mask returned an array \(2, 32, 32\); \(H, W\)"),
        ("a_label", np.full((SIDE, SIDE), 0.5), r"a_label\.npy: label 0\.5 is not a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_array_is_an_error_that_names_file_and_method(root, name, content, message):
    np.save(root / f"{name}.npy", content)
    with pytest.raises(DataError, match=message):
        Arrays(root, **STATISTICS)[0]


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        (None, ConfigError, r"returned None for split val; return a list of Chip\(name, image, mask\)$"),
        (3, ConfigError, "returned an object of type int for split val; return a list of Chip"),
        ([("a.npy", "a_label.npy")], ConfigError, "returned a list of tuple for split val; return a list of Chip"),
        ([Chip("a", "a.npy", None)], ConfigError, "mask of chip a is None, not a path; return a list of Chip"),
        ([], DataError, "found no chips of split val in .*; check the folder"),
        ([Chip("a", "a.npy", "m.npy"), Chip("a", "b.npy", "m.npy")], DataError, "2 chips of split val are named a;"),
    ],
)  # fmt: skip
def test_a_wrong_result_of_find_chips_is_an_error_that_names_the_method(root, found, error, message):
    class Wrong(Arrays):
        def find_chips(self):
            return found

    with pytest.raises(error, match=rf"^{__name__}\.test_a_wrong.*\.Wrong\.find_chips: {message}"):
        Wrong(root, "val", **STATISTICS)


class WithoutReturn(Arrays):
    """A class with a common mistake."""

    def find_chips(self):
        super().find_chips()


def test_check_and_fit_report_a_wrong_result_of_find_chips_in_one_line(root, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    config = configure(root, WithoutReturn, **{key: STATISTICS[key] for key in ("mean", "std")})
    message = "WithoutReturn.find_chips: returned None for split val"
    code, out, _ = command("check", "--config", config)
    assert code == 1
    assert message in out
    code, _, err = command("fit", "--config", config)
    assert code == 2
    assert message in err.strip().splitlines()[-1]


def test_find_chips_may_return_paths_as_text(root):
    class Text(Arrays):
        def find_chips(self):
            return (Chip(chip.name, str(chip.image), str(chip.mask)) for chip in super().find_chips())

    assert torch.equal(Text(root, **STATISTICS)[0]["image"], Arrays(root, **STATISTICS)[0]["image"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_unreadable_array_is_named_and_can_be_skipped(root, command, kind):
    (root / "a.npy").write_bytes(b"not an array")
    with pytest.raises(DataError, match=r"a\.npy: cannot be read \("):
        kind(root, **STATISTICS)[0]
    dataset = kind(root, **STATISTICS)
    assert list(dataset.leave_out_bad()) == ["a"]


def with_mistake(method, code):
    """A class whose method runs a mistaken function."""
    return type("Mistaken", (Arrays,), {"__module__": __name__, method: lambda self, *_: code()})


@pytest.mark.parametrize(
    "method", ["find_chips", "load_image", "load_mask", "to_classes", "dates", "read_metadata"]
)
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (lambda: {}["x"], "KeyError: 'x'"),
        (lambda: archive()["x"], "KeyError: 'x is not a file in the archive'"),
        (lambda: np.zeros(3).foo, "AttributeError: .* has no attribute 'foo'"),
        (lambda: np.moveaxis(np.zeros(3), 0, 7), "AxisError: .*"),
        (lambda: int("1.5"), "ValueError: invalid literal .*"),
    ],
)
def test_an_error_in_a_method_of_a_users_class_names_method_exception_and_line(root, method, code, error):
    line = code.__code__.co_firstlineno
    file = rf", for {re.escape(str(root))}/a(_label)?\.npy" if method.startswith("load") else ""
    with pytest.raises(
        ConfigError,
        match=rf"^{__name__}\.Mistaken\.{method}: {error} \(test_array_chips\.py, line {line}\){file}$",
    ):
        with_mistake(method, code)(root, metadata=True, **STATISTICS)[0]


class Scaled(Arrays):
    """A class with a wrong scale."""

    scale = 1.0


class ScaledFolder(ChipFolder):
    """A class that takes its scale from the configuration."""

    def load_image(self, path):
        return np.load(path)

    def load_mask(self, path):
        return np.load(path)


@pytest.mark.parametrize(
    ("kind", "factor", "advice"),
    [
        (Scaled, 1, r"^Scaled\.scale is 1; a scale of about 0\.0001 would match the statistics; correct it in the"),
        (FinishedArrays, 1e-3, "^values that read_image returns are about 1000 times too large; correct it, or the st"),
        (FinishedArrays, 1e3, "^values that read_image returns are about 1000 times too small; correct it, or the st"),
        (ScaledFolder, 1, r"^data\.scale is 1; a scale of about 0\.0001 would match the statistics$"),
    ],
)  # fmt: skip
def test_check_names_the_scale_that_is_wrong(root, kind, factor, advice):
    statistics = {"mean": [0.05 * factor, 0.2 * factor], "std": [0.02 * factor, 0.1 * factor], "bands": BANDS}
    if kind is ScaledFolder:
        rows = [f"{name},{split}" for split, names in SPLITS.items() for name in names]
        (root / "splits.csv").write_text("\n".join(["chip,split", *rows]))
        data = ChipFolderDataModule(
            f"{root}/*.npy", f"{root}/*_label.npy", root / "splits.csv", {0: "Land", 10: "Water"},
            statistics.pop("bands"),
            file_bands=Arrays.file_bands, ignored_labels=[-1], nodata=[0], dataset_class=kind, **statistics,
        )  # fmt: skip
    else:
        data = ChipDataModule(kind, root, **statistics)
    found = [one for one in check_chips(data) if "means in the statistics" in one.message]
    assert [one.subject for one in found] == ["train", "val", "test"]
    assert all(re.search(advice, one.advice) for one in found), found[0]


class Sites(Arrays):
    """A class with an argument of its own."""

    def __init__(self, *args, test_site="A", **kwargs):
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize("key", ["test_site", "hemisphere"])
def test_an_argument_of_an_own_class_that_is_no_key_is_directed_to_dict_kwargs(root, command, key):
    config = configure(root, Sites, **{key: STATISTICS[key] for key in ("mean", "std")})
    code, _, err = command("check", "--config", config, f"--data.{key}", "C")
    advice = f"; arguments of your dataset class go under dict_kwargs: --data.dict_kwargs.{key} VALUE"
    assert (code, err.strip().endswith(advice)) == (2, True), err
    assert f"error: {key}: unknown key; " in err
    code, _, err = command("check", "--config", config, "--data.dict_kwargs.test_site", "C")
    assert code == 0, err


def found_in(root, kind, words):
    """The findings about an own class whose message has these words."""
    return [one for one in check_chips(ChipDataModule(kind, root, **STATISTICS)) if words in one.message]


def test_a_mistake_in_find_chips_is_found_with_advice(root):
    finding = found_in(root, with_mistake("find_chips", lambda: {}["x"]), "find_chips: KeyError")[0]
    assert finding.advice == "correct this method of your class"


class WithoutNodata(Arrays):
    nodata = ()


class OtherNodata(Arrays):
    nodata = (-1.0,)


class UnmarkedArrays(FinishedArrays):
    def read_image(self, path):
        image, valid = super().read_image(path)
        return image, np.ones_like(valid)


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (WithoutNodata, "set nodata = (-9999,) in WithoutNodata"),
        (OtherNodata, "set nodata = (-1, -9999) in OtherNodata"),
        (UnmarkedArrays, "mark it in the mask that UnmarkedArrays.read_image returns"),
    ],
)
def test_advice_about_nodata_names_the_class_that_sets_it(root, kind, advice):
    for path in root.glob("?.npy"):
        image = np.load(path)
        image[:, :3] = -9999
        np.save(path, image)
    data = ChipDataModule(kind, root, bands=Arrays.file_bands, mean=[0.05, 0.05, 0.2], std=[0.02, 0.02, 0.1])
    finding, *_ = [one for one in check_chips(data) if "in all bands" in one.message]
    assert finding.advice == f"if this value means nodata, {advice}, and repeat stats"
    with pytest.warns(UserWarning, match=re.escape(f"if this value means nodata, {advice}")):
        training_statistics(data.open_split("train"), data.spec)


def test_advice_about_labels_names_the_method_that_converts_them(root):
    np.save(root / "a_label.npy", np.full((SIDE, SIDE), 50, np.int16))
    (finding,) = found_in(root, Arrays, "labels that are not in classes")
    assert finding.advice == (
        "convert them in Arrays.to_classes to the numbers of the classes, or to 255 if they mean not labelled; or add "
        "them to class_names"
    )


def archive():
    """An open .npz file without the array ``x``."""
    file = io.BytesIO()
    np.savez(file, y=np.zeros(3))
    file.seek(0)
    return np.load(file)


class MistakenLabels(Arrays):
    """A class with a mistake in the conversion of labels."""

    def to_classes(self, stored):
        return stored.foo


def test_check_lists_errors_of_own_methods_without_the_advice_to_repair_files(root, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    statistics = {key: STATISTICS[key] for key in ("mean", "std")}
    code, out, err = command("check", "--config", configure(root, MistakenLabels, **statistics))
    assert code == 1
    assert "4 chips, such as a: " in out, err
    assert (
        "MistakenLabels.to_classes: AttributeError: 'numpy.ndarray' object has no attribute 'foo' (test_"
        in out
    )
    assert "repair" not in out
    assert any(
        "MistakenLabels" in line and "correct this method of your class" in line for line in out.splitlines()
    )
    assert "parameters; random weights" in out
    for workers in (0, 1):
        config = configure(
            root, MistakenLabels, skip_bad=True, num_workers=workers, cache="none", **statistics
        )
        code, _, err = command("fit", "--config", config)
        assert code == 2
        assert "MistakenLabels.to_classes: AttributeError" in err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (lambda: np.load("absent.npy"), r"a\.npy: cannot be read \(.*No such file"),
        (lambda: np.load(io.BytesIO(b"not an array")), r"a\.npy: cannot be read \("),
        (lambda: json.loads("{"), r"a\.npy: cannot be read \(Expecting property name"),
    ],
)
def test_what_a_library_raises_while_it_reads_is_an_error_of_the_file(root, code, message):
    with pytest.raises(DataError, match=message):
        with_mistake("load_image", code)(root, **STATISTICS)[0]


@pytest.mark.parametrize(
    ("method", "returned", "message"),
    [
        (
            "to_classes",
            None,
            r"to_classes: returned None; return class numbers and 255 in the shape of the stored",
        ),
        (
            "to_classes",
            np.zeros(3),
            r"to_classes: returned an array \(3,\) of type float64; return class numbers",
        ),
        (
            "dates",
            None,
            r"dates: returned None; return a list with a datetime\.date or None for each of the 1 frame",
        ),
        (
            "to_classes",
            np.full((SIDE, SIDE), 0.5),
            r"to_classes: returned 0\.5; return whole numbers: classes, and 255",
        ),
        ("dates", ["2024-01-01"], r"dates: returned \['2024-01-01'\]; return a list with a datetime\.date"),
        ("read_image", None, r"a\.npy: read_image returned None; an image and a mask"),
    ],
)
def test_a_method_that_returns_something_else_is_an_error(root, method, returned, message):
    with pytest.raises(ConfigError, match=message):
        with_mistake(method, lambda: returned)(root, metadata=True, **STATISTICS)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_are_no_class_are_counted(root, kind):
    np.save(root / "a_label.npy", np.full((SIDE, SIDE), 30))
    message = {
        Arrays: r"stored label 30 \(1024 pixels\) became 3 in to_classes, not one of the 2 classes \(0 ",
        FinishedArrays: r"label 3 \(1024 pixels\) is not one of the 2 classes \(0 ",
    }
    with pytest.raises(UnknownLabelError, match=rf"a_label\.npy: {message[kind]}"):
        kind(root, **STATISTICS)[0]


def test_several_labels_that_are_no_class_are_listed_in_order(root):
    np.save(root / "a_label.npy", np.repeat([[30, 20, 100, 10]], 32, axis=0).repeat(8, axis=1))
    with pytest.raises(
        UnknownLabelError,
        match=r"stored labels 20 \(256 pixels\) became 2 in to_classes, 30 \(256 pixels\) became 3 in to_classes and "
        r"100 \(256 pixels\) became 10 in to_classes, not among the 2 classes \(0 Land, 1 Water\); map",
    ):
        Arrays(root, **STATISTICS)[0]
    with pytest.raises(
        UnknownLabelError,
        match=r"labels 2 \(256 pixels\), 3 \(256 pixels\) and 10 \(256 pixels\) are not among the 2 classes \(0 Land",
    ):
        FinishedArrays(root, **STATISTICS)[0]
    assert label_counts({30: 2, -1: 9, 10: 5}) == "-1 (9 pixels), 10 (5 pixels) and 30 (2 pixels)"
    many = {number: 20 - number for number in range(13)}
    assert label_counts(many).endswith(", 9 (11 pixels) and 3 more")


def test_image_and_mask_of_one_file_are_told_apart(root):
    class Archives(Arrays):
        def find_chips(self):
            return [Chip("a", self.root / "a.npz", self.root / "a.npz")]

        def load_image(self, path):
            return np.load(path)["image"]

        def load_mask(self, path):
            return np.load(path)["mask"]

    np.savez(root / "a.npz", image=np.ones((3, SIDE, SIDE)), mask=np.zeros((SIDE, SIDE)))
    assert found_in(root, Archives, "each with")[0].message == "1 chip, each with labels"
    np.savez(root / "a.npz", image=np.ones((3, SIDE, SIDE)), mask=np.zeros((SIDE // 2, SIDE)))
    with pytest.raises(
        DataError, match=r"a\.npz: mask has 16 x 32 pixels \(rows x columns\), image has 32 x 32; both must"
    ):
        Archives(root, **STATISTICS)[0]


def test_rasters_with_other_bands_than_an_own_class_describes_name_its_bands(root):
    class Rasters(Arrays):
        load_image = ChipDataset.load_image

        def find_chips(self):
            return [Chip(name, self.root / f"{name}.tif", self.root / "a_label.npy") for name in "ab"]

    for name in "ab":
        with rasterio.open(
            root / f"{name}.tif", "w", driver="GTiff", count=4, height=SIDE, width=SIDE, dtype="int16"
        ) as file:
            file.write(np.ones((4, SIDE, SIDE), np.int16))
    with pytest.raises(
        DataError,
        match=r"a\.tif: has 4 bands, but 3 are expected \(bands: RED_EDGE_1, RED, NIR_BROAD\); set file_bands and num_"
        "frames of Rasters to the bands of a file$",
    ):
        Rasters(root, **STATISTICS)[0]


def test_a_class_number_below_0_is_ascribed_to_the_conversion_and_not_to_the_stored_label(root):
    class Shifted(Arrays):
        def to_classes(self, stored):
            return np.where(stored == 0, -1, super().to_classes(stored))

    labels = np.full((SIDE, SIDE), 10)
    labels[0, 0] = 0
    np.save(root / "a_label.npy", labels)
    with pytest.raises(
        UnknownLabelError, match=r"stored label 0 \(1 pixel\) became -1 in to_classes, not one"
    ) as caught:
        Shifted(root, **STATISTICS)[0]
    assert (caught.value.counts, caught.value.converted) == ({0: 1}, {0: -1})
    survey = survey_chips(Shifted(root, **STATISTICS))
    assert (survey.mislabelled[0], survey.converted) == ("a", {0: -1})


def test_labels_of_floats_have_nan_where_not_labelled(root):
    label = np.full((SIDE, SIDE), 10.0)
    label[5] = np.nan
    np.save(root / "a_label.npy", label)
    mask = Arrays(root, **STATISTICS)[0]["mask"]
    assert (mask[5] == 255).all()
    assert (mask[6] == 1).all()


def test_nan_of_to_classes_means_not_labelled(root):
    label = np.zeros((SIDE, SIDE))
    label[5] = 30
    np.save(root / "a_label.npy", label)

    class Nan(Arrays):
        def to_classes(self, stored):
            return np.where(stored == 30, np.nan, 1)

    mask = Nan(root, **STATISTICS)[0]["mask"]
    assert mask.dtype == torch.int64
    assert (mask[5] == 255).all()
    assert (mask[6] == 1).all()


@pytest.mark.parametrize(
    ("name", "value", "example"),
    [
        ("nodata", -9999, "(-9999,)"),
        ("scale", "1e-4", "1e-4"),
        ("class_names", "Water", '("Water",)'),
        ("class_colors", "#ffffff", '("#2166ac",)'),
        ("file_bands", "RED", '("RED", "NIR_BROAD")'),
        ("num_frames", 0, "1"),
    ],
)
def test_an_attribute_of_the_wrong_type_is_an_error_with_an_example(root, name, value, example):
    wrong = type("Wrong", (Arrays,), {name: value})
    with pytest.raises(ConfigError) as caught:
        wrong(root, **STATISTICS)
    path = f"{wrong.__module__}.Wrong.{name}"
    assert str(caught.value) == f"{path}: {value!r} is not valid; write, for example, {name} = {example}"


def test_a_root_that_does_not_exist_is_named(root):
    class Globbed(Arrays):
        def find_chips(self):
            return [Chip(path.stem, path, path) for path in self.root.glob("*.npy")]

    with pytest.raises(DataError, match=r"^root: .*gone: no such folder$"):
        Globbed(root / "gone", **STATISTICS)


def test_a_wrong_result_of_read_image_is_explained(root):
    class Flat(FinishedArrays):
        def read_image(self, path):
            image, valid = super().read_image(path)
            return image[0], valid

    with pytest.raises(
        DataError, match=r"a\.npy: read_image returned an image \(2, 32, 32\) and a mask \(1, 2, 32"
    ):
        Flat(root, **STATISTICS)[0]


def test_an_override_can_change_what_the_base_class_reads(root):
    class Brighter(Arrays):
        def read_image(self, path):
            image, valid = super().read_image(path)
            image[0, 1, 10, 10] = np.nan
            return image * 2, valid

    plain, brighter = Arrays(root, **STATISTICS)[0], Brighter(root, **STATISTICS)[0]
    assert torch.equal(brighter["image"][0, :, 20], 2 * plain["image"][0, :, 20])
    assert not brighter["valid"][0, 1, 10, 10]
    assert brighter["meaningless"] == 1


def test_chips_of_a_table_of_classes_can_be_arrays(root):
    class Labelled(ClassifiedChips):
        def load_image(self, path):
            return np.load(path)

    (root / "labels.csv").write_text("chip,class,split\na,Land,train\nb,Water,train\n")
    dataset = Labelled(
        f"{root}/*.npy",
        ["Land", "Water"],
        labels=root / "labels.csv",
        file_bands=Arrays.file_bands,
        **STATISTICS,
    )
    assert [int(dataset[number]["label"]) for number in range(2)] == [0, 1]
    assert dataset[0]["image"].shape == (1, 2, SIDE, SIDE)


class ClassifiedArrays(ClassifiedChips):
    """Chips of a class in .npy files."""

    def load_image(self, path):
        return np.load(path)


class ValueArrays(ValueChipFolder):
    """Chips and values in .npy files; -9 is not labelled."""

    def load_image(self, path):
        return np.load(path)

    def load_mask(self, path):
        values = np.load(path).astype("float32")
        return np.where(values == -9, np.nan, values)


def run_all(command, path, folder):
    for words in (("check",), ("stats",), ("fit", "--name", "run")):
        code, out, err = command(words[0], "--config", path, *words[1:])
        assert code == 0, (words, out, err)
    checkpoint = next((folder / "runs" / "run").rglob("best.ckpt"))
    code, out, err = command("test", "--config", path, "--ckpt_path", checkpoint)
    assert code == 0, err
    return out


@pytest.mark.version_independent
def test_chips_of_a_class_may_be_arrays(root, command):
    random = np.random.default_rng(0)
    for kind, level in (("Dry", 0), ("Wet", 3000)):
        (root / kind).mkdir()
        for number in range(8):
            image = random.integers(200, 900, (3, SIDE, SIDE)) + level
            np.save(root / kind / f"{kind}{number}.npy", image.astype(np.int16))
    path = configure(root, Arrays)
    settings = yaml.safe_load(path.read_text())
    settings["model"] = {
        "class_path": "PrithviClassificationTask",
        "init_args": {"encoder": "nano", "encoder_args": TINY, "warmup_steps": 1},
    }
    settings["data"] = {
        "class_path": "ClassifiedChipsDataModule",
        "init_args": {
            "dataset_class": f"{__name__}.ClassifiedArrays", "images": str(root / "*/*.npy"), "batch_size": 2,
            "classes": ["Dry", "Wet"], "file_bands": list(Arrays.file_bands), "scale": 1e-4, **STATISTICS,
        },
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings))
    assert "Wet" in run_all(command, path, root)


@pytest.mark.version_independent
def test_chips_with_values_may_be_arrays(root, command):
    random = np.random.default_rng(0)
    for name in "".join(SPLITS.values()):
        values = random.integers(0, 300, (SIDE, SIDE)).astype(np.int16)
        values[5] = -9
        np.save(root / f"{name}_label.npy", values)
    (root / "splits.csv").write_text(
        "chip,split\n" + "".join(f"{name},{split}\n" for split, names in SPLITS.items() for name in names)
    )
    made = {
        "images": str(root / "*.npy"), "labels": str(root / "*_label.npy"), "splits": str(root / "splits.csv"),
        "values": ["height"], "units": ["m"], "value_scale": 0.1, "valid_range": [0, 30], "scale": 1e-4,
        "file_bands": list(Arrays.file_bands), "value_mean": [15.0], "value_std": [9.0], **STATISTICS,
    }  # fmt: skip
    sample = ValueArrays(**made)[0]
    assert sample["mask"][5].isnan().all()
    np.testing.assert_allclose(sample["mask"][6], np.load(root / "a_label.npy")[6] * 0.1, rtol=1e-5)
    with pytest.raises(DataError, match=r"values up to 29\.\d lie outside valid_range, 0 to 20; widen"):
        ValueArrays(**made | {"valid_range": (0, 20)})[0]
    values[5] = -999
    np.save(root / "a_label.npy", values)
    with pytest.raises(
        DataError, match=r"value -99\.9 \(stored as -999\) .* return NaN instead of -999 in load_mask"
    ):
        ValueArrays(**made)[0]
    assert ValueArrays(**made, ignored_labels=[-999])[0]["mask"][5].isnan().all()
    values[5] = -9
    np.save(root / "a_label.npy", values)
    with pytest.raises(DataError, match=r"load_mask returned an array \(32, 32\); \(2, H, W\) is expected"):
        ValueArrays(
            **made
            | {"values": ["a", "b"], "units": [], "value_mean": [], "value_std": [], "valid_range": None}
        )[0]
    path = configure(root, Arrays)
    settings = yaml.safe_load(path.read_text())
    settings["model"]["class_path"] = "PrithviPixelwiseRegressionTask"
    settings["data"] = {
        "class_path": "ValueChipFolderDataModule",
        "init_args": {"dataset_class": f"{__name__}.ValueArrays", "batch_size": 2, "crop_size": 32, **made},
    }
    path.write_text(yaml.safe_dump(settings))
    assert "height" in run_all(command, path, root)
