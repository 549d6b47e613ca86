"""Whole runs: their files, resuming after a kill, several processes, and errors."""

import resource
import signal
import time
from pathlib import Path

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
import torch
from conftest import TINY
from lightning.pytorch import Trainer
from rio_cogeo import cog_validate

from prithvi_tg import PrithviSegmentationTask, map_scene, map_strips
from prithvi_tg.errors import ConfigError, DataError

TRANSFORM = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)


@pytest.fixture
def checkpoint(tmp_path, burn_spec):
    """A tiny model with random weights and balanced predictions, in a file with a description of its data."""
    torch.manual_seed(0)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, window=64, stride=48, num_classes=2,
        data_spec=burn_spec.to_dict(),
    )  # fmt: skip
    task.model.decode_head.conv_seg.weight.data *= 100
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "tiny.ckpt", weights_only=True)
    return tmp_path / "tiny.ckpt"


def write_scene(path, height, width, seed=0, corner=(600000, 4200000), crs="EPSG:32615", pixel=30, **profile):
    rng = np.random.default_rng(seed)
    smooth = np.kron(rng.normal(size=(6, -(-height // 8), -(-width // 8))), np.ones((8, 8)))[
        :, :height, :width
    ]
    values = (0.1 + 0.05 * smooth + 0.02 * rng.normal(size=(6, height, width))).astype("float32")
    values[:, : height // 5, : width // 3] = -9999
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=6, height=height, width=width, nodata=-9999, crs=crs,
        transform=rasterio.Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), **profile,
    ) as out:  # fmt: skip
        out.write(values)
    return path


def classes_of(path):
    with rasterio.open(path) as file:
        return file.read(1)


CPU = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")


# What is written.


def test_a_map_is_a_valid_cog_with_names_colours_and_overviews(checkpoint, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 530, 600)
    path = map_scene(checkpoint, scene, tmp_path / "maps" / "scene_pred.tif", stride=64)
    valid, errors, warnings = cog_validate(path)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as file, rasterio.open(scene) as source:
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert (file.dtypes, file.nodata, file.compression.value) == (("uint8",), 255, "DEFLATE")
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2, 4][: len(file.overviews(1))]
        assert file.overviews(1)
        assert file.colormap(1)[1][:3] == (0x7F, 0, 0)
        assert file.tags(1)["CLASS_1"] == "Burn scar"
        tags = file.tags()
        assert tags["windows"] == "window 64, stride 64, blending average"
        assert len(tags["checkpoint_sha256"]) == 64
        assert {"software", "torch", "torchgeo", "lightning", "rasterio", "nodata_rule"} <= tags.keys()
        empty = (source.read() == -9999).all(axis=0)
        np.testing.assert_array_equal(file.read(1) == 255, empty)
        assert set(np.unique(file.read(1))) == {0, 1, 255}
    sidecar = Path(f"{path}.aux.xml").read_text()
    assert "<Category>Unburnt land</Category>" in sidecar
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "scene_pred.json", "scene_pred.qml", "scene_pred.tif", "scene_pred.tif.aux.xml",
    ]  # fmt: skip


def test_the_stac_item_of_a_map_has_the_counts_of_its_classes(checkpoint, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 100, 90)
    path = map_scene(checkpoint, scene, tmp_path / "scene_pred.tif", dates=["2020-06-30"])
    item = pystac.Item.from_file(path.with_suffix(".json"))
    classes = classes_of(path)
    for entry in item.properties["prithvi_tg:classes"]:
        pixels = int((classes == entry["value"]).sum())
        assert (entry["pixels"], entry["square_metres"]) == (pixels, pixels * 900)
    assert item.datetime.date().isoformat() == "2020-06-30"
    assert item.properties["proj:code"] == "EPSG:32615"


