"""Ensembles, views and temperatures of maps, and the products of uncertainty."""

import json
import math

import numpy as np
import pytest
import rasterio
import torch
from conftest import TINY
from lightning.pytorch import Trainer
from torch import nn

from prithvi_tg import PrithviPixelwiseRegressionTask, PrithviSegmentationTask, map_scene, map_strips
from prithvi_tg.errors import CheckpointError, ConfigError
from prithvi_tg.mapping.combination import Combination
from prithvi_tg.mapping.ensembles import VIEWS, Ensemble, Member
from prithvi_tg.mapping.strip_store import StripWriter
from prithvi_tg.spec import DataSpec, InputSpec
from prithvi_tg.targets import ClassTarget, ValueTarget
from prithvi_tg.tasks.calibration import Calibration

INPUT = InputSpec(("RED", "GREEN", "BLUE"), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
SPEC = DataSpec(INPUT, ClassTarget(("Land", "Water", "Ice")))
VALUES = DataSpec(INPUT, ValueTarget(("biomass", "height"), ("t/ha", "m"), (100.0, 10.0), (50.0, 4.0)))


class PixelModel(nn.Module):
    """Logits of each pixel from its own bands: equivariant under flips and turns."""

    def __init__(self, outputs):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.patch_size, self.encoder.coordinates = 1, {}
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, outputs, 1))

    def forward(self, image, **coordinates):
        return 3 * self.layers(image[:, 0])


class PixelTask(PrithviSegmentationTask):
    """A task with a model without neighbourhood."""

    def configure_models(self):
        self.model = PixelModel(self.num_outputs)


class PixelValueTask(PrithviPixelwiseRegressionTask):
    """A task of values with a model without neighbourhood."""

    def configure_models(self):
        self.model = PixelModel(self.num_outputs)


def pixel_task(seed=0, spec=SPEC, **arguments):
    torch.manual_seed(seed)
    kind = PixelTask if spec.target.kind == "classes" else PixelValueTask
    bands = list(INPUT.bands)
    return kind(data_spec=spec.to_dict(), bands=bands, num_frames=1, window=32, stride=24, **arguments)


def tiny_task(seed=0, **arguments):
    """A tiny Prithvi, whose logits depend on the whole window."""
    torch.manual_seed(seed)
    task = PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, bands=list(INPUT.bands), num_frames=1,
        **{"window": 32, "stride": 24, "data_spec": SPEC.to_dict(), **arguments},
    )  # fmt: skip
    task.model.decode_head.conv_seg.weight.data *= 100
    return task


def calibrated(task, temperature):
    task.calibration = Calibration(temperature)
    return task


def write_scene(path, height, width):
    """A scene with an area of nodata."""
    values = np.random.default_rng(0).uniform(0, 1, (3, height, width)).astype("float32")
    values[:, :30, :10] = -9
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=3, height=height, width=width, nodata=-9,
        crs="EPSG:32615", transform=rasterio.Affine(30, 0, 600000, 0, -30, 4200000),
    ) as out:  # fmt: skip
        out.write(values)
        out.descriptions = INPUT.bands
    return path


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / "scene.tif", 71, 53)


def save(task, path):
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path, weights_only=True)
    return path


def strips(model, scene, **options):
    """Logits (K, H, W), probabilities (K, H, W), classes (H, W) and mask (H, W) of a whole map."""
    rows = list(map_strips(model, scene, **options))
    logits = torch.cat([part.logits for part in rows], dim=1)
    probabilities = np.concatenate([part.probabilities for part in rows], axis=1)
    classes = np.concatenate([part.classes for part in rows])
    return logits, probabilities, classes, np.concatenate([part.masked for part in rows])


def stored(folder, name):
    with rasterio.open(folder / f"scene_{name}.tif") as file:
        return file.read(masked=True) * file.scales[0]


def tags_of(path):
    with rasterio.open(path) as file:
        return file.tags()


# Views.


@pytest.mark.parametrize("view", VIEWS["d4"])
@pytest.mark.parametrize("size", [(32, 32), (5, 9), (9, 4)])
def test_a_view_and_its_box_are_turned_back_exactly(view, size):
    image = torch.arange(math.prod(size)).reshape(1, 1, 1, *size).float()
    assert torch.equal(view.undo(view.apply(image)), image)
    box = (1, 2, size[0] - 1, size[1] - 1)
    top, left, bottom, right = view.box(box, size)
    part = view.undo(view.apply(image)[..., top:bottom, left:right])
    assert torch.equal(part, image[..., 1 : size[0] - 1, 2 : size[1] - 1])


