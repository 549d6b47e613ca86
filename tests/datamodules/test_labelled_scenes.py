"""Training on scenes and a label layer, end to end."""

import json
import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
import yaml
from conftest import TINY
from rasterio.env import get_gdal_config, set_gdal_config

from prithvi_tg.checks import check_scenes
from prithvi_tg.datamodules import LabelledScenesDataModule
from prithvi_tg.datamodules.labelled_scenes import BlockSplit, PolygonSplit, TimeSplit
from prithvi_tg.datasets.synthetic import write_sen1floods11
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.samplers import RandomWindowGeoSampler

CONFIGS = Path(__file__).parents[2] / "configs"
SPLIT = BlockSplit(48, (0.5, 0.25, 0.25))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A synthetic scene of 200 x 210 with its labels; 13 bands with descriptions."""
    return write_sen1floods11(
        tmp_path_factory.mktemp("scene") / "data", chips=6, size=32, scene_size=(200, 210), seed=3
    )


def module(root, **options):
    settings = yaml.safe_load((CONFIGS / "scenes.yaml").read_text())["data"]["init_args"]
    settings |= {
        "images": str(root / "scene.tif"), "labels": str(root / "scene_label.tif"), "split": SPLIT, "window": 32,
        "windows_per_epoch": 12, "batch_size": 4,
    }  # fmt: skip
    return LabelledScenesDataModule(**settings | options)


def labelled(root, regions, split):
    with rasterio.open(root / "scene_label.tif") as file, rasterio.open(root / "scene.tif") as scene:
        label = np.where((scene.read() == 0).all(axis=0), -1, file.read(1))
    return sum((label[t:b, le:r] >= 0).sum() for t, le, b, r in regions.splits[split].boxes)


@pytest.mark.parametrize(("stride", "workers"), [(32, 0), (20, 0), (32, 2)])
def test_validation_counts_every_labelled_pixel_once(root, stride, workers):
    data = module(root, stride=stride, num_workers=workers)
    data.setup("validate")
    counted = sum(int((batch["mask"] != 255).sum()) for batch in data.val_dataloader())
    assert counted == labelled(root, data.split_regions, "val")


def test_values_of_scenes_that_are_not_finite_are_counted(root, tmp_path):
    with rasterio.open(root / "scene.tif") as source:
        values, profile, descriptions = source.read().astype("float32"), source.profile, source.descriptions
    values[:, ::10] = np.inf
    with rasterio.open(tmp_path / "scene.tif", "w", **(profile | {"dtype": "float32"})) as out:
        out.write(values)
        out.descriptions = descriptions
    data = module(root, images=str(tmp_path / "scene.tif"))
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    data.train_aug(moved)
    assert int(data.train_aug.meaningless) == int(batch["meaningless"].sum()) > 0


def test_training_windows_have_images_and_labels_of_the_same_pixels(root):
    data = module(root)
    data.setup("fit")
    with rasterio.open(root / "scene.tif") as file:
        bands = file.read([2, 3, 4, 9, 12, 13])
    with rasterio.open(root / "scene_label.tif") as file:
        label = file.read(1)
    places = list(data.train_sampler.windows())
    for sample, (row, column, _) in zip(
        map(data.train_dataset.__getitem__, data.train_sampler), places, strict=True
    ):
        window = np.s_[row : row + 32, column : column + 32]
        valid = bands[:, *window] != 0
        expected = np.where(valid, bands[:, *window] * 1e-4, np.array(data.spec.input.mean)[:, None, None])
        np.testing.assert_allclose(sample["image"][0].numpy(), expected, rtol=1e-5)
        known = np.where((label[window] < 0) | ~valid.any(axis=0), 255, label[window])
        np.testing.assert_array_equal(sample["mask"].numpy(), known)
        assert sample["mask"].dtype == torch.int64


def test_balanced_windows_show_rare_classes_more_often(root, tmp_path):
    with rasterio.open(root / "scene_label.tif") as file:
        label, profile = file.read(1), file.profile
    label[:] = 0
    label[150:154, 150:154] = 1  # rare
    with rasterio.open(tmp_path / "rare.tif", "w", **profile) as out:
        out.write(label, 1)
    shares = []
    for balanced in (False, True):
        data = module(root, labels=str(tmp_path / "rare.tif"), balanced=balanced, windows_per_epoch=150,
                      split=BlockSplit(66, (0.8, 0.2, 0.0), seed=1))  # fmt: skip
        data.setup("fit")
        owner = [
            box
            for box in data.split_regions.splits["train"].boxes
            if box[0] <= 150 < box[2] and box[1] <= 150 < box[3]
        ]
        assert owner, "the rare class lies in the training ground"
        shares.append(np.mean([
            row <= 153 and row + 32 > 150 and column <= 153 and column + 32 > 150
            for row, column, _ in data.train_sampler.windows()
        ]))  # fmt: skip
    assert shares[1] > 0.2 > 2 * shares[0]


@pytest.fixture
def config(root, tmp_path):
    settings = yaml.safe_load((CONFIGS / "scenes.yaml").read_text())
    settings["model"]["init_args"] |= {
        "encoder_args": TINY,
        "head_channels": 8,
        "window": 32,
        "warmup_steps": 1,
    }
    settings["data"]["init_args"] |= {
        "images": str(root / "scene.tif"), "labels": str(root / "scene_label.tif"), "window": 32,
        "windows_per_epoch": 12, "batch_size": 4,
    }  # fmt: skip
    settings["data"]["init_args"]["split"]["init_args"] = {"block": 48, "fractions": [0.5, 0.25, 0.25]}
    settings["trainer"] |= {
        "default_root_dir": str(tmp_path / "runs"),
        "max_epochs": 1,
        "enable_progress_bar": False,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_scenes_train_without_a_validation_region(config, command, tmp_path):
    words = ("--config", config, "--data.split.init_args.fractions", "[0.75, 0, 0.25]")
    code, out, err = command("fit", *words)
    assert code == 0, err
    run = tmp_path / "runs/version_0"
    assert json.loads((run / "metrics.json").read_text())["confusion_matrix"] is None
    best = run / "checkpoints/best.ckpt"
    code, _, err = command("test", *words, "--ckpt_path", best)
    assert code == 0, err
    code, _, err = command("validate", *words, "--ckpt_path", best)
    assert code == 2
    assert (
        "data: there is no validation set; score the test set with prithvi-tg test, or give val a share in split"
        in err
    )
    code, out, err = command("check", *words)
    assert code == 0, out + err
    assert re.search(r"bands +│ .*BLUE=\d", out)
    code, out, err = command("chips", tmp_path / "chips", *words)
    assert code == 0, err
    splits = (tmp_path / "chips/splits.csv").read_text()
    assert ",train" in splits
    assert ",val" not in splits
    code, _, err = command("fit", "--config", config, "--data.split.init_args.fractions", "[0.8, 0.2]")
    assert code == 2
    assert "fractions: [0.8, 0.2] must be three shares of train, val, test that add up to 1" in err


@pytest.mark.parametrize("name", ["fit", "check"])
def test_file_bands_that_contradict_the_descriptions_of_a_scene_are_an_error(
    config, command, monkeypatch, name
):
    monkeypatch.setenv("COLUMNS", "300")
    bands = "[B1, B3, B2, B4, B5, B6, B7, B8, B8A, B9, B10, B11, B12]"
    code, out, err = command(name, "--config", config, "--data.file_bands", bands)
    assert code in (1, 2)
    told = " ".join((out + err).replace("│", " ").split())
    assert "band 3 of" in told
    assert "is described as B3 (GREEN), but file_bands reads it as BLUE" in told
    right = bands.replace("B3, B2", "B2, B3")
    quick = ("--trainer.fast_dev_run", "true")
    assert command(name, "--config", config, "--data.file_bands", right, *quick)[0] == 0


def test_check_reports_the_area_and_the_classes_of_every_split(config, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    code, out, err = command("check", "--config", config)
    assert code == 0, out + err
    shares = [float(line.split("%")[0].split()[-1]) for line in out.splitlines() if "of the area" in line]
    assert len(shares) == 3
    assert 90 <= sum(shares) <= 101
    assert all(f"classes of {split}" in out for split in ("train", "val", "test"))
    code, out, err = command("check", "--config", config, "--data.window", "500")
    assert code == 1
    assert "use larger blocks or a smaller window" in out


class DamagedWindows:
    """Windows of a split whose labels cannot be read."""

    def __len__(self):
        return 1

    def __getitem__(self, number):
        raise DataError("scene_label.tif: damaged")


def test_check_reports_a_split_with_unreadable_labels_and_checks_the_others(root, monkeypatch):
    data = module(root)
    scored_windows = data.scored_windows
    monkeypatch.setattr(
        data,
        "scored_windows",
        lambda split, *parts: DamagedWindows() if split == "val" else scored_windows(split, *parts),
    )
    findings = list(check_scenes(data))
    assert [one.message for one in findings if one.severity == "error"] == ["scene_label.tif: damaged"]
    subjects = {one.subject for one in findings}
    assert {"classes of train", "classes of test"} <= subjects
    assert "classes of val" not in subjects


def test_check_counts_scenes_that_overlap_labels_and_names_the_others(root, tmp_path):
    with rasterio.open(root / "scene.tif") as source:
        profile = source.profile | {"transform": source.transform.translation(600, 0) @ source.transform}
        with rasterio.open(tmp_path / "apart.tif", "w", **profile) as out:
            out.write(source.read())
            out.descriptions = source.descriptions
    data = module(root, images=[str(root / "scene.tif"), str(tmp_path / "apart.tif")])
    found = {(one.severity, one.message) for one in check_scenes(data) if one.subject == "scenes"}
    assert found == {
        ("ok", "1 scene that overlaps the labels"),
        ("advice", "1 of 2 scenes without labels: apart.tif"),
    }


def test_check_explains_the_area_that_belongs_to_no_split(root):
    findings = list(check_scenes(module(root, split=BlockSplit(48, (0.5, 0.25, 0.25), buffer=8))))
    shares = [
        int(one.message.split(" %")[0])
        for one in findings
        if one.subject in ("train", "val", "test", "no split") and one.message.split(" %")[0].isdigit()
    ]
    assert sum(shares) == pytest.approx(100, abs=2)
    (rest,) = [one.message for one in findings if one.subject == "no split"]
    assert rest.endswith("training blocks within 8 pixels of other splits (buffer)")
    assert "no split" not in {one.subject for one in check_scenes(module(root))}


def test_check_and_fit_compare_the_windows_of_training_and_maps(config, command, monkeypatch, recwarn):
    monkeypatch.setenv("COLUMNS", "400")
    for keys, count in ((("--data.window", 16), 1), (("--data.window", 16, "--model.window", 16), 0)):
        code, out, err = command("check", "--config", config, *keys)
        assert code == 0, out + err
        assert out.count("model.window is 32, but data.window is 16") == count
        recwarn.clear()
        assert command("fit", "--config", config, *keys, "--trainer.fast_dev_run", "true")[0] == 0
        told = [one for one in recwarn if "model.window is 32, but data.window is 16" in str(one.message)]
        assert len(told) == count


def test_a_key_of_chips_is_answered_with_that_of_scenes(config, command):
    code, _, err = command("fit", "--config", config, "--data.crop_size", 32)
    assert (code, err) == (
        2,
        "prithvi-tg: error: crop_size: not accepted here; the key of LabelledScenesDataModule is window\n",
    )


@pytest.mark.pictures
@pytest.mark.version_independent
def test_a_model_of_scenes_is_tested_and_maps_new_scenes_at_once(config, command, start, root, tmp_path):
    code, out, err = command("fit", "--config", config)
    assert code == 0, err
    run = tmp_path / "runs" / "version_0"
    assert (run / "splits.png").stat().st_size > 1000
    best = run / "checkpoints" / "best.ckpt"
    code, out, err = command(
        "predict", "--ckpt_path", best, root / "scene.tif", "--output", tmp_path / "maps"
    )
    assert code == 0, err
    assert "BLUE=2 GREEN=3 RED=4 NIR_NARROW=9 SWIR_1=12 SWIR_2=13" in out
    assert (tmp_path / "maps" / "scene_pred.tif").exists()
    counts = {}
    for devices in (1, 2):
        words = ["test", "--config", config, "--ckpt_path", best, "--trainer.devices", devices,
                 "--trainer.default_root_dir", tmp_path / f"by{devices}"]  # fmt: skip
        strategy = ("--trainer.strategy", "ddp_fork")
        code, _, err = command(*words) if devices == 1 else start(*words, *strategy).communicate()
        assert code == 0, err
        record = json.loads((tmp_path / f"by{devices}" / "version_0" / "metrics.json").read_text())
        counts[devices] = record["confusion_matrix"]["counts"]
    assert counts[1] == counts[2]
    data = module(root)
    data.setup("test")
    assert np.sum(counts[1]) == labelled(root, data.split_regions, "test")


def test_polygons_are_labels_too_and_nothing_is_printed(root, tmp_path, capsys):
    with rasterio.open(root / "scene.tif") as file:
        left, bottom, right, top = file.bounds
    halves = [
        shapely.box(left, bottom, (left + right) / 2, top),
        shapely.box((left + right) / 2, bottom, right, top),
    ]
    geopandas.GeoDataFrame({"kind": ["wet", "dry"]}, geometry=halves, crs="EPSG:4326").to_file(
        tmp_path / "l.gpkg"
    )
    data = module(
        root,
        labels=str(tmp_path / "l.gpkg"),
        classes={"dry": "No water", "wet": "Water"},
        label_attribute="kind",
    )
    data.setup("fit")
    assert capsys.readouterr().out == ""
    for query, (_, column, _) in zip(data.train_sampler, data.train_sampler.windows(), strict=True):
        mask = data.train_dataset[query]["mask"].numpy()
        expected = np.broadcast_to((np.arange(column, column + 32) < 105).astype(int), (32, 32))
        np.testing.assert_array_equal(mask[mask != 255], expected[mask != 255])
    with pytest.raises(ConfigError, match="label_attribute: not given; name the column"):
        module(root, labels=str(tmp_path / "l.gpkg")).setup("fit")


def test_check_counts_polygons_without_a_class(root, tmp_path):
    with rasterio.open(root / "scene.tif") as file:
        whole = shapely.box(*file.bounds)
    kinds = {"kind": ["wet", "dry", None]}
    parts = [whole, whole.buffer(-0.001), whole]
    geopandas.GeoDataFrame(kinds, geometry=parts, crs="EPSG:4326").to_file(tmp_path / "l.gpkg")
    data = module(
        root,
        labels=str(tmp_path / "l.gpkg"),
        classes={"dry": "No water", "wet": "Water"},
        label_attribute="kind",
    )
    (found,) = [one for one in check_scenes(data) if one.subject == "l.gpkg"]
    assert (found.severity, found.message) == (
        "advice", "1 polygon has no value for kind; it is not labelled"
    )  # fmt: skip


# Bad input.


def moved(source, path, **profile):
    with rasterio.open(source) as file:
        values, own = file.read(), file.profile | profile
    with rasterio.open(path, "w", **own) as out:
        out.write(values)
    return str(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: {"transform": rasterio.Affine(1e-4, 0, 80, 0, -1e-4, 10)}, r"\)$"),
        (
            lambda x, y: {"transform": rasterio.Affine(1e-4, 0, y, 0, -1e-4, x)},
            r"\); with longitude and latitude exchanged, it would: ",
        ),
        (
            lambda x, y: {"crs": "EPSG:32631"},
            r" in EPSG:32631\); its coordinates would fit in EPSG:4326: check its CRS",
        ),
    ],
)
def test_labels_that_do_not_overlap_the_images_are_an_error_with_the_bounds_of_both(
    root, tmp_path, change, words
):
    with rasterio.open(root / "scene.tif") as scene:
        place = scene.bounds.left, scene.bounds.top
    far = moved(root / "scene_label.tif", tmp_path / "far.tif", **change(*place))
    bounds = r"\(left, bottom, right, top [-\d., ]+ in EPSG:\d+"
    expected = rf"^labels: .*far\.tif {bounds}\) does not intersect .*scene\.tif {bounds}.*{words}"
    with pytest.raises(DataError, match=expected):
        module(root, labels=far).setup("fit")


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("data.images", {"images": "gone.tif"}),
        ("data.labels", {"labels": "gone.tif"}),
        ("data.split.path", {"split": PolygonSplit("gone.tif")}),
    ],
)
def test_an_error_about_a_missing_file_names_the_key(root, key, options):
    with pytest.raises(DataError, match=rf"^{key}: gone\.tif: no such file or folder$"):
        module(root, **options).setup("fit")


def test_check_does_not_compare_the_training_data_with_themselves(root):
    (bands,) = [one for one in check_scenes(module(root)) if one.subject == "bands"]
    assert bands.message.endswith("(by the file's descriptions)")


def test_check_names_the_ground_of_a_split(root):
    messages = [one.message for one in check_scenes(module(root))]
    assert any(re.fullmatch(r"\d+ % of the area covered by both images and labels", one) for one in messages)


def test_a_label_without_crs_is_an_error(root, tmp_path):
    lost = moved(root / "scene_label.tif", tmp_path / "lost.tif", crs=None)
    with pytest.raises(DataError, match=r"lost\.tif: has no CRS"):
        module(root, labels=lost).setup("fit")


def test_a_stored_label_without_a_class_is_an_error(root):
    classes = {0: "No water", 7: "Lava"}
    words = r"scene_label\.tif: contains 1 \(\d+ pixels\), not in classes; known labels: 0, 7"
    with pytest.raises(DataError, match=words):
        module(root, classes=classes, balanced=True).setup("fit")
    data = module(root, classes=classes, balanced=False)
    data.setup("fit")
    with pytest.raises(DataError, match=words):
        [data.train_dataset[query] for query in data.train_sampler]


def test_a_split_by_time_without_dates_is_an_error(root):
    data = module(root, split=TimeSplit(("2020-01-01", "2020-12-31"), ("2021-01-01", "2021-12-31")))
    with pytest.raises(
        DataError, match=r"split: .* needs the dates of the images, but none is known: scene\.tif; "
    ):
        data.setup("fit")


def test_lightning_does_not_replace_the_samplers(root):
    """The samplers already divide the work between processes; a second division would skip or repeat samples."""
    data = module(root)
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert isinstance(loader.sampler, torch.utils.data.DistributedSampler)
    assert isinstance(data.train_sampler, RandomWindowGeoSampler)


@pytest.fixture
def apart(root, tmp_path):
    """The scene and its labels cut into a left and a right part, a gap between them, images of two days."""
    for name, files in (("scene.tif", "image"), ("scene_label.tif", "label")):
        with rasterio.open(root / name) as source:
            values, profile, descriptions = source.read(), source.profile, source.descriptions
        for day, columns in (("20230601", np.s_[:70]), ("20230801", np.s_[140:])):
            part = values[:, :, columns]
            corner = profile["transform"] * rasterio.Affine.translation(columns.start or 0, 0)
            path = tmp_path / f"{files}_{day}.tif"
            with rasterio.open(path, "w", **{**profile, "width": part.shape[2], "transform": corner}) as out:
                out.write(part)
                out.descriptions = [
                    f"{text}_{day}" if text and files == "image" else text for text in descriptions
                ]
    return tmp_path


@pytest.mark.parametrize("balanced", [False, True])
def test_distant_scenes_of_different_days_are_sampled_inside_their_images(apart, balanced):
    images, labels = (sorted(map(str, apart.glob(f"{kind}_*.tif"))) for kind in ("image", "label"))
    data = module(apart, images=images, labels=labels, balanced=balanced, windows_per_epoch=40)
    data.setup("fit")
    days = set()
    for query in data.train_sampler:
        sample = data.train_dataset[query]
        assert sample["valid"].any()
        days.add(query[2].start)
    assert len(days) == 2
    whole = 0
    for split in ("train", "val", "test"):
        windows = data.scored_windows(split, *data.open_both())
        whole += sum(int((windows[number]["mask"] != 255).sum()) for number in range(len(windows)))
    known = 0
    for image, label in zip(images, labels, strict=True):
        with rasterio.open(image) as one, rasterio.open(label) as other:
            known += int(((other.read(1) >= 0) & (one.read() != 0).any(axis=0)).sum())
    assert whole == known


@pytest.mark.parametrize(
    ("split", "side"),
    [
        (BlockSplit(96), 96),
        (BlockSplit(48), 96),
        (BlockSplit(32), 64),
        (TimeSplit(("2020", "2020"), ("2021", "2021")), 128),
    ],
)
def test_intervals_resample_blocks_with_room_for_several_windows(root, split, side):
    assert module(root, split=split, window=32).bootstrap_block == side


def test_every_loader_limits_the_block_cache_of_its_processes(root):
    data = module(root, num_workers=1)
    before = get_gdal_config("GDAL_CACHEMAX")
    try:
        data.setup("fit")
        limit = get_gdal_config("GDAL_CACHEMAX")
        for loader in (data.train_dataloader(), data.val_dataloader()):
            set_gdal_config("GDAL_CACHEMAX", before + 2**20)
            loader.worker_init_fn(0)
            assert get_gdal_config("GDAL_CACHEMAX") == limit
    finally:
        set_gdal_config("GDAL_CACHEMAX", before)


def test_fit_and_stats_print_once_which_bands_of_scenes_are_read(config, command):
    code, out, err = command("fit", "--config", config, "--trainer.fast_dev_run", "true")
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("Bands of ")]
    assert line.startswith("Bands of scene: BLUE=")
    code, out, err = command("stats", "--config", config)
    assert code == 0, err
    assert out.splitlines()[0] == f"# {line}"
    assert yaml.safe_load(out)["data"]["init_args"].keys() >= {"mean", "std"}


def test_a_scored_window_names_the_pixels_that_count_in_it(root):
    data = module(root, stride=20)
    data.setup("validate")
    sample = data.val_dataset[1]
    assert not sample["scored"].all()
    assert (sample["mask"][~sample["scored"]] == 255).all()
    batch = data.transfer_batch_to_device(next(iter(data.val_dataloader())), torch.device("cpu"), 0)
    assert batch["scored"].shape == batch["mask"].shape