@pytest.mark.parametrize(("kind", "tolerance"), [("uint8", 1 / 500), ("float32", 1e-7), ("float16", 1e-3)])
def test_probabilities_and_confidence_follow_from_the_logits(checkpoint, tmp_path, kind, tolerance):
    scene = write_scene(tmp_path / "scene.tif", 600, 40)
    path = map_scene(checkpoint, scene, tmp_path / "s_pred.tif", probabilities=kind, confidence=True)
    rows = list(map_strips(checkpoint, scene))
    expected = np.concatenate([part.probabilities for part in rows], axis=1)
    masked = np.concatenate([part.masked for part in rows])
    for name, values in (("probabilities", expected), ("confidence", expected.max(axis=0, keepdims=True))):
        with rasterio.open(tmp_path / f"s_{name}.tif") as file:
            stored, scale = file.read(masked=True), file.scales[0]
            assert cog_validate(file.name)[0]
            assert scale == (1 / 250 if kind == "uint8" else 1.0)
            # GDAL 3.12 has a separate name for 32 bits of which 16 are stored.
            bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
            assert (file.dtypes[0], bits) in {
                "uint8": [("uint8", None)], "float32": [("float32", None)],
                "float16": [("float32", "16"), ("float16", None)],
            }[kind]  # fmt: skip
        np.testing.assert_array_equal(stored.mask, np.broadcast_to(masked, values.shape))
        np.testing.assert_allclose(
            stored.compressed() * scale, values[:, ~masked].ravel(), rtol=0, atol=tolerance
        )
    with rasterio.open(tmp_path / "s_probabilities.tif") as file:
        assert file.descriptions == ("Unburnt land", "Burn scar")
    np.testing.assert_array_equal(classes_of(path)[~masked], expected.argmax(axis=0)[~masked])


@pytest.mark.pictures
def test_polygons_and_a_quicklook_are_written_on_request(checkpoint, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 100, 90)
    path = map_scene(checkpoint, scene, tmp_path / "s_pred.tif", vector=["Burn scar"], quicklook=True)
    polygons = geopandas.read_file(tmp_path / "s_pred.gpkg")
    assert set(polygons["name"]) == {"Burn scar"}
    assert polygons.area.sum() == pytest.approx(900 * (classes_of(path) == 1).sum())
    assert (tmp_path / "s_pred.png").stat().st_size > 1000
    with pytest.raises(
        ConfigError, match="vector: 'Water' is not a class; classes are Unburnt land, Burn scar"
    ):
        map_scene(checkpoint, scene, tmp_path / "t_pred.tif", vector=["Water"])
    with pytest.raises(
        ConfigError, match=r"is not a class; did you mean Burn scar\? Classes are Unburnt land, "
    ):
        map_scene(checkpoint, scene, tmp_path / "t_pred.tif", vector=["Burn scars"])
    with pytest.raises(
        ConfigError, match=r"blendig: unknown option; did you mean blending\? Choose from .*stride, .*window"
    ):
        map_scene(checkpoint, scene, tmp_path / "t_pred.tif", blendig="hann")


def test_an_index_shows_all_maps_of_a_crs(checkpoint, tmp_path, command):
    write_scene(tmp_path / "west.tif", 60, 50)
    write_scene(tmp_path / "east.tif", 60, 50, seed=1, corner=(600000 + 50 * 30, 4200000))
    write_scene(tmp_path / "degrees.tif", 40, 40, corner=(10.0, 50.0), crs="EPSG:4326", pixel=0.0003)
    code, out, err = command(
        "predict", "--ckpt_path", checkpoint, tmp_path / "*.tif", "--output", tmp_path / "m", *CPU
    )
    assert code == 0, err
    with rasterio.open(tmp_path / "m" / "index_EPSG_32615.vrt") as index:
        both = np.hstack([classes_of(tmp_path / "m" / f"{name}_pred.tif") for name in ("west", "east")])
        np.testing.assert_array_equal(index.read(1), both)
    assert (tmp_path / "m" / "index_EPSG_4326.vrt").exists()
    assert out.count("Written:") == 4 * 3 + 2
    for word in ("west", "50 x 60", "Burn scar"):
        assert word in out


# The same map, however it is made.


def test_maps_do_not_depend_on_batches_threads_and_tiles(checkpoint, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 300, 150)
    tiled = write_scene(tmp_path / "tiled.tif", 300, 150, tiled=True, blockxsize=64, blockysize=64)
    maps = [
        classes_of(
            map_scene(checkpoint, path, tmp_path / f"{number}.tif", batch_size=batch, num_workers=workers)
        )
        for number, (path, batch, workers) in enumerate(
            ((scene, 1, 0), (scene, 8, 0), (scene, 8, 2), (tiled, 3, 1))
        )
    ]
    for other in maps[1:]:
        np.testing.assert_array_equal(maps[0], other)


