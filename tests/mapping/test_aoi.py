"""Maps of an area of interest: equal to the whole map inside, nothing else read or run."""

import copy
import itertools
import json
import logging
import re

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from conftest import TINY
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from prithvi_tg import PrithviSegmentationTask, embed_scene, map_scene, map_strips
from prithvi_tg.cli.spelling import with_boxes_joined
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.mapping.scene_map import SceneMap
from prithvi_tg.mapping.window_stream import WindowStream
from prithvi_tg.readers.aoi import AreaOfInterest
from prithvi_tg.readers.grid import Grid
from prithvi_tg.readers.scene import SceneReader
from prithvi_tg.tiling import PixelArea, WindowGrid

LEFT, TOP, PIXEL, CRS_NAME = 600000, 4200000, 30, "EPSG:32615"
HEIGHT, WIDTH, BLOCK = 300, 340, 32
#: In pixels (column, row): an L, far from the edges.
L_SHAPE = shapely.Polygon([(90, 70), (130, 70), (130, 190), (240, 190), (240, 215), (90, 215)])
#: Two parts far from each other.
TWO = shapely.MultiPolygon([shapely.box(5, 20, 30, 41), shapely.box(290, 200, 331, 288)])
#: Edges that cross pixels, and the corner of the scene.
TRIANGLE = shapely.Polygon([(-40, 310), (99.3, 300), (40.2, 170.7)])


def ground(shape):
    """Pixels to coordinates."""
    return shapely.transform(
        shape, lambda p: np.stack([LEFT + PIXEL * p[:, 0], TOP - PIXEL * p[:, 1]], axis=1)
    )


def write_area(path, shape, crs=CRS_NAME):
    geopandas.GeoDataFrame(geometry=[ground(shape)], crs=CRS_NAME).to_crs(crs).to_file(path)
    return path


def write_scene(path, height=HEIGHT, width=WIDTH, seed=0, corner=(LEFT, TOP), pixel=PIXEL):
    rng = np.random.default_rng(seed)
    smooth = np.kron(rng.normal(size=(6, -(-height // 8), -(-width // 8))), np.ones((8, 8)))[
        :, :height, :width
    ]
    values = (0.1 + 0.05 * smooth + 0.02 * rng.normal(size=(6, height, width))).astype("float32")
    values[:, 195:205, 100:180] = -9999
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=6, height=height, width=width, nodata=-9999, crs=CRS_NAME,
        transform=rasterio.Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), tiled=True, blockxsize=BLOCK,
        blockysize=BLOCK,
    ) as out:  # fmt: skip
        out.write(values)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif")


@pytest.fixture
def task(burn_spec):
    torch.manual_seed(0)
    made = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, window=64, stride=48, num_classes=2,
        data_spec=burn_spec.to_dict(),
    )  # fmt: skip
    made.model.decode_head.conv_seg.weight.data *= 100
    return made.eval()


def raster(path):
    with rasterio.open(path) as file:
        return file.read(), file.transform, file.tags()


def box_of(transform):
    """Row and column of the top left corner of a map in the scene."""
    return round((TOP - transform.f) / PIXEL), round((transform.c - LEFT) / PIXEL)


def centres_inside(shape):
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    return shapely.contains_xy(shape, columns, rows)


# Equal to the whole map.


