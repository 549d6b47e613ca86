"""User-defined scene formats: given by class path or registered, they work in training and mapping."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml

from prithvi_tg.datasets import SceneDataset, Sen1Floods11
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers import (
    SCENE_FORMATS,
    BandFile,
    FrameRequest,
    Grid,
    InputOptions,
    SceneFormat,
    SceneFrame,
    find_inputs,
)
from prithvi_tg.readers.formats import scene_formats
from prithvi_tg.readers.raster import open_raster

SPEC = Sen1Floods11.data_spec()
HERE = f"{__name__}.BandFolders"


class BandFolders(SceneFormat):
    """A folder ``DATE.scene`` with ``BAND=NAME.tif`` for each band."""

    description = "*.scene folders"

    def matches(self, path):
        return path.rstrip("/").endswith(".scene") and Path(path).is_dir()

    def open(self, path, request):
        files = {file.stem.removeprefix("BAND="): str(file) for file in Path(path).glob("BAND=*.tif")}
        missing = [band for band in request.spec.bands if band not in files]
        if missing:
            raise DataError(f"{path}: lacks BAND={missing[0]}.tif")
        channels = tuple(BandFile(files[band], 1, request.spec.scale) for band in request.spec.bands)
        with open_raster(channels[0].path) as source:
            grid = Grid.of(source)
        return SceneFrame(grid, channels, (None,), "a folder of bands")


@pytest.fixture
def folder(flood_root, tmp_path):
    """The synthetic scene in the format of `BandFolders`."""
    scene = tmp_path / "archive" / "lake.scene"
    scene.mkdir(parents=True)
    with rasterio.open(flood_root / "scene.tif") as source:
        for band, index in zip(SPEC.input.bands, SPEC.input.file_bands, strict=True):
            with rasterio.open(scene / f"BAND={band}.tif", "w", **{**source.profile, "count": 1}) as out:
                out.write(source.read(index), 1)
    return scene


def image(dataset):
    return dataset[dataset.bounds]["image"].numpy()


def test_a_scene_of_the_format_is_read_as_the_raster_with_the_same_values(folder, flood_root):
    expected = image(SceneDataset.open(flood_root / "scene.tif", SPEC.input))
    named = SceneDataset.open(folder, SPEC.input, InputOptions(format=HERE))
    np.testing.assert_array_equal(image(named), expected)
    assert named.scenes[0].name == "lake"


def test_folders_of_a_user_format_are_searched_and_commas_separate_dates(folder, flood_root):
    assert [found.name for found in find_inputs(folder.parent, format=HERE)] == ["lake"]
    with pytest.raises(DataError, match=r"contains no scene \(\*\.scene folders\)"):
        find_inputs(flood_root, format=HERE)
    two = replace(SPEC.input, num_frames=2, mean=SPEC.input.mean * 2, std=SPEC.input.std * 2, file_bands=())
    series = SceneDataset.open(f"{folder},{folder}", two, InputOptions(format=HERE))
    assert image(series).shape[0] == 2


def test_a_registered_format_needs_no_name(folder, monkeypatch):
    monkeypatch.setitem(SCENE_FORMATS, "folders", BandFolders())
    assert [found.name for found in find_inputs(folder.parent)] == ["lake"]
    assert SceneDataset.open(folder, SPEC.input).scenes[0].origin == "a folder of bands"


def test_predict_maps_a_user_format(command, trained, folder, flood_root, tmp_path):
    code, _, err = command(
        "predict", "--ckpt_path", trained, folder.parent, "--format", HERE, "--output", tmp_path
    )
    assert code == 0, err
    code, _, err = command("predict", "--ckpt_path", trained, flood_root / "scene.tif", "--output", tmp_path)
    assert code == 0, err
    with (
        rasterio.open(tmp_path / "lake_pred.tif") as one,
        rasterio.open(tmp_path / "scene_pred.tif") as other,
    ):
        np.testing.assert_array_equal(one.read(), other.read())
    assert json.loads((tmp_path / "lake_pred.json").read_text())


def test_labelled_scenes_are_read_from_a_configuration(command, folder, flood_root, tmp_path):
    spec = SPEC.input
    data = {
        "class_path": "LabelledScenesDataModule",
        "init_args": {
            "images": str(folder), "format": HERE, "labels": str(flood_root / "scene_label.tif"),
            "classes": {0: "Land", 1: "Water"}, "mean": [0.0] * len(spec.bands), "std": [1.0] * len(spec.bands),
            "bands": list(spec.bands), "window": 32, "windows_per_epoch": 4, "scale": spec.scale,
            "split": {
                "class_path": "prithvi_tg.datamodules.labelled_scenes.BlockSplit",
                "init_args": {"block": 32, "fractions": [0.6, 0.4, 0.0]},
            },
        },
    }  # fmt: skip
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump({"data": data}))
    code, out, err = command("stats", "--config", path)
    assert code == 0, err
    assert len(yaml.safe_load(out)["data"]["init_args"]["mean"]) == len(spec.bands)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "netcdf",
            "format: 'netcdf' is unknown; choose from raster, safe, hls, stac, or the path of a class",
        ),
        (
            "no_such_module.Format",
            "format: no_such_module.Format: no module no_such_module; put its folder on PYTHONPATH",
        ),
        (f"{__name__}.Nothing", "has no Nothing"),
        ("pathlib.Path", "format: pathlib.Path must derive from prithvi_tg.readers.frames.SceneFormat"),
    ],
)
def test_an_unknown_format_is_an_error_of_one_line(name, words):
    with pytest.raises(ConfigError) as error:
        scene_formats(name)
    assert words in str(error.value)


def test_a_format_of_the_table_can_be_chosen(flood_root):
    assert [found.name for found in find_inputs(flood_root / "scene.tif", format="raster")] == ["scene"]
    with pytest.raises(DataError, match=r"\.SAFE folder"):
        SceneDataset.open(flood_root / "scene.tif", SPEC.input, InputOptions(format="safe"))


class Wrong(BandFolders):
    """Returns `frame`, computed from the correct frame."""

    frame = staticmethod(lambda frame: frame)

    def open(self, path, request):
        return type(self).frame(super().open(path, request))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: None, r"returns NoneType, not a SceneFrame"),
        (lambda frame: replace(frame, channels=frame.channels[:4]), r"returns 4 channels for 6 bands \(BLUE GREEN"),
        (lambda frame: replace(frame, channels=("a.tif",) * 6), "returns channels of type str, not BandFile"),
        (lambda frame: replace(frame, dates=()), r"returns dates = \(\); 1 of datetime.date or None are expected"),
        (lambda frame: replace(frame, dates=date(2020, 5, 1)), r"returns dates = datetime.date\(2020, 5, 1\); 1 of"),
        (lambda frame: replace(frame, dates=("2020-05-01",)), "returns the date '2020-05-01', not a datetime.date"),
    ],
)  # fmt: skip
def test_results_of_a_format_are_checked_when_a_scene_is_opened(folder, monkeypatch, change, words):
    monkeypatch.setattr(Wrong, "frame", staticmethod(change))
    with pytest.raises(ConfigError, match=rf"format: Wrong.open {words}.*lake\.scene\)$"):
        SceneDataset.open(folder, SPEC.input, InputOptions(format=f"{__name__}.Wrong"))


class NoOpen(SceneFormat):
    description = "nothing"

    def matches(self, path):
        return True


class NoDescription(SceneFormat):
    matches = BandFolders.matches
    open = BandFolders.open


class Stacks(BandFolders):
    stacks = True


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoOpen", "format: .*NoOpen does not define open; see prithvi_tg.readers.frames.SceneFormat"),
        ("NoDescription", "format: .*NoDescription has no description"),
        ("Stacks", "format: Stacks has stacks = True, which needs tile_and_date"),
    ],
)
def test_a_format_without_a_required_method_is_refused(folder, name, words):
    with pytest.raises(ConfigError, match=words):
        find_inputs(folder.parent, 2, format=f"{__name__}.{name}")


def test_a_file_of_another_format_is_not_opened(flood_root):
    with pytest.raises(DataError, match=r"scene.tif: not a scene; expected \*\.scene folders"):
        find_inputs(flood_root / "scene.tif", format=HERE)


def test_options_replace_scale_and_offset_of_a_band_and_add_nodata():
    file = BandFile(Path("a.tif"), 1, 2.0, 1.0, (0.0,))
    assert file.path == "a.tif"
    assert FrameRequest(SPEC.input, InputOptions(), 1, ()).with_options(file) == file
    options = InputOptions(scale=3.0, offset=4.0, nodata=(-1.0,))
    found = FrameRequest(SPEC.input, options, 1, ()).with_options(file)
    assert (found.scale, found.offset, set(found.nodata)) == (3.0, 4.0, {0.0, -1.0})
