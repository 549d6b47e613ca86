"""Embeddings: tokens of an encoder on the grid of its patches."""

import logging

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from conftest import TINY
from lightning.pytorch import Trainer
from rasterio.enums import Resampling
from rio_cogeo import cog_validate
from torchgeo.models import ResNet18_Weights

from prithvi_tg import PrithviSegmentationTask
from prithvi_tg.bands import PRITHVI_BANDS
from prithvi_tg.errors import ConfigError
from prithvi_tg.mapping import embed_scene, embedding, published_encoder
from prithvi_tg.mapping.strip_store import StripWriter
from prithvi_tg.models import create_encoder
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ChipClassTarget, ClassTarget, ValueTarget
from prithvi_tg.tasks import PrithviClassificationTask, PrithviPixelwiseRegressionTask
from prithvi_tg.tiling import window_starts

PATCH, WINDOW = 16, 32
TRANSFORM = rasterio.Affine(30, 0, 600000, 0, -30, 4200000)


def spec_of(frames=1):
    inputs = InputSpec(PRITHVI_BANDS, (0.1,) * 6, (0.05,) * 6, frames)
    return DataSpec(inputs, ClassTarget(("Land", "Water")))


def task_of(frames=1):
    torch.manual_seed(0)
    return PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, num_frames=frames, window=WINDOW,
        data_spec=spec_of(frames).to_dict(),
    ).eval()  # fmt: skip


def write_scene(path, height=70, width=53, seed=0):
    """Nodata in the first two rows and three columns of patches, and in single pixels elsewhere."""
    values = np.random.default_rng(seed).normal(0.1, 0.05, (6, height, width)).astype("float32")
    values[:, : 2 * PATCH, : 3 * PATCH] = -9999
    values[:, 40:44, 20:24] = -9999
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=6, height=height, width=width, nodata=-9999,
        crs="EPSG:32615", transform=TRANSFORM,
    ) as out:  # fmt: skip
        out.write(values)
    return path


def padded(path, patch=PATCH):
    """Normalised pixels (C, H, W), padded with band means to whole patches."""
    with rasterio.open(path) as file:
        values = file.read()
    normal = np.where(values == -9999, 0, (values - np.float32(0.1)) / np.float32(0.05))
    return np.pad(normal, ((0, 0), *((0, -length % patch) for length in values.shape[1:])))