@pytest.mark.parametrize("blending", ["average", "hann", "crop"])
@pytest.mark.parametrize(
    ("window", "stride", "shape"),
    [(64, 48, L_SHAPE), (64, 64, TWO), (48, 32, TRIANGLE), (96, 40, TWO)],
    ids=["l", "two", "triangle", "overlap"],
)
def test_a_map_of_an_area_equals_the_whole_map_inside(task, scene, tmp_path, shape, blending, window, stride):
    made = {"window": window, "stride": stride, "blending": blending, "probabilities": "float32"}
    whole = map_scene(task, scene, tmp_path / "whole_pred.tif", **made)
    part = map_scene(
        task,
        scene,
        tmp_path / "part_pred.tif",
        aoi=write_area(tmp_path / "a.gpkg", shape),
        num_workers=2,
        **made,
    )
    inside = centres_inside(shape)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    expected, found = (raster(path) for path in (whole, part))
    assert box_of(found[1]) == (rows[0], columns[0])
    np.testing.assert_array_equal(found[0][0], np.where(inside[box], expected[0][0][box], 255))
    expected, found = (
        raster(path.with_name(path.name.replace("_pred", "_probabilities")))[0] for path in (whole, part)
    )
    assert len(np.unique(found[0][np.isfinite(found[0])])) > 10
    np.testing.assert_allclose(
        found, np.where(inside[box], expected[:, *box], np.nan), atol=1e-5, equal_nan=True
    )


def test_views_and_ensembles_of_an_area_equal_those_of_the_whole_map(task, tmp_path):
    torch.manual_seed(1)
    scene = write_scene(tmp_path / "scene.tif", 130, 120)
    other = copy.deepcopy(task)
    for weights in other.parameters():
        weights.data += 0.02 * torch.randn_like(weights)
    shape = shapely.Polygon([(30, 40), (90, 50), (40, 110)])
    area, inside = write_area(tmp_path / "a.gpkg", shape), centres_inside(shape)
    for blending, member, tta in (
        ("average", task, "d4"), ("hann", [task, other], None), ("crop", [task, other], "d4")
    ):  # fmt: skip
        made = {"blending": blending, "tta": tta, "products": ("entropy", "std"), "overwrite": True}
        found = {}
        for name, chosen in (("whole", None), ("part", area)):
            path = map_scene(member, scene, tmp_path / f"{name}_pred.tif", aoi=chosen, **made)
            found[name] = [
                raster(path),
                *(raster(tmp_path / f"{name}_{one}.tif") for one in ("entropy", "std")),
            ]
        top, left = box_of(found["part"][0][1])
        for number, ((whole, _, _), (part, _, _)) in enumerate(
            zip(found["whole"], found["part"], strict=True)
        ):
            box = np.s_[top : top + part.shape[1], left : left + part.shape[2]]
            assert len(np.unique(part)) > 2
            difference = part[0].astype(int) - np.where(inside[box], whole[0][box], 255)
            assert abs(difference).max() <= (number > 0)  # stored uncertainties may differ by rounding


def test_rows_of_an_area_are_those_of_its_map(task, scene, tmp_path):
    area = write_area(tmp_path / "a.gpkg", L_SHAPE)
    path = map_scene(task, scene, tmp_path / "part_pred.tif", aoi=area)
    parts = list(map_strips(task, scene, aoi=area))
    assert [rows.top for rows in parts] == [0, *(rows.bottom for rows in parts[:-1])]
    np.testing.assert_array_equal(np.concatenate([rows.classes for rows in parts]), raster(path)[0][0])


def test_an_area_is_mapped_with_several_dates_and_files_on_other_grids(burn_spec, tmp_path):
    from dataclasses import replace

    torch.manual_seed(0)
    spec = replace(burn_spec, input=replace(burn_spec.input, num_frames=2))
    made = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, window=64, stride=48, num_classes=2, num_frames=2,
        data_spec=spec.to_dict(),
    ).eval()  # fmt: skip
    made.model.decode_head.conv_seg.weight.data *= 100
    first = write_scene(tmp_path / "first.tif")
    second = write_scene(tmp_path / "second.tif", 160, 190, seed=1, corner=(LEFT - 70, TOP + 50), pixel=60)
    area = write_area(tmp_path / "a.gpkg", L_SHAPE)
    names = f"{first},{second}"
    whole = raster(map_scene(made, names, tmp_path / "whole_pred.tif"))[0][0]
    part, transform, _ = raster(map_scene(made, names, tmp_path / "part_pred.tif", aoi=area))
    top, left = box_of(transform)
    cropped = whole[top : top + part.shape[1], left : left + part.shape[2]]
    inside = part[0] != 255
    assert 0.3 < inside.mean() < 0.5
    assert len(np.unique(part[0])) == 3
    np.testing.assert_array_equal(part[0][inside], cropped[inside])


