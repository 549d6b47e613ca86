import shutil

import numpy as np
import pytest
import rasterio
import torch
from matplotlib.figure import Figure
from torchgeo.datasets import NonGeoDataset

from prithvi_tg import Sen1Floods11, Sen1Floods11DataModule
from prithvi_tg.augmentations import ChipAugmentation
from prithvi_tg.datasets.chips.base import read_splits
from prithvi_tg.errors import ConfigError, DataError


@pytest.fixture
def root(flood_root, tmp_path):
    """A copy of the synthetic chips that a test may damage."""
    return shutil.copytree(flood_root, tmp_path / "floods")


def open_split(root, split="test", **arguments):
    return Sen1Floods11(root, split, root / "splits.csv", **arguments)


def files(root, chip):
    folder = root / Sen1Floods11.folder
    return folder / "S2Hand" / f"{chip}_S2Hand.tif", folder / "LabelHand" / f"{chip}_LabelHand.tif"


def rewrite(path, change=lambda values: values, **profile):
    with rasterio.open(path) as source:
        values, kept = source.read(), source.profile
    values = change(values)
    kept.update(count=values.shape[0], height=values.shape[1], width=values.shape[2], **profile)
    with rasterio.open(path, "w", **kept) as out:
        out.write(values)


def test_published_lists_have_the_published_lengths():
    from importlib.resources import files as package_files

    lists = read_splits(str(package_files("prithvi_tg.datasets.chips") / "splits" / "sen1floods11.csv"))
    assert {split: len(names) for split, names in lists.items()} == {
        "train": 252,
        "val": 89,
        "test": 90,
        "bolivia": 15,
    }
    assert len({name for names in lists.values() for name in names}) == 446


def test_a_sample_has_the_declared_layout(flood_root):
    dataset = open_split(flood_root, "train")
    assert isinstance(dataset, NonGeoDataset)
    assert len(dataset) == 3
    sample = dataset[0]
    assert sample["image"].shape == sample["valid"].shape == (1, 6, 64, 64)
    assert sample["image"].dtype == torch.float32
    assert sample["mask"].shape == (64, 64)
    assert sample["mask"].dtype == torch.int64
    assert set(sample["mask"].unique().tolist()) <= {0, 1, 255}
    assert sample["name"] == "Synthetic_0003"


def test_bands_are_selected_by_name_in_the_given_order(root):
    image, _ = files(root, "Synthetic_0001")
    rewrite(
        image,
        lambda values: np.broadcast_to(np.arange(1, 14)[:, None, None] * 100, values.shape).astype("int16"),
    )
    planted = open_split(root)[0]["image"][0, :, 0, 0]
    torch.testing.assert_close(planted, torch.tensor([2, 3, 4, 9, 12, 13]) * 0.01)
    swapped = open_split(root, bands=["B12", "nir_narrow", "BLUE"])[0]["image"][0, :, 0, 0]
    torch.testing.assert_close(swapped, torch.tensor([13, 9, 2]) * 0.01)


def test_statistics_are_in_the_order_of_the_bands():
    spec = Sen1Floods11.data_spec(["B12", "BLUE"])
    assert spec.input.bands == ("SWIR_2", "BLUE")
    assert spec.input.mean == (0.12046503, 0.14245495)
    assert spec.input.file_bands == (13, 2)


def test_bands_without_published_statistics_need_mean_and_std():
    with pytest.raises(
        ConfigError, match="mean, std: no published statistics for NIR_BROAD; set both under data"
    ):
        Sen1Floods11.data_spec(["BLUE", "B08"])
    assert Sen1Floods11.data_spec(["BLUE", "B08"], mean=[1, 2], std=[3, 4]).input.std == (3, 4)


@pytest.mark.parametrize("value", [0, -9999])
def test_pixels_without_data_are_filled_and_unlabelled_if_no_band_has_data(root, value):
    image, label = files(root, "Synthetic_0001")

    def punch(values):
        values[:, 0, 0] = value
        values[1, 0, 1] = value  # blue only
        return values

    rewrite(image, punch)
    rewrite(label, lambda values: np.zeros_like(values))
    dataset = open_split(root)
    sample = dataset[0]
    torch.testing.assert_close(sample["image"][0, :, 0, 0], torch.tensor(dataset.spec.input.mean))
    assert not sample["valid"][0, :, 0, 0].any()
    assert sample["mask"][0, 0] == 255
    assert sample["image"][0, 0, 0, 1] == torch.tensor(dataset.spec.input.mean[0])
    assert sample["valid"][0, :, 0, 1].tolist() == [False] + [True] * 5
    assert sample["mask"][0, 1] == 0


def test_legacy_nodata_keeps_zeros_and_labels(root):
    image, label = files(root, "Synthetic_0001")

    def punch(values):
        values[:, 0, 0] = 0
        values[:, 0, 1] = -9999
        return values

    rewrite(image, punch)
    rewrite(label, lambda values: np.zeros_like(values))
    sample = open_split(root, legacy_nodata=True)[0]
    assert not sample["image"][0, :, 0, :2].any()
    assert sample["valid"].all()
    assert not sample["mask"].any()


def golden_floods(real_data, tmp_path, **arguments):
    splits = tmp_path / "splits.csv"
    splits.write_text("chip,split\nSpain_7370579,test\nNodata_0000001,val\n")
    root = tmp_path / "floods"
    (root / Sen1Floods11.folder.parent).mkdir(parents=True)
    (root / Sen1Floods11.folder).symlink_to(real_data / "golden_floods")
    return root, splits


