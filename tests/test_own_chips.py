"""Your own chips from a configuration, statistics, and TorchGeo's tasks and data modules."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from conftest import TINY
from lightning.pytorch import Trainer
from PIL import Image
from torchgeo.datamodules import LoveDADataModule

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.compat import SemanticSegmentationTask
from prithvi_tg.datamodules import ChipDataModule, ChipFolderDataModule, MultiTemporalCropDataModule
from prithvi_tg.datasets import Chip, ChipDataset, ChipFolder
from prithvi_tg.datasets.scenes.label_layers import ClassLayer
from prithvi_tg.datasets.synthetic import LAYOUTS
from prithvi_tg.errors import ConfigError, DataError, UnknownLabelError
from prithvi_tg.targets import check_ignored_labels


@pytest.fixture
def own(tmp_path):
    """Three chips with two bands on two dates, labels 10 and 20, 0 unlabelled, -1 without data."""
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "height": 40,
        "width": 36,
        "crs": "EPSG:32633",
        "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
    }
    for name in ("a", "b", "c"):
        image = rng.normal(
            [[[300]], [[2000]], [[400]], [[3000]]], [[[30]], [[200]], [[40]], [[300]]], (4, 40, 36)
        ).astype("int16")
        image[:, :4] = -1
        label = rng.choice([0, 10, 20], (1, 40, 36), p=[0.2, 0.6, 0.2]).astype("uint8")
        for kind, values in (("img", image), ("lab", label)):
            with rasterio.open(
                tmp_path / f"{kind}_{name}.tif", "w", dtype=values.dtype, count=len(values), **profile
            ) as out:
                out.write(values)
    (tmp_path / "splits.csv").write_text("chip,split\na,train\nb,val\nc,test\n")
    return tmp_path


def settings(folder, **changes):
    return {
        "images": f"{folder}/img_*.tif",
        "labels": f"{folder}/lab_*.tif",
        "splits": f"{folder}/splits.csv",
        "classes": {10: "Wheat", 20: "Maize"},
        "ignored_labels": [0],
        "bands": ["NIR_NARROW", "RED"],
        "file_bands": ["RED", "NIR_NARROW"],
        "num_frames": 2,
        "nodata": [-1],
    } | changes


def test_a_folder_of_chips_needs_only_a_configuration(own):
    dataset = ChipFolder(**settings(own, mean=[0, 0], std=[1, 1], scale=0.5), split="train")
    sample = dataset[0]
    with rasterio.open(own / "img_a.tif") as source:
        stored = source.read()[:, 4:] * 0.5
    np.testing.assert_array_equal(sample["image"][:, :, 4:].flatten(0, 1), stored[[1, 0, 3, 2]])
    assert not sample["valid"][:, :, :4].any()
    assert sample["image"].shape == (2, 2, 40, 36)
    with rasterio.open(own / "lab_a.tif") as source:
        label = source.read(1)
    expected = np.select([label == 10, label == 20], [0, 1], 255)
    expected[:4] = 255
    np.testing.assert_array_equal(sample["mask"], expected)
    assert dataset.spec.target.names == ("Wheat", "Maize")


def test_labels_with_the_same_class_name_are_one_class(own):
    dataset = ChipFolder(
        **settings(
            own, mean=[0, 0], std=[1, 1], classes={10: "Crop", 0: "Other", 20: "Crop"}, ignored_labels=[]
        ),
        split="train",
    )
    assert dataset.class_names == ("Crop", "Other")
    with rasterio.open(own / "lab_a.tif") as source:
        label = source.read(1)[4:]
    np.testing.assert_array_equal(dataset[0]["mask"][4:], np.where(label == 0, 1, 0))


def test_a_label_cannot_be_a_class_and_ignored(own):
    with pytest.raises(
        ConfigError, match=r"ignored_labels: 10 is also a class \(Wheat\); remove it from one of both"
    ):
        ChipFolder(**settings(own, mean=[0, 0], std=[1, 1], ignored_labels=[0, 10]), split="train")
    with pytest.raises(ConfigError, match=r"ignored_labels: 1 is also a class \(Water\)"):
        ClassLayer({0: "Land", 1: "Water"}, ignored_labels=[1])
    with pytest.raises(ConfigError, match=r"ignored_labels: Cloud is also a class \(Cloud\)"):
        check_ignored_labels(["Water", "Cloud"], ["Cloud"])


def test_check_compares_the_order_of_bands_with_their_descriptions(own, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    path = write_config(own, mean=[350.0, 2500.0], std=[60.0, 550.0], bands=["RED", "NIR_NARROW"])
    words = ("check", "--config", path)
    assert "describes that band as" not in command(*words)[1]
    for image in own.glob("img_*.tif"):
        with rasterio.open(image, "r+") as file:
            file.descriptions = [
                f"{band}_{day}" for day in ("20230601", "20230801") for band in ("B04", "B8A")
            ]
    assert "describes that band as" not in command(*words)[1]
    code, out, _ = command(*words, "--data.file_bands", "[NIR_NARROW, RED]")
    assert code == 1
    assert "RED is read from band 2" in out
    assert "B8A_20230601" in out


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": "img.tif"}, ConfigError, r"images: 'img.tif' must contain one \*"),
        ({"bands": ["BLUE"]}, ConfigError, "bands: BLUE is not among file_bands, RED, NIR_NARROW"),
        (
            {"classes": {10: "Wheat", 30: "Rye"}},
            DataError,
            r"lab_a\.tif: contains 20 \(\d+ pixels\), not in classes; known labels: 10, 30; add them to classes",
        ),
        ({"num_frames": 3}, DataError, r"img_a\.tif: has 4 bands, but 6 are expected; set bands, and file"),
        (
            {"mean": [1, 2, 3]},
            ConfigError,
            r"mean: 3 values for 2 bands \(NIR_NARROW RED\) and 2 frames; give",
        ),
    ],
)
def test_an_invalid_description_of_chips_is_an_error(own, changes, error, message):
    with pytest.raises(error, match=message):
        ChipFolder(**settings(own, **({"mean": [0, 0], "std": [1, 1]} | changes)), split="train")[0]


def write_config(folder, **changes):
    path = folder / "config.yaml"
    data = {"class_path": "ChipFolderDataModule", "init_args": settings(folder, **changes)}
    tiny = {"encoder": "nano", "encoder_args": TINY}
    model = {"class_path": "PrithviSegmentationTask", "init_args": tiny}
    path.write_text(yaml.safe_dump({"data": data, "model": model}))
    return path


def test_the_printed_statistics_are_a_configuration(own, command):
    code, out, err = command("stats", "--config", write_config(own))
    assert code == 0, err
    printed = yaml.safe_load(out)
    found = printed["data"]["init_args"] | printed["model"]["init_args"]
    (own / "statistics.yaml").write_text(out)
    again = command("stats", "--config", write_config(own), "--config", own / "statistics.yaml")
    assert again == (0, out, err)
    with rasterio.open(own / "img_a.tif") as source:
        image = source.read()[:, 4:].astype(float).reshape(2, 2, -1)
    with rasterio.open(own / "lab_a.tif") as source:
        label = source.read(1)[4:]
    red, near_infrared = image[:, 0], image[:, 1]
    assert found["mean"] == pytest.approx([near_infrared.mean(), red.mean()], rel=1e-5)
    assert found["std"] == pytest.approx([near_infrared.std(), red.std()], rel=1e-5)
    wheat, maize = (label == 10).sum(), (label == 20).sum()
    assert "class_frequencies" not in found  # no key of a configuration
    assert f"#   Maize: {maize / (wheat + maize):g}" in out
    assert "scale" not in err
    assert found["class_weights"] == pytest.approx(
        [(wheat + maize) / (2 * n) for n in (wheat, maize)], rel=1e-5
    )
    pasted = ChipFolderDataModule(**settings(own, mean=found["mean"], std=found["std"]))
    pasted.setup("validate")
    assert len(pasted.val_dataset) == 1


def test_an_unknown_argument_is_refused_at_construction(own):
    with pytest.raises(
        ConfigError,
        match=r"crop: neither ChipFolderDataModule nor ChipFolder has this argument; did you mean crop_size\?",
    ):
        ChipFolderDataModule(**settings(own, mean=[0, 0], std=[1, 1], crop=3))
    with pytest.raises(ConfigError, match=r"split: .* did you mean splits\?"):
        MultiTemporalCropDataModule(own, split="train")
    assert "transforms" in MultiTemporalCropDataModule(own, transforms=None).kwargs


class AnyArgument(ChipFolder):
    """A dataset of a user that passes arguments on."""

    def __init__(self, *args, shade=0, **kwargs):
        self.shade = shade
        super().__init__(*args, **kwargs)


def test_a_dataset_of_a_user_may_take_any_argument(own):
    data = ChipFolderDataModule(**settings(own, mean=[0, 0], std=[1, 1], dataset_class=AnyArgument, shade=7))
    data.setup("validate")
    assert data.val_dataset.shade == 7


class Crops(ChipDataset):
    """A dataset of its own class, without statistics."""

    file_bands = ("RED", "NIR_NARROW")
    num_frames = 2
    nodata = (-1.0,)
    class_names = ("Wheat", "Maize")

    def find_chips(self):
        names = {"train": "a", "val": "b", "test": "c"}[self.split]
        return [Chip(name, self.root / f"img_{name}.tif", self.root / f"lab_{name}.tif") for name in names]

    def to_classes(self, stored):
        return np.where(stored == 0, 255, stored // 10 - 1)


class CropsDataModule(ChipDataModule):
    def __init__(self, root, **kwargs):
        super().__init__(Crops, root, **kwargs)


@pytest.mark.parametrize("kind", ["CropsDataModule", "ChipDataModule"])
def test_stats_needs_no_statistics_of_an_own_data_set(own, command, kind):
    code, out, err = command("stats", "--config", write_config(own))
    assert code == 0, err
    expected = yaml.safe_load(out)
    arguments = {"root": str(own), "bands": ["NIR_NARROW", "RED"]}
    path = f"{__name__}.{kind}"
    if kind == "ChipDataModule":
        path, arguments["dataset_class"] = kind, f"{__name__}.Crops"
    data = {"class_path": path, "init_args": arguments}
    (own / "own.yaml").write_text(yaml.safe_dump({"data": data}))
    code, out, err = command("stats", "--config", own / "own.yaml")
    assert code == 0, err
    assert yaml.safe_load(out) == expected


def test_an_unknown_label_of_an_own_data_set_is_explained(own):
    class OneCrop(Crops):
        class_names = ("Wheat",)

    message = (
        r"lab_a\.tif: stored label 20 \(\d+ pixels\) became 1 in to_classes, not one of the 1 class \(0 Wheat\); "
        "map it in to_classes to the number of its class, or to 255 if it means not labelled; or add it to class_names"
    )
    with pytest.raises(DataError, match=message):
        OneCrop(own, bands=("RED",), mean=(0,), std=(1,))[0]


def test_labels_that_fit_no_class_are_reported_before_a_nodata_tag_that_is_a_class(own):
    class Unmapped(Crops):
        class_names = tuple(f"class {number}" for number in range(10))
        to_classes = ChipDataset.to_classes

    for path in own.glob("lab_*.tif"):
        with rasterio.open(path, "r+") as mask:
            mask.nodata = 1
    arguments = {"bands": ("RED",), "mean": (0,), "std": (1,)}
    with pytest.raises(
        UnknownLabelError, match=r"labels 10 \(\d+ pixels\) and 20 \(.* are not among the 10 .*; map"
    ):
        Unmapped(own, **arguments)[0]
    Unmapped.class_names = tuple(f"class {number}" for number in range(100))
    with pytest.raises(ConfigError, match=r"classes: value 1 \(class 1\) is the nodata tag of .*lab_a\.tif"):
        Unmapped(own, **arguments)[0]


def test_statistics_in_an_unknown_unit_give_a_warning_about_scale(own, command):
    code, _, err = command("stats", "--config", write_config(own, scale=1e-8))
    assert code == 0
    assert "warning: scale: with 1e-08, the largest band mean is 2." in err
    assert "Check scale" in err


def test_an_error_about_missing_statistics_says_how_to_compute_them(own, command):
    config = write_config(own)
    code, _, err = command("fit", "--config", config)
    assert code == 2
    assert "mean, std: not given; prithvi-tg stats computes them" in err
    words = (
        *(
            "--data.mean",
            "[300, 2000]",
            "--data.std",
            "[50, 300]",
            "--data.batch_size",
            1,
            "--data.crop_size",
            32,
        ),
        *(
            "--model.encoder",
            "nano",
            "--model.encoder_args",
            TINY,
            "--model.window",
            32,
            "--model.head_channels",
            8,
        ),
        *(
            "--trainer.max_epochs",
            1,
            "--trainer.default_root_dir",
            own / "runs",
            "--trainer.accelerator",
            "cpu",
        ),
    )
    code, _, err = command("fit", "--config", config, *words)
    assert code == 0, err
    (best,) = own.rglob("best.ckpt")
    code, _, err = command("test", "--config", config, "--ckpt_path", best)
    assert code == 2
    assert (
        f"or use the configuration that this checkpoint was trained with, --config {best.parents[1]}/config.yaml"
        in err
    )


def quick_trainer(folder):
    return Trainer(
        accelerator="cpu",
        max_epochs=1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_a_torchgeo_task_trains_on_our_data(tmp_path):
    root = LAYOUTS["multi_temporal_crop"](tmp_path / "crop", chips=6, size=32)
    data = MultiTemporalCropDataModule(root, batch_size=2, crop_size=32, fold_time=True)
    assert data.mean.shape == data.std.shape == (18,)
    task = SemanticSegmentationTask("unet", "resnet18", in_channels=18, num_classes=13, ignore_index=255)
    trainer = quick_trainer(tmp_path)
    trainer.fit(task, data)
    assert torch.isfinite(trainer.callback_metrics["train_loss"])


def write_loveda(root: Path) -> None:
    """Synthetic files in the layout of LoveDA, a dataset of TorchGeo without support in this package."""
    rng = np.random.default_rng(0)
    for split in ("Train", "Val", "Test"):
        for scene in ("Rural", "Urban"):
            for kind in ("images_png", "masks_png"):
                folder = root / split / scene / kind
                folder.mkdir(parents=True)
                for number in range(2):
                    shape = (64, 64, 3) if kind == "images_png" else (64, 64)
                    high = 256 if kind == "images_png" else 8
                    Image.fromarray(rng.integers(0, high, shape, dtype=np.uint8)).save(
                        folder / f"{number}.png"
                    )


def test_our_task_trains_on_a_torchgeo_data_module(tmp_path):
    write_loveda(tmp_path / "loveda")
    data = LoveDADataModule(root=tmp_path / "loveda", scene=["rural", "urban"], batch_size=2)
    names = ["No data", "Background", "Building", "Road", "Water", "Barren", "Forest", "Agriculture"]
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY | {"num_bands": 3}, head_channels=8, class_names=names, window=32
    )
    trainer = quick_trainer(tmp_path)
    trainer.fit(task, data)
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    assert 0 <= trainer.callback_metrics["val_mIoU"] <= 1


@pytest.mark.parametrize("described", [True, False])
def test_a_model_of_a_torchgeo_data_module_maps_scenes_if_the_task_describes_the_data(
    tmp_path, command, described
):
    write_loveda(tmp_path / "loveda")
    spec = {
        "input": {"bands": ["BLUE", "GREEN", "RED"], "mean": [0.1] * 3, "std": [0.1] * 3, "scale": 1e-4},
        "target": {"kind": "classes", "names": [f"class {number}" for number in range(8)]},
    }
    model = {"encoder": "nano", "encoder_args": TINY | {"num_bands": 3}, "head_channels": 8, "window": 32}
    model |= {"data_spec": spec} if described else {"class_names": spec["target"]["names"]}
    data = {"root": str(tmp_path / "loveda"), "scene": ["rural", "urban"], "batch_size": 2}
    config = tmp_path / "config.yaml"
    settings = {
        "model": {"class_path": "PrithviSegmentationTask", "init_args": model},
        "data": {"class_path": "torchgeo.datamodules.LoveDADataModule", "dict_kwargs": data},
        "trainer": {"default_root_dir": str(tmp_path / "runs"), "max_epochs": 1, "accelerator": "cpu"},
    }
    config.write_text(yaml.safe_dump(settings).replace("dict_kwargs", "init_args"))
    code, _, err = command("fit", "--config", config)
    assert code == 2
    assert err.strip().endswith(
        "keys that LoveDADataModule passes on go under dict_kwargs instead of init_args"
    )
    config.write_text(yaml.safe_dump(settings))
    code, _, err = command("fit", "--config", config)
    assert code == 0, err
    scene = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "height": 40, "width": 36, "count": 3, "dtype": "int16"}
    with rasterio.open(
        scene, "w", crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), **profile
    ) as out:
        out.write(np.random.default_rng(0).integers(1, 2000, (3, 40, 36)).astype("int16"))
    best = tmp_path / "runs/version_0/checkpoints/best.ckpt"
    given = () if described else ("--config", config)
    code, _, err = command("predict", *given, "--ckpt_path", best, scene, "--output", tmp_path / "maps")
    if described:
        assert code == 0, err
        with rasterio.open(tmp_path / "maps/scene_pred.tif") as map_:
            assert map_.read(1).max() < 8
    else:
        assert code == 2
        assert (
            "LoveDADataModule is not a data module of this package; describe the data with model.data_spec"
            in err
        )


def test_a_data_set_without_default_statistics_asks_for_them():
    class Bare(ChipDataset):
        file_bands = ("BLUE", "GREEN")
        class_names = ("Dry", "Flooded")

        def find_chips(self):
            return []

    with pytest.raises(
        ConfigError, match=r"mean, std: Bare has no default_mean and default_std; set data\.mean"
    ):
        Bare.data_spec(bands=("BLUE", "GREEN"))
    assert Bare.data_spec(bands=("BLUE", "GREEN"), mean=(0.1, 0.2), std=(0.1, 0.1)).input.mean == (0.1, 0.2)