@pytest.mark.parametrize("blending", ["average", "crop"])
def test_features_of_an_area_equal_those_of_the_whole_scene(task, scene, tmp_path, blending):
    made = {"dtype": "float32", "window": 64, "stride": 32, "blending": blending}
    whole, _, _ = raster(embed_scene(task, scene, tmp_path / "whole.tif", **made))
    area = write_area(tmp_path / "a.gpkg", L_SHAPE)
    part, transform, tags = raster(embed_scene(task, scene, tmp_path / "part.tif", aoi=area, **made))
    top, left = (round(value / 16) for value in box_of(transform))
    cropped = whole[:, top : top + part.shape[1], left : left + part.shape[2]]
    rows, columns = np.mgrid[top : top + part.shape[1], left : left + part.shape[2]] * 16 + 8
    inside = shapely.contains_xy(L_SHAPE, columns, rows)
    assert inside.any(axis=0).all()
    assert inside.any(axis=1).all()
    np.testing.assert_allclose(part, np.where(inside, cropped, np.nan), atol=1e-5)
    assert len(tags["aoi_sha256"]) == 64


# Nothing else is read or run.


def windows_touching(shape, window, stride, blending):
    plan = WindowGrid.of((HEIGHT, WIDTH), window, stride, blending, 16)
    inside = centres_inside(shape)
    return {
        (plan.rows.starts[r], plan.columns.starts[c])
        for r, (top, bottom) in enumerate(plan.rows.core)
        for c, (left, right) in enumerate(plan.columns.core)
        if inside[top:bottom, left:right].any()
    }


