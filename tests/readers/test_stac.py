"""Scenes from STAC items: files, APIs, assets by band, scaling, dates, mosaics and range requests."""

import json
import sys
from dataclasses import replace
from datetime import date

import geopandas
import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
import torch
from conftest import TINY
from pyarrow import parquet
from rasterio.shutil import copy as copy_raster
from rasterio.warp import transform_bounds, transform_geom
from stac_server import stac_server

from prithvi_tg import PrithviSegmentationTask, map_scene
from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.errors import ConfigError, DataError
from prithvi_tg.readers import InputOptions, SceneReader, find_inputs, resolve_scene, stac_items
from prithvi_tg.readers.words import without_signature

LEFT, TOP, PIXEL = 600000, 5000000, 30
COMMON = ("blue", "green", "red", "nir08", "swir16", "swir22")
CODES = ("B02", "B03", "B04", "B8A", "B11", "B12")


def write_band(path, values, corner=(LEFT, TOP), crs="EPSG:32632", pixel=PIXEL, nodata=0):
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, count=1, height=values.shape[0], width=values.shape[1], crs=crs,
        transform=rasterio.Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), nodata=nodata, tiled=True, blockxsize=32,
        blockysize=32,
    ) as out:  # fmt: skip
        out.write(values, 1)
    return path


def footprint(paths):
    with rasterio.open(paths[0]) as file:
        box = shapely.box(*file.bounds).__geo_interface__
        bounds = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
        return {"geometry": transform_geom(file.crs, "EPSG:4326", box), "bbox": list(bounds)}


def item_of(folder, name, day="2021-06-03", seed=0, shape=(64, 80), fields=None, properties=None, **where):
    """Write six rasters and their item, with relative addresses."""
    rng = np.random.default_rng(seed)
    assets, paths = {}, []
    for number, (common, code) in enumerate(zip(COMMON, CODES, strict=True)):
        values = (500 + 100 * number + rng.integers(0, 900, shape)).astype("uint16")
        values[:5, :7] = 0
        paths.append(write_band(folder / f"{name}_{code}.tif", values, **where))
        assets[common] = {
            "href": f"./{name}_{code}.tif", "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"], "eo:bands": [{"name": code, "common_name": common}],
            "raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.01, **(fields or {})}],
        }  # fmt: skip
    quality = np.full(shape, 4, "uint8")
    quality[10:20, 10:20] = 9
    write_band(folder / f"{name}_SCL.tif", quality, **where)
    assets["scl"] = {"href": f"./{name}_SCL.tif", "type": "image/tiff; application=geotiff"}
    assets["visual"] = {
        "href": "./tci.tif",
        "type": "image/tiff",
        "eo:bands": [{"common_name": c} for c in COMMON[:3]],
    }
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "demo", "links": [], "assets": assets,
        "properties": {"datetime": f"{day}T10:20:30Z", "platform": "sentinel-2a", **(properties or {})},
        **footprint(paths),
    }  # fmt: skip


def write_items(path, *items):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path


def resolve(word, spec, **options):
    (found,) = find_inputs([word], spec.num_frames)
    return resolve_scene(found, spec, InputOptions(**options))


def pixels(word, spec, qa_mask=(), **options):
    scene = resolve(word, spec, **options)
    with SceneReader(scene, spec, qa_mask=qa_mask) as reader:
        return scene, reader.read(0, scene.grid.height)


@pytest.fixture
def spec(burn_spec):
    return burn_spec.input


def stored(folder, name, code):
    with rasterio.open(folder / f"{name}_{code}.tif") as file:
        return file.read(1).astype("float32")


# What an item gives.


def test_bands_scale_nodata_date_and_quality_are_those_of_the_item(spec, tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(item_of(tmp_path, "S2A_one")))
    scene, found = pixels(path, spec, qa_mask=("cloud",))
    assert (scene.name, scene.dates) == ("S2A_one", (date(2021, 6, 3),))
    assert [layer.kind for layer in scene.quality] == ["scl"]
    unit = spec.reflectance_unit
    for number, code in enumerate(CODES):
        expected = (stored(tmp_path, "S2A_one", code) * 1e-4 - 0.01) * unit
        inside = found.valid[number]
        np.testing.assert_allclose(found.values[number][inside], expected[inside], rtol=1e-5)
    empty = np.zeros((64, 80), bool)
    empty[:5, :7] = empty[10:20, 10:20] = True
    np.testing.assert_array_equal(found.masked, empty)