def test_the_pipeline_on_a_real_chip_equals_the_golden_result(real_data, tmp_path):
    root, splits = golden_floods(real_data, tmp_path)
    golden = np.load(real_data / "golden_floods" / "floods_real.npz")
    data = Sen1Floods11DataModule(root, splits=splits, legacy_nodata=True)
    data.setup("test")
    sample = data.test_dataset[0]
    batch = data.aug({key: sample[key].unsqueeze(0) for key in ("image", "valid", "mask")})
    image = batch["image"][0].transpose(0, 1).numpy()
    np.testing.assert_allclose(image, golden["test_img"], atol=1e-6, rtol=1e-6)
    ours, theirs = batch["mask"][0].numpy(), golden["eval_gt"]
    np.testing.assert_array_equal(np.where(ours == 255, 2, ours), theirs)

    row, column = golden["train_crop_ij"]
    window = (..., slice(row, row + 64), slice(column, column + 64))
    np.testing.assert_allclose(image[window], golden["train_img"], atol=1e-6, rtol=1e-6)
    np.testing.assert_array_equal(np.where(ours == 255, 2, ours)[window], golden["train_label"][0])


def test_a_real_chip_with_both_kinds_of_nodata_is_masked(real_data, tmp_path):
    root, splits = golden_floods(real_data, tmp_path)
    sample = Sen1Floods11(root, "val", splits)[0]
    with rasterio.open(root / Sen1Floods11.folder / "S2Hand" / "Nodata_0000001_S2Hand.tif") as source:
        stored = source.read([2, 3, 4, 9, 12, 13])
    empty = (stored == 0) | (stored == -9999)
    assert empty.any()
    np.testing.assert_array_equal(sample["valid"][0], ~empty)
    assert (sample["mask"].numpy()[empty.all(axis=0)] == 255).all()


def test_plots_have_a_panel_for_image_mask_and_prediction(flood_root):
    dataset = open_split(flood_root)
    sample = dataset[0]
    figure = dataset.plot(sample | {"prediction": sample["mask"]}, suptitle="chip")
    assert isinstance(figure, Figure)
    assert [axis.get_title() for axis in figure.axes] == ["image", "label", "prediction"]


def test_a_missing_mask_is_named(root):
    files(root, "Synthetic_0001")[1].unlink()
    with pytest.raises(
        DataError,
        match=r"Synthetic_0001_LabelHand\.tif: no such file; the label file of chip Synthetic_0001 is missing",
    ):
        open_split(root)


def test_a_mask_of_another_size_is_named(root):
    rewrite(files(root, "Synthetic_0001")[1], lambda values: values[:, :50])
    with pytest.raises(
        DataError,
        match=r"LabelHand\.tif: mask has 50 x 64 pixels \(rows x columns\), image Synthetic_0001_S2Hand\.tif has 64 x",
    ):
        open_split(root)[0]


def test_too_few_bands_are_named(root):
    rewrite(files(root, "Synthetic_0001")[0], lambda values: values[:6])
    with pytest.raises(DataError, match=r"S2Hand\.tif: has 6 bands, but 13 are expected"):
        open_split(root)[0]


def test_a_label_outside_the_classes_is_named(root):
    rewrite(files(root, "Synthetic_0001")[1], lambda values: np.full_like(values, 7))
    with pytest.raises(
        DataError,
        match=r"LabelHand\.tif: label 7 \(4096 pixels\) is not one of the 2 classes \(0 No water, 1 Water\)",
    ):
        open_split(root)[0]


@pytest.mark.parametrize("damage", ["truncated", "text"])
def test_a_corrupt_raster_is_named(root, damage):
    path = files(root, "Synthetic_0001")[0]
    content = path.read_bytes()
    path.write_bytes(b"not a tiff" if damage == "text" else content[: len(content) // 2])
    with pytest.raises(DataError, match=r"Synthetic_0001_S2Hand\.tif: not a readable raster"):
        open_split(root)[0]


def test_an_error_about_an_empty_folder_names_the_expected_files(tmp_path):
    with pytest.raises(DataError, match=r"S2Hand: contains no chips \(NAME_S2Hand.tif\); set root"):
        Sen1Floods11(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "the first row is 'a,b'; must be CSV with the header chip,split"),
        ("", "is empty; must be CSV"),
        (None, "no such file; splits is a CSV file"),
    ],
)
def test_a_wrong_list_of_splits_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "splits.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_splits(tmp_path / "splits.csv")


def test_an_unknown_split_lists_the_known(root):
    with pytest.raises(
        ConfigError, match=r"splits\.csv: has no split 'tset'; it has val, test, bolivia, train"
    ):
        open_split(root, "tset")
    with pytest.raises(
        ConfigError, match="test_split: 'tset' is not in Sen1Floods11; it has train, val, test, bolivia"
    ):
        Sen1Floods11DataModule(root, test_split="tset")


def test_a_batch_larger_than_the_training_set_is_an_error(root):
    with pytest.raises(
        ConfigError, match=r"batch_size: 4 is larger than the number of crops in an epoch \(3\)"
    ):
        Sen1Floods11DataModule(root, splits=root / "splits.csv", batch_size=4).setup("fit")


def test_test_uses_the_chosen_split(root):
    data = Sen1Floods11DataModule(root, splits=root / "splits.csv", test_split="bolivia")
    data.setup("test")
    assert [chip.name for chip in data.test_dataset.chips] == ["Synthetic_0002"]
    assert isinstance(data.train_aug, ChipAugmentation)
