"""Products of a map: a user's product needs no change of the package, and cannot affect other products."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from conftest import TINY

from prithvi_tg import PrithviSegmentationTask, map_scene, map_strips
from prithvi_tg.datasets import Sen1Floods11
from prithvi_tg.errors import ConfigError
from prithvi_tg.mapping.products import PRODUCTS, Layer, Product, RasterProduct
from prithvi_tg.mapping.products.classes import ClassMap
from prithvi_tg.targets import ClassTarget


class Margin(RasterProduct):
    """``NAME_margin.tif``: how far the highest logit is above the second, float32."""

    name = "margin"
    files = {"margin": "{stem}_margin.tif"}

    def create_layer(self, context):
        return Layer("margin", ("margin",), "float32", float("nan"))

    def encode(self, rows):
        if rows.logits is None:
            return torch.full((1, *rows.masked.shape), torch.nan)
        first, second = rows.logits.topk(2, dim=0).values
        return (first - second).masked_fill(rows.masked, torch.nan)[None]


class Lowest(Product):
    """``NAME_lowest.json``: the lowest margin of each strip, from the raster of another product."""

    name = "lowest"
    files = {"lowest": "{stem}_lowest.json"}

    def encode(self, rows):
        return rows.masked[None]

    def write(self, top, values, strip):
        strip.count("rows", np.array([values.shape[1]]))

    def finish(self, finished):
        with rasterio.open(finished.files["margin"]) as file:
            lowest = float(np.nanmin(file.read(1)))
        content = {"lowest": lowest, "rows": finished.total("rows").tolist()}
        finished.files["lowest"].write_text(json.dumps(content))

    def summary(self, finished):
        return ["lowest margin known"]


class Clash(Margin):
    """Writes the file of another product."""

    name = "clash"
    files = {"margin": "{stem}_confidence.tif"}


@pytest.fixture
def task():
    torch.manual_seed(0)
    spec = Sen1Floods11.data_spec().to_dict()
    return PrithviSegmentationTask(
        encoder="nano", encoder_args=TINY, head_channels=8, num_classes=2, window=32, data_spec=spec
    )


def test_a_product_given_by_class_path_is_written_with_the_map(task, flood_root, tmp_path):
    scene, here = flood_root / "scene.tif", __name__
    path = map_scene(
        task, scene, tmp_path / "s_pred.tif", products=[f"{here}.Margin", f"{here}.Lowest", "confidence"]
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "s_confidence.tif", "s_lowest.json", "s_margin.tif", "s_pred.json", "s_pred.qml", "s_pred.tif",
        "s_pred.tif.aux.xml",
    ]  # fmt: skip
    rows = list(map_strips(task, scene))
    logits = torch.cat([part.logits for part in rows], dim=1)
    masked = np.concatenate([part.masked for part in rows])
    expected = (logits[0] - logits[1]).abs().numpy()
    with rasterio.open(tmp_path / "s_margin.tif") as file:
        margin = file.read(1)
        assert (file.descriptions, file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"]) == (("margin",), "COG")
        assert len(file.tags()["checkpoint_sha256"]) == 64
    np.testing.assert_array_equal(np.isnan(margin), masked)
    np.testing.assert_array_equal(margin[~masked], expected[~masked])
    found = json.loads((tmp_path / "s_lowest.json").read_text())
    assert found == {"lowest": float(expected[~masked].min()), "rows": [margin.shape[0]]}
    assets = json.loads(path.with_suffix(".json").read_text())["assets"]
    assert {"confidence", "margin", "lowest", "pred"} == set(assets)


def test_the_command_accepts_products_by_name(trained, flood_root, tmp_path, command):
    code, _, err = command(
        "predict", "--ckpt_path", trained, flood_root / "scene.tif", "--output", tmp_path,
        "--products", f"{__name__}.Margin", "probabilities", "--trainer.accelerator", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert (tmp_path / "scene_margin.tif").exists()
    with rasterio.open(tmp_path / "scene_probabilities.tif") as file:
        assert (file.count, file.dtypes[0]) == (2, "uint8")


@pytest.mark.parametrize(
    ("products", "reason"),
    [
        (
            "margins",
            r"products: 'margins' is unknown; did you mean margin\? Choose from classes",
        ),
        ("no_such_module.Margin", "products: no_such_module.Margin: no module no_such_module"),
        (
            f"{__name__}.TINY",
            "TINY is not a class; it must be one that derives from prithvi_tg.mapping.products",
        ),
        (("confidence", Clash), r"clash: another product of the map also writes s_confidence.tif"),
        ("values", "values: the model maps classes"),
    ],
)
def test_impossible_products_are_refused_before_mapping(task, flood_root, tmp_path, products, reason):
    with pytest.raises(ConfigError, match=reason):
        map_scene(task, flood_root / "scene.tif", tmp_path / "s_pred.tif", products=products)
    assert list(tmp_path.iterdir()) == []


def test_an_option_is_equivalent_to_its_product(task, flood_root, tmp_path):
    for name, options in (("a", {"confidence": True}), ("b", {"products": PRODUCTS["confidence"]})):
        map_scene(task, flood_root / "scene.tif", tmp_path / f"{name}_pred.tif", **options)
    with (
        rasterio.open(tmp_path / "a_confidence.tif") as one,
        rasterio.open(tmp_path / "b_confidence.tif") as other,
    ):
        np.testing.assert_array_equal(one.read(), other.read())
        assert one.profile == other.profile


def test_an_unfinished_map_with_other_products_starts_again(task, tmp_path, flood_root):
    """Another set of products has other strips."""
    scene = flood_root / "scene.tif"
    output = tmp_path / "s_pred.tif"

    class Fails(Margin):
        name = "fails"

        def finish(self, finished):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_scene(task, scene, output, products=Fails)
    assert not output.exists()
    map_scene(task, scene, output, products=Margin)
    assert (tmp_path / "s_margin.tif").exists()
    assert output.exists()


def changed(base=Margin, **methods):
    """A product that differs from another one."""
    return type("Changed", (base,), {"name": "changed", **methods})


def encodes(change):
    return changed(encode=lambda self, rows: change(Margin.encode(self, rows)))


class Counts(Product):
    """``NAME_counts.json``: the sums of the counts."""

    name = "counts"
    files = {"counts": "{stem}_counts.json"}

    def encode(self, rows):
        return rows.masked

    def write(self, top, values, strip):
        strip.count("number", len(values))

    def finish(self, finished):
        finished.files["counts"].write_text(json.dumps(finished.total("number").tolist()))


def counts(key, value):
    return changed(Counts, write=lambda self, top, values, strip: strip.count(key, value))


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        (type("Nameless", (Product,), {"finish": Counts.finish}), "products: Nameless has no name"),
        (changed(files={}), "products: changed: files has the keys none, but the layer is named margin"),
        (changed(files={"tif": "{stem}_m.tif"}), "changed: files has the keys tif, but the layer is named margin"),
        (changed(files={"margin": "{scene}.tif"}), r"unknown placeholder 'scene'; choose from \{stem\}, \{map\}, "),
        (encodes(lambda values: values[0]), r"changed.encode returns shape \(\d+, \d+\), not \(bands, h, W\) = \(1, "),
        (encodes(lambda values: None), r"changed.encode returns None, not \(bands, h, W\)"),
        (encodes(lambda values: values.tolist()), "changed.encode returns list, not a tensor or array"),
        (
            changed(create_layer=lambda self, context: Layer("margin", ("margin",))),
            "changed.encode returns torch.float32 for a layer of uint8; round and convert it",
        ),
        (counts("n", {"a": 1}), "changed counts {'a': 1} under n; give numbers"),
        (counts("windows", 1), "changed counts under windows, the key of the strip; choose another"),
        (counts("pixels", 1), "changed counts under pixels, the key of classes; choose another"),
        (
            changed(Counts, finish=lambda self, finished: None),
            r"changed.finish does not write its file 'counts'; write it to finished.files\['counts'\]",
        ),
    ],
)  # fmt: skip
def test_an_error_names_the_product_that_does_not_match_the_target(
    task, flood_root, tmp_path, product, reason
):
    with pytest.raises(ConfigError, match=reason):
        map_scene(task, flood_root / "scene.tif", tmp_path / "s_pred.tif", products=product)
    assert not (tmp_path / "s_pred.tif").exists()


class OneText(Counts):
    """Its summary is one text, not a list."""

    def summary(self, finished):
        return "counted by row"


def test_the_summary_of_classes_names_those_without_a_pixel():
    product = ClassMap()
    product.context = SimpleNamespace(spec=SimpleNamespace(target=ClassTarget(("dry", "wet", "loss"))))
    counted = SimpleNamespace(total=lambda key: np.array([3, 1, 0] + [0] * 253))
    assert product.summary(counted) == ["dry 75.0 %", "wet 25.0 %", "no pixels: loss"]
    assert product.summary(SimpleNamespace(total=lambda key: np.zeros(256, int))) == []


def test_counts_are_summed_and_a_summary_may_be_one_text(trained, flood_root, tmp_path, command):
    code, out, err = command(
        "predict", "--ckpt_path", trained, flood_root / "scene.tif", "--output", tmp_path,
        "--products", f"{__name__}.OneText", "--trainer.accelerator", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "counted by row" in " ".join(out.replace("│", " ").split())
    with rasterio.open(tmp_path / "scene_pred.tif") as file:
        assert json.loads((tmp_path / "scene_counts.json").read_text()) == file.height


def test_strips_without_the_counts_of_a_product_are_not_used(task, flood_root, tmp_path):
    scene, path = flood_root / "scene.tif", tmp_path / "s_pred.tif"

    class Fails(Product):
        name = "fails"

        def finish(self, finished):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_scene(task, scene, path, products=Fails)
    map_scene(task, scene, path, products=Counts)
    with rasterio.open(path) as file:
        assert json.loads((tmp_path / "s_counts.json").read_text()) == file.height