def blocks_of(top, bottom, left, right):
    rows = range(top // BLOCK, -(-min(bottom, HEIGHT) // BLOCK))
    columns = range(left // BLOCK, -(-min(right, WIDTH) // BLOCK))
    return {(row, column) for row in rows for column in columns}


@pytest.mark.parametrize("blending", ["average", "crop"])
@pytest.mark.parametrize("shape", [L_SHAPE, TWO], ids=["l", "two"])
def test_only_windows_that_touch_the_area_run_and_only_their_blocks_are_read(
    task, scene, tmp_path, monkeypatch, shape, blending
):
    run, read = set(), set()
    original_read, original_iter = SceneReader._read_stored, WindowStream.__iter__

    def reading(self, window, size):
        top, left = int(window.row_off), int(window.col_off)
        read.update(blocks_of(top, top + int(window.height), left, left + int(window.width)))
        return original_read(self, window, size)

    def iterating(self):
        for batch in original_iter(self):
            for event in batch.windows:
                plan = event.strip_range.plan
                run.add((plan.rows.starts[event.row], plan.columns.starts[event.column]))
            yield batch

    monkeypatch.setattr(SceneReader, "_read_stored", reading)
    monkeypatch.setattr(WindowStream, "__iter__", iterating)
    area = write_area(tmp_path / "a.gpkg", shape)
    map_scene(task, scene, tmp_path / "part_pred.tif", aoi=area, window=32, stride=24, blending=blending)
    expected = windows_touching(shape, 32, 24, blending)
    # Windows without data do not run, but are read to know it.
    assert run <= expected
    assert len(run) >= len(expected) - 3
    assert read == {block for top, left in expected for block in blocks_of(top, top + 32, left, left + 32)}
    assert len(read) < 0.45 * len(blocks_of(0, HEIGHT, 0, WIDTH))


def test_without_an_area_each_row_is_read_once_in_full_width(task, scene, tmp_path, monkeypatch):
    read = []
    original = SceneReader._read_stored

    def reading(self, window, size):
        read.append(window.flatten())
        return original(self, window, size)

    monkeypatch.setattr(SceneReader, "_read_stored", reading)
    map_scene(task, scene, tmp_path / "pred.tif")
    assert read == [(0, 0, WIDTH, 256), (0, 256, WIDTH, HEIGHT - 256)]


@pytest.mark.parametrize("seed", range(30))
def test_windows_of_an_area_are_those_of_the_whole_scene(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(20, 400, 2)
    window = int(rng.integers(8, 90))
    made = (tuple(shape.tolist()), window, int(rng.integers(1, window + 1)))
    blending = str(rng.choice(["average", "hann", "crop"]))
    mask = rng.random(shape) < 3 / shape.prod()
    mask[tuple(rng.integers(0, shape))] = True
    area = PixelArea.of(0, 0, np.array_split(mask, 3))
    assert area is not None
    whole, part = WindowGrid.of(*made, blending), WindowGrid.of(*made, blending, area=area)
    touching = {
        (r, c)
        for r, (top, bottom) in zip(whole.rows.starts, whole.rows.core, strict=True)
        for c, (left, right) in zip(whole.columns.starts, whole.columns.core, strict=True)
        if mask[top:bottom, left:right].any()
    }
    found = {(part.rows.starts[r], part.columns.starts[c]) for r, c in np.argwhere(part.touching)}
    assert found == touching
    (top, bottom), (left, right) = part.rows.mapped, part.columns.mapped
    np.testing.assert_array_equal(area.rows(top, bottom), mask[top:bottom, left:right])
    assert mask.sum() == area.rows(top, bottom).sum()
    np.testing.assert_array_equal(part.rows.total_weight, whole.rows.total_weight[top:bottom])
    edges = [strip.top for strip in part.strips] + [part.strips[-1].bottom]
    assert (edges[0], edges[-1]) == (top, bottom)
    assert all(after > before for before, after in itertools.pairwise(edges))


# Products, provenance and resuming.


@pytest.mark.pictures
def test_all_products_are_limited_to_the_area(task, scene, tmp_path):
    area = write_area(tmp_path / "a.gpkg", L_SHAPE, "EPSG:4326")
    path = map_scene(
        task, scene, tmp_path / "s_pred.tif", aoi=area, confidence=True, probabilities="uint8", quicklook=True,
        vector=task.data_spec.target.names,
    )  # fmt: skip
    values, transform, tags = raster(path)
    mapped = values[0] != 255
    for name in ("confidence", "probabilities"):
        other, placed, _ = raster(tmp_path / f"s_{name}.tif")
        assert placed == transform
        np.testing.assert_array_equal(other[0] != 255, mapped)
    item = json.loads((tmp_path / "s_pred.json").read_text())
    assert item["properties"]["prithvi_tg:aoi"] == tags["aoi"] == str(area)
    assert len(tags["aoi_sha256"]) == 64
    assert item["properties"]["proj:shape"] == list(values.shape[1:])
    assert sum(one["pixels"] for one in item["properties"]["prithvi_tg:classes"]) == mapped.sum()
    west, south, east, north = transform_bounds(CRS_NAME, "EPSG:4326", *ground(L_SHAPE).bounds)
    np.testing.assert_allclose(item["bbox"], [west, south, east, north], atol=1e-5)
    polygons = geopandas.read_file(tmp_path / "s_pred.gpkg")
    assert polygons.area.sum() == pytest.approx(mapped.sum() * PIXEL**2)
    assert polygons.within(ground(L_SHAPE).buffer(PIXEL)).all()
    assert (tmp_path / "s_pred.png").stat().st_size > 10_000


def test_an_interrupted_map_resumes_with_the_same_area_and_starts_anew_with_another(
    task, scene, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    area, other = (write_area(tmp_path / f"{k}.gpkg", shape) for k, shape in enumerate((L_SHAPE, TWO)))
    original = WindowGrid.__init__

    def low_strips(self, *args, **kwargs):
        original(self, *args, **{**kwargs, "strip_rows": 32})

    monkeypatch.setattr(WindowGrid, "__init__", low_strips)
    expected = raster(map_scene(task, scene, tmp_path / "x_pred.tif", aoi=area))[0]
    written, write = [], SceneMap._write

    def failing(self, strip, rows, counts):
        write(self, strip, rows, counts)
        written.append(strip.number)
        if strip.number == 2:
            raise KeyboardInterrupt

    for chosen, message in ((area, "resuming; "), (other, "discarded the strips of an earlier run")):
        path = tmp_path / chosen.stem / "s_pred.tif"
        with monkeypatch.context() as context:
            context.setattr(SceneMap, "_write", failing)
            with pytest.raises(KeyboardInterrupt):
                map_scene(task, scene, path, aoi=area)
        caplog.clear()
        map_scene(task, scene, path, aoi=chosen)
        assert message in caplog.text
        if chosen == area:
            np.testing.assert_array_equal(raster(path)[0], expected)
    with pytest.raises(ConfigError, match="exists"):
        map_scene(task, scene, tmp_path / "x_pred.tif", aoi=other)


def test_an_area_with_latitude_before_longitude_is_recognised():
    """A scene at 11 to 11.1 degrees east and 44.9 to 45 degrees north."""
    grid = Grid(CRS.from_epsg(4326), rasterio.Affine(0.001, 0, 11, 0, -0.001, 45), 100, 100)
    advice = "; with longitude and latitude exchanged, it would: 11.02,44.95,11.03,44.97"
    polygon = "POLYGON ((44.95 11.02, 44.97 11.02, 44.97 11.03, 44.95 11.03, 44.95 11.02))"
    for word in ("44.95,11.02,44.97,11.03", polygon):
        assert AreaOfInterest.of(word).refusal(grid, "scene").endswith(advice)
    for word in ("44,12,45,13", "-120,30,-119,31"):
        assert "exchanged" not in AreaOfInterest.of(word).refusal(grid, "scene")


def test_scenes_that_the_area_does_not_touch_are_skipped_in_one_line(trained, command, tmp_path):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for name, shift in (("a", 0), ("b", 40_000), ("c", 80_000)):
        write_scene(scenes / f"{name}.tif", 64, 64, corner=(LEFT + shift, TOP))
    bounds = transform_bounds(CRS_NAME, "EPSG:4326", LEFT + 300, TOP - 900, LEFT + 900, TOP - 300)
    made = (
        "predict", "--ckpt_path", trained, scenes, "--output", tmp_path / "maps", "--trainer.accelerator", "cpu",
        "--bands", "1", "2", "3", "4", "5", "6",
    )  # fmt: skip
    box = ",".join(f"{value:.6f}" for value in bounds)
    assert box.startswith("-")
    code, out, err = command(*made, "--aoi", box)
    assert code == 0, err
    assert "aoi: skipped 2 of 3 scenes outside it: b, c" in out + err
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.tif")) == ["a_pred.tif"]
    code, out, err = command(*made, "--aoi", "10,10,11,11", "--overwrite")
    assert code == 1
    assert "does not intersect" in err
    assert "10, 10, 11, 11 in EPSG:4326" in err
    assert "exchanged" not in err
    assert f"{LEFT}, {TOP - 64 * PIXEL}" in err
    # Also in the units of the area.
    found = re.search(r"EPSG:32615; left, bottom, right, top (\S+), (\S+), (\S+), (\S+) in EPSG:4326\)", err)
    scene_bounds = transform_bounds(CRS_NAME, "EPSG:4326", LEFT, TOP - 64 * PIXEL, LEFT + 64 * PIXEL, TOP)
    np.testing.assert_allclose([float(value) for value in found.groups()], scene_bounds, atol=1e-6)


def test_the_share_of_the_area_that_scenes_cover_is_logged(task, scene, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    # A third of the first lies west of the scene; the second does not touch it.
    outside = shapely.MultiPolygon([shapely.box(-30, 50, 60, 90), shapely.box(-200, 50, -170, 90)])
    for name, shape, words in (
        ("whole", L_SHAPE, "the scenes cover 100 % of the area\n"),
        ("part", outside, "the scenes cover 50 % of the area; 1 of its 2 polygons lies outside them"),
    ):
        for crs in (CRS_NAME, "EPSG:4326"):
            caplog.clear()
            area = write_area(tmp_path / f"{name}_{crs[5:]}.gpkg", shape, crs)
            map_scene(task, scene, tmp_path / f"{name}_{crs[5:]}_pred.tif", aoi=area)
            assert words in caplog.text, caplog.text


@pytest.mark.parametrize(("left", "right", "share"), [("179.85", "-179.85", "100"), ("178", "-178", "30.3")])
def test_the_share_of_an_area_across_the_antimeridian(left, right, share):
    # 1.21 degrees of longitude, of the width of the second box only those around 180.
    grid = Grid(CRS.from_epsg(4326), rasterio.Affine(0.01, 0, 179, 0, -0.01, 10), 100, 100)
    beyond = Grid(CRS.from_epsg(4326), rasterio.Affine(0.01, 0, -180, 0, -0.01, 10), 100, 21)
    assert f"cover {share} %" in AreaOfInterest.of(f"{left},9.2,{right},9.8").coverage([grid, beyond])
    utm = Grid(CRS.from_epsg(32601), rasterio.Affine(100, 0, 100_000, 0, -100, 1_100_000), 1500, 1500)
    assert "cover 100 %" in AreaOfInterest.of("179.9,9.2,-179.5,9.8").coverage([utm])


def test_the_log_shows_the_size_of_the_area(trained, command, tmp_path):
    scene = write_scene(tmp_path / "a.tif", 96, 90)
    area = write_area(tmp_path / "area.gpkg", shapely.box(10, 20, 70, 60))
    made = ("predict", "--ckpt_path", trained, scene, "--output", tmp_path / "maps_1.2", "--aoi", area)
    code, out, err = command(*made, "--trainer.accelerator", "cpu", "--bands", "1", "2", "3", "4", "5", "6")
    assert code == 0, err
    assert "a: mapping 60 x 40 of 90 x 96 pixels, 1 strip\n" in out
    assert (tmp_path / "maps_1.2" / "a_pred.tif").exists()


@pytest.mark.parametrize(
    ("shape", "share", "is_empty"),
    # The first has data alone, in half of its box; the second is within the nodata of the scene.
    [
        (shapely.Polygon([(20, 20), (80, 20), (20, 80)]), "0.0 %", False),
        (shapely.box(110, 197, 150, 203), "100.0 %", True),
    ],
    ids=["data", "nodata"],
)
def test_the_share_of_nodata_is_that_in_the_area(trained, scene, command, tmp_path, shape, share, is_empty):
    made = ("predict", "--ckpt_path", trained, scene, "--output", tmp_path / "maps", "--quicklook", "--aoi")
    area = write_area(tmp_path / "area.gpkg", shape)
    code, out, err = command(
        *made, area, "--trainer.accelerator", "cpu", "--bands", "1", "2", "3", "4", "5", "6"
    )
    assert code == 0, err
    (row,) = [line for line in out.splitlines() if "scene " in line and " %" in line and "│" in line]
    assert row.split("│")[4].strip() == share
    words = "scene: no pixel in the area of interest has data, so the map is empty"
    assert (words in out + err) == is_empty


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--aoi", "1", "2", "3"), "--aoi: 1,2,3 has 3 numbers"),
        (("--aoi", "missing.gpkg"), "--aoi: missing.gpkg: no such file"),
        (("--products", "entropi"), "--products: 'entropi' is unknown"),
        (("--output", "maps.gpkg"), "--output: maps.gpkg is neither a folder nor a .tif"),
    ],
)
def test_wrong_settings_are_found_before_weights_are_loaded(options, message, command, tmp_path):
    (tmp_path / "damaged.ckpt").write_text("no weights")
    (tmp_path / "damaged.tif").write_text("no scene")
    words = (tmp_path / "damaged.tif", "--ckpt_path", tmp_path / "damaged.ckpt")
    code, _, err = command("predict", *words, *options)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--aoi 1 2 3.5 4 a.tif", "--aoi=1,2,3.5,4 a.tif"),
        ("a.tif --aoi -97 30 -96 31 5", "a.tif --aoi=-97,30,-96,31 5"),
        ("--aoi -97,30,-96,31 --bands 1 2", "--aoi=-97,30,-96,31 --bands 1 2"),
        ("--aoi fields.gpkg 3 --nodata -1 0", "--aoi fields.gpkg 3 --nodata -1 0"),
    ],
)
def test_the_numbers_of_a_box_may_be_separated_by_spaces(words, expected):
    assert with_boxes_joined(words.split()) == expected.split()


# What an area is.


GRID = Grid(CRS.from_string(CRS_NAME), rasterio.Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP), HEIGHT, WIDTH)