def tokens_by_hand(encoder, image, row, column, block=-1):
    """Mean of the tokens of a patch over all its windows, one patch apart; image (T, C, H, W)."""
    side, found = WINDOW // PATCH, []
    rows, columns = (length // PATCH for length in image.shape[-2:])
    for top in range(max(0, row - side + 1), min(row, rows - side) + 1):
        for left in range(max(0, column - side + 1), min(column, columns - side) + 1):
            window = image[..., top * PATCH : top * PATCH + WINDOW, left * PATCH : left * PATCH + WINDOW]
            with torch.no_grad():
                (tokens,) = encoder.forward_intermediates(
                    torch.from_numpy(window[None]).float(), [block], norm=True
                )
            grid = tokens[0, 1:].reshape(len(image), side, side, -1)
            found.append(grid[:, row - top, column - left].flatten())
    return torch.stack(found).mean(dim=0).numpy()


def test_a_pixel_is_the_mean_of_the_tokens_of_its_patch(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    task, scene = task_of(), write_scene(tmp_path / "scene.tif")
    path = embed_scene(task, scene, tmp_path / "e" / "emb.tif", dtype="float32", quicklook=True)
    assert cog_validate(path)[0]
    with rasterio.open(path) as file, rasterio.open(scene) as source:
        sizes = f"{source.width} x {source.height} pixels, {file.width} x {file.height} patches"
        assert source.width % file.width  # the last patch reaches beyond the scene
    assert f"scene: embedding {sizes}, 1 strip\n" in caplog.text
    with rasterio.open(path) as file:
        values = file.read()
        assert (file.count, file.shape, file.descriptions[31]) == (32, (5, 4), "feature_31")
        assert (file.crs.to_epsg(), file.transform) == (32615, TRANSFORM * rasterio.Affine.scale(PATCH))
        assert file.tags()["model"].startswith("encoder nano of ")
    empty = np.zeros((5, 4), bool)
    empty[:2, :3] = True
    np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(empty, values.shape))
    image = padded(scene)[None]
    for row, column in ((0, 3), (2, 1), (4, 3)):
        expected = tokens_by_hand(task.model.encoder, image, row, column)
        np.testing.assert_allclose(values[:, row, column], expected, rtol=0, atol=1e-5)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["emb.json", "emb.png", "emb.tif"]


def test_a_block_can_be_chosen_and_is_stored_in_16_bits(tmp_path):
    task, scene = task_of(), write_scene(tmp_path / "scene.tif")
    with rasterio.open(embed_scene(task, scene, tmp_path / "emb.tif", block=0)) as file:
        found = file.read()[:, 3, 2]
    expected = tokens_by_hand(task.model.encoder, padded(scene)[None], 3, 2, block=0)
    np.testing.assert_array_equal(found, found.astype("float16"))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_8_bits_have_a_scale_per_band(tmp_path):
    task, scene = task_of(), write_scene(tmp_path / "scene.tif")
    with rasterio.open(embed_scene(task, scene, tmp_path / "full.tif", dtype="float32")) as file:
        full = file.read()
    with rasterio.open(embed_scene(task, scene, tmp_path / "small.tif", dtype="int8")) as file:
        stored, scales = file.read(), np.array(file.scales)
        assert (set(file.dtypes), file.nodata) == ({"int8"}, -128)
    np.testing.assert_array_equal(stored == -128, np.isnan(full))
    np.testing.assert_allclose(scales, np.nanmax(np.abs(full), axis=(1, 2)) / 127, rtol=1e-6)
    error = np.abs(stored * scales[:, None, None] - full)
    assert np.nanmax(error / scales[:, None, None]) <= 0.5 + 1e-4


def test_points_lie_at_the_centres_of_patches_with_data(tmp_path):
    points = tmp_path / "elsewhere" / "points.parquet"
    path = embed_scene(
        task_of(), write_scene(tmp_path / "scene.tif"), tmp_path / "emb.tif", dtype="float32", points=points
    )
    frame = geopandas.read_parquet(points)
    assert frame.crs.to_epsg() == 32615
    with rasterio.open(path) as file:
        values = file.read()
        assert len(frame) == (~np.isnan(values[0])).sum()
        for one in (frame.iloc[0], frame.iloc[-1]):
            assert (one.geometry.x, one.geometry.y) == file.xy(one["row"], one["column"])
            np.testing.assert_array_equal(one["embedding"], values[:, one["row"], one["column"]])


def test_features_of_several_dates_are_concatenated(tmp_path):
    task = task_of(frames=2)
    dates = [write_scene(tmp_path / f"{seed}.tif", seed=seed) for seed in (0, 1)]
    scene = ",".join(map(str, dates))
    with rasterio.open(embed_scene(task, scene, tmp_path / "both.tif", dtype="float32")) as file:
        both = file.read()
        assert (file.count, file.descriptions[32]) == (64, "frame_1_feature_0")
    with rasterio.open(embed_scene(task, scene, tmp_path / "one.tif", dtype="float32", frame=1)) as file:
        np.testing.assert_array_equal(file.read(), both[32:])
    image = np.stack([padded(path) for path in dates])
    expected = tokens_by_hand(task.model.encoder, image, 3, 1)
    np.testing.assert_allclose(both[:, 3, 1], expected, rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="frame: 2 must lie between 0 and 1"):
        embed_scene(task, scene, tmp_path / "none.tif", frame=2)
    with pytest.raises(ConfigError, match="frame: 2 given, but the model has one frame, 0; leave it out"):
        embed_scene(task_of(), dates[0], tmp_path / "none.tif", frame=2)


@pytest.mark.parametrize("rows_per_block", [1, 7, 64])
def test_embeddings_do_not_depend_on_the_blocks_of_the_file(tmp_path, rows_per_block):
    task, scene = task_of(), write_scene(tmp_path / "scene.tif")
    expected = embed_scene(task, scene, tmp_path / "a.tif", dtype="float32")
    copy = tmp_path / "copy.tif"
    with (
        rasterio.open(scene) as source,
        rasterio.open(copy, "w", **source.profile | {"blockysize": rows_per_block}) as out,
    ):
        out.write(source.read())
    again = embed_scene(task, copy, tmp_path / "b.tif", dtype="float32", batch_size=3)
    with rasterio.open(expected) as one, rasterio.open(again) as other:
        np.testing.assert_allclose(one.read(), other.read(), rtol=0, atol=1e-5)


def test_an_interrupted_embedding_resumes(tmp_path, monkeypatch):
    task, scene = task_of(), write_scene(tmp_path / "scene.tif", 1100, 40)
    with rasterio.open(embed_scene(task, scene, tmp_path / "whole.tif", dtype="float32")) as file:
        expected = file.read()
    finish, strips = StripWriter.finish, []

    def stop(self, *arguments):
        finish(self, *arguments)
        strips.append(self.strip.number)
        if len(strips) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(StripWriter, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_scene(task, scene, tmp_path / "emb.tif", dtype="float32")
    assert not (tmp_path / "emb.tif").exists()
    embed_scene(task, scene, tmp_path / "emb.tif", dtype="float32")
    assert strips == [0, 1, 2]
    with rasterio.open(tmp_path / "emb.tif") as file:
        np.testing.assert_array_equal(file.read(), expected)
        assert file.overviews(1)
        assert file.read(1, out_shape=(9, 1), resampling=Resampling.average).shape == (9, 1)


def pyramid_task(frames=1):
    torch.manual_seed(0)
    spec = DataSpec(spec_of(frames).input, ChipClassTarget(("Land", "Water")))
    return PrithviClassificationTask(
        "timm/test_resnet", num_frames=frames, data_spec=spec.to_dict(), pooling="mean"
    ).eval()


def features_by_hand(encoder, image, row, column, stage, window=64):
    """Mean of the features of a pixel of a stage over all its windows; image (T, C, H, W), padded."""
    cell = encoder.strides[stage]
    starts = [window_starts(length, window, window // 2) for length in image.shape[-2:]]
    found = []
    for top in starts[0]:
        for left in starts[1]:
            r, c = row - top // cell, column - left // cell
            if not (0 <= r < window // cell and 0 <= c < window // cell):
                continue
            part = image[..., top : top + window, left : left + window]
            with torch.no_grad():
                maps = encoder.backbone.forward_intermediates(
                    torch.from_numpy(part).float(),
                    indices=[stage % len(encoder.strides)],
                    intermediates_only=True,
                )
            found.append(maps[0][:, :, r, c].flatten())
    return torch.stack(found).mean(dim=0).numpy()


@pytest.mark.parametrize(("stage", "frames"), [(1, 1), (-1, 1), (-2, 2)])
def test_a_pixel_of_a_resnet_is_as_wide_as_the_stride_of_its_stage(tmp_path, stage, frames):
    task = pyramid_task(frames)
    encoder = task.model.encoder
    dates = [write_scene(tmp_path / f"{seed}.tif", 100, 90, seed) for seed in range(frames)]
    path = embed_scene(
        task, ",".join(map(str, dates)), tmp_path / "e.tif", dtype="float32", block=stage, window=64, stride=32,
        nodata_rule="all",
    )  # fmt: skip
    cell, depth = encoder.strides[stage], encoder.num_features[stage]
    with rasterio.open(path) as file:
        values = file.read()
        assert file.transform == TRANSFORM @ rasterio.Affine.scale(cell)
        assert (file.count, file.shape) == (depth * frames, (-(-100 // cell), -(-90 // cell)))
    image = np.stack([padded(date, cell) for date in dates])
    last_row, last_column = values.shape[1] - 1, values.shape[2] - 1
    for row, column in ((last_row, 0), (40 // cell, last_column), (last_row, last_column)):
        expected = features_by_hand(encoder, image, row, column, stage)
        np.testing.assert_allclose(values[:, row, column], expected, rtol=0, atol=1e-4)
    assert np.isnan(values[:, 0, 0]).all()


def test_the_encoder_of_a_regression_checkpoint_can_be_used(tmp_path):
    torch.manual_seed(0)
    spec = DataSpec(spec_of().input, ValueTarget(("biomass",), ("t/ha",), (1.0,), (1.0,)))
    task = PrithviPixelwiseRegressionTask(
        "timm/test_vit", head_channels=8, decoder="linear", window=WINDOW, data_spec=spec.to_dict()
    ).eval()
    scene = write_scene(tmp_path / "scene.tif")
    with rasterio.open(embed_scene(task, scene, tmp_path / "e.tif", dtype="float32")) as file:
        values = file.read()
    for row, column in ((0, 3), (2, 1), (4, 3)):
        expected = tokens_by_hand(task.model.encoder, padded(scene)[None], row, column)
        np.testing.assert_allclose(values[:, row, column], expected, rtol=0, atol=1e-4)


def test_a_published_encoder_of_timm_takes_8_bit_colours(tmp_path):
    torch.manual_seed(3)
    encoder = create_encoder("timm/test_resnet.r160_in1k", num_bands=3).eval()
    torch.save(
        {key.removeprefix("backbone."): v for key, v in encoder.state_dict().items()}, tmp_path / "w.pt"
    )
    source = published_encoder("timm/test_resnet.r160_in1k", tmp_path / "w.pt", window=64, stride=64)
    assert source.spec.bands == ("RED", "GREEN", "BLUE")
    values = np.random.default_rng(0).integers(1, 255, (3, 64, 64)).astype("uint8")
    with rasterio.open(
        tmp_path / "rgb.tif", "w", driver="GTiff", dtype="uint8", count=3, height=64, width=64, crs="EPSG:32615",
        transform=TRANSFORM,
    ) as out:  # fmt: skip
        out.write(values)
        out.descriptions = ("RED", "GREEN", "BLUE")
    path = embed_scene(source, tmp_path / "rgb.tif", tmp_path / "e.tif", dtype="float32")
    config = encoder.backbone.pretrained_cfg
    mean, std = (np.array(config[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        expected = encoder(torch.from_numpy((values / 255 - mean) / std)[None].float())[0]
    with rasterio.open(path) as file:
        np.testing.assert_allclose(file.read(), expected.numpy(), rtol=0, atol=1e-4)


def test_weights_of_torchgeo_define_bands_and_statistics():
    encoder = create_encoder("torchgeo/ResNet18_Weights.SENTINEL2_RGB_SECO")
    assert encoder.pretrained_bands == ("RED", "GREEN", "BLUE")
    image = torch.rand(1, 3, 8, 8, dtype=torch.float64) * 255
    mean, std = (torch.tensor(part).reshape(3, 1, 1) for part in encoder.pretrained_statistics)
    normalise = ResNet18_Weights.SENTINEL2_RGB_SECO.transforms[2:]
    torch.testing.assert_close(((image - mean) / std).float(), normalise(image.clone()).float())
    all_bands = create_encoder("torchgeo/ResNet18_Weights.SENTINEL2_ALL_MOCO")
    assert all_bands.pretrained_statistics == ((0.0,) * 13, (10000.0,) * 13)


def test_a_published_encoder_is_used_by_its_name(tmp_path, monkeypatch):
    torch.manual_seed(3)
    tiny = create_encoder("nano", num_bands=6, **TINY).eval()
    torch.save(tiny.state_dict(), tmp_path / "weights.pt")
    monkeypatch.setattr(embedding, "create_encoder", lambda name, **_: create_encoder("nano", **TINY))
    source = published_encoder("prithvi_eo_v2_300m", tmp_path / "weights.pt", window=WINDOW)
    scene = write_scene(tmp_path / "scene.tif")
    path = embed_scene(source, scene, tmp_path / "emb.tif", dtype="float32", scale=10_000, nodata=[-9999])
    with rasterio.open(scene) as file:
        values = file.read()
    mean, std = (np.array(part, np.float32)[:, None, None] for part in (source.spec.mean, source.spec.std))
    assert (mean[0, 0, 0], std[5, 0, 0]) == (1087, 1049)
    normal = np.where(values == -9999, 0, (values * 10_000 - mean) / std)
    image = np.pad(normal, ((0, 0), *((0, -length % PATCH) for length in values.shape[1:])))[None]
    with rasterio.open(path) as file:
        np.testing.assert_allclose(file.read()[:, 4, 2], tokens_by_hand(tiny, image, 4, 2), rtol=0, atol=1e-4)
    with pytest.raises(
        ConfigError, match="encoder: the bands or statistics of the pre-training of 'nano' are unknown"
    ):
        published_encoder("nano", tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"stride": 20}, "stride: 20 must be a multiple of the patch size, 16"),
        (
            {"window": 40},
            "window: 40 must be a multiple of the patch size, 16, because each .* is one patch; use 32 or 48",
        ),
        ({"dtype": "int16"}, "dtype: 'int16' is unknown; choose from float16, float32, int8"),
        ({"block": 7}, "out of range for an encoder of 2 blocks"),
        ({"confidence": True}, "confidence: the model maps tokens"),
        ({"profile": "legacy"}, "profile: 'legacy' has no map of tokens; use cog"),
    ],
)
def test_invalid_options_are_refused(tmp_path, options, reason):
    with pytest.raises(ConfigError, match=reason):
        embed_scene(task_of(), write_scene(tmp_path / "scene.tif"), tmp_path / "e" / "emb.tif", **options)
    assert not (tmp_path / "e").exists()


def test_the_command_embeds_a_scene(tmp_path, command):
    task, scene = task_of(), write_scene(tmp_path / "scene.tif")
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "tiny.ckpt", weights_only=True)
    words = ("embed", scene, "--output", tmp_path / "emb.tif", "--device", "cpu")
    code, out, err = command(*words, "--ckpt_path", tmp_path / "tiny.ckpt", "--dtype", "float32")
    assert code == 0, err
    assert "emb.tif" in out
    expected = embed_scene(task, scene, tmp_path / "python.tif", dtype="float32")
    with rasterio.open(tmp_path / "emb.tif") as one, rasterio.open(expected) as other:
        np.testing.assert_allclose(one.read(), other.read(), rtol=0, atol=1e-6)
    code, _, err = command(*words)
    assert (code, "ckpt_path, encoder: give one of them" in err) == (2, True)
    code, _, err = command(*words, "--ckpt_path", tmp_path / "tiny.ckpt")
    assert code == 2
    assert "exists; add --overwrite to replace it, or choose another output" in err


def test_embed_accepts_the_options_of_predict_for_the_device(monkeypatch):
    from prithvi_tg.cli.table import COMMANDS
    from prithvi_tg.commands import embed

    def options(*words):
        given = COMMANDS["embed"].parser().parse_args(["s.tif", "--output", "e.tif", *words])
        return given.precision, given.device, given.tf32

    own = options("--precision", "bf16-mixed", "--device", "cpu", "--tf32")
    theirs = ("--trainer.precision", "bf16-mixed", "--trainer.accelerator", "cpu", "--tf32", "true")
    assert own == options(*theirs) == ("bf16-mixed", "cpu", True)
    assert options("--tf32", "false")[2] is False
    devices = []
    monkeypatch.setattr(embed, "_source", lambda *words: None)
    monkeypatch.setattr(embed, "check_accelerator", lambda *words, **keys: None)
    monkeypatch.setattr(embed, "embed_scene", lambda *words, device, **options: devices.append(device))
    for name in ("gpu", "cuda:1", "cpu"):
        assert embed.run(["s.tif", "--output", "e.tif", "--trainer.accelerator", name]) == 0
    assert devices == ["cuda", "cuda:1", "cpu"]


def test_points_are_written_to_a_parquet_file_only(tmp_path):
    scene = write_scene(tmp_path / "scene.tif")
    with pytest.raises(ConfigError, match=r"points: .*points\.csv must be a GeoParquet file, \.parquet"):
        embed_scene(task_of(), scene, tmp_path / "emb.tif", points=tmp_path / "points.csv")
