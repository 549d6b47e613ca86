"""Burn scars and crops: golden pipelines, the order of bands and dates, labels, splits, dates."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.datamodules import HLSBurnScarsDataModule, MultiTemporalCropDataModule
from prithvi_tg.datasets import HLSBurnScars, MultiTemporalCropClassification
from prithvi_tg.datasets.chips.base import published_splits, read_splits
from prithvi_tg.datasets.synthetic import LAYOUTS
from prithvi_tg.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def burn_root(tmp_path_factory):
    return LAYOUTS["hls_burn_scars"](tmp_path_factory.mktemp("burn") / "data", chips=6, size=48)


@pytest.fixture(scope="module")
def crop_root(tmp_path_factory):
    return LAYOUTS["multi_temporal_crop"](tmp_path_factory.mktemp("crop") / "data", chips=6, size=48)


@pytest.mark.parametrize(
    ("name", "module", "options"),
    [
        ("burn", HLSBurnScarsDataModule, {}),
        ("crop", MultiTemporalCropDataModule, {"legacy_channel_order": True}),
    ],
)
def test_pipelines_equal_the_golden_results(golden, name, module, options):
    arrays = np.load(golden / "data" / f"{name}.npz")
    data = module(golden / "data" / name, legacy_nodata=True, **options)
    data.setup("test")
    sample = data.test_dataset[0]
    batch = data.aug({key: sample[key].unsqueeze(0) for key in ("image", "mask")})
    image = batch["image"][0].transpose(0, 1).numpy()
    np.testing.assert_allclose(image, arrays["test_img"], atol=1e-6, rtol=1e-6)
    label = np.where(arrays["eval_gt"] == -1, 255, arrays["eval_gt"])
    np.testing.assert_array_equal(batch["mask"][0], label)
    row, column = arrays["train_crop_ij"]
    window = (..., slice(row, row + 64), slice(column, column + 64))
    np.testing.assert_allclose(image[window], arrays["train_img"], atol=1e-6, rtol=1e-6)
    trained = np.where(arrays["train_label"] == -1, 255, arrays["train_label"])[0]
    np.testing.assert_array_equal(batch["mask"][0].numpy()[window], trained)


def test_channels_in_the_true_order_equal_the_golden_channels(golden):
    """Golden channel (band i, frame f) is file channel 3i + f; ours (date t, band b) is file channel 6t + b."""
    arrays = np.load(golden / "data" / "crop.npz")
    data = MultiTemporalCropDataModule(golden / "data" / "crop", legacy_nodata=True)
    data.setup("test")
    image = data.aug({"image": data.test_dataset[0]["image"].unsqueeze(0)})["image"][0].numpy()
    for date in range(3):
        for band in range(6):
            channel = 6 * date + band
            np.testing.assert_allclose(
                image[date, band], arrays["test_img"][channel // 3, channel % 3], atol=1e-6, rtol=1e-6
            )


def plant(root, folder):
    """Write 100 (date + 1) + band into each band of every image of a folder."""
    for path in (root / folder).glob("*_merged.tif"):
        with rasterio.open(path) as source:
            profile, shape = source.profile, source.shape
        with rasterio.open(path, "w", **profile) as out:
            for index in range(18):
                out.write(np.full(shape, 100 * (index // 6 + 1) + index % 6, "int16"), index + 1)


def test_known_bands_and_dates_are_in_the_right_channels(tmp_path):
    root = LAYOUTS["multi_temporal_crop"](tmp_path / "crop", chips=6, size=32)
    plant(root, "validation_chips")
    planted = np.array([[100 * (t + 1) + b for b in range(6)] for t in range(3)])
    true = MultiTemporalCropClassification(root, "val")[0]["image"][:, :, 0, 0]
    np.testing.assert_array_equal(true, planted)
    chosen = MultiTemporalCropClassification(root, "val", bands=["SWIR_2", "BLUE"])[0]["image"][:, :, 0, 0]
    np.testing.assert_array_equal(chosen, planted[:, [5, 0]])
    scrambled = MultiTemporalCropClassification(root, "val", legacy_channel_order=True)[0]["image"][
        :, :, 0, 0
    ]
    for date in range(3):
        for band in range(6):
            assert scrambled[date, band] == planted.flatten()[3 * band + date]


def test_augmentation_keeps_the_order_of_dates(tmp_path):
    root = LAYOUTS["multi_temporal_crop"](tmp_path / "crop", chips=6, size=48)
    plant(root, "training_chips")
    mean, std = [0.0] * 6, [1.0] * 6
    data = MultiTemporalCropDataModule(root, batch_size=4, crop_size=32, mean=mean, std=std)
    data.setup("fit")
    batch = data.train_aug(next(iter(data.train_dataloader())))
    planted = torch.tensor([[100.0 * (t + 1) + b for b in range(6)] for t in range(3)])
    assert torch.equal(batch["image"], planted[None, :, :, None, None].expand(4, 3, 6, 32, 32))


def test_the_legacy_channel_order_has_the_legacy_statistics():
    plain, legacy = (
        MultiTemporalCropClassification.data_spec(legacy_channel_order=order) for order in (False, True)
    )
    for date in range(3):
        for band in range(6):
            assert legacy.channel_mean[6 * date + band] == plain.mean[(3 * band + date) % 6]
            assert legacy.file_bands[6 * date + band] == 3 * band + date + 1
    with pytest.raises(ConfigError, match="legacy_channel_order: needs all six bands"):
        MultiTemporalCropClassification.data_spec(["BLUE"], legacy_channel_order=True)


def test_crop_labels_are_reduced_by_one(crop_root):
    dataset = MultiTemporalCropClassification(crop_root, "val")
    with rasterio.open(dataset.chips[0].mask) as source:
        stored = source.read(1).astype(int)
    np.testing.assert_array_equal(dataset[0]["mask"], np.where(stored == 0, 255, stored - 1))


def test_published_crop_lists_have_the_published_lengths():
    lists = read_splits(published_splits("multi_temporal_crop"))
    assert {split: len(names) for split, names in lists.items()} == {"train": 3083, "val": 771, "test": 771}


def test_the_test_split_is_the_validation_split_as_published(burn_root, crop_root):
    for dataset, root in ((HLSBurnScars, burn_root), (MultiTemporalCropClassification, crop_root)):
        names = {
            split: [chip.name for chip in dataset(root, split).chips] for split in ("train", "val", "test")
        }
        assert names["val"] == names["test"]
        assert not set(names["train"]) & set(names["val"])


def test_dates_and_places_are_read(burn_root, crop_root):
    burn = HLSBurnScars(burn_root, "train", metadata=True)[0]
    assert burn["timestamps"].tolist() == [[2020, 101]]
    torch.testing.assert_close(burn["location"], torch.tensor([37.94, -92.98]), atol=0.02, rtol=0)
    crop = MultiTemporalCropClassification(crop_root, "train", metadata=True)[0]
    assert crop["timestamps"].tolist() == [[2022, 110], [2022, 181], [2022, 251]]


def test_plots_show_every_date(crop_root):
    dataset = MultiTemporalCropClassification(crop_root, "val")
    figure = dataset.plot(dataset[0])
    assert [axis.get_title() for axis in figure.axes] == ["date 1", "date 2", "date 3", "label"]


def test_a_mask_without_its_image_is_named_and_macos_files_are_skipped(tmp_path):
    root = LAYOUTS["hls_burn_scars"](tmp_path / "burn", chips=6, size=32)
    folder = root / "validation"
    (folder / "._hidden_merged.tif").write_bytes(b"macOS")
    dataset = HLSBurnScars(root, "val")
    assert len(dataset) == 2
    dataset.chips[0].image.unlink()
    with pytest.raises(DataError, match=r"_merged\.tif: no such file; the image of chip .* is missing"):
        HLSBurnScars(root, "val")


def test_chips_of_lists_are_searched_in_both_folders(burn_root, tmp_path):
    chips = [chip.name for split in ("train", "val") for chip in HLSBurnScars(burn_root, split).chips]
    (tmp_path / "mine.csv").write_text("chip,split\n" + "".join(f"{chip},test\n" for chip in chips))
    assert len(HLSBurnScars(burn_root, "test", splits=tmp_path / "mine.csv")) == 6
    with pytest.raises(ConfigError, match=r"'published' is not a list of HLSBurnScars; .* non_overlapping"):
        HLSBurnScars(burn_root, "test", splits="published")


@pytest.fixture
def all_burn_chips(tmp_path):
    """Empty files with the names of all 804 chips, in the two published folders."""
    lists = read_splits(published_splits("hls_burn_scars_non_overlapping"))
    names = sorted(name for part in lists.values() for name in part)
    for number, name in enumerate(names):
        folder = tmp_path / ("training" if number < 540 else "validation")
        folder.mkdir(exist_ok=True)
        for kind in ("_merged.tif", ".mask.tif"):
            (folder / f"subsetted_512x512_HLS.S30.{name}.4{kind}").touch()
    return tmp_path


def test_chips_of_the_non_overlapping_split_are_matched_by_tile_and_date(all_burn_chips):
    splits = {
        split: HLSBurnScars(all_burn_chips, split, splits="non_overlapping").chips
        for split in ("train", "val", "test")
    }
    assert {split: len(chips) for split, chips in splits.items()} == {"train": 524, "val": 160, "test": 120}
    paths = [chip.image for chips in splits.values() for chip in chips]
    assert len(set(paths)) == 804
    assert {path.parent.name for path in paths} == {"training", "validation"}
    first = read_splits(published_splits("hls_burn_scars_non_overlapping"))["test"][0]
    assert splits["test"][0].name == f"subsetted_512x512_HLS.S30.{first}.4"
    assert splits["test"][0].mask.name == f"subsetted_512x512_HLS.S30.{first}.4.mask.tif"


def test_the_published_split_of_burn_scars_is_the_default(all_burn_chips):
    assert [len(HLSBurnScars(all_burn_chips, split)) for split in ("train", "val", "test")] == [540, 264, 264]


def test_missing_and_unlisted_chips_of_the_non_overlapping_split_are_named_in_one_line(all_burn_chips):
    chips = HLSBurnScars(all_burn_chips, "val", splits="non_overlapping").chips
    other = all_burn_chips / "training" / "subsetted_512x512_HLS.S30.T99ZZZ.2020001.v1.4_merged.tif"
    other.touch()
    with pytest.warns(
        UserWarning, match=r"1 of 805 chips are in no split of the list non_overlapping.*T99ZZZ"
    ) as told:
        HLSBurnScars(all_burn_chips, "val", splits="non_overlapping")
    assert [len(str(one.message).splitlines()) for one in told] == [1]
    for chip in chips[:4]:
        chip.image.unlink()
    with pytest.raises(
        DataError, match=r"4 of the 160 chips of val in the list non_overlapping have no image"
    ) as error:
        HLSBurnScars(all_burn_chips, "val", splits="non_overlapping")
    assert chips[0].name.split("S30.")[1].removesuffix(".4") in str(error.value)
    assert "\n" not in str(error.value)
    chips[4].mask.unlink()
    HLSBurnScars(all_burn_chips, "test", splits="non_overlapping")  # its chips are complete
    for chip in chips[:4]:
        chip.image.touch()
    with pytest.raises(DataError, match=r"the label file of chip .* is missing"):
        HLSBurnScars(all_burn_chips, "val", splits="non_overlapping")


def test_the_data_module_takes_the_non_overlapping_split_by_name(all_burn_chips):
    data = HLSBurnScarsDataModule(all_burn_chips, splits="non_overlapping")
    assert data.has_split("val")
    assert not data.has_split("bolivia")
    assert len(data.open_split("test")) == 120


def test_real_crop_chips_are_read_in_their_order(real_data):
    """The chips of the published dataset have no masks; only images and dates can be read."""
    folder = real_data / "crops"
    dataset = MultiTemporalCropClassification.__new__(MultiTemporalCropClassification)
    dataset.root, dataset.legacy_nodata = folder, False
    dataset.spec = MultiTemporalCropClassification.data_spec()
    dataset._mean = np.asarray(dataset.spec.input.channel_mean, np.float32)
    image, valid = dataset.read_image(folder / "chip_102_345_merged.tif")
    with rasterio.open(folder / "chip_102_345_merged.tif") as source:
        stored = source.read().reshape(3, len(PRITHVI_BANDS), *source.shape)
    assert valid.all()  # zeros are data here
    np.testing.assert_array_equal(image, stored)
    assert [day.isoformat() for day in dataset._dates["chip_102_345"]] == [
        "2022-05-27",
        "2022-08-10",
        "2022-09-04",
    ]
    assert Path(dataset.root).name == "crops"