@pytest.mark.version_independent
def test_two_processes_make_the_same_map_as_one(checkpoint, tmp_path, command, start):
    scenes = [
        write_scene(tmp_path / "long.tif", 2000, 40),
        write_scene(tmp_path / "short.tif", 50, 60, seed=1),
    ]
    words = ("predict", "--ckpt_path", checkpoint, *scenes, *CPU)
    code, _, err = command(*words, "--output", tmp_path / "by1")
    assert code == 0, err
    code, out, err = start(*words, "--output", tmp_path / "by2", "--trainer.devices", 2).communicate()
    assert code == 0, err
    for name in ("long", "short"):
        one, two = (classes_of(tmp_path / f"by{n}" / f"{name}_pred.tif") for n in (1, 2))
        np.testing.assert_array_equal(one, two)
    assert out.count("Written:") == 4 * 2 + 1
    assert "long" in out
    names = {entry.name for entry in (tmp_path / "by2").iterdir()}
    assert not {name for name in names if name.startswith(".")}


# Going on.


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.version_independent
def test_a_killed_run_is_resumed(checkpoint, tmp_path, command, start):
    scene = write_scene(tmp_path / "scene.tif", 6000, 60)
    expected = classes_of(map_scene(checkpoint, scene, tmp_path / "whole.tif"))
    folder, parts = tmp_path / "maps", tmp_path / "maps" / ".scene_pred.parts"
    rng = np.random.default_rng(0)
    records = {}
    words = ("predict", "--ckpt_path", checkpoint, scene, "--output", folder, *CPU)
    for kill, more in enumerate(((), ("--trainer.devices", 2, "--trainer.strategy", "ddp_fork")), start=1):
        process = start(*words, *more)
        wait_for(lambda least=kill: len(list(parts.glob("strip_*.json"))) >= least, process)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        assert not list(folder.glob("*.tif"))
        found = {path.name: path.read_text() for path in parts.glob("strip_*.json")}
        assert records.items() <= found.items()  # what was finished before was not done again
        records = found
    assert 2 <= len(records) < 12
    code, _, err = command(*words)
    assert code == 0, err
    np.testing.assert_array_equal(classes_of(folder / "scene_pred.tif"), expected)
    assert not parts.exists()


@pytest.mark.version_independent
def test_a_map_that_another_process_is_writing_is_an_error_at_once(checkpoint, tmp_path, command, start):
    scene = write_scene(tmp_path / "scene.tif", 6000, 60)
    folder, parts = tmp_path / "maps", tmp_path / "maps" / ".scene_pred.parts"
    words = ("predict", "--ckpt_path", checkpoint, scene, "--output", folder, *CPU)
    process = start(*words)
    wait_for(lambda: list(parts.glob("strip_*.json")), process)
    process.send_signal(signal.SIGSTOP)
    strips = sorted(parts.iterdir())
    code, _, err = command(*words)
    line = (
        f"{folder}/scene_pred.tif: another process is writing this map; wait for it, or choose another output"
    )
    assert (code, err.splitlines()[-1]) == (1, f"prithvi-tg: error: {line}")
    with pytest.raises(DataError, match="another process is writing this map"):
        map_scene(checkpoint, scene, folder / "scene_pred.tif", overwrite=True)
    assert sorted(parts.iterdir()) == strips
    process.kill()
    code, out, err = command(*words)
    assert code == 0, err
    assert "scene: resuming" in out
    assert not parts.exists()