def test_box_wkt_and_files_name_the_same_pixels(tmp_path):
    west, south, east, north = transform_bounds(
        CRS_NAME, "EPSG:4326", *ground(shapely.box(40, 50, 90, 120)).bounds
    )
    box = shapely.box(west, south, east, north)
    frame = geopandas.GeoDataFrame(geometry=[box], crs="EPSG:4326")
    frame.to_file(tmp_path / "a.gpkg")
    frame.to_file(tmp_path / "a.geojson")
    frame.to_parquet(tmp_path / "a.parquet")
    words = [
        f"{west},{south},{east},{north}", f" {west} , {south}, {east}, {north}", box.wkt,
        shapely.MultiPolygon([box]).wkt, *(tmp_path / f"a.{kind}" for kind in ("gpkg", "geojson", "parquet")),
    ]  # fmt: skip
    found = {repr(AreaOfInterest.of(word).pixels(GRID, "scene")) for word in words}
    assert len(found) == 1
    assert "None" not in found


def test_edges_are_densified_before_they_are_reprojected():
    grid = Grid(CRS.from_string(CRS_NAME), rasterio.Affine(100, 0, 200000, 0, -100, 7_000_000), 3000, 3000)
    rows, columns = np.mgrid[:3000:7, :3000:7]
    places = grid.latitudes_and_longitudes((rows + 0.5).ravel(), (columns + 0.5).ravel())
    area = AreaOfInterest.of("-97.5,61.2,-94.5,62.3").pixels(grid, "scene")
    mask = np.zeros((3000, 3000), bool)
    mask[area.top : area.top + area.height, area.left : area.left + area.width] = area.rows(
        area.top, area.top + area.height
    )
    latitudes, longitudes = (places[:, k].reshape(rows.shape) for k in (0, 1))
    expected = (latitudes > 61.2) & (latitudes < 62.3) & (longitudes > -97.5) & (longitudes < -94.5)
    assert (mask[rows, columns] != expected).mean() < 1e-4