def by_name(asset, common, code):
    asset.pop("eo:bands")
    asset["bands"] = [{"name": code, "raster:scale": 0.0001, "raster:offset": -0.01, "nodata": 0}]
    asset.pop("raster:bands")


def by_common_name_of_stac_1_1(asset, common, code):
    asset.pop("eo:bands")
    asset.pop("raster:bands")
    asset |= {
        "bands": [{"eo:common_name": common}],
        "raster:scale": 0.0001,
        "raster:offset": -0.01,
        "nodata": 0,
    }


def by_name_where_common_names_repeat(asset, common, code):
    asset["eo:bands"] = [{"name": code, "common_name": "rededge" if common == "nir08" else common}]


@pytest.mark.parametrize("describe", [by_name, by_common_name_of_stac_1_1, by_name_where_common_names_repeat])
def test_bands_are_described_in_the_ways_of_stac_1_0_and_1_1(spec, tmp_path, describe):
    item = item_of(tmp_path, "one")
    expected = pixels(write_items(tmp_path / "plain.json", item), spec)[1].values
    for number, common in enumerate(COMMON):
        asset = item["assets"].pop(common)
        describe(asset, common, CODES[number])
        item["assets"][f"image_{number}"] = asset
    found = pixels(write_items(tmp_path / "other.json", item), spec)[1].values
    np.testing.assert_array_equal(found, expected)


def test_assets_are_chosen_by_the_options_of_the_user(spec, tmp_path):
    path = write_items(tmp_path / "a.json", item_of(tmp_path, "one"))
    order = ("swir22", "green", "red", "nir08", "B11", "blue")
    scene = resolve(path, spec, bands=order)
    assert [channel.path[-7:-4] for channel in scene.channels] == ["B12", "B03", "B04", "B8A", "B11", "B02"]


def test_a_missing_band_is_named_with_those_of_the_item(spec, tmp_path):
    item = item_of(tmp_path, "one")
    del item["assets"]["nir08"]
    with pytest.raises(DataError, match=r"item 'one' lacks NIR_NARROW; its bands are blue \(blue/B02/blue\)"):
        resolve(write_items(tmp_path / "a.json", item), spec)


def item_of_one_file(folder, described, count=7):
    """An item with one asset of several bands, of which the first have no use for the model."""
    values = (1000 + 100 * np.arange(count)[:, None, None] + np.zeros((count, 64, 80))).astype("uint16")
    item = item_of(folder, "one")
    with rasterio.open(folder / "one_B02.tif") as file:
        profile = {**file.profile, "count": count}
    with rasterio.open(folder / "stack.tif", "w", **profile) as file:
        file.write(values)
    item["assets"] = {"data": {"href": "./stack.tif", "type": "image/tiff"}}
    if described:
        item["assets"]["data"]["eo:bands"] = [{"name": name} for name in described]
    return write_items(folder / "stack.json", item)


def test_bands_of_one_file_are_those_of_its_description(spec, tmp_path):
    scene = resolve(item_of_one_file(tmp_path, ["B01", *CODES]), spec)
    assert [channel.index for channel in scene.channels] == [2, 3, 4, 5, 6, 7]
    assert "BLUE=data[2] GREEN=data[3]" in scene.origin


def test_a_file_of_more_bands_than_its_description_is_refused(spec, tmp_path):
    for described in (CODES, CODES[:1]):
        path = item_of_one_file(tmp_path, described)
        names = [described[number % len(described)] for number in range(6)]
        with pytest.raises(
            DataError, match=rf"describes {len(described)} of the 7 bands of the asset 'data' .*eo:bands"
        ):
            resolve(path, spec, bands=tuple(names))
    with pytest.raises(
        DataError, match=r"item 'one' lacks BLUE; .* an asset with several bands needs eo:bands"
    ):
        resolve(item_of_one_file(tmp_path, []), spec)


def test_an_item_without_a_platform_asks_for_the_sensor(spec, tmp_path):
    item = item_of(tmp_path, "one")
    del item["properties"]["platform"]
    for common, code in zip(COMMON, CODES, strict=True):
        asset = item["assets"].pop(common)
        item["assets"][code] = {**asset, "eo:bands": [{"name": code}]}
    path = write_items(tmp_path / "a.json", item)
    with pytest.raises(
        DataError, match=r"lacks SWIR_1; its bands are .* names no known platform, so give a sensor"
    ):
        resolve(path, spec)
    assert [channel.path[-7:-4] for channel in resolve(path, spec, sensor="sentinel2").channels] == list(
        CODES
    )