def interrupted(checkpoint, scene, output, monkeypatch, after):
    """A run that ends when a number of strips is complete, as if it were killed."""
    from prithvi_tg.mapping.strip_store import StripWriter

    finish, count = StripWriter.finish, []

    def stop(self, *arguments):
        finish(self, *arguments)
        count.append(self.strip.number)
        if len(count) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(StripWriter, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        map_scene(checkpoint, scene, output)
    monkeypatch.setattr(
        StripWriter, "finish", lambda self, *a: count.append(self.strip.number) or finish(self, *a)
    )
    return count


def test_only_valid_strips_are_reused(checkpoint, tmp_path, monkeypatch):
    scene = write_scene(tmp_path / "scene.tif", 2000, 40)
    expected = classes_of(map_scene(checkpoint, scene, tmp_path / "whole.tif"))
    output = tmp_path / "map.tif"
    strips = interrupted(checkpoint, scene, output, monkeypatch, after=3)
    damaged = tmp_path / ".map.parts" / "strip_00001_pred.tif"
    content = bytearray(damaged.read_bytes())
    content[-20] ^= 0xFF
    damaged.write_bytes(content)
    map_scene(checkpoint, scene, output)
    assert strips == [0, 1, 2, 1, 3]
    np.testing.assert_array_equal(classes_of(output), expected)


@pytest.mark.parametrize("what", ["setting", "scene", "checkpoint"])
def test_strips_of_another_run_are_not_reused(checkpoint, tmp_path, monkeypatch, what):
    scene = write_scene(tmp_path / "scene.tif", 2000, 40)
    output = tmp_path / "map.tif"
    strips = interrupted(checkpoint, scene, output, monkeypatch, after=2)
    options = {}
    if what == "setting":
        options["blending"] = "hann"
    elif what == "scene":
        write_scene(scene, 2000, 40, seed=5)
    else:
        other = torch.load(checkpoint, weights_only=True)
        other["state_dict"] = {key: value * 1.01 for key, value in other["state_dict"].items()}
        torch.save(other, checkpoint)
    map_scene(checkpoint, scene, output, **options)
    assert strips == [0, 1, 0, 1, 2, 3]


def test_a_run_killed_while_files_are_renamed_is_completed(checkpoint, tmp_path, monkeypatch):
    """Several files belong to a map; the map itself gets its name last."""
    scene = write_scene(tmp_path / "scene.tif", 100, 40)
    output = tmp_path / "maps" / "s_pred.tif"
    replace, count = Path.replace, []

    def stop(self, target):
        if Path(target).parent == output.parent and Path(target).name != output.name:
            count.append(target)
            if len(count) == 2:
                raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        map_scene(checkpoint, scene, output, confidence=True)
    monkeypatch.undo()
    assert not output.exists()
    map_scene(checkpoint, scene, output, confidence=True)
    assert sorted(entry.name for entry in output.parent.iterdir()) == [
        "s_confidence.tif", "s_pred.json", "s_pred.qml", "s_pred.tif", "s_pred.tif.aux.xml",
    ]  # fmt: skip


# What is in the way.


def test_nothing_is_overwritten_without_the_option(checkpoint, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 50, 40)
    output = map_scene(checkpoint, scene, tmp_path / "map.tif")
    with pytest.raises(ConfigError, match=r"map\.tif: exists; add overwrite=True"):
        map_scene(checkpoint, scene, output)
    (tmp_path / "b_confidence.tif").write_text("something of the user's")
    with pytest.raises(ConfigError, match=r"b_confidence\.tif: exists; add overwrite=True"):
        map_scene(checkpoint, scene, tmp_path / "b_pred.tif", confidence=True)
    assert (tmp_path / "b_confidence.tif").read_text() == "something of the user's"
    before = output.stat().st_mtime_ns
    map_scene(checkpoint, scene, output, overwrite=True)
    assert output.stat().st_mtime_ns > before


def test_colliding_names_are_an_error_before_mapping(checkpoint, tmp_path, command):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_scene(tmp_path / folder / "x.tif", 40, 40)
    code, _, err = command(
        "predict", "--ckpt_path", checkpoint, tmp_path / "a", tmp_path / "b", "--output", tmp_path / "m"
    )
    assert code == 2
    assert "a/x.tif and" in err
    assert "would both be mapped to" in err
    assert err.endswith("; map each with an output folder of its own, or rename one\n")
    assert not (tmp_path / "m").exists()


# What goes wrong with one scene leaves the others alone.


def truncated(path):
    write_scene(path, 600, 100, blockysize=50, compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def unreadable_block(path):
    write_scene(path, 600, 100, blockysize=50, compress="deflate")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_10", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = b"\x07" * 40
    path.write_bytes(content)


def one_band_missing(path):
    values = np.zeros((5, 60, 60), "float32")
    with rasterio.open(path, "w", driver="GTiff", dtype="float32", count=5, height=60, width=60) as out:
        out.write(values)


@pytest.mark.parametrize(
    ("damage", "words", "workers"),
    [
        (truncated, "TIFFReadEncodedStrip() failed.); the file may be truncated", 0),
        (unreadable_block, "b.tif: not a readable raster", 2),
        (one_band_missing, "b.tif: has 5 bands, the model takes 6", 2),
    ],
)
def test_one_bad_scene_does_not_prevent_maps_of_the_others(
    checkpoint, tmp_path, command, damage, words, workers
):
    for name in ("a", "c"):
        write_scene(tmp_path / f"{name}.tif", 60, 70)
    damage(tmp_path / "b.tif")
    code, out, err = command(
        "predict", "--ckpt_path", checkpoint, *(tmp_path / f"{name}.tif" for name in "abc"),
        "--output", tmp_path / "m", "--num_workers", workers, *CPU,
    )  # fmt: skip
    assert code == 1
    assert "1 of 3 scenes failed" in err
    assert words in err
    assert "failed" in out
    found = {entry.name for entry in (tmp_path / "m").iterdir() if entry.suffix == ".tif"}
    assert found == {"a_pred.tif", "c_pred.tif"}
    # After the repair, the same command maps only the missing scenes.
    before = (tmp_path / "m" / "a_pred.tif").stat().st_mtime_ns
    write_scene(tmp_path / "b.tif", 60, 70, seed=3)
    code, _, err = command(
        "predict", "--ckpt_path", checkpoint, *(tmp_path / f"{name}.tif" for name in "abc"),
        "--output", tmp_path / "m", *CPU,
    )  # fmt: skip
    assert code == 0, err
    assert (tmp_path / "m" / "b_pred.tif").exists()
    assert (tmp_path / "m" / "a_pred.tif").stat().st_mtime_ns == before


def test_a_repeated_run_names_the_maps_that_it_keeps(checkpoint, tmp_path, command):
    scenes = [tmp_path / f"{name}.tif" for name in "abc"]
    for scene in scenes[::2]:
        write_scene(scene, 60, 70)
    truncated(scenes[1])
    words = ("predict", "--ckpt_path", checkpoint, *scenes, "--output", tmp_path / "m", *CPU)
    code, out, _ = command(*words)
    assert (code, "kept" in out) == (1, False)
    written = (tmp_path / "m" / "index_EPSG_32615.vrt").read_text()
    code, out, _ = command(*words)
    assert code == 1
    for name in "ac":
        assert f"{name}: already complete, kept" in out
        (row,) = [line for line in out.splitlines() if line.strip("│ ").startswith(f"{name} ")]
        assert row.split("│")[3].strip() == "kept"
    assert "Mpx/s" not in out
    assert "Kept maps were completed by the interrupted run." in out
    assert [path.name for path in (tmp_path / "m").glob("*.vrt")] == ["index_EPSG_32615.vrt"]
    assert (tmp_path / "m" / "index_EPSG_32615.vrt").read_text() == written
    code, out, err = command(*words[:3], *scenes[::2], *words[6:])
    assert code == 0, err
    assert not list((tmp_path / "m").glob(".[ac]*"))  # without the broken scene, nothing is left to resume


@pytest.mark.parametrize("value", [-9999, np.nan])
def test_a_scene_without_data_gets_a_map_of_nodata(checkpoint, tmp_path, value):
    scene = write_scene(tmp_path / "scene.tif", 60, 70)
    with rasterio.open(scene, "r+") as file:
        file.write(np.full((6, 60, 70), value, "float32"))
    path = map_scene(checkpoint, scene, tmp_path / "map.tif", probabilities="uint8")
    assert (classes_of(path) == 255).all()
    with rasterio.open(tmp_path / "map_probabilities.tif") as file:
        assert (file.read() == 255).all()


def test_a_full_disk_is_a_clear_error_and_leaves_no_incomplete_map(checkpoint, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 400, 600)
    output = tmp_path / "maps" / "s_pred.tif"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for limit in (2_000, 20_000, 60_000):  # while a strip is written, or the map
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(DataError, match=r"s_pred\.tif: cannot be written"):
                map_scene(checkpoint, scene, output, probabilities="float32")
            assert not [path for path in output.parent.glob("*") if not path.name.startswith(".")]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    map_scene(checkpoint, scene, output, probabilities="float32")
    assert cog_validate(output)[0]


def test_an_error_names_the_output_folder_that_cannot_be_created(checkpoint, tmp_path, command):
    (tmp_path / "maps").write_text("a file where the folder should be")
    scene = write_scene(tmp_path / "scene.tif", 50, 40)
    with pytest.raises(DataError, match=r"maps/map\.tif: cannot be written"):
        map_scene(checkpoint, scene, tmp_path / "maps" / "map.tif")
    code, _, err = command("predict", "--ckpt_path", checkpoint, scene, "--output", tmp_path / "maps", *CPU)
    assert code == 2
    assert "--output: " in err
    assert "maps is neither a folder nor a .tif" in err


def test_completed_rows_are_yielded_in_order(checkpoint, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 300, 50)
    expected = classes_of(map_scene(checkpoint, scene, tmp_path / "map.tif", blending="hann"))
    rows = list(map_strips(checkpoint, scene, blending="hann"))
    assert len(rows) > 5
    np.testing.assert_array_equal(np.concatenate([part.classes for part in rows]), expected)


def test_skip_existing_keeps_maps_and_extends_the_index(checkpoint, tmp_path, command):
    """With skip_existing, existing maps are kept, and the index shows all maps."""
    archive = tmp_path / "archive"
    archive.mkdir()
    write_scene(archive / "a.tif", 50, 40)
    words = ("predict", "--ckpt_path", checkpoint, archive, "--output", tmp_path / "m", *CPU)
    assert command(*words)[0] == 0
    before = (tmp_path / "m" / "a_pred.tif").stat().st_mtime_ns
    write_scene(archive / "b.tif", 50, 40, corner=(600000 + 40 * 30, 4200000))
    code, out, err = command(*words, "--skip_existing")
    assert code == 0, err
    assert (
        "Skipped 1 scene that already has a map; outputs that you now ask for in addition are not written"
        in out
    )
    assert (tmp_path / "m" / "a_pred.tif").stat().st_mtime_ns == before
    with rasterio.open(tmp_path / "m" / "index_EPSG_32615.vrt") as index:
        assert index.width == 80
    assert not (tmp_path / "m" / "index_EPSG_32615_run_2.vrt").exists()


def test_files_of_a_replaced_map_are_removed(checkpoint, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", 50, 40)
    output = tmp_path / "m" / "s_pred.tif"
    map_scene(checkpoint, scene, output, confidence=True, quicklook=True, vector="Burn scar")
    map_scene(checkpoint, scene, output, overwrite=True)
    assert sorted(entry.name for entry in output.parent.iterdir()) == [
        "s_pred.json", "s_pred.qml", "s_pred.tif", "s_pred.tif.aux.xml",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overwrite": True, "skip_existing": True}, "skip_existing: contradicts overwrite"),
        ({"blending": "han"}, "blending: 'han' is unknown; choose from average, hann, crop"),
        ({"nodata_rule": "foo"}, "nodata_rule: 'foo' is unknown"),
        ({"probabilities": "int8"}, "probabilities: 'int8' is unknown; choose from uint8, float32, float16"),
        ({"batch_size": 0}, "batch_size: 0 must be 1 or more"),
        ({"stride": 0}, "stride: 0 must lie between 1 and the window"),
        ({"num_workers": -1}, "num_workers: -1 must be 0 or more"),
        ({"quality": ("scene_SCL.tif",)}, "quality: has no effect without qa_mask; name the classes to mask"),
    ],
)
def test_options_out_of_range_are_errors(checkpoint, tmp_path, options, words):
    scene = write_scene(tmp_path / "scene.tif", 50, 40)
    with pytest.raises(ConfigError, match=words):
        map_scene(checkpoint, scene, tmp_path / "m.tif", **options)