def test_the_whole_earth_and_areas_across_the_antimeridian():
    grid = Grid(CRS.from_epsg(32601), rasterio.Affine(100, 0, 140_000, 0, -100, 1_000_000), 200, 600)
    whole = AreaOfInterest.of("-180,-90,180,90").pixels(grid, "scene")
    assert (whole.height, whole.width) == (200, 600)
    assert whole.rows(0, 200).all()
    part = AreaOfInterest.of("179.9,8.9,-179.8,9.0").pixels(grid, "scene")
    places = grid.latitudes_and_longitudes([part.top, part.top], [part.left, part.left + part.width])
    np.testing.assert_allclose(places[:, 1], [179.9, -179.8], atol=2e-3)


def test_a_turned_scene_is_masked_by_the_centres_of_its_pixels(tmp_path):
    turned = (
        rasterio.Affine.translation(LEFT, TOP) @ rasterio.Affine.rotation(30) @ rasterio.Affine.scale(30, -30)
    )
    grid = Grid(CRS.from_string(CRS_NAME), turned, 200, 220)
    shape = ground(shapely.Point(30, 0).buffer(60))
    geopandas.GeoDataFrame(geometry=[shape], crs=CRS_NAME).to_file(tmp_path / "a.gpkg")
    area = AreaOfInterest.of(tmp_path / "a.gpkg").pixels(grid, "scene")
    rows, columns = np.mgrid[:200, :220] + 0.5
    x, y = grid.xy(rows, columns)
    mask = np.zeros((200, 220), bool)
    mask[area.top : area.top + area.height, area.left : area.left + area.width] = area.rows(
        area.top, area.top + area.height
    )
    np.testing.assert_array_equal(mask, shapely.contains_xy(shape, x, y))