def test_an_offset_that_has_been_added_is_not_added_again(spec, tmp_path):
    item = item_of(tmp_path, "one", properties={"earthsearch:boa_offset_applied": True})
    scene = resolve(write_items(tmp_path / "a.json", item), spec)
    assert {channel.offset for channel in scene.channels} == {0}


def test_sentinel_2_without_raster_bands_has_the_scale_of_its_processing_baseline(spec, tmp_path):
    item = item_of(tmp_path, "one", properties={"s2:processing_baseline": "04.00"})
    for common in COMMON:
        del item["assets"][common]["raster:bands"]
    scene = resolve(write_items(tmp_path / "a.json", item), spec)
    unit = spec.reflectance_unit
    assert {channel.nodata for channel in scene.channels} == {(0.0,)}
    assert [channel.scale for channel in scene.channels] == pytest.approx([1e-4 * unit] * 6)
    assert [channel.offset for channel in scene.channels] == pytest.approx([-0.1 * unit] * 6)


# Lists of items.


def test_files_addresses_and_geoparquet_hold_the_same_items(spec, tmp_path):
    item = item_of(tmp_path, "one")
    expected = pixels(write_items(tmp_path / "a.json", item), spec)[1].values
    (tmp_path / "list.json").write_text(json.dumps([item]))
    (tmp_path / "item.geojson").write_text(json.dumps(item))
    row = {
        key: value for key, value in item.items() if key not in ("properties", "geometry", "links", "bbox")
    }
    row |= item["properties"] | {"geometry": shapely.to_wkb(shapely.geometry.shape(item["geometry"]))}
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "items.parquet")
    with stac_server(tmp_path) as server:
        for asset in item["assets"].values():
            asset["href"] = f"{server.url}/{asset['href'][2:]}"
        server.items = [item]
        words = [tmp_path / name for name in ("list.json", "item.geojson", "items.parquet")]
        words += [f"{server.url}/a.json", f"{server.url}/collections/demo/items"]
        for word in words:
            np.testing.assert_array_equal(pixels(word, spec)[1].values, expected)


def test_items_of_a_date_are_mosaicked_and_each_date_is_a_scene(spec, tmp_path):
    items = [
        item_of(tmp_path, "west", seed=1),
        item_of(tmp_path, "east", seed=2, corner=(LEFT + 70 * PIXEL, TOP - 4 * PIXEL)),
        item_of(tmp_path, "later", "2021-06-08", seed=3),
    ]
    path = write_items(tmp_path / "items.json", *items)
    found = find_inputs([path])
    assert [one.name for one in found] == ["items_20210603", "later"]
    scene = resolve_scene(found[0], spec)
    assert (scene.grid.height, scene.grid.width) == (68, 150)
    with SceneReader(scene, spec) as reader:
        merged = reader.read(0, 68)
    west, east = (pixels(f"{path}#{name}", spec)[1] for name in ("west", "east"))
    np.testing.assert_array_equal(merged.values[:, 5:64, :70], west.values[:, 5:, :70])
    np.testing.assert_array_equal(merged.values[:, 10:68, 87:], east.values[:, 6:, 17:])
    # The first item with data at a pixel counts.
    np.testing.assert_array_equal(merged.values[:, 20:60, 70:80], west.values[:, 20:60, 70:])
    assert merged.masked[66, 3]
    assert not merged.masked[20, 75]


def test_an_item_in_another_crs_is_warped_into_the_mosaic(spec, tmp_path):
    (east,) = zip(
        *rasterio.warp.transform("EPSG:32632", "EPSG:32633", [LEFT + 70 * PIXEL], [TOP]), strict=True
    )
    path = write_items(
        tmp_path / "items.json",
        item_of(tmp_path, "a"),
        item_of(tmp_path, "b", shape=(70, 70), corner=(LEFT - 50 * PIXEL, TOP)),
        item_of(
            tmp_path, "c", shape=(60, 60), crs="EPSG:32633", corner=(east[0], east[1]), fields={"offset": 0.0}
        ),
    )
    scene, merged = pixels(path, spec)
    assert scene.grid.crs.to_epsg() == 32632
    assert scene.grid.width > 50 + 70 + 55
    assert merged.valid[0, 30, 50 + 110]
    assert not merged.masked[30, 50 + 75]
    assert 200 < np.median(merged.values[0, 10:50, 50 + 85 : 50 + 120]) / spec.reflectance_unit * 1e4 < 2000


