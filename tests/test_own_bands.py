"""Files whose band descriptions are no standard names, from training to the report."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from conftest import TINY

from prithvi_tg.datasets import ChipFolder
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers.formats import InputOptions, find_inputs, resolve_scene
from prithvi_tg.readers.recorded_options import options_tag, recorded_options
from prithvi_tg.spec import InputSpec

BANDS = ["BLUE", "GREEN", "RED", "NIR_BROAD"]
NAMES = ("drone_nir", "drone_red", "drone_green", "drone_blue")
FILE_BANDS = ["NIR_BROAD", "RED", "GREEN", "BLUE"]


def write(path, count=4, names=NAMES, low=0, high=3000, dtype="int16", size=64, crs="EPSG:32633"):
    values = np.random.default_rng(len(str(path))).integers(low, high, (count, size, size)).astype(dtype)
    profile = {"crs": crs, "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), "dtype": dtype}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", "GTiff", size, size, count, **profile) as out:
        out.write(values)
        if names:
            out.descriptions = names[:count]
    return path


def settings(folder, **changes):
    return {
        "images": f"{folder}/img_*.tif", "labels": f"{folder}/lab_*.tif", "splits": f"{folder}/splits.csv",
        "classes": {0: "Dry", 1: "Wet"}, "bands": BANDS, "file_bands": FILE_BANDS,
        "mean": [1000.0] * 4, "std": [500.0] * 4,
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    """Chips with four bands of another order, with names of their own."""
    folder = tmp_path_factory.mktemp("drone")
    for name in "abc":
        write(folder / f"img_{name}.tif")
        write(folder / f"lab_{name}.tif", 1, (), high=2, dtype="uint8")
    (folder / "splits.csv").write_text("chip,split\na,train\nb,train\nc,val\n")
    return folder


@pytest.fixture(scope="module")
def run(chips, tmp_path_factory):
    """The folder of a run on these chips."""
    from prithvi_tg.__main__ import main

    folder = tmp_path_factory.mktemp("run")
    config = {
        "model": {
            "class_path": "PrithviSegmentationTask",
            "init_args": {"encoder": "nano", "encoder_args": TINY, "head_channels": 8, "window": 32},
        },
        "data": {
            "class_path": "ChipFolderDataModule",
            "init_args": settings(chips) | {"batch_size": 2, "crop_size": 32},
        },
        "trainer": {"max_epochs": 1, "default_root_dir": str(folder), "accelerator": "cpu"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(folder / "config.yaml")]) == 0
    return folder / "version_0"


def input_spec(**changes):
    return InputSpec(tuple(BANDS), (1000.0,) * 4, (500.0,) * 4, **changes)


def indexes(path, spec, **options):
    (found,) = find_inputs([path])
    return [channel.index for channel in resolve_scene(found, spec, InputOptions(**options)).channels]


def test_files_described_as_in_training_have_the_same_positions(tmp_path):
    spec = input_spec(file_bands=(4, 3, 2, 1), file_count=4, file_descriptions=NAMES)
    assert indexes(write(tmp_path / "same.tif"), spec) == [4, 3, 2, 1]
    assert indexes(write(tmp_path / "same.tif"), spec, bands=("1", "2", "3", "4")) == [1, 2, 3, 4]
    for names in (("drone_nir", "drone_red", "drone_blue", "drone_green"), (*NAMES, "extra")):
        other = write(tmp_path / "other.tif", len(names), names)
        with pytest.raises(DataError, match=rf"lack BLUE, .* by index \(1 to {len(names)}\) or name$"):
            indexes(other, spec)


def test_many_band_descriptions_are_listed_in_part(tmp_path):
    path = write(tmp_path / "many.tif", 128, [f"A{number:02}" for number in range(128)])
    with pytest.raises(
        DataError, match=r"A00, A01, .*A15, 112 more\) lack BLUE, .* by index \(1 to 128\)"
    ) as caught:
        indexes(path, input_spec())
    assert len(str(caught.value).replace(str(path), "")) < 400


def test_an_error_of_training_names_file_bands(tmp_path):
    with pytest.raises(DataError, match=r"lack BLUE.*; set file_bands to the names of all bands") as caught:
        indexes(write(tmp_path / "scene.tif"), input_spec(), training=True)
    assert "--bands" not in str(caught.value)


def test_a_checkpoint_maps_and_embeds_files_described_as_in_training(run, tmp_path, command):
    scene, best = write(tmp_path / "scene.tif"), run / "checkpoints/best.ckpt"
    code, out, err = command("predict", "--ckpt_path", best, scene, "--output", tmp_path / "maps")
    assert code == 0, err
    assert "BLUE=4 GREEN=3 RED=2 NIR_BROAD=1 (same descriptions and positions as in the training data)" in out
    code, _, err = command("embed", "--ckpt_path", best, scene, "--output", tmp_path / "features.tif")
    assert code == 0, err


def test_a_report_reads_the_scene_as_the_map_did(run, tmp_path, command):
    scene = write(tmp_path / "scene.tif", names=("a", "b", "c", "d"), high=300)
    words = ("--bands", "1", "2", "3", "4", "--scale", "10", "--nodata", "7", "--dates", "2024-05-01")
    best = run / "checkpoints/best.ckpt"
    assert command("predict", "--ckpt_path", best, scene, "--output", tmp_path / "maps", *words)[0] == 0
    item = json.loads((tmp_path / "maps/scene_pred.json").read_text())
    assert json.loads(item["properties"]["prithvi_tg:reading"]) == {
        "bands": ["1", "2", "3", "4"], "scale": 10.0, "nodata": [7.0], "dates": ["2024-05-01"]
    }  # fmt: skip
    for number, more in enumerate(((), ("--scenes", scene))):
        page = tmp_path / f"{number}.html"
        code, _, err = command("report", run, "--maps", tmp_path / "maps", "--output", page, *more)
        assert (code, err) == (0, "")
        assert "data:image/jpeg" in page.read_text()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bands": (1, "B02"), "sensor": "landsat8", "scale": 2.0, "offset": 1.0, "nodata": (0.0,), "legacy": True},
        {"dates": ("2024-01-01", "2024-02-01"), "format": "raster"},
    ],
)  # fmt: skip
def test_options_are_restored_from_the_tag(options, tmp_path):
    given = InputOptions(**options)
    assert recorded_options(options_tag(given, tmp_path), tmp_path / "map.tif") == given


def test_quality_files_are_recorded_relative_to_the_map(tmp_path, monkeypatch):
    quality = write(tmp_path / "scenes/SCL.tif", 1, ("SCL",))
    (tmp_path / "maps").mkdir()
    tags = options_tag(InputOptions(quality=(str(quality),)), tmp_path / "maps")
    assert json.loads(tags["reading"]) == {"quality": ["../scenes/SCL.tif"]}
    restored = recorded_options(tags, tmp_path / "maps/map.tif")
    assert [rasterio.open(path).count for path in restored.quality] == [1]


def test_a_map_does_not_choose_the_code_that_runs(tmp_path):
    path = tmp_path / "map.tif"
    assert recorded_options({"reading": '{"modifier": "os.system"}'}, path).modifier is None
    with pytest.raises(DataError, match=r"map\.tif: its scene has the format my_module\.Format, which maps"):
        recorded_options({"reading": '{"format": "my_module.Format"}'}, path)


@pytest.mark.parametrize("text", ["{", "[1]", "3", '{"unknown": 1}'])
def test_a_damaged_tag_is_an_error(text, tmp_path):
    with pytest.raises(DataError, match=r"map\.tif: its tag reading is damaged"):
        recorded_options({"reading": text}, tmp_path / "map.tif")


def test_chips_with_other_bands_than_the_configuration_are_not_to_be_skipped(chips):
    six = {"bands": [*BANDS[:3], "NIR_NARROW", "SWIR_1", "SWIR_2"], "mean": [1] * 6, "std": [1] * 6}
    dataset = ChipFolder(**settings(chips, file_bands=None, **six))
    with pytest.raises(
        DataError, match=r"has 4 bands, but 6 are expected \(bands: BLUE, .*set bands, and file"
    ) as one:
        dataset[0]
    assert "skip_bad" not in str(one.value)


def test_one_chip_with_other_bands_may_be_skipped(tmp_path):
    for name, count in (("a", 4), ("b", 3)):
        write(tmp_path / f"img_{name}.tif", count)
        write(tmp_path / f"lab_{name}.tif", 1, (), high=2, dtype="uint8")
    (tmp_path / "splits.csv").write_text("chip,split\na,train\nb,train\n")
    with pytest.raises(
        DataError, match=r"img_b\.tif: has 3 bands, but 4 are expected .*skip_bad=True skips them"
    ):
        ChipFolder(**settings(tmp_path))[1]


def test_bands_by_default_are_named_where_the_files_lack_them(chips):
    bands = [*BANDS[:3], "NIR_NARROW", "SWIR_1", "SWIR_2"]
    with pytest.raises(
        ConfigError, match=r"NIR_NARROW is not among file_bands, .*bands defaults to BLUE GREEN"
    ):
        ChipFolder(**settings(chips, bands=bands))


@pytest.mark.parametrize("key", ["bands", "file_bands"])
def test_a_band_name_of_ones_own_is_an_error_of_its_key(key, chips):
    with pytest.raises(
        ConfigError, match=f"^{key}: 'drone_blue' is unknown; .*the name with the nearest wavelength"
    ):
        ChipFolder(**settings(chips, **{key: ["drone_blue", *BANDS[1:]]}))


def test_a_failing_scene_is_reported_once(run, tmp_path, command):
    scene, best = write(tmp_path / "scene.tif", 2, ("a", "b")), run / "checkpoints/best.ckpt"
    code, out, err = command("predict", "--ckpt_path", best, scene, "--output", tmp_path / "maps")
    assert code == 1
    assert (out + err).count("lack BLUE") == 1
    assert "scenes failed" not in out + err
    other = write(tmp_path / "other.tif", 2, ("a", "b"))
    code, out, err = command("predict", "--ckpt_path", best, scene, other, "--output", tmp_path / "maps")
    assert "2 of 2 scenes failed" in err


def test_a_map_of_values_is_skipped_in_a_report(run, tmp_path, command):
    values = write(tmp_path / "height_pred.tif", 1, (), dtype="float32")
    with rasterio.open(values, "r+") as out:
        out.update_tags(checkpoint_sha256="0")
    page = tmp_path / "page.html"
    code, _, err = command("report", run, "--maps", values, "--output", page)
    assert (code, "height_pred.tif: skipped, because the page shows maps of classes only" in err) == (0, True)
    other = Path(shutil.copy(values, tmp_path / "other_pred.tif"))
    code, _, err = command("report", run, "--maps", values, other, "--output", page, "--overwrite")
    assert err.count("skipped") == err.count("height_pred.tif and 1 other: skipped") == 1
    assert "labelled pixels" in page.read_text()


def test_a_report_writes_numbers_with_commas_and_own_scores_apart(run, tmp_path, command):
    copy = tmp_path / "run"
    copy.mkdir()
    for path in run.iterdir():
        if path.is_file():
            copy.joinpath(path.name).write_bytes(path.read_bytes())
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["overall"]["kappa"] = 1.0
    (copy / "metrics.json").write_text(json.dumps(metrics))
    page = tmp_path / "page.html"
    assert command("report", copy, "--output", page)[0] == 0
    text = page.read_text()
    assert "further scores (not in per cent)" in text[: text.index("<th>kappa</th>")]
    assert any(f"<td>{one['labelled_pixels']:,}</td>" in text for one in metrics["per_class"].values())