@pytest.mark.parametrize(
    ("word", "error", "text"),
    [
        ("1,2,3", ConfigError, "has 3 numbers"),
        ("10,20,5,20", ConfigError, "bottom below top"),
        ("11.03,44.97,11.01,44.985", ConfigError, "exchange left and right"),
        ("600000,4100000,610000,4200000", ConfigError, "longitudes in -180..180"),
        ("31,-97.5,32,-96.25", ConfigError, "bottom below top; did you mean -97.5,31,-96.25,32?"),
        ("POLYGON ((0 0, 1 0, 1", ConfigError, "not valid WKT"),
        ("POLYGON ((600000 0, 600001 0, 600001 1, 600000 0))", ConfigError, "longitude and latitude"),
        ("SRID=4326;POLYGON ((0 0, 1 0, 1 1, 0 0))", ConfigError, "longitude and latitude"),
        ("POLYGON EMPTY", DataError, "is empty"),
        ("POINT (1 1)", DataError, "no polygon with an area"),
        ("missing.gpkg", ConfigError, "is not a file"),
    ],
)
def test_an_area_that_cannot_be_used_is_an_error_of_one_line(word, error, text):
    with pytest.raises(error, match="aoi: ") as caught:
        AreaOfInterest.of(word)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_without_crs_or_polygons_are_errors(tmp_path):
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]).to_file(tmp_path / "plain.gpkg")
    with pytest.raises(
        DataError, match=r"has no CRS; assign the CRS of its coordinates: .* EPSG:CODE OUTPUT INPUT$"
    ):
        AreaOfInterest.of(tmp_path / "plain.gpkg")
    geopandas.GeoDataFrame(geometry=[], crs=CRS_NAME).to_file(tmp_path / "empty.gpkg")
    with pytest.raises(DataError, match="is empty"):
        AreaOfInterest.of(tmp_path / "empty.gpkg")
    (tmp_path / "text.gpkg").write_text("no vector file")
    with pytest.raises(DataError, match="not a readable vector file"):
        AreaOfInterest.of(tmp_path / "text.gpkg")


def test_an_area_between_the_centres_of_pixels_is_named(task, scene):
    tiny = shapely.transform(
        ground(shapely.box(10.1, 10.1, 10.3, 10.3)),
        lambda p: np.stack(rasterio.warp.transform(CRS_NAME, "EPSG:4326", p[:, 0], p[:, 1]), axis=1),
    )
    with pytest.raises(DataError, match="contains the centre of no pixel"):
        next(map_strips(task, scene, aoi=tiny.wkt))


def test_scenes_without_a_crs_have_no_area(task, tmp_path):
    with rasterio.open(
        tmp_path / "plain.tif", "w", driver="GTiff", dtype="float32", count=6, height=64, width=64
    ) as out:
        out.write(np.full((6, 64, 64), 0.1, "float32"))
    with pytest.raises(DataError, match="has no CRS"), pytest.warns(UserWarning, match="georeference"):
        next(map_strips(task, tmp_path / "plain.tif", aoi="0,0,1,1"))