def test_several_dates_are_the_frames_of_one_scene(spec, tmp_path):
    two = replace(spec, num_frames=2)
    items = [
        item_of(tmp_path, name, day, seed=k)
        for k, (name, day) in enumerate((("b", "2021-07-01"), ("a", "2021-06-03")))
    ]
    path = write_items(tmp_path / "items.json", *items)
    scene, found = pixels(path, two)
    assert scene.dates == (date(2021, 6, 3), date(2021, 7, 1))
    assert scene.name == "items_20210603_20210701"
    np.testing.assert_array_equal(found.values[:6], pixels(f"{path}#a", spec)[1].values)
    np.testing.assert_array_equal(found.values[6:], pixels(f"{path}#2021-07-01", spec)[1].values)
    chosen = resolve(f"{path}#2021-06-03,{path}#b", two)
    assert chosen.dates == scene.dates
    with pytest.raises(DataError, match="3 dates of items, the model takes 2"):
        find_inputs([write_items(tmp_path / "items.json", *items, item_of(tmp_path, "c", "2021-08-01"))], 2)


def test_dates_of_mosaics_and_single_items_are_frames_of_one_scene(spec, tmp_path):
    two = replace(spec, num_frames=2)
    items = [
        item_of(tmp_path, "a"), item_of(tmp_path, "b", corner=(LEFT + 70 * PIXEL, TOP)),
        item_of(tmp_path, "c", "2021-07-01", seed=5),
    ]  # fmt: skip
    _, found = pixels(write_items(tmp_path / "items.json", *items), two)
    assert found.values.shape == (12, 64, 150)
    assert found.valid[:6, 30, 120].all()
    assert not found.valid[6:, 30, 120].any()


def test_places_that_do_not_touch_are_scenes_of_their_own(spec, tmp_path):
    items = [
        item_of(tmp_path, "east", corner=(LEFT + 60000, TOP)),
        item_of(tmp_path, "west"),
        item_of(tmp_path, "west2"),
    ]
    path = write_items(tmp_path / "items.json", *items)
    found = find_inputs([path])
    assert [one.frames[0].rpartition("#")[2] for one in found] == ["2021-06-03.1", "2021-06-03.2"]
    assert [one.name for one in found] == ["items_1_20210603", "east"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("no json", "not readable as JSON"),
        ('{"type": "Collection", "id": "a"}', "a STAC Collection without links to items; give the address"),
        ('{"type": "FeatureCollection", "features": []}', "contains no STAC item"),
        (
            '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": null}]}',
            "not a STAC item",
        ),
    ],
)
def test_other_json_is_an_error_of_one_line(tmp_path, content, text):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=text):
        find_inputs([tmp_path / "a.json"])


def write_catalog(folder, name, **links):
    """A static catalogue, with links of a kind, ``item`` or ``child``, to several files."""
    folder.mkdir(exist_ok=True)
    listed = [{"rel": rel, "href": href} for rel, hrefs in links.items() for href in hrefs]
    kind = name.partition(".")[0].title()
    (folder / name).write_text(json.dumps({"type": kind, "id": folder.name, "links": listed}))
    return folder / name


def test_a_static_catalogue_is_the_list_of_all_items_below_it(spec, tmp_path):
    """Items in two folders; links go round in a circle."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, day in ((one, "2021-06-03"), (other, "2021-07-04")):
        links = {"parent": ["../catalog.json"], "child": ["../one/collection.json"]}
        write_catalog(folder, "collection.json", item=["./item.json"], **links)
        (folder / "item.json").write_text(json.dumps(item_of(folder, f"of_{folder.name}", day)))
    children = ["one/collection.json", str(other / "collection.json")]
    path = write_catalog(tmp_path, "catalog.json", child=children, self=["https://example.com/catalog.json"])
    for word in (path, tmp_path):
        found = find_inputs([word])
        assert [scene.name for scene in found] == ["of_one", "of_other"]
        assert [scene.frames[0] for scene in found] == [f"{path}#2021-06-03", f"{path}#2021-07-04"]
    scene = resolve_scene(found[1], spec)
    assert scene.files[0] == str(other / "of_other_B02.tif")
    assert [scene.name for scene in find_inputs([one / "collection.json"])] == ["of_one"]
    (one / "item.json").unlink()
    (tmp_path / "catalog.json").touch()
    write_catalog(tmp_path / "broken", "catalog.json", item=["gone.json"])
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        find_inputs([tmp_path / "broken"])


def test_a_catalogue_of_very_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stac_items, "_MOST_FILES", 3)
    names = [f"{number}.json" for number in range(4)]
    for name in names:
        (tmp_path / name).write_text(json.dumps({"id": name, "assets": {}, "type": "Feature"}))
    path = write_catalog(tmp_path, "catalog.json", item=names)
    with pytest.raises(
        DataError, match="links to more than 3 files; give a catalogue or collection below it"
    ):
        find_inputs([path])


def test_a_catalogue_on_a_server_leads_to_its_own_files(tmp_path, spec):
    item = item_of(tmp_path, "one")
    (tmp_path / "item.json").write_text(json.dumps(item))
    write_catalog(tmp_path, "catalog.json", item=["item.json"])
    write_catalog(tmp_path, "collection.json", item=[f"file://{tmp_path}/item.json"])
    with stac_server(tmp_path) as server:
        (found,) = find_inputs([f"{server.url}/catalog.json"])
        assert resolve_scene(found, spec).files[0].startswith(server.url)
        with pytest.raises(DataError, match="lists of STAC items are read from files, http and https"):
            find_inputs([f"{server.url}/collection.json"])


def test_json_files_of_a_folder_are_no_scenes(tmp_path):
    write_items(tmp_path / "items.json", item_of(tmp_path, "one"))
    assert all(one.frames[0].endswith(".tif") for one in find_inputs([tmp_path]))


# Signed addresses.


MODIFIER = """
import pystac