def test_the_eight_views_are_distinct():
    image = torch.arange(9.0).reshape(3, 3)
    assert len({tuple(view.apply(image).flatten().tolist()) for view in VIEWS["d4"]}) == 8


@pytest.mark.parametrize("blending", ["average", "hann", "crop"])
def test_views_of_an_equivariant_model_change_nothing(scene, blending):
    task = pixel_task()
    plain = strips(task, scene, blending=blending)
    turned = strips(task, scene, blending=blending, tta="d4")
    np.testing.assert_array_equal(plain[3], turned[3])
    inside = ~plain[3]
    np.testing.assert_allclose(turned[0][:, inside], plain[0][:, inside], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(turned[2], plain[2])


def test_images_that_are_not_square_are_turned_too():
    task = pixel_task().eval()
    image = torch.randn(2, 1, 3, 20, 28)
    ensemble = Ensemble([Member(task)], tta="d4")
    for batch in ({"image": image}, {"image": image, "events": None, "core_window": (2, 3, 17, 28)}):
        with torch.inference_mode():
            torch.testing.assert_close(ensemble.predict_step(batch, 0), task.predict_step(batch, 0))


@pytest.mark.parametrize("blending", ["average", "hann", "crop"])
def test_the_logits_of_views_are_the_mean_of_the_turned_windows(scene, blending):
    """A window as large as the scene: the model runs on each view of it by hand."""
    task = tiny_task()
    logits, _, _, masked = strips(task, scene, blending=blending, window=96, tta="d4")
    plain = strips(task, scene, blending=blending, window=96)[0]
    with rasterio.open(scene) as file:
        values = torch.from_numpy(file.read())
    image = torch.zeros(1, 1, 3, 96, 96)
    data = INPUT.normalize(torch.where(values == -9, torch.tensor(INPUT.mean)[:, None, None], values)[None])
    image[0, :, :, :71, :53] = data
    views = []
    with torch.inference_mode():
        for turns in range(4):
            for mirrored in (False, True):
                seen = image.rot90(turns, (-2, -1))
                out = task(seen.flip(-1) if mirrored else seen)
                views.append((out.flip(-1) if mirrored else out).rot90(-turns, (-2, -1)))
    expected = torch.stack(views).mean(dim=0)[0, :, :71, :53]
    torch.testing.assert_close(logits[:, ~masked], expected[:, ~masked], rtol=0, atol=1e-4)
    assert (plain - logits)[:, ~masked].abs().max() > 0.01  # the views differ


# Ensembles.


def test_an_ensemble_of_one_is_bit_equal_to_its_member(scene, tmp_path):
    path = save(tiny_task(), tmp_path / "a.ckpt")
    task = tiny_task()
    for name, model in (("a", path), ("b", [task])):
        map_scene(model, scene, tmp_path / name / "scene_pred.tif", confidence=True, probabilities="float32")
    for name in ("pred", "probabilities", "confidence"):
        np.testing.assert_array_equal(stored(tmp_path / "a", name), stored(tmp_path / "b", name))
    batch = {"image": torch.randn(2, 1, 3, 32, 32), "events": None}
    with torch.inference_mode():
        one = Ensemble([Member(task)]).predict_step(batch, 0)
        assert torch.equal(one, task.eval().predict_step(batch, 0))
    outputs, nodata = torch.randn(3, 5, 4), np.zeros((5, 4), bool)
    rows = Combination().rows(0, outputs, nodata, torch.device("cpu"))
    assert torch.equal(rows.logits, outputs)
    assert torch.equal(rows.probabilities, outputs.softmax(0))


@pytest.mark.parametrize("blending", ["average", "hann", "crop"])
@pytest.mark.parametrize("tta", [None, "d4"])
def test_probabilities_of_an_ensemble_are_the_mean_over_its_members(scene, blending, tta):
    one, two = calibrated(tiny_task(1), 2.0), calibrated(tiny_task(2), 0.5)
    options = {"blending": blending, "tta": tta}
    expected = 0
    for task, temperature in ((one, 2.0), (two, 0.5)):
        expected = expected + (strips(task, scene, **options)[0] / temperature).softmax(0).numpy() / 2
    logits, probabilities, classes, masked = strips([one, two], scene, calibrated=True, **options)
    np.testing.assert_allclose(probabilities[:, ~masked], expected[:, ~masked], rtol=0, atol=1e-6)
    np.testing.assert_allclose(logits.exp().numpy()[:, ~masked], expected[:, ~masked], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(classes[~masked], expected.argmax(0)[~masked])
    assert (classes[masked] == 255).all()
    first = strips(one, scene, **options)[2]
    assert (first != classes).any()


def test_the_lowest_class_wins_among_equal_mean_probabilities():
    members = torch.tensor([[0.0, 2.0, -9.0], [2.0, 0.0, -9.0]])[..., None, None]
    outputs = members.flatten(0, 1)
    rows = Combination((1.0, 1.0)).rows(0, outputs, np.zeros((1, 1), bool), torch.device("cpu"))
    assert rows.classes.item() == 0


def test_parts_of_rows_are_cut_with_them():
    outputs = torch.randn(2 * 3, 6, 4, generator=torch.Generator().manual_seed(0))
    rows = Combination((2.0, 1.0)).rows(10, outputs, np.zeros((6, 4), bool), torch.device("cpu"))
    part = rows.between(12, 15)
    assert (part.top, part.bottom) == (12, 15)
    torch.testing.assert_close(part.probabilities, rows.probabilities[:, 2:5])
    assert torch.equal(part.parts, rows.parts[:, :, 2:5])


def test_a_temperature_changes_probabilities_and_no_class(scene):
    task = calibrated(tiny_task(), 3.0)
    logits, plain, classes, masked = strips(task, scene)
    after, probabilities, same, _ = strips(task, scene, calibrated=True)
    assert torch.equal(logits[:, ~masked], after[:, ~masked])
    np.testing.assert_array_equal(classes, same)
    expected = (logits / 3).softmax(0).numpy()
    np.testing.assert_allclose(probabilities[:, ~masked], expected[:, ~masked], rtol=0, atol=1e-6)
    assert np.abs(plain - probabilities)[:, ~masked].max() > 0.1


def test_values_of_an_ensemble_and_of_views_are_averaged_in_their_unit(scene, tmp_path):
    one, two = pixel_task(1, VALUES), pixel_task(2, VALUES)
    for name, model, options in (
        ("a", one, {}), ("b", two, {}), ("both", [one, two], {"products": "std"}),
        ("views", one, {"tta": "d4", "products": "std"}),
    ):  # fmt: skip
        map_scene(model, scene, tmp_path / name / "scene_pred.tif", **options)
    a, b = stored(tmp_path / "a", "pred"), stored(tmp_path / "b", "pred")
    np.testing.assert_allclose(stored(tmp_path / "both", "pred"), (a + b) / 2, rtol=1e-5)
    np.testing.assert_allclose(stored(tmp_path / "both", "std"), np.abs(a - b) / 2, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(stored(tmp_path / "views", "pred"), a, rtol=1e-5)
    assert stored(tmp_path / "views", "std").max() < 1e-4
    with rasterio.open(tmp_path / "both" / "scene_std.tif") as file:
        assert (file.dtypes, file.descriptions[0]) == (("float32",) * 2, "standard deviation of biomass")
    with pytest.raises(ConfigError, match="a model of classes is needed for entropy"):
        map_scene(one, scene, tmp_path / "c_pred.tif", products="entropy")
    with pytest.raises(ConfigError, match="a model of classes is needed for margin"):
        map_scene(one, scene, tmp_path / "c_pred.tif", products="margin")


# Products.


@pytest.mark.parametrize("kind", [None, "float32"])
def test_products_of_uncertainty_follow_from_the_probabilities_of_members(scene, tmp_path, kind):
    tasks = [tiny_task(seed) for seed in range(3)]
    members = np.stack([strips(task, scene)[1] for task in tasks])
    mean = members.mean(axis=0)
    mapped = mean.argmax(axis=0)
    high = np.sort(mean, axis=0)[::-1]
    expected = {
        "entropy": -(mean * np.log(np.maximum(mean, 1e-30))).sum(0) / np.log(3),
        "margin": high[0] - high[1],
        "std": np.take_along_axis(members, mapped[None, None], axis=1)[:, 0].std(axis=0),
        "confidence": high[0],
    }
    path = map_scene(tasks, scene, tmp_path / "scene_pred.tif", probabilities=kind, products=list(expected))
    masked = strips(tasks[0], scene)[3]
    tolerance = 1e-6 if kind else 1 / 500 + 1e-6
    for name, values in expected.items():
        found = stored(tmp_path, name)[0]
        np.testing.assert_array_equal(found.mask, masked)
        np.testing.assert_allclose(found[~masked], values[~masked], rtol=0, atol=tolerance)
        assert tags_of(tmp_path / f"scene_{name}.tif")["members"] == tags_of(path)["members"]
    assert {"entropy", "margin", "std"} <= json.loads(path.with_suffix(".json").read_text())["assets"].keys()


def test_the_spread_of_views_is_that_of_the_mapped_class_and_changes_no_pixel(scene, tmp_path):
    task = calibrated(tiny_task(), 2.0)
    options = {"window": 96, "tta": "d4", "calibrated": True, "probabilities": "float32"}
    for name, std in (("with", "std"), ("without", ())):
        map_scene(task, scene, tmp_path / name / "scene_pred.tif", products=std, **options)
    for name in ("pred", "probabilities"):
        np.testing.assert_array_equal(stored(tmp_path / "with", name), stored(tmp_path / "without", name))
    ensemble = Ensemble([Member(task)], "d4")
    ensemble.keeps_views = True
    with rasterio.open(scene) as file:
        values = torch.from_numpy(file.read())
    image = torch.zeros(1, 1, 3, 96, 96)
    mean = torch.tensor(INPUT.mean)[:, None, None]
    image[0, :, :, :71, :53] = INPUT.normalize(torch.where(values == -9, mean, values)[None])
    with torch.inference_mode():
        outputs = ensemble.predict_step({"image": image, "events": None}, 0)
    views = (outputs.reshape(9, 3, 96, 96)[1:, :, :71, :53] / 2).softmax(1).numpy()
    with rasterio.open(tmp_path / "with" / "scene_pred.tif") as file:
        classes = file.read(1)
    masked = classes == 255
    spread = np.take_along_axis(views, np.minimum(classes, 2)[None, None], axis=1)[:, 0].std(axis=0)
    found = stored(tmp_path / "with", "std")[0]
    np.testing.assert_allclose(found[~masked], spread[~masked], rtol=0, atol=1e-5)
    assert found.max() > 0.01


def test_entropy_is_between_0_and_1_for_certain_and_for_equal_classes(scene, tmp_path):
    task = pixel_task()
    for name, scale, low, high in (("equal", 0.0, 0.999, 1.0), ("certain", 1e4, 0.0, 0.05)):
        for layer in (task.model.layers[2].weight, task.model.layers[2].bias):
            layer.data *= scale
        map_scene(
            task,
            scene,
            tmp_path / name / "scene_pred.tif",
            products=["entropy", "margin"],
            probabilities="float32",
        )
        entropy, margin = stored(tmp_path / name, "entropy"), stored(tmp_path / name, "margin")
        assert low <= np.median(entropy.compressed()) <= high
        assert 0 <= entropy.min() <= entropy.max() <= 1
        assert 0 <= margin.min() <= margin.max() <= 1
        task = pixel_task()


def test_std_needs_members_or_views(scene, tmp_path):
    with pytest.raises(
        ConfigError, match=r"products: std needs several checkpoints, or the views of tta='d4'"
    ):
        map_scene(tiny_task(), scene, tmp_path / "scene_pred.tif", products="std")
    with pytest.raises(ConfigError, match="products: std needs several checkpoints"):
        map_scene(
            [calibrated(tiny_task(), 2.0)], scene, tmp_path / "s_pred.tif", products="std", calibrated=True
        )
    assert not list(tmp_path.glob("*pred*"))


# What is refused.


def test_members_of_different_data_are_refused_by_file_and_key(scene, tmp_path):
    path = save(tiny_task(), tmp_path / "a.ckpt")
    others = {
        "mean": SPEC.with_input(mean=(0.1, 0.2, 0.3)),
        "std": SPEC.with_input(std=(0.1, 0.2, 0.3)),
        "class_names": DataSpec(INPUT, ClassTarget(("Land", "Ice", "Water"))),
    }
    for key, spec in others.items():
        other = save(tiny_task(data_spec=spec.to_dict()), tmp_path / "b.ckpt")
        with pytest.raises(ConfigError, match=rf"b\.ckpt: {key} \[.*\], but .*a\.ckpt has "):
            map_scene([path, other], scene, tmp_path / "scene_pred.tif")
    with pytest.raises(ConfigError, match="target values, but PixelTask has classes"):
        map_scene([pixel_task(), pixel_task(spec=VALUES)], scene, tmp_path / "scene_pred.tif")


def test_members_with_different_windows_need_a_window(scene):
    models = [tiny_task(), tiny_task(1, window=48)]
    with pytest.raises(
        ConfigError, match="window: members of the ensemble have window 32 and stride 24 and window 48"
    ):
        strips(models, scene)
    assert strips(models, scene, window=32, stride=32)[0].shape == (3, 71, 53)


def test_unknown_views_missing_temperatures_and_empty_ensembles_are_refused(scene, tmp_path):
    with pytest.raises(ConfigError, match="tta: 'd5' is unknown; choose from d4"):
        strips(tiny_task(), scene, tta="d5")
    path = save(tiny_task(), tmp_path / "a.ckpt")
    with pytest.raises(
        CheckpointError, match=r"a\.ckpt: has no temperature; fit one with prithvi-tg calibrate"
    ):
        strips(path, scene, calibrated=True)
    with pytest.raises(ConfigError, match="checkpoint: none given"):
        strips([], scene)


# Records and resuming.


def test_a_map_records_its_members_views_and_temperatures(scene, tmp_path):
    paths = [save(calibrated(tiny_task(seed), 1.5), tmp_path / f"{seed}.ckpt") for seed in range(2)]
    path = map_scene(paths, scene, tmp_path / "scene_pred.tif", tta="d4", calibrated=True)
    tags, item = tags_of(path), json.loads(path.with_suffix(".json").read_text())["properties"]
    members = json.loads(tags["members"])
    assert [member["name"] for member in members] == [str(one) for one in paths]
    assert tags["checkpoint_sha256"] == " ".join(member["sha256"] for member in members)
    assert (tags["tta"], tags["calibrated"], tags["temperature"]) == ("d4", "yes", "1.5 1.5")
    assert {f"prithvi_tg:{key}" for key in ("members", "tta", "calibrated", "temperature")} <= item.keys()
    plain = map_scene(paths[0], scene, tmp_path / "plain_pred.tif")
    assert not {"members", "tta", "calibrated", "temperature"} & tags_of(plain).keys()


@pytest.mark.parametrize("other", [{}, {"tta": None}, {"calibrated": False}, {"members": 1}])
def test_an_unfinished_map_resumes_only_with_the_same_members_views_and_temperatures(
    tmp_path, monkeypatch, other
):
    scene = write_scene(tmp_path / "scene.tif", 1300, 30)
    tasks = [calibrated(pixel_task(seed), 2.0) for seed in range(3)]
    options = {"tta": "d4", "products": "std", "calibrated": True}
    path, finish, strips_written = tmp_path / "scene_pred.tif", StripWriter.finish, []

    def stops(self, *arguments):
        finish(self, *arguments)
        strips_written.append(self.strip.number)
        if len(strips_written) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(StripWriter, "finish", stops)
    with pytest.raises(KeyboardInterrupt):
        map_scene(tasks[:2], scene, path, **options)
    members = tasks[::2] if other.pop("members", None) else tasks[:2]
    map_scene(members, scene, path, **options | other)
    is_same = members == tasks[:2] and not other
    assert strips_written == ([0, 1, 2] if is_same else [0, 0, 1, 2])
    reference = map_scene(members, scene, tmp_path / "r" / "scene_pred.tif", **options | other)
    for name in ("pred", "std"):
        np.testing.assert_array_equal(stored(tmp_path, name), stored(reference.parent, name))


def test_a_second_list_of_checkpoints_is_refused(command):
    code, _, err = command("predict", "--ckpt_path", "a.ckpt", "--ckpt_path", "b.ckpt", "scene.tif")
    assert code != 0
    assert "ckpt_path: given twice; for an ensemble, give all files after one --ckpt_path" in err
