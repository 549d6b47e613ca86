"""A report finds the scene of a map for every form of its name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import TINY
from rasterio.transform import from_origin

from prithvi_tg import PrithviSegmentationTask, map_scene
from prithvi_tg.commands.report import _tiled, mapped_scene
from prithvi_tg.datasets import HLSBurnScars, MultiTemporalCropClassification
from prithvi_tg.errors import DataError
from prithvi_tg.readers.formats import resolve_scene
from prithvi_tg.reporting.tiles import tile_map

CODES = ("B02", "B03", "B04", "B8A", "B11", "B12")
ONE, THREE = HLSBurnScars.data_spec(), MultiTemporalCropClassification.data_spec()


def write(path, bands=6, seed=0, dtype="int16", driver="GTiff"):
    values = np.random.default_rng(seed).integers(500, 3000, (bands, 40, 40)).astype(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver, 40, 40, bands, "EPSG:32610", from_origin(500000, 4000000, 30, 30), dtype
    ) as out:
        out.write(values)
    return path


def hls(folder, day=2018190):
    prefix = folder / f"HLS.S30.T10SEH.{day}T184921.v2.0"
    for number, code in enumerate((*CODES, "Fmask")):
        write(Path(f"{prefix}.{code}.tif"), 1, number)
    return prefix


def safe(folder):
    product = folder / "S2A_MSIL2A_20221005T113321_N0400_R080_T29UNU_20221005T174352.SAFE"
    for code in (*CODES, "SCL"):
        name = f"GRANULE/L2A_T29UNU/IMG_DATA/R20m/T29UNU_20221005T113321_{code}_20m.jp2"
        write(product / name, 1, dtype="uint16", driver="JP2OpenJPEG")
    (product / "MTD_MSIL2A.xml").write_text(
        "<a><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE></a>"
    )
    return product


def dates(folder):
    return ",".join(str(write(folder / f"{month}.tif", seed=number)) for number, month in enumerate("abc"))


SCENES = {
    "raster": (ONE, lambda folder: write(folder / "scene.tif", dtype="float32")),
    "name with a comma": (ONE, lambda folder: write(folder / "Tours, France.tif", dtype="float32")),
    "name with a hash": (ONE, lambda folder: write(folder / "scene #2.tif", dtype="float32")),
    "SAFE": (ONE, safe),
    "SAFE, named with a slash": (ONE, lambda folder: f"{safe(folder)}/"),
    "granule": (ONE, hls),
    "folder of a granule": (ONE, lambda folder: hls(folder / "granule").parent),
    "dates": (THREE, dates),
    "dates in one raster": (THREE, lambda folder: write(folder / "stack.tif", 18)),
    "dates of granules": (
        THREE, lambda folder: ",".join(str(hls(folder / "granules", 2018190 + k)) for k in range(3))
    ),
}  # fmt: skip


def mapped(spec, word, output):
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, window=32, stride=32, num_frames=spec.input.num_frames,
        data_spec=spec.to_dict(),
    )  # fmt: skip
    return map_scene(task, word, output)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SCENES)
def test_the_scene_of_a_map_is_found_from_another_folder(kind, tmp_path, monkeypatch):
    spec, create = SCENES[kind]
    word = create(tmp_path / "scenes")
    path = mapped(spec, word, tmp_path / "maps/map_pred.tif")
    item = json.loads(path.with_suffix(".json").read_text())["properties"]
    assert str(tmp_path) not in str([item["prithvi_tg:scene"], item["prithvi_tg:sources"]])
    tmp_path.joinpath("moved").mkdir()
    for folder in ("scenes", "maps"):  # both together
        shutil.move(tmp_path / folder, tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved/scenes")
    again = tmp_path / "moved/maps/map_pred.tif"
    scene = resolve_scene(mapped_scene(again.with_suffix(".json"), spec.input.num_frames), spec)
    tiled = tile_map(again, 1e6, scene, spec)
    assert tiled.levels[-1]["tiles"]["0_0"]["scene"].startswith("data:image/jpeg")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["raster", "name with a comma", "dates", "dates in one raster", "granule"])
def test_older_items_name_plain_rasters(kind, tmp_path):
    spec, create = SCENES[kind]
    path = mapped(spec, create(tmp_path / "scenes"), tmp_path / "maps/map_pred.tif")
    item = path.with_suffix(".json")
    content = json.loads(item.read_text())
    del content["properties"]["prithvi_tg:scene"]
    item.write_text(json.dumps(content))
    if kind == "granule":
        with pytest.raises(DataError, match="names 7 files, not the scene; give it with --scenes"):
            mapped_scene(item, spec.input.num_frames)
    else:
        scene = resolve_scene(mapped_scene(item, spec.input.num_frames), spec)
        assert [Path(name).resolve() for name in scene.files] == sorted((tmp_path / "scenes").glob("*.tif"))


@pytest.mark.filterwarnings("ignore")
def test_a_map_of_another_number_of_dates_than_the_model_of_the_report_has_its_scene(tmp_path, capsys):
    three, create = SCENES["dates"]
    path = mapped(three, create(tmp_path / "scenes"), tmp_path / "maps/map_pred.tif")
    tiled = _tiled(path, None, ONE, 1e6)
    assert tiled.levels[-1]["tiles"]["0_0"]["scene"].startswith("data:image/jpeg")
    assert capsys.readouterr().err == ""