def sign(item: pystac.Item) -> None:
    for asset in item.assets.values():
        asset.href += "?sig=secret&se=2030"

def nothing(item):
    return 1
"""


@pytest.fixture
def task(burn_spec):
    torch.manual_seed(0)
    made = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, window=64, stride=64, num_classes=2,
        data_spec=burn_spec.to_dict(),
    )  # fmt: skip
    made.model.decode_head.conv_seg.weight.data *= 100
    return made.eval()


def test_a_modifier_signs_addresses_and_no_signature_is_recorded(task, tmp_path, monkeypatch):
    (tmp_path / "signing.py").write_text(MODIFIER)
    monkeypatch.syspath_prepend(str(tmp_path))
    item = item_of(tmp_path, "one")
    with stac_server(tmp_path) as server:
        server.token = "secret"
        for asset in item["assets"].values():
            asset["href"] = f"{server.url}/{asset['href'][2:]}"
        path = write_items(tmp_path / "items.json", item)
        with pytest.raises(DataError, match="not a readable raster"):
            map_scene(task, path, tmp_path / "m" / "one_pred.tif")
        made = map_scene(task, path, tmp_path / "m" / "one_pred.tif", modifier="signing.sign")
        text = made.with_suffix(".json").read_text()
        assert "secret" not in text
        assert f"{server.url}/one_B02.tif" in text
        with pytest.raises(ConfigError, match=r"modifier: signing\.nothing gives int"):
            map_scene(task, path, tmp_path / "n" / "one_pred.tif", modifier="signing.nothing")
    sys.modules.pop("signing")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://a.b/c.tif?st=1&sig=x%3D", "https://a.b/c.tif"),
        ("https://a.b/c.tif?X-Amz-Date=1&X-Amz-Signature=2", "https://a.b/c.tif"),
        ("https://a.b/c.tif?id=3", "https://a.b/c.tif?id=3"),
        ("a?sig=1.tif", "a?sig=1.tif"),
    ],
)
def test_signatures_are_removed_from_addresses(address, expected):
    assert without_signature(address) == expected


# Range requests.


def block_bytes(path, rows, columns):
    """Bytes of the blocks of some rows and columns of blocks."""
    with rasterio.open(path) as file:
        sizes = {
            (row, column): int(file.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1))
            for row in rows
            for column in columns
        }
    return sizes


def test_an_area_in_a_remote_cog_costs_little_more_than_its_blocks(task, tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(1, 17, (4096, 4096), dtype="uint8")
    write_band(tmp_path / "plain.tif", noise, pixel=10)
    copy_raster(tmp_path / "plain.tif", folder / "noise.tif", driver="COG", compress="DEFLATE", blocksize=512)
    assets = {
        name: {
            "href": "noise.tif",
            "eo:bands": [{"common_name": name}],
            "raster:bands": [{"scale": 0.01, "nodata": 0}],
        }
        for name in COMMON
    }
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "noise", "links": [], "assets": assets,
        "properties": {"datetime": "2021-06-03T00:00:00Z"}, **footprint([folder / "noise.tif"]),
    }  # fmt: skip
    box = shapely.box(
        LEFT + 9000, TOP - 20000, LEFT + 14000, TOP - 18000
    )  # in pixels, rows 1800:2000, columns 900:1400
    geopandas.GeoDataFrame(geometry=[box], crs="EPSG:32632").to_file(tmp_path / "a.gpkg")
    # Windows of 64 at multiples of 64: rows 1792 to 2048, columns 896 to 1408.
    sizes = block_bytes(folder / "noise.tif", range(3, 4), range(1, 3))
    assert min(sizes.values()) >= 100_000
    with stac_server(folder) as server:
        write_items(folder / "items.json", item)
        path = map_scene(
            task,
            f"{server.url}/items.json",
            tmp_path / "noise_pred.tif",
            aoi=tmp_path / "a.gpkg",
            num_workers=2,
        )
        data = [(first, last) for first, last in server.ranges["/noise.tif"] if first >= 32768]
        headers = [(first, last) for first, last in server.ranges["/noise.tif"] if first < 32768]
        # GDAL 3.12 also looks for an attribute table when it lists the files of a raster.
        asked = {one.partition("?")[0] for one in server.requests} - {"/noise.tif.vat.dbf"}
        assert asked == {"/items.json", "/noise.tif"}
    total = sum(last - first for first, last in data)
    assert sum(sizes.values()) <= total <= 1.3 * sum(sizes.values())
    assert sum(last - first for first, last in headers) <= 32768 * len(headers)
    with rasterio.open(path) as file:
        assert file.shape == (200, 500)
        found = file.read(1)
    local = map_scene(task, folder / "items.json", tmp_path / "local_pred.tif", aoi=tmp_path / "a.gpkg")
    with rasterio.open(local) as file:
        np.testing.assert_array_equal(found, file.read(1))


# Searching.


def test_search_writes_the_list_that_predict_reads(command, spec, tmp_path):
    pytest.importorskip("pystac_client")
    items = [
        item_of(tmp_path, f"item_{k}", day, seed=k, properties={"eo:cloud_cover": cloud})
        for k, (day, cloud) in enumerate(
            (("2021-06-18", 3), ("2021-06-03", 4.5), ("2021-06-08", 80), ("2021-06-13", 1))
        )
    ]
    with stac_server(tmp_path) as server:
        server.items = items
        for asset in (asset for item in items for asset in item["assets"].values()):
            asset["href"] = f"{server.url}/{asset['href'][2:]}"
        box = ",".join(f"{value:.4f}" for value in items[0]["bbox"])
        output = tmp_path / "found" / "items.json"
        words = ("search", "--api", server.url, "--collection", "demo", "--aoi", box, "--dates", "2021-06-01")
        code, out, err = command(*words, "2021-06-30", "--max_cloud", "10", "--output", output)
        assert code == 0, err
        assert "2021-06-03: 1 item" in out
        assert "Written: 3 items" in out
        asked = server.searches[0]
        assert asked["datetime"].startswith("2021-06-01T00:00:00Z/2021-06-30T23:59:59")
        assert asked["query"] == {"eo:cloud_cover": {"lte": 10}}
        assert asked["intersects"]["type"] == "Polygon"
        assert [one.name for one in find_inputs([output])] == ["item_1", "item_3", "item_0"]
        assert resolve(f"{output}#item_3", spec).dates == (date(2021, 6, 13),)
        code, _, err = command(*words, "2021-06-30", "--output", output)
        assert (code, "exists; add --overwrite" in err) == (2, True)
        code, _, err = command(*words, "2021-06-30", "--max_cloud", "0.5", "--output", tmp_path / "none.json")
        assert (code, "has no item of demo" in err) == (1, True)
        code, _, err = command(*words, "June", "--output", tmp_path / "none.json")
        assert (code, "dates: June is not a date" in err) == (2, True)


def test_a_search_without_an_answer_is_an_error_of_one_line(command, tmp_path):
    pytest.importorskip("pystac_client")
    with stac_server(tmp_path) as server:
        url = server.url
    code, _, err = command(
        "search", "--api", url, "--collection", "demo", "--aoi", "0,0,1,1", "--dates", "2021-06-01", "--output",
        tmp_path / "a.json",
    )  # fmt: skip
    assert code == 1
    assert err.startswith(f"prithvi-tg: error: --api: {url}")
    assert err.count("\n") == 1


def test_bands_of_prithvi_have_common_names():
    from prithvi_tg.bands import COMMON_NAMES

    assert tuple(COMMON_NAMES[name] for name in COMMON) == PRITHVI_BANDS
